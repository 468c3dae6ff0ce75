"""What a fan-in costs: planning a union, keeping both cores at work, boundaries, and a retry.

    python benchmarks/fan_in.py                    # all four, five rounds each (about 25 minutes)
    python benchmarks/fan_in.py retry --rounds 3   # one of: planning, cores, boundaries, retry

Everything runs in one session of two cores, sides alternating, after one unmeasured round. Results are checked:
the sides of a comparison must give the same rows.
"""

from __future__ import annotations

import argparse
import functools
import shutil
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

import spark_flow as sf
from spark_flow.errors import BranchesFailed
from spark_flow.spark.session import session

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "jobs"))

import flights  # noqa: E402 - a module of the jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import DataFrame, SparkSession

WORK = ROOT / "benchmarks" / "work" / "fan_in"
HOURS = tuple(f"{hour:02d}" for hour in range(5, 24))
DAY = ROOT / "data" / "flights" / "date=2013-01-02"
KEPT = "spark.sql.unionOutputPartitioning"


def main() -> None:
    parts = {"planning": planning, "cores": cores, "boundaries": boundaries, "retry": retry}
    parser = argparse.ArgumentParser(description="Time the fan-in.")
    parser.add_argument("part", nargs="*", choices=[*parts, []], help=f"{', '.join(parts)}; by default all")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is run (5)")
    args = parser.parse_args()
    spark = session("fan_in", config={"spark.master": "local[2]"})
    spark.sparkContext.setLogLevel("OFF")  # the corrupt file of `retry` is meant
    for name in args.part or parts:
        shutil.rmtree(WORK, ignore_errors=True)
        parts[name](spark, args.rounds)
    shutil.rmtree(WORK, ignore_errors=True)
    spark.stop()


def compare(title: str, sides: Mapping[str, Callable[[], object]], rounds: int, aim: str) -> None:
    """Run the sides by turns, after one round that is not measured, and print their medians and ratios."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    names = list(sides)
    for number in range(rounds + 1):
        results = {}
        for side in names[number % len(names) :] + names[: number % len(names)]:
            began = time.perf_counter()
            results[side] = sides[side]()
            if number:
                seconds[side].append(time.perf_counter() - began)
        if len({repr(result) for result in results.values()}) > 1:
            sys.exit(f"{title}: the sides differ: {results}")
    base = median(next(iter(seconds.values())))
    print(f"\n{title} ({rounds} rounds; {aim})\n{'':<44}{'median s':>9}{'min':>8}{'max':>8}{'ratio':>8}")
    for side, times in seconds.items():
        print(f"{side:<44}{median(times):>9.2f}{min(times):>8.2f}{max(times):>8.2f}{median(times) / base:>8.2f}")
    sys.stdout.flush()


def planning(spark: SparkSession, rounds: int) -> None:
    """N lazy frames of 5 columns to one plan, by a left chain of ``unionByName`` and by ``union_by_name``."""
    for count in (24, 300, 1500):
        frames = [spark.range(1).select(F.lit(n).alias("n"), *[F.lit(c).alias(f"c{c}") for c in range(18)])
                  for n in range(count)]  # fmt: skip
        sides = {
            f"{count} frames, a chain of unionByName": functools.partial(chained, frames),
            f"{count} frames, union_by_name": functools.partial(stacked, frames),
        }
        compare("planning a union", sides, rounds, "aim at 1,500: a ratio of 0.067")


def chained(frames: list[DataFrame]) -> list[str]:
    return functools.reduce(two, frames).columns


def stacked(frames: list[DataFrame]) -> list[str]:
    return sf.union_by_name(frames).columns


def cores(spark: SparkSession, rounds: int) -> None:
    """Eight branches of one partition, each with some seconds of work, lazy: are both cores at work?"""
    before = str(spark.conf.get(KEPT))
    for whose, kept in (("our session", "false"), ("a notebook's own session", "true")):
        spark.conf.set(KEPT, kept)
        sides = {
            f"{whose}, chain of unionByName": lambda: total(functools.reduce(two, eight(spark))),
            f"{whose}, union_by_name": lambda: total(sf.union_by_name(eight(spark))),
        }
        compare("eight costly branches", sides, rounds, "both cores at work: in a notebook's session half of the chain")
    spark.conf.set(KEPT, before)


def eight(spark: SparkSession) -> list[DataFrame]:
    work = F.hash(F.sha2(F.col("id").cast("string"), 512)).alias("n")
    return [spark.range(0, 1_500_000, 1, 1).select(work) for _ in range(8)]


def two(one: DataFrame, other: DataFrame) -> DataFrame:
    return one.unionByName(other)


def total(frame: DataFrame) -> int:
    return int(frame.agg(F.sum("n")).collect()[0][0])


def boundaries(spark: SparkSession, rounds: int) -> None:
    """The 19 hours of a day, then one aggregate to Delta: one lazy plan, and a boundary for each hour."""
    sides = {
        "one lazy plan": lambda: day(spark, restart=False),
        "restartable, 4 in flight": lambda: day(spark, restart=True),
    }
    compare("19 hours of flights", sides, rounds, "aim: restartable at most 1.8")


def day(spark: SparkSession, *, restart: bool) -> list[object]:
    folder = WORK / f"day-{restart}"
    shutil.rmtree(folder, ignore_errors=True)
    with sf.Run.open("bench", "2013-01-02", state=str(folder / "state"), spark=spark) as run:
        hours = sf.aligned_fan_in(run, "hours", source(DAY), restart=restart)
        cube = sf.local_sequencer(run, hours.frame, [flights.clean, flights.cube])
        sf.write(run, "lake", cube, sf.delta(str(folder / "lake"), partition_by="date"))
        return [outcome.rows for outcome in run.outcomes if outcome.node == "lake"]


def source(day: Path) -> sf.Source:
    return sf.source("json", str(day / "hour={branch}"), schema=flights.SCHEMA, branches=HOURS)


def retry(spark: SparkSession, rounds: int) -> None:
    """The 19 hours with one corrupt file, which fails; then the file is mended and the run repeated."""
    first, again = [], []
    for number in range(rounds + 1):
        shutil.rmtree(WORK, ignore_errors=True)
        shutil.copytree(DAY, WORK / "data")
        broken = next((WORK / "data" / "hour=12").iterdir())
        good = broken.read_bytes()
        broken.write_bytes(good[:-40])
        began = time.perf_counter()
        try:
            once(spark)
        except BranchesFailed as error:
            failed = list(error.errors)
        ended = time.perf_counter()
        broken.write_bytes(good)
        states = once(spark)
        if number:
            first.append(ended - began)
            again.append(time.perf_counter() - ended)
        if failed != ["12"] or states != {"reused": 18, "succeeded": 1}:
            sys.exit(f"expected one failed branch and one that is run again, found {failed}, {states}")
    print(f"\none failed branch of 19 ({rounds} rounds)\nthe run that failed: median {median(first):.2f} s")
    print(f"its retry: median {median(again):.2f} s, ratio {median(again) / median(first):.2f}")


def once(spark: SparkSession) -> dict[str, int]:
    with sf.Run.open("bench", "2013-01-02", state=str(WORK / "state"), spark=spark) as run:
        hours = sf.aligned_fan_in(run, "hours", source(WORK / "data"))
        cube = sf.local_sequencer(run, hours.frame, [flights.clean, flights.cube])
        sf.write(run, "lake", cube, sf.delta(str(WORK / "lake"), partition_by="date"))
        states = [outcome.state for outcome in run.outcomes if outcome.kind == "branch"]
    return {state: states.count(state) for state in sorted(set(states))}


if __name__ == "__main__":
    main()
