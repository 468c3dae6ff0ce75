"""YAML files: what may stand in one, and how it is read. Nothing here runs anything."""

from spark_flow.jobfile.entries.fan_in import (
    AlignedFanInModel,
    FallbackModel,
    FanInModel,
    ReportCompletenessModel,
    UnalignedFanInModel,
    WithCompletenessModel,
)
from spark_flow.jobfile.entries.fan_out import ParallelSplitModel, SplitSinkModel, WhenModel
from spark_flow.jobfile.entries.isolated_sequencer import PublishModel, TriggerModel, WaitForModel
from spark_flow.jobfile.entries.sequence import ReadModel, SinkModel, StepModel, WriteModel
from spark_flow.jobfile.load import load, load_stream, parameter_names
from spark_flow.jobfile.model.base import FlowModel
from spark_flow.jobfile.model.flow import ExclusiveChoiceModel, FlowEntry, RouteModel, TransactionModel, walk
from spark_flow.jobfile.model.job import JobConfig, SourceModel
from spark_flow.jobfile.model.references import is_reference, resolve
from spark_flow.jobfile.model.stream import StreamConfig
from spark_flow.jobfile.redo import Redo, redo

__all__ = [
    "AlignedFanInModel",
    "ExclusiveChoiceModel",
    "FallbackModel",
    "FanInModel",
    "FlowEntry",
    "FlowModel",
    "JobConfig",
    "ParallelSplitModel",
    "PublishModel",
    "ReadModel",
    "Redo",
    "ReportCompletenessModel",
    "RouteModel",
    "SinkModel",
    "SourceModel",
    "SplitSinkModel",
    "StepModel",
    "StreamConfig",
    "TransactionModel",
    "TriggerModel",
    "UnalignedFanInModel",
    "WaitForModel",
    "WhenModel",
    "WithCompletenessModel",
    "WriteModel",
    "is_reference",
    "load",
    "load_stream",
    "parameter_names",
    "redo",
    "resolve",
    "walk",
]
