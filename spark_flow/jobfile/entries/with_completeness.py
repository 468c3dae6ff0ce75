"""``with_completeness``: a column that says whether the frame is approximate."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from spark_flow.jobfile.model.base import PATTERN, Name, Text
from spark_flow.jobfile.model.transform import TransformModel
from spark_flow.sequence import Step, step
from spark_flow.transforms import with_completeness

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.jobfile.interpreter import Flow


class WithCompletenessModel(TransformModel):
    """The frame with a column that says whether it is approximate; a bare name is that of the column.

    Attributes:
        column: The new boolean column's name.
    """

    short = ("column", str)
    needs_completeness = True
    pattern: Literal["with_completeness"] = Field("with_completeness", alias=PATTERN)
    name: Name = "with_completeness"
    column: Text = "is_approximate"

    def step(self, flow: "Flow", frame: "LazyFrame") -> Step:  # noqa: ARG002 - it takes no source
        """The step, with the branches that the frame was merged from."""
        expected = [f"{part.node}/{name}" for part in frame.completeness for name in part.expected]
        arrived = [f"{part.node}/{name}" for part in frame.completeness for name in part.arrived]
        return step(with_completeness, name=self.name, expected=expected, arrived=arrived, column=self.column)
