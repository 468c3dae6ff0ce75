"""``read``: start a chain from a source."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from spark_flow.engine.reading import read
from spark_flow.jobfile.model.base import PATTERN, FlowModel, SourceName

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.base import Touched
    from spark_flow.jobfile.model.job import JobConfig
    from spark_flow.jobfile.model.wiring import Wiring


class ReadModel(FlowModel):
    """Start a chain from a source; ``read: flights`` is short for ``read: {source: flights}``.

    Attributes:
        source: The source's name, which is the node's name too.
    """

    short = ("source", str)
    pattern: Literal["read"] = Field("read", alias=PATTERN)
    source: SourceName

    @property
    def starts_chain(self) -> bool:
        """A read needs no frame."""
        return True

    def reads(self) -> tuple[str, ...]:
        """The source."""
        return (self.source,)

    def read_nodes(self, sources: Collection[str]) -> tuple[str, ...]:  # noqa: ARG002 - it names one
        """The source is the node."""
        return (self.source,)

    def wire(self, wiring: "Wiring", before: tuple[str, ...], prefix: str) -> tuple[str, ...]:  # noqa: ARG002
        """The source is the node."""
        wiring.inputs[self.source] = ()
        return (self.source,)

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame":  # noqa: ARG002
        """Read the source."""
        return read(scope.run, self.source, flow.source(self.source))

    def footprint(self, config: "JobConfig", above: str) -> "Touched":  # noqa: ARG002
        """The paths of the source."""
        return config.paths_of(self.source, self.source)
