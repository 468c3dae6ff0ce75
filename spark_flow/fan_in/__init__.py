"""Fan-in patterns (the book's section 3): aligned and unaligned fan-in, and the completeness table."""

from spark_flow.core.arrival_rules import Require, all_done, all_succeeded, any_succeeded, at_least
from spark_flow.fan_in.aligned import aligned_fan_in
from spark_flow.fan_in.branches import FanIn
from spark_flow.fan_in.completeness_table import report_completeness
from spark_flow.fan_in.unaligned import ErrorTable, error_table, unaligned_fan_in

__all__ = [
    "ErrorTable",
    "FanIn",
    "Require",
    "aligned_fan_in",
    "all_done",
    "all_succeeded",
    "any_succeeded",
    "at_least",
    "error_table",
    "report_completeness",
    "unaligned_fan_in",
]
