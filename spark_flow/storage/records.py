"""Which records of a JSON or CSV source are by its schema: one way to parse and judge, whatever is done with bad ones.

``accept`` and ``split`` judge the same parsed frame, so ``fail`` raises exactly where ``quarantine`` sets aside. All
columns are parsed, and no filter reaches the reader: neither which columns are used nor which rows are wanted later
changes what is bad. JSON is read as text, since Spark's JSON reader stops after the first object of a line and says
nothing of the rest; Spark's own ``from_json`` parses it, so types and options mean what they mean to the reader.
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
_EXCERPT = 200  # characters of a bad record that an error shows
_KEPT = "spark_partition_id() >= 0"  # always true, and not deterministic: no filter is moved before the one that judges
_PERMISSIVE = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": _CORRUPT}
_REPLACED = "\ufffd"  # what Spark's CSV reader makes of bytes that are no text


@dataclass(frozen=True)
class Parsed:
    """Records, and how to judge them.

    Attributes:
        frame: The parsed records.
        columns: The columns of good ones, as SQL expressions by name.
        record: The record's text, a SQL expression.
        file: Where it is from, a SQL expression.
        bad: Whether it is not by the schema, a SQL expression; never null.
        reason: Why it is bad.
    """

    frame: DataFrame
    columns: Mapping[str, str]
    record: str
    file: str
    bad: str
    reason: Column


def accept(parsed: Parsed, name: str) -> DataFrame:
    """The good records; a bad one fails the action that meets it.

    Args:
        parsed: The records.
        name: What the error calls the source.
    """
    from pyspark.sql import functions as F

    begin = F.expr(f"concat({quote_literal(f'{MARK} [{name}] [')}, {parsed.file}, '] ')")
    shown = F.expr(f"left(translate({parsed.record}, '\\r\\n', '  '), {_EXCERPT})")
    message = F.concat(begin, parsed.reason, F.lit(": "), shown)
    return _good(parsed, F.raise_error(message).cast("boolean"))


def split(parsed: Parsed) -> tuple[DataFrame, DataFrame]:
    """The good records with the schema's columns, and the others: ``file: string, record: string, reason: string``."""
    from pyspark.sql import functions as F

    # Never true of a text; it names all columns of the record, so that all are parsed here as well.
    good = _good(parsed, F.expr(f"length({parsed.record}) < 0"))
    bad = parsed.frame.where(parsed.bad)
    place = (F.expr(parsed.file).alias("file"), F.expr(parsed.record).alias("record"))
    return good, bad.select(*place, parsed.reason.alias("reason"))


def _good(parsed: Parsed, of_bad: Column) -> DataFrame:
    from pyspark.sql import functions as F

    judged = parsed.frame.where(F.when(F.expr(parsed.bad), of_bad).otherwise(F.expr(_KEPT)))
    return judged.selectExpr(*(f"{value} AS {quote_identifier(name)}" for name, value in parsed.columns.items()))


def parse_csv(spark: SparkSession, paths: Sequence[str], schema: StructType, options: Mapping[str, str]) -> Parsed:
    """The records of CSV files; Spark's reader finds them, as a header or a line break in quotes needs.

    With a header, a file whose columns are others, or in another order, fails the action that reads it.
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
    """The records of JSON files: one object a line; with ``multiLine`` a file's object, or those of its array."""
    from pyspark.sql.types import StructType

    texts = _texts(spark, paths, schema, options)
    folders = [name for name in texts.columns if name not in (_FILE, _TEXT)]  # columns that are in the path
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
    """Lines, or whole files; beside them the columns that Spark finds in folders' names."""
    from pyspark.sql.types import StringType, StructField, StructType

    whole = str(is_true(options, "multiLine")).lower()
    reader = spark.read.format("text").options(**options).option("wholetext", whole)
    texts = reader.load(list(paths))
    folders = [name for name in texts.columns if name != "value"]
    if folders:  # of the types that the schema gives them: by default Spark reads 07 as a number
        declared = [field for field in schema.fields if field.name in folders]
        texts = reader.schema(StructType([StructField("value", StringType()), *declared])).load(list(paths))
    kind = encoding(options)
    value = "value" if kind == "UTF-8" else f"decode(CAST(value AS BINARY), '{kind}')"
    value = f"trim(LEADING '\ufeff' FROM {value})" if kind != "UTF-8" or is_true(options, "multiLine") else value
    return texts.selectExpr(f"_metadata.file_path AS {_FILE}", f"{value} AS {_TEXT}", *map(quote_identifier, folders))


