"""What a frame holds: its number of rows, and a hash of them that does not depend on their order.

Both are measured while the frame is written (``observed``), so that no second pass is needed, or by a pass of their
own over what was written (``measured``). The hash is Spark's ``xxhash64`` of each row, combined by XOR and by a sum:
https://spark.apache.org/docs/latest/api/sql/#xxhash64
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_flow.core.names import quote_identifier

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import Column, DataFrame, Observation
    from pyspark.sql.types import DataType, StructType

# As text in JSON, nested values keep what a hash of them would pass over: which of them is NULL, and maps.
_EXACT = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
    "timeZone": "UTC",
}
_PATIENCE = 60.0  # seconds; the report comes within milliseconds after the action's end
_LOW_BITS = (1 << 28) - 1  # of each hash: their sum fits a BIGINT for 3e10 rows


@dataclass(frozen=True)
class Content:
    """What a frame holds.

    Attributes:
        rows: The number of rows.
        hash: Equal for equal rows in any order.
    """

    rows: int
    hash: str


def observed(frame: DataFrame) -> tuple[DataFrame, Callable[[], Content]]:
    """The frame, measured by the one action that it is used in.

    Returns:
        The frame to use, and a function that gives its content once the action has ended well. It raises
        ``TimeoutError`` when Spark does not report: of a write that Delta dropped it never does.
    """
    from pyspark.sql import Observation

    observation = Observation()
    watched = frame.observe(observation, *_measures(frame.schema))
    return watched, lambda: _content(_reported(observation))


def _reported(observation: Observation) -> Mapping[str, Any]:
    """What was observed; by a thread, since the call itself waits for ever where the frame was not computed."""
    found: list[Mapping[str, Any]] = []
    waiting = threading.Thread(target=lambda: found.append(observation.get), daemon=True)
    waiting.start()
    waiting.join(_PATIENCE)
    if not found:
        raise TimeoutError(f"Spark did not report the rows of a write within {_PATIENCE:.0f} s")
    return found[0]


def measured(frame: DataFrame) -> Content:
    """The content of a frame, by a Spark job of its own."""
    row = frame.agg(*_measures(frame.schema)).first()
    return _content(row.asDict() if row is not None else {})


def _measures(schema: StructType) -> list[Column]:
    from pyspark.sql import functions as F

    # By name: a table may hold its columns in another order than the frame that was written to it.
    fields = sorted(schema.fields, key=lambda field: (field.name.lower(), field.name))
    columns = [_hashable(F.col(quote_identifier(field.name)), field.dataType) for field in fields]
    # A hash passes over NULL: without the flags, (NULL, 'a') and ('a', NULL) would be the same row.
    hash_ = F.xxhash64(*columns, *[column.isNull() for column in columns])
    return [
        F.count(F.lit(1)).alias("rows"),
        F.bit_xor(hash_).alias("xor"),
        F.sum(hash_.bitwiseAND(_LOW_BITS)).alias("sum"),
    ]


def _hashable(column: Column, kind: DataType) -> Column:
    from pyspark.sql import functions as F
    from pyspark.sql.types import ArrayType, MapType, StructType, VariantType

    nested = isinstance(kind, ArrayType | MapType | StructType | VariantType)
    return F.to_json(F.struct(column.alias("value")), _EXACT) if nested else column


def _content(values: Mapping[str, Any]) -> Content:
    rows = int(values.get("rows") or 0)
    digits = [int(values.get(name) or 0) for name in ("xor", "sum")]
    return Content(rows, f"{digits[0] & (1 << 64) - 1:016x}{digits[1]:x}")
