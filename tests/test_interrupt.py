"""Ctrl-C: an end of its own, recorded, exit code 130; and what a command line prints of an error."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jobs import ENVIRONMENT
from spark_flow import Run
from spark_flow.cli import job
from spark_flow.engine.mode import Permission
from spark_flow.engine.node import Node
from spark_flow.engine.parallel import Task, run_parallel
from spark_flow.errors import Interrupted, NodeFailed, StoppedBySibling
from spark_flow.ledger import MemoryLedger
from spark_flow.orchestration.calendar import daily
from spark_flow.orchestration.concurrent_runner import ConcurrentRunner
from spark_flow.orchestration.pipeline import Pipeline, RunnerInterrupted, RunRequest
from spark_flow.orchestration.single_runner import SingleRunner
from spark_flow.spark import session as sessions
from spark_flow.spark import submit
from spark_flow.storage.sink_protocol import Written
from spark_flow.view import logs
from spark_flow.view.tables import runs

JOB = """
pipeline: p
key: ???
sources: {in: {format: json, path: in, schema: "id INT"}}
flow:
  - read: in
  - write: {name: w, format: parquet, path: out/w}
"""


def interrupted(_):
    raise KeyboardInterrupt


def test_an_interrupted_run_is_recorded_as_such_and_resumed():
    ledger = MemoryLedger()
    with pytest.raises(KeyboardInterrupt), Run.open("p", "k", ledger=ledger) as run:  # noqa: PT012
        run.once(Node(name="one"), lambda _: Written(rows=1))
        run.once(Node(name="two"), interrupted)
    (view,) = runs(ledger.read())
    assert (run.summary()["state"], view.state, "interrupted" in view.error) == ("interrupted", "interrupted", True)
    with Run.open("p", "k", ledger=ledger) as again:
        states = [again.once(Node(name=node), lambda _: Written(rows=1)).state for node in ("one", "two")]
    assert states == ["reused", "succeeded"]


@pytest.mark.process
def test_a_job_that_is_interrupted_while_the_jvm_starts_leaves_no_jvm(tmp_path):
    """Its output is closed only when all that hold it have ended."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "part.json").write_text('{"id": 1}\n')
    (tmp_path / "job.yaml").write_text(JOB)
    program = [sys.executable, "-m", "spark_flow.cli.app", "run", "job.yaml", "key=k1"]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    with subprocess.Popen(program, cwd=tmp_path, env=ENVIRONMENT, **how) as job_:
        while "generation 1" not in (said := job_.stdout.readline()):
            assert said
        jvm = f"/proc/{job_.pid}/task/{job_.pid}/children"
        end = time.monotonic() + 60
        while not Path(jvm).read_text().strip():
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(0.3)
        os.killpg(job_.pid, signal.SIGINT)
        rest, _ = job_.communicate(timeout=60)
    assert job_.returncode == 130, rest


def test_a_run_that_is_wanted_to_end_begins_nothing_more():
    wanted: list[bool] = []
    run = Run.open("p", "k", ledger=MemoryLedger(), permission=Permission(interrupted=lambda: bool(wanted)))
    with pytest.raises(Interrupted), run:  # noqa: PT012
        run.once(Node(name="one"), lambda _: Written(rows=1))
        wanted.append(True)
        run.once(Node(name="two"), lambda _: Written(rows=1))
    assert run.summary()["state"] == "interrupted"


def test_a_job_that_is_cancelled_for_an_interrupt_is_no_failure_of_its_node():
    wanted: list[bool] = []

    def cancelled(_):
        wanted.append(True)
        raise RuntimeError("Job 3 cancelled")

    with (
        pytest.raises(Interrupted),
        Run.open("p", "k", ledger=MemoryLedger(), permission=Permission(interrupted=lambda: bool(wanted))) as run,
    ):
        run.once(Node(name="one"), cancelled)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted("p k")])
def test_the_exit_code_of_an_interrupt_is_130_and_no_stack_is_printed(error, capsys):
    def command() -> int:
        raise error

    code = job.command_line(command, "Test.", [], "test")
    said = capsys.readouterr().err
    assert (code, "interrupted" in said, "Traceback" in said) == (130, True, False)


