"""Detects shared state that runs of several keys would conflict on if they ran in parallel (the book's section 5.2).

In sequential runs a key may read what the previous key has written. In parallel runs it may silently see all of it,
a part, or nothing. So what the runs read and write is compared before the first one starts.
"""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from spark_flow.errors import Conflict, SharedState, some
from spark_flow.orchestration.path_index import Finder, Index, PathIdentity
from spark_flow.storage import files
from spark_flow.storage.sink_protocol import ALL, UNTOLD

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from spark_flow.engine.run import Run


@dataclass(frozen=True)
class Write:
    """A write of a run.

    Attributes:
        node: The node that writes.
        path: The path or URI that is written.
        rows: The rows that are replaced: ``""`` (none, it appends), ``"all"``, or text that identifies the rows, such
            as the SQL predicate of a key. A sink that does not declare its rows may replace all of them.
    """

    node: str
    path: str
    rows: str = ""


@dataclass(frozen=True)
class Read:
    """A read of a run.

    Attributes:
        node: The node that reads; for a branch, the name of its fan-in.
        path: The path, glob pattern or URI that is read.
    """

    node: str
    path: str


@dataclass(frozen=True)
class Footprint:
    """All writes and reads of a key's run."""

    key: str
    writes: tuple[Write, ...] = ()
    reads: tuple[Read, ...] = ()


def footprint(run: Run) -> Footprint:
    """Return the reads and writes that a run has declared so far; for a finished plan these are all of them.

    Only reads and writes through the run are known: not those inside a user's function, the schema that a choice
    requests from a source, or those of a fallback that was not taken. A Delta source with a fixed version is not a
    read, as later writes do not change it.
    """
    wholes = (*run.graph.fan_ins, *run.graph.waits)
    writes = [Write(n, files.absolute(p), rows) for n, paths in run.graph.writes.items() for p, rows in paths.items()]
    reads = [
        Read(next((whole for whole in wholes if node.startswith(f"{whole}/")), node), path)
        for node, source in run.graph.sources.items()
        if source.version is None
        for path in source.paths
    ]
    reads += [Read(node, path) for node, paths in run.graph.waits.items() for path in paths]
    return Footprint(run.key, tuple(writes), tuple(dict.fromkeys(reads)))


def check(footprints: Sequence[Footprint], *, shared_state: Sequence[str] = (), in_order: Collection[str] = ()) -> None:
    """Check that runs of different keys do not replace the same rows and that none reads what another one writes.

    Args:
        footprints: The footprint of each key.
        shared_state: Tables and folders that are declared as shared; no two keys may write them.
        in_order: Nodes that a key starts only when the previous key has finished all of them. Conflicts among these
            are allowed. The name of a fan-in includes its branches.

    Raises:
        SharedState: There are conflicts; the error lists all of them.
    """
    finder, overlaps = Finder(), _Overlaps(frozenset(in_order))
    written = _written(footprints, finder)
    index = Index(written)
    _same_rows(written, overlaps)
    _within(written, index, overlaps)
    _reads(footprints, finder, written, index, overlaps)
    _declared(shared_state, finder, written, index, overlaps)
    conflicts = overlaps.conflicts()
    if conflicts:
        raise SharedState(conflicts)


Kind: TypeAlias = Literal["read", "rows", "within", "declared"]
Nodes: TypeAlias = "dict[str, set[str]]"
"""The keys of each node."""


@dataclass
class _Written:
    """All writes to one path: the rows that each node replaces, and for which keys."""

    path: str = ""
    rows: dict[str, Nodes] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))

    @functools.cached_property
    def nodes(self) -> Nodes:
        """Nodes that write to the path, with their keys, whichever rows they replace."""
        return _merged(self.rows.values())


def _merged(several: Iterable[Nodes]) -> Nodes:
    merged: Nodes = defaultdict(set)
    for nodes in several:
        for node, keys in nodes.items():
            merged[node] |= keys
    return merged


@dataclass
class _Overlap:
    """One kind of conflict between two nodes, for different keys."""

    kind: Kind
    ones: str
    others: str
    pairs: list[tuple[str, str, str, str, str]] = field(default_factory=list)  # two keys, their paths, the rows
    keys: set[str] = field(default_factory=set)


class _Overlaps:
    """Collects overlaps, one for each kind and pair of nodes, for any number of keys and paths."""

    def __init__(self, in_order: frozenset[str]) -> None:
        self._in_order = in_order
        self._found: dict[tuple[Kind, str, str], _Overlap] = {}

    def note(self, kind: Kind, ones: Nodes, others: Nodes, path: str, other_path: str = "", *, words: str = "") -> None:
        """Record each pair of nodes that have different keys and are not both in ``in_order``."""
        for (one, keys), (other, other_keys) in itertools.product(ones.items(), others.items()):
            pair = _different(keys, other_keys)
            if pair is None or {one, other} <= self._in_order:
                continue
            if kind in ("rows", "declared") and one > other:
                one, other, pair = other, one, pair[::-1]  # noqa: PLW2901 - these kinds are symmetric
            overlap = self._found.setdefault((kind, one, other), _Overlap(kind, one, other))
            overlap.pairs.append((*pair, path, other_path or path, words))
            overlap.keys |= keys | other_keys

    def conflicts(self) -> list[Conflict]:
        """Return the conflicts, in an order that does not depend on the order of the keys."""
        return [_conflict(self._found[found]) for found in sorted(self._found)]


