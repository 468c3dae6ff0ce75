from . import errors as errors
from .core.completeness import Completeness
from .engine.lazy_frame import LazyFrame
from .engine.limits import Limits
from .engine.mode import Mode, Permission
from .engine.outcome import Outcome
from .engine.reading import read
from .engine.run import Run
from .engine.writing import write
from .fan_in import (
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
from .fan_out import (
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
from .lineage import emit_lineage
from .orchestration.calendar import Calendar, daily, hourly, listed
from .orchestration.concurrent_runner import ConcurrentRunner
from .orchestration.pipeline import Pipeline, Slots, pipeline
from .orchestration.single_runner import SingleRunner
from .sequence import (
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
from .storage.arrivals import Wait
from .storage.delta import delta
from .storage.folders import csv, json, parquet
from .storage.sinks import sink
from .storage.sources import Source, source
from .storage.staged import staged
from .transforms import join_all, pipe, sql, union_by_name, with_completeness
from .view.progress import progress

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
    "progress",
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
