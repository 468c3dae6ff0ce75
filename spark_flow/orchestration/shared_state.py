"""Shared state refused: whether runs of several keys may go on side by side (the book's section 5.2).

Run one after another, a key may read what the key before has written. Side by side it would read it now half, now
whole, now not at all, and nobody would notice: so what the runs read and write is compared before the first one starts.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from spark_flow.errors import Conflict, SharedState, some
from spark_flow.orchestration.path_index import Finder, Index, Place
from spark_flow.storage import files
from spark_flow.storage.sink_protocol import ALL, UNTOLD

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from spark_flow.engine.run import Run


@dataclass(frozen=True)
class Write:
    """A place that a run writes to.

    Attributes:
        node: Who writes.
        path: Where, a path or URI.
        rows: What is replaced there: ``""`` (nothing, it appends), ``"all"``, or words that name the rows, as the SQL
            predicate of a key's rows. Of a sink that does not tell (``storage.port.TellsRows``) it may be all.
    """

    node: str
    path: str
    rows: str = ""


@dataclass(frozen=True)
class Read:
    """A place that a run reads.

    Attributes:
        node: Who reads; a branch of a fan-in has the fan-in's name.
        path: Where, a path, a pattern of paths, or a URI.
    """

    node: str
    path: str


@dataclass(frozen=True)
class Footprint:
    """What a key's run writes, and what it reads."""

    key: str
    writes: tuple[Write, ...] = ()
    reads: tuple[Read, ...] = ()


def footprint(run: Run) -> Footprint:
    """What a run has declared so far, so of a plan that was walked to its end: all that it would read and write.

    Only what goes through the run is known: not what a function of one's own reads, nor the schema that a choice asks
    of a source, nor what a fallback would read or write that this walk did not take. A Delta source whose version is
    given is no read: whatever is written meanwhile, it stays as it is.
    """
    wholes = (*run.graph.fan_ins, *run.graph.waits)
    writes = [Write(n, files.absolute(p), rows) for n, told in run.graph.writes.items() for p, rows in told.items()]
    reads = [
        Read(next((whole for whole in wholes if node.startswith(f"{whole}/")), node), path)
        for node, source in run.graph.sources.items()
        if source.version is None
        for path in source.paths
    ]
    reads += [Read(node, path) for node, paths in run.graph.waits.items() for path in paths]
    return Footprint(run.key, tuple(writes), tuple(dict.fromkeys(reads)))


def check(footprints: Sequence[Footprint], *, shared_state: Sequence[str] = (), in_order: Collection[str] = ()) -> None:
    """Refuse keys whose runs would meet: two replace the same rows, or one reads what another one writes.

    Args:
        footprints: Of each key.
        shared_state: Tables and folders that the author declares shared: no two keys may write there.
        in_order: Nodes that a key starts only when the key before has done all of them: what they write and read among
            themselves is in order. Of a fan-in its name, which stands for its branches as well.

    Raises:
        SharedState: With all that was found.
    """
    finder, meetings = Finder(), _Meetings(frozenset(in_order))
    written = _written(footprints, finder)
    index = Index(written)
    _same_rows(written, meetings)
    _within(written, index, meetings)
    _reads(footprints, finder, written, index, meetings)
    _declared(shared_state, finder, written, index, meetings)
    conflicts = meetings.conflicts()
    if conflicts:
        raise SharedState(conflicts)


Kind: TypeAlias = Literal["read", "rows", "within", "declared"]
Nodes: TypeAlias = "dict[str, set[str]]"
"""Keys by node."""


@dataclass
class _Written:
    """What all keys write at one place: who replaces which rows."""

    path: str = ""
    rows: dict[str, Nodes] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))

    @functools.cached_property
    def nodes(self) -> Nodes:
        """Who writes there, whatever it replaces."""
        return _merged(self.rows.values())


def _merged(several: Iterable[Nodes]) -> Nodes:
    merged: Nodes = defaultdict(set)
    for nodes in several:
        for node, keys in nodes.items():
            merged[node] |= keys
    return merged


@dataclass
class _Meeting:
    """One way in which two nodes of different keys meet."""

    kind: Kind
    ones: str
    others: str
    pairs: list[tuple[str, str, str, str, str]] = field(default_factory=list)  # two keys, the paths of both, the rows
    keys: set[str] = field(default_factory=set)


