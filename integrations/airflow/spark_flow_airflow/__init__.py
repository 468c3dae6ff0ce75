"""Run spark_flow's jobs from Apache Airflow.

A task is the job's own command (``spark-flow run FILE key=...``), so Airflow's retries, clears and backfills keep the
promise: what succeeded is reused, what failed runs again, nothing is written twice.
"""

from spark_flow_airflow.dags import dag_from_file
from spark_flow_airflow.markers import MarkerSensor, MarkerTrigger, PublishedOperator, marker_asset
from spark_flow_airflow.operators import SparkFlowBranchOperator, SparkFlowOperator

__all__ = [
    "MarkerSensor",
    "MarkerTrigger",
    "PublishedOperator",
    "SparkFlowBranchOperator",
    "SparkFlowOperator",
    "dag_from_file",
    "marker_asset",
]
