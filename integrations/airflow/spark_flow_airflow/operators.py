"""A job, or a part of one, as a task."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator
from airflow.sdk.bases.branch import BranchMixIn
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

RETRY_LATER, USAGE = 75, 2  # exit codes of spark-flow
KILLED_AFTER = 60  # seconds after an interrupt; a run that is interrupted records it and releases its lease

RUN_KEY = "{{ (dag_run.conf or {}).get('key') or dag_run.partition_key or ds }}"
"""The key of a run: ``key`` of its configuration, else its partition, else the day of its logical date."""
HOURLY_KEY = "{{ (dag_run.conf or {}).get('key') or dag_run.partition_key or logical_date.strftime('%Y-%m-%dT%H') }}"
"""The same for hourly keys, as ``2013-01-02T05``."""


class SparkFlowOperator(BaseOperator):
    """Runs a job's YAML file for one key.

    =========================  =============================================================================
    the command's exit code    the task
    =========================  =============================================================================
    0                          succeeds; is skipped if the provider of its data skipped the key
    75, try again later        is rescheduled after ``retry_later``, without using up a retry; fails after
                               ``give_up_after``
    2, a wrong file or option  fails without a retry
    any other, or a kill       fails, and Airflow retries it: what succeeded is reused
    =========================  =============================================================================

    A retry is the same command. A run that was cleared has another ``clear_number``, which becomes the request id: it
    starts a new generation, which replaces the key's rows; so does a run with ``{"rerun": true}`` in its configuration,
    and one that was started by the asset of a marker that was corrected. A task that is stopped interrupts the job,
    which releases its lease.

    The return value, in XCom, is ``{pipeline, key, generation, attempt, state, nodes, routes}``: ``nodes`` counts
    the nodes by state, ``routes`` has the route that each choice took.

    >>> SparkFlowOperator(task_id="daily", file="conf/daily_flights.yaml", overrides=["output=s3://lake"])
    <Task(SparkFlowOperator): daily>

    Args:
        file: The job's YAML file, absolute or relative to ``cwd``.
        key: The key; by default that of the run's configuration, its partition, or the day of its logical date.
        overrides: Values of the file, as ``name=value``.
        until: End after this node.
        launcher: ``run`` in a process on the worker, or ``submit`` by ``spark-submit``.
        submit_options: Options of ``spark-submit``, for ``launcher="submit"``.
        program: The command ``spark-flow``; by default that of Airflow's own Python.
        cwd: The working folder, where relative paths of the file start; by default that of the worker.
        env: Further environment variables.
        retry_later: How long to wait after exit code 75.
        give_up_after: How long a task may be rescheduled in all before it fails.
        on_clear: Whether a run that was cleared is a ``rerun``, or a ``retry`` that reuses what succeeded.
        kwargs: As ``BaseOperator`` takes them.
    """

    template_fields: Sequence[str] = ("file", "key", "overrides", "until", "submit_options", "env", "cwd")
    ui_color = "#fdecc8"

    def __init__(
        self,
        *,
        file: str,
        key: str = RUN_KEY,
        overrides: Sequence[str] = (),
        until: str = "",
        launcher: Literal["run", "submit"] = "run",
        submit_options: Sequence[str] = (),
        program: Sequence[str] = (),
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        retry_later: dt.timedelta = dt.timedelta(minutes=1),
        give_up_after: dt.timedelta = dt.timedelta(days=1),
        on_clear: Literal["rerun", "retry"] = "rerun",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.file = file
        self.key = key
        self.overrides = list(overrides)
        self.until = until
        self.launcher = launcher
        self.submit_options = list(submit_options)
        self.program = list(program)
        self.cwd = cwd
        self.env = dict(env or {})
        self.retry_later = retry_later
        self.give_up_after = give_up_after
        self.on_clear = on_clear
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the command, and do what its exit code says."""
        with tempfile.TemporaryDirectory(prefix="spark-flow-") as folder:
            summary = Path(folder) / "summary.json"
            code, last = self._run(self.command(context, summary), context)
            found = json.loads(summary.read_text()) if summary.exists() else {}
        reason = str(found.get("reason") or last)
        if code == RETRY_LATER:
            self._reschedule(context, reason)
        if code == USAGE:
            raise AirflowFailException(reason)
        if code:
            raise AirflowException(f"exit code {code}: {reason}")
        if found.get("state") == "skipped":
            raise AirflowSkipException(reason)
        return _result(found)

    def command(self, context: Context, summary: Path) -> list[str]:
        """The command line of a try."""
        program = self.program or [sys.executable, "-m", "spark_flow.cli.app"]
        launcher = ["submit", *self.submit_options] if self.launcher == "submit" else ["run"]
        request_id = self._request_id(context)
        return [
            *program,
            *launcher,
            self.file,
            f"key={self.key}",
            *self.overrides,
            f"--summary-json={summary}",
            *([f"--until={self.until}"] if self.until else []),
            *([f"--request-id={request_id}"] if request_id else []),
        ]

    def on_kill(self) -> None:
        """Interrupt the job, which releases its lease; kill it if it does not end."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(KILLED_AFTER)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _request_id(self, context: Context) -> str:
        run: Any = context["dag_run"]
        cleared = (run.clear_number or 0) if self.on_clear == "rerun" else 0
        asked = bool((run.conf or {}).get("rerun"))
        parts = [f"{run.dag_id}/{run.run_id}" if cleared or asked else "", f"#{cleared}" if cleared else ""]
        return "".join([*parts, *_announced(context)])

    def _run(self, command: Sequence[str], context: Context) -> tuple[int, str]:
        self.log.info("%s", " ".join(command))
        last = "it printed nothing"
        env = {**os.environ, **self.env, **_parent(context), "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            command,
            cwd=self.cwd,
            env=env,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group that is interrupted as a whole: Spark is in it
        )
        try:
            for line in self._process.stdout or ():
                self.log.info("%s", line.rstrip())
                last = line.rstrip() or last
            return self._process.wait(), last
        finally:
            self.on_kill()  # a timeout of Airflow's is an exception here

    def _reschedule(self, context: Context, reason: str) -> None:
        now = dt.datetime.now(dt.timezone.utc)
        ti: Any = context["ti"]
        began = ti.get_first_reschedule_date(context) or now
        if now + self.retry_later > began + self.give_up_after:
            raise AirflowFailException(f"gave up after {self.give_up_after}: {reason}")
        self.log.info("again in %s: %s", self.retry_later, reason)
        raise AirflowRescheduleException(now + self.retry_later)


class SparkFlowBranchOperator(SparkFlowOperator, BranchMixIn):
    """Runs a job until a choice, and follows the recorded route; the tasks of the other routes are skipped.

    Args:
        routes: The task of each route.
        kwargs: As ``SparkFlowOperator`` takes them; ``until`` is the choice.
    """

    inherits_from_skipmixin = True
    ui_color = "#d0ebf5"

    def __init__(self, *, routes: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.routes = dict(routes)

    def execute(self, context: Context) -> dict[str, Any]:
        """Run until the choice, and skip the routes that were not taken."""
        result = super().execute(context)
        route = result["routes"][self.until]
        self.log.info("%s took the route %s", self.until, route)
        context["ti"].xcom_push("return_value", result)  # skipping ends the task
        self.do_branch(context, self.routes[route])
        return result


def _result(summary: Mapping[str, Any]) -> dict[str, Any]:
    nodes: dict[str, int] = {}
    for node in summary.get("nodes", ()):
        nodes[node["state"]] = nodes.get(node["state"], 0) + 1
    named = {name: summary.get(name) for name in ("pipeline", "key", "generation", "attempt", "state")}
    routes = {node["node"]: node["route"] for node in summary.get("nodes", ()) if "route" in node}
    return {**named, "nodes": nodes, "routes": routes}


def _announced(context: Context) -> list[str]:
    """What the markers that started this run said: one that was corrected asks for a new generation."""
    started: Any = context.get("triggering_asset_events") or {}
    extras = [event.extra or {} for events in started.values() for event in events]
    return sorted(f"@{one['marker']}:{one['revision']}:{one['content']}" for one in extras if "content" in one)


def _parent(context: Context) -> dict[str, str]:
    """The task as the parent run of the job's lineage, if Airflow sends lineage itself."""
    try:
        from airflow.providers.openlineage.plugins.macros import lineage_parent_id, lineage_root_parent_id
    except ImportError:
        return {}
    ti: Any = context["ti"]
    return {"OPENLINEAGE_PARENT_ID": lineage_parent_id(ti), "OPENLINEAGE_ROOT_PARENT_ID": lineage_root_parent_id(ti)}
