"""How costs grow: with events, branches, keys, pipelines and processes; a table, and curves in ``docs/scale.svg``.

    make scale                                    # all, long; needs matplotlib
    python benchmarks/scale.py ledger processes   # some; --help lists them

Each point is one run from nothing; the table keeps what was measured of the other parts before. The exponent is that of
the last step of a curve: 1 is linear, 2 is quadratic.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import datetime as dt
import multiprocessing as mp
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from math import log
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import spark_flow as sf
from spark_flow.ledger import DeltaLedger, Event
from spark_flow.spark.session import session

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from spark_flow.orchestration.pipeline import Summary

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "benchmarks" / "work" / "scale"
TABLE, PLOT = ROOT / "docs" / "scale.csv", ROOT / "docs" / "scale.svg"
STATE = str(WORK / "state")
DDL = "a BIGINT, b STRING"
IN_FLIGHT = 2
OF_A_KEY = 20  # events
MOST_KEYS_RUN = 200


class Point(NamedTuple):
    """The seconds of one size."""

    part: str
    curve: str
    size: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description="How costs grow.")
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help=f"{', '.join(PARTS)}; by default all")
    parser.add_argument("--most", type=int, default=None, help="leave out larger sizes")
    args = parser.parse_args()
    points: list[Point] = []
    for part in args.part or PARTS:
        measure, sizes = PARTS[part]
        for size in sizes:
            if args.most is None or size <= args.most:
                shutil.rmtree(WORK, ignore_errors=True)
                WORK.mkdir(parents=True)
                for curve, seconds in measure(size):
                    points.append(Point(part, curve, size, seconds))
                    print(f"{part:10} {curve:42} {size:>9,} {seconds:>10.4f} s", flush=True)
    shutil.rmtree(WORK, ignore_errors=True)
    growth(points)
    points = [*others(args.part or PARTS), *points]
    with TABLE.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([Point._fields, *points])
    plot(points)


def others(measured: Collection[str]) -> list[Point]:
    """What the table has of the parts that were not measured now."""
    if not TABLE.exists():
        return []
    with TABLE.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] not in measured]
    return [Point(row["part"], row["curve"], int(row["size"]), float(row["seconds"])) for row in rows]


def curves(points: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    found = defaultdict(list)
    for point in points:
        found[point.part, point.curve].append(point)
    return found


def growth(points: Sequence[Point]) -> None:
    """Print the exponent of each curve's last step."""
    for (part, curve), mine in curves(points).items():
        if len(mine) > 1:
            before, last = mine[-2:]
            exponent = log(last.seconds / before.seconds) / log(last.size / before.size)
            print(f"{part:10} {curve:42} {before.size:,} to {last.size:,}: exponent {exponent:.2f}")


def plot(points: Sequence[Point]) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "spark_flow"  # the same file for the same figures
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(16, 7.5), layout="constrained")
    shown = [part for part in PARTS if any(point.part == part for point in points)]
    for axis, part in zip(axes.flat, shown, strict=False):
        for (of, curve), mine in curves(points).items():
            if of == part:
                axis.loglog([p.size for p in mine], [p.seconds for p in mine], marker="o", label=curve)
        axis.set(title=part.replace("_", " "), xlabel=XLABELS[part], ylabel="seconds")
        axis.grid(visible=True, which="both", alpha=0.2)
        axis.legend(fontsize=7)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    figure.savefig(PLOT, metadata={"Date": None})
    plt.close(figure)


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


# --- without Spark ---------------------------------------------------------------------------------------------


