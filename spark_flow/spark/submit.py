"""Start Python programs under spark-submit, as applications of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_flow.errors import Interrupted, NotNow
from spark_flow.spark.jars import pyspark_home
from spark_flow.spark.session import local_settings
from spark_flow.storage import files

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

_LOOK = 0.5  # seconds between two checks whether to interrupt a child
_PATIENCE = 30.0  # seconds for an interrupted child to end

# Variables of a Spark that this process may run in: with them, a child would connect to our JVM, or use our Spark as
# if it were a cluster's.
_OURS = ("PYSPARK_GATEWAY_", "_PYSPARK_DRIVER_", "PYSPARK_SUBMIT_ARGS", "SPARK_ENV_LOADED", "SPARK_SUBMIT_OPTS")


def command(
    program: Sequence[str], *, name: str, master: str, conf: Mapping[str, str], schemes: Collection[str] = ()
) -> list[str]:
    """Return a command line of spark-submit, from ``SPARK_HOME`` or else from the installed PySpark.

    Args:
        program: A Python file and its arguments.
        name: The application's name.
        master: For example ``local[2]``; a local master gets the settings of our own local sessions.
        conf: Spark settings, which take precedence.
        schemes: Schemes of URIs that it reads or writes.
    """
    settings = {
        **(local_settings(schemes=schemes) if master.startswith("local") else {}),
        "spark.master": master,
        **conf,
    }
    options = [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    home = os.environ.get("SPARK_HOME") or str(pyspark_home())
    return [f"{home}/bin/spark-submit", "--name", name, *options, *program]


def launcher(given: str = "") -> list[str]:
    """Return the command that runs a job as an application of its own, once its file and arguments are appended.

    Args:
        given: A command, for example ``spark-submit --master yarn``; by default ``spark-flow submit``.
    """
    return shlex.split(given) if given else [sys.executable, "-m", "spark_flow.cli.submit"]


def yaml_of(job: Path) -> Path:
    """Return the YAML file of a job by default: itself, or for a script ``../conf/<job>.yaml`` from its folder."""
    return job if is_yaml(str(job)) else job.parent.parent / "conf" / f"{job.stem}.yaml"


def is_yaml(job: str) -> bool:
    """Whether a job is given by its YAML file, without a script."""
    return job.endswith((".yaml", ".yml"))


def run(command: Sequence[str], **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command without the variables of our own Spark, wait for it and capture its output."""
    return subprocess.run(  # noqa: S603 - the user's own job
        command, env=environment(), capture_output=True, text=True, check=False, **more
    )


def follow(command: Sequence[str], log: Path, interrupted: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Run a job's command until it ends, with its output in a file; returns its summary, with a reason if it failed.

    It runs in a process group of its own: we pass an interrupt of this terminal on to it, so that it records and ends.

    Args:
        command: The job and its arguments.
        log: The file for its output.
        interrupted: Whether to interrupt the job; called twice a second.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    summary = log.with_suffix(".json")
    summary.unlink(missing_ok=True)
    with log.open("wb") as output:
        child = subprocess.Popen(  # noqa: S603 - the user's own job
            [*command, "--summary-json", str(summary)],
            env=environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code = _await(child, interrupted)
    report = read_summary(summary)
    if code == 0:
        return report
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    states = {NotNow.exit_code: "waiting", Interrupted.exit_code: "interrupted"}
    state = states.get(code, "failed")
    why = (_node_errors(report) or lines[-1:] or ["no output"])[0]
    return {**report, "state": state, "reason": f"{how}; {why}; its output is in {log}"}


def _node_errors(report: Mapping[str, Any]) -> list[str]:
    """Return the errors of the nodes in a summary."""
    nodes = [node for node in report.get("nodes", []) if isinstance(node, dict) and node.get("error")]
    return [f"{node.get('node')}: {node['error']}" for node in nodes]


def _await(child: subprocess.Popen[bytes], interrupted: Callable[[], bool]) -> int:
    """Wait for a child; an interrupt is passed on to it once, so that it can record it and end."""
    passed_on = False
    while True:
        try:
            return child.wait(_LOOK)
        except subprocess.TimeoutExpired:  # noqa: PERF203 - half a second each
            if interrupted() and not passed_on:
                passed_on = _interrupt(child)
        except KeyboardInterrupt:
            _interrupt(child)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_PATIENCE)
            raise


def _interrupt(child: subprocess.Popen[bytes]) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGINT)
    return True


def read_summary(path: Path) -> dict[str, Any]:
    """Return what a job wrote with ``--summary-json``; empty if it ended before that."""
    try:
        report = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def logs(state: str) -> Path:
    """Return the folder for the output of started jobs: the state folder if it is local, else a temporary one."""
    return Path(tempfile.gettempdir(), "spark_flow") if files.is_uri(state) else Path(files.absolute(state))


def environment() -> dict[str, str]:
    """Return the environment for a child: without our own JVM, and with our module search path."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
    if inherited.get("SPARK_HOME") == str(pyspark_home()):  # set for spark-submit, which would take it for a cluster's
        del inherited["SPARK_HOME"]
    python = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    return inherited | python | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Describe how a child ended."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    how = f"by signal {-done.returncode}" if done.returncode < 0 else f"with exit code {done.returncode}"
    return f"it ended {how}; last line of its output: {lines[-1] if lines else 'none'}"
