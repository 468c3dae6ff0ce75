"""The base of all models of a job file."""
# Read by pydantic at run time, so the modules of models do without `from __future__ import annotations`.

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictFloat,
    StrictInt,
    ValidationInfo,
)

from spark_flow.jobfile.model.fields import (
    from_root,
    one_or_many,
    option,
    source_name,
    table_path,
    valid_name,
)
from spark_flow.jobfile.model.problems import Finding, Location, refuse

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.limits import Limits
    from spark_flow.engine.run import Run
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.entries.step import StepModel
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.job import JobConfig
    from spark_flow.jobfile.model.sink import SinkModel
    from spark_flow.jobfile.model.wiring import Wiring
    from spark_flow.ledger import Kind
    from spark_flow.orchestration.shared_state import Read, Write
    from spark_flow.sequence import Consumer

Touched: TypeAlias = "Iterator[Write | Read]"
PATTERN = "<pattern>"  # the entry's name, moved into its body for pydantic's discriminator; no file has this key

Name = Annotated[str, AfterValidator(valid_name)]
Text = Annotated[str, Field(min_length=1)]
FilePath = Annotated[Text, AfterValidator(from_root)]
TablePath = Annotated[FilePath, AfterValidator(table_path)]
SourceName = Annotated[Text, AfterValidator(source_name)]
Seconds = StrictInt | StrictFloat
Options = dict[str, Annotated[str | int | bool, PlainValidator(option)]]
Names = Annotated[tuple[Name, ...], BeforeValidator(one_or_many)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(one_or_many)]


class Model(BaseModel):
    """A frozen model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def key_names(cls) -> tuple[str, ...]:
        """The valid keys, as they are written in the file."""
        names = (field.alias or name for name, field in cls.model_fields.items())
        return tuple(name for name in names if name != PATTERN)


class FlowModel(Model):
    """The body of one entry of a flow."""

    short: ClassVar[tuple[str, type] | None] = None  # `step: x` is `step: {run: x}` if x is of this type
    bare: ClassVar[str | None] = None  # `split: {lake: …}` is `split: {sinks: {lake: …}}` if this is "sinks"
    in_transaction: ClassVar[bool] = False  # whether it may stand in a transaction
    knows_completeness: ClassVar[bool] = False  # whether its frame knows which branches arrived
    needs_completeness: ClassVar[bool] = False  # whether it needs such a frame
    before_chain: ClassVar[bool] = False  # whether it may stand before the first frame, which it does not need
    announces: ClassVar[bool] = False  # whether it records something for other jobs
    makes_frame: ClassVar[bool] = False  # whether the next entry gets its frame, and not the one before it
    kind: ClassVar["Kind"] = "step"  # of its nodes that are no sinks
    nested: ClassVar[Mapping[str, type[Model]]] = {}  # models within it, by their key
    named: ClassVar[Mapping[str, type[Model]]] = {}  # models with names that the author chooses, by the key above them
    pattern: str = Field(alias=PATTERN)

    @property
    def starts_chain(self) -> bool:
        """Whether it needs no frame before it."""
        return False

    @property
    def uses_delta(self) -> bool:
        """Whether Spark reads or writes Delta tables that are no source or sink of the file."""
        return False

    @property
    def lazy(self) -> bool:
        """Whether its nodes are computed only within downstream nodes, so that ``--only`` cannot run them."""
        return False

    @property
    def boundary(self) -> bool:
        """Whether a task of an orchestrator can end after it: it has a checkpoint or a sink, chooses, or waits."""
        return bool(self.written())

    def nodes(self) -> tuple[str, ...]:
        """The names of its nodes in the run."""
        return ()

    def within(self, skipped: Collection[str] = ()) -> tuple["FlowModel", ...]:  # noqa: ARG002 - of choices
        """The entries within it; of a choice, without those of skipped routes (node names)."""
        return ()

    def reads(self) -> tuple[str, ...]:
        """Names of the sources that it reads; may include other names."""
        return ()

    def read_nodes(self, sources: Collection[str]) -> tuple[str, ...]:
        """The sources that it reads as nodes of their own."""
        return tuple(name for step in self.steps() for name in step.split_with(sources)[0].values())

    def steps(self) -> tuple["StepModel", ...]:
        """The steps that it runs."""
        return ()

    def written(self) -> Mapping[tuple[str, ...], "SinkModel"]:
        """The sinks that it writes to, by their path within the entry."""
        return {}

    def misplaced(self, before: Sequence["FlowModel | None"]) -> Iterator[Finding]:
        """Why it cannot follow the entries before it; ``None`` is an entry that is invalid by itself."""
        if self.needs_completeness and not any(one is None or one.knows_completeness for one in before):
            yield Finding((), "no fan-in before it", "a fan-in or a wait_for before it")

    def problems(self, config: "JobConfig") -> Iterator[Finding]:
        """What is wrong with it in its file, each place relative to the entry."""
        for name in self.reads():
            source = config.sources.get(name)
            if source is not None and "{branch}" in source.path and not source.branches:
                fix = 'For example branches: "05..23", in the source or in a fan-in over it.'
                yield Finding((), f"source {name!r} without branches", "the branches of {branch}", fix)

    def branch_nodes(self, config: "JobConfig") -> tuple[str, ...]:  # noqa: ARG002 - of fan-ins
        """The names that ``--only`` may give to run branches alone."""
        return ()

    def limits(self) -> "Limits | None":
        """How long each of its nodes may take, and how often it is tried; ``None`` without limits."""
        return None

    def consumer(self, beside: Path) -> "Consumer | None":  # noqa: ARG002 - of a trigger
        """The job that it starts; its script is looked up in ``beside`` first."""
        return None

    def reports(self, other: "Located") -> bool:  # noqa: ARG002 - of those that report
        """Whether it reports what another entry writes, and so has to run after it."""
        return False

    def not_taken(self, run: "Run") -> tuple[str, ...]:  # noqa: ARG002 - of choices
        """The nodes of its routes that were not taken in a run."""
        return ()

    def located(self, loc: Location, prefix: str, around: tuple[str, ...]) -> Iterator["Located"]:
        """Itself and the entries within it, in the order in which they are done."""
        yield Located(loc, self, tuple(f"{prefix}{node}" for node in self.nodes()), around)

    def wire(self, wiring: "Wiring", before: tuple[str, ...], prefix: str) -> tuple[str, ...]:
        """Note the inputs of its nodes; returns the nodes that the next entry's frame is of."""
        first, *others = (f"{prefix}{node}" for node in self.nodes())
        wiring.inputs[first] = (*(() if self.starts_chain else before), *self.read_nodes(wiring.sources))
        wiring.inputs |= dict.fromkeys(others, (first,))
        wiring.written += [first] if self.written() else []
        return (first,) if self.makes_frame else before

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame | None":
        """Call the pattern; returns the frame for the next entry."""
        raise NotImplementedError

    def described(self, config: "JobConfig") -> Mapping[str, object]:  # noqa: ARG002 - of some patterns
        """What pictures and exporters need to know of it: branches, a rule, routes, a dataset."""
        return {}

    def failed(self, flow: "Flow", error: Exception) -> None:
        """Called when the run has failed, unless it is on a route that was not taken."""

    def footprint(self, config: "JobConfig", above: str) -> Touched:  # noqa: ARG002 - for those below
        """What it writes and reads, its nodes named below ``above``, without a session."""
        yield from ()


