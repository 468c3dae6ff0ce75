"""``publish``: a readiness marker after the data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, StrictBool

from spark_flow.jobfile.model.base import PATTERN, FlowModel, Located, Name, Texts, located, walk
from spark_flow.jobfile.model.problems import Finding, nearest, one_of, show
from spark_flow.jobfile.model.sink import SinkModel
from spark_flow.orchestration.shared_state import Write
from spark_flow.sequence import publish
from spark_flow.sequence.isolated_sequencer import announce
from spark_flow.storage import markers
from spark_flow.storage.sink_protocol import ALL

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.base import Touched
    from spark_flow.jobfile.model.job import JobConfig
    from spark_flow.jobfile.model.wiring import Wiring


class PublishModel(FlowModel):
    """A readiness marker after the data; a bare name is that of the dataset.

    Attributes:
        name: The node's name; by default ``marker/<dataset>``.
        dataset: The dataset's name.
        tables: The nodes of the writes that the marker pins; by default all so far.
        state: ``ready``, or ``skipped`` (in a route of a choice).
        reason: Why the key is skipped.
        success_file: Write Hadoop's ``_SUCCESS`` next to the key's data as well.
        on_failure: If the run fails, ``mark`` the dataset as failed, or be ``silent``.
    """

    short = ("dataset", str)
    announces = True
    kind = "marker"
    pattern: Literal["publish"] = Field("publish", alias=PATTERN)
    name: Name | None = None
    dataset: Name
    tables: Texts = ()
    state: Literal["ready", "skipped"] = "ready"
    reason: str = ""
    success_file: StrictBool = False
    on_failure: Literal["mark", "silent"] = "mark"

    def nodes(self) -> tuple[str, ...]:
        """The marker's name."""
        return (self.name or f"marker/{self.dataset}",)

    def misplaced(self, before: Sequence[FlowModel | None]) -> Iterator[Finding]:
        """It comes after a write, names tables that are written before it, and is the only one of its dataset."""
        known = [one for one in before if one]
        if self.state == "ready" and None not in before and not any(one.written() for one in walk(known)):
            yield Finding((), "no write before it", "a write before it", "A marker comes after the data.")
        if any(isinstance(one, PublishModel) and one.dataset == self.dataset for one in known):
            yield Finding(("dataset",), f"{self.dataset!r} again", "each dataset published once")
        nodes = [node for one in known for node in one.nodes()]
        for table in self.tables if None not in before else ():
            if table not in nodes:
                yield Finding(("tables",), show(table), one_of(nodes), nearest(table, nodes))
        if self.state == "ready" and None not in before:
            yield from self._of_all_keys([each for one in located(known) for each in one.sinks.items()])

    def _of_all_keys(self, sinks: Sequence[tuple[str, SinkModel]]) -> Iterator[Finding]:
        """Tables whose rows of the key nobody can tell from others, which would be refused after all is written."""
        for node, sink in sinks:
            by_column = sink.mode == "replace" and sink.partition_by and not sink.replace_where
            chosen = sink.format == "delta" and (not self.tables or node in self.tables)
            if chosen and not by_column and sink.mode != "overwrite":
                how = f"mode {sink.mode}" if sink.mode != "replace" else "no column of the key"
                expected = "tables with partition_by, or mode: overwrite"
                yield Finding(("tables",), f"{node} with {how}", expected, "Name others, as tables: [publish/lake].")

    def reports(self, other: Located) -> bool:
        """A ready marker pins the tables that were written."""
        named = not self.tables or not set(self.tables).isdisjoint(other.names)
        return self.state == "ready" and named and bool(other.entry.written())

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame | None":
        """Write the marker."""
        publish(
            scope.run,
            self.dataset,
            tables=self.tables,
            state=self.state,
            reason=self.reason,
            markers=flow.markers,
            success_file=self.success_file,
            name=self.name or "",
        )
        return frame

    def wire(self, wiring: "Wiring", before: tuple[str, ...], prefix: str) -> tuple[str, ...]:  # noqa: ARG002
        """It is about the tables that are written."""
        wiring.inputs[self.nodes()[0]] = self.tables or tuple(wiring.written)
        return before

    def described(self, config: "JobConfig") -> Mapping[str, object]:
        """The dataset, the folder of its marker, and the tables that it pins; none for all."""
        return {"dataset": self.dataset, "markers": config.markers, "tables": list(self.tables)}

    def failed(self, flow: "Flow", error: Exception) -> None:
        """Mark the dataset as failed, unless ``on_failure`` is ``silent``."""
        if self.on_failure == "mark":
            announce(flow.run, self.dataset, error, markers=flow.markers)

    def footprint(self, config: "JobConfig", above: str) -> "Touched":  # noqa: ARG002
        """The marker."""
        yield Write(self.nodes()[0], markers.path_of(config.markers, self.dataset, config.key), ALL)