def _lines(texts: DataFrame, fields: StructType, options: Mapping[str, str]) -> tuple[DataFrame, str, str, str]:
    """Each line within an array, with an end of ours: what is more or less than one object does not parse to two."""
    from pyspark.sql.types import ArrayType

    wrapped = f"""concat('{{"{_ROWS}":[', {_TEXT}, '\n,{{"{_END}":1}}]}}')"""
    frame = _parsed(texts, wrapped, ArrayType(_ended(fields)), options)
    broken = f"({_CORRUPT} IS NOT NULL OR size({_ROWS}) <> 2 OR get({_ROWS}, 1).{_END} IS NULL)"
    return frame, f"get({_ROWS}, 0)", _TEXT, broken


def _objects(texts: DataFrame, fields: StructType, options: Mapping[str, str]) -> tuple[DataFrame, str, str, str]:
    """The objects of whole files; a file that does not parse is one record."""
    from pyspark.sql.types import ArrayType

    array = f"btrim({_TEXT}, ' \t\r\n') LIKE '[%'"
    inner = f"IF({array}, {_TEXT}, concat('[', {_TEXT}, '\n]'))"
    wrapped = f"""concat('{{"{_ROWS}":[', {inner}, '\n,[{{"{_END}":1}}]]}}')"""
    frame = _parsed(texts, wrapped, ArrayType(ArrayType(_ended(fields))), options)
    rows = f"get({_ROWS}, 0)"
    broken = f"({_CORRUPT} IS NOT NULL OR size({_ROWS}) <> 2 OR get(get({_ROWS}, 1), 0).{_END} IS NULL)"
    broken = f"coalesce({broken} OR {rows} IS NULL, true)"
    kept = [quote_identifier(name) for name in texts.columns]
    each = f"explode(IF({broken}, array(get({rows}, -1)), {rows})) AS {_ROW}"
    frame = frame.selectExpr(*kept, f"{broken} AS {_CORRUPT}", each)
    return frame, _ROW, f"IF({_CORRUPT}, {_TEXT}, coalesce(to_json({_ROW}), 'null'))", _CORRUPT


def _parsed(texts: DataFrame, wrapped: str, kind: DataType, options: Mapping[str, str]) -> DataFrame:
    """Columns ``_ROWS`` and ``_CORRUPT`` beside each text that holds anything.

    A generator, so that Spark parses once for all uses. Blank texts go in it as well: each further step of a plan costs
    a branch about 40 ms before the first row.
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
    """Options of the parser, without those of how a file is cut into records. Not empty: then Spark prunes fields."""
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
    """Which columns that are NOT NULL hold a null."""
    named = ", ".join(f"IF({test}, {quote_literal(name)}, NULL)" for test, name in nulls)
    return f"concat('missing or null: ', concat_ws(', ', {named or 'NULL'}))"


def require(frame: DataFrame, name: str, schema: StructType) -> DataFrame:
    """The frame, failing where a column that the schema declares NOT NULL is null: Spark's readers do not check it."""
    nulls = list(_nulls(schema, {field: quote_identifier(field) for field in schema.names}))
    if not nulls:
        return frame
    begin = quote_literal(f"{MARK} [{name}] [")
    message = f"concat({begin}, _metadata.file_path, '] ', {_missing(nulls)})"
    bad = " OR ".join(test for test, _ in nulls)
    return frame.where(f"CASE WHEN {bad} THEN raise_error({message}) ELSE CAST('true' AS BOOLEAN) END")


def _nulls(schema: StructType, columns: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Tests of nulls where the schema declares NOT NULL, and what to call each: ``trip.fare``, ``stops[].at``."""
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
