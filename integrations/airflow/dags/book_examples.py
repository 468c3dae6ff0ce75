"""The Airflow examples of the book's chapter 6, each from a job's file: see ``docs/orchestrators/airflow.md``.

``SPARK_FLOW_HOME`` is a clone of spark_flow, or a folder with its ``conf``, ``jobs`` and ``data``.
"""

import os
from pathlib import Path

from spark_flow_airflow import dag_from_file

HOME = Path(os.environ.get("SPARK_FLOW_HOME") or Path(__file__).resolve().parents[3])
JOBS = {"PYTHONPATH": str(HOME / "jobs")}  # the modules of steps

# 6-1, the local sequencer: a task for each part, in order.
local_sequencer = dag_from_file("conf/local_sequencer.yaml", tasks="checkpoints", cwd=HOME, env=JOBS)

# 6-4, the isolated sequencer, by data: the consumer is started by the provider's asset, whose partition is the key.
isolated_provider = dag_from_file("conf/isolated_provider.yaml", cwd=HOME, env=JOBS)
isolated_consumer = dag_from_file("conf/isolated_consumer.yaml", waits="assets", cwd=HOME, env=JOBS)

# 6-5, the isolated sequencer, by task: the provider starts its consumer.
trigger_consumer = dag_from_file("conf/trigger_consumer.yaml", dag_id="trigger_consumer", cwd=HOME, env=JOBS)

# 6-6, the aligned fan-in: a task for each hour, and the day when all have succeeded.
aligned_fan_in = dag_from_file(
    "conf/flights_of_day.yaml",
    dag_id="aligned_fan_in",
    branches=["conf/flights_by_hour.yaml"],
    overrides=["pipeline=flights_of_whole_day", "flow.0.wait_for.require=all_succeeded"],
    cwd=HOME,
    env=JOBS,
)

# 6-9, the unaligned fan-in: the day when all hours have ended; the rule of the file decides what is enough.
unaligned_fan_in = dag_from_file(
    "conf/flights_of_day.yaml",
    dag_id="unaligned_fan_in",
    branches=["conf/flights_by_hour.yaml"],
    cwd=HOME,
    env=JOBS,
)

# The main job, whose fan-in is one task: its branches share the lease of the key.
daily_flights = dag_from_file("conf/daily_flights.yaml", tasks="checkpoints", cwd=HOME, env=JOBS)

# 6-12, the parallel split: one frame, several sinks.
parallel_split = dag_from_file("conf/parallel_split.yaml", cwd=HOME, env=JOBS)

# 6-17, the exclusive choice: a branch task for each choice, and the routes that were not taken skipped.
exclusive_choice = dag_from_file("conf/exclusive_choice.yaml", tasks="checkpoints", cwd=HOME, env=JOBS)

# 6-21, the single runner: one day at a time, after the day before has succeeded.
single_runner = dag_from_file("conf/single_runner.yaml", cwd=HOME, env=JOBS)

# 6-22, the concurrent runner: days in parallel, within a pool.
concurrent_runner = dag_from_file("conf/concurrent_runner.yaml", cwd=HOME, env=JOBS)
