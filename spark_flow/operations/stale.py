"""Finds stale keys: consumers whose upstream data was published again, across any number of hops.

Each run records the content of the markers that it has read, and each marker records the markers that its own provider
has read. So markers alone show whether any upstream dataset was published again since.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from spark_flow.errors import InvalidMarker, InvalidPath
from spark_flow.storage import markers
from spark_flow.storage.markers import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from spark_flow.ledger import Event, Kind
    from spark_flow.storage.markers import Marker


KINDS: tuple[Kind, ...] = ("run", "marker")
"""The kinds of events that ``stale`` reads."""


@dataclass(frozen=True, kw_only=True)
class StaleRead:
    """A marker that is out of date since it was read.

    Attributes:
        read: The marker as it was read; revision 0 if it was missing.
        hops: 1 if the marker itself is newer now; 2 if a marker that its provider has read is newer, and so on.
        reason: The reason as a message; part of a backfill's request id.
    """

    read: Reference
    hops: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class StaleKey:
    """A consumer's key whose last success was computed from outdated inputs.

    Attributes:
        state: The state folder of the key's ledger.
        pipeline: The consumer's pipeline.
        key: The key.
        generation: The generation of the last success.
        reads: The outdated markers among those that it has read.
        command: The command of the last success (``job``, ``config``, ``overrides``, ``cwd``); empty if it was not run
            by a job.
    """

    state: str
    pipeline: str
    key: str
    generation: int
    reads: tuple[StaleRead, ...]
    command: Mapping[str, Any]

    @property
    def place(self) -> tuple[str, str, str]:
        """Identity: state folder, pipeline and key."""
        return (self.state, self.pipeline, self.key)

    @property
    def hops(self) -> int:
        """Largest number of hops of its reads; keys with fewer hops must be rerun first."""
        return max(read.hops for read in self.reads)

    @property
    def reason(self) -> str:
        """Reasons of all reads as one message."""
        return "; ".join(read.reason for read in self.reads)


def stale(ledgers: Mapping[str, Iterable[Event]]) -> list[StaleKey]:
    """Return the keys that were computed from an older content of a marker than the current one, in rerun order.

    Args:
        ledgers: The events by state folder, sorted by pipeline and key, oldest first within a key.
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
    """Return a key if it is stale; an unfinished later attempt has published nothing and is ignored."""
    ends = ("succeeded", "forgotten")
    last = next((e for e in reversed(events) if e.kind == "run" and e.state in ends), None)
    if last is None or last.state == "forgotten":
        return None
    attempt = [e for e in events if (e.generation, e.attempt) == (last.generation, last.attempt)]
    reads = tuple(one for read in read_by(attempt) if (one := now.newer_than(read)) is not None)
    if not reads:
        return None
    identity = {"state": state, "pipeline": last.pipeline, "key": last.key}
    return StaleKey(generation=last.generation, reads=reads, command=command_of(attempt), **identity)


def read_by(attempt: Sequence[Event]) -> Iterator[Reference]:
    """Yield the markers that an attempt has read, or found missing and continued without."""
    for event in attempt:
        if event.kind == "marker" and event.state in ("succeeded", "reused") and "paths" in event.detail:
            for name, path in event.detail["paths"].items():
                record = event.detail["markers"].get(name)
                dataset, _, key = name.partition("/")
                missing = Reference(dataset=dataset, key=key, generation=0, revision=0, path=path)
                yield markers.from_record(record).at_path(path) if record else missing


def command_of(attempt: Sequence[Event]) -> Mapping[str, Any]:
    """Return how an attempt was run, as its start recorded it; empty if it was not run by a job."""
    return next((dict(e.detail["command"]) for e in attempt if e.kind == "run" and e.detail.get("command")), {})


class _Now:
    """The current markers, each read once."""

    def __init__(self) -> None:
        self._markers: dict[str, Marker | None] = {}
        self._behind: dict[str, tuple[int, str] | None] = {}

    def newer_than(self, read: Reference) -> StaleRead | None:
        """Return how a marker is out of date since it was read; ``None`` if it is not."""
        now = self._marker(read.path)
        if now is None or now.state != "ready":
            return None  # there is nothing newer to compute from
        self._follow(read.path)
        where, behind = f"{read.dataset} {read.key}", self._behind[read.path]
        if behind is not None:  # even if the marker itself is newer: it changes again when its provider is rerun
            return StaleRead(read=read, hops=behind[0] + 1, reason=f"{where} is itself made from {behind[1]}")
        newer = _newer(read, now)
        return StaleRead(read=read, hops=1, reason=f"{where}: {newer}") if newer else None

    def _follow(self, path: str) -> None:
        """Compute how far a marker and all its upstream markers are behind; a cycle is cut where it started."""
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
        """Return the largest number of hops among a marker's inputs, with the reason."""
        found = []
        for one in before:
            now, where = self._marker(one.path), f"{one.dataset} {one.key}"
            behind = self._behind.get(one.path)
            if now is None or now.state != "ready":
                continue
            if behind is not None:
                found.append((behind[0] + 1, behind[1]))  # the first reason only: a chain may be long
            elif newer := _newer(one, now):
                found.append((1, f"{where}: {newer}"))
        return max(found, default=None)

    def _marker(self, path: str) -> Marker | None:
        """Return a marker, or ``None`` if it cannot be read; the consumer's next wait reports why."""
        if path not in self._markers:
            try:
                self._markers[path] = markers.read(path)
            except (OSError, ValueError, InvalidMarker, InvalidPath):
                self._markers[path] = None
        return self._markers[path]


def _newer(read: Reference, now: Marker) -> str:
    """Return how a marker differs from the one that was read; empty if it does not."""
    if not read.revision:
        return "it was missing, and has come since"
    if now.revision == read.revision and read.content in ("", now.content):
        return ""
    then, later = f"generation {read.generation}", f"generation {now.generation}"
    return f"{then} (revision {read.revision}) was read, {later} (revision {now.revision}) is there"
