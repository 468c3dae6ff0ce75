"""A job as a state machine of AWS Step Functions, in JSONPath (https://states-language.net/spec.html).

Its input is ``{"key": "2013-01-02"}``. Repeated with the same key it reuses what succeeded; with a new ``request_id``
beside the key it starts a new generation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from spark_flow.export.tasks import (
    KEY,
    Job,
    Tasks,
    branch_of,
    check_names,
    choices,
    command,
    is_by_date,
    made_by,
    overrides_of_waits,
    provider_keys,
    tasks,
    with_routes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from spark_flow.export.tasks import Node, Task

RETRY_LATER, FAILED = "SparkFlow.RetryLater", "SparkFlow.Failed"
Named: TypeAlias = "tuple[str, dict[str, Any]]"
_LATER = 10  # times that a job which has to wait is started again; of a branch 3
_DONE = "Done"
_REQUEST = "\0request_id"  # stands for the request id, as ``KEY`` does for the key
_LONGEST = 80  # characters of a state's name


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Jobs run where ``spark-flow token-worker`` does: it takes them from a queue, and reports to the task's token.

    Attributes:
        queue_url: The queue of SQS.
        timeout: Seconds after which a job is given up; SQS hides a message for no more than 12 hours.
    """

    queue_url: str
    timeout: int = 43_200

    knows_routes = True
    failed = FAILED

    def task(self, job: Job, part: Task) -> dict[str, Any]:
        """The state that does a part of a job."""
        return {
            "Type": "Task",
            "Resource": "arn:aws:states:::sqs:sendMessage.waitForTaskToken",
            "Parameters": {
                "QueueUrl": self.queue_url,
                "MessageBody": {"token.$": "$$.Task.Token", "arguments.$": _array(_words(job, part))},
            },
            "TimeoutSeconds": self.timeout,
        }


@dataclass(frozen=True, kw_only=True)
class Emr:
    """Jobs run as steps of the cluster of EMR whose id is ``cluster_id`` in the input.

    Attributes:
        timeout: Seconds after which a job is given up.
    """

    timeout: int = 86_400

    knows_routes = False  # a step returns nothing
    failed = "States.TaskFailed"

    def task(self, job: Job, part: Task) -> dict[str, Any]:
        """The state that does a part of a job."""
        words = _words(job, part)
        return {
            "Type": "Task",
            "Resource": "arn:aws:states:::elasticmapreduce:addStep.sync",
            "Parameters": {
                "ClusterId.$": "$.cluster_id",
                "Step": {
                    "Name.$": _format(f"{job.graph['pipeline']} {KEY} {part.name}"),
                    "ActionOnFailure": "CONTINUE",
                    "HadoopJarStep": {
                        "Jar": "command-runner.jar",
                        "Args.$": _array(["spark-flow", "submit", *words[1:]]),
                    },
                },
            },
            "TimeoutSeconds": self.timeout,
        }


Runner: TypeAlias = Worker | Emr


def state_machine(
    job: Job, runner: Runner, *, how: Tasks = "job", branches: Sequence[Job] = (), retry_seconds: int = 60
) -> tuple[dict[str, Any], list[str]]:
    """Return the definition of a state machine, and what it cannot express.

    Args:
        job: The job.
        runner: Where its tasks run.
        how: One task for the job, or one for each of its checkpoints, sinks, choices and routes.
        branches: The jobs that the first ``wait_for`` is for: a Map runs one for each key, as in the book's example
            6-11, and a Choice looks at the rule.
        retry_seconds: How long to wait before a task is tried again, at first.

    Raises:
        InvalidArgument: The branches are not those that the job waits for.
    """
    made = _Machine(runner, retry_seconds)
    parts = made.parts(job, how, waited=bool(branches))
    named: list[Named] = []
    if branches:
        named += made.fan_in(job, branches, parts[0].name).items()
        job = replace(job, overrides=[*job.overrides, *overrides_of_waits(job.graph)])
    named += made.chain(job, parts)
    inner = [name for _, state in named for name in state.get("ItemProcessor", {}).get("States", ())]
    check_names(["Begin", "SameRequest", _DONE, *inner, *(name for name, _ in named)], _LONGEST)
    states, first = dict(named), named[0][0]
    begin = {"Type": "Choice", "Choices": [{"Variable": "$.request_id", "IsPresent": True, "Next": first}]}
    without = {"Type": "Pass", "Result": "", "ResultPath": "$.request_id", "Next": first}
    states = {
        "Begin": {**begin, "Default": "SameRequest"},
        "SameRequest": without,
        **states,
        _DONE: {"Type": "Succeed"},
    }
    return {"Comment": made_by(job.file), "StartAt": "Begin", "States": states}, made.notes


