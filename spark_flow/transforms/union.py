"""Stack frames: the vertical fan-in (the book's section 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark_flow.core.names import quote_identifier
from spark_flow.errors import MissingColumns, NoBranches, TypeConflict
from spark_flow.transforms.columns import check_frame, folding, named, same_type, unique_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType, StructType

_UNION_PARTITIONING = "spark.sql.unionOutputPartitioning"


def union_by_name(
    frames: Mapping[str, DataFrame] | Sequence[DataFrame], *, allow_missing_columns: bool = False
) -> DataFrame:
    """Return all rows of all frames, with columns matched by name, in the order and spelling of the first frame.

    Names are compared as the session does (case-insensitively by default). Types must be equal; only nullability may
    differ. Lazy: no Spark job runs. The frames are combined as a balanced tree, because Spark analyzes a left chain of
    ``unionByName`` in quadratic time.

    >>> hours = union_by_name({"07": at_seven, "08": at_eight})  # doctest: +SKIP

    Args:
        frames: Frames by name, or in order; errors show the names.
        allow_missing_columns: Fill a column that is missing from a frame with nulls.

    Raises:
        NoBranches: ``frames`` is empty.
        NotADataFrame: A value is not a DataFrame.
        MissingColumns: A column of one frame is missing from another.
        TypeConflict: A column has different types; the error names both frames and types.
    """
    branches = named(frames)
    if not branches:
        raise NoBranches("union_by_name")
    for name, frame in branches.items():
        check_frame(name, frame)
    first = next(iter(branches.values()))
    fold = folding(first.sparkSession)
    columns = common_columns(
        {name: frame.schema for name, frame in branches.items()},
        allow_missing_columns=allow_missing_columns,
        case_sensitive=fold is str,
    )
    return _tree([*(_aligned(frame, columns, fold is str) for frame in branches.values()), *_spread(first, columns)])


def common_columns(
    schemas: Mapping[str, StructType], *, allow_missing_columns: bool = False, case_sensitive: bool = False
) -> dict[str, DataType]:
    """Return the columns of the union of frames with these schemas, with their types.

    Raises:
        MissingColumns: See ``union_by_name``.
        TypeConflict: See ``union_by_name``.
    """
    fold = str if case_sensitive else str.lower
    columns: dict[str, tuple[str, str, DataType]] = {}  # by folded name: spelling, the branch that had it first, type
    for branch, schema in schemas.items():
        unique_columns(branch, schema.names, fold)
        for field in schema.fields:
            spelling, other, known = columns.setdefault(fold(field.name), (field.name, branch, field.dataType))
            if not same_type(known, field.dataType):
                raise TypeConflict(spelling, {other: known.simpleString(), branch: field.dataType.simpleString()})
    for branch, schema in schemas.items():
        has = {fold(name) for name in schema.names}
        missing = [spelling for folded, (spelling, _, _) in columns.items() if folded not in has]
        if missing and not allow_missing_columns:
            fix = "Add them, or pass allow_missing_columns=True to fill them with nulls."
            raise MissingColumns(branch, missing, schema.names, fix)
    return {spelling: kind for spelling, _, kind in columns.values()}


def _aligned(frame: DataFrame, columns: Mapping[str, DataType], case_sensitive: bool) -> DataFrame:  # noqa: FBT001
    from pyspark.sql import functions as F

    if frame.columns == list(columns):
        return frame
    fold = str if case_sensitive else str.lower
    own = {fold(name): name for name in frame.columns}
    return frame.select(
        *[
            F.col(quote_identifier(own[fold(name)])).alias(name)
            if fold(name) in own
            else F.lit(None).cast(kind).alias(name)
            for name, kind in columns.items()
        ]
    )


def _spread(first: DataFrame, columns: Mapping[str, DataType]) -> list[DataFrame]:
    """Return an empty frame of two partitions if the session would run a union of one-partition frames as one task.

    Spark 4.2 preserves the partitioning of a union's children when all have the same one. Our own sessions disable
    that; the settings of a session that we did not create are not changed.
    """
    from pyspark.sql import functions as F

    spark = first.sparkSession
    if str(spark.conf.get(_UNION_PARTITIONING, "false")).lower() != "true":
        return []
    return [spark.range(0, 0, 1, 2).select(*[F.lit(None).cast(kind).alias(name) for name, kind in columns.items()])]


def _tree(frames: list[DataFrame]) -> DataFrame:
    while len(frames) > 1:
        pairs = [frames[at : at + 2] for at in range(0, len(frames), 2)]
        frames = [pair[0].union(pair[1]) if len(pair) > 1 else pair[0] for pair in pairs]
    return frames[0]
