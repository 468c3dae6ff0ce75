"""The inputs of each node of a file's flow, without a run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from spark_flow.jobfile.model.base import FlowModel


@dataclass
class Wiring:
    """What the entries of a flow note of themselves, in order.

    Attributes:
        sources: The names of the file's sources.
        inputs: The nodes that each node is computed from.
        written: The sinks so far, which markers and views are about.
    """

    sources: Collection[str]
    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)

    def along(self, flow: Sequence[FlowModel], before: tuple[str, ...] = (), prefix: str = "") -> tuple[str, ...]:
        """Note all entries of a flow; returns the nodes that its frame is of at the end."""
        for entry in flow:
            before = entry.wire(self, before, prefix)
        return before
