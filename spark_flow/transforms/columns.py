"""Column checks shared by the transforms that combine frames."""

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
    # Classic and Connect frames share no base class that is cheap to import; both have these attributes.
    return hasattr(value, "schema") and hasattr(value, "sparkSession")


def check_frame(name: str, value: Any) -> None:
    """Check that a value is a DataFrame.

    Raises:
        NotADataFrame: The value is something else.
    """
    if not is_frame(value):
        raise NotADataFrame(name, value)


def named(frames: Mapping[str, DataFrame] | Sequence[DataFrame]) -> dict[str, DataFrame]:
    """Return frames by name; frames of a sequence are named by their position."""
    return dict(frames) if isinstance(frames, Mapping) else {str(at): frame for at, frame in enumerate(frames)}


def folding(spark: SparkSession) -> Fold:
    """Return how a session compares names: ``str``, or ``str.lower`` if case does not count (the default)."""
    sensitive = str(spark.conf.get("spark.sql.caseSensitive", "false")).lower() == "true"
    return str if sensitive else str.lower


def unique_columns(branch: str, names: Sequence[str], fold: Fold) -> None:
    """Check that a frame does not have two columns of the same name.

    Raises:
        AmbiguousColumns: Two columns have the same name.
    """
    folded = [fold(name) for name in names]
    if len(set(folded)) < len(folded):
        raise AmbiguousColumns(branch, sorted({name for name in names if folded.count(fold(name)) > 1}))


def same_type(one: DataType, other: DataType) -> bool:
    """Whether two types are equal, ignoring nullability at any depth."""
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
