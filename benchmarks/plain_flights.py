"""The daily flights by hand: one plain PySpark script, what a toolkit's time is compared with.

It reads a whole folder of flights, cleans, enriches and aggregates them and overwrites one Delta table: the
result of `flights:clean`, `flights:enrich` and `flights:daily`, with the same refusal of bad records (`--unchecked`
leaves that out), without retries, reuse or record. The last
line of its output holds the seconds of that work, without the start of the session.

    spark-submit --packages io.delta:delta-spark_4.2_2.13:4.4.0 \
        --conf spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension \
        --conf spark.sql.catalog.spark_catalog=org.apache.spark.sql.delta.catalog.DeltaCatalog \
        benchmarks/plain_flights.py --data data --out out/plain
"""

from __future__ import annotations

import argparse
import functools
import json
import operator
import time

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

FLIGHTS = """year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay INT, arr_time INT,
    sched_arr_time INT, arr_delay INT, carrier STRING, flight INT, tailnum STRING, origin STRING, dest STRING,
    air_time INT, distance INT, hour INT, minute INT, time_hour TIMESTAMP"""
WEATHER = "origin STRING, temp DOUBLE, wind_speed DOUBLE, precip DOUBLE, visib DOUBLE, time_hour TIMESTAMP"
PLANES = "tailnum STRING, year INT, manufacturer STRING, model STRING, seats INT"
AIRLINES = "carrier STRING, name STRING"


REQUIRED = ["year", "month", "day", "sched_dep_time", "carrier", "flight", "origin", "dest", "distance"]
REQUIRED += ["hour", "minute", "time_hour"]


def checked(spark: SparkSession, data: str) -> DataFrame:
    """The flights, where a corrupt record or a lacking column ends the script: what the run's schema says too."""
    frame = spark.read.schema(FLIGHTS).option("mode", "FAILFAST").json(f"{data}/flights")
    lacking = functools.reduce(operator.or_, (F.col(name).isNull() for name in REQUIRED))
    problem = F.concat(F.lit("a required column is null in "), F.col("_metadata.file_path"))
    return frame.where(F.when(lacking, F.raise_error(problem)).otherwise(F.lit("true").cast("boolean")))


def work(spark: SparkSession, data: str, out: str, *, unchecked: bool) -> None:
    flights = (
        (spark.read.schema(FLIGHTS).json(f"{data}/flights") if unchecked else checked(spark, data))
        .withColumn("date", F.make_date("year", "month", "day"))
        .withColumn("carrier", F.upper(F.trim("carrier")))
        .withColumn("origin", F.upper(F.trim("origin")))
        .withColumn("cancelled", F.col("dep_time").isNull())
        .where("carrier != '' AND origin != ''")
    )
    weather = (
        spark.read.schema(WEATHER)
        .json(f"{data}/weather")
        .dropDuplicates(["origin", "time_hour"])
        .withColumnsRenamed({name: f"weather_{name}" for name in ("temp", "wind_speed", "precip", "visib")})
    )
    planes = (
        spark.read.schema(PLANES)
        .json(f"{data}/planes")
        .dropDuplicates(["tailnum"])
        .withColumnRenamed("year", "plane_year")
    )
    airlines = (
        spark.read.schema(AIRLINES)
        .json(f"{data}/airlines")
        .dropDuplicates(["carrier"])
        .withColumnRenamed("name", "airline")
    )
    enriched = (
        flights.join(F.broadcast(weather), ["origin", "time_hour"], "left")
        .join(F.broadcast(planes), ["tailnum"], "left")
        .join(F.broadcast(airlines), ["carrier"], "left")
    )
    delay = F.when(~F.col("cancelled"), F.col("dep_delay"))
    daily = enriched.groupBy("date", "carrier", "airline", "origin").agg(
        F.count("*").alias("flights"),
        F.count_if("cancelled").alias("cancelled"),
        F.round(F.mean(delay), 2).alias("mean_dep_delay"),
        F.round(F.percentile(delay, 0.9), 2).alias("p90_dep_delay"),
        F.round(F.mean((delay <= 15).cast("int")), 4).alias("on_time_share"),  # noqa: PLR2004 - minutes
    )
    daily.write.format("delta").mode("overwrite").partitionBy("date").save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the daily flights table with plain PySpark.")
    parser.add_argument("--data", required=True, help="folder made by scripts/make_flights.py")
    parser.add_argument("--out", required=True, help="the Delta table to overwrite")
    parser.add_argument("--unchecked", action="store_true", help="take corrupt records and lacking columns as null")
    args = parser.parse_args()
    spark = SparkSession.builder.appName("plain_flights").getOrCreate()
    try:
        started = time.perf_counter()
        work(spark, args.data, args.out, unchecked=args.unchecked)
        seconds = time.perf_counter() - started
    finally:
        spark.stop()
    print(json.dumps({"seconds": round(seconds, 3)}))


if __name__ == "__main__":
    main()
