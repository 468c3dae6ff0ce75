"""What is wrong with a flow as a whole: its order, and where two entries take one name or write to one path."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from spark_flow.jobfile.entries.fan_in import (
    AlignedFanInModel,
    ReportCompletenessModel,
    UnalignedFanInModel,
    WithCompletenessModel,
)
from spark_flow.jobfile.entries.fan_out import ParallelSplitModel
from spark_flow.jobfile.entries.isolated_sequencer import PublishModel, WaitForModel
from spark_flow.jobfile.entries.sequence import ReadModel, SinkModel, StepModel, WriteModel
from spark_flow.jobfile.model.base import FlowModel
from spark_flow.jobfile.model.fields import overlap
from spark_flow.jobfile.model.flow import Place, places, walk
from spark_flow.jobfile.model.problems import Finding, Location, nearest, one_of, show

_TELLS_COMPLETENESS = AlignedFanInModel | UnalignedFanInModel | WaitForModel | None


def flow_findings(flow: Sequence[FlowModel | None], sources: Collection[str] = ()) -> list[Finding]:
    """What is wrong with a flow as a whole; ``None`` stands for an entry that is wrong in itself."""
    found = []
    if not flow or (flow[0] is not None and not flow[0].starts_chain):
        first = show(flow[0].pattern if flow and flow[0] else None)
        place = ("flow", 0)[: 1 + bool(flow)]
        found.append(Finding(place, first, "a read or a fan-in first", "For example - read: flights"))
    found += [
        Finding(("flow", at, entry.pattern), "no fan-in before it", "a fan-in or a wait_for before it")
        for at, entry in enumerate(flow)
        if isinstance(entry, WithCompletenessModel | ReportCompletenessModel)
        and not any(isinstance(before, _TELLS_COMPLETENESS) for before in flow[:at])
    ]
    found += [
        Finding(
            ("flow", at, entry.pattern), "no write before it", "a write before it", "A marker comes after the data."
        )
        for at, entry in enumerate(flow)
        if isinstance(entry, PublishModel)
        and entry.state == "ready"
        and None not in flow[:at]
        and not any(_writes(before) for before in walk([one for one in flow[:at] if one]))
    ]
    found += _publish_findings(flow)
    found += clashes(flow, sources)
    if None not in flow and not any(_writes(entry) for entry in walk([entry for entry in flow if entry])):
        found.append(Finding(("flow",), "no write", "at least one write"))
    return found


def clashes(flow: Sequence[FlowModel | None], sources: Collection[str] = ()) -> list[Finding]:
    """Where two entries take one name, or write to one path, or one within the other's.

    In a run the second one would be refused as well, after the first one has written.

    Args:
        flow: The flow.
        sources: The names of the file's sources; one that is read is a node of its name.
    """
    found: list[Finding] = []
    taken = {name: _where(loc) for loc, name in _read_sources(flow, sources)}
    written: list[tuple[Place, str, Location]] = []
    for place in places(flow):
        for name in place.names:
            if name in taken:
                expected = f"a name not used by {taken[name]}"
                found.append(Finding(place.loc, f"name {name!r} again", expected, "Give it a name of its own."))
            taken.setdefault(name, _where(place.loc))
        for loc, path in _paths(place):
            for other, another, first in written:
                if loc[:-1] != first[:-1] and overlap(path, another) and not place.excludes(other):
                    expected = f"a path apart from {another!r} of {_where(first)}"
                    found.append(Finding(loc, show(path), expected, "Two sinks would write over each other."))
            written.append((place, path, loc))
    return found


def _read_sources(flow: Sequence[FlowModel | None], sources: Collection[str]) -> Iterator[tuple[Location, str]]:
    """The sources that are nodes by themselves, and the entries that read them."""
    for place in places(flow):
        entry = place.entry
        if isinstance(entry, ReadModel):
            yield place.loc, entry.source
        steps = [entry] if isinstance(entry, StepModel) else []
        steps += (
            [sink.step for sink in entry.sinks.values() if sink.step] if isinstance(entry, ParallelSplitModel) else []
        )
        for step in steps:
            yield from ((place.loc, name) for name in step.split_with(sources)[0].values())


def _paths(place: Place) -> Iterator[tuple[Location, str]]:
    """What an entry writes, and where the file says so."""
    sinks: Mapping[tuple[str, ...], SinkModel] = {}
    if isinstance(place.entry, WriteModel):
        sinks = {(): place.entry}
    elif isinstance(place.entry, ParallelSplitModel):
        sinks = {("sinks", name): sink for name, sink in place.entry.sinks.items()}
    for below, sink in sinks.items():
        yield (*place.loc, *below, "path"), sink.path
        if sink.staging:
            yield (*place.loc, *below, "staging"), sink.staging


def _where(loc: Location) -> str:
    """A place in the file, as ``flow[2].write``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return "".join(parts).removeprefix(".")


def _publish_findings(flow: Sequence[FlowModel | None]) -> list[Finding]:
    """Whether each dataset is published once, and of tables that are written before."""
    found: list[Finding] = []
    published: set[str] = set()
    for at, entry in enumerate(flow):
        if not isinstance(entry, PublishModel):
            continue
        place = ("flow", at, entry.pattern)
        if entry.dataset in published:
            found.append(Finding((*place, "dataset"), f"{entry.dataset!r} again", "each dataset published once"))
        published.add(entry.dataset)
        before = [node for one in flow[:at] if one for node in one.nodes()]
        unknown = [table for table in entry.tables if table not in before] if None not in flow[:at] else []
        found += [Finding((*place, "tables"), show(one), one_of(before), nearest(one, before)) for one in unknown]
    return found


def _writes(entry: FlowModel) -> bool:
    return isinstance(entry, WriteModel | ParallelSplitModel)
