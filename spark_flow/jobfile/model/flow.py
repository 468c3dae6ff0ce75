"""The patterns that may stand in a flow.

To add one: write a ``FlowModel`` whose ``pattern`` is its name in the file, and add it to
``_ANY_ENTRY`` and ``PATTERNS``. Refusing unknown names, paths in errors and the short form follow from that.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    WrapSerializer,
    field_validator,
)

from spark_flow.jobfile.entries.fan_in import (
    AlignedFanInModel,
    ReportCompletenessModel,
    UnalignedFanInModel,
    WithCompletenessModel,
)
from spark_flow.jobfile.entries.fan_out import ParallelSplitModel, SplitSinkModel, WhenModel
from spark_flow.jobfile.entries.isolated_sequencer import PublishModel, TriggerModel, WaitForModel
from spark_flow.jobfile.entries.sequence import ReadModel, StepModel, WriteModel
from spark_flow.jobfile.model.base import PATTERN, FlowModel, Model, Name
from spark_flow.jobfile.model.problems import Finding, Location, findings, nearest, one_of, refuse, show


class TransactionModel(FlowModel):
    """Writes that become visible together; a bare list is short for ``{flow: [...]}``."""

    short = ("flow", list)
    pattern: Literal["transaction"] = Field("transaction", alias=PATTERN)
    name: Name = "publish"
    flow: tuple["FlowEntry", ...]

    def nodes(self) -> tuple[str, ...]:
        """Its own name, and those of its entries under it."""
        return (self.name, *(f"{self.name}/{node}" for entry in self.flow for node in entry.nodes()))

    def within(self, without: Collection[str] = ()) -> tuple[FlowModel, ...]:  # noqa: ARG002 - of choices
        """Those that become visible together."""
        return self.flow

    @field_validator("flow")
    @classmethod
    def _entries_may_stand_here(cls, flow: tuple[FlowModel, ...]) -> tuple[FlowModel, ...]:
        if not flow:
            raise refuse("an empty list", "at least one entry")
        allowed = one_of(name for name, model in PATTERNS.items() if model.in_transaction)
        wrong = [
            Finding(
                (at, entry.pattern),
                f"{entry.pattern} in a transaction",
                allowed,
                "Move it out of the transaction.",
            )
            for at, entry in enumerate(flow)
            if not entry.in_transaction
        ]
        if wrong:
            raise findings(*wrong)
        return flow


class RouteModel(Model):
    """What is done if its condition holds."""

    when: WhenModel | None = None
    flow: tuple["FlowEntry", ...]

    @field_validator("flow")
    @classmethod
    def _not_empty(cls, flow: tuple[FlowModel, ...]) -> tuple[FlowModel, ...]:
        if not flow:
            raise refuse("an empty list", "at least one entry")
        return flow


def _asks_date(route: RouteModel) -> bool:
    return route.when is not None and route.when.by_date is not None


class ExclusiveChoiceModel(FlowModel):
    """Of several routes exactly one is taken; the frame goes on as the route leaves it."""

    pattern: Literal["exclusive_choice"] = Field("exclusive_choice", alias=PATTERN)
    name: Name
    routes: dict[Name, RouteModel]
    default: str | None = Field(None, validate_default=True)

    def nodes(self) -> tuple[str, ...]:
        """Its own name, the routes' under it, and those of all their entries."""
        return (
            self.name,
            *(f"{self.name}/{route}" for route in self.routes),
            *(n for e in self.within() for n in e.nodes()),
        )

    def within(self, without: Collection[str] = ()) -> tuple[FlowModel, ...]:
        """Those of all routes but some."""
        routes = [route for name, route in self.routes.items() if f"{self.name}/{name}" not in without]
        return tuple(entry for route in routes for entry in route.flow)

    @field_validator("default")
    @classmethod
    def _is_a_route(cls, value: str | None, info: ValidationInfo) -> str | None:
        routes = info.data.get("routes")
        if routes is None:
            return value
        if value is not None and value not in routes:
            raise refuse(show(value), one_of(routes), nearest(value, routes))
        without = [name for name, route in routes.items() if route.when is None and name != value]
        if without or not routes:
            found = f"route {without[0]} without a condition" if without else "no route"
            raise refuse(found, "a condition (when) for each route but the default")
        dated = {name: route.when.by_date.condition.span for name, route in routes.items() if _asks_date(route)}
        for (one, first), (other, second) in combinations(dated.items(), 2):
            if first and second and first[0] < second[1] and second[0] < first[1]:
                both = f"{one} and {other} both hold on {max(first[0], second[0])}"
                raise refuse(both, "date ranges that do not overlap")
        return value


