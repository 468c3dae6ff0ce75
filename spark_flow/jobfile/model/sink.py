"""Where a frame is written to, as a part of an entry."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from spark_flow.errors import InvalidArgument, InvalidName, InvalidPath
from spark_flow.jobfile.model.base import FilePath, Model, Options, SinkFormat, Text, Touched, only_delta
from spark_flow.jobfile.model.fields import one_or_many, overlap, texts
from spark_flow.jobfile.model.problems import Finding, findings, refuse, show
from spark_flow.orchestration.shared_state import Write
from spark_flow.storage.delta import Mode
from spark_flow.storage.files import absolute, for_deltalake, for_spark_files
from spark_flow.storage.sink_protocol import replaces
from spark_flow.storage.sinks import FORMATS, sink
from spark_flow.storage.staged import staged

if TYPE_CHECKING:
    from spark_flow.storage.sink_protocol import Sink


class SinkModel(Model):
    """Where a frame goes; by default the rows of the run's key are replaced."""

    format: SinkFormat
    path: FilePath
    staging: FilePath | None = None
    partition_by: Annotated[tuple[Text, ...], BeforeValidator(one_or_many)] = ()
    mode: Mode = "replace"
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

    def sink(self) -> "Sink":
        """The sink that it describes."""
        public = self.sink_at(self.path)
        return staged(public, self.sink_at(self.staging)) if self.staging else public

    def sink_at(self, path: str) -> "Sink":
        """The same sink at another path."""
        return sink(self.format, path, **self.settings)

    def touches(self, node: str, key: str) -> Touched:
        """What a node writes by it: its path, and that of its staging."""
        for path, rows in replaces(self.sink(), key).items():
            yield Write(node, absolute(path), rows)

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
        elif format in FORMATS:
            for_spark_files(path)
        sink(format, path, **settings)
    except InvalidPath as error:
        return Finding(("path",), show(path), f"no {error.found!r} in it", error.why)
    except InvalidArgument as error:
        return Finding((error.where.rpartition(": ")[2],), error.found, error.expected)
    except InvalidName as error:
        return Finding(("file_name",), show(error.value), "a file's name, as shop_{key}.csv")
    return None
