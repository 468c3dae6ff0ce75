"""Sources of frames: Delta tables by path, tables by name, files, and any other format that Spark reads."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import pyarrow.parquet as pq
from deltalake import DeltaTable
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from spark_flow.core import fingerprint, secrets
from spark_flow.core.names import quote_table, table_uri
from spark_flow.errors import InvalidArgument, MissingInput, NotArrived, SourceNotReadable, describe
from spark_flow.storage import arrivals, files, records
from spark_flow.storage.delta_tables import open_table
from spark_flow.storage.reading import OWN_SCHEMA, analysed, defaults, is_true, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyarrow import fs
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from spark_flow.storage.arrivals import Wait

Format: TypeAlias = str
TABLE = "table"
WITH_PATH = ("delta", "parquet", "json", "csv", "orc", "avro", "text", "xml", "binaryFile")
"""Formats that read files at a path; any other one that is given a path does so as well."""
BadRecordPolicy = Literal["fail", "quarantine"]
_TRIES, _PAUSE = 3, 3.0  # of a service, and seconds between the first two


@dataclass(frozen=True)
class Source:
    """Data to read; create one with ``spark_flow.source``.

    Attributes:
        format: ``delta``, ``parquet``, ``json``, ``csv``; ``table``; or any other format of Spark or of an installed
            data source: ``orc``, ``jdbc``.
        path: A path or URI, or a glob pattern of Hadoop; with ``{branch}`` in it, one folder for each of
            ``branches``. Of a ``table`` its name: ``shop.orders``. Empty for a format that has none.
        schema: The columns; those that are NOT NULL must have a value in every record.
        branches: The branches, whose folders must all exist.
        bad_records: What to do with a record that does not match the schema: ``fail`` the node that reads it, or
            ``quarantine`` it, that is, set it aside in ``<state>/quarantine/<pipeline>`` (JSON and CSV).
        options: Options of Spark's reader. ``${oc.env:NAME}`` in an option is resolved when the source is read. In
            CSV a quote within quotes is doubled (RFC 4180), unless ``escape`` is set.
        version: A Delta table's version; ``None`` pins the newest one at the generation's first read. Nothing else can
            be pinned: it is read as it is at each attempt, until a checkpoint holds it.
        per_key: Whether the path depends on the key. Missing data has then not arrived yet (exit code 75); at a fixed
            path it is a failure. With ``branches``, missing data has never arrived yet.
        parent: A folder that exists before any key arrives. If it is missing, the path is wrong, which is a failure.
        wait: How long to wait for missing data; ``None`` does not wait.
    """

    format: Format
    path: str = ""
    schema: StructType | str | None = None
    branches: tuple[str, ...] = ()
    bad_records: BadRecordPolicy = "fail"
    options: Mapping[str, str] = field(default_factory=dict)
    version: int | None = None
    per_key: bool = False
    parent: str = ""
    wait: Wait | None = None

    @property
    def has_files(self) -> bool:
        """Whether it is files, whose names, sizes and times are recorded."""
        return bool(self.path) and self.format not in ("delta", TABLE)

    @property
    def pinning(self) -> str:
        """What a retry reads, in words."""
        if self.version is not None:
            return f"version {self.version}"
        if self.format in ("delta", TABLE):
            return "pinned at its first read" + ("" if self.format == "delta" else ", if it is a Delta table")
        return "not pinned: each attempt reads it as it is, until a checkpoint holds it"

    @property
    def fingerprint(self) -> str:
        """A hash of the source's settings, without credentials and without its data, which a retry takes as it is."""
        schema = self.schema if self.schema is None or isinstance(self.schema, str) else self.schema.json()
        options = secrets.shown(self.options)
        return fingerprint.of((self.format, self.paths, schema, self.bad_records, options, self.version))

    @property
    def read_options(self) -> dict[str, str]:
        """The options with the current values of ``${oc.env:NAME}``; only for Spark, and never recorded."""
        return {**defaults(self.format, self.options), **secrets.resolved(dict(self.options))}

    def branch(self, name: str) -> Source:
        """Return the same source with only this branch."""
        return dataclasses.replace(self, branches=(name,))

    @property
    def paths(self) -> tuple[str, ...]:
        """The folders or files to read, absolute; ``table://<name>`` for a table; none for a format without a path."""
        if self.format == TABLE:
            return (table_uri(self.path),)
        if not self.path:
            return ()
        paths = [self.path.replace("{branch}", b) for b in self.branches] if self.branches else [self.path]
        return tuple(files.absolute(path) for path in paths)


