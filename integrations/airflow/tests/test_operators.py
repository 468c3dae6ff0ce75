"""What a task does with each exit code of the real command; no scheduler, and no Spark where the command needs none."""

import datetime as dt
import json
import signal
import threading
import time
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import (
    AirflowException,
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
)
from spark_flow_airflow import MarkerSensor, SparkFlowOperator

from spark_flow.ledger import DeltaLedger
from spark_flow.storage import markers
from spark_flow.storage.markers import Marker

DAY = "2024-03-01"


@pytest.fixture
def work(home, tmp_path):
    """A folder with the jobs of the tests."""
    (tmp_path / "flows").symlink_to(home / "flows")
    return tmp_path


def context(*, clear_number=0, conf=None, first=None):
    run = SimpleNamespace(dag_id="dag", run_id="manual__1", clear_number=clear_number, conf=conf or {})
    ti = SimpleNamespace(get_first_reschedule_date=lambda _: first)
    return {"dag_run": run, "ti": ti}


def task(work, file="flows/parts.yaml", key=DAY, **more):
    return SparkFlowOperator(task_id="one", file=file, key=key, cwd=str(work), **more)


@pytest.fixture(autouse=True)
def _without_a_parent_run(monkeypatch):
    monkeypatch.setattr("spark_flow_airflow.operators._parent", lambda _: {})


def test_missing_data_is_rescheduled_and_given_up_in_the_end(work):
    one = task(work, retry_later=dt.timedelta(minutes=5), give_up_after=dt.timedelta(hours=1))
    now = dt.datetime.now(dt.timezone.utc)
    with pytest.raises(AirflowRescheduleException) as later:
        one.execute(context())
    assert 290 < (later.value.reschedule_date - now).total_seconds() < 400
    with pytest.raises(AirflowFailException, match=r"gave up after 1:00:00: .*shop"):
        one.execute(context(first=now - dt.timedelta(minutes=58)))


def test_a_wrong_file_or_key_fails_without_a_retry(work):
    with pytest.raises(AirflowFailException, match=r"flows/none\.yaml"):
        task(work, file="flows/none.yaml").execute(context())
    with pytest.raises(AirflowFailException, match="2024-3-1"):
        task(work, key="2024-3-1").execute(context())


def test_what_failed_is_retried_and_what_was_skipped_is_skipped(work):
    for key, state in ((DAY, "failed"), ("2024-03-02", "skipped")):
        markers.write(str(work / "out" / "markers"), Marker(dataset="days", key=key, state=state, reason="no data"))
    with pytest.raises(AirflowException, match=r"exit code 1: .*days 2024-03-01 is failed"):
        task(work, file="flows/consumer.yaml").execute(context())
    with pytest.raises(AirflowSkipException, match="no data"):
        task(work, file="flows/consumer.yaml", key="2024-03-02").execute(context())


def test_the_request_id_is_of_a_cleared_run_or_one_that_asks_for_it(work, tmp_path):
    def id_of(one, **given):
        return [word for word in one.command(context(**given), tmp_path / "s.json") if "request-id" in word]

    assert id_of(task(work)) == []
    assert id_of(task(work), clear_number=2) == ["--request-id=dag/manual__1#2"]
    assert id_of(task(work), conf={"rerun": True}) == ["--request-id=dag/manual__1"]
    assert id_of(task(work, on_clear="retry"), clear_number=2) == []


def test_it_can_be_submitted(work, tmp_path):
    one = task(work, launcher="submit", submit_options=["--master", "yarn"], program=["spark-flow"], until="sums")
    assert one.command(context(), tmp_path / "s.json") == [
        "spark-flow", "submit", "--master", "yarn", "flows/parts.yaml", f"key={DAY}",
        f"--summary-json={tmp_path}/s.json", "--until=sums",
    ]  # fmt: skip


def test_a_task_that_is_stopped_interrupts_the_job_which_releases_its_lease(work):
    for shop in ("a", "b"):
        (work / "in" / f"date={DAY}" / f"shop={shop}").mkdir(parents=True)
        row = json.dumps({"date": DAY, "amount": 1})
        (work / "in" / f"date={DAY}" / f"shop={shop}" / "part.json").write_text(row + "\n")
    one = task(work)
    raised = []

    def execute():
        try:
            one.execute(context())
        except AirflowException as error:
            raised.append(str(error))

    running = threading.Thread(target=execute)
    running.start()
    end = time.monotonic() + 120
    while not ((work / "state" / "ledger").exists() and DeltaLedger(str(work / "state")).read("parts", DAY)):
        assert time.monotonic() < end
        time.sleep(0.1)
    one.on_kill()
    running.join(120)
    assert [words[:13] for words in raised] == ["exit code 130"]
    last = [event for event in DeltaLedger(str(work / "state")).read("parts", DAY) if event.kind == "run"][-1]
    assert last.reason == "interrupted"
    began = time.monotonic()
    assert one.execute(context())["state"] == "succeeded"  # it does not wait for a lease
    assert time.monotonic() - began < 100


def test_a_timeout_of_airflows_interrupts_the_job(work):
    """Airflow raises within ``execute``: here by an alarm, as there."""
    file = work / "slow.yaml"
    file.write_text((work / "flows" / "consumer.yaml").read_text().replace("timeout: 120", "timeout: 600"))
    one = task(work, file=str(file))

    def expired(*_):
        raise AirflowException("timed out")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(10)
    try:
        with pytest.raises(AirflowException, match="timed out"):
            one.execute(context())
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert one._process.returncode == 130


def sensor(work, **more):
    given = {"datasets": ["days"], "folder": str(work / "out" / "markers"), "key": DAY, "deferrable": False}
    return MarkerSensor(task_id="wait", **{**given, **more})


def test_a_sensor_looks_as_wait_for_does(work):
    folder = str(work / "out" / "markers")
    assert sensor(work).poke({}) is False
    markers.write(folder, Marker(dataset="days", key=DAY, state="failed", reason="broken"))
    with pytest.raises(AirflowFailException, match="broken"):
        sensor(work).poke({})
    assert sensor(work, on_failed="wait").poke({}) is False
    markers.write(folder, Marker(dataset="days", key=DAY, state="skipped", revision=2))
    with pytest.raises(AirflowSkipException):
        sensor(work).poke({})
    markers.write(folder, Marker(dataset="days", key=DAY, state="ready", revision=3))
    assert sensor(work).poke({}) is True
    assert sensor(work, keys="last_days(2)").poke({}) is False


def test_a_sensor_that_gives_up_takes_what_the_rule_allows(work):
    folder = str(work / "out" / "markers")
    for hour in ("05", "06"):
        markers.write(folder, Marker(dataset="hours", key=f"{DAY}T{hour}", state="ready"))
    given = {"datasets": ["hours"], "keys": "hours_of_day(5..7)", "timeout": 1, "poke_interval": 0.2}
    enough = sensor(work, require="at_least(2)", **given)
    enough._given_up(RuntimeError("timeout"))
    with pytest.raises(AirflowException, match=r"2 of 3, expected all_succeeded. hours/2024-03-01T07: no marker yet"):
        sensor(work, **given)._given_up(RuntimeError("timeout"))
