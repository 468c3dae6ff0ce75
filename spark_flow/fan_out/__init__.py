"""Fan-out patterns (the book's section 4): parallel split and exclusive choice."""

from spark_flow.fan_out.conditions import Condition, by_data, by_date, by_parameter, by_schema, by_share
from spark_flow.fan_out.exclusive_choice import Choice, exclusive_choice
from spark_flow.fan_out.parallel_split import parallel_split
from spark_flow.fan_out.split_batch import split_batch

__all__ = [
    "Choice",
    "Condition",
    "by_data",
    "by_date",
    "by_parameter",
    "by_schema",
    "by_share",
    "exclusive_choice",
    "parallel_split",
    "split_batch",
]
