"""A source of a job file or of a stream's file."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StrictInt, ValidationInfo, field_validator

from spark_flow.jobfile.model.base import FilePath, Model, Options, Seconds, Text, only_delta
from spark_flow.jobfile.model.fields import (
    branch_names,
    from_root,
    references_schema,
    source_format,
    table_name,
    table_path,
    texts,
)
from spark_flow.jobfile.model.problems import refuse
from spark_flow.storage.arrivals import Wait
from spark_flow.storage.reading import OWN_SCHEMA, refused
from spark_flow.storage.sources import TABLE, WITH_PATH, BadRecordPolicy, Source, source

if TYPE_CHECKING:
    from pyspark.sql.types import StructType


class WaitModel(Model):
    """How long to wait for a source's data, in seconds.

    Attributes:
        timeout: Seconds after the start of the run; then the run ends with exit code 75.
        stable_for: Seconds for which names, sizes and times of the files must not change.
        interval: Seconds between two looks.
    """

    timeout: Annotated[Seconds, Field(ge=0)]
    stable_for: Annotated[Seconds, Field(ge=0)] = Wait.stable_for
    interval: Annotated[Seconds, Field(gt=0)] = Wait.interval


class SourceModel(Model):
    """Where a frame comes from: a path with its format, a table by name, or a format that needs neither.

    Attributes:
        table: A table of Spark's catalog: ``shop.orders``. It goes without ``format`` and ``path``.
        format: ``delta``, ``json``, ``csv``, ``parquet``, or any other format of Spark and its installed data sources:
            ``orc``, ``avro``, ``text``, ``xml``, ``jdbc``.
        path: A path or URI, or a pattern of files; with ``{branch}`` in it, one folder for each of ``branches``.
            Of a key that is a time ``{key:%Y-%m-%d}`` is another form, as strftime writes it.
        branches: The values of ``{branch}``: a range, ``"05..23"``, or a list.
        schema_: The columns: DDL, ``id INT NOT NULL, name STRING``, or ``module:NAME`` of a StructType or DDL text.
        bad_records: What to do with a record that does not match the schema (JSON and CSV): ``fail`` the node that
            reads it, or ``quarantine`` it: set it aside in ``<state>/quarantine/<pipeline>`` and continue. By default
            ``fail``. Without a schema records are not checked.
        options: Options of Spark's reader. In CSV a quote within quotes is doubled (RFC 4180), unless ``escape`` is
            set.
        version: A version of a Delta table; by default the newest one at the generation's first read.
        per_key: Whether the path depends on the key: missing data has then not arrived yet (exit code 75). By default,
            whether ``path`` depends on ``${key}``.
        parent: A folder that exists before any key arrives; if it is missing, the path is wrong (exit code 1). By
            default the folder that all keys and branches have in common.
        wait: Wait for the files, and until they do not change any more; then exit code 75.
    """

    table: Annotated[Text, AfterValidator(table_name)] | None = None
    format: Annotated[str, AfterValidator(source_format)] = Field("", validate_default=True)
    path: Annotated[str, AfterValidator(from_root)] = Field("", validate_default=True)
    branches: Annotated[tuple[str, ...] | None, BeforeValidator(branch_names)] = Field(None, validate_default=True)
    schema_: Annotated[Text | None, AfterValidator(references_schema)] = Field(None, alias="schema")
    bad_records: BadRecordPolicy | None = None
    options: Options = Field(default_factory=dict, validate_default=True)
    version: Annotated[StrictInt, Field(ge=0)] | None = None
    per_key: StrictBool | None = None  # filled by ``load``: whether another key gives another path
    parent: FilePath | None = None  # filled by ``load``: the folder that all keys and branches have in common
    wait: WaitModel | None = None

    def branch_names(self) -> tuple[str, ...]:
        """The branches, in order; none if the source has none."""
        return self.branches or ()

    def source(self, schema: "StructType | str | None", branches: Sequence[str] = ()) -> Source:
        """The source that it describes, with its own branches or those given."""
        return source(
            self.format,
            self.path,
            schema=schema,
            branches=branches or self.branch_names(),
            options=texts(self.options),
            version=self.version,
            bad_records=self.bad_records or "fail",
            per_key=bool(self.per_key),
            parent=self.parent or "",
            wait=Wait(**self.wait.model_dump()) if self.wait else None,
        )

    @field_validator("format")
    @classmethod
    def _format_or_table(cls, value: str, info: ValidationInfo) -> str:
        if bool(value.removeprefix(TABLE)) == (info.data.get("table") is not None):
            found = f"format {value} with table" if value else "nothing"
            raise refuse(found, "a format, or table", "For example format: json with a path, or table: shop.orders.")
        return value or TABLE

    @field_validator("path")
    @classmethod
    def _path_goes_with_the_format(cls, value: str, info: ValidationInfo) -> str:
        kind = info.data.get("format", "")
        if kind == TABLE:
            if value not in ("", info.data.get("table")):
                raise refuse("path with table", "one of them")
            return str(info.data.get("table"))
        if not value and kind in WITH_PATH:
            raise refuse("nothing", "a path or URI")
        return table_path(value) if kind == "delta" else value

    @field_validator("branches")
    @classmethod
    def _branches_are_in_the_path(cls, value: object, info: ValidationInfo) -> object:
        path = info.data.get("path")
        if path is not None and value is not None and "{branch}" not in path:
            raise refuse(
                f"branches, and path {path!r}",
                "{branch} in path",
                "Put {branch} where the branch's name stands.",
            )
        return value

    @field_validator("schema_")
    @classmethod
    def _a_table_has_its_own(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("format") == "delta":
            raise refuse(*OWN_SCHEMA)
        if value is not None and info.data.get("table"):
            raise refuse("schema with table", "no schema", "Leave it out: a table has its own.")
        return value

    @field_validator("bad_records")
    @classmethod
    def _bad_records_need_a_schema(cls, value: object, info: ValidationInfo) -> object:
        if value is not None and info.data.get("format", "json") not in {"json", "csv"}:
            raise refuse(f"bad_records with format {info.data['format']}", "format json or csv", "Leave it out.")
        if value is not None and info.data.get("schema_", "") is None:
            raise refuse("bad_records without schema", "a schema", "Records are checked by the schema: set schema.")
        return value

    @field_validator("options")
    @classmethod
    def _options_go_with_the_rest(cls, value: dict[str, Any], info: ValidationInfo) -> object:
        has_schema = info.data.get("schema_") is not None
        given = {name: str(each) for name, each in value.items()}
        for problem in refused(info.data.get("format", ""), has_schema=has_schema, quarantine=False, options=given):
            raise refuse(*problem)
        return value

    @field_validator("version")
    @classmethod
    def _version_is_of_delta(cls, value: object, info: ValidationInfo) -> object:
        return value if info.data.get("table") else only_delta("version", value, info)

    @field_validator("wait")
    @classmethod
    def _something_can_arrive(cls, value: WaitModel | None, info: ValidationInfo) -> WaitModel | None:
        if value is None or "path" not in info.data:
            return value
        kind, path = info.data.get("format", ""), info.data["path"]
        if kind == TABLE or not path or any(sign in path for sign in "*?["):
            raise refuse("wait without files at a path", "a path without a pattern", "Wait for a file within it.")
        if kind == "delta" and value.stable_for:
            raise refuse("stable_for with format delta", "no stable_for", "A Delta table changes in one step.")
        return value