def _different(ones: set[str], others: set[str]) -> tuple[str, str] | None:
    """Return the first pair of different keys, one from each set; ``None`` if there is no pair."""
    first = min(ones)
    second = min((key for key in others if key != first), default=None)
    if second is not None:
        return first, second
    third = min((key for key in ones if key != first), default=None)
    return (third, first) if third is not None else None


def _written(footprints: Sequence[Footprint], finder: Finder) -> dict[PathIdentity, _Written]:
    written: dict[PathIdentity, _Written] = {}
    for one in footprints:
        for write in one.writes:
            at = written.setdefault(finder.identity(write.path), _Written())
            at.path = min(at.path or write.path, write.path)  # one spelling, for any order of keys
            at.rows[write.rows][write.node].add(one.key)
    return written


def _same_rows(written: Mapping[PathIdentity, _Written], overlaps: _Overlaps) -> None:
    """Find keys that replace the same rows; replacing all rows of a path conflicts with every write to it."""
    for at in written.values():
        for rows, nodes in at.rows.items():
            if rows:
                others = at.nodes if rows in (ALL, UNTOLD) else nodes
                overlaps.note("rows", nodes, others, at.path, words=rows)


def _within(written: Mapping[PathIdentity, _Written], index: Index, overlaps: _Overlaps) -> None:
    """Find writes inside a folder or table that another key writes, and may replace or clean with all its content."""
    for identity, inner in written.items():
        for outer in index.around(identity):
            overlaps.note("within", inner.nodes, written[outer].nodes, inner.path, written[outer].path)


def _reads(
    footprints: Sequence[Footprint],
    finder: Finder,
    written: Mapping[PathIdentity, _Written],
    index: Index,
    overlaps: _Overlaps,
) -> None:
    readers: dict[str, Nodes] = defaultdict(lambda: defaultdict(set))
    for one in footprints:
        for read in one.reads:
            readers[read.path][read.node].add(one.key)
    for path, nodes in readers.items():
        for identity in index.touched_by(finder.identity(path)):
            overlaps.note("read", written[identity].nodes, nodes, written[identity].path, path)


def _declared(
    shared_state: Sequence[str],
    finder: Finder,
    written: Mapping[PathIdentity, _Written],
    index: Index,
    overlaps: _Overlaps,
) -> None:
    for path in shared_state:
        nodes = _merged(written[identity].nodes for identity in index.touched_by(finder.identity(path)))
        overlaps.note("declared", nodes, nodes, files.absolute(path))


_FIXES: Mapping[Kind, str] = {
    "read": "Name {nodes} in depends_on_past",
    "rows": "Partition the table by the key (partition_by), put the key in its path or in replace_where, or name "
    "{nodes} in depends_on_past",
    "within": "Give each its own folder, or name {nodes} in depends_on_past",
    "declared": "Name {nodes} in depends_on_past",
}


def _conflict(overlap: _Overlap) -> Conflict:
    one, other = overlap.ones, overlap.others
    key, other_key, path, other_path, rows = min(overlap.pairs)
    table, other_table = _shown(path), _shown(other_path)
    both = f"{one} of key {key} and " + (f"{other} of key" if one != other else "of") + f" {other_key}"
    found: Mapping[Kind, str] = {
        "read": f"{other} of key {other_key} reads {other_table}, which {one} of key {key} writes"
        + (f" (in {table})" if table != other_table else ""),
        "rows": f"{both} replace the same rows of {table} ({rows})",
        "within": f"{one} of key {key} writes {table}, within {other_table}, which {other} of key {other_key} writes",
        "declared": f"{both} write to {table}, which is declared shared state",
    }
    subjects = {pair[3] if overlap.kind == "read" else pair[2] for pair in overlap.pairs}
    others = sorted(subjects - {path, other_path})
    more = f"; likewise for {some([_shown(each) for each in others], 2)}" if others else ""
    nodes = tuple(dict.fromkeys((other, one) if overlap.kind == "read" else (one, other)))
    return Conflict(
        paths=tuple(sorted({each for pair in overlap.pairs for each in pair[2:4]})),
        nodes=nodes,
        keys=tuple(sorted(overlap.keys)),
        found=found[overlap.kind] + more,
        fix=_FIXES[overlap.kind].format(nodes=" and ".join(nodes)) + ".",
    )


def _shown(path: str) -> str:
    """Return a path relative to the working folder, if it is inside."""
    return path.removeprefix(f"{files.absolute('.')}/")
