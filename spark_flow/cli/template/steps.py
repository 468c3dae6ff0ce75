"""The transforms of job.yaml: functions from DataFrame to DataFrame."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def with_amount(orders: DataFrame) -> DataFrame:
    """Add ``amount``: quantity times price."""
    return orders.withColumn("amount", F.col("quantity") * F.col("price"))


def per_product(orders: DataFrame, date: str) -> DataFrame:
    """Sum up a day: one row per product."""
    sums = orders.groupBy("product").agg(F.sum("quantity").alias("sold"), F.sum("amount").alias("amount"))
    return sums.select(F.lit(date).cast("date").alias("date"), "product", "sold", "amount")
