"""The job against a plain script with Spark's own defaults: CPU-heavy branches, light ones, and the whole year.

    python benchmarks/speed.py                       # five rounds of all (about 12 minutes, with nothing else running)
    python benchmarks/speed.py light --rounds 2      # some rows, fewer rounds

Each side is a process of its own, from its start to its end, the session's start included: what somebody who types
the command waits for. The sides take turns, and each round begins with the other one. The plain script runs under
Spark's own spark-submit with Delta's jars and no setting of ours; the job under spark-submit.sh. The exit code is 1
when the tables of a row differ.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import pyspark
from deltalake import DeltaTable

from spark_flow.cli.project import create
from spark_flow.spark import archive
from spark_flow.spark.jars import delta_jars, java_command, java_text
from spark_flow.spark.session import DELTA, ensure_archive

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "benchmarks" / "work" / "speed"
PROJECT = ROOT / "benchmarks" / "work" / "project"
DAY = "2024-03-01"

from year import made  # noqa: E402 - of this folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa


class Row(NamedTuple):
    """A row: both sides' scripts with their arguments, the tables that they make, the highest ratio aimed at.

    A job that ends with ``.yaml`` is started by ``spark-flow run``, which starts no spark-submit.
    """

    plain: Sequence[str]
    job: Sequence[str]
    tables: tuple[str, str]
    aim: float | None


def rows_of(data: Path) -> Mapping[str, Row]:
    flights, branches = ["--data", str(data)], ("plain_branches.py", "job_branches.py")
    return {
        "heavy": Row([branches[0], "heavy"], [branches[1], "heavy"], (".", "table"), 1.10),
        "light": Row([branches[0], "light"], [branches[1], "light", "--lazy"], (".", "table"), 0.85),
        "light-restart": Row([branches[0], "light"], [branches[1], "light"], (".", "table"), None),
        "year": Row(
            ["plain_flights.py", *flights],
            ["job_flights.py", *flights, "--no-boundary"],
            (".", "daily_flights"),
            1.05,
        ),
        "init": Row(
            ["plain_init.py", str(PROJECT / "data" / "orders"), DAY],
            [str(PROJECT / "job.yaml"), f"key={DAY}"],
            ("sales", "sales"),
            1.0,
        ),
    }


NAMES = {
    "heavy": "19 hashing branches, a checkpoint each",
    "light": "19 hours of flights, one plan",
    "light-restart": "19 hours of flights, a checkpoint each",
    "year": "all of 2013, no checkpoint",
    "init": "the project of `spark-flow init`, by `spark-flow run`",
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare our job with a plain script on Spark's own defaults.")
    parser.add_argument("row", nargs="*", choices=[*NAMES, []], help=f"{', '.join(NAMES)}; by default all")
    parser.add_argument("--rounds", type=int, default=5, help="how often each side is run (5)")
    parser.add_argument("--days", type=int, default=365, help="days of 2013 for the row 'year' (365)")
    args = parser.parse_args()
    ensure_archive()
    shutil.rmtree(PROJECT, ignore_errors=True)
    create(str(PROJECT))
    rows = {name: row for name, row in rows_of(made(args.days)).items() if name in (args.row or NAMES)}
    shutil.rmtree(WORK, ignore_errors=True)
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in rows}
    differing = []
    for number in range(args.rounds):
        for name, row in rows.items():
            tables = {}
            for side in ((0, 1), (1, 0))[number % 2]:
                out = WORK / f"{name}-{number}-{side}"
                seconds[name][side].append(timed(row, side, out))
                tables[side] = table(out / row.tables[side])
            if not (tables[0].num_rows and tables[0].equals(tables[1])):
                differing.append(f"{name}, round {number + 1}")
            plain, job = seconds[name][0][-1], seconds[name][1][-1]
            print(f"round {number + 1}, {name}: {plain:.1f} s plain, {job:.1f} s job", file=sys.stderr, flush=True)
        shutil.rmtree(WORK, ignore_errors=True)
    show(rows, seconds)
    print(f"the tables differ: {'; '.join(differing)}" if differing else "both sides' tables hold the same rows")
    return 1 if differing else 0


def timed(row: Row, side: int, out: Path) -> float:
    """The seconds of one process of a side, from nothing."""
    script, *arguments = (row.plain, row.job)[side]
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_"))}
    kept |= {key: value for key, value in os.environ.items() if key.startswith("SPARK_FLOW_")}
    settings = [part for key, value in DELTA.items() for part in ("--conf", f"{key}={value}")]
    spark_submit = f"{Path(pyspark.__file__).parent}/bin/spark-submit"
    launcher = ([spark_submit, "--jars", ",".join(delta_jars()), *settings], ["./spark-submit.sh"])[side]
    command = [*launcher, f"benchmarks/{script}", *arguments, "--out", str(out)]
    if script.endswith(".yaml"):
        ours = str(Path(sys.executable).parent / "spark-flow")
        command = [ours, "run", script, *arguments, f"state={out}/state", f"output={out}"]
    python = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    began = time.perf_counter()
    answer = subprocess.run(command, cwd=ROOT, env={**kept, **python}, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if answer.returncode:
        sys.exit(f"{command} failed with exit code {answer.returncode}:\n{answer.stdout}{answer.stderr}")
    return took


def table(path: Path) -> pa.Table:
    """A table, its rows and columns in an order that does not depend on the side."""
    rows = DeltaTable(path).to_pyarrow_table()
    rows = rows.select(sorted(rows.column_names))
    return rows.sort_by([(name, "ascending") for name in rows.column_names]).combine_chunks()


def show(rows: Mapping[str, Row], seconds: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
    """One Markdown table of all rows, under what they ran on."""
    build = java_text(java_command()).strip().splitlines()[-1]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    print(
        f"\n{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}, {build}"
    )
    print(f"Spark {pyspark.__version__}; class-data archive {'used' if archive.options() else 'not used'}\n")
    print("| what | plain, median s | min to max s | job, median s | min to max s | ratio | aim |")
    print("|---|---|---|---|---|---|---|")
    for name, row in rows.items():
        cells = [part for times in seconds[name] for part in (f"{median(times):.2f}", spread(times))]
        ratio = median(seconds[name][1]) / median(seconds[name][0])
        print(f"| {NAMES[name]} | {' | '.join(cells)} | {ratio:.2f} | {row.aim or '-'} |")


def spread(times: Sequence[float]) -> str:
    return f"{min(times):.2f} to {max(times):.2f}"


if __name__ == "__main__":
    sys.exit(main())
