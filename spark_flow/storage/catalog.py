"""Delta tables by their name in Spark's catalog: where one is, and how it is created.

https://docs.delta.io/latest/delta-batch.html#create-a-table
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spark_flow.core.names import quote_identifier, quote_literal, quote_table
from spark_flow.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrameWriter, SparkSession

_OWN = "spark_catalog"
_OURS = "spark_flow."  # what the properties of an exposed view begin with


def check_lasting(spark: SparkSession, name: str) -> None:
    """Check that a name will be known to the next session.

    Raises:
        InvalidArgument: The catalog lives in the memory of this session.
    """
    in_memory = spark.conf.get("spark.sql.catalogImplementation", "in-memory") == "in-memory"
    own = spark.conf.get(f"spark.sql.catalog.{_OWN}", "") or ""  # another class of catalog, as Unity's, lasts
    if in_memory and own in ("", "org.apache.spark.sql.delta.catalog.DeltaCatalog") and _is_of_own(name):
        found = f"{name} in a catalog that lives in the memory of this session"
        fix = "For example spark: {spark.sql.catalogImplementation: hive} in the job's file; or give a path."
        raise InvalidArgument("table", found, "a catalog that outlives it", fix)


def _is_of_own(name: str) -> bool:
    parts = name.split(".")
    return len(parts) < 3 or parts[0].lower() == _OWN  # noqa: PLR2004 - catalog, schema, table


def location(spark: SparkSession, name: str) -> str:
    """Return the path of a Delta table; empty if there is no such table.

    Raises:
        InvalidArgument: The name is that of a view, or of a table of another format.
    """
    from pyspark.errors import AnalysisException

    expected = "a Delta table, or a name that is free"
    try:
        detail = spark.sql(f"DESCRIBE DETAIL {quote_table(name)}").collect()[0]
    except AnalysisException as error:
        if not spark.catalog.tableExists(name):
            return ""
        if "EXPECT_TABLE_NOT_VIEW" in str(error):
            raise InvalidArgument("table", f"{name}, which is a view", expected) from error
        raise
    if detail["format"] != "delta":
        raise InvalidArgument("table", f"{name}, which is a table of {detail['format']}", expected)
    return str(detail["location"])


def create(writer: DataFrameWriter, spark: SparkSession, name: str, *, comment: str = "") -> str:
    """Create a Delta table by a writer of an empty frame, unless another process was faster; returns its path."""
    writer.mode("ignore").saveAsTable(quote_table(name))
    if comment:
        spark.sql(f"COMMENT ON TABLE {quote_table(name)} IS {quote_literal(comment)}")
    return location(spark, name)


def cluster(spark: SparkSession, path: str, columns: Sequence[str]) -> None:
    """Cluster the Delta table at a path by columns; writers cannot create one that is (Delta 4.4.0)."""
    names = ", ".join(quote_identifier(column) for column in columns)
    spark.sql(f"ALTER TABLE delta.{quote_identifier(path)} CLUSTER BY ({names})")


def exposed(spark: SparkSession, view: str) -> dict[str, str] | None:
    """Return what a view of ``expose`` shows; ``None`` if the name is free.

    Raises:
        InvalidArgument: The name is that of a table, or of a view that somebody else created.
    """
    if not spark.catalog.tableExists(view):
        return None
    expected = "a view that was created by expose, or a name that is free"
    kind = spark.catalog.getTable(view).tableType
    if kind != "VIEW":
        raise InvalidArgument("view", f"{view}, which is a table ({kind.lower()})", expected)
    rows = spark.sql(f"SHOW TBLPROPERTIES {quote_table(view)}").collect()
    found = {row["key"].removeprefix(_OURS): row["value"] for row in rows if row["key"].startswith(_OURS)}
    if not {"path", "version"} <= found.keys():
        raise InvalidArgument("view", f"{view}, a view of somebody else", expected, "Drop it, or choose another name.")
    return found


def expose(spark: SparkSession, view: str, query: str, properties: Mapping[str, str]) -> None:
    """Create a view, or replace the one that ``expose`` created."""
    known = ", ".join(f"{quote_literal(_OURS + name)} = {quote_literal(value)}" for name, value in properties.items())
    spark.sql(f"CREATE OR REPLACE VIEW {quote_table(view)} TBLPROPERTIES ({known}) AS {query}")
