"""What the proof of a write costs: each sink's write against the same write by Spark alone.

    python benchmarks/proofs.py                     # five rounds (about 5 minutes)
    python benchmarks/proofs.py --rounds 1 --rows 100000

All in one session, a fresh folder for each write, sides by turns, after a round that is not measured. The ratio is that
of the medians: CSV and JSON are read back as a consumer reads them, Delta and Parquet are proved by log and footers.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

import spark_flow as sf
from spark_flow.spark.session import session
from spark_flow.storage.sink_protocol import Intent

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame, SparkSession

    from spark_flow.storage.sink_protocol import Sink

WORK = Path(__file__).resolve().parent / "work" / "proofs"
SINKS: dict[str, Callable[[str], Sink]] = {
    "delta": lambda path: sf.delta(path, replace_where="date = '2013-01-02'"),
    "parquet": lambda path: sf.parquet(path, partition_by="date"),
    "json": lambda path: sf.json(path, partition_by="date"),
    "csv": lambda path: sf.csv(path, partition_by="date"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time each sink's write against the same write by Spark alone.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is run (5)")
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows of each write (2,000,000)")
    parser.add_argument("--merged", type=int, default=10_000_000, help="rows of the table to merge into (10,000,000)")
    args = parser.parse_args()
    spark = session("proofs", config={"spark.master": "local[2]"})
    frame = spark.range(0, args.rows, 1, 2).select(
        "id",
        F.sha1(F.col("id").cast("string")).alias("text"),
        (F.col("id") * F.lit(1.5)).cast("decimal(18,2)").alias("amount"),
        F.lit("2013-01-02").cast("date").alias("date"),
    )
    print("| sink | by Spark alone, median s | by the sink, median s | ratio |\n|---|---|---|---|", flush=True)
    for name in SINKS:
        times: dict[bool, list[float]] = {False: [], True: []}
        for number in range(args.rounds + 1):
            for proved in ((False, True), (True, False))[number % 2]:
                took = timed(frame, name, args.rows, proved=proved)
                if number:
                    times[proved].append(took)
        alone, sink = median(times[False]), median(times[True])
        print(f"| {name} | {alone:.2f} | {sink:.2f} | {sink / alone:.2f} |", flush=True)
    merges(spark, args.rounds, args.merged)
    spark.stop()


def timed(frame: DataFrame, name: str, rows: int, *, proved: bool) -> float:
    """The seconds of one write into a folder that is not there yet."""
    shutil.rmtree(WORK, ignore_errors=True)
    began = time.perf_counter()
    if proved:
        counted = SINKS[name](str(WORK)).write(frame, intent()).rows
        if counted != rows:
            sys.exit(f"{name}: {counted} rows were proved, expected {rows}")
    elif name == "delta":
        frame.write.format("delta").mode("overwrite").save(str(WORK))
    else:
        writer = frame.write.mode("overwrite").format(name).partitionBy("date")
        (writer.option("header", "true") if name == "csv" else writer).save(str(WORK))
    took = time.perf_counter() - began
    shutil.rmtree(WORK, ignore_errors=True)
    return took


def merges(spark: SparkSession, rounds: int, rows: int) -> None:
    """Merge one row of a hundred into two equal tables, by the sink and by hand."""
    paths = {proved: str(WORK.with_name(f"merge-{proved}")) for proved in (False, True)}
    for path in paths.values():
        shutil.rmtree(path, ignore_errors=True)
    whole = spark.range(0, rows, 1, 4).select("id", F.lit(0).alias("at"), F.sha1(F.col("id").cast("string")).alias("t"))
    whole.write.format("delta").save(paths[False])
    shutil.copytree(paths[False], paths[True])
    times: dict[bool, list[float]] = {False: [], True: []}
    for number in range(rounds + 1):
        changed = whole.where(F.col("id") % 100 == number).select("id", F.lit(number).alias("at"), "t")
        for proved in ((False, True), (True, False))[number % 2]:
            began = time.perf_counter()
            if proved:
                sink = sf.delta(paths[True], mode="merge", on="id")
                sink.write(changed, dataclasses.replace(intent(), key=f"d{number}"))
            else:
                changed.createOrReplaceTempView("changed")
                how = "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
                spark.sql(f"MERGE INTO delta.`{paths[False]}` AS t USING changed AS s ON t.id = s.id {how}")
            if number:
                times[proved].append(time.perf_counter() - began)
    sums = {
        p: spark.read.format("delta").load(path).agg(F.sum("at"), F.count("*")).collect() for p, path in paths.items()
    }
    if sums[False] != sums[True]:
        sys.exit(f"the merged tables differ: {sums}")
    alone, sink_ = median(times[False]), median(times[True])
    print(
        f"| merge of {rows // 100:,} into {rows:,} rows | {alone:.2f} | {sink_:.2f} | {sink_ / alone:.2f} |", flush=True
    )
    for path in paths.values():
        shutil.rmtree(path)


def intent() -> Intent:
    return Intent(
        pipeline="bench",
        key="2013-01-02",
        node="write",
        run_id="bench",
        generation=1,
        attempt=1,
        revision=1,
        mark=lambda _: None,
    )


if __name__ == "__main__":
    main()
