"""What most flows are made of, as entries: a read, steps, writes."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import Self

from spark_flow.errors import InvalidArgument, InvalidName, InvalidPath
from spark_flow.jobfile.model.base import (
    PATTERN,
    FlowModel,
    Model,
    Name,
    Options,
    SinkFormat,
    SourceName,
    Text,
    only_delta,
)
from spark_flow.jobfile.model.fields import (
    argument_names,
    name_of,
    one_or_many,
    overlap,
    placeholders,
    references_function,
    texts,
    version_text,
)
from spark_flow.jobfile.model.problems import Finding, findings, refuse, show
from spark_flow.storage.files import for_deltalake
from spark_flow.storage.sinks import sink


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


class SinkModel(Model):
    """Where a frame goes; by default the rows of the run's key are replaced."""

    format: SinkFormat
    path: Text
    staging: Text | None = None
    partition_by: Annotated[tuple[Text, ...], BeforeValidator(one_or_many)] = ()
    mode: Literal["replace", "append", "overwrite"] = "replace"
    replace_where: Text | None = None
    options: Options = Field(default_factory=dict)
    properties: Options = Field(default_factory=dict)
    file_name: Text | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What is given, as ``storage.sinks.sink`` takes it."""
        given: dict[str, Any] = {"options": texts(self.options), "properties": texts(self.properties)}
        given |= {"partition_by": self.partition_by, "replace_where": self.replace_where, "file_name": self.file_name}
        given |= {"mode": self.mode if self.mode != "replace" else None}
        return {name: value for name, value in given.items() if value}

    @field_validator("file_name")
    @classmethod
    def _only_folders_have_it(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("format") == "delta":
            raise refuse("file_name with format delta", "format csv, json or parquet", "Leave it out.")
        return value

    @model_validator(mode="after")
    def _sink_can_be_made(self) -> Self:
        wrong = [_wrong(self.format, path, self.settings) for path in (self.path, self.staging) if path]
        found = [finding for finding in wrong if finding is not None]
        if found:
            raise findings(*found)
        return self

    @field_validator("replace_where", "properties")
    @classmethod
    def _only_delta_has_it(cls, value: object, info: ValidationInfo) -> object:
        return only_delta(str(info.field_name), value, info)

    @field_validator("staging")
    @classmethod
    def _staging_is_elsewhere(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and "path" in info.data and overlap(value, info.data["path"]):
            fix = "Partial keys are kept there until they are complete."
            raise refuse(show(value), "a folder apart from path", fix)
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


def _wrong(format: str, path: str, settings: Mapping[str, Any]) -> Finding | None:  # noqa: A002 - Spark's own word
    """Why a sink's own function refuses its settings, which it would do when other sinks were written."""
    try:
        if format == "delta":
            for_deltalake(path)
        sink(format, path, **settings)
    except InvalidPath as error:
        return Finding(("path",), show(path), f"no {error.found!r} in it", error.why)
    except InvalidArgument as error:
        return Finding((error.where.rpartition(": ")[2],), error.found, error.expected)
    except InvalidName as error:
        return Finding(("file_name",), show(error.value), "a file's name, as shop_{key}.csv")
    return None


class WriteModel(SinkModel, FlowModel):
    """Write the frame."""

    in_transaction = True
    pattern: Literal["write"] = Field("write", alias=PATTERN)
    name: Name

    def nodes(self) -> tuple[str, ...]:
        """The sink's name."""
        return (self.name,)
