"""What the ledger holds of a run's key, and what the run adds to it."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from spark_flow.core.secrets import Redactor
from spark_flow.errors import Adopted, Fenced, LeaseLost
from spark_flow.ledger import Event, Kind, Ledger
from spark_flow.ledger.event import now

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from spark_flow.engine.mode import Lease, Mode
    from spark_flow.ledger.event import State

# What happened to a node; the other states say what an attempt did with that.
_REAL = ("started", "succeeded", "failed")
# Recorded for pictures (``Graph.position``). A later attempt has its own.
_POSITION = ("upstream", "within")


class History:
    """The events of one key, the generation and attempt of the run, and the rules of revisions.

    Attributes:
        generation: 1, and one more for each rerun.
        attempt: 1, and one more for each retry of the generation.
        began: When the generation's first attempt began, in UTC.
        kept: The nodes that a partial backfill took over, with the generation that ran each.
        begun_with: What ``begin`` recorded with the attempt; ``None`` before that.
        doubt: Why no earlier result is used, if a target proved the ledger old; else empty.
    """

    def __init__(
        self,
        ledger: Ledger,
        pipeline: str,
        key: str,
        *,
        mode: Mode,
        lease: Lease | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.key = key
        self._lease = lease
        self._redactor = redactor or Redactor()
        self._ledger = ledger
        self._lock = threading.RLock()
        self._events: list[Event] = []
        self._by_node: dict[str, list[Event]] = defaultdict(list)  # the same events: a fan-in may have thousands
        self._add(ledger.read(pipeline, key))
        self.generation, self.attempt = _position(self._events, mode)
        self._seq = 0
        self._opening: list[Event] = []
        self._lost: Fenced | LeaseLost | None = None
        self._defers = mode.redo is not None
        self.begun_with: Mapping[str, Any] | None = None
        self.doubt = ""
        self._targets: dict[str, int] = {}
        self.began = min((e.at for e in self._events if e.generation == self.generation), default=now())
        self.kept = _kept(self._events, self.generation)
        if mode.redo is not None and self.attempt == 1:
            self._keep(mode.redo)

    def _keep(self, redo: Callable[[str], bool]) -> None:
        """Take over the recorded results of the nodes that do not run again, as successes of this generation."""
        before = self.generation - 1
        done_in = _kept(self._events, before)
        ended = {e.node: e for e in self._events if e.node and e.generation == before and e.state in _REAL}
        for node, last in ended.items():
            if last.state != "succeeded" or redo(node):
                continue
            self.kept[node] = done_in.get(node, before)
            # The reason of a choice is its decision; of other nodes it says where the result comes from.
            reason = last.reason if last.kind == "choice" else f"kept from generation {self.kept[node]}"
            taken = self.event(
                node,
                last.kind,
                "succeeded",
                revision=last.revision,
                fingerprint=last.fingerprint,
                rows=last.rows,
                reason=reason,
                detail=last.detail,
            )
            self._opening.append(taken)
        self._add(self._opening)

    def _add(self, events: Sequence[Event]) -> None:
        known = [_without_position(event) for event in events]
        self._events.extend(known)
        for event in known:
            self._by_node[event.node].append(event)

    def begin(self, detail: Mapping[str, Any]) -> None:
        """Record the start of the attempt, with its command and request id.

        A partial backfill begins with its first event: one that is refused before leaves no generation behind, which
        a plain retry would have to complete.
        """
        self.begun_with = detail
        at = self.began if self.attempt == 1 else None  # later attempts read it from this event
        more: dict[str, Any] = {"kept": self.kept} if self._opening else {}
        more |= {"remembered": self._targets} if self._targets else {}
        started = self.event("", "run", "started", reason=self.doubt, detail={**detail, **more}, at=at)
        if self._defers:
            self._opening.insert(0, dataclasses.replace(started, seq=0))
        else:
            self.record([started])

    def start_over(self, doubt: str, remembered: Mapping[str, int]) -> None:
        """Become the first attempt of the next generation; ``begin`` records it.

        Args:
            doubt: Why.
            remembered: By node, what its target remembers: recorded, so that a retry does not start over again.
        """
        with self._lock:
            self.generation = max(e.generation for e in self._events) + 1
            self.attempt, self._seq, self.began = 1, 0, now()
            self.kept, self.doubt, self._targets = {}, doubt, dict(remembered)

    def check_open(self) -> None:
        """Check that there is anything to do in this generation.

        Raises:
            Adopted: It was adopted: its rows were in place before.
        """
        for event in self._events:
            if event.generation == self.generation and "adopted" in event.detail:
                raise Adopted(self.pipeline, self.key, f"{event.at:%Y-%m-%d %H:%M}")

    @property
    def ledger(self) -> Ledger:
        """Where events are recorded."""
        return self._ledger

    @property
    def reuses(self) -> bool:
        """Whether recorded results may be reused: in a retry or a partial backfill."""
        return self.attempt > 1 or bool(self.kept)

    def known(self, node: str) -> int:
        """The highest recorded revision of a node, in any generation; 0 for none."""
        with self._lock:
            own = [e.revision for e in self._by_node.get(node, ())]
            seen = [int(e.detail.get("remembered", {}).get(node, 0)) for e in self._by_node.get("", ())]
        return max([*own, *seen], default=0)

    def less_than(self, remembered: Mapping[str, int]) -> dict[str, int]:
        """The revisions, of those that targets remember, that are higher than any recorded one."""
        return {node: there for node, there in remembered.items() if there > self.known(node)}

    def written(self) -> dict[str, tuple[int, Mapping[str, Any]]]:
        """The highest revision of each node that wrote, and the detail of its last write."""
        with self._lock:
            done = {e.node: e.detail for e in self._events if e.revision and e.state == "succeeded"}
        return {node: (self.known(node), detail) for node, detail in done.items()}

    def refresh(self) -> None:
        """Read the events again: another run may have added some."""
        events = self._ledger.read(self.pipeline, self.key)
        with self._lock:
            self._events, self._by_node = [], defaultdict(list)
            self._add([*events, *self._opening])

    @property
    def begun(self) -> bool:
        """Whether the start of the attempt is recorded."""
        return not self._opening

    def event(
        self,
        node: str,
        kind: Kind,
        state: State,
        *,
        revision: int = 0,
        fingerprint: str = "",
        rows: int | None = None,
        duration_ms: int | None = None,
        reason: str = "",
        error: str = "",
        detail: Mapping[str, Any] | None = None,
        at: dt.datetime | None = None,
    ) -> Event:
        """Make an event of this attempt, without secrets; not recorded yet. The arguments are its fields."""
        with self._lock:
            self._seq += 1
            generation, attempt, seq = self.generation, self.attempt, self._seq
        return Event(
            pipeline=self.pipeline,
            key=self.key,
            generation=generation,
            attempt=attempt,
            seq=seq,
            node=node,
            kind=kind,
            state=state,
            revision=revision,
            fingerprint=fingerprint,
            rows=rows,
            duration_ms=duration_ms,
            reason=self._redactor(reason),
            error=self._redactor(error),
            detail=self._redactor.facts(detail or {}),
            at=at or now(),
        )

    def check(self) -> None:
        """Check that the run may continue.

        Raises:
            Fenced, LeaseLost: It may not, now or since an earlier call: who has caught that error gets it again.
        """
        if self._lost is None and self._lease is not None:
            with self._remembered():
                self._lease.check()
        if self._lost is not None:
            raise self._lost

    @contextlib.contextmanager
    def _remembered(self) -> Iterator[None]:
        """Remember that the lease is lost, even if a step of the user's catches the error."""
        try:
            yield
        except (Fenced, LeaseLost) as lost:
            self._lost = self._lost or lost
            raise

    def record(self, events: Sequence[Event]) -> None:
        """Record events, all or none.

        Raises:
            Fenced: Another holder of the right has recorded since.
        """
        fence = self._lease.fence if self._lease else None
        with self._remembered():
            if self._opening:
                with self._lock:  # no node's event is recorded before the events that it depends on
                    self._ledger.append([*self._opening, *events], fence)
                    self._opening = []
            else:
                self._ledger.append(events, fence)
        with self._lock:
            self._add(events)

    def last(self, node: str) -> Event | None:
        """A node's last real event in this generation: only the latest revision counts.

        After a step was changed and changed back, its old success is followed by the events of the change.
        """
        return self._last(node, self.generation)

    def before(self, node: str) -> Event | None:
        """A node's last event in the previous generation, in the first attempt of this one."""
        return self._last(node, self.generation - 1) if self.attempt == 1 else None

    def _last(self, node: str, generation: int) -> Event | None:
        with self._lock:
            mine = [e for e in self._by_node.get(node, ()) if e.generation == generation and e.state in _REAL]
        return mine[-1] if mine else None

    def revision(self, node: str, fingerprint: str, remembered: int) -> int:
        """The revision to write a node under.

        A retry of the last intent (same generation, same fingerprint, not ended) keeps its revision, so that what
        it may have written is recognised. Anything else takes the next one, above the ledger's last and above the
        one that the target itself remembers, should the ledger be lost or older than the target.
        """
        with self._lock:
            mine = [e for e in self._by_node.get(node, ()) if e.revision and e.state in _REAL]
        last = mine[-1] if mine else None
        if last is None:
            return remembered + 1
        same = (last.generation, last.fingerprint) == (self.generation, fingerprint)
        if same and last.state != "succeeded" and remembered <= last.revision:
            return last.revision
        return max(last.revision, remembered) + 1

    def maintain(self) -> None:
        """Compact the ledger if needed."""
        self._ledger.maintain()


