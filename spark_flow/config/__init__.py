"""YAML files: what may stand in one, and how it is read. Nothing here runs anything."""

from spark_flow.config.flow import FlowEntry, FlowModel, ReadModel, StepModel, TransactionModel, WriteModel
from spark_flow.config.load import load
from spark_flow.config.models import JobConfig, SourceModel
from spark_flow.config.references import is_reference, resolve

__all__ = [
    "FlowEntry",
    "FlowModel",
    "JobConfig",
    "ReadModel",
    "SourceModel",
    "StepModel",
    "TransactionModel",
    "WriteModel",
    "is_reference",
    "load",
    "resolve",
]
