"""What the ledger holds, and what it must be able to do."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT = 1
"""The state folder's format. A higher one was written by a newer version and is refused."""

State = Literal["started", "succeeded", "reused", "failed", "skipped"]
Kind = Literal["run", "source", "step", "branch", "merge", "sink", "choice", "marker", "trigger", "fallback"]


def now() -> dt.datetime:
    """The time of an event, in UTC."""
    return dt.datetime.now(dt.timezone.utc)


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened to one node. Events are only ever added.

    Attributes:
        pipeline: The pipeline's name.
        key: The unit of work, usually an execution date.
        generation: 1, and one more for each deliberate rerun.
        attempt: 1, and one more for each retry of the generation.
        seq: The order of events within an attempt.
        node: The node's name, as ``publish/lake``; empty for the run itself.
        kind: What the node is.
        state: ``started`` is the intent of a node that writes.
        revision: The intent's number; 0 for a node that takes none.
        fingerprint: What the node was made of (see ``spark_flow.core.fingerprint``).
        rows: Rows that the action wrote, where it is known.
        duration_ms: How long the action took, in milliseconds.
        reason: Why the state is what it is, in words.
        error: The failure's message.
        detail: What a later attempt needs: a boundary's folder, a pinned version, a table.
        at: When it was recorded, UTC.
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
        """Events of a key, oldest first."""
        return (self.generation, self.attempt, self.seq, self.at)


@dataclass(frozen=True)
class Fence:
    """Keeps out who has lost the right to record: of one name, a lower number is refused after a higher one was seen.

    Attributes:
        name: What the right is for.
        token: The lease's fencing token.
    """

    name: str
    token: int


class Ledger(Protocol):
    """The append-only record of what happened to nodes."""

    def append(self, events: Sequence[Event], fence: Fence | None = None) -> None:
        """Add events, all or none; they are durable when this returns.

        Raises:
            Fenced: Events were added before under the fence's name and a higher token; nothing is added.
        """

    def read(self, pipeline: str | None = None, key: str | None = None) -> list[Event]:
        """The events of a pipeline and key (``None``: of all), by ``Event.order`` within a key."""

    def token(self, name: str) -> int:
        """The highest token that events were added under by a fence of this name; 0 for none."""

    def maintain(self) -> None:
        """Keep appends fast; called at the end of a run. Loses no event."""