def _without_position(event: Event) -> Event:
    if not any(name in event.detail for name in _POSITION):
        return event
    return dataclasses.replace(event, detail={k: v for k, v in event.detail.items() if k not in _POSITION})


def _kept(events: Sequence[Event], generation: int) -> dict[str, int]:
    """The nodes that a generation took over from earlier ones, with the generation that ran each."""
    runs = (e for e in events if e.kind == "run" and e.generation == generation)
    return {node: int(done_in) for e in runs for node, done_in in e.detail.get("kept", {}).items()}


def _position(events: Sequence[Event], mode: Mode) -> tuple[int, int]:
    """The generation and attempt of a new run of a key."""
    if not events:
        return 1, 1
    generation = max(e.generation for e in events)
    runs = [e for e in events if e.kind == "run" and e.generation == generation]
    if any(e.state == "forgotten" for e in runs):
        return generation + 1, 1
    succeeded = any(e.state == "succeeded" for e in runs)
    # A rerun that was killed is resumed: the same command again reuses what succeeded (decision 0004), unless it
    # took over what is to run again now.
    other = any(mode.redo is None or mode.redo(node) for node in _kept(events, generation))
    # Another request: what was pinned for the earlier one is out of date. The same request again is a retry.
    same = bool(mode.request_id) and any(e.detail.get("cause") == mode.request_id for e in runs)
    backfill = mode.rerun or mode.redo is not None
    is_next = backfill and (other or (not same and (generation == 1 or succeeded)))
    if is_next or (mode.request_id and not same):
        return generation + 1, 1
    return generation, max((e.attempt for e in runs), default=0) + 1
