"""The entries of a flow: any of the patterns, found by its name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, WrapSerializer

from spark_flow.jobfile.entries import ENTRIES
from spark_flow.jobfile.model.base import PATTERN, FlowModel
from spark_flow.jobfile.model.problems import Finding, findings, nearest, one_of, refuse, show

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


for _entry in ENTRIES:  # those that hold entries name the union above
    for _model in (*_entry.named.values(), *_entry.nested.values(), _entry):
        _model.model_rebuild(_types_namespace={"FlowEntry": FlowEntry})
