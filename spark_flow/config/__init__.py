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
from spark_flow.config.flow import FlowEntry, ReadModel, StepModel, TransactionModel, WriteModel
from spark_flow.config.load import load
from spark_flow.config.models import JobConfig, SourceModel
from spark_flow.config.references import is_reference, resolve

__all__ = [
    "AlignedFanInModel",
    "FallbackModel",
    "FanInModel",
    "FlowEntry",
    "FlowModel",
    "JobConfig",
    "ReadModel",
    "ReportCompletenessModel",
    "SourceModel",
    "StepModel",
    "TransactionModel",
    "UnalignedFanInModel",
    "WithCompletenessModel",
    "WriteModel",
    "is_reference",
    "load",
    "resolve",
]
