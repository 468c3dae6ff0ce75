"""Where a frame is written to, as a part of an entry."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from typing_extensions import Self

from spark_flow.core.names import table_uri
from spark_flow.errors import InvalidArgument, InvalidName, InvalidPath
from spark_flow.jobfile.model.base import FilePath, Model, Options, Text, Touched, only_delta
from spark_flow.jobfile.model.fields import from_root, one_or_many, overlap, sink_format, table_name, texts
from spark_flow.jobfile.model.problems import Finding, findings, one_of, refuse, show
from spark_flow.orchestration.shared_state import Write
from spark_flow.storage.delta import Mode, SchemaPolicy
from spark_flow.storage.files import absolute, for_deltalake, for_spark_files
from spark_flow.storage.sink_protocol import replaces
from spark_flow.storage.sinks import FORMATS, sink, sink_formats
from spark_flow.storage.staged import staged

if TYPE_CHECKING:
    from spark_flow.storage.sink_protocol import Sink


Columns = Annotated[tuple[Text, ...], BeforeValidator(one_or_many)]
_OF_A_MERGE = ("on", "sequence_by", "delete_when")


class SinkModel(Model):
    """Where a frame goes; by default the rows of the run's key are replaced.

    Attributes:
        table: A Delta table of Spark's catalog, ``shop.orders``, instead of ``format`` and ``path``; created if it is
            missing.
        format: ``delta``, ``csv``, ``json``, ``parquet``, or a format of an installed package.
        path: A path or URI.
        staging: A folder that holds a partial key until all branches have arrived; ``path`` has complete keys only.
        partition_by: Columns to partition by. The first one holds the key, and a write replaces the key's rows.
        cluster_by: Columns to cluster by, instead of partitions (Delta).
        mode: ``replace`` the key's rows. Delta also: ``overwrite`` the table, ``append`` (once for a key), or
            ``merge`` by the columns ``on``.
        replace_where: The predicate of the key's rows, if no column holds the key (Delta).
        on: The columns that identify a row, for ``mode: merge``.
        sequence_by: For a merge: a row is updated only by one with a greater or equal value in this column.
        delete_when: For a merge: rows for which this SQL is true are deleted, or not inserted.
        schema_: ``strict``: the frame has all columns of the table; ``evolve``: new columns are added to it (Delta).
        options: Options of Spark's writer.
        properties: Properties of a Delta table that is created.
        comment: A comment on a Delta table that is created.
        file_name: Write one file with this name, for example ``shop_{key}.csv`` (CSV, JSON and Parquet).
    """

    table: Annotated[Text, AfterValidator(table_name)] | None = None
    format: Annotated[str, AfterValidator(sink_format)] = Field("", validate_default=True)
    path: Annotated[str, AfterValidator(from_root)] = Field("", validate_default=True)
    staging: FilePath | None = None
    partition_by: Columns = ()
    cluster_by: Columns = ()
    mode: Mode = "replace"
    replace_where: Text | None = None
    on: Columns = ()
    sequence_by: Text | None = None
    delete_when: Text | None = None
    schema_: SchemaPolicy | None = Field(None, alias="schema")
    options: Options = Field(default_factory=dict)
    properties: Options = Field(default_factory=dict)
    comment: Text | None = None
    file_name: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _on_is_a_name(cls, body: Any) -> Any:
        """YAML reads a bare ``on`` as true."""
        return {"on" if key is True else key: value for key, value in body.items()} if isinstance(body, dict) else body

    @property
    def settings(self) -> dict[str, Any]:
        """What is given, as ``storage.sinks.sink`` takes it."""
        given: dict[str, Any] = {"options": texts(self.options), "properties": texts(self.properties)}
        given |= {"partition_by": self.partition_by, "replace_where": self.replace_where, "file_name": self.file_name}
        given |= {"mode": self.mode if self.mode != "replace" else None}
        names = ("table", "cluster_by", "comment", *_OF_A_MERGE)
        given |= {**{name: getattr(self, name) for name in names}, "schema": self.schema_}
        return {name: value for name, value in given.items() if value}

    @property
    def target(self) -> str:
        """Where it writes, to tell whether two sinks write to one place: its path, or ``table://`` and its name."""
        return table_uri(self.table) if self.table else self.path

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

    @field_validator("format")
    @classmethod
    def _format_or_table(cls, value: str, info: ValidationInfo) -> str:
        table = info.data.get("table")
        if not value and not table:
            raise refuse("nothing", one_of(sink_formats()))
        if table and value not in ("", "delta"):
            raise refuse(f"format {value} with table", "format delta", "Leave it out.")
        return value or "delta"

    @field_validator("path")
    @classmethod
    def _path_or_table(cls, value: str, info: ValidationInfo) -> str:
        table = info.data.get("table")
        if bool(value) == bool(table):
            raise refuse("path with table" if value else "nothing", "one of them" if value else "a path, or table")
        return value

    @field_validator("file_name")
    @classmethod
    def _only_folders_have_it(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("format") == "delta":
            raise refuse("file_name with format delta", "format csv, json or parquet", "Leave it out.")
        return value

    @model_validator(mode="after")
    def _sink_can_be_made(self) -> Self:
        paths = [path for path in (self.path, self.staging) if path] or [""]
        wrong = [_wrong(self.format, path, self.settings) for path in paths]
        found = [finding for finding in wrong if finding is not None]
        if self.staging and self.mode == "merge":
            found.append(Finding(("staging",), "staging with mode merge", "another mode", "A merge cannot be emptied."))
        if found:
            raise findings(*found)
        return self

    @field_validator(
        "replace_where", "properties", "cluster_by", "on", "sequence_by", "delete_when", "schema_", "comment"
    )
    @classmethod
    def _only_delta_has_it(cls, value: object, info: ValidationInfo) -> object:
        return only_delta(str(info.field_name).rstrip("_"), value, info)

    @field_validator("staging")
    @classmethod
    def _staging_is_elsewhere(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("table"):
            raise refuse("staging with table", "a path for both", "Partial keys are kept at another path.")
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
        if format == "delta" and path:
            for_deltalake(path)
        elif format in FORMATS:
            for_spark_files(path)
        sink(format, path, **settings)
    except InvalidPath as error:
        return Finding(("path",), show(path), f"no {error.found!r} in it", error.why)
    except InvalidArgument as error:
        return Finding((error.where.rpartition(": ")[2],), error.found, error.expected, error.fix)
    except InvalidName as error:
        return Finding(("file_name",), show(error.value), "a file's name, as shop_{key}.csv")
    return None
