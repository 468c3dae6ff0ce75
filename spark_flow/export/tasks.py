"""The tasks of a job in an orchestrator, made from the graph of its file (``spark_flow.jobfile.plan.draw``).

A task is the job's own command, as a whole or ``--until`` a node: the next one reuses what was recorded and does the
next part of the same generation. So an orchestrator may repeat any of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from spark_flow.errors import InvalidArgument
from spark_flow.sequence.isolated_sequencer.keys import parse_keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Tasks: TypeAlias = Literal["job", "checkpoints"]
Node: TypeAlias = "Mapping[str, Any]"
KEY = "\0"
"""Stands for the key in arguments that an orchestrator completes; no argument of a process can hold it."""
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job's file, and its graph.

    Attributes:
        file: The file, as the machine that runs it sees it.
        graph: Its graph (``spark_flow.jobfile.plan.draw``).
        overrides: Values of the file, as ``name=value``.
    """

    file: str
    graph: Mapping[str, Any]
    overrides: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Task:
    """A part of a job that is started, watched and retried by itself.

    Attributes:
        name: Its name, of letters, digits, ``_`` and ``-``; unique in the job.
        nodes: The nodes that it adds.
        until: The node that it ends after; empty if it does all the rest.
        after: The tasks before it; of the routes of a choice one is done.
        kind: ``wait`` for other pipelines first, ``choice`` decides, ``route`` is one of a choice's.
        routes: Of a choice, the task of each route.
        label: The rule of its fan-in or wait, or a route's condition; for a picture.
        text: What it does, in a line for each node that is worth one.
    """

    name: str
    nodes: tuple[str, ...]
    until: str = ""
    after: tuple[str, ...] = ()
    kind: Literal["part", "wait", "choice", "route"] = "part"
    routes: Mapping[str, str] = field(default_factory=dict)
    label: str = field(default="", compare=False)
    text: str = field(default="", compare=False)


def tasks(graph: Mapping[str, Any], how: Tasks = "job", *, waited: bool = False) -> tuple[Task, ...]:
    """Return the tasks of a job, in order.

    >>> nodes = [
    ...     {"name": "hours", "pattern": "unaligned_fan_in", "entry": "flow[0].unaligned_fan_in", "boundary": True},
    ...     {"name": "clean", "pattern": "step", "entry": "flow[1].step", "boundary": False},
    ...     {"name": "lake", "pattern": "write", "entry": "flow[2].write", "boundary": True},
    ... ]
    >>> [(task.name, task.until) for task in tasks({"pipeline": "daily", "nodes": nodes}, "checkpoints")]
    [('hours', 'hours'), ('lake', '')]

    Args:
        graph: The graph of the job's file.
        how: ``job`` is one task. ``checkpoints`` is one for each checkpoint, sink, wait, choice and route; what has
            none of its own is part of the next one, or at the end of the last one.
        waited: Whether the orchestrator waits by itself, so that the first waits are no tasks.

    Raises:
        InvalidArgument: ``how`` is another word, or two tasks have one name.
    """
    entries = [list(group) for _, group in groupby(_of_entries(graph), lambda node: node["entry"].partition("]")[0])]
    if how == "job":
        nodes = [node for entry in entries for node in entry]
        return (_task(graph["pipeline"], nodes),)
    if how != "checkpoints":
        raise InvalidArgument("tasks", repr(how), "job or checkpoints")
    first = len(list(first_waits(graph))) if waited else 0
    made = _checkpoints(entries[first:])
    check_names([task.name for task in made])
    return tuple(made)


def check_names(names: Sequence[str], longest: int = 250) -> None:
    """Check the names of tasks, or of what an orchestrator has for them.

    Raises:
        InvalidArgument: Two are the same, or one is too long.
    """
    if twice := next((name for name in names if names.count(name) > 1), ""):
        expected = "names of nodes and datasets that still differ when other characters than letters and digits are _"
        raise InvalidArgument("tasks", f"two with the name {twice!r}", expected)
    if long := next((name for name in names if len(name) > longest), ""):
        raise InvalidArgument("tasks", f"{long!r}, {len(long)} characters", f"names of up to {longest}")


def command(job: Job, task: Task, key: str = KEY) -> list[str]:
    """Return the arguments of ``spark-flow`` that do a task: ``["run", "day.yaml", "key=...", "--until", "hours"]``.

    Args:
        job: The job.
        task: The task.
        key: The key; by default ``KEY``.
    """
    until = ["--until", task.until] if task.until else []
    return ["run", job.file, f"key={key}", *job.overrides, *until]


def branch_of(job: Job, branches: Sequence[Job]) -> tuple[Node, Job]:
    """Return the wait at the start of a job, and the job that it is for.

    Raises:
        InvalidArgument: It waits for another dataset, for several, or not at all.
    """
    waits = [(node, dataset) for node in first_waits(job.graph) for dataset in node["datasets"]]
    published = {n["dataset"]: one for one in branches for n in one.graph["nodes"] if n.get("pattern") == "publish"}
    if len(waits) != 1 or waits[0][1] not in published:
        wanted = ", ".join(dataset for _, dataset in waits) or "nothing"
        found = f"the file of {', '.join(published) or 'no dataset'}, for a job that waits for {wanted}"
        raise InvalidArgument("--branches", found, "the file of the one dataset that the job waits for at its start")
    return waits[0][0], published[waits[0][1]]


