"""A job's YAML file as a DAG."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import DAG, CronDataIntervalTimetable, Label, PartitionedAssetTimetable, TaskGroup, TriggerRule

from spark_flow.errors import InvalidArgument
from spark_flow.export.tasks import KEY, Task, Tasks, first_waits, overrides_of_waits, provider_keys, task_name
from spark_flow.export.tasks import tasks as tasks_of
from spark_flow.jobfile.plan import draw
from spark_flow_airflow.markers import MarkerSensor, PublishedOperator, marker_asset
from spark_flow_airflow.operators import HOURLY_KEY, RUN_KEY, SparkFlowBranchOperator, SparkFlowOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import BaseOperator
    from airflow.sdk.bases.timetable import BaseTimetable

CRON = {"daily": "0 0 * * *", "hourly": "0 * * * *"}
Graph = dict[str, Any]


def dag_from_file(
    file: str | Path,
    *,
    tasks: Tasks = "job",
    dag_id: str = "",
    waits: Literal["markers", "assets"] = "markers",
    branches: Sequence[str | Path] = (),
    branch_overrides: Sequence[str] = (),
    schedule: str | BaseTimetable | None = None,
    start_date: dt.datetime | None = None,
    end_date: dt.datetime | None = None,
    overrides: Sequence[str] = (),
    launcher: Literal["run", "submit"] = "run",
    submit_options: Sequence[str] = (),
    program: Sequence[str] = (),
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    retries: int = 2,
    retry_delay: dt.timedelta = dt.timedelta(minutes=1),
    retry_later: dt.timedelta = dt.timedelta(minutes=1),
    give_up_after: dt.timedelta = dt.timedelta(days=1),
    on_clear: Literal["rerun", "retry"] = "rerun",
    tags: Sequence[str] = ("spark-flow",),
) -> DAG:
    """Return a DAG that runs a job's file; one run of it is one key.

    Of the file's ``runner`` it takes ``calendar`` and ``start_date`` (the schedule: a day is run when it is over),
    ``max_active_runs``, ``depends_on_past``, and ``pool`` with ``slots`` (the pool must exist in Airflow too). A
    ``wait_for`` at the start becomes a deferrable ``MarkerSensor``, or the schedule; ``publish`` becomes a task that
    announces the marker as an event of an asset. Reading a file imports neither Spark nor your modules.

    Args:
        file: The job's YAML file, absolute or relative to ``cwd``.
        tasks: One task for the ``job``, or one for each of its ``checkpoints``, sinks, choices and routes. A fan-in is
            one task: its branches share the lease of the key.
        dag_id: By default the pipeline's name.
        waits: Wait for ``markers`` with a sensor, or be started by the provider's ``assets``, whose partition is the
            key.
        branches: The files of pipelines that the first ``wait_for`` is for: each of their keys becomes a task, as in
            the book's fan-ins. The job then starts when all have ended, and its rule decides.
        branch_overrides: Values of their files, as ``name=value``.
        schedule: By default as the file's calendar says, if there is a start date; else runs are started by hand.
        start_date: By default the runner's.
        end_date: By default the runner's.
        overrides: Values of the file, as ``name=value``.
        launcher: See ``SparkFlowOperator``, as for ``submit_options, program, env, retry_later, give_up_after`` and
            ``on_clear``.
        submit_options: See above.
        program: See above.
        cwd: The folder where relative paths start; by default that of Airflow.
        env: See above.
        retries: How often a failed task is tried again.
        retry_delay: How long after.
        retry_later: See above.
        give_up_after: See above.
        on_clear: See above.
        tags: Tags of the DAG.

    Raises:
        ConfigError: The file is wrong.
        InvalidArgument: The file has no first ``wait_for`` that ``branches`` or ``waits`` need, or its keys have no
            such form.
    """
    home = Path(cwd or ".").absolute()
    graph = draw(home / file, overrides, cwd=home)
    runner = graph["runner"]
    begins = start_date or _date(runner["start_date"])
    waiting = list(first_waits(graph))
    past = runner["depends_on_past"]
    nodes = [] if isinstance(past, bool) else past
    dag = DAG(
        dag_id or graph["pipeline"],
        schedule=_schedule(graph, schedule, begins, waiting if waits == "assets" else None),
        start_date=begins,
        end_date=end_date or _date(runner["end_date"]),
        catchup=False,
        max_active_runs=runner["max_active_runs"] or (1 if past else 16),
        default_args={
            "retries": retries,
            "retry_delay": retry_delay,
            "depends_on_past": past is True,
            **({"pool": runner["pool"], "pool_slots": runner["slots"]} if runner["pool"] else {}),
        },
        doc_md=f"`{file}`, made by spark-flow-airflow.",
        tags=list(tags),
    )
    key = HOURLY_KEY if runner["calendar"] == "hourly" else RUN_KEY
    common: dict[str, Any] = {
        "launcher": launcher,
        "submit_options": submit_options,
        "program": program,
        "cwd": str(home),
        "env": env,
        "retry_later": retry_later,
        "give_up_after": give_up_after,
        "on_clear": on_clear,
    }
    with dag:
        before: list[Any] = []
        rule = TriggerRule.ALL_SUCCESS
        values = list(overrides)
        if branches:
            before = [_branches(home, waiting, branches, branch_overrides, key, common)]
            whole = all(node["rule"] == "all_succeeded" for node in waiting)
            rule = TriggerRule.ALL_SUCCESS if whole else TriggerRule.ALL_DONE
            values += overrides_of_waits(graph)
        elif waits == "markers":
            before = [_sensor(node, key) for node in waiting]
            values += overrides_of_waits(graph)
        parts = tasks_of(graph, tasks, waited=bool(before))
        made = _chain(parts, before, rule, nodes, file=str(file), key=key, overrides=values, **common)
        inner = {name for task in parts for name in task.after}
        _announce(graph, made, [task for name, task in made.items() if name not in inner], key)
    return dag


def _date(key: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(key).replace(tzinfo=dt.timezone.utc) if key else None


def _schedule(graph: Graph, given: Any, begins: dt.datetime | None, waiting: Sequence[Any] | None) -> Any:
    if given is not None:
        return given
    if waiting is not None:
        found = [node["keys"] for node in waiting]
        if found != ["same"] or len(waiting[0]["datasets"]) != 1:
            raise InvalidArgument(
                "waits", f"assets, with waits for keys {found or 'none'}", "one first wait_for, keys same"
            )
        return PartitionedAssetTimetable(assets=marker_asset(waiting[0]["datasets"][0], waiting[0]["markers"]))
    cron = CRON.get(graph["runner"]["calendar"]) if isinstance(graph["runner"]["calendar"], str) else None
    return CronDataIntervalTimetable(cron, timezone="UTC") if cron and begins else None


def _sensor(node: Graph, key: str) -> MarkerSensor:
    return MarkerSensor(
        task_id=task_name(node["name"]),
        datasets=node["datasets"],
        folder=node["markers"],
        key=key,
        keys=node["keys"],
        require=node["rule"],
        on_failed=node["on_failed"],
        on_skipped=node["on_skipped"],
        on_partial=node["on_partial"],
        table_roots=node["roots"],
        timeout=node["timeout"],
        poke_interval=node["interval"],
        deferrable=True,
    )


def _branches(
    home: Path,
    waiting: Sequence[Graph],
    files: Sequence[str | Path],
    overrides: Sequence[str],
    own: str,
    common: Mapping[str, Any],
) -> TaskGroup:
    """A task for each key of the pipelines that the job waits for."""
    published = {}
    for file in files:
        nodes = draw(home / file, overrides, cwd=home)["nodes"]
        published |= {node["dataset"]: str(file) for node in nodes if node.get("pattern") == "publish"}
    wanted = [(dataset, key) for node in waiting for dataset in node["datasets"] for key in provider_keys(node)]
    missing = sorted({dataset for dataset, _ in wanted} - set(published))
    if not wanted or missing:
        expected = f"the files that publish {', '.join(missing)}" if wanted else "a wait_for at the start of the job"
        raise InvalidArgument("branches", f"those of {', '.join(published) or 'no dataset'}", expected)
    with TaskGroup(task_name(waiting[0]["name"]), prefix_group_id=False) as group:
        for dataset, key in wanted:
            SparkFlowOperator(
                task_id=task_name(f"{dataset}{key.removeprefix(KEY)}"),
                file=published[dataset],
                key=key.replace(KEY, own),
                overrides=overrides,
                **common,
            )
    return group


def _chain(
    parts: Sequence[Task], before: Sequence[Any], rule: TriggerRule, past: Sequence[str], **common: Any
) -> dict[str, BaseOperator]:
    """The operators of the tasks, one after another, by name."""
    made: dict[str, BaseOperator] = {}
    rules = {task.name: task.label for task in parts if task.kind != "route"}
    for task in parts:
        joins = TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS if len(task.after) > 1 else TriggerRule.ALL_SUCCESS
        given: dict[str, Any] = {
            "task_id": task.name,
            "until": task.until,
            "doc_md": task.text.replace("\n", "  \n"),
            "trigger_rule": joins if task.after else rule,
            **({"depends_on_past": not set(past).isdisjoint(task.nodes)} if past else {}),
            **common,
        }
        if task.kind == "choice":
            made[task.name] = SparkFlowBranchOperator(routes=task.routes, **given)
        else:
            made[task.name] = SparkFlowOperator(**given)
        for one in before if not task.after else ():
            one >> made[task.name]
        for name in task.after:
            label = task.label if task.kind == "route" else rules.get(name, "")
            made[name].set_downstream(made[task.name], edge_modifier=Label(label) if label else None)
    return made


def _announce(graph: Graph, made: Mapping[str, BaseOperator], ends: Sequence[BaseOperator], key: str) -> None:
    """A task after the job for each marker that it publishes; of a route it comes after that one, if it was taken."""
    for node in graph["nodes"]:
        if node.get("pattern") != "publish":
            continue
        routes = [name for name in node["within"] if "/" in name]
        after = [made[task_name(name)] for name in routes[:1] if task_name(name) in made] or ends
        task = PublishedOperator(
            task_id=f"announce_{task_name(node['dataset'])}",
            dataset=node["dataset"],
            folder=node["markers"],
            key=key,
            routes=routes,
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS if len(after) > 1 else TriggerRule.ALL_SUCCESS,
        )
        for one in after:
            one >> task
