"""The patterns that may stand in a flow.

To add one: write a ``FlowModel`` whose ``pattern`` is its name in the file, and add it to
``_ANY_ENTRY`` and ``PATTERNS``. Refusing unknown names, paths in errors and the short form follow from that.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    WrapSerializer,
    field_validator,
)

from spark_flow.config.base import PATTERN, FlowModel, Model, Name
from spark_flow.config.fan_in import (
    AlignedFanInModel,
    ReportCompletenessModel,
    UnalignedFanInModel,
    WithCompletenessModel,
)
from spark_flow.config.fan_out import ParallelSplitModel, SplitSinkModel, WhenModel
from spark_flow.config.isolated import PublishModel, TriggerModel, WaitForModel
from spark_flow.config.problems import Finding, findings, nearest, one_of, refuse, show
from spark_flow.config.sequence import ReadModel, StepModel, WriteModel


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


_TELLS_COMPLETENESS = AlignedFanInModel | UnalignedFanInModel | WaitForModel | None


def flow_findings(flow: Sequence[FlowModel | None]) -> list[Finding]:
    """What is wrong with a flow as a whole; ``None`` stands for an entry that is wrong in itself."""
    found = []
    if not flow or (flow[0] is not None and not flow[0].starts_chain):
        first = show(flow[0].pattern if flow and flow[0] else None)
        place = ("flow", 0)[: 1 + bool(flow)]
        found.append(Finding(place, first, "a read or a fan-in first", "For example - read: flights"))
    found += [
        Finding(("flow", at, entry.pattern), "no fan-in before it", "a fan-in or a wait_for before it")
        for at, entry in enumerate(flow)
        if isinstance(entry, WithCompletenessModel | ReportCompletenessModel)
        and not any(isinstance(before, _TELLS_COMPLETENESS) for before in flow[:at])
    ]
    found += [
        Finding(
            ("flow", at, entry.pattern), "no write before it", "a write before it", "A marker comes after the data."
        )
        for at, entry in enumerate(flow)
        if isinstance(entry, PublishModel)
        and entry.state == "ready"
        and None not in flow[:at]
        and not any(_writes(before) for before in walk([one for one in flow[:at] if one]))
    ]
    found += _publish_findings(flow)
    taken: dict[str, int] = {}
    for at, entry in enumerate(flow):
        for node in entry.nodes() if entry else ():
            if node in taken and entry:
                place = ("flow", at, entry.pattern)
                found.append(
                    Finding(
                        place,
                        f"name {node!r} again",
                        f"a name not used by flow[{taken[node]}]",
                        "Give it a name of its own.",
                    )
                )
            taken.setdefault(node, at)
    if None not in flow and not any(_writes(entry) for entry in walk([entry for entry in flow if entry])):
        found.append(Finding(("flow",), "no write", "at least one write"))
    return found


def _publish_findings(flow: Sequence[FlowModel | None]) -> list[Finding]:
    """Whether each dataset is published once, and of tables that are written before."""
    found: list[Finding] = []
    published: set[str] = set()
    for at, entry in enumerate(flow):
        if not isinstance(entry, PublishModel):
            continue
        place = ("flow", at, entry.pattern)
        if entry.dataset in published:
            found.append(Finding((*place, "dataset"), f"{entry.dataset!r} again", "each dataset published once"))
        published.add(entry.dataset)
        before = [node for one in flow[:at] if one for node in one.nodes()]
        unknown = [table for table in entry.tables if table not in before] if None not in flow[:at] else []
        found += [Finding((*place, "tables"), show(one), one_of(before), nearest(one, before)) for one in unknown]
    return found


def _writes(entry: FlowModel) -> bool:
    return isinstance(entry, WriteModel | ParallelSplitModel)


TransactionModel.model_rebuild()
RouteModel.model_rebuild()
ExclusiveChoiceModel.model_rebuild()
