"""Data flow design patterns for PySpark and Delta Lake that survive a kill.

Pure transforms (``pipe``, ``union_by_name``, ``join_all``, ``with_completeness``) work on any DataFrame; the
durable patterns take a ``Run``.
"""

from spark_flow.completeness import Completeness
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
    by_data,
    by_date,
    by_parameter,
    by_schema,
    by_share,
    exclusive_choice,
    parallel_split,
    split_batch,
)
from spark_flow.frames import LazyFrame, read, write
from spark_flow.run import Outcome, Run
from spark_flow.sequence import Step, Transaction, local_sequencer, read_transaction, step, transaction
from spark_flow.storage.delta import delta
from spark_flow.storage.folders import csv, json, parquet
from spark_flow.storage.sinks import sink
from spark_flow.storage.sources import Source, source
from spark_flow.storage.staged import staged
from spark_flow.transforms import join_all, pipe, sql, union_by_name, with_completeness

__all__ = [
    "Choice",
    "Completeness",
    "FanIn",
    "LazyFrame",
    "Outcome",
    "Run",
    "Source",
    "Step",
    "Transaction",
    "aligned_fan_in",
    "all_done",
    "all_succeeded",
    "any_succeeded",
    "at_least",
    "by_data",
    "by_date",
    "by_parameter",
    "by_schema",
    "by_share",
    "csv",
    "delta",
    "error_table",
    "exclusive_choice",
    "join_all",
    "json",
    "local_sequencer",
    "parallel_split",
    "parquet",
    "pipe",
    "read",
    "read_transaction",
    "report_completeness",
    "sink",
    "source",
    "split_batch",
    "sql",
    "staged",
    "step",
    "transaction",
    "unaligned_fan_in",
    "union_by_name",
    "with_completeness",
    "write",
]