def ledger(events: int) -> Iterator[tuple[str, float]]:
    """A ledger of 100 pipelines, 20 events a key; what a run and ``status`` ask of it."""
    filled = DeltaLedger(STATE)
    keys = events // OF_A_KEY
    for start in range(0, keys, 500):
        filled.append([each for number in range(start, min(start + 500, keys)) for each in of_key(number)])
    filled.compact()
    yield "open", median(timed(lambda: DeltaLedger(STATE)) for _ in range(5))
    opened = DeltaLedger(STATE)
    last = of_key(keys - 1)
    yield "events of one key", median(timed(lambda: opened.read(last[0].pipeline, last[0].key)) for _ in range(5))
    yield "append one event, median of 200", median([timed(lambda: opened.append(last[-1:])) for _ in range(200)])
    status = [sys.executable, "-m", "spark_flow.cli.app", "status", "--state", STATE]
    yield "spark-flow status, whole command", median(timed(lambda: command(status)) for _ in range(3))


def of_key(number: int) -> list[Event]:
    """The events of a key, as a fan-in of nine branches leaves them."""
    name, key = f"pipeline_{number % 100:02d}", f"{number // 100:06d}"
    at = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(minutes=number)

    def event(seq: int, node: str = "", state: str = "started", **more: object) -> Event:
        kind, revision = ("branch", 1) if node else ("run", 0)
        place = {"pipeline": name, "key": key, "generation": 1, "attempt": 1, "seq": seq}
        return Event(**place, node=node, kind=kind, state=state, revision=revision, at=at, **more)  # type: ignore[arg-type]

    found = [event(1, detail={"lease": {"token": number}})]
    for branch in range((OF_A_KEY - 2) // 2):
        path = f"boundaries/{name}/{key}/g1/hours/{branch:02d}/1"
        done = {"rows": 1000 + branch, "detail": {"path": path, "files": 4, "bytes": 123_456 + number}}
        found += [
            event(2 * branch + 2, f"hours/{branch:02d}"),
            event(2 * branch + 3, f"hours/{branch:02d}", "succeeded", **done),
        ]
    return [*found, event(OF_A_KEY, state="succeeded", reason="succeeded", duration_ms=30_000)]


def pipelines(count: int) -> Iterator[tuple[str, float]]:
    """A run of one pipeline without Spark, in a state folder that many pipelines share."""
    for number in range(count - 1):
        with sf.Run.open(f"p{number:04d}", "k", state=STATE):
            pass

    def run() -> None:
        with sf.Run.open(f"p{count:04d}", "k", state=STATE):
            pass

    yield "a run of no node", timed(run)
    yield (
        "spark-flow status, whole command",
        timed(lambda: command([sys.executable, "-m", "spark_flow.cli.app", "status", "--state", STATE])),
    )


def processes(count: int) -> Iterator[tuple[str, float]]:
    """Processes that append to one ledger at once, 100 events each."""
    DeltaLedger(STATE)
    spawn = mp.get_context("spawn")
    began = time.perf_counter()
    writers = [spawn.Process(target=appended, args=(number,)) for number in range(count)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    took = time.perf_counter() - began
    if len(DeltaLedger(STATE).read()) != 100 * count or any(writer.exitcode for writer in writers):
        raise SystemExit(f"{count} processes: events were lost")
    yield "100 events each, with the processes' start", took


def appended(number: int) -> None:
    mine = DeltaLedger(STATE)
    for seq in range(100):
        mine.append([dataclasses.replace(of_key(number)[0], seq=seq)])


def command(words: Sequence[str]) -> None:
    subprocess.run(words, check=True, capture_output=True)


# --- with Spark --------------------------------------------------------------------------------------------------


def spark() -> SparkSession:
    return session("scale", config={"spark.master": "local[2]"})


def folders(count: int) -> str:
    """A folder for each branch, with one record; the session is there when the time begins."""
    spark().range(1).count()
    for number in range(count):
        folder = WORK / "in" / f"part={number:05d}"
        folder.mkdir(parents=True)
        (folder / "a.json").write_text(f'{{"a": {number}, "b": "x"}}\n')
    return str(WORK / "in" / "part={branch}")


def fan_in(count: int, *, plan: bool = False, restart: bool = True) -> None:
    """Tiny branches, each a folder of JSON, merged into a Delta table."""
    inside = str(WORK / "in" / "part={branch}")
    source = sf.source("json", inside, schema=DDL, branches=[f"{number:05d}" for number in range(count)])
    shutil.rmtree(STATE, ignore_errors=True)
    with sf.Run.open("scale", "k", state=STATE, spark=spark(), plan=plan) as run:
        merged = sf.aligned_fan_in(run, "parts", source, restart=restart, max_in_flight=IN_FLIGHT)
        sf.write(run, "all", merged, sf.delta(str(WORK / "out")))


def counted(count: int, **how: bool) -> float:
    folders(count)
    took = timed(lambda: fan_in(count, **how))
    found = spark().read.format("delta").load(str(WORK / "out")).count()
    if found != count:
        raise SystemExit(f"{found} rows in the table, expected {count}")
    shutil.rmtree(WORK / "in")
    return took


def by_hand(count: int) -> float:
    """The same branches read and written by Spark alone, as many at once."""
    paths = folders(count)

    def one(number: int) -> None:
        frame = spark().read.schema(DDL).json(paths.format(branch=f"{number:05d}"))
        frame.write.parquet(str(WORK / "plain" / f"{number:05d}"))

    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        took = timed(lambda: list(pool.map(one, range(count))))
    shutil.rmtree(WORK / "in")
    return took


def planned(count: int) -> Iterator[tuple[str, float]]:
    folders(count)
    yield "plan of a fan-in", timed(lambda: fan_in(count, plan=True))


def checkpointed(count: int) -> Iterator[tuple[str, float]]:
    plain = by_hand(count)
    yield "branches written by Spark alone", plain
    ours = counted(count)
    yield "fan-in with a checkpoint each", ours
    yield "beyond Spark, for each branch", max(ours - plain, 0.0001) / count


def one_plan(count: int) -> Iterator[tuple[str, float]]:
    yield "fan-in, restart: false", counted(count, restart=False)


def backfill(keys: int) -> Iterator[tuple[str, float]]:
    """Days of one row each to a Delta table, by the single runner: planned, and the smaller numbers run."""

    def load(run: sf.Run) -> None:
        frame: DataFrame = spark().createDataFrame([(run.key, 1)], "date STRING, n INT")
        sf.write(run, "lake", frame, sf.delta(str(WORK / "out"), partition_by="date"))

    days = f"2013-01-01..{dt.date(2013, 1, 1) + dt.timedelta(days=keys - 1)}"
    runner = sf.SingleRunner(sf.pipeline("scale", load, state=STATE, spark=spark), sf.daily("2013-01-01"))
    yield "backfill, planned", timed(lambda: runner.plan(days))
    if keys <= MOST_KEYS_RUN:
        yield "backfill, run", timed(lambda: done(runner.run(days), keys))
        yield "the same again: reused", timed(lambda: done(runner.run(days), keys))


def done(summary: Summary, keys: int) -> None:
    if sum(summary.counts.values()) != keys or set(summary.counts) - {"succeeded", "reused"}:
        raise SystemExit(f"of {keys} keys: {summary.counts}")


PARTS: dict[str, tuple[Callable[[int], Iterator[tuple[str, float]]], tuple[int, ...]]] = {
    "ledger": (ledger, (1_000, 10_000, 100_000, 1_000_000)),
    "pipelines": (pipelines, (10, 100, 500)),
    "processes": (processes, (1, 2, 4, 8)),
    "planned": (planned, (100, 1_000, 10_000)),
    "fan_in": (checkpointed, (100, 500, 2_000)),
    "one_plan": (one_plan, (50, 100, 200, 500)),
    "backfill": (backfill, (20, 100, 200, 3_650)),
}
XLABELS = {
    "ledger": "events",
    "pipelines": "pipelines in one state folder",
    "processes": "processes",
    "planned": "branches",
    "fan_in": "branches",
    "one_plan": "branches",
    "backfill": "keys",
}

if __name__ == "__main__":
    main()
