"""A run as a tree for the terminal: its nodes, why each has its state, and what the same command would do now."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from spark_flow.errors import some
from spark_flow.view.progress import COLOURS
from spark_flow.view.text import cell, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spark_flow.ledger import Event
    from spark_flow.view.tables import RunView

DONE = ("succeeded", "reused")
_FEW = 5  # branches that are listed although nothing is wrong with them


def run_tree(view: RunView, *, everything: bool = False) -> Tree:
    """Return a run's nodes: branches below their fan-in, writes below their transaction, routes below their choice.

    Args:
        view: The run.
        everything: List all branches; by default those that succeeded are counted when there are many.
    """
    when = f"began {view.when}" + (f", took {view.took}" if view.took else "")
    tree = Tree(cell(f"{view.pipeline} {view.key}: {view.state}"), guide_style="dim")
    tree.add(cell(f"generation {view.generation}, attempt {view.attempt}; {when}"))
    above = _above(view)
    below: dict[str, list[Event]] = {}
    for event in _in_order(view):
        below.setdefault(above.get(event.node, ""), []).append(event)
    _add(tree, "", below, everything=everything)
    if view.error and not any(view.error in (event.error, event.reason) for event in view.nodes):
        tree.add(_wrong(view.error))
    for part in view.completeness:
        if part["is_approximate"]:
            missing = some(part["missing"], 20)
            tree.add(Text(plain(f"incomplete: {part['arrived']} of {part['expected']}; missing {missing}"), "yellow"))
    tree.add(cell(again(view)))
    return tree


def _above(view: RunView) -> dict[str, str]:
    """The node that each node is listed below; those without one are at the top."""
    names = {event.node for event in view.nodes}
    above = {}
    for event in view.nodes:
        route = str(view.positions.get(event.node, {}).get("within", "")).rpartition("/")[0]
        prefix = event.node.rpartition("/")[0]
        found = prefix if prefix in names else route
        if found in names and found != event.node:
            above[event.node] = found
    return above


def _in_order(view: RunView) -> list[Event]:
    """The nodes, inputs first; lazy nodes are recorded after the node that computed them."""
    events = {event.node: event for event in view.nodes}
    found: dict[str, Event] = {}

    def walk(node: str) -> None:
        if node in events and node not in found:
            for name in view.positions.get(node, {}).get("upstream", ()):
                if name != node and node not in view.positions.get(name, {}).get("upstream", ()):
                    walk(name)
            found[node] = events[node]

    for event in sorted(view.nodes, key=lambda event: event.node if event.kind == "branch" else ""):
        walk(event.node)
    return list(found.values())


def _add(tree: Tree, node: str, below: Mapping[str, Sequence[Event]], *, everything: bool) -> None:
    events = below.get(node, ())
    good = [event for event in events if event.kind == "branch" and event.state in DONE]
    hidden = {event.node for event in good} if len(good) > _FEW and not everything else set()
    for event in events:
        if event.node not in hidden:
            branch = tree.add(_line(event))
            if event.error:
                branch.add(_wrong(event.error))
            _add(branch, event.node, below, everything=everything)
    if hidden:
        counts = Counter(event.state for event in good)
        words = ", ".join(f"{count} {state}" for state, count in counts.items())
        rows = sum(event.rows or 0 for event in good)
        names = some(sorted(event.node.rpartition("/")[2] for event in good), 3)
        tree.add(cell(f"{words}: {names}; {rows:,} rows (--all lists them)"))


def _line(event: Event) -> Text:
    """A node's state, name, rows, time and reason."""
    facts = [event.node]
    facts += [f"{event.rows:,} rows"] if event.rows is not None else []
    fresh = event.state in ("succeeded", "failed") and event.duration_ms
    facts += [f"{event.duration_ms / 1000:.2f} s"] if fresh and event.duration_ms else []
    facts += [event.reason] if event.reason else []
    return Text.assemble((f"{event.state} ", COLOURS.get(event.state, "blue")), plain("  ".join(facts)))


def _wrong(error: str) -> Text:
    return Text(plain(error), "red")


def again(view: RunView) -> str:
    """Return what happens if the same command is given again."""
    if view.holder:
        return f"now: runs, by {view.holder}; the same command waits for it"
    done = [event.node for event in view.nodes if event.state in DONE]
    open_ = [event for event in view.nodes if event.state not in DONE and not event.reason.startswith("not taken")]
    if view.state == "succeeded":  # missing branches are tried again, what nothing needed is not
        open_ = [event for event in open_ if event.kind == "branch"]
        if not open_:
            return "again: the same command reuses all of it; --rerun computes it again"
    rest = [event.node for event in open_]
    reuses = f"reuses {len(done)} node(s) and " if done else ""
    return f"again: the same command {reuses}runs {some(rest, 5) if rest else 'what was not reached'}"
