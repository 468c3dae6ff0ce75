"""Where frames come from: Delta tables, Parquet, JSON and CSV files."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, cast

import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from deltalake import DeltaTable

from spark_flow import fingerprint
from spark_flow.errors import BadRecords, InvalidArgument, MissingInput, describe
from spark_flow.names import quote_identifier, quote_literal
from spark_flow.storage import files
from spark_flow.storage.delta import open_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.types import StructType

Format = Literal["delta", "parquet", "json", "csv"]
BadRecordPolicy = Literal["fail", "quarantine"]

_CORRUPT = "_corrupt_record"
_PEEK = 1 << 20  # bytes of a JSON file that its columns are told by
_MARK = "spark_flow bad record"


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
        options: Options of Spark's reader.
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
        """A hash of the source's settings; not of its data, which a retry takes as it is."""
        schema = self.schema if self.schema is None or isinstance(self.schema, str) else self.schema.json()
        return fingerprint.of((self.format, self.paths, schema, self.bad_records, self.options, self.version))

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
        InvalidArgument: There are branches, and no ``{branch}`` in the path: each would be all of the data.
    """
    if branches and "{branch}" not in path:
        raise InvalidArgument("source", f"branches, and path {path!r}", "{branch} in the path, for a branch's name")
    return Source(format, path, schema, tuple(branches), bad_records, dict(options or {}), version)


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
            header = source.options.get("header", "false").lower() == "true"
            names = names if header else [f"_c{at}" for at in range(len(names))]
            return StructType([StructField(name, StringType()) for name in names])
        lines = stream.read(_PEEK)
    return from_arrow_schema(pa_json.read_json(io.BytesIO(lines[: lines.rfind(b"\n") + 1] or lines)).schema)


def read_delta(spark: SparkSession, source: Source, version: int) -> DataFrame:
    """A Delta source as it was at a version."""
    reader = spark.read.format("delta").options(**source.options).option("versionAsOf", version)
    return reader.load(files.for_spark(source.path))


def read_files(spark: SparkSession, name: str, source: Source) -> DataFrame:
    """A source of files; a bad record fails the action that meets it (``bad_records: fail``)."""
    places = [files.for_spark(path) for path in source.paths]
    reader = spark.read.format(source.format).options(**source.options)
    if source.schema is None:
        return reader.load(places)
    schema = _columns(source)
    if source.format == "parquet":
        return reader.schema(schema).load(places)
    frame = reader.schema(schema).option("mode", "FAILFAST").load(places)
    return _require(frame, name, _required(schema))


def split_bad_records(spark: SparkSession, source: Source) -> tuple[DataFrame, DataFrame]:
    """The records that are by the schema, and the others.

    Returns:
        The good frame with the schema's columns, and a frame ``file: string, record: string, reason: string``.

    All columns are parsed, used or not: both frames must agree on what a bad record is.
    """
    from pyspark.sql import functions as F

    schema = _columns(source)
    parsed = _parsed(spark, source, schema)
    missing = [F.when(F.col(f"row.{quote_identifier(c)}").isNull(), F.lit(c)) for c in _required(schema)]
    columns = F.concat_ws(", ", *missing)
    malformed = F.col(f"row.{_CORRUPT}").isNotNull() | F.col("row").isNull()
    judged = parsed.withColumn(
        "reason",
        F.when(malformed, _malformed_reason(source))
        .when(columns != "", F.concat(F.lit("missing or null: "), columns))
        .otherwise(F.lit(None).cast("string")),
    )
    good = judged.where(F.col("reason").isNull()).select(*[F.col(f"row.{quote_identifier(c)}") for c in schema.names])
    bad = judged.where(F.col("reason").isNotNull()).select("file", "record", "reason")
    return good, bad


def _parsed(spark: SparkSession, source: Source, schema: StructType) -> DataFrame:
    """Columns ``file``, ``record`` (the text) and ``row`` (a struct of the schema and the corrupt record)."""
    from pyspark.sql import functions as F
    from pyspark.sql.types import StringType, StructType

    wide = StructType([*schema.fields]).add(_CORRUPT, StringType())
    places = [files.for_spark(path) for path in source.paths]
    options = {**source.options, "mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT}
    file = F.col("_metadata.file_path").alias("file")
    if source.format == "json":
        lines = spark.read.text(places).where(F.trim("value") != "")
        return lines.select(file, F.col("value").alias("record"), F.from_json("value", wide, options).alias("row"))
    # CSV needs its reader: a header, or a line break within quotes, is not seen from a single line.
    rows = spark.read.schema(wide).options(**options).option("columnPruning", "false").csv(places)
    row = F.struct(*[F.col(quote_identifier(name)) for name in wide.names])
    record = F.coalesce(F.col(_CORRUPT), F.to_csv(F.struct(*[F.col(quote_identifier(n)) for n in schema.names])))
    return rows.select(file, record.alias("record"), row.alias("row"))


def _malformed_reason(source: Source) -> Column:
    from pyspark.sql import functions as F

    wrong_type = F.lit("a value does not fit its column's type")
    if source.format == "csv":
        return F.lit("the number of values or a value's type does not fit the schema")
    return F.when(F.try_parse_json("record").isNull(), F.lit("not valid JSON")).otherwise(wrong_type)


def _require(frame: DataFrame, name: str, columns: Sequence[str]) -> DataFrame:
    """The frame, failing where a required column is null: a reader fills a missing one with null."""
    if not columns:
        return frame
    # As one text: built of Column objects it would take 0.1 s of calls to the JVM, for each branch of a fan-in.
    null = {column: f"{quote_identifier(column)} IS NULL" for column in columns}
    missing = ", ".join(f"IF({test}, {quote_literal(column)}, NULL)" for column, test in null.items())
    file, begin = "_metadata.file_path", quote_literal(f"{_MARK} [{name}] [")
    message = f"concat({begin}, {file}, '] missing or null: ', concat_ws(', ', {missing}))"
    wrong = " OR ".join(null.values())
    return frame.where(f"CASE WHEN {wrong} THEN raise_error({message}) ELSE CAST('true' AS BOOLEAN) END")


def as_missing_input(name: str, error: BaseException) -> MissingInput | None:
    """The missing file, folder or table that an error tells of, ``None`` when it tells of something else."""
    if isinstance(error, MissingInput):
        return error
    if isinstance(error, FileNotFoundError):
        return MissingInput(name, [str(error.filename or error)])
    found = re.search(r"\[(PATH_NOT_FOUND|DELTA_PATH_DOES_NOT_EXIST|DELTA_TABLE_NOT_FOUND)\]([^\n]*)", str(error))
    if not found:
        return None
    place = re.search(r"[\w+.-]+:/\S+?(?=[.,;]?(?:\s|$))", found[2])
    return MissingInput(name, [place[0] if place else found[2].strip()])


def as_bad_records(error: BaseException, sources: Mapping[str, Source], node: str = "") -> BadRecords | None:
    """The bad record that Spark's error tells of, ``None`` when it tells of something else.

    Args:
        error: What the action raised.
        sources: The sources that were read, by name, to find the one whose file it is.
        node: The node whose action raised, to be named where no source has the file.
    """
    text = str(error)
    ours = re.search(re.escape(_MARK) + r" \[(.*?)\] \[(.*?)\] ([^\n]*)", text)
    if ours:
        return BadRecords(ours[1], ours[2], ours[3].split(" SQLSTATE:")[0].strip())
    if "MALFORMED_RECORD_IN_PARSING" not in text and "MALFORMED_CSV_RECORD" not in text:
        return None
    file = re.search(r"(?:file|s3a?|gs|abfss?|hdfs)://?[^\s'\"]+?\.\w+(?=[\s.,'\"]|$)", text)
    place = file[0] if file else ""
    causes = re.findall(r"^Caused by: [\w.$]+: (.*)$", text, re.MULTILINE)
    return BadRecords(_name_of(place, sources, node), place, causes[-1] if causes else describe(error))


def _name_of(file: str, sources: Mapping[str, Source], node: str) -> str:
    inner = file.split(":", 1)[-1].lstrip("/")
    for name, source in sources.items():
        if any(f"{inner}/".startswith(path.split(":", 1)[-1].strip("/") + "/") for path in source.paths):
            return name
    return node if node in sources or not sources else ", ".join(sources)


def _required(schema: StructType) -> list[str]:
    return [f.name for f in schema.fields if not f.nullable]


def _columns(source: Source) -> StructType:
    """The schema; a DDL string is parsed by the session, so not before there is one."""
    from pyspark.sql.types import StructType

    if source.schema is None:
        raise ValueError(f"bad_records: quarantine needs a schema for {source.path}")
    if isinstance(source.schema, StructType):
        return source.schema
    parsed = StructType.fromDDL(source.schema)
    return parsed if isinstance(parsed, StructType) else StructType().add("value", parsed)