def source(
    format: Format,  # noqa: A002 - Spark's own word
    path: str = "",
    *,
    schema: StructType | str | None = None,
    branches: Sequence[str] = (),
    bad_records: BadRecordPolicy = "fail",
    options: Mapping[str, str] | None = None,
    version: int | None = None,
    per_key: bool = False,
    parent: str = "",
    wait: Wait | None = None,
) -> Source:
    """Return a source; see ``Source``. A schema may be a DDL string: ``"id INT NOT NULL, name STRING"``.

    >>> orders = source("table", "shop.orders")
    >>> days = source("orc", "in/date=2024-03-*", schema="id INT, at TIMESTAMP")
    >>> rates = source("jdbc", options={"url": "jdbc:postgresql://db/shop", "dbtable": "rates", "user": "etl"})

    Raises:
        InvalidArgument: There are branches but no ``{branch}`` in the path, so each branch would be all of the data. Or
            settings conflict, for example ``bad_records="quarantine"`` without a schema.
        InvalidName: A table's name is no name of up to three parts.
    """
    if format == TABLE:
        quote_table(path)
    elif format in WITH_PATH and not path:
        raise InvalidArgument("source", f"format {format} without a path", "a path or URI")
    if branches and "{branch}" not in path:
        raise InvalidArgument("source", f"branches, and path {path!r}", "{branch} in the path, for a branch's name")
    quarantine, options = bad_records == "quarantine", dict(options or {})
    wrong = [OWN_SCHEMA] if format == "delta" and schema is not None else []
    wrong += refused(format, has_schema=schema is not None, quarantine=quarantine, options=options)
    for found, expected, fix in wrong:
        raise InvalidArgument("source", found, f"{expected}. {fix}".rstrip("."))
    return Source(format, path, schema, tuple(branches), bad_records, options, version, per_key, parent, wait)


def check_present(name: str, source: Source) -> list[fs.FileInfo]:
    """Check that all folders or files of a source exist.

    Returns:
        Its files; empty for a table and for a path that is a pattern, where Spark itself reports what is missing.

    Raises:
        MissingInput: Some are missing; the error lists them.
        NotArrived: Some are missing from a path that depends on the key or branch: they may arrive later.
    """
    found, missing = look(source)
    if missing:
        raise absent(name, source, missing)
    return found


def look(source: Source) -> tuple[list[fs.FileInfo], list[str]]:
    """Return the files of a source that are there, and the paths that are missing; both empty if only Spark knows."""
    if source.format == "delta":
        return [], [path for path in source.paths if open_table(path) is None]
    if not source.has_files:
        return [], []
    each = {path: arrivals.data_files(path) for path in source.paths if not is_pattern(path)}
    missing = [path for path, inside in each.items() if inside is None]
    return [info for inside in each.values() for info in inside or ()], missing


def absent(name: str, source: Source, missing: Sequence[str]) -> MissingInput | NotArrived:
    """Return the error for missing data: a failure if the path is fixed or wrong, else it has not arrived."""
    if source.parent and not files.exists(source.parent):
        return MissingInput(name, [files.absolute(source.parent)])
    return NotArrived(name, missing) if source.per_key or source.branches else MissingInput(name, missing)


def is_pattern(path: str) -> bool:
    """Whether a path is a pattern; a path that exists under exactly this name is not."""
    return any(c in path for c in "*?[{") and not files.exists(path)


def _spark_paths(source: Source) -> list[str]:
    """Return a source's paths for Spark."""
    return [files.for_spark(path) if is_pattern(path) else files.for_spark_files(path) for path in source.paths]