def _unfold(entry: Any) -> Any:
    """``{step: flights:clean}`` as the mapping that ``StepModel`` is validated from."""
    if isinstance(entry, FlowModel):
        return entry
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise refuse(
            show(entry),
            "one pattern: {pattern: body}",
            f"Patterns are {', '.join(PATTERNS)}; mind the indentation.",
        )
    ((name, body),) = entry.items()
    model = PATTERNS.get(name)
    if model is None:
        raise refuse(f"unknown pattern {name!r}", one_of(PATTERNS), nearest(name, PATTERNS))
    if isinstance(body, Mapping):
        if model.bare and model.bare not in body:
            body = {model.bare: body}
        if "pattern" in body:  # the field's name, by which pydantic would choose as well
            raise findings(Finding((name, "pattern"), "unknown key 'pattern'", one_of(model.keys())))
        return {**body, PATTERN: name}
    if model.short and isinstance(body, model.short[1]):
        return {model.short[0]: body, PATTERN: name}
    raise findings(Finding((name,), show(body), f"a mapping of {', '.join(model.keys())}"))


def _fold(entry: FlowModel, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
    """The way back, so that a dumped config is a file again."""
    return {entry.pattern: {key: value for key, value in handler(entry).items() if key not in {"pattern", PATTERN}}}


_ANY_ENTRY = (
    ReadModel
    | AlignedFanInModel
    | UnalignedFanInModel
    | StepModel
    | WithCompletenessModel
    | WriteModel
    | ParallelSplitModel
    | ExclusiveChoiceModel
    | TransactionModel
    | ReportCompletenessModel
    | WaitForModel
    | PublishModel
    | TriggerModel
)
PATTERNS: Mapping[str, type[FlowModel]] = {
    "read": ReadModel,
    "aligned_fan_in": AlignedFanInModel,
    "unaligned_fan_in": UnalignedFanInModel,
    "step": StepModel,
    "with_completeness": WithCompletenessModel,
    "write": WriteModel,
    "parallel_split": ParallelSplitModel,
    "exclusive_choice": ExclusiveChoiceModel,
    "transaction": TransactionModel,
    "report_completeness": ReportCompletenessModel,
    "wait_for": WaitForModel,
    "publish": PublishModel,
    "trigger": TriggerModel,
}
MEMBERS: Mapping[str, type[Model]] = {"sinks": SplitSinkModel, "routes": RouteModel}
"""Models whose names are the author's, by the key that they stand under."""
FlowEntry = Annotated[
    Annotated[_ANY_ENTRY, Field(discriminator="pattern")], BeforeValidator(_unfold), WrapSerializer(_fold)
]


def walk(flow: Sequence[FlowModel], without: Collection[str] = ()) -> Iterator[FlowModel]:
    """All entries of a flow, those within others after them, without some routes of choices."""
    for entry in flow:
        yield entry
        yield from walk(entry.within(without), without)


@dataclass(frozen=True, eq=False)
class Place:
    """An entry where it stands in the file.

    Attributes:
        loc: Where, for a finding.
        entry: The entry.
        names: Of its own nodes, in full: those of entries within it are of their own places.
        around: The transaction and the routes that it stands in.
    """

    loc: Location
    entry: FlowModel
    names: tuple[str, ...]
    around: tuple[str, ...] = ()

    def excludes(self, other: "Place") -> bool:
        """Whether at most one of both is done in a run, as they stand in different routes of one choice."""
        mine = {route.rpartition("/")[0]: route for route in self.around if "/" in route}
        return any(mine.get(route.rpartition("/")[0], route) != route for route in other.around)


def places(
    flow: Sequence[FlowModel | None], loc: Location = ("flow",), prefix: str = "", around: tuple[str, ...] = ()
) -> Iterator[Place]:
    """All entries of a flow in the order in which they are done; ``None``, an entry that is wrong, is left out."""
    for at, entry in enumerate(flow):
        if entry is None:
            continue
        here = (*loc, at, entry.pattern)
        if isinstance(entry, TransactionModel):  # its record comes after what it holds
            yield from places(entry.flow, (*here, "flow"), f"{entry.name}/", (*around, entry.name))
            yield Place(here, entry, (entry.name,), around)
        elif isinstance(entry, ExclusiveChoiceModel):
            routes = {f"{entry.name}/{name}": name for name in entry.routes}
            yield Place(here, entry, (entry.name, *routes), around)
            for node, name in routes.items():
                yield from places(entry.routes[name].flow, (*here, "routes", name, "flow"), prefix, (*around, node))
        else:
            yield Place(here, entry, tuple(f"{prefix}{node}" for node in entry.nodes()), around)


TransactionModel.model_rebuild()
RouteModel.model_rebuild()
ExclusiveChoiceModel.model_rebuild()
