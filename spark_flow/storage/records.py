"""Check the records of a JSON or CSV source by its schema, in the same way whatever is done with bad records.

``accept`` and ``split`` check the same parsed frame, so ``fail`` raises exactly where ``quarantine`` sets aside. All
columns are parsed, and no filter is pushed down to the reader: which records are bad does not depend on the columns
and rows that are selected later. JSON is read as text, since Spark's JSON reader silently ignores what follows the
first object of a line; Spark's own ``from_json`` parses it, so types and options have the reader's meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_flow.core.names import quote_identifier, quote_literal
from spark_flow.storage.reading import encoding, given, is_true

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession
    from pyspark.sql.types import DataType, StructType

MARK = "spark_flow bad record"

_FILE, _TEXT = "_spark_flow_file", "_spark_flow_text"
_ROWS, _ROW, _CORRUPT, _END = "_spark_flow_rows", "_spark_flow_row", "_spark_flow_corrupt", "_spark_flow_end"
_EXCERPT = 200  # characters of a bad record shown in an error
_BARRIER = "spark_partition_id() >= 0"  # always true and non-deterministic: no filter is moved before the check
_PERMISSIVE = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT}
_REPLACED = "\ufffd"  # what Spark's CSV reader puts in place of undecodable bytes


@dataclass(frozen=True)
class Parsed:
    """Parsed records, and how to check them.

    Attributes:
        frame: The parsed records.
        columns: The columns of good records, as SQL expressions by name.
        record: SQL expression: the record's text.
        file: SQL expression: the file that the record is from.
        bad: SQL expression: whether the record does not match the schema; never null.
        reason: Why the record is bad.
    """

    frame: DataFrame
    columns: Mapping[str, str]
    record: str
    file: str
    bad: str
    reason: Column


def accept(parsed: Parsed, name: str) -> DataFrame:
    """Return the good records; a bad one fails the action that reads it.

    Args:
        parsed: The records.
        name: The source's name in the error.
    """
    from pyspark.sql import functions as F

    begin = F.expr(f"concat({quote_literal(f'{MARK} [{name}] [')}, {parsed.file}, '] ')")
    shown = F.expr(f"left(translate({parsed.record}, '\\r\\n', '  '), {_EXCERPT})")
    message = F.concat(begin, parsed.reason, F.lit(": "), shown)
    return _good(parsed, F.raise_error(message).cast("boolean"))


def split(parsed: Parsed) -> tuple[DataFrame, DataFrame]:
    """Return the good records with the schema's columns, and the bad ones: ``file, record, reason``, all strings."""
    from pyspark.sql import functions as F

    # Never true for a text; it refers to all columns of the record, so that all are parsed here as well.
    good = _good(parsed, F.expr(f"length({parsed.record}) < 0"))
    bad = parsed.frame.where(parsed.bad)
    origin = (F.expr(parsed.file).alias("file"), F.expr(parsed.record).alias("record"))
    return good, bad.select(*origin, parsed.reason.alias("reason"))


def _good(parsed: Parsed, of_bad: Column) -> DataFrame:
    from pyspark.sql import functions as F

    judged = parsed.frame.where(F.when(F.expr(parsed.bad), of_bad).otherwise(F.expr(_BARRIER)))
    return judged.selectExpr(*(f"{value} AS {quote_identifier(name)}" for name, value in parsed.columns.items()))


def parse_csv(spark: SparkSession, paths: Sequence[str], schema: StructType, options: Mapping[str, str]) -> Parsed:
    """Parse CSV files; Spark's reader finds the records, because of headers and quoted line breaks.

    With a header, a file with other columns, or with another order of columns, fails the action that reads it.
    """
    from pyspark.sql import functions as F
    from pyspark.sql.types import CharType, StringType, StructField, StructType, VarcharType

    wide = StructType([*schema.fields, StructField(_CORRUPT, StringType())])
    checked = {"enforceSchema": "false"} if is_true(options, "header") else {}
    rows = spark.read.schema(wide).options(**options).options(**checked, **_PERMISSIVE, columnPruning="false")
    frame = rows.format("csv").load(list(paths))
    columns = {name: quote_identifier(name) for name in frame.columns if name != _CORRUPT}
    sep = given(options, "sep", "delimiter") or ","
    written = f"to_csv(struct({', '.join(columns.values())}), map('sep', {quote_literal(sep)}))"
    record = f"coalesce({_CORRUPT}, {written}, '')"
    texts = [f.name for f in schema.fields if isinstance(f.dataType, StringType | CharType | VarcharType)]
    undecoded = [f"coalesce(contains({quote_identifier(name)}, '{_REPLACED}'), false)" for name in texts]
    nulls = list(_nulls(schema, columns))
    bad = " OR ".join([f"{_CORRUPT} IS NOT NULL", *undecoded, *(test for test, _ in nulls)])
    reason = F.expr(
        f"CASE WHEN contains({record}, '{_REPLACED}') THEN 'not valid UTF-8' WHEN {_CORRUPT} IS NOT NULL "
        f"THEN 'the number of values or a value\\'s type does not fit the schema' ELSE {_missing(nulls)} END"
    )
    return Parsed(frame, columns, record, "_metadata.file_path", bad, reason)


