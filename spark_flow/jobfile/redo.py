"""A partial backfill: which nodes of a flow run again, and which are taken over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_flow.errors import InvalidArgument, UnknownNode
from spark_flow.jobfile.entries import (
    PublishModel,
    ReportCompletenessModel,
    StepModel,
    TransactionModel,
    TriggerModel,
    WithCompletenessModel,
)
from spark_flow.jobfile.model.flow import places as positions

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from spark_flow.jobfile.model.base import FlowModel
    from spark_flow.jobfile.model.flow import Place
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
        parts = node.split("/")
        above = ("/".join(parts[:length]) for length in range(len(parts), 0, -1))
        named = next((name for name in above if name in self.again or name in self.kept), "")
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
    places = list(positions(config.flow))
    branches = config.branch_nodes()
    named = [node for node in only if node not in branches]
    _check(places, start, only, named, branches)
    given = [option for option, one in (("--from", start), ("--only", only), ("--rerun", rerun)) if one]
    if len(given) > 1 and (start or named):
        raise InvalidArgument(given[0], f"{' and '.join(given[1:])} beside it", "one of --from, --only and --rerun")
    if start:
        return _from(config, places, start)
    return _only(config, places, named) if named else None


def _check(
    places: Sequence[Place], start: str, only: Sequence[str], named: Sequence[str], branches: Sequence[str]
) -> None:
    known = [name for place in places for name in place.names]
    if start and start not in known:
        raise UnknownNode("--from", start, known)
    for node in named:
        if node not in known:
            raise UnknownNode("--only", node, list(dict.fromkeys([*known, *branches])))
    if named and len(named) < len(only):
        raise InvalidArgument("--only", "branches of a fan-in beside other nodes", "either, or --from")


def _whole(places: Sequence[Place], node: str) -> tuple[Place, list[Place]]:
    """A node's entry, and the same with all entries within it."""
    home = next(place for place in places if node in place.names)
    return home, [place for place in places if place is home or set(place.around) & set(home.names)]


def _from(config: JobConfig, places: Sequence[Place], node: str) -> Redo:
    home, whole = _whole(places, node)
    after = places[places.index(whole[0]) :]
    aside = [place for place in places if home.excludes(place)]
    again = [place for place in after if place not in aside]
    return _told(config, again, [place for place in places if place not in again], aside)


def _only(config: JobConfig, places: Sequence[Place], nodes: Sequence[str]) -> Redo:
    again: list[Place] = []
    for node in nodes:
        home, whole = _whole(places, node)
        if isinstance(home.entry, WithCompletenessModel) or (
            isinstance(home.entry, StepModel) and not home.entry.restart
        ):
            found = "a step that is a part of what needs it"
            raise InvalidArgument(f"--only {node}", found, f"one with restart: true, or --from {node}")
        # A transaction's record pins what is written within it.
        again += [*whole, *(p for p in places if isinstance(p.entry, TransactionModel) and p.names[0] in home.around)]
    kept = [place for place in places if place not in again]
    for place in again:
        after = (one for one in places[places.index(place) :] if one in kept)
        telling = next((one.names[0] for one in after if _tells(one.entry, place)), "")
        if telling:
            found = f"{telling} after it, which tells of what it writes and would have to run"
            raise InvalidArgument(f"--only {place.names[0]}", found, f"--from {place.names[0]}")
    return _told(config, again, kept)


def _tells(entry: FlowModel, of: Place) -> bool:
    """Whether an entry reports what another one writes."""
    if isinstance(entry, PublishModel):
        return (
            bool(of.entry.written())
            and entry.state == "ready"
            and (not entry.tables or bool(set(entry.tables) & set(of.names)))
        )
    reported = bool(of.entry.written()) or isinstance(of.entry, ReportCompletenessModel | PublishModel)
    return isinstance(entry, TriggerModel) and reported


def _told(config: JobConfig, again: Sequence[Place], kept: Sequence[Place], aside: Collection[Place] = ()) -> Redo:
    """As names; a source that a taken-over entry reads is taken over, even if another entry reads it too."""
    names = frozenset(name for place in again for name in place.names)
    readers = [place.entry for place in kept if place not in aside]
    read = {source for entry in readers for source in entry.read_nodes(config.sources)}
    return Redo(names, frozenset([*read, *(name for place in kept for name in place.names)]) - names)
