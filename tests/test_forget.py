"""A key that is forgotten is run as if for the first time; the attempts of a pipeline; who is told of a failure."""

import json

import pytest
from conftest import states
from typer.testing import CliRunner

from spark_flow.cli.app import app
from spark_flow.ledger.event import Event
from spark_flow.orchestration.key_plan import past_of
from spark_flow.orchestration.leases import Leases, hold
from spark_flow.storage.key_folder import MANIFEST

KEY = "2013-01-02"


def cli(*words, answer=None):
    done = CliRunner().invoke(app, [str(word) for word in words], input=answer)
    return done.exit_code, done.output


@pytest.mark.spark
def test_a_forgotten_key_reuses_nothing_and_its_rows_are_replaced_not_doubled(flow, state):
    flow()
    before = flow.lake()
    code, said = cli("forget", "p", KEY, f"--state={state}", answer="n\n")
    assert (code, "publish/lake" in said, "3 row" in said or "2 row" in said) == (1, True, True), said
    assert states(flow())["double"] == "reused"
    code, said = cli("forget", "p", KEY, f"--state={state}", "--yes")
    assert (code, "forgot p 2013-01-02" in said) == (0, True), said
    assert cli("status", f"--state={state}", "--json")[1].count('"forgotten"') == 1
    run = flow()
    assert (run.generation, run.attempt, states(run)["double"]) == (2, 1, "succeeded")
    assert flow.lake() == before
    assert states(flow())["double"] == "reused"  # and is a usual key again


def test_a_forgotten_key_was_never_run_for_those_that_plan():
    def event(state, seq, **more):
        return Event(pipeline="p", key=KEY, generation=1, attempt=1, seq=seq, node="", kind="run", state=state, **more)

    events = [event("started", 1), event("succeeded", 2), event("forgotten", 3)]
    assert past_of(KEY, events[:2]).state == "succeeded"
    assert (past_of(KEY, events).state, past_of(KEY, events).reason) == ("never", "forgotten")


@pytest.mark.parametrize("command", ["forget", "rollback"])
def test_a_running_key_is_left_alone(state, tmp_path, command):
    from spark_flow.ledger import DeltaLedger

    ledger, folder = DeltaLedger(state), str(tmp_path / "legacy")
    (tmp_path / "legacy").mkdir()
    (tmp_path / "legacy" / MANIFEST).write_text('{"revision": 1, "files": {}}')
    for generation in (1, 2):
        more = {"pipeline": "p", "key": KEY, "generation": generation, "attempt": 1, "state": "succeeded"}
        detail = {"format": "csv", "path": folder}
        ledger.append([Event(seq=1, node="legacy", kind="sink", revision=1, detail=detail, **more)])
        ledger.append([Event(seq=2, node="", kind="run", **more)])
    with hold(Leases(f"{state}/leases").of_pipeline("p"), "p", KEY):
        code, said = cli(command, "p", KEY, f"--state={state}", "--yes")
    assert (code, "held by" in said) == (75, True), said
    assert len(ledger.read("p", KEY)) == 4


def test_an_unknown_key_is_named(state):
    code, said = cli("forget", "p", KEY, f"--state={state}", "--yes")
    assert (code, "no run of p" in said) == (2, True)


JOB = """
pipeline: p
key: k1
output: OUT
on_failure: {notify: SPARK_FLOW_TEST_NOTIFY}
sources: {in: {format: json, path: FOLDER, schema: "id INT NOT NULL"}}
flow:
  - read: in
  - write: {name: lake, format: delta, path: OUT/lake, mode: overwrite}
"""


@pytest.mark.spark
def test_a_failure_is_reported_once_per_attempt_and_attempts_are_listed(
    spark, run_file, lines, webhook, monkeypatch, tmp_path
):
    address, told = webhook
    monkeypatch.setenv("SPARK_FLOW_TEST_NOTIFY", address)
    lines('{"id": "x"}')
    assert run_file(JOB)[0] == 1
    assert [one["title"] for one in told] == ["p k1 failed"]
    assert "bad record" in told[0]["message"]
    lines('{"id": 1}')
    assert run_file(JOB)[0] == 0
    assert len(told) == 1
    code, said = cli("runs", "p", f"--state={tmp_path}/state", "--json")
    assert (code, [(one["attempt"], one["state"]) for one in json.loads(said)]) == (
        0,
        [(1, "failed"), (2, "succeeded")],
    )
    code, said = cli("runs", "p", "k1", f"--state={tmp_path}/state", "--last=1")
    assert ("succeeded" in said, "failed" in said.replace("0 failed", "")) == (True, False), said


@pytest.mark.spark
def test_a_service_that_is_down_does_not_change_how_the_run_ended(spark, run_file, lines, monkeypatch, caplog):
    monkeypatch.setenv("SPARK_FLOW_TEST_NOTIFY", "json://127.0.0.1:1/")
    lines('{"id": "x"}')
    code, said = run_file(JOB)
    assert (code, "bad record" in said) == (1, True)
    assert "SPARK_FLOW_TEST_NOTIFY" in caplog.text
