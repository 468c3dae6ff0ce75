"""The rows of a key: the predicate that replaces them, and the check that a frame holds no others.

Delta checks ``replaceWhere`` only if the table already exists, so every write checks its own rows, in the same pass.
A key column of type TIMESTAMP holds an instant. Which instant a key stands for depends on the session's time zone, so
the session that writes resolves it once, and it is recorded.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_flow.core.names import quote_identifier, quote_literal
from spark_flow.errors import InvalidArgument, MissingColumns, OtherTimeZone, OutsideKey, is_of_plan

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

_MARK = "spark_flow: outside of the key: "
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - its text gets a Z


@dataclass(frozen=True, kw_only=True)
class KeyRows:
    """The rows of one key.

    Attributes:
        predicate: SQL that is true for these rows only; Spark and ``deltalake`` interpret it alike.
        column: The column that holds the key; empty if a user's predicate selects the rows.
        value: The key's value in that column if it is a time, in ISO 8601; an instant is in UTC and ends with ``Z``.
        zone: The session's time zone, if the value depends on it.
    """

    predicate: str
    column: str = ""
    value: str = ""
    zone: str = ""

    def check_zone(self, node: str, key: str, written: object) -> None:
        """Check that the key stands for the same instant as in an earlier write.

        Args:
            node: The node that writes.
            key: The key.
            written: The value that an earlier write recorded, if there was one.

        Raises:
            OtherTimeZone: It is another instant.
        """
        if self.zone and written and written != self.value:
            raise OtherTimeZone(node, key, str(written), self.value, self.zone)


def of_predicate(predicate: str) -> KeyRows:
    """Return the rows that a user's predicate selects."""
    return KeyRows(predicate=predicate)


def of_column(frame: DataFrame, column: str, node: str, key: str) -> KeyRows:
    """Return the rows whose column equals the key, compared by the column's type in a frame.

    Raises:
        InvalidArgument: The key is not a value of the column's type.
        MissingColumns: The frame has no such column.
    """
    kind = _type_of(frame, column, node)
    if kind not in ("timestamp", "timestamp_ntz"):
        return KeyRows(predicate=column_is(column, key), column=column)
    value = _resolve(frame, kind, key)
    if not value:
        raise InvalidArgument(f"{node}: key for column {column!r}", repr(key), f"a {kind}, for example 2013-01-02T05")
    zone = str(frame.sparkSession.conf.get("spark.sql.session.timeZone")) if kind == "timestamp" else ""
    return KeyRows(predicate=column_is(column, key, value), column=column, value=value, zone=zone)


def column_is(column: str, key: str, value: str = "") -> str:
    """Return SQL for "the column equals the key"; ``value`` is the key's value if it is a time."""
    return f"{quote_identifier(column)} = {f'TIMESTAMP {value!r}' if value else quote_literal(key)}"


def is_key(column: str, key: str, value: str = "") -> Column:
    """Return the condition of ``column_is`` as a column expression, without building SQL from the values."""
    from pyspark.sql import functions as F

    held = F.col(quote_identifier(column))
    if not value:
        return held == key
    return held == F.lit(value).cast("timestamp" if value.endswith("Z") else "timestamp_ntz")


def _type_of(frame: DataFrame, column: str, node: str) -> str:
    found = [field for field in frame.schema.fields if field.name.lower() == column.lower()]
    if not found:
        raise MissingColumns(node, [column], frame.columns)
    return found[0].dataType.simpleString()


def _resolve(frame: DataFrame, kind: str, key: str) -> str:
    """Return the time that the frame's session parses from the key; empty if the key is not a time."""
    # Not with spark.sql's args: Delta's extension does not bind them.
    spark, text = frame.sparkSession, quote_literal(key)
    if kind == "timestamp_ntz":
        row = spark.sql(f"SELECT CAST(try_cast({text} AS TIMESTAMP_NTZ) AS STRING)").first()
        return str(row[0]).replace(" ", "T") if row is not None and row[0] is not None else ""
    row = spark.sql(f"SELECT unix_micros(try_cast({text} AS TIMESTAMP))").first()
    if row is None or row[0] is None:
        return ""
    return f"{(_EPOCH + dt.timedelta(microseconds=row[0])).isoformat()}Z"


def only(frame: DataFrame, rows: KeyRows) -> DataFrame:
    """Return the frame with a check that fails the action at a row outside of the key; NULL is outside.

    The check needs no extra pass, and costs nothing if Spark can prove it from the plan.
    """
    shown = [rows.column] if rows.column else named_in(rows.predicate, frame.columns)
    values = [
        f"concat({quote_literal(f'{name}=')}, coalesce(CAST({quote_identifier(name)} AS STRING), 'NULL'))"
        for name in shown
    ]
    message = f"concat({quote_literal(_MARK)}, concat_ws(', ', {', '.join(values) or repr('a row')}))"
    return frame.where(f"CASE WHEN {rows.predicate} THEN CAST('true' AS BOOLEAN) ELSE raise_error({message}) END")


def named_in(predicate: str, columns: list[str]) -> list[str]:
    """Return the columns whose names occur in a predicate."""
    return [name for name in columns if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", predicate, re.IGNORECASE)]


def as_outside_key(error: BaseException, node: str, key: str) -> OutsideKey | None:
    """Return the row outside of the key that Spark's error reports; ``None`` if it reports something else."""
    if is_of_plan(error):
        return None
    found = re.search(re.escape(_MARK) + r"(.*?)(?: SQLSTATE: \w+|\n\tat |$)", str(error), re.DOTALL)
    return OutsideKey(node, key, [found[1].strip()]) if found else None