class _Machine:
    """The states of one machine; notes what Step Functions cannot express."""

    def __init__(self, runner: Runner, retry_seconds: int) -> None:
        self.notes: list[str] = []
        self._runner = runner
        self._retry_seconds = retry_seconds

    def parts(self, job: Job, how: Tasks, *, waited: bool) -> list[Task]:
        """The tasks; a choice whose decision nobody can read is one task with its routes."""
        made = list(tasks(job.graph, how, waited=waited))
        known = choices(job.graph)
        for choice in made if not self._runner.knows_routes else ():
            if choice.kind == "choice" and not is_by_date(known[choice.name]):
                made = with_routes(made, choice)
                self.notes.append(f"{choice.until}: one task with its routes, as a step does not return which it took")
        return made

    def chain(self, job: Job, parts: Sequence[Task]) -> Iterator[Named]:
        """The tasks, one after another."""
        known = choices(job.graph)
        for task in parts:
            later = next((one.name for one in parts if task.name in one.after), _DONE)
            if task.kind != "choice":
                yield task.name, {**self._try(job, task), "ResultPath": None, "Next": later}
            elif is_by_date(known[task.name]):
                yield task.name, {"Comment": task.text, **_choice_by_date(task, known[task.name])}
            else:
                decided = f"{task.name}_decided"
                yield task.name, {**self._try(job, task), "ResultPath": "$.decided", "Next": decided}
                skipped = {"Variable": "$.decided.route", "IsPresent": False, "Next": _DONE}  # the provider's key was
                ways = [{"Variable": "$.decided.route", "StringEquals": r, "Next": n} for r, n in task.routes.items()]
                yield decided, {"Type": "Choice", "Choices": [skipped, *ways]}

    def fan_in(self, job: Job, branches: Sequence[Job], following: str) -> dict[str, dict[str, Any]]:
        """A Map over the keys that the job waits for, and a Choice on the rule."""
        wait, branch = branch_of(job, branches)
        name, (part,) = wait["datasets"][0], tasks(branch.graph)
        keys = provider_keys(wait)
        missing = f"{name}_missing"
        return {
            f"{name}_keys": {
                "Type": "Pass",
                "Parameters": {"keys.$": f"States.Array({', '.join(map(_format, keys))})"},
                "ResultPath": "$.branches",
                "Next": name,
            },
            name: {
                "Type": "Map",
                "Comment": f"{len(keys)} branches, {wait['rule']}",
                "ItemsPath": "$.branches.keys",
                "ItemSelector": {"key.$": "$$.Map.Item.Value", **self._passed_on()},
                "MaxConcurrency": branch.graph["runner"]["max_active_runs"] or 5,
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "INLINE"},
                    "StartAt": f"{part.name}_run",
                    "States": {
                        f"{part.name}_run": {
                            **self._try(branch, part, later=3),
                            "ResultPath": None,
                            "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Missing"}],
                            "Next": "Arrived",
                        },
                        "Arrived": {"Type": "Pass", "Result": True, "End": True},
                        "Missing": {"Type": "Pass", "Result": False, "End": True},
                    },
                },
                "ResultPath": "$.arrived",
                "Next": f"{name}_count",
            },
            f"{name}_count": {
                "Type": "Pass",
                "Parameters": {
                    "any.$": "States.ArrayContains($.arrived, true)",
                    "missing.$": "States.ArrayContains($.arrived, false)",
                },
                "ResultPath": "$.arrived",
                "Next": f"{name}_rule",
            },
            f"{name}_rule": {
                "Type": "Choice",
                "Choices": [{**self._rule(name, wait["rule"]), "Next": following}],
                "Default": missing,
            },
            missing: {"Type": "Fail", "Error": RETRY_LATER, "Cause": f"{name}: found too few, expected {wait['rule']}"},
        }

    def _rule(self, name: str, rule: str) -> dict[str, Any]:
        if rule == "all_succeeded":
            return {"Variable": "$.arrived.missing", "BooleanEquals": False}
        if rule.startswith("at_least"):
            self.notes.append(f"{name}: Step Functions looks whether any branch arrived; the job itself checks {rule}")
        return {"Variable": "$.arrived.any", "BooleanEquals": True}

    def _passed_on(self) -> dict[str, str]:
        named = ("request_id", *(() if self._runner.knows_routes else ("cluster_id",)))
        return {f"{name}.$": f"$.{name}" for name in named}

    def _try(self, job: Job, part: Task, later: int = _LATER) -> dict[str, Any]:
        """A task with its retries: a job that has to wait is asked more often than one that failed."""
        waits = {"ErrorEquals": [RETRY_LATER], "MaxAttempts": later, "BackoffRate": 1.5}
        failed = {"ErrorEquals": [self._runner.failed], "MaxAttempts": 2, "BackoffRate": 2.0}
        retry = [waits, failed] if self._runner.knows_routes else [failed]  # a step has no error of its own
        tried = [{**one, "IntervalSeconds": self._retry_seconds} for one in retry]
        comment = {"Comment": part.text} if part.text else {}
        return {**comment, **self._runner.task(job, part), "Retry": tried}


def _words(job: Job, part: Task) -> list[str]:
    return [*command(job, part), "--request-id", _REQUEST]


def _choice_by_date(task: Task, node: Node) -> dict[str, Any]:
    rules = []
    for route, condition in node["conditions"].items():
        found = [*_comparisons(condition["by_date"])]
        rules.append({**(found[0] if len(found) == 1 else {"And": found}), "Next": task.routes[route]})
    default = {"Default": task.routes[node["default"]]} if node["default"] else {}
    return {"Type": "Choice", "Choices": rules, **default}


def _comparisons(condition: Mapping[str, str]) -> Iterator[dict[str, str]]:
    for name, operator in (("since", "StringGreaterThanEquals"), ("before", "StringLessThan")):
        if name in condition:
            yield {"Variable": "$.key", operator: condition[name]}


def _array(words: Sequence[str]) -> str:
    return f"States.Array({', '.join(map(_format, words))})"


def _format(word: str) -> str:
    """A word as an intrinsic function's argument, with the values of the input."""
    if word == _REQUEST:
        return "$.request_id"
    before, key, after = word.partition(KEY)
    if not key:
        return f"'{_escaped(word)}'"
    return f"States.Format('{_escaped(before)}{{}}{_escaped(after)}', $.key)"


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "'{}\\" else c for c in text)