class _Meetings:
    """What was found, one meeting for each kind and pair of nodes, however many keys and places it has."""

    def __init__(self, in_order: frozenset[str]) -> None:
        self._in_order = in_order
        self._found: dict[tuple[Kind, str, str], _Meeting] = {}

    def note(self, kind: Kind, ones: Nodes, others: Nodes, path: str, other_path: str = "", *, words: str = "") -> None:
        """Note each pair of nodes that have different keys and are not both in order."""
        for (one, keys), (other, other_keys) in itertools.product(ones.items(), others.items()):
            pair = _different(keys, other_keys)
            if pair is None or {one, other} <= self._in_order:
                continue
            if kind in ("rows", "declared") and one > other:
                one, other, pair = other, one, pair[::-1]  # noqa: PLW2901 - two that do the same have no order
            meeting = self._found.setdefault((kind, one, other), _Meeting(kind, one, other))
            meeting.pairs.append((*pair, path, other_path or path, words))
            meeting.keys |= keys | other_keys

    def conflicts(self) -> list[Conflict]:
        """What was found, in an order that does not depend on that of the keys."""
        return [_conflict(self._found[found]) for found in sorted(self._found)]


def _different(ones: set[str], others: set[str]) -> tuple[str, str] | None:
    """The first two keys that differ, one of each."""
    first = min(ones)
    second = min((key for key in others if key != first), default=None)
    if second is not None:
        return first, second
    third = min((key for key in ones if key != first), default=None)
    return (third, first) if third is not None else None


def _written(footprints: Sequence[Footprint], finder: Finder) -> dict[Place, _Written]:
    written: dict[Place, _Written] = {}
    for one in footprints:
        for write in one.writes:
            at = written.setdefault(finder.place(write.path), _Written())
            at.path = min(at.path or write.path, write.path)  # of several spellings the same one for any order of keys
            at.rows[write.rows][write.node].add(one.key)
    return written


def _same_rows(written: Mapping[Place, _Written], meetings: _Meetings) -> None:
    """Two keys that replace the same rows; all of a place is the same as any of it, even if that was only appended."""
    for at in written.values():
        for rows, nodes in at.rows.items():
            if rows:
                others = at.nodes if rows in (ALL, UNTOLD) else nodes
                meetings.note("rows", nodes, others, at.path, words=rows)


def _within(written: Mapping[Place, _Written], index: Index, meetings: _Meetings) -> None:
    """Writes that lie within what another key writes: a folder is replaced, a table is cleaned, with all in it."""
    for place, inner in written.items():
        for outer in index.around(place):
            meetings.note("within", inner.nodes, written[outer].nodes, inner.path, written[outer].path)


def _reads(
    footprints: Sequence[Footprint],
    finder: Finder,
    written: Mapping[Place, _Written],
    index: Index,
    meetings: _Meetings,
) -> None:
    readers: dict[str, Nodes] = defaultdict(lambda: defaultdict(set))
    for one in footprints:
        for read in one.reads:
            readers[read.path][read.node].add(one.key)
    for path, nodes in readers.items():
        for place in index.touched_by(finder.place(path)):
            meetings.note("read", written[place].nodes, nodes, written[place].path, path)


def _declared(
    shared_state: Sequence[str], finder: Finder, written: Mapping[Place, _Written], index: Index, meetings: _Meetings
) -> None:
    for path in shared_state:
        nodes = _merged(written[place].nodes for place in index.touched_by(finder.place(path)))
        meetings.note("declared", nodes, nodes, files.absolute(path))


_FIXES: Mapping[Kind, str] = {
    "read": "Name {nodes} in depends_on_past",
    "rows": "Partition the table by the key (partition_by), put the key in its path or in replace_where, or name "
    "{nodes} in depends_on_past",
    "within": "Give each a folder of its own, or name {nodes} in depends_on_past",
    "declared": "Name {nodes} in depends_on_past",
}


def _conflict(meeting: _Meeting) -> Conflict:
    one, other = meeting.ones, meeting.others
    key, other_key, path, other_path, rows = min(meeting.pairs)
    place, other_place = _shown(path), _shown(other_path)
    both = f"{one} of key {key} and " + (f"{other} of key" if one != other else "of") + f" {other_key}"
    found: Mapping[Kind, str] = {
        "read": f"{other} of key {other_key} reads {other_place}, which {one} of key {key} writes"
        + (f" (in {place})" if place != other_place else ""),
        "rows": f"{both} replace the same rows of {place} ({rows})",
        "within": f"{one} of key {key} writes {place}, within {other_place}, which {other} of key {other_key} writes",
        "declared": f"{both} write to {place}, which is declared shared state",
    }
    subjects = {pair[3] if meeting.kind == "read" else pair[2] for pair in meeting.pairs}
    besides = sorted(subjects - {path, other_path})
    more = f"; and so with {some([_shown(each) for each in besides], 2)}" if besides else ""
    nodes = tuple(dict.fromkeys((other, one) if meeting.kind == "read" else (one, other)))
    return Conflict(
        paths=tuple(sorted({each for pair in meeting.pairs for each in pair[2:4]})),
        nodes=nodes,
        keys=tuple(sorted(meeting.keys)),
        found=found[meeting.kind] + more,
        fix=_FIXES[meeting.kind].format(nodes=" and ".join(nodes)) + ".",
    )


def _shown(path: str) -> str:
    """A path as it may stand in the file."""
    return path.removeprefix(f"{files.absolute('.')}/")
