"""Pure transforms, ``DataFrame -> DataFrame``, that need no run; for classic and Spark Connect sessions."""

from spark_flow.transforms.completeness import with_completeness
from spark_flow.transforms.join import join_all
from spark_flow.transforms.pipe import pipe, sql
from spark_flow.transforms.union import union_by_name

__all__ = ["join_all", "pipe", "sql", "union_by_name", "with_completeness"]
