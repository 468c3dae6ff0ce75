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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from spark_flow.ledger import Event
    from spark_flow.storage.markers import Reference


@dataclass(frozen=True, kw_only=True)
class StaleRead:
    """A marker that was read and is out of date.

    Attributes:
        read: As it was read.
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
        reads: What is out of date, of all that it has read.
        command: How it was run: ``job``, ``config``, ``overrides``, ``cwd``; empty if it was not run by a job.
    """

    pipeline: str
    key: str
    generation: int
    reads: tuple[StaleRead, ...]
    command: Mapping[str, Any]

    @property
    def hops(self) -> int:
        """The most of its reads: those with fewer must be made anew before it."""
        return max(read.hops for read in self.reads)

    @property
    def reason(self) -> str:
        """In words."""
        return "; ".join(read.reason for read in self.reads)


def stale(*ledgers: Iterable[Event]) -> list[StaleKey]:
    """The keys that were made from an older content of a marker than there is now, in the order to make them anew.

    Args:
        ledgers: The events of each ledger, by pipeline and key, each key's oldest first.
    """
    keys = (list(group) for events in ledgers for _, group in groupby(events, key=lambda e: (e.pipeline, e.key)))
    found = [one for events in keys if (one := _stale(events)) is not None]
    return sorted(found, key=lambda one: (one.hops, one.pipeline, one.key))


def _stale(events: Sequence[Event]) -> StaleKey | None:
    """What is out of date of a key; a later attempt that did not end has published nothing, and does not count."""
    last = next((e for e in reversed(events) if e.kind == "run" and e.state == "succeeded"), None)
    if last is None:
        return None
    reads = tuple(one for read in _read_by(events, last) if (one := _outdated(read, ())) is not None)
    place = {"pipeline": last.pipeline, "key": last.key}
    return StaleKey(generation=last.generation, reads=reads, command=_command(events), **place) if reads else None


def _read_by(events: Sequence[Event], last: Event) -> Iterator[Reference]:
    """The markers that a run has read, by the event of its end."""
    for event in events:
        mine = (event.generation, event.attempt) == (last.generation, last.attempt)
        if mine and event.kind == "marker" and event.state in ("succeeded", "reused"):
            for name, record in event.detail.get("markers", {}).items():
                yield markers.from_record(record).at_path(event.detail["paths"][name])


def _outdated(read: Reference, seen: tuple[str, ...]) -> StaleRead | None:
    """What is newer than a marker as it was read; ``None`` when nothing is."""
    try:
        now = markers.read(read.path)
    except (OSError, InvalidMarker):
        return None  # nothing newer is known; the consumer's own next wait says what is wrong with it
    if now.state != "ready" or read.path in seen:
        return None  # nothing to be made from it
    where = f"{read.dataset} {read.key}"
    before = [_outdated(reference, (*seen, read.path)) for reference in now.made_of]
    newer = [one for one in before if one is not None]
    if newer:  # also where the marker itself is newer: it will be once more, when its provider is made anew
        worst = max(newer, key=lambda one: one.hops)
        return StaleRead(read=read, hops=worst.hops + 1, reason=f"{where} is itself made from {worst.reason}")
    if now.revision == read.revision:
        return None
    then, later = f"generation {read.generation}", f"generation {now.generation}"
    told = f"{then} (revision {read.revision}) was read, {later} (revision {now.revision}) is there"
    return StaleRead(read=read, hops=1, reason=f"{where}: {told}")


def _command(events: Sequence[Event]) -> Mapping[str, Any]:
    commands = [e.detail["command"] for e in events if e.kind == "run" and e.detail.get("command")]
    return dict(commands[-1]) if commands else {}
