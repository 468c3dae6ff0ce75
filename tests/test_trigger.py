"""Task-based hand-over: real processes, whose command is Python itself where no Spark is needed."""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import Killed, killing
from handover import KEY, writes
from runs import new_run

import spark_flow as sf
from spark_flow.engine.mode import Mode
from spark_flow.engine.node import Node
from spark_flow.errors import InvalidArgument, TriggeredFailed, TriggeredWaits, UnknownJob
from spark_flow.ledger import MemoryLedger
from spark_flow.storage.sink_protocol import Written

NODE = "trigger/report"


def job(root, body="", name="report"):
    """A consumer that writes down how it was called, then does as the test says."""
    (root / "jobs").mkdir(exist_ok=True)
    file = root / "jobs" / f"{name}.py"
    file.write_text(
        "import json, pathlib, sys, time\n"
        "called = sys.argv[1:]\n"
        f"log = pathlib.Path({str(root)!r}, 'calls')\n"
        "with log.open('a') as f: f.write(json.dumps(called) + chr(10))\n"
        "def end(state, code, **more):\n"
        "    told = {'pipeline': 'report', 'state': state, 'nodes': [], **more}\n"
        "    pathlib.Path(called[called.index('--summary-json') + 1]).write_text(json.dumps(told))\n"
        "    sys.exit(code)\n" + body
    )
    return str(file)


def calls(root):
    path = root / "calls"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def run_with(root, ledger=None, number=1, *, rerun=False, observers=(), **options):
    to_start = options.pop("to_start", None) or sf.consumer(root / "jobs" / "report.py")
    how = {"state": str(root / "p"), "ledger": ledger or MemoryLedger(), "rerun": rerun, "observers": observers}
    with new_run("provider", KEY, **how) as run:
        writes(run, "a", root / "out" / "a", number)
        sf.trigger(run, to_start, launcher=sys.executable, **options)
    return run


def outcome(run):
    return next(o for o in run.outcomes if o.node == NODE)


@pytest.mark.parametrize("state", ["succeeded", "reused", "skipped"])
def test_it_starts_the_consumer_for_the_same_key_and_takes_over_how_it_ended(tmp_path, state):
    job(tmp_path, f"end({state!r}, 0, generation=3)")
    run = run_with(tmp_path)
    (called,) = calls(tmp_path)
    assert called[0] == f"key={KEY}"
    assert outcome(run).detail == {"state": state, "exit_code": 0, "generation": 3}


def test_a_repeated_provider_starts_it_once(tmp_path):
    ledger = MemoryLedger()
    job(tmp_path, "end('succeeded', 0)")
    run_with(tmp_path, ledger)
    assert outcome(run_with(tmp_path, ledger)).state == "reused"
    assert len(calls(tmp_path)) == 1


def causes(root):
    return [called[called.index("--request-id") + 1] for called in calls(root)]


def test_a_retry_names_the_same_cause_and_new_data_another(tmp_path):
    ledger = MemoryLedger()
    job(tmp_path, "end('succeeded', 0)")
    with pytest.raises(Killed):
        run_with(tmp_path, ledger, observers=[killing("before_event", NODE)])
    run_with(tmp_path, ledger)
    run_with(tmp_path, ledger, 2)
    run_with(tmp_path, ledger, 2, rerun=True)
    first, retry, late, rerun = causes(tmp_path)
    assert first == retry
    assert len({first, late, rerun}) == 3


def test_a_consumer_that_fails(tmp_path):
    ledger = MemoryLedger()
    nodes = "[{'node': 'lake', 'state': 'failed', 'error': 'no disk', 'reason': ''}]"
    job(tmp_path, f"end('failed', 1, nodes={nodes})")
    with pytest.raises(TriggeredFailed) as told:
        run_with(tmp_path, ledger)
    assert (told.value.state, told.value.exit_code) == ("failed", 1)
    assert "lake: no disk" in str(told.value)
    job(tmp_path, "end('succeeded', 0)")
    run = run_with(tmp_path, ledger)
    assert {o.node: o.state for o in run.outcomes} == {"a": "reused", NODE: "succeeded"}


@pytest.mark.parametrize("body", ["raise SystemExit(2)", "import os; os.kill(os.getpid(), 9)", "print('gone')"])
def test_a_consumer_that_says_nothing_has_failed(tmp_path, body):
    job(tmp_path, body)
    with pytest.raises(TriggeredFailed) as told:
        run_with(tmp_path)
    assert told.value.state == "failed"


def test_the_last_consumers_summary_is_not_taken_for_this_ones(tmp_path):
    ledger = MemoryLedger()
    job(tmp_path, "end('succeeded', 0)")
    run_with(tmp_path, ledger)
    job(tmp_path, "raise SystemExit(2)")
    with pytest.raises(TriggeredFailed):
        run_with(tmp_path, ledger, 2)


def test_a_consumer_that_has_to_wait_lets_the_provider_wait(tmp_path):
    job(tmp_path, "end('waiting', 75)")
    with pytest.raises(TriggeredWaits) as told:
        run_with(tmp_path)
    assert told.value.exit_code == 75


@pytest.mark.parametrize("body", ["end('succeeded', 1)", "end('failed', 0)", "end('waiting', 0)"])
def test_what_it_says_of_itself_must_be_how_it_ended(tmp_path, body):
    job(tmp_path, body)
    with pytest.raises(TriggeredFailed):
        run_with(tmp_path)


