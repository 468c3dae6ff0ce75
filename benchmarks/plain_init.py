"""The project of `spark-flow init` by hand: one plain PySpark script, what `spark-flow run` is compared with.

spark-submit --packages io.delta:delta-spark_4.2_2.13:4.4.0 \
        --conf spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension \
        --conf spark.sql.catalog.spark_catalog=org.apache.spark.sql.delta.catalog.DeltaCatalog \
        benchmarks/plain_init.py data/orders 2024-03-01 --out out/plain
"""

from __future__ import annotations

import argparse

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

SCHEMA = "order_id STRING NOT NULL, product STRING NOT NULL, quantity INT, price DECIMAL(10,2)"


def main() -> None:
    parser = argparse.ArgumentParser(description="A day's orders to sales per product.")
    parser.add_argument("orders")
    parser.add_argument("day")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    spark = SparkSession.builder.appName("plain").getOrCreate()
    orders = spark.read.schema(SCHEMA).json(f"{args.orders}/date={args.day}")
    priced = orders.withColumn("amount", F.col("quantity") * F.col("price"))
    sums = priced.groupBy("product").agg(F.sum("quantity").alias("sold"), F.sum("amount").alias("amount"))
    sales = sums.select(F.lit(args.day).cast("date").alias("date"), "product", "sold", "amount")
    writer = sales.write.format("delta").mode("overwrite").partitionBy("date")
    writer.option("replaceWhere", f"date = '{args.day}'").save(f"{args.out}/sales")
    spark.stop()


if __name__ == "__main__":
    main()