def parse_json(spark: SparkSession, paths: Sequence[str], schema: StructType, options: Mapping[str, str]) -> Parsed:
    """Parse JSON files: one object per line; with ``multiLine`` a file's object, or the objects of its array."""
    from pyspark.sql.types import StructType

    texts = _texts(spark, paths, schema, options)
    folders = [name for name in texts.columns if name not in (_FILE, _TEXT)]  # columns from the path
    fields = StructType([field for field in schema.fields if field.name not in folders])
    parsed = _objects(texts, fields, options) if is_true(options, "multiLine") else _lines(texts, fields, options)
    frame, row, record, broken = parsed
    columns = {name: f"{row}.{quote_identifier(name)}" for name in fields.names}
    columns |= {name: quote_identifier(name) for name in folders}
    nulls = list(_nulls(schema, columns))
    bad = " OR ".join([broken, f"NOT is_valid_utf8({_TEXT})", f"{row} IS NULL", *(test for test, _ in nulls)])
    reason = _json_reason(f"{broken} OR {row} IS NULL", record, fields, options, nulls)
    return Parsed(frame, columns, record, _FILE, f"coalesce({bad}, true)", reason)


def _texts(spark: SparkSession, paths: Sequence[str], schema: StructType, options: Mapping[str, str]) -> DataFrame:
    """Read lines, or whole files, with the columns that Spark finds in folder names."""
    from pyspark.sql.types import StringType, StructField, StructType

    whole = str(is_true(options, "multiLine")).lower()
    reader = spark.read.format("text").options(**options).option("wholetext", whole)
    texts = reader.load(list(paths))
    folders = [name for name in texts.columns if name != "value"]
    if folders:  # with the schema's types: by default Spark reads 07 as a number
        declared = [field for field in schema.fields if field.name in folders]
        texts = reader.schema(StructType([StructField("value", StringType()), *declared])).load(list(paths))
    kind = encoding(options)
    value = "value" if kind == "UTF-8" else f"decode(CAST(value AS BINARY), '{kind}')"
    value = f"trim(LEADING '\ufeff' FROM {value})" if kind != "UTF-8" or is_true(options, "multiLine") else value
    return texts.selectExpr(f"_metadata.file_path AS {_FILE}", f"{value} AS {_TEXT}", *map(quote_identifier, folders))


def _lines(texts: DataFrame, fields: StructType, options: Mapping[str, str]) -> tuple[DataFrame, str, str, str]:
    """Parse each line within an array, followed by an end marker: only exactly one object gives two elements."""
    from pyspark.sql.types import ArrayType

    wrapped = f"""concat('{{"{_ROWS}":[', {_TEXT}, '\n,{{"{_END}":1}}]}}')"""
    frame = _parsed(texts, wrapped, ArrayType(_ended(fields)), options)
    broken = f"({_CORRUPT} IS NOT NULL OR size({_ROWS}) <> 2 OR get({_ROWS}, 1).{_END} IS NULL)"
    return frame, f"get({_ROWS}, 0)", _TEXT, broken


def _objects(texts: DataFrame, fields: StructType, options: Mapping[str, str]) -> tuple[DataFrame, str, str, str]:
    """Parse the objects of whole files; a file that does not parse is one bad record."""
    from pyspark.sql.types import ArrayType

    array = f"btrim({_TEXT}, ' \t\r\n') LIKE '[%'"
    inner = f"IF({array}, {_TEXT}, concat('[', {_TEXT}, '\n]'))"
    wrapped = f"""concat('{{"{_ROWS}":[', {inner}, '\n,[{{"{_END}":1}}]]}}')"""
    frame = _parsed(texts, wrapped, ArrayType(ArrayType(_ended(fields))), options)
    rows = f"get({_ROWS}, 0)"
    broken = f"({_CORRUPT} IS NOT NULL OR size({_ROWS}) <> 2 OR get(get({_ROWS}, 1), 0).{_END} IS NULL)"
    broken = f"coalesce({broken} OR {rows} IS NULL, true)"
    given = [quote_identifier(name) for name in texts.columns]
    each = f"explode(IF({broken}, array(get({rows}, -1)), {rows})) AS {_ROW}"
    frame = frame.selectExpr(*given, f"{broken} AS {_CORRUPT}", each)
    return frame, _ROW, f"IF({_CORRUPT}, {_TEXT}, coalesce(to_json({_ROW}), 'null'))", _CORRUPT


