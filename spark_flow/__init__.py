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
from spark_flow.frames import LazyFrame, read, write
from spark_flow.run import Outcome, Run
from spark_flow.sequence import Step, Transaction, local_sequencer, read_transaction, step, transaction
from spark_flow.storage.delta import delta
from spark_flow.storage.folders import csv, json, parquet
from spark_flow.storage.sources import Source, source
from spark_flow.storage.staged import staged
from spark_flow.transforms import join_all, pipe, sql, union_by_name, with_completeness

__all__ = [
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
    "csv",
    "delta",
    "error_table",
    "join_all",
    "json",
    "local_sequencer",
    "parquet",
    "pipe",
    "read",
    "read_transaction",
    "report_completeness",
    "source",
    "sql",
    "staged",
    "step",
    "transaction",
    "unaligned_fan_in",
    "union_by_name",
    "with_completeness",
    "write",
]
