"""Where frames come from: Delta tables, Parquet, JSON and CSV files."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import pyarrow.parquet as pq
from deltalake import DeltaTable

from spark_flow.core import fingerprint, secrets
from spark_flow.errors import InvalidArgument, MissingInput, NotArrived
from spark_flow.storage import arrivals, files, records
from spark_flow.storage.delta import open_table
from spark_flow.storage.reading import OWN_SCHEMA, is_true, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyarrow import fs
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

Format = Literal["delta", "parquet", "json", "csv"]
BadRecordPolicy = Literal["fail", "quarantine"]


@dataclass(frozen=True)
class Source:
    """Data to read; make one with ``spark_flow.source``.

    Attributes:
        format: ``delta``, ``parquet``, ``json`` or ``csv``.
        path: A path or URI; with ``{branch}`` in it, one folder for each of ``branches``.
        schema: The columns; those that are NOT NULL must be in every record of a JSON or CSV file.
        branches: The folders that must all be there.
        bad_records: ``fail`` the node that meets a record which is not by the schema, or set it aside in
            ``<state>/quarantine/<pipeline>`` (JSON and CSV).
        options: Options of Spark's reader. ``${oc.env:NAME}`` in one is looked up when the source is read.
        version: A Delta table's version; ``None`` pins the one that the generation's first read finds.
        per_key: Whether the path is another one for each key. What is missing there has not arrived yet (exit code
            75); at a fixed path it is a failure. With ``branches`` it is so in any case.
    """

    format: Format
    path: str
    schema: StructType | str | None = None
    branches: tuple[str, ...] = ()
    bad_records: BadRecordPolicy = "fail"
    options: Mapping[str, str] = field(default_factory=dict)
    version: int | None = None
    per_key: bool = False

    @property
    def fingerprint(self) -> str:
        """A hash of the source's settings; not of credentials, nor of its data, which a retry takes as it is."""
        schema = self.schema if self.schema is None or isinstance(self.schema, str) else self.schema.json()
        options = secrets.shown(self.options)
        return fingerprint.of((self.format, self.paths, schema, self.bad_records, options, self.version))

    @property
    def read_options(self) -> dict[str, str]:
        """The options with what ``${oc.env:NAME}`` in them stands for now; for Spark alone, and recorded nowhere."""
        return dict(secrets.resolved(dict(self.options)))

    def branch(self, name: str) -> Source:
        """The same source with one branch alone."""
        return dataclasses.replace(self, branches=(name,))

    @property
    def paths(self) -> tuple[str, ...]:
        """The folders or files to read, absolute."""
        places = [self.path.replace("{branch}", b) for b in self.branches] if self.branches else [self.path]
        return tuple(files.absolute(place) for place in places)


def source(
    format: Format,  # noqa: A002 - Spark's own word
    path: str,
    *,
    schema: StructType | str | None = None,
    branches: Sequence[str] = (),
    bad_records: BadRecordPolicy = "fail",
    options: Mapping[str, str] | None = None,
    version: int | None = None,
    per_key: bool = False,
) -> Source:
    """Data to read; see ``Source``. A schema may be a DDL string, as ``"id INT NOT NULL, name STRING"``.

    Raises:
        InvalidArgument: There are branches, and no ``{branch}`` in the path: each would be all of the data. Or settings
            that do not go together, as ``bad_records="quarantine"`` without a schema.
    """
    if branches and "{branch}" not in path:
        raise InvalidArgument("source", f"branches, and path {path!r}", "{branch} in the path, for a branch's name")
    quarantine, options = bad_records == "quarantine", dict(options or {})
    wrong = [OWN_SCHEMA] if format == "delta" and schema is not None else []
    wrong += refused(format, has_schema=schema is not None, quarantine=quarantine, options=options)
    for found, expected, fix in wrong:
        raise InvalidArgument("source", found, f"{expected}. {fix}".rstrip("."))
    return Source(format, path, schema, tuple(branches), bad_records, options, version, per_key)


def check_present(name: str, source: Source) -> list[fs.FileInfo]:
    """The files of a source; it is refused where not all of its folders or files are there, naming each.

    Returns:
        Its files; none of a table, nor of a path that is a pattern: Spark itself says what it did not find.

    Raises:
        MissingInput: See above.
        NotArrived: The same, of a source whose path is another one for each key or branch: it may come yet.
    """
    if source.format == "delta":
        missing, found = [path for path in source.paths if open_table(path) is None], []
    else:
        each = {path: arrivals.data_files(path) for path in source.paths if not _is_pattern(path)}
        missing, found = (
            [p for p, inside in each.items() if inside is None],
            [i for f in each.values() for i in f or ()],
        )
    if missing:
        raise absent(name, source, missing)
    return found


def absent(name: str, source: Source, missing: Sequence[str]) -> MissingInput | NotArrived:
    """The error for what is missing of a source: a fault where its path is fixed, else it has not arrived."""
    return NotArrived(name, missing) if source.per_key or source.branches else MissingInput(name, missing)


