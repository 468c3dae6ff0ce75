"""``spark-flow``: what it tells from the ledger, without a JVM."""

import importlib
import json
import re
import subprocess
import sys

import pytest
from conftest import states
from typer.main import get_group
from typer.testing import CliRunner

from spark_flow import Run
from spark_flow.cli.app import COMMANDS, app
from spark_flow.engine.node import Node
from spark_flow.ledger import DeltaLedger, Event
from spark_flow.storage.sink_protocol import Written


def call(*arguments):
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    return done.exit_code, done.output


@pytest.fixture
def runs(state):
    with Run.open("done", "k", state=state) as run:
        run.once(Node(name="n", fingerprint="a"), lambda _: Written(rows=3))
    Run.open("killed", "k", state=state).once(Node(name="n", fingerprint="a"), lambda _: Written(rows=1))
    with pytest.raises(ZeroDivisionError), Run.open("failed", "k", state=state):
        raise ZeroDivisionError
    return state


def test_status_tells_what_is_done_failed_and_incomplete(runs):
    code, output = call("status", "--state", runs, "--json")
    assert code == 0
    assert {v["pipeline"]: v["state"] for v in json.loads(output)} == {
        "done": "succeeded",
        "killed": "incomplete",
        "failed": "failed",
    }


def test_status_of_one_pipeline_as_a_table(runs):
    code, output = call("status", "done", "--state", runs)
    assert (code, "succeeded" in output, "killed" in output) == (0, True, False)


def test_status_shows_the_keys_that_ran_last_and_how_many_more_there_are(runs):
    code, output = call("status", "--state", runs, "--last", "1")
    assert (code, "failed" in output, "killed" in output) == (0, True, False)
    assert "2 more key(s)" in output
    assert "more key" not in call("status", "--state", runs, "--all")[1]


def test_show_lists_the_nodes(runs):
    code, output = call("show", "done", "k", "--state", runs, "--json")
    (node,) = json.loads(output)["nodes"]
    assert (code, node["node"], node["state"], node["rows"]) == (0, "n", "succeeded", 3)


def test_an_unknown_run_is_refused_with_those_that_there_are(runs):
    code, output = call("show", "done", "other", "--state", runs)
    assert code == 2
    assert "done k" in output


def test_an_empty_state_folder_has_no_runs(tmp_path):
    assert call("status", "--state", tmp_path / "none") == (0, f"no runs in {tmp_path / 'none'}\n")
    for command in ("status", "runs"):
        assert call(command, "nosuch", "--state", tmp_path / "none")[0] == 2


def test_a_newer_state_is_refused(tmp_path):
    (tmp_path / "_spark_flow_state.json").write_text('{"format": 99}')
    code, output = call("status", "--state", tmp_path)
    assert (code, "99" in output) == (1, True)


@pytest.mark.parametrize(
    ("program", "not_imported"),
    [
        ("import spark_flow", "pyarrow"),
        ("import spark_flow.cli.app as cli; cli.app(['--help'], standalone_mode=False)", "pyarrow"),
        *((f"import spark_flow.cli.commands.{module}", "pyspark") for module in COMMANDS),
    ],
)
def test_it_imports_what_it_needs(program, not_imported):
    program = f"import sys; {program}; sys.exit({not_imported!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, stdout=subprocess.PIPE).returncode == 0


def test_the_list_of_commands_is_that_of_their_modules():
    for module, listed in COMMANDS.items():
        there = get_group(importlib.import_module(f"spark_flow.cli.commands.{module}").app).commands
        assert set(there) == set(listed)


def test_the_report_is_one_page_of_the_runs(runs, tmp_path):
    code, output = call("report", "--state", runs, "--out", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert (code, output.startswith("wrote "), "ZeroDivisionError" in text) == (0, True, True)
    assert not re.search(r"(src|href)=.?https?:", text)
    assert call("report", "nosuch", "--state", runs)[0] == 2
    assert call("report", "--state", runs, "--out", tmp_path / "none" / "r.html")[0] == 1


def test_a_misspelt_command_is_an_error_with_the_right_one():
    code, output = call("statsu")
    assert (code, "status" in output) == (2, True)


def findings(state, key="2013-01-02"):
    code, output = call("verify", "p", key, "--state", state, "--json")
    return code, {f["node"]: (f["state"], f["recorded"], f["found"]) for f in json.loads(output)}


@pytest.mark.spark
def test_verify_finds_what_is_there(flow, state):
    flow()
    assert findings(state) == (0, {"publish/lake": ("ok", 2, 2), "publish/legacy": ("ok", 2, 2)})


@pytest.mark.spark
def test_verify_finds_rows_deleted_by_hand_and_a_rerun_mends_it(spark, flow, state):
    flow()
    spark.sql(f"DELETE FROM delta.`{flow.out}/lake` WHERE id = 'b'")
    code, found = findings(state)
    assert (code, found["publish/lake"]) == (1, ("differs", 2, 1))
    assert states(flow(rerun=True))["publish/lake"] == "succeeded"
    assert findings(state)[0] == 0


@pytest.mark.spark
def test_verify_finds_a_table_that_is_gone(flow, state):
    import shutil

    flow()
    shutil.rmtree(flow.out)
    code, found = findings(state)
    assert (code, {s for s, _, _ in found.values()}) == (1, {"missing"})


def test_the_ledger_is_compacted_on_request(tmp_path):
    ledger = DeltaLedger(str(tmp_path))
    for seq in range(3):
        ledger.append(
            [Event(pipeline="p", key="k", generation=1, attempt=1, seq=seq, node="", kind="run", state="started")]
        )
    before = ledger.read()
    done = CliRunner().invoke(app, ["compact", f"--state={tmp_path}"])
    assert (done.exit_code, done.output.strip()) == (0, "3 file(s) became 1")
    assert ledger.read() == before
    assert CliRunner().invoke(app, ["compact", f"--state={tmp_path}/none"]).output.startswith("no ledger")
