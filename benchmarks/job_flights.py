"""The daily flights as a durable run: the other side of plain_flights.py, timed alike.

The session is started first. The seconds are those of the whole run: its YAML file read and checked, the run
opened, its flow, the run closed.

    ./spark-submit.sh benchmarks/job_flights.py --data benchmarks/data/365-days --out out/job --no-boundary
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from spark_flow import jobfile as files
from spark_flow.engine.run import Run
from spark_flow.jobfile.interpreter import execute
from spark_flow.spark.session import session

HERE = Path(__file__).resolve().parent
JOBS = HERE.parent / "jobs"
BOUNDARY = "flow.2.step.restart"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the daily flights table with a durable run.")
    parser.add_argument("--data", required=True, help="folder made by scripts/make_flights.py")
    parser.add_argument("--out", required=True, help="folder of the output and the state")
    parser.add_argument("--no-boundary", action="store_true", help="without the restart boundary after enrich")
    parser.add_argument("--nodes", action="store_true", help="print the milliseconds of each node as well")
    args = parser.parse_args()
    overrides = [f"vars.data={args.data}", f"output={args.out}", f"state={args.out}/state"]
    overrides += [f"{BOUNDARY}=false"] if args.no_boundary else []
    spark = session("job_flights")
    try:
        started = time.perf_counter()
        config = files.load(HERE / "daily_flights.yaml", overrides, beside=JOBS)
        with Run.open(config.pipeline, config.key, state=config.state, spark=spark) as run:
            execute(config, run, beside=JOBS)
        seconds = time.perf_counter() - started
    finally:
        spark.stop()
    for node in run.outcomes if args.nodes else ():
        print(f"{node.node}: {node.duration_ms} ms, {node.rows} rows, {node.reason}")
    print(json.dumps({"seconds": round(seconds, 3)}))


if __name__ == "__main__":
    main()
