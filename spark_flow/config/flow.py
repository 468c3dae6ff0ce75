"""The patterns that may stand in a flow.

To add one: write a ``FlowModel`` whose ``pattern`` is its name in the file, and add it to
``_ANY_ENTRY`` and ``PATTERNS``. Refusing unknown names, paths in errors and the short form follow from that.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    ValidationInfo,
    WrapSerializer,
    field_validator,
    model_validator,
)

from spark_flow.config.base import PATTERN, FlowModel, Format, Name, Options, SourceName, Text, only_delta
from spark_flow.config.fan_in import (
    AlignedFanInModel,
    ReportCompletenessModel,
    UnalignedFanInModel,
    WithCompletenessModel,
)
from spark_flow.config.fields import (
    argument_names,
    name_of,
    one_or_many,
    placeholders,
    references_function,
    version_text,
)
from spark_flow.config.problems import Finding, findings, nearest, one_of, refuse, show


class ReadModel(FlowModel):
    """Start a chain from a source; ``read: flights`` is short for ``read: {source: flights}``."""

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


class StepModel(FlowModel):
    """A function of one's own, or SQL over ``{frame}``.

    ``step: flights:clean`` is short for ``step: {run: flights:clean}``.
    """

    short = ("run", str)
    pattern: Literal["step"] = Field("step", alias=PATTERN)
    name: Name
    run: Annotated[str | None, AfterValidator(references_function)] = None
    with_: Annotated[dict[str, Any], AfterValidator(argument_names)] = Field(default_factory=dict, alias="with")
    sql: Text | None = Field(None, validate_default=True)
    restart: StrictBool = False
    version: Annotated[str | None, BeforeValidator(version_text)] = None

    def split_with(self, sources: Collection[str]) -> tuple[dict[str, str], dict[str, Any]]:
        """The arguments that are sources, by the source's name, and those that are plain values.

        A string is a source if, and only if, one of exactly that name exists.
        """
        named = {arg: value for arg, value in self.with_.items() if isinstance(value, str) and value in sources}
        return named, {arg: value for arg, value in self.with_.items() if arg not in named}

    def nodes(self) -> tuple[str, ...]:
        """The step's name."""
        return (self.name,)

    def reads(self) -> tuple[str, ...]:
        """Arguments that may be sources."""
        return tuple(value for value in self.with_.values() if isinstance(value, str))

    @model_validator(mode="before")
    @classmethod
    def _name_defaults_to_the_functions(cls, body: Any) -> Any:
        if isinstance(body, Mapping) and "name" not in body and isinstance(body.get("run"), str):
            return {**body, "name": name_of(body["run"])}
        return body

    @field_validator("sql")
    @classmethod
    def _sql_or_run(cls, value: str | None, info: ValidationInfo) -> str | None:
        run = info.data.get("run", "")  # what is wrong with `run` is already said
        if (value is None) == (run is None):
            found = "neither run nor sql" if value is None else "both run and sql"
            raise refuse(found, "exactly one of run and sql", "")
        if value is not None:
            placeholders(value, info.data.get("with_"))
        return value


class WriteModel(FlowModel):
    """Write the frame; by default the rows of the run's key are replaced."""

    in_transaction = True
    pattern: Literal["write"] = Field("write", alias=PATTERN)
    name: Name
    format: Format
    path: Text
    staging: Text | None = None
    partition_by: Annotated[tuple[Text, ...], BeforeValidator(one_or_many)] = ()
    mode: Literal["replace", "append", "overwrite"] = "replace"
    replace_where: Text | None = None
    options: Options = Field(default_factory=dict)
    properties: Options = Field(default_factory=dict)

    def nodes(self) -> tuple[str, ...]:
        """The sink's name."""
        return (self.name,)

    @field_validator("replace_where", "properties")
    @classmethod
    def _only_delta_has_it(cls, value: object, info: ValidationInfo) -> object:
        return only_delta(str(info.field_name), value, info)

    @field_validator("staging")
    @classmethod
    def _staging_is_elsewhere(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and value.rstrip("/") == info.data.get("path", "").rstrip("/"):
            raise refuse(show(value), "another place than path", "Partial keys are kept there until they are complete.")
        return value

    @field_validator("mode")
    @classmethod
    def _a_folder_is_always_replaced(cls, value: str, info: ValidationInfo) -> object:
        return value if value == "replace" else only_delta(f"mode {value}", value, info)

    @field_validator("replace_where")
    @classmethod
    def _only_replace_has_a_predicate(cls, value: object, info: ValidationInfo) -> object:
        if value and info.data.get("mode", "replace") != "replace":
            raise refuse(f"replace_where with mode {info.data['mode']}", "mode replace", "Leave one of them out.")
        return value


class TransactionModel(FlowModel):
    """Writes that become visible together; a bare list is short for ``{flow: [...]}``."""

    short = ("flow", list)
    pattern: Literal["transaction"] = Field("transaction", alias=PATTERN)
    name: Name = "publish"
    flow: tuple["FlowEntry", ...]

    def nodes(self) -> tuple[str, ...]:
        """Its own name, and those of its entries under it."""
        return (self.name, *(f"{self.name}/{node}" for entry in self.flow for node in entry.nodes()))

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
                "Move it before the transaction.",
            )
            for at, entry in enumerate(flow)
            if not entry.in_transaction
        ]
        if wrong:
            raise findings(*wrong)
        return flow


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
    | TransactionModel
    | ReportCompletenessModel
)
PATTERNS: Mapping[str, type[FlowModel]] = {
    "read": ReadModel,
    "aligned_fan_in": AlignedFanInModel,
    "unaligned_fan_in": UnalignedFanInModel,
    "step": StepModel,
    "with_completeness": WithCompletenessModel,
    "write": WriteModel,
    "transaction": TransactionModel,
    "report_completeness": ReportCompletenessModel,
}
FlowEntry = Annotated[
    Annotated[_ANY_ENTRY, Field(discriminator="pattern")], BeforeValidator(_unfold), WrapSerializer(_fold)
]


def flow_findings(flow: Sequence[FlowModel | None]) -> list[Finding]:
    """What is wrong with a flow as a whole; ``None`` stands for an entry that is wrong in itself."""
    found = []
    if not flow or (flow[0] is not None and not flow[0].starts_chain):
        first = show(flow[0].pattern if flow and flow[0] else None)
        place = ("flow", 0)[: 1 + bool(flow)]
        found.append(Finding(place, first, "a read or a fan-in first", "For example - read: flights"))
    found += [
        Finding(("flow", at, entry.pattern), "no fan-in before it", "an aligned_fan_in or unaligned_fan_in before it")
        for at, entry in enumerate(flow)
        if isinstance(entry, WithCompletenessModel | ReportCompletenessModel)
        and not any(isinstance(before, AlignedFanInModel | UnalignedFanInModel) for before in flow[:at])
    ]
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
    if None not in flow and not any(_writes(entry) for entry in flow):
        found.append(Finding(("flow",), "no write", "at least one write"))
    return found


def _writes(entry: FlowModel | None) -> bool:
    return isinstance(entry, WriteModel | TransactionModel)


TransactionModel.model_rebuild()
