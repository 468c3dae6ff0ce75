"""What ``once`` is given: a node, and the target of its action."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spark_flow.engine.graph import Lazy
    from spark_flow.ledger import Event, Kind
    from spark_flow.storage.sink_protocol import Intent


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """A named unit of work in a run.

    Attributes:
        name: As ``publish/lake``; unique within the run.
        kind: What it does.
        fingerprint: A hash of what it is computed from; another one makes an earlier success invalid.
        inputs: Frames that its action uses; computed only when the action runs.
        writes: Whether its action writes to a target, so that the intent is recorded first, under a revision.
    """

    name: str
    kind: Kind = "step"
    fingerprint: str = ""
    inputs: Sequence[Lazy] = ()
    writes: bool = True


class Target(Protocol):
    """What an action writes to. Each method has a default: a target overrides what it can answer."""

    def last_revision(self) -> int:
        """The last revision that the target itself remembers, in case the ledger is lost; 0 for none."""
        return 0

    def proven_revision(self) -> int:
        """The last revision that this pipeline wrote: if the ledger does not know it, the ledger is old."""
        return self.last_revision()

    def why_invalid(self, event: Event) -> str:  # noqa: ARG002 - for those that override it
        """Why a recorded success is invalid; empty when it is valid."""
        return ""

    def validate(self, intent: Intent) -> None:  # noqa: ARG002 - for those that override it
        """Refuse an action that could duplicate rows, before any work is done.

        Raises:
            CannotReplace: The revision must replace rows, and the target cannot.
        """
        return


class NoTarget(Target):
    """The target of an action whose only result is its event in the ledger."""


NO_TARGET = NoTarget()
