"""What durability costs: the year's flights by a plain script, and by a run without and with its boundary.

    python benchmarks/daily_flights.py                       # five rounds over all of 2013
    python benchmarks/daily_flights.py --rounds 3 --days 31  # a quick try

Each round starts every side once, each in a process of its own with the settings of spark-submit.sh, into a
fresh folder, and in another order than the round before. The exit code is 1 when the sides' tables differ.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from deltalake import DeltaTable

ROOT = Path(__file__).resolve().parent.parent

from year import made  # noqa: E402 - of this folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

YEAR = 365
ROWS_OF_THE_YEAR = 11_864
WORK = ROOT / "benchmarks" / "work" / "daily_flights"
PLAIN = "plain script"
SIDES: Mapping[str, Sequence[str]] = {
    PLAIN: ["plain_flights.py"],
    "plain, unchecked": ["plain_flights.py", "--unchecked"],
    "run, no boundary": ["job_flights.py", "--no-boundary"],
    "run with boundary": ["job_flights.py"],
}
TABLES = {PLAIN: ".", "plain, unchecked": "."}  # where in its folder a side's table is, if not in daily_flights
AIMS = {"run, no boundary": 1.05, "run with boundary": 1.25}


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare a durable run with a plain PySpark script.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is run (5)")
    parser.add_argument("--days", type=int, default=YEAR, help="days of 2013 to process, from 1 January (365)")
    args = parser.parse_args()
    if args.rounds < 1 or not 1 <= args.days <= YEAR:
        parser.error("--rounds starts at 1, --days is 1 to 365")

    data = made(args.days)
    size = sum(len(file.read_bytes()) for file in data.rglob("*.json"))  # the disk's cache is warm now
    print(f"{args.days} days, {size / 1e6:.1f} MB of JSON; {args.rounds} rounds", flush=True)
    shutil.rmtree(WORK, ignore_errors=True)
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    cpu: dict[str, list[float]] = {side: [] for side in SIDES}
    tables: list[pa.Table] = []
    for number in range(args.rounds):
        for side in turned(list(SIDES), number):
            out = WORK / f"{number}-{side.replace(' ', '-')}"
            before = cpu_seconds()
            seconds[side].append(timed(side, data, out))
            cpu[side].append(cpu_seconds() - before)
            tables.append(table(out / TABLES.get(side, "daily_flights")))
            shutil.rmtree(out)
        print(
            f"round {number + 1}: " + ", ".join(f"{side} {times[-1]:.2f} s" for side, times in seconds.items()),
            flush=True,
        )
    show(seconds, "seconds of the work, without the session's start", AIMS)
    show(cpu, "CPU seconds of the whole process, for a machine that others use too", {})
    return judge(tables, ROWS_OF_THE_YEAR if args.days == YEAR else tables[0].num_rows)


def turned(sides: Sequence[str], by: int) -> list[str]:
    """The sides, another one first each time: none profits from what the others leave behind."""
    first = by % len(sides)
    return [*sides[first:], *sides[:first]]


def timed(side: str, data: Path, out: Path) -> float:
    """The seconds that one process of a side tells of its work, the session's start left out."""
    script, *options = SIDES[side]
    command = ["./spark-submit.sh", f"benchmarks/{script}", "--data", str(data), "--out", str(out), *options]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode:
        sys.exit(f"{side} failed with exit code {answer.returncode}:\n{answer.stdout}{answer.stderr}")
    return float(json.loads(answer.stdout.splitlines()[-1])["seconds"])


def table(path: Path) -> pa.Table:
    """A side's table, with its rows and columns in an order that does not depend on the side."""
    rows = DeltaTable(path).to_pyarrow_table()
    rows = rows.select(sorted(rows.column_names))
    return rows.sort_by([(name, "ascending") for name in ("date", "carrier", "origin")]).combine_chunks()


def cpu_seconds() -> float:
    """The CPU seconds of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def show(measured: Mapping[str, Sequence[float]], title: str, aims: Mapping[str, float]) -> None:
    base = median(measured[PLAIN])
    print(f"\n{title}\n{'':<20}{'median':>8}{'min':>8}{'max':>8}{'ratio':>8}{'aim':>7}")
    for side, times in measured.items():
        aim = f"{aims[side]:.2f}" if side in aims else "-"
        middle = median(times)
        print(f"{side:<20}{middle:>8.2f}{min(times):>8.2f}{max(times):>8.2f}{middle / base:>8.2f}{aim:>7}")


def judge(tables: Sequence[pa.Table], expected: int) -> int:
    counts = sorted({one.num_rows for one in tables})
    same = all(one.equals(tables[0]) for one in tables)
    if counts == [expected] and same:
        print(f"all {len(tables)} tables hold the same {expected} rows")
        return 0
    print(f"the tables differ: {counts} rows, expected {expected}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
