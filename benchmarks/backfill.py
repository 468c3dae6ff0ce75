"""What a backfill of fourteen days costs: one after another, side by side, and as applications of their own.

    python benchmarks/backfill.py                       # five rounds, the third side in one of them (half an hour)
    python benchmarks/backfill.py --rounds 1 --days 4   # a quick try

Each side is one command as a user types it, from nothing, its Spark session included; the third is as many commands.
Sides take turns to begin. All must write the same number of rows. Shown besides: how many cores each side kept busy, as
two runs at once are faster only where one leaves a core idle.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import time
from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path
from statistics import median

from deltalake import DeltaTable, QueryBuilder
from year import made

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "benchmarks" / "work" / "backfill"
CONFIG = ["--config", "benchmarks/backfill.yaml"]
SIDES = ("single runner", "concurrent runner", "one spark-submit each")
AIM = 1.4  # times faster than the single runner, side by side on two cores


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a backfill of many days.")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is run (5)")
    parser.add_argument("--days", type=int, default=14, help="how many days (14)")
    parser.add_argument("--at-once", type=int, default=2, help="runs of the concurrent runner at once (2)")
    parser.add_argument("--submits", type=int, default=1, help="in how many rounds the third side is run (1)")
    args = parser.parse_args()
    made(365)
    took: dict[str, list[float]] = defaultdict(list)
    cores: dict[str, list[float]] = defaultdict(list)
    for number in range(args.rounds):
        sides = SIDES if number < args.submits else SIDES[:2]
        for place in range(len(sides)):
            side = sides[(place + number) % len(sides)]
            spent, used = timed(side, args.days, args.at_once)
            took[side].append(spent)
            cores[side].append(used / spent)
            print(f"round {number + 1}, {side}: {spent:.1f} s, {cores[side][-1]:.2f} cores busy", flush=True)
    base = median(took[SIDES[0]])
    for side, seconds in took.items():
        shown = f"median {median(seconds):.1f} s, {min(seconds):.1f} to {max(seconds):.1f}"
        faster = f"{base / median(seconds):.2f} times the speed of the first"
        print(
            f"{side}: {shown}; {faster}; {median(cores[side]):.2f} cores busy"
            + (f" (aim: {AIM})" if side == SIDES[1] else "")
        )
    shutil.rmtree(WORK)


def timed(side: str, days: int, at_once: int) -> tuple[float, float]:
    """The seconds of one side, from nothing, and the seconds of all cores that it used."""
    shutil.rmtree(WORK, ignore_errors=True)
    keys = [(date(2013, 1, 1) + timedelta(days=n)).isoformat() for n in range(days)]
    span = f"{keys[0]}..{keys[-1]}"
    commands = {
        SIDES[0]: [["jobs/single_runner.py", *CONFIG, span]],
        SIDES[1]: [["jobs/concurrent_runner.py", *CONFIG, span, f"runner.max_active_runs={at_once}"]],
        SIDES[2]: [["jobs/daily_flights.py", *CONFIG, f"key={key}"] for key in keys],
    }
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in commands[side]:
        done = subprocess.run(
            ["./spark-submit.sh", *command],
            cwd=ROOT,
            env={**os.environ, "MASTER": "local[2]"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{side}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    table = DeltaTable(str(WORK / "out" / "daily_flights"))
    counted = QueryBuilder().register("t", table).execute("SELECT count(DISTINCT date) AS days FROM t").read_all()
    if counted["days"][0].as_py() != days:
        raise SystemExit(f"{side}: {counted['days'][0]} days are in the table, expected {days}")
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
