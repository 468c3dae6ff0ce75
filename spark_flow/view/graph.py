"""A flow as a picture, in Mermaid (https://mermaid.js.org) or Graphviz's DOT: of a job's file, of a plan, or of a run.

Both are made from the nodes that ``--plan --json`` prints (``spark_flow.jobfile.plan.graph``): ``name``, ``kind``,
``inputs``, ``within``, and where known ``state``, ``reason``, ``branches``, ``rule``, ``routes``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spark_flow.view.text import plain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from spark_flow.view.tables import RunView

Node = dict[str, Any]
_LONGEST = 60  # characters of a line of a label
_NOT_TAKEN = "not taken: "

# By kind, or role: what comes before and after the label in Mermaid, and the shape in DOT.
_SHAPES = {
    "source": ("[/", "/]", "parallelogram"),
    "branches": ("[/", "/]", "parallelogram"),
    "merge": ("{{", "}}", "hexagon"),
    "choice": ("{", "}", "diamond"),
    "sink": ("[(", ")]", "cylinder"),
    "marker": ("([", "])", "oval"),
    "trigger": ("([", "])", "oval"),
}
_BOX = ("[", "]", "box")
# Fill and text of each state; each state is written out as well.
COLOURS = {
    "succeeded": ("#d3f0d9", "#0b3d17"),
    "reused": ("#d0ebf5", "#0a3a4a"),
    "failed": ("#f9d2d2", "#5c0a0a"),
    "skipped": ("#ececec", "#444444"),
    "started": ("#fdecc8", "#5b3b00"),
}


@dataclass(frozen=True, kw_only=True)
class Box:
    """A node, or all branches of a fan-in."""

    name: str
    lines: tuple[str, ...]
    kind: str
    state: str = ""
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """A frame from one box to another, a route of a choice with its condition, or one that was not taken."""

    start: str
    end: str
    label: str = ""
    dotted: bool = False


@dataclass(frozen=True)
class Picture:
    """What is drawn."""

    title: str
    boxes: Sequence[Box]
    arrows: Sequence[Arrow]


def of_file(graph: Mapping[str, Any]) -> Picture:
    """Return the picture of a job's file or plan, from what ``spark_flow.jobfile.plan.graph`` returns."""
    state = f": {graph['state']}" if "state" in graph else ""
    return picture(f"{graph['pipeline']}{state}", graph["nodes"])


def of_run(view: RunView) -> Picture:
    """Return the picture of a run, from its events; what was never reached is not in it."""
    title = f"{view.pipeline} {view.key}, generation {view.generation}, attempt {view.attempt}: {view.state}"
    return picture(title, nodes_of(view))


def nodes_of(view: RunView) -> list[Node]:
    """Return a run's nodes in the form of a plan's."""
    nodes: dict[str, Node] = {}
    transactions = {e.node for e in view.nodes if e.kind == "marker" and "/" not in e.node}
    for event in view.nodes:
        around = [event.node.partition("/")[0]] if event.node.partition("/")[0] in transactions - {event.node} else []
        route = str(view.positions.get(event.node, {}).get("within", ""))
        nodes[event.node] = {
            "name": event.node,
            "kind": event.kind,
            "state": event.state,
            "reason": event.error or event.reason,
            "inputs": list(view.positions.get(event.node, {}).get("upstream", ())),
            "within": [*([route] if route else []), *around],
            **_of_pattern(event.kind, event.detail),
        }
    for name, node in nodes.items():
        if node["kind"] == "branch":
            nodes.get(name.rpartition("/")[0], {}).setdefault("branches", []).append(name.rpartition("/")[2])
    return list(nodes.values())


def _of_pattern(kind: str, detail: Mapping[str, Any]) -> Node:
    if kind == "merge" and "rule" in detail:
        return {"rule": detail["rule"]}
    if kind == "choice" and "route" in detail:
        return {"routes": detail.get("conditions", {}), "route": detail["route"]}
    return {}


