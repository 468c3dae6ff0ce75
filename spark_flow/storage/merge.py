"""MERGE as a write: rows are updated or inserted by their keys, exactly once for each revision.

Delta takes the transaction id and the tag of a MERGE from the session's settings only, where they would leak into other
writes: they are set in a session of its own, which is used for one command.
https://docs.delta.io/latest/delta-update.html#upsert-into-a-table-using-merge
"""

from __future__ import annotations

import functools
import operator
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_flow.core.names import quote_identifier
from spark_flow.errors import InvalidArgument, InvalidMergeKeys, MissingColumns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from spark_flow.storage.sink_protocol import Intent

_SHOWN = 5  # keys that an error names


@dataclass(frozen=True, kw_only=True)
class Merge:
    """How rows are merged.

    Attributes:
        on: The columns of the key; each row of the frame has another one, and no NULL in it.
        sequence_by: A column: a row is updated only by one whose value is greater or equal; empty for always.
        delete_when: SQL over the alias ``source``: a row for which it holds is deleted, or not inserted.
        evolve: Whether new columns are added to the table.
    """

    on: tuple[str, ...]
    sequence_by: str = ""
    delete_when: str = ""
    evolve: bool = False

    def sql(self, path: str, source: str) -> str:
        """Return the command that merges a view into the table at a path."""
        on = " AND ".join(f"target.{quote_identifier(c)} = source.{quote_identifier(c)}" for c in self.on)
        newer = ""
        if self.sequence_by:
            column = quote_identifier(self.sequence_by)
            newer = f" AND (target.{column} IS NULL OR source.{column} >= target.{column})"
        deleted = f"WHEN MATCHED AND ({self.delete_when}) THEN DELETE " if self.delete_when else ""
        kept = f" AND NOT coalesce(({self.delete_when}), false)" if self.delete_when else ""
        return (
            f"MERGE INTO delta.{quote_identifier(path)} AS target USING {source} AS source ON {on} {deleted}"
            f"WHEN MATCHED{newer} THEN UPDATE SET * WHEN NOT MATCHED{kept} THEN INSERT *"
        )


def check_columns(merge: Merge, frame: DataFrame, node: str) -> None:
    """Check that a frame has the columns of the key, and the one of the order.

    Raises:
        MissingColumns: It has not.
    """
    known = {name.lower() for name in frame.columns}
    missing = [c for c in (*merge.on, *filter(None, [merge.sequence_by])) if c.lower() not in known]
    if missing:
        raise MissingColumns(node, missing, frame.columns)


def check_keys(merge: Merge, frame: DataFrame, node: str) -> int:
    """Check that each row has a key of its own, without NULL; returns the number of rows.

    Raises:
        InvalidMergeKeys: It has not; some of the keys are named.
    """
    from pyspark.sql import functions as F

    columns = [F.col(quote_identifier(name)) for name in merge.on]
    keys = frame.groupBy(*columns).agg(F.count(F.lit(1)).alias("spark_flow_rows"))
    rows = F.col("spark_flow_rows")
    wrong = functools.reduce(operator.or_, [column.isNull() for column in columns], rows > 1)
    row = keys.agg(F.sum(rows).alias("rows"), F.count(F.when(wrong, 1)).alias("wrong")).collect()[0]
    if row["wrong"]:
        first = keys.where(wrong).orderBy(*columns).limit(_SHOWN).collect()
        shown = [", ".join(f"{name} = {one[name]}" for name in merge.on) for one in first]
        raise InvalidMergeKeys(node, shown, int(row["wrong"]))
    return int(row["rows"] or 0)


def run(merge: Merge, frame: DataFrame, path: str, intent: Intent) -> None:
    """Merge a frame into the Delta table at a path, in one commit with the intent's id and tag.

    Raises:
        InvalidArgument: The session is one of Spark Connect, which has no second session of its own.
    """
    spark: SparkSession = frame.sparkSession
    if not hasattr(spark, "sparkContext"):
        fix = "Use mode: replace with partition_by or replace_where, or a classic session."
        raise InvalidArgument(f"{intent.node}: mode", "merge with Spark Connect", "a classic session", fix)
    alone = spark.newSession()
    settings = {
        "spark.databricks.delta.write.txnAppId": intent.app_id,
        "spark.databricks.delta.write.txnVersion": str(intent.revision),
        "spark.databricks.delta.commitInfo.userMetadata": intent.tag,
        "spark.sql.session.timeZone": str(spark.conf.get("spark.sql.session.timeZone")),
    }
    if merge.evolve:  # Delta 4.0.1 ignores WITH SCHEMA EVOLUTION
        settings["spark.databricks.delta.schema.autoMerge.enabled"] = "true"
    for name, value in settings.items():
        alone.conf.set(name, value)
    view = f"spark_flow_{uuid.uuid4().hex}"
    frame.createGlobalTempView(view)
    try:
        alone.sql(merge.sql(path, f"global_temp.{view}"))
    finally:
        spark.catalog.dropGlobalTempView(view)