def _parsed(texts: DataFrame, wrapped: str, kind: DataType, options: Mapping[str, str]) -> DataFrame:
    """Add the columns ``_ROWS`` and ``_CORRUPT`` to each text that is not blank.

    A generator makes Spark parse once for all uses. It also removes blank texts, because each additional step of a plan
    costs a branch about 40 ms before the first row.
    """
    from pyspark.sql import functions as F
    from pyspark.sql.types import StringType, StructType

    wide = StructType().add(_ROWS, kind).add(_CORRUPT, StringType())
    found = F.from_json(F.expr(wrapped), wide, _of_parser(options))
    return texts.select("*", F.inline(F.when(F.expr(f"btrim({_TEXT}, ' \t\r\n') <> ''"), F.array(found))))


def _ended(fields: StructType) -> StructType:
    from pyspark.sql.types import IntegerType, StructField, StructType

    return StructType([*fields.fields, StructField(_END, IntegerType())])


def _of_parser(options: Mapping[str, str]) -> dict[str, str]:
    """Return the parser's options, without those that split records. Never empty, or Spark would prune fields."""
    of_file = {"multiline", "linesep", "encoding", "charset"}
    return {name: value for name, value in options.items() if name.lower() not in of_file} | _PERMISSIVE


def _json_reason(
    malformed: str, record: str, fields: StructType, options: Mapping[str, str], nulls: Sequence[tuple[str, str]]
) -> Column:
    from pyspark.sql import functions as F
    from pyspark.sql.types import StringType, StructField, StructType

    text = F.expr(record)
    alone = F.from_json(text, StructType([*fields.fields, StructField(_CORRUPT, StringType())]), _of_parser(options))
    how = (
        F.when(F.expr(f"try_parse_json({record}) IS NULL"), F.lit("not valid JSON"))
        .when(F.expr(f"ltrim({record}) LIKE '[%'"), F.lit("an array, expected an object"))
        .when(F.expr(f"ltrim({record}) NOT LIKE '{{%'"), F.lit("expected an object"))
        .when(alone.getField(_CORRUPT).isNull(), F.lit("text after the first JSON object"))
        .otherwise(F.lit("a value does not fit its column's type"))
    )
    reason = F.when(F.expr(f"NOT is_valid_utf8({_TEXT})"), F.lit("not valid UTF-8"))
    return reason.when(F.expr(malformed), how).otherwise(F.expr(_missing(nulls)))


def _missing(nulls: Sequence[tuple[str, str]]) -> str:
    """Return SQL that lists the NOT NULL columns that hold a null."""
    named = ", ".join(f"IF({test}, {quote_literal(name)}, NULL)" for test, name in nulls)
    return f"concat('missing or null: ', concat_ws(', ', {named or 'NULL'}))"


def require(frame: DataFrame, name: str, schema: StructType) -> DataFrame:
    """Return the frame with a check that fails at a null in a NOT NULL column; Spark's readers do not check it."""
    nulls = list(_nulls(schema, {field: quote_identifier(field) for field in schema.names}))
    if not nulls:
        return frame
    begin = quote_literal(f"{MARK} [{name}] [")
    message = f"concat({begin}, _metadata.file_path, '] ', {_missing(nulls)})"
    bad = " OR ".join(test for test, _ in nulls)
    return frame.where(f"CASE WHEN {bad} THEN raise_error({message}) ELSE CAST('true' AS BOOLEAN) END")


def _nulls(schema: StructType, columns: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield a test for each null that the schema forbids, and the name to report: ``trip.fare``, ``stops[].at``."""
    for field in schema.fields:
        yield from _of_field(columns[field.name], field.dataType, field.name, nullable=field.nullable)


def _of_field(value: str, kind: DataType, name: str, *, nullable: bool) -> Iterator[tuple[str, str]]:
    if not nullable:
        yield f"{value} IS NULL", name
    for test, inner in _within(value, kind, name):
        yield f"({value} IS NOT NULL AND {test})", inner


def _within(value: str, kind: DataType, name: str) -> Iterator[tuple[str, str]]:
    from pyspark.sql.types import ArrayType, MapType, StructType

    if isinstance(kind, StructType):
        for field in kind.fields:
            at = f"{value}.{quote_identifier(field.name)}"
            yield from _of_field(at, field.dataType, f"{name}.{field.name}", nullable=field.nullable)
    if isinstance(kind, ArrayType):
        yield from _of_each(value, kind.elementType, name, nullable=kind.containsNull)
    if isinstance(kind, MapType):
        yield from _of_each(f"map_values({value})", kind.valueType, name, nullable=kind.valueContainsNull)


def _of_each(values: str, kind: DataType, name: str, *, nullable: bool) -> Iterator[tuple[str, str]]:
    each = f"_spark_flow_each{name.count('[]')}"
    for test, inner in _of_field(each, kind, f"{name}[]", nullable=nullable):
        yield f"exists({values}, {each} -> {test})", inner
