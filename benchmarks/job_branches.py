"""Nineteen branches as a durable run: the other side of plain_branches.py.

./spark-submit.sh benchmarks/job_branches.py light --out out/job
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path

import spark_flow as sf
from spark_flow.spark.session import session

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "jobs"))

from plain_branches import DAY, HOURS, hashed

import flights


def main() -> None:
    parser = argparse.ArgumentParser(description="Write nineteen branches to one Delta table with a durable run.")
    parser.add_argument("work", choices=["heavy", "light"])
    parser.add_argument("--out", required=True, help="folder of the table and the state")
    parser.add_argument("--lazy", action="store_true", help="one plan, without a checkpoint for each branch")
    args = parser.parse_args()
    spark = session("job_branches")
    try:
        with sf.Run.open("branches", "2013-01-02", state=f"{args.out}/state", spark=spark) as run:
            if args.work == "heavy":
                inputs = {branch: functools.partial(hashed, spark, branch) for branch in HOURS}
                day = sf.aligned_fan_in(run, "branches", inputs, restart=not args.lazy)
            else:
                path = str(DAY / "hour={branch}")
                hours = sf.source("json", path, schema=flights.SCHEMA, branches=HOURS)
                day = sf.aligned_fan_in(run, "hours", hours, each=flights.clean, restart=not args.lazy)
            sf.write(run, "table", day.frame, sf.delta(f"{args.out}/table", replace_where="1 = 1"))
    finally:
        spark.stop()


if __name__ == "__main__":
    main()
