"""Progress: lines with times in a log, an estimate from earlier runs, a terminal that is left clean."""

import dataclasses
import datetime as dt
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from itertools import count

import pytest
from rich.console import Console
from test_cli import call

from jobs import ENVIRONMENT
from spark_flow import Run, progress
from spark_flow.engine.node import Node
from spark_flow.ledger import MemoryLedger
from spark_flow.orchestration.leases import Leases, hold, this_process
from spark_flow.storage.sink_protocol import Written
from spark_flow.view.progress import Progress
from spark_flow.view.tables import Rows


def test_lines_of_a_log_begin_with_the_time(state, memory_ledger, capsys):
    with Run.open("p", "k", state=state, ledger=memory_ledger) as run, progress(run):
        run.once(Node(name="n"), lambda _: Written(rows=1))
    lines = capsys.readouterr().out.splitlines()
    assert [line[9:].split()[0] for line in lines] == ["p", "succeeded", "so"]
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)


def test_what_is_left_is_estimated_by_earlier_runs(state):
    ledger, console = MemoryLedger(), Console(file=io.StringIO(), force_terminal=True, width=200, highlight=False)
    for number in range(3):
        with Run.open("p", str(number), state=state, ledger=ledger) as run:
            run.began -= 100  # as if it had taken that long
            run.once(Node(name="n"), lambda _: Written(rows=1))
    with Run.open("p", "4", state=state, ledger=ledger) as run:
        shown = Progress(console)
        shown.begin(run)
        assert "usually" not in console.file.getvalue()
        run.observe(shown)
        run.report("before_action", "n")
        assert "a run usually takes 1 min 40 s" in console.file.getvalue()
        shown.finish(run)
    assert re.search(r"about (1 min 40 s|1 min 39 s|99 s) left", console.file.getvalue())


def test_runs_that_only_reused_do_not_count_for_the_estimate(state):
    ledger = MemoryLedger()
    for _ in range(4):
        with Run.open("p", "k", state=state, ledger=ledger) as run:
            run.once(Node(name="n", fingerprint="a"), lambda _: Written(rows=1))
    ran = [event.detail["ran"] for event in ledger.runs("p", "succeeded", last=9)]
    assert ran == [0, 0, 0, 1]


@pytest.mark.parametrize("width", [40, 80, 240])
def test_a_table_that_does_not_fit_becomes_lines_and_nothing_is_cut(width):
    columns = ("pipeline", "key", "state", "nodes")
    rows = [("daily_flights", f"2013-01-{day:02d}", "succeeded", f"{day} reused, 31 more") for day in (2, 3)]
    console = Console(file=io.StringIO(), width=width)
    console.print(Rows(columns, rows))
    lines = console.file.getvalue().splitlines()
    shown = " ".join(lines).replace(",", "").split()
    assert max(map(len, lines)) <= width
    assert [word for row in rows for value in row for word in value.replace(",", "").split() if word not in shown] == []


def test_a_run_that_goes_on_is_told_from_one_that_was_killed(state):
    run = Run.open("p", "k", state=state)
    run.once(Node(name="n"), lambda _: Written(rows=1))
    assert "incomplete" in call("status", "--state", state)[1]
    with hold(Leases(f"{state}/leases").of_pipeline("p"), "p", "k"):
        shown = call("status", "--state", state)[1]
        assert ("running" in shown, f":{os.getpid()}" in shown) == (True, True)
        assert "the same command waits for it" in call("show", "p", "k", "--state", state)[1]
    assert "again: the same command reuses 1 node(s)" in call("show", "p", "k", "--state", state)[1]


def test_a_holder_that_was_killed_does_not_run(state):
    Run.open("p", "k", state=state).once(Node(name="n"), lambda _: Written(rows=1))
    gone = dataclasses.replace(this_process(), started="never")
    with hold(Leases(f"{state}/leases").of_pipeline("p"), "p", "k", holder=gone):
        assert json.loads(call("status", "--state", state, "--json")[1])[0]["state"] == "incomplete"


def test_output_into_a_closed_pipe_is_no_error(state):
    with Run.open("p", "k", state=state):
        pass
    command = f"{sys.executable} -m spark_flow.cli.app status --state {state} | head -0; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1)


SLOW = """
pipeline: slow
key: ???
output: OUT
sources:
  numbers: {format: json, path: "IN/{branch}", schema: "n INT, day DATE"}
flow:
  - unaligned_fan_in: {name: hours, source: numbers, branches: ["07", "08"], each: steps:slow, require: all_succeeded}
  - write: {name: lake, format: delta, path: OUT/lake, partition_by: day}
"""


@pytest.mark.process
def test_ctrl_c_in_a_fan_in_leaves_the_terminal_clean(tmp_path):
    for hour in ("07", "08"):
        (tmp_path / hour).mkdir()
        (tmp_path / hour / "a.json").write_text('{"n": 1, "day": "2013-01-02"}')
    (tmp_path / "job.yaml").write_text(SLOW.replace("IN", str(tmp_path)).replace("OUT", str(tmp_path / "out")))
    (tmp_path / "steps.py").write_text("import time\n\n\ndef slow(frame):\n    time.sleep(60)\n    return frame\n")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "spark_flow.cli.app", "run", "job.yaml", "key=2013-01-02"]
    environment = {**ENVIRONMENT, "TERM": "xterm"}
    job = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    said, until = _read(ours, "2 running", dt.timedelta(minutes=2)), time.monotonic() + 60
    os.killpg(job.pid, signal.SIGINT)
    said += _read(ours, "", dt.timedelta(minutes=1))
    assert job.wait(max(1, until - time.monotonic())) == 130, said
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")  # the cursor is shown again
    assert "interrupted" in said.rpartition("\x1b[?25h")[2]


def _read(terminal, words, longest):
    """What is written to a terminal until the words, or the end."""
    said, ends = "", time.monotonic() + longest.total_seconds()
    for _ in count():
        if (words and words in said) or time.monotonic() > ends:
            return said
        if select.select([terminal], [], [], 1)[0]:
            try:
                block = os.read(terminal, 4096)
            except OSError:  # its other end was closed
                return said
            said += block.decode(errors="replace")
    return said
