"""Frames one below another: the vertical fan-in (the book's section 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark_flow.core.names import quote_identifier
from spark_flow.errors import MissingColumns, NoBranches, TypeConflict
from spark_flow.transforms.columns import check_frame, folding, named, same_type, unique_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame
    from pyspark.sql.types import DataType, StructType

_KEPT_PARTITIONING = "spark.sql.unionOutputPartitioning"


def union_by_name(
    frames: Mapping[str, DataFrame] | Sequence[DataFrame], *, allow_missing_columns: bool = False
) -> DataFrame:
    """All rows of all frames, columns matched by name, in the order and spelling of the first frame.

    Names are compared as the session does (without regard to case by default). Types must be the same; only
    nullability may differ. Nothing is computed. The frames are stacked as a balanced tree: a left chain of
    ``unionByName`` is analysed in quadratic time.

    >>> hours = union_by_name({"07": at_seven, "08": at_eight})  # doctest: +SKIP

    Args:
        frames: By name, or in order; names are used in errors.
        allow_missing_columns: Fill a column that a frame lacks with nulls.

    Raises:
        NoBranches: There is no frame.
        NotADataFrame: One is something else.
        MissingColumns: A frame lacks a column that another has.
        TypeConflict: A column has two types; both frames and types are named.
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
    """The columns of the union of frames with these schemas, by name, or why there is none.

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
        lacking = [spelling for folded, (spelling, _, _) in columns.items() if folded not in has]
        if lacking and not allow_missing_columns:
            raise MissingColumns(branch, lacking, schema.names)
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
    """An empty frame of two partitions, where the session would make one task of a union of one-partition frames.

    Spark 4.2 keeps the partitioning of a union's children when all have the same one. Our own sessions switch
    that off; the setting of somebody else's session is not ours to change.
    """
    from pyspark.sql import functions as F

    spark = first.sparkSession
    if str(spark.conf.get(_KEPT_PARTITIONING, "false")).lower() != "true":
        return []
    return [spark.range(0, 0, 1, 2).select(*[F.lit(None).cast(kind).alias(name) for name, kind in columns.items()])]


def _tree(frames: list[DataFrame]) -> DataFrame:
    while len(frames) > 1:
        pairs = [frames[at : at + 2] for at in range(0, len(frames), 2)]
        frames = [pair[0].union(pair[1]) if len(pair) > 1 else pair[0] for pair in pairs]
    return frames[0]
