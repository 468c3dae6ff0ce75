"""Consumers that were made from what is out of date: a provider's backfill reaches them through any number of hops.

Every consumer records which content of which marker it has read, and a marker tells what its own provider has read: so
markers alone lead from a consumer to what its providers' providers have published since.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from spark_flow.errors import InvalidMarker
from spark_flow.storage import markers
from spark_flow.storage.markers import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from spark_flow.ledger import Event
    from spark_flow.storage.markers import Marker


@dataclass(frozen=True, kw_only=True)
class StaleRead:
    """A marker that was read and is out of date.

    Attributes:
        read: As it was read; of revision 0 if it was missing.
        hops: 1 if the marker itself is newer now; 2 if one that its provider has read is, and so on.
        reason: In words.
    """

    read: Reference
    hops: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class StaleKey:
    """A consumer's key whose last success was made from what is out of date.

    Attributes:
        state: The state folder of its ledger.
        generation: Of that success.
        reads: What is out of date, of all that it has read.
        command: How that success was run (``job``, ``config``, ``overrides``, ``cwd``); empty if not by a job.
    """

    state: str
    pipeline: str
    key: str
    generation: int
    reads: tuple[StaleRead, ...]
    command: Mapping[str, Any]

    @property
    def place(self) -> tuple[str, str, str]:
        """What tells it from others: state folder, pipeline and key."""
        return (self.state, self.pipeline, self.key)

    @property
    def hops(self) -> int:
        """The most of its reads: those with fewer must be made anew before it."""
        return max(read.hops for read in self.reads)

    @property
    def reason(self) -> str:
        """In words."""
        return "; ".join(read.reason for read in self.reads)


def stale(ledgers: Mapping[str, Iterable[Event]]) -> list[StaleKey]:
    """The keys that were made from an older content of a marker than there is now, in the order to make them anew.

    Args:
        ledgers: The events of each state folder, by pipeline and key, each key's oldest first.
    """
    now = _Now()
    keys = [
        (state, list(group))
        for state, events in ledgers.items()
        for _, group in groupby(events, key=lambda e: (e.pipeline, e.key))
    ]
    found = [one for state, events in keys if (one := _stale(state, events, now)) is not None]
    return sorted(found, key=lambda one: (one.hops, one.pipeline, one.key, one.state))


def _stale(state: str, events: Sequence[Event], now: _Now) -> StaleKey | None:
    """What is out of date of a key; a later attempt that did not end has published nothing, and does not count."""
    last = next((e for e in reversed(events) if e.kind == "run" and e.state == "succeeded"), None)
    if last is None:
        return None
    attempt = [e for e in events if (e.generation, e.attempt) == (last.generation, last.attempt)]
    reads = tuple(one for read in _read_by(attempt) if (one := now.newer_than(read)) is not None)
    if not reads:
        return None
    place = {"state": state, "pipeline": last.pipeline, "key": last.key}
    return StaleKey(generation=last.generation, reads=reads, command=_command(attempt), **place)


def _read_by(attempt: Sequence[Event]) -> Iterator[Reference]:
    """The markers that an attempt has read, or has found missing and went on without."""
    for event in attempt:
        if event.kind == "marker" and event.state in ("succeeded", "reused") and "paths" in event.detail:
            for name, path in event.detail["paths"].items():
                record = event.detail["markers"].get(name)
                dataset, _, key = name.partition("/")
                missing = Reference(dataset=dataset, key=key, generation=0, revision=0, path=path)
                yield markers.from_record(record).at_path(path) if record else missing


def _command(attempt: Sequence[Event]) -> Mapping[str, Any]:
    return next((dict(e.detail["command"]) for e in attempt if e.kind == "run" and e.detail.get("command")), {})


class _Now:
    """The markers as they are now, each read once."""

    def __init__(self) -> None:
        self._markers: dict[str, Marker | None] = {}
        self._behind: dict[str, tuple[int, str] | None] = {}

    def newer_than(self, read: Reference) -> StaleRead | None:
        """What is newer than a marker as it was read; ``None`` when nothing is."""
        now = self._marker(read.path)
        if now is None or now.state != "ready":
            return None  # nothing to be made from it
        self._follow(read.path)
        where, behind = f"{read.dataset} {read.key}", self._behind[read.path]
        if behind is not None:  # also where it is newer itself: it will be once more, when its provider is made anew
            return StaleRead(read=read, hops=behind[0] + 1, reason=f"{where} is itself made from {behind[1]}")
        told = _newer(read, now)
        return StaleRead(read=read, hops=1, reason=f"{where}: {told}") if told else None

    def _follow(self, path: str) -> None:
        """Find for a marker, and for all that it was made from, how far behind it is; a circle ends where it began."""
        todo, begun = [path], set[str]()
        while todo:
            at = todo[-1]
            now = self._marker(at)
            before = list(now.made_of) if now is not None else []
            left = [one.path for one in before if one.path not in self._behind and one.path not in begun]
            if at in self._behind or not left:
                self._behind.setdefault(at, self._worst(before))
                todo.pop()
            else:
                todo += left
            begun.add(at)

    def _worst(self, before: Iterable[Reference]) -> tuple[int, str] | None:
        """The most hops among what a marker was made from, and the words of that one."""
        found = []
        for one in before:
            now, where = self._marker(one.path), f"{one.dataset} {one.key}"
            behind = self._behind.get(one.path)
            if now is None or now.state != "ready":
                continue
            if behind is not None:
                found.append((behind[0] + 1, behind[1]))  # the words of where it began: a chain may be long
            elif told := _newer(one, now):
                found.append((1, f"{where}: {told}"))
        return max(found, default=None)

    def _marker(self, path: str) -> Marker | None:
        """``None`` where there is none that can be read: its reader's own next wait says what is wrong with it."""
        if path not in self._markers:
            try:
                self._markers[path] = markers.read(path)
            except (OSError, ValueError, InvalidMarker):
                self._markers[path] = None
        return self._markers[path]


def _newer(read: Reference, now: Marker) -> str:
    """How a marker differs from how it was read; empty when it does not."""
    if not read.revision:
        return "it was missing, and has come since"
    if now.revision == read.revision and read.content in ("", now.content):
        return ""
    then, later = f"generation {read.generation}", f"generation {now.generation}"
    return f"{then} (revision {read.revision}) was read, {later} (revision {now.revision}) is there"
