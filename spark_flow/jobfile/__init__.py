"""Job files (YAML): what may be in one, how it is read, and how it is run."""

from spark_flow.jobfile.entries.parallel_split import SplitSinkModel
from spark_flow.jobfile.entries.step import StepModel
from spark_flow.jobfile.load import load, load_stream, parameter_names
from spark_flow.jobfile.model.base import FlowModel, walk
from spark_flow.jobfile.model.job import JobConfig
from spark_flow.jobfile.model.references import is_reference, resolve
from spark_flow.jobfile.model.source import SourceModel
from spark_flow.jobfile.model.stream import StreamConfig
from spark_flow.jobfile.redo import Redo, redo, until

__all__ = [
    "FlowModel",
    "JobConfig",
    "Redo",
    "SourceModel",
    "SplitSinkModel",
    "StepModel",
    "StreamConfig",
    "is_reference",
    "load",
    "load_stream",
    "parameter_names",
    "redo",
    "resolve",
    "until",
    "walk",
]
