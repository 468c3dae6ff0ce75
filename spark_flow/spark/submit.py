"""Starting a Python program under spark-submit, as an application of its own."""

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
from spark_flow.spark.session import local_settings
from spark_flow.storage import files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_LOOK = 0.5  # seconds between two looks at whether a child is to be interrupted
_PATIENCE = 30.0  # for an interrupted child to end

# Of the Spark that this process may run in; they would make the child talk to our JVM, or take ours for a cluster's.
_OURS = ("PYSPARK_GATEWAY_", "_PYSPARK_DRIVER_", "PYSPARK_SUBMIT_ARGS", "SPARK_ENV_LOADED", "SPARK_SUBMIT_OPTS")


def command(program: Sequence[str], *, name: str, master: str, conf: Mapping[str, str]) -> list[str]:
    """The command line of spark-submit: that of ``SPARK_HOME``, else of the installed PySpark.

    Args:
        program: A Python file and its arguments.
        name: The application's.
        master: As ``local[2]``; a local one gets the settings that our own local sessions have.
        conf: Spark settings, which win over those.
    """
    settings = {**(local_settings() if master.startswith("local") else {}), "spark.master": master, **conf}
    options = [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    home = os.environ.get("SPARK_HOME") or _installed()
    return [f"{home}/bin/spark-submit", "--name", name, *options, *program]


def launcher(job: str, given: str = "") -> list[str]:
    """What a job's file and arguments are put after to run it as an application of its own.

    Args:
        job: The job's file.
        given: The words of a command, as ``spark-submit --master yarn``; by default the ``spark-submit.sh`` in the
            folder above the job's, else spark-submit itself, on ``MASTER`` or all cores of this machine.
    """
    if given:
        return shlex.split(given)
    script = Path(job).resolve().parent.parent / "spark-submit.sh"
    if script.exists():
        return [str(script)]
    return command([], name=Path(job).stem, master=os.environ.get("MASTER") or "local[*]", conf={})


def run(command: Sequence[str], **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as a child that has nothing of our own Spark, and wait for its end; its output is captured."""
    return subprocess.run(  # noqa: S603 - the user's own job
        command, env=environment(), capture_output=True, text=True, check=False, **more
    )


def follow(command: Sequence[str], log: Path, interrupted: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Run a job's command to its end, its output in a file; returns its summary, and why it ended if not well.

    It is in a group of its own: an interrupt of this terminal reaches it by us, so that it records and ends.

    Args:
        command: The job and its arguments.
        log: The file of its output.
        interrupted: Whether it is to be interrupted, asked now and then.
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
    told = read_summary(summary)
    if code == 0:
        return told
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    states = {NotNow.exit_code: "waiting", Interrupted.exit_code: "interrupted"}
    state = states.get(code, "failed")
    why = (_node_errors(told) or lines[-1:] or ["no output"])[0]
    return {**told, "state": state, "reason": f"{how}; {why}; its output is in {log}"}


def _node_errors(told: Mapping[str, Any]) -> list[str]:
    """What the nodes of a summary say that failed."""
    nodes = [node for node in told.get("nodes", []) if isinstance(node, dict) and node.get("error")]
    return [f"{node.get('node')}: {node['error']}" for node in nodes]


def _await(child: subprocess.Popen[bytes], interrupted: Callable[[], bool]) -> int:
    """Wait for a child; what interrupts us is passed on to it once, and it may record that and end."""
    told = False
    while True:
        try:
            return child.wait(_LOOK)
        except subprocess.TimeoutExpired:  # noqa: PERF203 - half a second each
            if interrupted() and not told:
                told = _interrupt(child)
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
    """What a job wrote by ``--summary-json``; empty if it ended before."""
    try:
        told = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def logs(state: str) -> Path:
    """Where the output of started jobs goes: into the state folder, where that is a local one."""
    return Path(tempfile.gettempdir(), "spark_flow") if files.is_uri(state) else Path(files.absolute(state))


def environment() -> dict[str, str]:
    """Our environment for a child: without our own JVM, and with the modules that we have."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
    if kept.get("SPARK_HOME") == _installed():  # spark-submit.sh's, which would take it for a cluster's
        del kept["SPARK_HOME"]
    python = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    return kept | python | {"PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """How a child ended, in words."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    how = f"by signal {-done.returncode}" if done.returncode < 0 else f"with exit code {done.returncode}"
    return f"it ended {how}; its last words: {lines[-1] if lines else 'none'}"


def _installed() -> str:
    import pyspark

    return str(Path(pyspark.__file__).parent)
