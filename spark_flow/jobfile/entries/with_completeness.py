"""``with_completeness``: a column that says whether the frame is approximate."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from spark_flow.jobfile.model.base import PATTERN, FlowModel, Name, Text, needed
from spark_flow.sequence import local_sequencer, step
from spark_flow.transforms import with_completeness

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow


class WithCompletenessModel(FlowModel):
    """The frame with a column that says whether it is approximate; a bare name is that of the column."""

    short = ("column", str)
    needs_completeness = True
    pattern: Literal["with_completeness"] = Field("with_completeness", alias=PATTERN)
    name: Name = "with_completeness"
    column: Text = "is_approximate"

    def nodes(self) -> tuple[str, ...]:
        """The step's name."""
        return (self.name,)

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame":  # noqa: ARG002
        """Append the step to the chain."""
        parts = needed(frame).completeness
        expected = [f"{part.node}/{name}" for part in parts for name in part.expected]
        arrived = [f"{part.node}/{name}" for part in parts for name in part.arrived]
        flag = step(with_completeness, name=self.name, expected=expected, arrived=arrived, column=self.column)
        return local_sequencer(scope.run, needed(frame), [flag])