def current_version(name: str, source: Source) -> int:
    """Return the version of a Delta source to pin: the requested one, else the newest.

    Raises:
        MissingInput, NotArrived: The table is missing.
    """
    table = open_table(source.path)
    if table is None:
        raise absent(name, source, [source.path])
    return source.version if source.version is not None else table.version()


def schema_of(source: Source, spark: Callable[[], SparkSession] | None = None) -> StructType | None:
    """Return the columns of the frame that the source is read as.

    They come from metadata where that is exact: a declared schema, a Delta table's log, the footer of Parquet that
    Spark wrote. Otherwise Spark infers them with the source's own options; without a schema it reads JSON and CSV data.

    Args:
        source: The source.
        spark: Creates the session if it is needed; without it, the result is ``None`` if only Spark knows it.

    Raises:
        MissingInput, NotArrived: The source is missing.
    """
    found = _declared(source) if source.schema is not None else None
    if found is None:
        check_present("schema", source)
        found = _of_metadata(source) if source.schema is None else None
    if found is not None or spark is None:
        return found
    if source.format == "delta":
        return read_delta(spark(), source, current_version("schema", source)).schema
    if not source.has_files:
        return read_any(spark(), "schema", source).schema
    return read_files(spark(), "schema", source).schema


def _declared(source: Source) -> StructType | None:
    """Return the declared schema, unless the frame can have other columns: from folder names, or CHAR as text."""
    schema = columns_of(source)
    return None if _has_partitions(source) or "char(" in schema.simpleString() else schema


def _of_metadata(source: Source) -> StructType | None:
    from pyspark.sql.types import StructType

    if source.format == "delta":
        try:
            table = DeltaTable(files.for_deltalake(source.path), version=source.version)
            return StructType.fromJson(json.loads(table.schema().to_json()))
        except Exception:
            return None  # the table has a feature that only Spark reads
    if source.format != "parquet" or source.options or len(source.paths) > 1 or is_pattern(source.path):
        return None
    storage, inner = files.of(source.paths[0])
    inside = [str(i.path) for i in files.listing(source.paths[0], recursive=True) if i.is_file]
    data = [path for path in inside if not path.rpartition("/")[2].startswith((".", "_"))] or [inner]
    if _has_partitions(source) or any(path.endswith("_metadata") for path in inside):
        return None
    known = pq.read_schema(data[0], filesystem=storage).metadata or {}
    written = known.get(b"org.apache.spark.sql.parquet.row.metadata")
    return StructType.fromJson(json.loads(written)) if written else None


def _has_partitions(source: Source) -> bool:
    """Whether folders within the source may be columns, for example ``hour=05``."""
    if any(is_pattern(path) for path in source.paths):
        return True
    return any(
        "=" in i.base_name for path in source.paths for i in files.listing(path, recursive=True) if not i.is_file
    )


def read_delta(spark: SparkSession, source: Source, version: int) -> DataFrame:
    """Read a Delta source at a version."""
    reader = spark.read.format("delta").options(**source.read_options).option("versionAsOf", version)
    return reader.load(files.for_spark(source.path))


def table_version(spark: SparkSession, name: str, source: Source) -> int | None:
    """Return the version of a table to pin: the requested one, else the newest; ``None`` for other than Delta tables.

    Raises:
        MissingInput, NotArrived: The catalog has no such table.
    """
    from pyspark.errors import AnalysisException

    if source.version is not None:
        return source.version
    try:
        return int(spark.sql(f"DESCRIBE HISTORY {quote_table(source.path)} LIMIT 1").collect()[0]["version"])
    except AnalysisException as error:
        if not spark.catalog.tableExists(source.path):
            raise absent(name, source, [source.path]) from error
        return None  # a view, or a table of another format


def read_table(spark: SparkSession, source: Source, version: int | None) -> DataFrame:
    """Read a table of the catalog, at a version if it is a Delta table."""
    reader = spark.read.options(**source.read_options)
    return (reader if version is None else reader.option("versionAsOf", version)).table(quote_table(source.path))


