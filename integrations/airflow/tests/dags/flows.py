"""DAGs of the tests."""

import datetime as dt
import os

from spark_flow_airflow import dag_from_file

SOON = dt.timedelta(seconds=2)
HOME = os.environ["SPARK_FLOW_HOME"]
common = {"cwd": HOME, "retry_delay": SOON, "retry_later": SOON, "give_up_after": dt.timedelta(minutes=3)}

parts = dag_from_file("flows/parts.yaml", tasks="checkpoints", **common)
whole = dag_from_file("flows/parts.yaml", dag_id="whole", overrides=["pipeline=whole", "output=out/whole"], **common)
consumer = dag_from_file("flows/consumer.yaml", **common)
by_asset = dag_from_file(
    "flows/consumer.yaml",
    dag_id="by_asset",
    waits="assets",
    overrides=["pipeline=by_asset", "output=out/by_asset", "markers=out/markers"],
    **common,
)
past = dag_from_file("flows/past.yaml", **common)
without_planes = dag_from_file(
    "conf/daily_flights.yaml",
    tasks="checkpoints",
    dag_id="without_planes",
    retries=0,
    cwd=HOME,
    env={"PYTHONPATH": f"{HOME}/jobs"},
)
