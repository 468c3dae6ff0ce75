"""A job as a pipeline of Azure Data Factory.

See https://learn.microsoft.com/azure/data-factory/concepts-pipelines-activities. A task is a Custom activity, which
runs a command on Azure Batch. The parameters of the pipeline are ``key`` and, for a new generation, ``request_id``.
"""

from __future__ import annotations

import functools
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from spark_flow.export.tasks import (
    KEY,
    branch_of,
    check_names,
    choices,
    command,
    is_by_date,
    made_by,
    overrides_of_waits,
    provider_keys,
    task_name,
    tasks,
    with_routes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from spark_flow.export.tasks import Job, Node, Task, Tasks

PARAMETER = "pipeline().parameters.key"
_LONGEST = 55  # characters of an activity's name
_MOST = 50  # iterations of a ForEach at once
_RETRY = {"timeout": "1.00:00:00", "retry": 3, "retryIntervalInSeconds": 60}


def pipeline(
    job: Job, *, how: Tasks = "job", branches: Sequence[Job] = (), linked_service: str = "AzureBatch"
) -> tuple[dict[str, Any], list[str]]:
    """Return the definition of a pipeline, and what Data Factory cannot express.

    Args:
        job: The job.
        how: One activity for the job, or one for each of its checkpoints, sinks, choices and routes.
        branches: The job that the first ``wait_for`` is for: a ForEach runs it for each key, and the job follows when
            all have succeeded, or, by another rule than that, when all have ended.
        linked_service: The linked service of Azure Batch.

    Raises:
        InvalidArgument: The branches are not those that the job waits for.
    """
    made = _Pipeline(linked_service)
    if branches:
        made.fan_in(job, branches)
        job = replace(job, overrides=[*job.overrides, *overrides_of_waits(job.graph)])
    made.chain(job, made.parts(job, how, waited=bool(branches)))
    inner = [each["name"] for one in made.activities for each in _inner(one["typeProperties"])]
    check_names([*(each["name"] for each in made.activities), *inner], _LONGEST)
    runner = job.graph["runner"]
    properties = {
        "description": made_by(job.file),
        "parameters": {"key": {"type": "string"}, "request_id": {"type": "string", "defaultValue": ""}},
        "concurrency": 1 if runner["depends_on_past"] else runner["max_active_runs"] or 1,
        "activities": made.activities,
        "annotations": ["spark-flow"],
    }
    return {"name": task_name(job.graph["pipeline"]), "properties": properties}, made.notes


@dataclass
class _Pipeline:
    """The activities of one pipeline; notes what Data Factory cannot express."""

    linked_service: str

    def __post_init__(self) -> None:
        self.activities: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def parts(self, job: Job, how: Tasks, *, waited: bool) -> list[Task]:
        """The tasks; a choice that is not by date is one task with its routes."""
        made = list(tasks(job.graph, how, waited=waited))
        known = choices(job.graph)
        for choice in made:
            if choice.kind == "choice" and not is_by_date(known[choice.name]):
                made = with_routes(made, choice)
                self.notes.append(f"{choice.until}: one activity with its routes, as it returns nothing")
        return made

    def chain(self, job: Job, parts: Sequence[Task]) -> None:
        """Each task after the ones before it; a choice is an IfCondition for each of its routes."""
        known = choices(job.graph)
        first = {each["name"]: each.pop("followed") for each in self.activities}
        before: dict[str, Mapping[str, str]] = {}
        for task in parts:
            depends = dict.fromkeys(task.after, "Succeeded") or first
            if task.kind == "choice":
                before[task.name] = depends  # its routes are in its place: no activity decides
            elif task.kind == "route":
                (choice,) = task.after
                routes = next(one.routes for one in parts if one.name == choice)
                route = next(name for name, of in routes.items() if of == task.name)
                run = self._custom(job, task, PARAMETER, {})
                holds = _holds(known[choice], route)
                self.activities.append(_if(task.name, holds, {**run, "name": f"{task.name}_run"}, before[choice]))
                if task.name == list(routes.values())[-1] and known[choice]["default"] is None:
                    self.activities.append(_if(f"{choice}_none", _none(known[choice]), _fail(choice), before[choice]))
            else:
                self.activities.append(self._custom(job, task, PARAMETER, depends))

    def fan_in(self, job: Job, branches: Sequence[Job]) -> None:
        """A ForEach over the keys that the job waits for."""
        wait, branch = branch_of(job, branches)
        (part,) = tasks(branch.graph)
        keys = ", ".join(_joined(key, PARAMETER) for key in provider_keys(wait))
        if wait["rule"] != "all_succeeded":
            self.notes.append(f"{wait['datasets'][0]}: the job itself checks {wait['rule']}, when all have ended")
        self.activities.append(
            {
                "name": wait["datasets"][0],
                "type": "ForEach",
                "typeProperties": {
                    "isSequential": False,
                    "batchCount": min(branch.graph["runner"]["max_active_runs"] or 5, _MOST),
                    "items": _expression(f"createArray({keys})"),
                    "activities": [{**self._custom(branch, part, "item()", {}), "name": f"{part.name}_run"}],
                },
                "followed": "Succeeded" if wait["rule"] == "all_succeeded" else "Completed",
            }
        )

    def _custom(self, job: Job, task: Task, key: str, depends: Mapping[str, str]) -> dict[str, Any]:
        words = ["spark-flow", *command(job, task)]
        text = ", ' ', ".join(_joined(word if KEY in word else shlex.quote(word), key) for word in words)
        request = "pipeline().parameters.request_id"
        again = f"if(empty({request}), '', concat(' --request-id ', {request}))"
        return {
            "name": task.name,
            **({"description": task.text} if task.text else {}),
            "type": "Custom",
            "dependsOn": _depends(depends),
            "policy": _RETRY,
            "typeProperties": {"command": _expression(f"concat({text}, {again})")},
            "linkedServiceName": {"referenceName": self.linked_service, "type": "LinkedServiceReference"},
        }


def _inner(properties: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*properties.get("activities", ()), *properties.get("ifTrueActivities", ())]


def _if(name: str, holds: str, activity: Mapping[str, Any], depends: Mapping[str, str]) -> dict[str, Any]:
    return {
        "name": name,
        "type": "IfCondition",
        "dependsOn": _depends(depends),
        "typeProperties": {"expression": _expression(holds), "ifTrueActivities": [activity]},
    }


def _fail(choice: str) -> dict[str, Any]:
    message = {"message": f"no route of {choice} holds", "errorCode": "SparkFlow.Failed"}
    return {"name": f"{choice}_fail", "type": "Fail", "dependsOn": [], "typeProperties": message}


def _holds(choice: Node, route: str) -> str:
    """The condition of a route; of the default that none of the others holds."""
    own = choice["conditions"].get(route)
    return _condition(own) if own else _none(choice)


def _none(choice: Node) -> str:
    first, *others = map(_condition, choice["conditions"].values())
    return f"not({functools.reduce(lambda one, other: f'or({one}, {other})', others, first)})"  # or takes two


def _depends(on: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"activity": name, "dependencyConditions": [condition]} for name, condition in on.items()]


def _condition(condition: Mapping[str, Mapping[str, str]]) -> str:
    compared = list(_comparisons(condition["by_date"]))
    return compared[0] if len(compared) == 1 else f"and({', '.join(compared)})"


def _comparisons(by_date: Mapping[str, str]) -> Iterator[str]:
    for name, function in (("since", "greaterOrEquals"), ("before", "less")):
        if name in by_date:
            yield f"{function}({PARAMETER}, {_text(by_date[name])})"


def _expression(text: str) -> dict[str, str]:
    return {"value": f"@{text}", "type": "Expression"}


def _joined(word: str, key: str) -> str:
    """A word as an expression, with the key in its place."""
    before, place, after = word.partition(KEY)
    parts = [*([_text(before)] if before else []), *([key] if place else []), *([_text(after)] if after else [])]
    return parts[0] if len(parts) == 1 else f"concat({', '.join(parts)})"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
