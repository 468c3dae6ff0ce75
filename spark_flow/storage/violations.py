"""Convert Delta's errors about rows that violate a constraint of a table.

https://docs.delta.io/latest/delta-constraints.html
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

from spark_flow.errors import ConstraintViolated

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

_CHECK = re.compile(r"CHECK constraint (\S+) (\(.*\)) violated by row with values:\n((?: - .*\n?)*)")
_NOT_NULL = re.compile(r"NOT NULL constraint violated for column: (\S+?)\.\s")


def as_violation(error: BaseException, node: str, path: str, schema: StructType) -> ConstraintViolated | None:
    """Return the constraint that Delta's error reports; ``None`` if it reports something else."""
    text = str(error)
    check = _CHECK.search(text)
    if check:
        pairs = [line.removeprefix(" - ").partition(" : ") for line in check[3].splitlines()]
        kinds = {field.name: field.dataType.typeName() for field in schema.fields}
        values = {name: _shown(value, kinds.get(name, "")) for name, _, value in pairs}
        return ConstraintViolated(node, path, f"CHECK {check[1]} {check[2]}", values)
    null = _NOT_NULL.search(f"{text} ")
    return ConstraintViolated(node, path, f"NOT NULL {null[1]}", {}) if null else None


def _shown(value: str, kind: str) -> str:
    """Format a value for people: Delta reports dates in days and timestamps in microseconds since 1970."""
    if not re.fullmatch(r"-?\d+", value):
        return value
    if kind == "date":
        return (dt.date(1970, 1, 1) + dt.timedelta(days=int(value))).isoformat()
    if kind == "timestamp":
        return (dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(microseconds=int(value))).isoformat()
    return value
