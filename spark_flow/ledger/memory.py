"""An in-memory ledger for tests, with the same contract."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from spark_flow.errors import Fenced

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from spark_flow.ledger.event import Event, Fence, Kind, State


class MemoryLedger:
    """Events in a list. It passes the same contract tests as the Delta ledger."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._fences: dict[str, int] = {}
        self._lock = threading.Lock()

    def append(self, events: Sequence[Event], fence: Fence | None = None) -> None:
        """Append events, all or none.

        Raises:
            Fenced: See ``Ledger.append``.
        """
        with self._lock:
            if fence is not None:
                seen = self._fences.get(fence.name, 0)
                if seen > fence.token:
                    raise Fenced(fence.name, fence.token, seen)
                self._fences[fence.name] = fence.token
            self._events.extend(events)

    def read(self, pipeline: str | None = None, key: str | None = None, *, kinds: Collection[Kind] = ()) -> list[Event]:
        """See ``Ledger.read``."""
        with self._lock:
            events = [e for e in self._events if pipeline in (None, e.pipeline) and key in (None, e.key)]
        wanted = [e for e in events if not kinds or e.kind in kinds]
        return sorted(wanted, key=lambda e: (e.pipeline, e.key, *e.order))

    def recorded_keys(self, pipeline: str | None = None, *, last: int | None = None) -> list[tuple[str, str]]:
        """See ``Ledger.recorded_keys``."""
        newest = {(e.pipeline, e.key): e.at for e in sorted(self.read(pipeline), key=lambda e: e.at)}
        return sorted(newest, key=lambda one: (-newest[one].timestamp(), one))[:last]

    def latest(self, pipeline: str | None = None, *, last: int) -> list[Event]:
        """See ``Ledger.latest``."""
        wanted = set(self.recorded_keys(pipeline, last=last))
        return [e for e in self.read(pipeline) if (e.pipeline, e.key) in wanted]

    def runs(self, pipeline: str, state: State, *, last: int) -> list[Event]:
        """See ``Ledger.runs``."""
        found = [event for event in self.read(pipeline) if event.kind == "run" and event.state == state]
        return sorted(found, key=lambda event: event.at, reverse=True)[:last]

    def token(self, name: str) -> int:
        """Return the highest token recorded for a fence, or 0."""
        with self._lock:
            return self._fences.get(name, 0)

    def maintain(self) -> None:
        """Do nothing: a list needs no maintenance."""