def is_by_date(choice: Node) -> bool:
    """Whether all conditions of a choice are of the key's date, so that an orchestrator can decide as the job does.

    Keys that are days, or hours as ``2013-01-02T05``, are in the order of their text.
    """
    conditions = choice["conditions"].values()
    return bool(conditions) and all(list(condition) == ["by_date"] for condition in conditions)


def with_routes(parts: Sequence[Task], choice: Task) -> list[Task]:
    """The tasks, with one for a choice and its routes: of an orchestrator that cannot read the decision."""
    routes = [task for task in parts if task.name in choice.routes.values()]
    nodes = (*choice.nodes, *(node for route in routes for node in route.nodes))
    after = tuple(task.name for task in routes)
    more: dict[str, Any] = {"kind": "part", "until": routes[0].until, "nodes": nodes, "routes": {}}
    made = [replace(task, **more) if task.name == choice.name else task for task in parts if task not in routes]
    return [replace(task, after=(choice.name,)) if task.after == after else task for task in made]


def choices(graph: Mapping[str, Any]) -> dict[str, Node]:
    """The choices of a flow by the task of each."""
    return {task_name(node["name"]): node for node in graph["nodes"] if node.get("routes")}


def overrides_of_waits(graph: Mapping[str, Any]) -> list[str]:
    """What makes a job take what is there, where another task has waited before it; with all there it is not needed."""
    several = [node["entry"] for node in first_waits(graph) if node["rule"] != "all_succeeded"]
    return [f"{entry.replace('[', '.').replace(']', '')}.timeout=0" for entry in several]


def made_by(file: str) -> str:
    """The comment of an exported file: what it was made from, and by which version."""
    return f"{file}, by spark-flow {version('spark-flow')}: change the job and export it again"


def first_waits(graph: Mapping[str, Any]) -> Iterator[Node]:
    """The waits at the start of a flow, before anything else is done."""
    for node in _of_entries(graph):
        if node["pattern"] != "wait_for":
            return
        yield node


def provider_keys(wait: Node) -> list[str]:
    """The keys that a wait is for, as texts with ``KEY``, which is the job's key: ``[KEY + "T05", KEY + "T06"]``.

    Raises:
        InvalidArgument: They are not made from the text of the key alone, as ``last_days(7)`` are not.
    """
    day = "2000-01-01"
    found = parse_keys(wait["keys"])(day)
    if not all(key.startswith(day) for key in found):
        raise InvalidArgument(wait["name"], f"keys {wait['keys']}", "same, or hours_of_day(05..23)")
    return [KEY + key.removeprefix(day) for key in found]


def _of_entries(graph: Mapping[str, Any]) -> Iterator[Node]:
    return (node for node in graph["nodes"] if "entry" in node)


def _checkpoints(entries: Sequence[Sequence[Node]]) -> list[Task]:
    made: list[Task] = []
    open_: list[Node] = []  # without a boundary of its own so far
    ends: tuple[str, ...] = ()
    for entry in entries:
        head = next(node for node in entry if not node.get("within"))
        routes = list(_routes(head, entry)) if head["pattern"] == "exclusive_choice" else []
        open_ += [node for node in entry if not routes or node is head]
        if head.get("boundary") or any(node.get("boundary") for node in entry):
            kind: Any = {"exclusive_choice": "choice", "wait_for": "wait"}.get(head["pattern"], "part")
            ways = {task.until.rpartition("/")[2]: task.name for task in routes}
            made += [_task(head["name"], open_, until=head["name"], after=ends, kind=kind, routes=ways), *routes]
            ends = tuple(task.name for task in routes) or (made[-1].name,)
            open_ = []
    if open_ and made and len(ends) == 1 and made[-1].kind == "part":
        last = made.pop()
        nodes = (*last.nodes, *(node["name"] for node in open_))
        made.append(replace(last, nodes=nodes, text="\n".join(filter(None, [last.text, _text(open_)]))))
    elif open_:
        made.append(_task(open_[-1]["name"], open_, after=ends))
        ends = (made[-1].name,)
    return [replace(task, until="") if task.name in ends else task for task in made]


def _routes(choice: Node, entry: Sequence[Node]) -> Iterator[Task]:
    for route, condition in choice["routes"].items():
        until = f"{choice['name']}/{route}"
        nodes = [node for node in entry if until in node.get("within", ())]
        made = _task(until, nodes, until=until, after=(task_name(choice["name"]),), kind="route")
        label = f"{route}: {condition or 'the default'}"
        yield replace(made, label=label, text="\n".join(filter(None, [label, made.text])))


def _task(name: str, nodes: Sequence[Node], **more: Any) -> Task:
    label = next((node["rule"] for node in nodes if node.get("rule")), "")
    names = tuple(node["name"] for node in nodes)
    return Task(name=task_name(name), nodes=names, label=label, text=_text(nodes), **more)


def task_name(node: str) -> str:
    """Return the name of the task that ends with a node."""
    return _NOT_IN_A_NAME.sub("_", node)


def _text(nodes: Sequence[Node]) -> str:
    return "\n".join(filter(None, map(_line, nodes)))


def _line(node: Node) -> str:
    if node.get("branches"):
        return f"{node['name']}: {node['pattern']} of {len(node['branches'])} branches, {node['rule']}"
    if node["pattern"] == "wait_for":
        return f"{node['name']}: {', '.join(node['datasets'])}, keys {node['keys']}, {node['rule']}"
    if node.get("routes"):
        return f"{node['name']}: one of {', '.join(node['routes'])}"
    if node.get("dataset"):
        return f"{node['name']}: publishes {node['dataset']}"
    return f"{node['name']}: {node['pattern']}" if node.get("boundary") else ""
