"""Real processes, real SIGKILL: the main job killed at every point, repeated, equals one never killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable

from spark_flow.ledger import DeltaLedger

pytestmark = pytest.mark.process
ROOT = Path(__file__).parent.parent
JOB, CRASH = "jobs/daily_flights.py", "spark_flow/testing/crash.py"
KEY = "2013-01-02"
CRASHES = {
    "a": [
        ("during_action", "hours/13"),  # in the middle of the branches
        ("after_event", "hours"),  # all branches merged
        ("after_event", "enrich"),
        ("before_commit", "publish/lake"),
        ("before_event", "publish"),  # all tables committed, the set not visible
    ],
    "b": [
        ("before_event", "hours/13"),  # a branch's checkpoint written, not recorded
        ("after_commit", "enrich"),  # after the boundary's files
        ("after_commit", "publish/lake"),  # between Delta's commit and the ledger's event
        ("before_action", "completeness"),  # the day published, its completeness not told
    ],
    # The branches of a split run side by side: what one has done when another is killed differs.
    "c": [("after_event", "publish/lake")],
    "d": [("before_commit", "publish/legacy")],  # staged, not swapped in
    "e": [("after_commit", "publish/legacy")],
}
"""Chains of kills: each repeated command goes on from the kill before, and is killed at a later point."""


def submit(folder, *arguments, crash=()):
    """Run the main job (killed where ``crash`` says) as a process of its own; returns its exit code and output."""
    program = [CRASH, *crash, JOB] if crash else [JOB]
    command = [sys.executable, *program, f"state={folder}/state", f"output={folder}/out", *arguments]
    environment = {**os.environ, "MASTER": "local[2]"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    return done.returncode, done.stdout + done.stderr


def result(folder):
    """What readers find: the table's rows, and the CSV's lines."""
    table = (
        DeltaTable(f"{folder}/out/daily_flights")
        .to_pyarrow_table()
        .sort_by([("carrier", "ascending"), ("origin", "ascending")])
    )
    lines = [line for file in Path(folder, "out", "legacy").rglob("*.csv") for line in file.read_text().splitlines()]
    return table.to_pylist(), sorted(lines)


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("never_killed")
    code, output = submit(folder, f"key={KEY}")
    assert code == 0, output
    return result(folder)


def successes(folder, node):
    events = DeltaLedger(f"{folder}/state", create=False).read("daily_flights", KEY)
    return len([e for e in events if e.node == node and e.state == "succeeded"])


@pytest.mark.parametrize("crashes", CRASHES.values(), ids=CRASHES)
def test_killed_again_and_again_and_repeated_equals_never_killed(tmp_path, never_killed, crashes):
    for crash in crashes:
        code, output = submit(tmp_path, f"key={KEY}", crash=crash)
        assert code == -signal.SIGKILL, output
    code, output = submit(tmp_path, f"key={KEY}")
    assert code == 0, output
    assert result(tmp_path) == never_killed
    report = DeltaTable(f"{tmp_path}/out/completeness").to_pyarrow_table().to_pylist()
    assert [(r["key"], r["arrived"], r["is_approximate"]) for r in report] == [(KEY, 19, False)]
    once = ["hours/05", "hours/13", "hours", "clean", "enrich", "publish/lake", "publish/legacy", "publish"]
    assert {node: successes(tmp_path, node) for node in once} == dict.fromkeys(once, 1)
    assert DeltaTable(f"{tmp_path}/out/daily_flights").version() == 0


def test_the_same_command_again_reuses_all_and_touches_nothing(tmp_path, never_killed):
    submit(tmp_path, f"key={KEY}")
    version = DeltaTable(f"{tmp_path}/out/daily_flights").version()
    code, output = submit(tmp_path, f"key={KEY}", "--summary-json", f"{tmp_path}/s.json")
    assert (code, {n["state"] for n in json.loads((tmp_path / "s.json").read_text())["nodes"]}) == (0, {"reused"}), (
        output
    )
    assert (DeltaTable(f"{tmp_path}/out/daily_flights").version(), result(tmp_path)) == (version, never_killed)


def test_a_rerun_of_an_earlier_date_replaces_its_rows_and_no_others(tmp_path, never_killed):
    for arguments in (
        [f"key={KEY}"],
        ["key=2013-01-03"],
        [f"key={KEY}", "--rerun", "--summary-json", f"{tmp_path}/s.json"],
    ):
        code, output = submit(tmp_path, *arguments)
        assert code == 0, output
    rows, _ = result(tmp_path)
    assert [r for r in rows if str(r["date"]) == KEY] == never_killed[0]
    assert {str(r["date"]) for r in rows} == {KEY, "2013-01-03"}
    assert json.loads((tmp_path / "s.json").read_text())["generation"] == 2
