"""What the transforms over several frames ask of their columns."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from spark_flow.errors import AmbiguousColumns, NotADataFrame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import DataType
    from typing_extensions import TypeIs

Fold = Callable[[str], str]


def is_frame(value: Any) -> TypeIs[DataFrame]:
    """Whether a value is a DataFrame."""
    # Classic and Connect frames share no importable base that is cheap to load; both can do this.
    return hasattr(value, "schema") and hasattr(value, "sparkSession")


def check_frame(name: str, value: Any) -> None:
    """Refuse what is no DataFrame.

    Raises:
        NotADataFrame: See above.
    """
    if not is_frame(value):
        raise NotADataFrame(name, value)


def named(frames: Mapping[str, DataFrame] | Sequence[DataFrame]) -> dict[str, DataFrame]:
    """Frames by name; those that have none are named by their place."""
    return dict(frames) if isinstance(frames, Mapping) else {str(at): frame for at, frame in enumerate(frames)}


def folding(spark: SparkSession) -> Fold:
    """How a session compares names: ``str``, or ``str.lower`` where case does not count (the default)."""
    sensitive = str(spark.conf.get("spark.sql.caseSensitive", "false")).lower() == "true"
    return str if sensitive else str.lower


def unique_columns(branch: str, names: Sequence[str], fold: Fold) -> None:
    """Refuse a frame in which a name stands for two columns.

    Raises:
        AmbiguousColumns: See above.
    """
    folded = [fold(name) for name in names]
    if len(set(folded)) < len(folded):
        raise AmbiguousColumns(branch, sorted({name for name in names if folded.count(fold(name)) > 1}))


def same_type(one: DataType, other: DataType) -> bool:
    """Whether two types are the same but for nullability, at any depth."""
    if type(one) is not type(other):
        return False
    return one == other or _without_nullability(one) == _without_nullability(other)


def _without_nullability(kind: DataType) -> Any:
    return _strip(json.loads(kind.json()))


def _strip(value: Any) -> Any:
    ignored = ("nullable", "containsNull", "valueContainsNull", "metadata")
    if isinstance(value, dict):
        return {key: _strip(inner) for key, inner in value.items() if key not in ignored}
    return [_strip(inner) for inner in value] if isinstance(value, list) else value
