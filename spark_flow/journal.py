"""A run's pages of the ledger: what happened to its key before, and what is added now."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

from spark_flow.ledger import Event, Fence, Kind, Ledger
from spark_flow.ledger.port import now

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Right(Protocol):
    """The right to do a key's work, which may be lost on the way (``spark_flow.orchestration``)."""

    @property
    def fence(self) -> Fence:
        """What the ledger refuses an older holder by."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What is recorded of it where the run begins."""

    def check(self) -> None:
        """Whether it is held still.

        Raises:
            LeaseLost: Others may do the work now.
        """


class Journal:
    """The events of one key, the run's own place among them, and the rules of revisions.

    Attributes:
        generation: 1, and one more for each rerun.
        attempt: 1, and one more for each retry of the generation.
        began: When the generation's first attempt began, in UTC.
        right: What keeps others from the same key; without one nothing does.
    """

    def __init__(
        self, ledger: Ledger, pipeline: str, key: str, *, rerun: bool, cause: str = "", right: Right | None = None
    ) -> None:
        self.pipeline = pipeline
        self.key = key
        self.right = right
        self._ledger = ledger
        self._lock = threading.RLock()
        self._events = ledger.read(pipeline, key)
        self.generation, self.attempt = _place(self._events, rerun=rerun, cause=cause)
        self._seq = 0
        self.began = min((e.at for e in self._events if e.generation == self.generation), default=now())

    def begin(self, detail: Mapping[str, Any]) -> None:
        """Record that the attempt has begun, and by what command or cause."""
        when = {"at": self.began} if self.attempt == 1 else {}  # later attempts read it from this event
        self.record([self.event("", "run", "started", detail=detail, **when)])

    def event(self, node: str, kind: Kind, state: Any, **fields: Any) -> Event:
        """A new event of this attempt; not recorded yet."""
        with self._lock:
            self._seq += 1
            place: dict[str, Any] = {"generation": self.generation, "attempt": self.attempt, "seq": self._seq}
        return Event(pipeline=self.pipeline, key=self.key, node=node, kind=kind, state=state, **place, **fields)

    def record(self, events: Sequence[Event]) -> None:
        """Add events, all or none.

        Raises:
            Fenced: Another holder of the right has recorded since.
        """
        self._ledger.append(events, self.right.fence if self.right else None)
        with self._lock:
            self._events.extend(events)

    def last(self, node: str) -> Event | None:
        """A node's last real event in this generation: only the latest revision counts.

        After a step was changed and changed back, its old success is followed by the events of the change.
        """
        with self._lock:
            real = ("started", "succeeded", "failed")
            mine = [e for e in self._events if e.node == node and e.generation == self.generation and e.state in real]
        return mine[-1] if mine else None

    def revision(self, node: str, fingerprint: str, remembered: int) -> int:
        """The revision to write a node under.

        A retry of the last intent (same generation, same fingerprint, not ended) keeps its revision, so that what
        it may have written is recognised. Anything else takes the next one, above the ledger's last and above the
        one that the target itself remembers, should the ledger be lost or older than the target.
        """
        with self._lock:
            mine = [e for e in self._events if e.node == node and e.revision]
        last = mine[-1] if mine else None
        if last is None:
            return remembered + 1
        same = (last.generation, last.fingerprint) == (self.generation, fingerprint)
        if same and last.state != "succeeded" and remembered <= last.revision:
            return last.revision
        return max(last.revision, remembered) + 1

    def maintain(self) -> None:
        """Keep the ledger fast."""
        self._ledger.maintain()


def _place(events: Sequence[Event], *, rerun: bool, cause: str) -> tuple[int, int]:
    """The generation and attempt that a new run of a key is."""
    if not events:
        return 1, 1
    generation = max(e.generation for e in events)
    runs = [e for e in events if e.kind == "run" and e.generation == generation]
    ended = any(e.state == "succeeded" for e in runs)
    # A rerun that was killed is gone on with: the same command again reuses what succeeded (decision 0004).
    anew = rerun and (generation == 1 or ended)
    # What asks for the run has changed, so what was pinned for the old cause is out of date; the same cause is a retry.
    anew = anew or (bool(cause) and all(e.detail.get("cause") != cause for e in runs))
    if anew:
        return generation + 1, 1
    return generation, max((e.attempt for e in runs), default=0) + 1
