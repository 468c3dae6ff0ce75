"""The events of the ledger, and the protocol that a ledger implements."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

FORMAT = 1
"""The state folder's format. A higher one was written by a newer version and is refused."""

State = Literal["started", "succeeded", "reused", "failed", "skipped", "forgotten"]
Kind = Literal[
    "run", "source", "step", "branch", "merge", "sink", "choice", "marker", "trigger", "call", "expect", "fallback"
]


def now() -> dt.datetime:
    """Return the current time in UTC."""
    return dt.datetime.now(dt.timezone.utc)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a node. Events are only appended, never changed.

    Attributes:
        pipeline: The pipeline's name.
        key: The unit of work, usually an execution date.
        generation: 1, and one more for each deliberate rerun.
        attempt: 1, and one more for each retry of the generation.
        seq: The order of events within an attempt.
        node: The node's name, for example ``publish/lake``; empty for the run itself.
        kind: The kind of node.
        state: The node's new state; ``started`` records the intent of a node that writes, ``forgotten`` that a run is
            to be treated as if it had never been.
        revision: The number of the intended write; 0 for a node that has none.
        fingerprint: A hash of what the node was computed from (see ``spark_flow.core.fingerprint``).
        rows: Rows that the action wrote, if known.
        duration_ms: How long the action took, in milliseconds.
        reason: Why the node has this state, as text.
        error: The failure's message.
        detail: What a later attempt needs: a checkpoint's folder, a pinned version, a table.
        at: When the event was recorded, UTC.
    """

    pipeline: str
    key: str
    generation: int
    attempt: int
    seq: int
    node: str
    kind: Kind
    state: State
    revision: int = 0
    fingerprint: str = ""
    rows: int | None = None
    duration_ms: int | None = None
    reason: str = ""
    error: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    at: dt.datetime = field(default_factory=now)

    @property
    def order(self) -> tuple[int, int, int, dt.datetime]:
        """Sort key that puts the events of a key in order, oldest first."""
        return (self.generation, self.attempt, self.seq, self.at)


@dataclass(frozen=True)
class Fence:
    """Fencing token: writers with a lower token than the highest recorded under the same name are rejected.

    Attributes:
        name: What the lease is for.
        token: The lease's fencing token.
    """

    name: str
    token: int


class Ledger(Protocol):
    """The append-only record of what happened to nodes."""

    def append(self, events: Sequence[Event], fence: Fence | None = None) -> None:
        """Append events, all or none; they are durable when this returns.

        Raises:
            Fenced: A higher token was already recorded under the fence's name; nothing is appended.
        """

    def read(self, pipeline: str | None = None, key: str | None = None, *, kinds: Collection[Kind] = ()) -> list[Event]:
        """Return the events of a pipeline and key (``None``: of all), by ``Event.order`` within a key.

        Args:
            pipeline: The pipeline.
            key: The key.
            kinds: Only events of nodes of these kinds; empty for all. Most events of a large ledger are of branches.
        """

    def recorded_keys(self, pipeline: str | None = None, *, last: int | None = None) -> list[tuple[str, str]]:
        """Return the pipelines and keys that have events, the one with the newest event first.

        Args:
            pipeline: Only those of this pipeline.
            last: Return at most this many.
        """

    def latest(self, pipeline: str | None = None, *, last: int) -> list[Event]:
        """Return all events of the keys that ``recorded_keys`` returns, sorted as ``read`` sorts them."""

    def runs(self, pipeline: str, state: State, *, last: int) -> list[Event]:
        """Return the ``run`` events of a pipeline that have a state, of all keys: the last ones, newest first."""

    def token(self, name: str) -> int:
        """Return the highest token recorded by a fence of this name, or 0."""

    def maintain(self) -> None:
        """Keep appends fast without losing events; called at the end of a run."""
