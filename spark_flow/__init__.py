"""Restartable data flow design patterns for PySpark and Delta Lake.

The pure transforms (``spark_flow.transforms``) work on any DataFrame. The durable patterns take a ``Run``: run the same
command again after a crash, and only the unfinished work runs.
"""

from spark_flow.core.completeness import Completeness
from spark_flow.engine.lazy_frame import LazyFrame
from spark_flow.engine.limits import Limits
from spark_flow.engine.mode import Mode, Permission
from spark_flow.engine.outcome import Outcome
from spark_flow.engine.reading import read
from spark_flow.engine.run import Run
from spark_flow.engine.writing import write
from spark_flow.fan_in import (
    FanIn,
    aligned_fan_in,
    all_done,
    all_succeeded,
    any_succeeded,
    at_least,
    error_table,
    report_completeness,
    unaligned_fan_in,
)
from spark_flow.fan_out import (
    Choice,
    Condition,
    by_data,
    by_date,
    by_parameter,
    by_schema,
    by_share,
    exclusive_choice,
    parallel_split,
    split_batch,
)
from spark_flow.lineage import emit_lineage
from spark_flow.orchestration.calendar import Calendar, daily, hourly, listed
from spark_flow.orchestration.concurrent_runner import ConcurrentRunner
from spark_flow.orchestration.pipeline import Pipeline, Slots, pipeline
from spark_flow.orchestration.single_runner import SingleRunner
from spark_flow.sequence import (
    Consumer,
    Handover,
    Polling,
    Rule,
    Step,
    Transaction,
    announcing,
    call,
    consumer,
    expect,
    expose,
    holds,
    hours_of_day,
    last_days,
    local_sequencer,
    publish,
    read_transaction,
    row_count,
    same_key,
    step,
    transaction,
    trigger,
    unique,
    wait_for,
)
from spark_flow.storage.arrivals import Wait
from spark_flow.storage.delta import delta
from spark_flow.storage.folders import csv, json, parquet
from spark_flow.storage.sinks import sink
from spark_flow.storage.sources import Source, source
from spark_flow.storage.staged import staged
from spark_flow.transforms import join_all, pipe, sql, union_by_name, with_completeness

__all__ = [
    "Calendar",
    "Choice",
    "Completeness",
    "ConcurrentRunner",
    "Condition",
    "Consumer",
    "FanIn",
    "Handover",
    "LazyFrame",
    "Limits",
    "Mode",
    "Outcome",
    "Permission",
    "Pipeline",
    "Polling",
    "Rule",
    "Run",
    "SingleRunner",
    "Slots",
    "Source",
    "Step",
    "Transaction",
    "Wait",
    "aligned_fan_in",
    "all_done",
    "all_succeeded",
    "announcing",
    "any_succeeded",
    "at_least",
    "by_data",
    "by_date",
    "by_parameter",
    "by_schema",
    "by_share",
    "call",
    "consumer",
    "csv",
    "daily",
    "delta",
    "emit_lineage",
    "error_table",
    "exclusive_choice",
    "expect",
    "expose",
    "holds",
    "hourly",
    "hours_of_day",
    "join_all",
    "json",
    "last_days",
    "listed",
    "local_sequencer",
    "parallel_split",
    "parquet",
    "pipe",
    "pipeline",
    "publish",
    "read",
    "read_transaction",
    "report_completeness",
    "row_count",
    "same_key",
    "sink",
    "source",
    "split_batch",
    "sql",
    "staged",
    "step",
    "transaction",
    "trigger",
    "unaligned_fan_in",
    "union_by_name",
    "unique",
    "wait_for",
    "with_completeness",
    "write",
]