@dataclass(frozen=True, eq=False)
class Located:
    """An entry where it stands in the file.

    Attributes:
        loc: Where, for a finding.
        entry: The entry.
        names: Of its own nodes, in full: entries within it are located themselves.
        around: The transaction and the routes that it stands in.
    """

    loc: Location
    entry: FlowModel
    names: tuple[str, ...]
    around: tuple[str, ...] = ()

    @property
    def sinks(self) -> Mapping[str, "SinkModel"]:
        """The sinks that its entry writes to, by node."""
        own = (*self.entry.nodes(), "")[0]
        prefix = (*self.names, "")[0].removesuffix(own)
        return {prefix + (below[-1] if below else own): sink for below, sink in self.entry.written().items()}

    def excludes(self, other: "Located") -> bool:
        """Whether at most one of both is done in a run, as they stand in different routes of one choice."""
        mine = {route.rpartition("/")[0]: route for route in self.around if "/" in route}
        return any(mine.get(route.rpartition("/")[0], route) != route for route in other.around)


def located(
    flow: Sequence[FlowModel | None], loc: Location = ("flow",), prefix: str = "", around: tuple[str, ...] = ()
) -> Iterator[Located]:
    """All entries of a flow in the order in which they are done; ``None``, an entry that is wrong, is left out."""
    for at, entry in enumerate(flow):
        if entry is not None:
            yield from entry.located((*loc, at, entry.pattern), prefix, around)


def walk(flow: Sequence[FlowModel], skipped: Collection[str] = ()) -> Iterator[FlowModel]:
    """All entries of a flow, those within an entry after it, without skipped routes of choices."""
    for entry in flow:
        yield entry
        yield from walk(entry.within(skipped), skipped)


def frame_of(frame: "LazyFrame | None") -> "LazyFrame":
    """The frame so far; that there is one was checked when the file was loaded."""
    if frame is None:
        raise ValueError("a flow starts with a read; the checks of the file refuse others")
    return frame


def only_delta(key: str, value: object, info: ValidationInfo) -> object:
    """Refuse a key of Delta tables where another format is given."""
    kind = info.data.get("format", "delta")
    if value not in (None, {}, ()) and kind != "delta":
        raise refuse(f"{key} with format {kind}", "format delta", "Leave it out, or write a Delta table.")
    return value
