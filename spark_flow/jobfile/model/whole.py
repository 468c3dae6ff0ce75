"""What is wrong with a flow as a whole: its order, and where two entries take one name or write to one path."""

from collections.abc import Collection, Iterator, Sequence

from spark_flow.jobfile.model.base import FlowModel, Located, located, walk
from spark_flow.jobfile.model.fields import overlap
from spark_flow.jobfile.model.problems import Finding, Location, place, show


def flow_findings(flow: Sequence[FlowModel | None], sources: Collection[str] = ()) -> list[Finding]:
    """What is wrong with a flow as a whole; ``None`` stands for an entry that is wrong in itself."""
    found = []
    at, first = next(((at, one) for at, one in enumerate(flow) if one is None or not one.before_chain), (0, None))
    if not flow or (first is not None and not first.starts_chain):
        each = ("flow", at)[: 1 + bool(flow)]
        pattern = show(first.pattern if first else None)
        found.append(Finding(each, pattern, "a read or a fan-in first", "For example - read: flights"))
    for at, entry in enumerate(flow):
        wrong = entry.misplaced(flow[:at]) if entry else ()
        found += [each._replace(loc=("flow", at, entry.pattern, *each.loc)) for each in wrong if entry]
    found += clashes(flow, sources)
    if None not in flow and not any(entry.written() for entry in walk([entry for entry in flow if entry])):
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
    taken = {name: place(loc) for loc, name in _read_sources(flow, sources)}
    written: list[tuple[Located, str, Location]] = []
    for each in located(flow):
        for name in each.names:
            if name in taken:
                expected = f"a name not used by {taken[name]}"
                found.append(Finding(each.loc, f"name {name!r} again", expected, "Give it a name of its own."))
            taken.setdefault(name, place(each.loc))
        for loc, path in _paths(each):
            for other, another, first in written:
                if loc[:-1] != first[:-1] and overlap(path, another) and not each.excludes(other):
                    expected = f"a path apart from {another!r} of {place(first)}"
                    found.append(Finding(loc, show(path), expected, "Two sinks would write over each other."))
            written.append((each, path, loc))
    return found


def _read_sources(flow: Sequence[FlowModel | None], sources: Collection[str]) -> Iterator[tuple[Location, str]]:
    """The sources that are nodes by themselves, and the entries that read them."""
    for each in located(flow):
        yield from ((each.loc, name) for name in each.entry.read_nodes(sources))


def _paths(each: Located) -> Iterator[tuple[Location, str]]:
    """What an entry writes, and where the file says so."""
    for below, sink in each.entry.written().items():
        yield (*each.loc, *below, "table" if sink.table else "path"), sink.target
        if sink.staging:
            yield (*each.loc, *below, "staging"), sink.staging
