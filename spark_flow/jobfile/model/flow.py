"""The entries of a flow: any of the patterns, found by its name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, WrapSerializer

from spark_flow.jobfile.entries import ENTRIES
from spark_flow.jobfile.entries.exclusive_choice import ExclusiveChoiceModel, RouteModel
from spark_flow.jobfile.entries.transaction import TransactionModel
from spark_flow.jobfile.model.base import PATTERN, FlowModel
from spark_flow.jobfile.model.problems import Finding, Location, findings, nearest, one_of, refuse, show

PATTERNS: Mapping[str, type[FlowModel]] = {model.model_fields["pattern"].default: model for model in ENTRIES}
"""The patterns by their names in the file."""


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
            raise findings(Finding((name, "pattern"), "unknown key 'pattern'", one_of(model.key_names())))
        return {**body, PATTERN: name}
    if model.short and isinstance(body, model.short[1]):
        return {model.short[0]: body, PATTERN: name}
    raise findings(Finding((name,), show(body), f"a mapping of {', '.join(model.key_names())}"))


def _fold(entry: FlowModel, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
    """The way back, so that a dumped config is a file again."""
    return {entry.pattern: {key: value for key, value in handler(entry).items() if key not in {"pattern", PATTERN}}}


if TYPE_CHECKING:
    FlowEntry: TypeAlias = FlowModel
else:  # the union is made from the list, which mypy cannot read
    _Any = Annotated[Union[ENTRIES], Field(discriminator="pattern")]  # noqa: UP007
    FlowEntry = Annotated[_Any, BeforeValidator(_unfold), WrapSerializer(_fold)]


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

    def excludes(self, other: "Located") -> bool:
        """Whether at most one of both is done in a run, as they stand in different routes of one choice."""
        mine = {route.rpartition("/")[0]: route for route in self.around if "/" in route}
        return any(mine.get(route.rpartition("/")[0], route) != route for route in other.around)


def located(
    flow: Sequence[FlowModel | None], loc: Location = ("flow",), prefix: str = "", around: tuple[str, ...] = ()
) -> Iterator[Located]:
    """All entries of a flow in the order in which they are done; ``None``, an entry that is wrong, is left out."""
    for at, entry in enumerate(flow):
        if entry is None:
            continue
        here = (*loc, at, entry.pattern)
        if isinstance(entry, TransactionModel):  # its record comes after what it holds
            yield from located(entry.flow, (*here, "flow"), f"{entry.name}/", (*around, entry.name))
            yield Located(here, entry, (entry.name,), around)
        elif isinstance(entry, ExclusiveChoiceModel):
            routes = {f"{entry.name}/{name}": name for name in entry.routes}
            yield Located(here, entry, (entry.name, *routes), around)
            for node, name in routes.items():
                yield from located(entry.routes[name].flow, (*here, "routes", name, "flow"), prefix, (*around, node))
        else:
            yield Located(here, entry, tuple(f"{prefix}{node}" for node in entry.nodes()), around)


TransactionModel.model_rebuild(_types_namespace={"FlowEntry": FlowEntry})
RouteModel.model_rebuild(_types_namespace={"FlowEntry": FlowEntry})
ExclusiveChoiceModel.model_rebuild(_types_namespace={"FlowEntry": FlowEntry})
