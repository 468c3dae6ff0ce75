"""What a fan-out costs: three sinks from a year of JSON, and a choice by metadata.

    python benchmarks/fan_out.py                    # both, five rounds (about 10 minutes)
    python benchmarks/fan_out.py split --rounds 3   # one of: split, choice

Everything runs in one session of two cores, sides alternating, after one unmeasured round. The sides of the split must
write the same number of rows.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from pyspark.storagelevel import StorageLevel

import spark_flow as sf
from spark_flow.spark.session import session

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jobs"))

from fan_in import compare  # noqa: E402 - of this folder
from year import made  # noqa: E402 - of this folder

import flights  # noqa: E402 - a module of the jobs

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

WORK = ROOT / "benchmarks" / "work" / "fan_out"
REFERENCES = {name: getattr(flights, f"{name.upper()}_SCHEMA") for name in ("weather", "planes", "airlines")}


def main() -> None:
    parts = {"split": split, "choice": choice}
    parser = argparse.ArgumentParser(description="Time the fan-out.")
    parser.add_argument("part", nargs="*", choices=[*parts, []], help=f"{', '.join(parts)}; by default all")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is run (5)")
    args = parser.parse_args()
    spark = session("fan_out", config={"spark.master": "local[2]"})
    for name in args.part or parts:
        parts[name](spark, args.rounds)
    shutil.rmtree(WORK, ignore_errors=True)
    spark.stop()


def split(spark: SparkSession, rounds: int) -> None:
    """The year's flights to a Delta table, enriched to another, and to CSV."""
    data = made(365)
    sides = {
        "three separate reads": lambda: separate(spark, data),
        "by hand: persist, threads": lambda: by_hand(spark, data),
        "parallel_split": lambda: by_split(spark, data),
    }
    compare("three sinks", sides, rounds, "aims of parallel_split: 0.80 of the first, 1.05 of the second")


def read(spark: SparkSession, data: Path, name: str) -> DataFrame:
    schema = flights.SCHEMA if name == "flights" else REFERENCES[name]
    return spark.read.schema(schema).json(str(data / name))


def enriched(spark: SparkSession, data: Path, frame: DataFrame) -> DataFrame:
    return flights.enrich(frame, **{name: read(spark, data, name) for name in REFERENCES})


def fresh(side: str) -> Path:
    shutil.rmtree(WORK / side, ignore_errors=True)
    return WORK / side


def counted(spark: SparkSession, out: Path) -> list[int]:
    tables = [spark.read.format("delta").load(str(out / name)).count() for name in ("lake", "enriched")]
    return [*tables, spark.read.option("header", "true").csv(str(out / "legacy")).count()]


def separate(spark: SparkSession, data: Path) -> list[int]:
    out = fresh("separate")
    for name in ("lake", "enriched", "legacy"):
        write(spark, data, flights.clean(read(spark, data, "flights")), name, out)
    return counted(spark, out)


def by_hand(spark: SparkSession, data: Path) -> list[int]:
    out = fresh("by_hand")
    held = flights.clean(read(spark, data, "flights")).persist(StorageLevel.MEMORY_AND_DISK)
    with ThreadPoolExecutor(3) as pool:
        for ended in [pool.submit(write, spark, data, held, name, out) for name in ("lake", "enriched", "legacy")]:
            ended.result()
    held.unpersist()
    return counted(spark, out)


def write(spark: SparkSession, data: Path, frame: DataFrame, name: str, out: Path) -> None:
    frame = enriched(spark, data, frame) if name == "enriched" else frame
    writer = frame.write.mode("overwrite").option("header", "true")
    writer.format("csv" if name == "legacy" else "delta").save(str(out / name))


def by_split(spark: SparkSession, data: Path) -> list[int]:
    out = fresh("split")
    with sf.Run.open("bench", "2013", state=str(out / "state"), spark=spark) as run:
        source = sf.source("json", str(data / "flights"), schema=flights.SCHEMA)
        frame = sf.local_sequencer(run, sf.read(run, "flights", source), [flights.clean])
        tables = {n: sf.read(run, n, sf.source("json", str(data / n), schema=s)) for n, s in REFERENCES.items()}
        lake, rich = (sf.delta(str(out / name), replace_where="true") for name in ("lake", "enriched"))
        weather, planes, airlines = (tables[name] for name in ("weather", "planes", "airlines"))
        step = sf.step(flights.enrich, weather=weather, planes=planes, airlines=airlines)
        sf.parallel_split(run, frame, {"lake": lake, "enriched": (step, rich), "legacy": sf.csv(str(out / "legacy"))})
    return counted(spark, out)


def choice(_: SparkSession, rounds: int) -> None:
    """A choice by date, its event in a real ledger included."""
    shutil.rmtree(WORK, ignore_errors=True)
    routes = {
        "old": (sf.by_date(before="2013-01-03"), lambda: None),
        "new": (sf.by_date(since="2013-01-03"), lambda: None),
    }
    times = []
    for number in range(20 * rounds):
        run = sf.Run.open(f"bench{number}", "2013-01-02", state=str(WORK / "state"))
        began = time.perf_counter()
        sf.exclusive_choice(run, "road", routes)
        times.append((time.perf_counter() - began) * 1000)
    told = f"median {median(times):.1f} ms, max {max(times):.1f} ms"
    print(f"\na choice by date ({len(times)} times; aim: under 50 ms): {told}")


if __name__ == "__main__":
    main()
