"""The plan of a run as a graph: what ``--plan --json`` prints, and what pictures and orchestrators are made from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from spark_flow.jobfile.model.base import located
from spark_flow.jobfile.model.problems import place
from spark_flow.orchestration.shared_state import Write

if TYPE_CHECKING:
    from collections.abc import Callable

    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run
    from spark_flow.jobfile.model.base import Located
    from spark_flow.jobfile.model.job import JobConfig

FORMAT = 1
"""The version of the format; a key may be added without a new one."""


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


def graph(config: JobConfig, run: Run) -> dict[str, Any]:
    """Return the nodes of a file, in the order of its flow, with what a run or a plan found of each.

    Returns:
        ``format, pipeline, key, generation, attempt, state, nodes``. Each node has ``name``, ``pattern`` (the entry's),
        ``entry`` (its place in the file), ``within`` (the transaction and routes around it), ``inputs`` (nodes),
        ``reads`` and ``writes`` (paths), and its ``timeout`` and ``retries``; if the plan came to it ``kind``,
        ``state`` and ``reason``; and what its pattern says: ``branches`` and ``rule``, ``routes`` and ``default``,
        ``dataset``, ``job``.
    """
    nodes = [node for one in located(config.flow) for node in _of_entry(one, config, run)]
    known = {node["name"] for node in nodes}
    branches = [name for names in run.graph.fan_ins.values() for name in names]
    sources = [name for name in run.graph.sources if name not in {*known, *branches}]
    first, last = ([_found(name, run) for name in names] for names in (sources, branches))
    names = ("pipeline", "key", "generation", "attempt", "state")
    summary = run.summary()
    return {"format": FORMAT, **{name: summary[name] for name in names}, "nodes": [*first, *nodes, *last]}


def _of_entry(one: Located, config: JobConfig, run: Run) -> list[dict[str, Any]]:
    above = "".join(f"{name}/" for name in one.around if "/" not in name)
    touched = list(one.entry.footprint(config, above))
    limits = one.entry.limits()
    each = []
    for name in one.names:
        mine = [other for other in touched if other.node == name]
        node = {
            **_found(name, run),
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
        each[0] |= one.entry.described(config)
    return each


def _found(name: str, run: Run) -> dict[str, Any]:
    """What the run knows of a node."""
    outcome, declared = run.outcome(name), run.graph.declared.get(name)
    facts: dict[str, Any] = {"name": name, "inputs": list(run.graph.inputs_of(name))}
    if outcome is not None:
        return {**facts, "kind": outcome.kind, "state": outcome.state, "reason": outcome.error or outcome.reason}
    return {**facts, "kind": declared.kind} if declared is not None else facts
