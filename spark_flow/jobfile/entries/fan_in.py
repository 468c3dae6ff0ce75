"""The fan-in patterns and their completeness, as entries of a flow."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictInt, ValidationInfo, field_validator

from spark_flow.jobfile.model.base import PATTERN, FlowModel, Model, Name, SourceName, TablePath, Text
from spark_flow.jobfile.model.fields import branch_names, one_or_many, references_function, rule_text, variable_name
from spark_flow.jobfile.model.problems import refuse

Columns = Annotated[tuple[Text, ...], BeforeValidator(one_or_many)]


class JoinModel(Model):
    """How branches are joined, beside one another: the arguments of ``join_all``."""

    # ``on`` in Python; YAML 1.1 reads a bare ``on`` as true.
    using: Annotated[Columns | dict[str, Columns], Field(union_mode="left_to_right")]
    how: Literal["inner", "left"] = "inner"
    clash: Literal["refuse", "prefix"] = "refuse"
    allow_duplicates: StrictBool = False

    @field_validator("using")
    @classmethod
    def _by_something(cls, value: Columns | dict[str, Columns]) -> Columns | dict[str, Columns]:
        if not value or (isinstance(value, dict) and not all(value.values())):
            raise refuse("no column", "the columns to join by")
        return value

    @property
    def arguments(self) -> dict[str, Any]:
        """As ``join_all`` takes them."""
        return {"on": self.using, **self.model_dump(exclude={"using"})}


class FallbackModel(Model):
    """What to do when no branch arrived: one of a function, a source or an error table."""

    run: Annotated[str | None, AfterValidator(references_function)] = None
    source: SourceName | None = None
    error_table: TablePath | None = Field(None, validate_default=True)

    @field_validator("error_table")
    @classmethod
    def _exactly_one(cls, value: str | None, info: ValidationInfo) -> str | None:
        given = [name for name in ("run", "source") if info.data.get(name) is not None]
        given += ["error_table"] if value is not None else []
        if len(given) != 1:
            raise refuse(" and ".join(given) or "nothing", "exactly one of run, source and error_table")
        return value


def _unfold_fallback(value: Any) -> Any:
    return {"run": value} if isinstance(value, str) else value


class FanInModel(FlowModel):
    """What both fan-ins take: the branches of one source, or sources as branches."""

    name: Name
    source: SourceName | None = None
    sources: Annotated[tuple[SourceName, ...], BeforeValidator(one_or_many)] = Field((), validate_default=True)
    branches: Annotated[tuple[str, ...] | None, BeforeValidator(branch_names)] = None
    each: Annotated[str | None, AfterValidator(references_function)] = None
    max_in_flight: Annotated[StrictInt, Field(ge=1)] = 4
    allow_missing_columns: StrictBool = False

    @property
    def starts_chain(self) -> bool:
        """Its branches are its input."""
        return True

    def nodes(self) -> tuple[str, ...]:
        """The merge's name."""
        return (self.name,)

    def reads(self) -> tuple[str, ...]:
        """Sources that are branches as a whole."""
        return self.sources

    @field_validator("sources")
    @classmethod
    def _source_or_sources(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        source = info.data.get("source", "")  # what is wrong with `source` is already said
        if bool(value) == (source is not None) and source != "":
            raise refuse(
                "both source and sources" if value else "neither source nor sources",
                "source, with {branch} in its path, or sources, each a branch",
            )
        return value

    @field_validator("branches")
    @classmethod
    def _branches_are_of_one_source(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("sources"):
            raise refuse("branches with sources", "each source as a branch", "Leave branches out.")
        return value


class AlignedFanInModel(FanInModel):
    """All branches, stacked, or joined to the frame so far."""

    pattern: Literal["aligned_fan_in"] = Field("aligned_fan_in", alias=PATTERN)
    restart: StrictBool = True
    on_failure: Literal["finish", "stop"] = "finish"
    join: JoinModel | None = None

    @field_validator("join")
    @classmethod
    def _sources_are_joined(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("source") is not None:
            raise refuse("join with source", "sources: [weather, planes]", "The frame so far is the first branch.")
        return value


class UnalignedFanInModel(FanInModel):
    """Enough branches, stacked."""

    pattern: Literal["unaligned_fan_in"] = Field("unaligned_fan_in", alias=PATTERN)
    require: Annotated[Text, AfterValidator(rule_text)]
    on_all_failed: Annotated[FallbackModel | None, BeforeValidator(_unfold_fallback)] = None

    @property
    def join(self) -> None:
        """What is missing cannot be joined."""

    def reads(self) -> tuple[str, ...]:
        """Sources that are read as a whole, the last good copy included."""
        copy = self.on_all_failed.source if self.on_all_failed else None
        return (*self.sources, *([copy] if copy else []))


class WithCompletenessModel(FlowModel):
    """The frame with a column that says whether it is approximate; a bare name is that of the column."""

    short = ("column", str)
    pattern: Literal["with_completeness"] = Field("with_completeness", alias=PATTERN)
    name: Name = "with_completeness"
    column: Text = "is_approximate"

    def nodes(self) -> tuple[str, ...]:
        """The step's name."""
        return (self.name,)


class ReportCompletenessModel(FlowModel):
    """A row of the completeness table, and a notification."""

    pattern: Literal["report_completeness"] = Field("report_completeness", alias=PATTERN)
    name: Name = "completeness"
    dataset: Name
    table: TablePath
    notify: Annotated[str, AfterValidator(variable_name)] | None = None

    def nodes(self) -> tuple[str, ...]:
        """The row's name."""
        return (self.name,)


NESTED: Mapping[str, type[Model]] = {"join": JoinModel, "on_all_failed": FallbackModel}
"""Models within entries, by the key that they stand under."""
