"""The base of entries that append one step to the chain."""

from typing import TYPE_CHECKING

from spark_flow.jobfile.model.base import FlowModel, Name, frame_of
from spark_flow.sequence import local_sequencer

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.sequence import Step


class TransformModel(FlowModel):
    """A pure transform as an entry: one node, computed within what needs it. A model defines ``step``.

    Attributes:
        name: The node's name.
    """

    makes_frame = True
    name: Name

    @property
    def lazy(self) -> bool:
        """A transform has no action of its own."""
        return True

    def nodes(self) -> tuple[str, ...]:
        """The step's name."""
        return (self.name,)

    def step(self, flow: "Flow", frame: "LazyFrame") -> "Step":
        """The step that it describes, for the frame so far."""
        raise NotImplementedError

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame":
        """Append the step to the chain."""
        before = frame_of(frame)
        return local_sequencer(scope.run, before, [self.step(flow, before)])
