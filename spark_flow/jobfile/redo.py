"""A partial backfill: which nodes of a flow run again, and which are taken over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_flow.engine.mode import above
from spark_flow.errors import InvalidArgument, UnknownNode
from spark_flow.jobfile.model.base import located

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from spark_flow.jobfile.model.base import Located
    from spark_flow.jobfile.model.job import JobConfig


@dataclass(frozen=True)
class Redo:
    """Which nodes of a key run again; a ``Mode.redo``.

    Attributes:
        again: The nodes that run again, with everything below their names.
        kept: The other nodes, and the sources that they read.
    """

    again: frozenset[str]
    kept: frozenset[str]

    def __call__(self, node: str) -> bool:
        """Whether a node runs again; ``hours/07`` is part of ``hours``."""
        named = next((name for name in (node, *above(node)) if name in self.again or name in self.kept), "")
        return named not in self.kept


def redo(config: JobConfig, *, start: str = "", only: Sequence[str] = (), rerun: bool = False) -> Redo | None:
    """What ``--from`` and ``--only`` select to run again; ``None`` without a partial backfill.

    Args:
        config: The job's file.
        start: ``--from``: this node's entry, and all after it.
        only: ``--only``: these nodes' entries; branches of fan-ins alone are not a partial backfill.
        rerun: Whether ``--rerun`` is given.

    Raises:
        InvalidArgument: The options do not go together, or what they ask for cannot be done by itself.
        UnknownNode: The flow has no such node.
    """
    entries = list(located(config.flow))
    branches = config.branch_nodes()
    named = [node for node in only if node not in branches]
    _check(entries, start, only, named, branches)
    given = [option for option, one in (("--from", start), ("--only", only), ("--rerun", rerun)) if one]
    if len(given) > 1 and (start or named):
        raise InvalidArgument(given[0], f"{' and '.join(given[1:])} beside it", "one of --from, --only and --rerun")
    if start:
        return _from(config, entries, start)
    return _only(config, entries, named) if named else None


def until(config: JobConfig, node: str) -> int:
    """How many entries of the flow ``--until`` walks: up to the one that holds the node, which it does as a whole.

    Of a choice that is named itself only the decision is made.

    Raises:
        InvalidArgument: The node is computed only within downstream nodes, so that the run cannot end after it.
        UnknownNode: The flow has no such node.
    """
    entries = list(located(config.flow))
    known = [name for each in entries for name in each.names]
    if node not in known:
        raise UnknownNode("--until", node, known)
    home, _ = _whole(entries, node)
    if home.entry.lazy:
        raise InvalidArgument(f"--until {node}", "a step that is a part of what needs it", "one with restart: true")
    return int(home.loc[1]) + 1


def _check(
    entries: Sequence[Located], start: str, only: Sequence[str], named: Sequence[str], branches: Sequence[str]
) -> None:
    known = [name for each in entries for name in each.names]
    if start and start not in known:
        raise UnknownNode("--from", start, known)
    for node in named:
        if node not in known:
            raise UnknownNode("--only", node, list(dict.fromkeys([*known, *branches])))
    if named and len(named) < len(only):
        raise InvalidArgument("--only", "branches of a fan-in beside other nodes", "either, or --from")


def _whole(entries: Sequence[Located], node: str) -> tuple[Located, list[Located]]:
    """A node's entry, and the same with all entries within it."""
    home = next(each for each in entries if node in each.names)
    return home, [each for each in entries if each is home or set(each.around) & set(home.names)]


def _from(config: JobConfig, entries: Sequence[Located], node: str) -> Redo:
    home, whole = _whole(entries, node)
    after = entries[entries.index(whole[0]) :]
    aside = [each for each in entries if home.excludes(each)]
    again = [each for each in after if each not in aside]
    return _redo(config, again, [each for each in entries if each not in again], aside)


def _only(config: JobConfig, entries: Sequence[Located], nodes: Sequence[str]) -> Redo:
    again: list[Located] = []
    for node in nodes:
        home, whole = _whole(entries, node)
        if home.entry.lazy:
            found = "a step that is a part of what needs it"
            raise InvalidArgument(f"--only {node}", found, f"one with restart: true, or --from {node}")
        # A transaction's record pins what is written within it.
        again += [*whole, *(one for one in entries if one.names and one.names[0] in home.around)]
    kept = [each for each in entries if each not in again]
    for each in again:
        after = (one for one in entries[entries.index(each) :] if one in kept)
        reporter = next((one.names[0] for one in after if one.entry.reports(each)), "")
        if reporter:
            found = f"{reporter} after it, which reports what it writes and would have to run"
            raise InvalidArgument(f"--only {each.names[0]}", found, f"--from {each.names[0]}")
    return _redo(config, again, kept)


def _redo(
    config: JobConfig, again: Sequence[Located], kept: Sequence[Located], aside: Collection[Located] = ()
) -> Redo:
    """As names; a source that a taken-over entry reads is taken over, even if another entry reads it too."""
    names = frozenset(name for each in again for name in each.names)
    readers = [each.entry for each in kept if each not in aside]
    read = {source for entry in readers for source in entry.read_nodes(config.sources)}
    return Redo(names, frozenset([*read, *(name for each in kept for name in each.names)]) - names)
