"""The plan of a run as a graph: what ``--plan --json`` prints, and what pictures and orchestrators are made from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from spark_flow.jobfile.load import load
from spark_flow.jobfile.model.base import located
from spark_flow.jobfile.model.problems import place
from spark_flow.jobfile.model.wiring import Wiring
from spark_flow.orchestration.shared_state import Write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run
    from spark_flow.jobfile.model.base import Located
    from spark_flow.jobfile.model.job import JobConfig

FORMAT = 1
"""The version of the format; a key may be added without a new one."""
_RUNNER = ("calendar", "start_date", "end_date", "max_active_runs", "depends_on_past", "pool", "slots", "first")
_ANY = "2000-01-01"  # stands in for a key that is not given


class PlanAsJson:
    """A display of a planned run that prints its graph when the run has ended, and nothing before."""

    def __init__(self, config: JobConfig, say: Callable[[str], None]) -> None:
        self._config = config
        self._say = say

    def begin(self, run: Run) -> None:
        """Print nothing."""

    def __call__(self, point: str, node: str, outcome: Outcome | None) -> None:
        """Print nothing."""

    def finish(self, run: Run) -> None:
        """Print the graph; if the plan failed, as far as it was made."""
        self._say(json.dumps(run.secrets.facts(graph(self._config, run)), indent=1))


def graph(config: JobConfig, run: Run | None = None) -> dict[str, Any]:
    """Return the nodes of a file, in the order of its flow, with what a run or a plan found of each.

    Args:
        config: The file.
        run: A run or plan of it. Without one, which needs no Spark, nodes have no ``state`` and ``reason``.

    Returns:
        ``format, pipeline, key, runner, nodes``, and of a run ``generation, attempt, state``. Each node has ``name``,
        ``kind``, ``pattern`` (the entry's), ``entry`` (its place in the file), ``boundary`` (whether a task can end
        after it), ``within`` (the transaction and routes around it), ``inputs`` (nodes), ``reads`` and ``writes``
        (paths), and its ``timeout`` and ``retries``; if the plan came to it ``state`` and ``reason``; and what its
        pattern says: ``branches`` and ``rule``, ``routes`` and ``default``, ``dataset``, ``job``.
    """
    wiring = Wiring(config.sources)
    wiring.along(config.flow)
    nodes = [node for one in located(config.flow) for node in _of_entry(one, config, wiring, run)]
    known = {node["name"] for node in nodes}
    named = [*wiring.inputs, *(name for inputs in wiring.inputs.values() for name in inputs)]
    used = list(dict.fromkeys([*named, *(run.graph.sources if run else ())]))
    branches = [name for names in run.graph.fan_ins.values() for name in names] if run else []
    sources = [name for name in used if name not in {*known, *branches}]
    first = [_found(name, "source", wiring, run) for name in sources]
    last = [_found(name, "branch", wiring, run) for name in branches]
    facts: Mapping[str, Any] = {"pipeline": config.pipeline, "key": config.key}
    if run is not None:
        summary = run.summary()
        facts = {name: summary[name] for name in ("pipeline", "key", "generation", "attempt", "state")}
    runner = config.runner.model_dump(mode="json", include=set(_RUNNER))
    return {"format": FORMAT, **facts, "runner": runner, "nodes": [*first, *nodes, *last]}


def draw(path: Path, overrides: Sequence[str], *, cwd: Path | None = None) -> dict[str, Any]:
    """Return the nodes of a file that is not run: modules of the user's are not imported, and the key may be missing.

    Args:
        path: The file.
        overrides: Values of it, as ``name=value``.
        cwd: Where relative paths start in a file without ``root``; by default the working folder.

    Raises:
        ConfigError: The file is wrong.
    """
    key = [] if any(each.startswith("key=") for each in overrides) else [f"key={_ANY}"]
    config = load(path, [*overrides, *key], any_key=True, imports=False, cwd=cwd)
    drawn = graph(config)
    if key:
        for node in drawn["nodes"]:
            for paths in ("reads", "writes"):
                node[paths] = [path.replace(_ANY, "{key}") for path in node.get(paths, ())]
    return drawn | ({"key": None} if key else {})


def _of_entry(one: Located, config: JobConfig, wiring: Wiring, run: Run | None) -> list[dict[str, Any]]:
    above = "".join(f"{name}/" for name in one.around if "/" not in name)
    touched = list(one.entry.footprint(config, above))
    limits = one.entry.limits()
    each = []
    for name in one.names:
        mine = [other for other in touched if other.node == name]
        node = {
            **_found(name, "sink" if name in one.sinks else one.entry.kind, wiring, run),
            "pattern": one.entry.pattern,
            "entry": place(one.loc),
            "within": list(one.around),
            "reads": list(dict.fromkeys(other.path for other in mine if not isinstance(other, Write))),
            "writes": list(dict.fromkeys(other.path for other in mine if isinstance(other, Write))),
        }
        if limits is not None:
            node |= {"timeout": limits.timeout, "retries": limits.retries}
        each.append(node)
    if each:
        each[0] |= {"boundary": one.entry.boundary, **one.entry.described(config)}
    return each


def _found(name: str, kind: str, wiring: Wiring, run: Run | None) -> dict[str, Any]:
    """What the run knows of a node, and else the file."""
    inputs = (run.graph.inputs_of(name) if run else ()) or wiring.inputs.get(name, ())
    facts: dict[str, Any] = {"name": name, "inputs": list(inputs)}
    outcome = run.outcome(name) if run else None
    if outcome is not None:
        return {**facts, "kind": outcome.kind, "state": outcome.state, "reason": outcome.error or outcome.reason}
    declared = run.graph.declared.get(name) if run else None
    return {**facts, "kind": declared.kind if declared is not None else kind}