def picture(title: str, nodes: Iterable[Node]) -> Picture:
    """Return boxes and arrows; branches of a fan-in are one box, routes are arrows."""
    known = {node["name"]: node for node in nodes}
    choices = {name for name, node in known.items() if node["kind"] == "choice" and "/" not in name}
    routes = {name: node for name, node in known.items() if name.rpartition("/")[0] in choices}
    drawn = {name: node for name, node in known.items() if name not in routes and node["kind"] != "branch"}
    groups = {group for node in drawn.values() for group in node.get("within", ())}
    boxes, arrows = [], []
    for name, node in drawn.items():
        if node.get("branches"):
            boxes.append(_branches(name, node["branches"], known))
            arrows.append(Arrow(start=f"{name}/*", end=name))
        boxes.append(_box(node, groups))
        arrows += _frames(node, drawn)
    for name in sorted(choices):
        for route in _routes(name, known):
            more, way = _route(name, route, drawn, routes.get(f"{name}/{route}", {}))
            boxes, arrows = boxes + more, arrows + way
    return Picture(title, boxes, arrows)


def _box(node: Node, groups: Collection[str]) -> Box:
    group = next((name for name in (node["name"], *node.get("within", ())) if name in groups and "/" not in name), "")
    lines = [node["name"]]
    lines += [str(node["rule"])] if "rule" in node else []
    lines += [f"{len(node['rules'])} rule(s)"] if node.get("rules") else []
    state = str(node.get("state", ""))
    worth_telling = state in ("failed", "skipped", "started") or node["kind"] in ("merge", "choice")
    reason = str(node.get("reason", "")).partition("\n")[0] if worth_telling else ""
    reason = reason.partition("; ")[0] if node["kind"] == "merge" else reason  # how slow it was is not drawn
    lines += [state] if state else []
    lines += [reason] if reason and reason != "first time" else []
    return Box(name=node["name"], lines=tuple(map(_cut, lines)), kind=node["kind"], state=state, group=group)


def _branches(fan_in: str, branches: Sequence[str], known: Mapping[str, Node]) -> Box:
    """All branches of a fan-in, those that did not arrive by name."""
    states = {name: str(known.get(f"{fan_in}/{name}", {}).get("state", "")) for name in branches}
    span = branches[0] if len(branches) == 1 else f"{branches[0]} .. {branches[-1]}"
    lines = [f"{fan_in}/{span}", f"{len(branches)} branch{'' if len(branches) == 1 else 'es'}"]
    by_state = defaultdict(list)
    for name, state in states.items():
        by_state[state].append(name)
    wrong = [s for s in ("failed", "started", "skipped") if by_state.get(s)]
    lines += [f"{state}: {', '.join(by_state[state])}" for state in wrong]
    whole = next(iter(by_state)) if len(by_state) == 1 else ""
    return Box(name=f"{fan_in}/*", lines=tuple(map(_cut, lines)), kind="branches", state=[*wrong, whole][0])


def _frames(node: Node, drawn: Mapping[str, Node]) -> Iterator[Arrow]:
    """The arrows into a node; into the first one of a route there is only that of its choice."""
    route = next((name for name in node.get("within", ()) if "/" in name), "")
    of_choice = drawn.get(route.rpartition("/")[0], {}).get("inputs", ()) if route else ()
    for name in node["inputs"]:
        if name in drawn and name not in of_choice:
            yield Arrow(start=name, end=node["name"])


def _routes(choice: str, known: Mapping[str, Node]) -> list[str]:
    node = known[choice]
    listed = [name.rpartition("/")[2] for name in known if name.rpartition("/")[0] == choice]
    return list(dict.fromkeys([*node.get("routes", {}), *listed, *([node["route"]] if "route" in node else [])]))


def _route(choice: str, route: str, drawn: Mapping[str, Node], node: Node) -> tuple[list[Box], list[Arrow]]:
    """The arrows from a choice to the first nodes of a route; a route without nodes gets a box."""
    name, reason = f"{choice}/{route}", str(node.get("reason", ""))
    condition = str(drawn[choice].get("routes", {}).get(route) or reason.removeprefix(_NOT_TAKEN))
    untaken = reason.startswith(_NOT_TAKEN) or drawn[choice].get("route", route) != route
    label = _cut(f"{route}: {condition}" if condition else route)
    inside = {each for each, one in drawn.items() if name in one.get("within", ())}
    first = [each for each in inside if not inside.intersection(drawn[each]["inputs"])]
    boxes = []
    if not first:
        state = "skipped" if untaken else str(node.get("state", ""))
        boxes = [Box(name=name, lines=(route, *(["not taken"] if untaken else [])), kind="step", state=state)]
        first = [name]
    return boxes, [Arrow(start=choice, end=each, label=label, dotted=untaken) for each in sorted(first)]