def test_what_nobody_foresaw_is_said_without_a_stack_and_with_debug_with_it(capsys, monkeypatch):
    monkeypatch.delenv(logs.LEVEL, raising=False)

    def command(debug: bool = False) -> int:
        raise KeyError("EUR")

    code = job.command_line(command, "Test.", [], "test")
    said = capsys.readouterr().err
    assert (code, "KeyError: 'EUR' (test_interrupt.py" in said, "Traceback" in said) == (1, True, False)
    monkeypatch.setenv(logs.LEVEL, "info")  # is put back after the test, as it was
    monkeypatch.setenv(logs.ABORTS, "NEUTRAL")
    assert job.command_line(command, "Test.", ["--debug"], "test") == 1
    assert "Traceback" in capsys.readouterr().err


def test_branches_end_as_interrupted_not_as_stopped_by_another(spark):
    begun = threading.Barrier(3)

    def ensure(run: Run, node: str):
        def wait(_):
            begun.wait()
            while node not in run.stopped:
                time.sleep(0.01)
            raise RuntimeError("cancelled")

        return lambda: run.once(Node(name=node, kind="branch"), wait)

    def interrupt():
        begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), Run.open("p", "k", ledger=MemoryLedger(), spark=spark) as run:  # noqa: PT012
        tasks = [Task(f"hours/{n}", "branch", "", ensure(run, f"hours/{n}")) for n in (1, 2, 3)]
        threading.Thread(target=interrupt).start()
        run_parallel(run, tasks, max_in_flight=2)
    said = {o.node: (o.state, "interrupted" in (o.error or o.reason)) for o in run.outcomes}
    assert said == {"hours/1": ("failed", True), "hours/2": ("failed", True), "hours/3": ("skipped", True)}


def test_a_sibling_that_failed_is_no_interrupt():
    assert not issubclass(StoppedBySibling, Interrupted)
    assert (Interrupted.exit_code, StoppedBySibling.exit_code, NodeFailed.exit_code) == (130, 1, 1)


def test_pyspark_logs_no_error_as_json(spark, capsys, monkeypatch):
    monkeypatch.delenv(logs.LEVEL, raising=False)
    names = ("SQLQueryContextLogger", "DataFrameQueryContextLogger")
    sessions._raise_errors_once()
    try:
        with pytest.raises(Exception, match="nope"):
            spark.sql("SELECT nope FROM range(1)")
        assert capsys.readouterr().err == ""
    finally:
        for name in names:
            logging.getLogger(name).setLevel(logging.WARNING)


def test_a_single_runner_says_what_it_did_not_start():
    def perform(order: RunRequest):
        if order.key == "2013-01-02":
            raise KeyboardInterrupt
        return {"state": "succeeded"}

    pipeline = Pipeline(name="p", perform=perform, ledger=MemoryLedger(), state="state", leases="memory", claims=False)
    with pytest.raises(RunnerInterrupted) as stopped:
        SingleRunner(pipeline, daily("2013-01-01")).run("2013-01-01..2013-01-03")
    summary = stopped.value.summary
    assert (summary.exit_code, [result.state for result in summary.results]) == (
        130,
        ["succeeded", "interrupted", "interrupted"],
    )
    assert summary.results[2].reason.startswith("not started")


def test_a_concurrent_runner_ends_the_runs_that_are_on_their_way():
    begun = threading.Barrier(3)

    def perform(order: RunRequest):
        begun.wait()
        while not order.interrupted():
            time.sleep(0.01)
        raise Interrupted(order.key)

    def interrupt():
        begun.wait()
        os.kill(os.getpid(), signal.SIGINT)

    pipeline = Pipeline(name="p", perform=perform, ledger=MemoryLedger(), state="state", leases="memory", claims=False)
    threading.Thread(target=interrupt).start()
    with pytest.raises(RunnerInterrupted) as stopped:
        ConcurrentRunner(pipeline, daily("2013-01-01"), max_active_runs=2).run("2013-01-01..2013-01-03")
    summary = stopped.value.summary
    assert (summary.exit_code, [result.state for result in summary.results]) == (130, ["interrupted"] * 3)
    assert [result.reason.startswith("not started") for result in summary.results] == [False, False, True]


def test_an_interrupt_is_passed_on_to_a_job_that_was_submitted(tmp_path):
    program = "import sys, time\ntry:\n    print('up', flush=True)\n    time.sleep(60)\n"
    program += "except KeyboardInterrupt:\n    sys.exit(130)"

    def is_up() -> bool:
        return "up" in (tmp_path / "log").read_text()

    told = submit.follow([sys.executable, "-c", program], tmp_path / "log", is_up)
    assert told["state"] == "interrupted"
