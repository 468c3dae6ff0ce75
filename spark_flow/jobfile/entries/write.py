"""``write``: the frame to a sink."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from spark_flow.engine.writing import write
from spark_flow.jobfile.model.base import PATTERN, Name, frame_of
from spark_flow.jobfile.model.limits import LimitedModel
from spark_flow.jobfile.model.sink import SinkModel

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.base import Touched
    from spark_flow.jobfile.model.job import JobConfig


class WriteModel(SinkModel, LimitedModel):
    """Write the frame.

    Attributes:
        name: The node's name.
    """

    in_transaction = True
    pattern: Literal["write"] = Field("write", alias=PATTERN)
    name: Name

    def nodes(self) -> tuple[str, ...]:
        """The sink's name."""
        return (self.name,)

    def written(self) -> Mapping[tuple[str, ...], SinkModel]:
        """Itself."""
        return {(): self}

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame":  # noqa: ARG002
        """Write the frame, once."""
        write(scope, self.name, frame_of(frame), self.sink())
        return frame_of(frame)

    def footprint(self, config: "JobConfig", above: str) -> "Touched":
        """The paths of its sink."""
        return self.touches(above + self.name, config.key)
