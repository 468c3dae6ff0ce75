"""Content of a frame: its number of rows, and a hash of them that does not depend on their order.

Both are measured while the frame is written (``observed``), without a second pass, or by a separate pass over what was
written (``measured``). The hash is Spark's ``xxhash64`` of each row, combined by XOR and by a sum:
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

# Nested values are hashed as JSON text, because xxhash64 skips NULL fields and does not accept maps.
_EXACT = {
    "ignoreNullFields": "false",
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
    "timeZone": "UTC",
}
_PATIENCE = 60.0  # seconds; Spark reports within milliseconds after the end of the action
_LOW_BITS = (1 << 28) - 1  # of each hash: their sum fits a BIGINT for 3e10 rows


@dataclass(frozen=True)
class Content:
    """The content of a frame.

    Attributes:
        rows: The number of rows.
        hash: Equal for equal rows in any order.
    """

    rows: int
    hash: str


def observed(frame: DataFrame) -> tuple[DataFrame, Callable[[], Content]]:
    """Return a frame that is measured by the one action that uses it.

    Returns:
        The frame to use, and a function that returns its content once the action has succeeded. It raises
        ``TimeoutError`` if Spark does not report, as for a write that Delta dropped.
    """
    from pyspark.sql import Observation

    observation = Observation()
    watched = frame.observe(observation, *_measures(frame.schema))
    return watched, lambda: _content(reported(observation))


def reported(observation: Observation) -> Mapping[str, Any]:
    """Return what was observed; in a thread, since the call blocks forever if the frame was not computed."""
    found: list[Mapping[str, Any]] = []
    waiting = threading.Thread(target=lambda: found.append(observation.get), daemon=True)
    waiting.start()
    waiting.join(_PATIENCE)
    if not found:
        raise TimeoutError(f"Spark did not report the rows of a write within {_PATIENCE:.0f} s")
    return found[0]


def measured(frame: DataFrame) -> Content:
    """Return the content of a frame, measured by a Spark job of its own."""
    row = frame.agg(*_measures(frame.schema)).first()
    return _content(row.asDict() if row is not None else {})


def _measures(schema: StructType) -> list[Column]:
    from pyspark.sql import functions as F

    # Sorted by name: a table's columns may be in another order than those of the frame that was written to it.
    fields = sorted(schema.fields, key=lambda field: (field.name.lower(), field.name))
    columns = [_hashable(F.col(quote_identifier(field.name)), field.dataType) for field in fields]
    # xxhash64 skips NULL: without the flags, (NULL, 'a') and ('a', NULL) would have the same hash.
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