def read_any(spark: SparkSession, name: str, source: Source) -> DataFrame:
    """Read a table by its name, or a source of a format without files, as it is now.

    Spark asks a service such as a database for the columns; if that fails, it is asked three times within 10 seconds.

    Raises:
        SourceNotReadable: The service does not answer, or refuses.
    """
    from pyspark.errors import AnalysisException

    if source.format == TABLE:
        return read_table(spark, source, source.version)
    reader = spark.read.format(source.format).options(**source.read_options)
    if source.schema is not None:
        reader = reader.schema(columns_of(source))
    retrying = Retrying(
        retry=retry_if_exception(lambda e: isinstance(e, Exception) and not isinstance(e, AnalysisException)),
        stop=stop_after_attempt(_TRIES),
        wait=wait_exponential(multiplier=_PAUSE),
        reraise=True,
    )
    try:
        return retrying(lambda: analysed(reader.load()))
    except Exception as error:
        options = secrets.shown({key: value for key, value in source.options.items() if key != "password"})
        raise SourceNotReadable(name, source.format, options, describe(error)) from error


def read_files(spark: SparkSession, name: str, source: Source) -> DataFrame:
    """Read a source of files; a bad record fails the action that reads it (``bad_records: fail``)."""
    paths = _spark_paths(source)
    if source.schema is None:
        return _unchecked(spark, source, paths)
    if source.format not in ("json", "csv"):
        schema = columns_of(source)
        frame = spark.read.format(source.format).options(**source.read_options).schema(schema).load(paths)
        return records.require(frame, name, schema)
    return records.accept(_parsed(spark, source), name)


def split_bad_records(spark: SparkSession, source: Source) -> tuple[DataFrame, DataFrame]:
    """Read a source of files, and split off the records that do not match the schema.

    Returns:
        The good frame with the schema's columns, and a frame ``file: string, record: string, reason: string``.
    """
    return records.split(_parsed(spark, source))


def _parsed(spark: SparkSession, source: Source) -> records.Parsed:
    parse = records.parse_csv if source.format == "csv" else records.parse_json
    return parse(spark, _spark_paths(source), columns_of(source), source.read_options)


def _unchecked(spark: SparkSession, source: Source, paths: Sequence[str]) -> DataFrame:
    """Read files as Spark does; CSV files must all have the same header, since Spark takes columns by position."""
    reader = spark.read.format(source.format).options(**source.read_options)
    if source.format != "csv" or not is_true(source.read_options, "header"):
        return reader.load(list(paths))
    frame = reader.option("enforceSchema", "false").load(list(paths))
    if not _generated(frame.columns):
        return frame
    # A header with a blank or duplicate name: Spark generates names, which its check then does not find in the file.
    return reader.option("enforceSchema", "true").load(list(paths))


def _generated(names: Sequence[str]) -> bool:
    """Whether Spark generated some of the names, like ``_c1``, or ``id0`` and ``id2``."""
    plain = [name.removesuffix(str(at)) for at, name in enumerate(names) if name.endswith(str(at))]
    return "_c" in plain or len(set(plain)) < len(plain)


def columns_of(source: Source) -> StructType:
    """Return a source's schema.

    Raises:
        InvalidArgument: The DDL is invalid.
    """
    if source.schema is None:
        raise ValueError(f"bad_records: quarantine needs a schema for {source.path}")
    return parse_schema(source.schema, source.path)


def parse_schema(schema: StructType | str, path: str) -> StructType:
    """Return the schema of the data at a path; a DDL string is parsed by the session, which must exist by then.

    Raises:
        InvalidArgument: The DDL is invalid.
    """
    from pyspark.errors import ParseException
    from pyspark.sql.types import StructType

    if isinstance(schema, StructType):
        return schema
    try:
        parsed = StructType.fromDDL(schema)
    except ParseException as error:
        found = f"{schema!r} ({describe(error)})"
        raise InvalidArgument(f"schema of {path}", found, "DDL, as id INT NOT NULL, name STRING") from error
    return parsed if isinstance(parsed, StructType) else StructType().add("value", parsed)