def _cut(text: str) -> str:
    line = " ".join(plain(text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 3]}..."


@dataclass
class _Ids:
    """A short name for each box: names of nodes have characters that neither language takes."""

    by_name: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.by_name.setdefault(name, f"n{len(self.by_name)}")


def mermaid(drawn: Picture) -> str:
    """Return a picture as a Mermaid flowchart; GitHub and MkDocs show it in a ``mermaid`` block."""
    ids = _Ids()
    lines = ["---", f"title: {_json(drawn.title)}", "---", "flowchart LR"]
    for group, boxes in _grouped(drawn.boxes).items():
        inner = [ids[box.name] + _shape(box) + (f":::{box.state}" if box.state in COLOURS else "") for box in boxes]
        title = _json(f"transaction {group}")
        head = [f"  subgraph {ids[f'{group} (group)']}[{title}]"] if group else []
        lines += [*head, *(f"  {'  ' if group else ''}{line}" for line in inner), *(["  end"] if group else [])]
    for arrow in drawn.arrows:
        line = "-.->" if arrow.dotted else "-->"
        label = f"|{_quoted(arrow.label)}|" if arrow.label else ""
        lines.append(f"  {ids[arrow.start]} {line}{label} {ids[arrow.end]}")
    used = {box.state for box in drawn.boxes}
    colours = {state: pair for state, pair in COLOURS.items() if state in used}
    lines += [f"  classDef {state} fill:{fill},color:{text},stroke:{text}" for state, (fill, text) in colours.items()]
    return "\n".join(lines)


def _shape(box: Box) -> str:
    before, after, _ = _SHAPES.get(box.kind, _BOX)
    return before + _quoted("<br>".join(map(_escaped, box.lines)), escaped=True) + after


def _escaped(text: str) -> str:
    """Escape what Mermaid would take as markup (https://mermaid.js.org/syntax/flowchart.html#entity-codes)."""
    return "".join(f"#{ord(c)};" if c in '"#<>&`\\' else c for c in text)


def _quoted(text: str, *, escaped: bool = False) -> str:
    return f'"{text if escaped else _escaped(text)}"'


def dot(drawn: Picture) -> str:
    """Return a picture in Graphviz's DOT (https://graphviz.org/doc/info/lang.html)."""
    ids = _Ids()
    lines = ["digraph {", f"  label={_json(drawn.title)}; labelloc=t; rankdir=LR; node [fontname=sans];"]
    for group, boxes in _grouped(drawn.boxes).items():
        inner = [f"{ids[box.name]} [{_attributes(box)}];" for box in boxes]
        title = _json(f"transaction {group}")
        head = [f"  subgraph cluster_{ids[f'{group} (group)']} {{ label={title};"]
        lines += [*head, *(f"    {line}" for line in inner), "  }"] if group else [f"  {line}" for line in inner]
    for arrow in drawn.arrows:
        given = [f"label={_json(arrow.label)}"] if arrow.label else []
        given += ["style=dashed"] if arrow.dotted else []
        how = f" [{', '.join(given)}]" if given else ""
        lines.append(f"  {ids[arrow.start]} -> {ids[arrow.end]}{how};")
    return "\n".join([*lines, "}"])


def _attributes(box: Box) -> str:
    colours = COLOURS.get(box.state)
    fill = f', style=filled, fillcolor="{colours[0]}", fontcolor="{colours[1]}"' if colours else ""
    return f"label={_json(chr(10).join(box.lines))}, shape={_SHAPES.get(box.kind, _BOX)[2]}{fill}"


def _json(text: str) -> str:
    """Quote a text for DOT, and for YAML in Mermaid's front matter."""
    whole = plain(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{whole}"'


def _grouped(boxes: Iterable[Box]) -> dict[str, list[Box]]:
    """The boxes by transaction, those without one first."""
    groups: dict[str, list[Box]] = {"": []}
    for box in boxes:
        groups.setdefault(box.group, []).append(box)
    return groups
