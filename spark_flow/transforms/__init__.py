"""Pure transforms, ``DataFrame -> DataFrame``: from any notebook, classic or Spark Connect, with no run."""

from spark_flow.transforms.pipe import pipe, sql

__all__ = ["pipe", "sql"]
