"""Completeness as a column of a frame (the book's section 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spark_flow.core.names import quote_identifier
from spark_flow.errors import ColumnClash, MissingColumns, NoBranches
from spark_flow.transforms.columns import check_frame, folding

if TYPE_CHECKING:
    from collections.abc import Collection

    from pyspark.sql import DataFrame

IS_APPROXIMATE = "is_approximate"


def with_completeness(
    frame: DataFrame,
    expected: Collection[Any],
    by: str | None = None,
    *,
    arrived: Collection[Any] | None = None,
    column: str = IS_APPROXIMATE,
) -> DataFrame:
    """Add a column ``is_approximate: boolean``, which is false on every row if all expected branches arrived.

    The arrived branches are either read from the rows (``by``) or passed in (``arrived``).

    >>> hours = with_completeness(hours, expected=range(5, 24), by="hour")  # doctest: +SKIP
    >>> cube = with_completeness(cube, hours.expected, arrived=hours.arrived)  # doctest: +SKIP

    Args:
        frame: Any frame.
        expected: The branches that should be there, as values of the column ``by``.
        by: The column that names a row's branch. The frame is read twice, and a branch without rows is missing.
        arrived: The branches that arrived. The frame is read once, and a branch without rows can have arrived.
        column: The new column's name.

    Raises:
        NoBranches: ``expected`` is empty.
        NotADataFrame: ``frame`` is not a DataFrame.
        ColumnClash: The frame already has a column of this name.
        MissingColumns: The frame has no column ``by``.
        TypeError: Not exactly one of ``by`` and ``arrived`` was given.
    """
    from pyspark.sql import functions as F

    check_frame("frame", frame)
    if (by is None) == (arrived is None):
        raise TypeError("with_completeness takes exactly one of by= and arrived=")
    if not expected:
        raise NoBranches("with_completeness")
    fold = folding(frame.sparkSession)
    if fold(column) in {fold(name) for name in frame.columns}:
        raise ColumnClash({column: ["frame", "with_completeness"]})
    if by is None:
        return frame.withColumn(column, F.lit(not set(expected) <= set(arrived or ())))
    if fold(by) not in {fold(name) for name in frame.columns}:
        raise MissingColumns("frame", [by], frame.columns)
    branch = F.col(quote_identifier(by))
    found = frame.where(branch.isin(list(expected))).agg(F.count_distinct(branch).alias("found"))
    flag = found.select((F.col("found") < len(set(expected))).alias(column))
    return frame.crossJoin(F.broadcast(flag))
