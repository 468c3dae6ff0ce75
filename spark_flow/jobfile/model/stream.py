"""A stream's YAML file: one source, several Delta tables."""

import itertools
from typing import Annotated, Literal

from pydantic import AfterValidator, ValidationInfo, field_validator

from spark_flow.jobfile.entries.parallel_split import SplitSinkModel
from spark_flow.jobfile.model.base import FilePath, Model, Name, Text
from spark_flow.jobfile.model.fields import overlap, references_function
from spark_flow.jobfile.model.problems import refuse, show
from spark_flow.jobfile.model.source import SourceModel

_NOT_OF_BATCHES = {
    *("mode", "replace_where", "staging", "spark", "table", "cluster_by", "comment", "schema_"),
    *("on", "sequence_by", "delete_when"),
}


class StreamConfig(Model):
    """A whole file of a stream.

    Attributes:
        app_id: The stream's permanent name, tied to its checkpoint: change both or neither.
        root: The folder at which relative paths start, relative to the file; by default the working folder.
        state: The state folder.
        output: The root of the outputs, used as ``${output}``.
        source: What is read as a stream.
        each: A function that is applied to each batch.
        sinks: Delta tables by name; each batch is appended to each of them.
        checkpoint: The folder of Spark's streaming checkpoint.
        trigger: ``available_now``, or an interval between batches: ``10 seconds``.
    """

    app_id: Name
    root: Text | None = None
    state: FilePath = "state"
    output: FilePath = "out"
    source: SourceModel
    each: Annotated[str | None, AfterValidator(references_function)] = None
    sinks: dict[Name, SplitSinkModel]
    checkpoint: FilePath
    trigger: Literal["available_now"] | Text = "available_now"

    @field_validator("source")
    @classmethod
    def _a_stream_knows_its_columns(cls, value: SourceModel) -> SourceModel:
        if value.format != "delta" and value.schema_ is None:
            raise refuse("a stream of files without schema", "a schema", "For example schema: flights:SCHEMA.")
        if value.branches or value.bad_records:
            raise refuse("branches or bad_records", "neither in a stream", "Leave them out; path may be a pattern.")
        return value

    @field_validator("sinks")
    @classmethod
    def _tables_only(cls, value: dict[str, SplitSinkModel], info: ValidationInfo) -> dict[str, SplitSinkModel]:  # noqa: ARG003
        if not value:
            raise refuse("no sink", "at least one")
        for name, sink in value.items():
            if sink.format != "delta":
                raise refuse(f"sink {name} with format {show(sink.format)}", "format delta", "Batches need its ids.")
            odd = sorted(_NOT_OF_BATCHES & sink.model_fields_set)
            unused = {"with_", "restart", "version"} & (sink.step.model_fields_set if sink.step else set())
            odd += [f"step.{key.rstrip('_')}" for key in sorted(unused)]
            if odd:
                raise refuse(f"sink {name} with {odd[0].rstrip('_')}", "none: batches are appended", "Leave it out.")
        for one, other in itertools.combinations(value, 2):
            if overlap(value[one].path, value[other].path):
                raise refuse(f"{value[other].path!r} of {other}", f"a path apart from {value[one].path!r} of {one}")
        return value