def _is_pattern(path: str) -> bool:
    """Whether a path stands for several: not where a file or folder has that very name."""
    return any(c in path for c in "*?[{") and not files.exists(path)


def _places(source: Source) -> list[str]:
    """A source's paths for Spark."""
    return [files.for_spark(path) if _is_pattern(path) else files.for_spark_files(path) for path in source.paths]


def current_version(name: str, source: Source) -> int:
    """The version of a Delta source to pin: the one asked for, else the newest.

    Raises:
        MissingInput: There is no such table.
    """
    table = open_table(source.path)
    if table is None:
        raise absent(name, source, [source.path])
    return source.version if source.version is not None else table.version()


def schema_of(source: Source, spark: Callable[[], SparkSession] | None = None) -> StructType | None:
    """The columns of the frame that a read of the source gives.

    Metadata tells them where it is exact: a declared schema, a Delta table's log, the footer of Parquet that Spark
    wrote. Else Spark says, with the source's own options: for JSON and CSV without a schema it reads the data.

    Args:
        source: The source.
        spark: Makes the session, should it be needed; without it what only Spark can tell is ``None``.

    Raises:
        MissingInput, NotArrived: The source is not there.
    """
    found = _declared(source) if source.schema is not None else None
    if found is None:
        check_present("schema", source)
        found = _of_metadata(source) if source.schema is None else None
    if found is not None or spark is None:
        return found
    if source.format == "delta":
        return read_delta(spark(), source, current_version("schema", source)).schema
    return read_files(spark(), "schema", source).schema


def _declared(source: Source) -> StructType | None:
    """The schema as it was given, unless the frame has more or other columns: of folders' names, or CHAR as text."""
    schema = columns_of(source)
    return None if _has_partitions(source) or "char(" in schema.simpleString() else schema


def _of_metadata(source: Source) -> StructType | None:
    from pyspark.sql.types import StructType

    if source.format == "delta":
        try:
            table = DeltaTable(files.for_deltalake(source.path), version=source.version)
            return StructType.fromJson(json.loads(table.schema().to_json()))
        except Exception:
            return None  # of a feature that only Spark reads
    if source.format != "parquet" or source.options or len(source.paths) > 1 or _is_pattern(source.path):
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
    """Whether folders within the source may be columns, as ``hour=05``."""
    if any(_is_pattern(path) for path in source.paths):
        return True
    return any(
        "=" in i.base_name for path in source.paths for i in files.listing(path, recursive=True) if not i.is_file
    )


def read_delta(spark: SparkSession, source: Source, version: int) -> DataFrame:
    """A Delta source as it was at a version."""
    reader = spark.read.format("delta").options(**source.read_options).option("versionAsOf", version)
    return reader.load(files.for_spark(source.path))


def read_files(spark: SparkSession, name: str, source: Source) -> DataFrame:
    """A source of files; a bad record fails the action that meets it (``bad_records: fail``)."""
    places = _places(source)
    if source.schema is None:
        return _unjudged(spark, source, places)
    if source.format == "parquet":
        schema = columns_of(source)
        frame = spark.read.format(source.format).options(**source.read_options).schema(schema).load(places)
        return records.require(frame, name, schema)
    return records.accept(_parsed(spark, source), name)


def split_bad_records(spark: SparkSession, source: Source) -> tuple[DataFrame, DataFrame]:
    """The records that are by the schema, and the others.

    Returns:
        The good frame with the schema's columns, and a frame ``file: string, record: string, reason: string``.
    """
    return records.split(_parsed(spark, source))


def _parsed(spark: SparkSession, source: Source) -> records.Parsed:
    parse = records.parse_csv if source.format == "csv" else records.parse_json
    return parse(spark, _places(source), columns_of(source), source.read_options)


def _unjudged(spark: SparkSession, source: Source, places: Sequence[str]) -> DataFrame:
    """Files as Spark reads them; those of CSV must all have one header, since Spark takes columns by position."""
    reader = spark.read.format(source.format).options(**source.read_options)
    if source.format != "csv" or not is_true(source.read_options, "header"):
        return reader.load(list(places))
    frame = reader.option("enforceSchema", "false").load(list(places))
    if not _made_up(frame.columns):
        return frame
    # A header with a blank or a name twice: Spark gives names of its own, which its check then misses in the file.
    return reader.option("enforceSchema", "true").load(list(places))


def _made_up(names: Sequence[str]) -> bool:
    """Whether names are Spark's own, ``_c1`` or ``id0`` and ``id2``."""
    plain = [name.removesuffix(str(at)) for at, name in enumerate(names) if name.endswith(str(at))]
    return "_c" in plain or len(set(plain)) < len(plain)


def columns_of(source: Source) -> StructType:
    """The schema; a DDL string is parsed by the session, so not before there is one."""
    from pyspark.sql.types import StructType

    if source.schema is None:
        raise ValueError(f"bad_records: quarantine needs a schema for {source.path}")
    if isinstance(source.schema, StructType):
        return source.schema
    parsed = StructType.fromDDL(source.schema)
    return parsed if isinstance(parsed, StructType) else StructType().add("value", parsed)
