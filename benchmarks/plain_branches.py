"""Nineteen branches by hand: one plain PySpark script, what `job_branches.py` is compared with.

`heavy`: each branch hashes generated rows, about 2 s of one core. `light`: the 19 hours of a day of flights. All
branches go to one Delta table.

    spark-submit --packages io.delta:delta-spark_4.2_2.13:4.4.0 \
        --conf spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension \
        --conf spark.sql.catalog.spark_catalog=org.apache.spark.sql.delta.catalog.DeltaCatalog \
        benchmarks/plain_branches.py light --out out/plain
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path

from plain_flights import FLIGHTS
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

HOURS = tuple(f"{hour:02d}" for hour in range(5, 24))
DAY = Path(__file__).resolve().parent.parent / "data" / "flights" / "date=2013-01-02"
ROWS = 400_000


def hashed(spark: SparkSession, branch: str) -> DataFrame:
    """Rows of one partition, each hashed three times; what is left is a count and a maximum for each first digit."""
    digest = F.concat(F.lit(branch), F.col("id").cast("string"))
    for _ in range(3):
        digest = F.sha2(digest, 512)
    rows = spark.range(0, ROWS, 1, 1).select(digest.alias("digest"))
    counted = rows.groupBy(F.substring("digest", 1, 1).alias("digit"))
    return counted.agg(F.count("*").alias("rows"), F.max("digest").alias("highest")).withColumn("branch", F.lit(branch))


def hour(spark: SparkSession, branch: str) -> DataFrame:
    """The flights of one scheduled hour, as ``flights:clean`` makes them."""
    carrier, origin = (F.upper(F.trim(name)) for name in ("carrier", "origin"))
    read = spark.read.schema(FLIGHTS).json(f"file://{DAY}/hour={branch}")
    return read.where((carrier != "") & (origin != "")).select(
        F.make_date("year", "month", "day").alias("date"),
        carrier.alias("carrier"),
        "flight",
        "tailnum",
        origin.alias("origin"),
        "dest",
        "time_hour",
        "sched_dep_time",
        "dep_delay",
        "arr_delay",
        "air_time",
        "distance",
        F.col("dep_time").isNull().alias("cancelled"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Write nineteen branches to one Delta table with plain PySpark.")
    parser.add_argument("work", choices=["heavy", "light"])
    parser.add_argument("--out", required=True, help="the Delta table to overwrite")
    args = parser.parse_args()
    spark = SparkSession.builder.appName("plain_branches").getOrCreate()
    try:
        made = hashed if args.work == "heavy" else hour
        day = functools.reduce(DataFrame.unionByName, [made(spark, branch) for branch in HOURS])
        day.write.format("delta").mode("overwrite").save(args.out)
    finally:
        spark.stop()


if __name__ == "__main__":
    main()
