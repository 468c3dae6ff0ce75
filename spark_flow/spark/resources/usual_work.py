"""Run common readers and writers on a few rows: the classes that Java loads go into the class-data archive."""

import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as F


def main(folder: str) -> None:
    """Write and read a few rows in each format, in a folder."""
    spark = SparkSession.builder.appName("usual_work").getOrCreate()
    rows = spark.range(0, 100, 1, 2).select(
        "id", (F.col("id") % 3).alias("part"), F.col("id").cast("string").alias("text"), F.current_date().alias("day")
    )
    for name in ("parquet", "json", "csv"):
        rows.write.mode("overwrite").format(name).partitionBy("part").save(f"{folder}/{name}")
    delta = f"{folder}/delta"
    rows.write.format("delta").partitionBy("part").save(delta)
    rows.write.format("delta").mode("overwrite").option("replaceWhere", "part >= 0").save(delta)
    read = [spark.read.schema(rows.schema).format(name).load(f"{folder}/{name}") for name in ("parquet", "json", "csv")]
    union = spark.read.format("delta").load(delta).unionByName(read[0]).unionByName(read[1]).unionByName(read[2])
    spark.read.json(f"{folder}/json")
    union.createOrReplaceTempView("all_rows")
    counted = spark.sql("SELECT part, count(*) AS rows, max(text) AS text FROM all_rows GROUP BY part ORDER BY part")
    union.join(F.broadcast(counted), "part", "left").dropDuplicates(["id"]).persist().count()
    counted.collect()
    union.explain(extended=True)
    spark.stop()


if __name__ == "__main__":
    main(sys.argv[1])
