"""YAML files: what may stand in one, and how it is read. Nothing here runs anything."""

from spark_flow.config.base import FlowModel
from spark_flow.config.fan_in import (
    AlignedFanInModel,
    FallbackModel,
    FanInModel,
    ReportCompletenessModel,
    UnalignedFanInModel,
    WithCompletenessModel,
)
from spark_flow.config.fan_out import ParallelSplitModel, SplitSinkModel, WhenModel
from spark_flow.config.flow import ExclusiveChoiceModel, FlowEntry, RouteModel, TransactionModel, walk
from spark_flow.config.isolated import PublishModel, TriggerModel, WaitForModel
from spark_flow.config.load import load, load_stream, parameter_names
from spark_flow.config.models import JobConfig, SourceModel
from spark_flow.config.partial import Redo, redo
from spark_flow.config.references import is_reference, resolve
from spark_flow.config.sequence import ReadModel, SinkModel, StepModel, WriteModel
from spark_flow.config.stream import StreamConfig

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