@pytest.mark.parametrize("told", ["[]", "{'state': 'failed', 'nodes': [1, {'state': 'failed'}]}", "{'nodes': {}}"])
def test_a_summary_that_is_none(tmp_path, told):
    job(tmp_path, f"pathlib.Path(called[-1]).write_text(json.dumps({told})); sys.exit(1)")
    with pytest.raises(TriggeredFailed):
        run_with(tmp_path)


def test_a_command_that_is_not_there(tmp_path):
    job(tmp_path)
    run = sf.Run.open("provider", KEY, state=str(tmp_path / "p"), ledger=MemoryLedger())
    with pytest.raises(TriggeredFailed, match="not started"), run:
        sf.trigger(run, sf.consumer(tmp_path / "jobs" / "report.py"), launcher="no-such-command")


def test_a_job_that_moved_is_no_new_data(tmp_path):
    ledger = MemoryLedger()
    job(tmp_path, "end('succeeded', 0)")
    moved = sf.consumer(job(tmp_path, "end('succeeded', 0)", name="moved"))
    run_with(tmp_path, ledger)
    run_with(tmp_path, ledger, to_start=moved, name="trigger/report")
    assert len(causes(tmp_path)) == 2
    assert len(set(causes(tmp_path))) == 1


def test_what_is_kept_in_staging_starts_nothing(tmp_path):
    job(tmp_path)
    with sf.Run.open("provider", KEY, state=str(tmp_path / "p"), ledger=MemoryLedger()) as run:
        run.once(Node(name="a", kind="sink"), lambda _: Written(detail={"staged": True}))
        sf.trigger(run, sf.consumer(tmp_path / "jobs" / "report.py"), launcher=sys.executable)
    assert (outcome(run).state, calls(tmp_path)) == ("skipped", [])


@pytest.mark.parametrize("override", ["key=2013-01-03", "--rerun", "nothing"])
def test_overrides_that_are_none(tmp_path, override):
    with pytest.raises(InvalidArgument):
        sf.consumer(job(tmp_path), overrides=[override])


def test_what_is_allowed_is_the_providers_to_say(tmp_path):
    job(tmp_path, "end('failed', 1)")
    assert outcome(run_with(tmp_path, allow=["succeeded", "failed"])).state == "succeeded"
    job(tmp_path, "end('reused', 0)")
    with pytest.raises(TriggeredFailed):
        run_with(tmp_path, allow=["succeeded"])
    for wrong in (["done"], "succeeded"):
        with pytest.raises(InvalidArgument):
            run_with(tmp_path, allow=wrong)


def test_not_waiting(tmp_path):
    job(tmp_path, "time.sleep(1); log.with_name('ended').touch()")
    run = run_with(tmp_path, wait=False)
    assert outcome(run).detail["process"] > 0
    assert not (tmp_path / "ended").exists()
    for _ in range(100):
        if (tmp_path / "ended").exists():
            return
        time.sleep(0.1)
    pytest.fail("it was not started")


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_consumer_is_ended_with_who_waits_for_it(tmp_path, told):
    job(tmp_path, "import os; log.with_name('pid').write_text(str(os.getpid())); time.sleep(60)")
    began = time.monotonic()

    def stop():
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), told)

    threading.Thread(target=stop).start()
    with pytest.raises(KeyboardInterrupt):
        run_with(tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert time.monotonic() - began < 20


def test_a_plan_starts_nothing(tmp_path):
    job(tmp_path)
    with sf.Run.open("provider", KEY, state=str(tmp_path / "p"), mode=Mode(plan=True)) as run:
        sf.trigger(run, sf.consumer(tmp_path / "jobs" / "report.py"), launcher=sys.executable)
    assert (outcome(run).state, calls(tmp_path)) == ("would run", [])


# --- the consumer is looked up before any work


def conf(root, text, name="report"):
    (root / "conf").mkdir(exist_ok=True)
    path = root / "conf" / f"{name}.yaml"
    path.write_text(text)
    return path


def test_a_job_is_found_with_its_file_and_pipeline(tmp_path, monkeypatch):
    path = job(tmp_path)
    config = conf(tmp_path, "pipeline: report\n")
    found = sf.consumer(path, pipeline="report", overrides=["state=s"])
    assert (found.job, found.config, found.pipeline) == (path, str(config), "report")
    assert sf.consumer("report.py", beside=tmp_path / "jobs").job == path
    monkeypatch.chdir(tmp_path)
    assert sf.consumer("jobs/report.py").job == path
    assert Path(sf.consumer("jobs/report.py").config).is_absolute()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gone", {}),
        ("report", {"config": "gone.yaml"}),
        ("report", {"pipeline": "another"}),
        ("bare", {"pipeline": "bare"}),
        ("broken", {}),
    ],
)
def test_a_job_that_is_missing_or_renamed(tmp_path, name, options):
    job(tmp_path)
    job(tmp_path, name="bare")
    job(tmp_path, name="broken")
    conf(tmp_path, "pipeline: report\n")
    conf(tmp_path, "pipeline: [", "broken")
    with pytest.raises(UnknownJob) as told:
        sf.consumer(tmp_path / "jobs" / f"{name}.py", **options)
    assert told.value.exit_code == 2
