"""Where frames come from: Delta tables, Parquet, JSON and CSV files."""

from __future__ import annotations

import dataclasses
import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from deltalake import DeltaTable

from spark_flow import fingerprint, secrets
from spark_flow.errors import InvalidArgument, MissingInput
from spark_flow.storage import files, records
from spark_flow.storage.delta import open_table
from spark_flow.storage.reading import OWN_SCHEMA, is_true, refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

Format = Literal["delta", "parquet", "json", "csv"]
BadRecordPolicy = Literal["fail", "quarantine"]

_PEEK = 1 << 20  # bytes of a JSON file that its columns are told by


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
    """

    format: Format
    path: str
    schema: StructType | str | None = None
    branches: tuple[str, ...] = ()
    bad_records: BadRecordPolicy = "fail"
    options: Mapping[str, str] = field(default_factory=dict)
    version: int | None = None

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
    return Source(format, path, schema, tuple(branches), bad_records, options, version)


def check_present(name: str, source: Source) -> None:
    """Refuse a source whose folders or files are not all there, naming each.

    Raises:
        MissingInput: See above.
    """
    missing = [path for path in source.paths if not _present(source, path)]
    if missing:
        raise MissingInput(name, missing)


def _present(source: Source, path: str) -> bool:
    if source.format == "delta":
        return open_table(path) is not None
    if any(c in path for c in "*?["):
        return True  # a pattern: Spark itself says what it did not find
    storage, inner = files.of(path)
    info = storage.get_file_info(inner)
    if info.is_file:
        return True
    below = (i.base_name for i in files.listing(path, recursive=True) if i.is_file)
    return any(not base.startswith(("_", ".")) for base in below)


def current_version(name: str, source: Source) -> int:
    """The version of a Delta source to pin: the one asked for, else the newest.

    Raises:
        MissingInput: There is no such table.
    """
    table = open_table(source.path)
    if table is None:
        raise MissingInput(name, [source.path])
    return source.version if source.version is not None else table.version()


def schema_of(source: Source) -> StructType:
    """A source's columns from metadata; no Spark job is launched.

    Of what it declares, a Delta table's log, a Parquet file's footer, or the first records of a JSON or CSV file.

    Raises:
        MissingInput: The source is not there.
    """
    from pyspark.sql.types import StructType

    if isinstance(source.schema, StructType):
        return source.schema
    if source.schema is not None:
        return cast("StructType", StructType.fromDDL(source.schema))
    check_present("schema", source)
    if source.format == "delta":
        table = DeltaTable(files.for_deltalake(source.path), version=source.version)
        return StructType.fromJson(json.loads(table.schema().to_json()))
    return _peeked(source)


def _peeked(source: Source) -> StructType:
    """The columns of a source's first file that holds anything, with the types that Spark would give them."""
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import StringType, StructField, StructType

    storage, inner = files.of(source.paths[0])
    inside = [i for i in files.listing(source.paths[0], recursive=True) if i.is_file and i.size]
    data = [i.path for i in inside if not i.base_name.startswith(("_", "."))] or [inner]
    if source.format == "parquet":
        return from_arrow_schema(pq.read_schema(data[0], filesystem=storage))
    with storage.open_input_stream(data[0]) as stream:
        if source.format == "csv":  # of a CSV file Spark reads text; without a header it counts the columns
            names = pa_csv.open_csv(stream).schema.names
            header = source.read_options.get("header", "false").lower() == "true"
            names = names if header else [f"_c{at}" for at in range(len(names))]
            return StructType([StructField(name, StringType()) for name in names])
        lines = stream.read(_PEEK)
    return from_arrow_schema(pa_json.read_json(io.BytesIO(lines[: lines.rfind(b"\n") + 1] or lines)).schema)


def read_delta(spark: SparkSession, source: Source, version: int) -> DataFrame:
    """A Delta source as it was at a version."""
    reader = spark.read.format("delta").options(**source.read_options).option("versionAsOf", version)
    return reader.load(files.for_spark(source.path))


def read_files(spark: SparkSession, name: str, source: Source) -> DataFrame:
    """A source of files; a bad record fails the action that meets it (``bad_records: fail``)."""
    places = [files.for_spark(path) for path in source.paths]
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
    return parse(spark, [files.for_spark(path) for path in source.paths], columns_of(source), source.read_options)


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
