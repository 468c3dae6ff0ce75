"""Whether a frame holds all that it should: completeness as a column (the book's section 3.2)."""

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
    """The frame with a column ``is_approximate: boolean``, false on every row if all expected branches arrived.

    What arrived is read from the rows, by the column that names each row's branch, or is told.

    >>> hours = with_completeness(hours, expected=range(5, 24), by="hour")  # doctest: +SKIP
    >>> cube = with_completeness(cube, hours.expected, arrived=hours.arrived)  # doctest: +SKIP

    Args:
        frame: Any frame.
        expected: The branches that should be there, as values of the column ``by``.
        by: The column that names a row's branch. The frame is then read twice; a branch without rows is missing.
        arrived: The branches that arrived; the frame is read once, and an empty branch has arrived.
        column: The new column's name.

    Raises:
        NoBranches: Nothing is expected.
        NotADataFrame: The frame is something else.
        ColumnClash: The frame has such a column already.
        MissingColumns: There is no column ``by``.
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
