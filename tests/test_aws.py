"""Exports for AWS on emulators: statelint lints state machines and moto interprets them; steps of EMR are taken from
moto by a small driver of this file. The jobs behind them are real. ``make aws`` runs these.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deltalake import DeltaTable
from object_store import served

from jobs import ENVIRONMENT
from spark_flow.export import emr, step_functions
from spark_flow.export.tasks import Job
from spark_flow.jobfile.plan import draw
from spark_flow.ledger import DeltaLedger

pytestmark = [pytest.mark.aws, pytest.mark.process]
PATIENCE = 300  # seconds
ROLE = "arn:aws:iam::123456789012:role/states"
HOUR = """
pipeline: hour
key: ???
runner: {calendar: hourly, start_date: 2024-03-01T05, max_active_runs: 2}
sources: {shop: {format: json, path: "in/{key:%Y-%m-%d}/{key:%H}", schema: "hour_key STRING, date DATE, amount INT"}}
flow:
  - read: shop
  - write: {name: by_hour, format: delta, path: "${output}/by_hour", partition_by: [hour_key]}
  - publish: {dataset: hours}
"""
DAY = """
pipeline: day
key: ???
runner: {start_date: 2024-03-01, end_date: 2024-03-09}
flow:
  - wait_for: {dataset: hours, keys: hours_of_day(5..7), require: at_least(2)}
  - step: {name: sums, sql: "SELECT date, sum(amount) AS amount FROM {frame} GROUP BY date"}
  - with_completeness: is_approximate
  - write: {name: day, format: delta, path: "${output}/day", partition_by: [date]}
"""
CHOICE = """
pipeline: choice
key: ???
sources: {day: {format: json, path: "in/${key}/05", schema: "hour_key STRING, date DATE, amount INT"}}
flow:
  - read: day
  - exclusive_choice:
      name: when
      routes:
        old:
          when: {by_date: {before: 2024-03-02}}
          flow: [write: {name: old, format: delta, path: "${output}/old", partition_by: [date]}]
        new:
          when: {by_date: {since: 2024-03-02}}
          flow: [write: {name: new, format: delta, path: "${output}/new", partition_by: [date]}]
  - exclusive_choice:
      name: size
      default: small
      routes:
        large:
          when: {by_data: {where: "amount > 5", at_least: 1}}
          flow: [write: {name: large, format: delta, path: "${output}/large", partition_by: [date]}]
        small:
          flow: [write: {name: small, format: delta, path: "${output}/small", partition_by: [date]}]
"""
TREND = """
pipeline: trend
key: ???
runner: {start_date: 2024-03-01, end_date: 2024-03-03, depends_on_past: true}
sources: {day: {format: json, path: "in/${key}/05", schema: "hour_key STRING, date DATE, amount INT"}}
flow:
  - read: day
  - write: {name: trend, format: delta, path: "${output}/trend", partition_by: [date]}
"""


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    """Moto's server, which interprets state machines."""
    with served(tmp_path_factory.mktemp("aws")) as server:
        url = server.variables["AWS_ENDPOINT_URL"]
        config = json.dumps({"stepfunctions": {"execute_state_machine": True}}).encode()
        request = urllib.request.Request(f"{url}/moto-api/config", config, {"Content-Type": "application/json"})
        urllib.request.urlopen(request).close()
        yield server


@pytest.fixture(scope="module")
def clients(aws):
    import boto3

    return {name: boto3.client(name, region_name="us-east-1") for name in ("sqs", "stepfunctions", "emr")}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the jobs and their data, from which they are started."""
    monkeypatch.chdir(tmp_path)
    for name, text in {"hour": HOUR, "day": DAY, "choice": CHOICE, "trend": TREND}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def arrive(day, *hours, amount=1):
    for hour in hours:
        folder = Path("in") / day / hour
        folder.mkdir(parents=True, exist_ok=True)
        row = {"hour_key": f"{day}T{hour}", "date": day, "amount": amount}
        (folder / "part.json").write_text(json.dumps(row) + "\n")


def job(name):
    return Job(file=f"{name}.yaml", graph=draw(Path(f"{name}.yaml"), []))


def rows(table):
    if not Path(table).exists():
        return {}
    found = DeltaTable(table).to_pyarrow_table().to_pylist()
    return {str(row["date"]): row["amount"] for row in found}


def approximate():
    return {str(r["date"]): r["is_approximate"] for r in DeltaTable("out/day").to_pyarrow_table().to_pylist()}


@contextlib.contextmanager
def workers(queue_url, count=2):
    """Token workers as processes, from the working folder."""
    program = [sys.executable, "-m", "spark_flow.cli.app", "token-worker", "--queue-url", queue_url]
    with Path("workers.log").open("ab") as log:
        started = [subprocess.Popen(program, stdout=log, stderr=log, start_new_session=True) for _ in range(count)]
    try:
        yield started
    finally:
        for one in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(one.pid, signal.SIGKILL)
            one.wait()


@pytest.fixture
def machine(clients, project, request):
    """Create a state machine of a job, and run it; returns how it ended, and the states that it entered."""
    queue = clients["sqs"].create_queue(QueueName=f"queue-{time.time_ns()}", Attributes={"VisibilityTimeout": "30"})
    url = queue["QueueUrl"]
    states = clients["stepfunctions"]

    def create(name, how="job", branches=()):
        where = step_functions.Worker(queue_url=url)
        made, _ = step_functions.state_machine(
            job(name), where, how=how, branches=[job(one) for one in branches], retry_seconds=1
        )
        Path("machine.json").write_text(json.dumps(made))
        linted = subprocess.run(["statelint", "machine.json"], capture_output=True, text=True, check=False)
        assert (linted.returncode, linted.stdout) == (0, ""), linted.stdout + linted.stderr
        named = states.create_state_machine(name=f"{name}-{time.time_ns()}", definition=json.dumps(made), roleArn=ROLE)
        return named["stateMachineArn"]

    def run(arn, **values):
        named = {"stateMachineArn": arn, "name": f"run-{time.time_ns()}", "input": json.dumps(values)}
        execution = states.start_execution(**named)["executionArn"]
        until = time.monotonic() + PATIENCE
        while (found := states.describe_execution(executionArn=execution))["status"] == "RUNNING":
            assert time.monotonic() < until, log()
            time.sleep(0.5)
        events = states.get_execution_history(executionArn=execution, maxResults=1000)["events"]
        entered = [e["stateEnteredEventDetails"]["name"] for e in events if "stateEnteredEventDetails" in e]
        return found["status"], entered

    run.create, run.queue = create, url
    return run


def log():
    return Path("workers.log").read_text()[-4000:]


def generations(pipeline, key):
    return {event.generation for event in DeltaLedger("state").read(pipeline, key)}


def test_a_whole_day_an_hour_that_is_missing_and_a_day_of_nothing(machine):
    arrive("2024-03-01", "05", "06", "07")
    arrive("2024-03-02", "05", "07")
    arn = machine.create("day", branches=["hour"])
    with workers(machine.queue):
        ended, entered = machine(arn, key="2024-03-01")
        assert (ended, entered.count("Arrived"), entered[-1]) == ("SUCCEEDED", 3, "Done"), Path(
            "workers.log"
        ).read_text()
        ended, entered = machine(arn, key="2024-03-02")
        assert (ended, entered.count("Arrived"), entered.count("Missing")) == ("SUCCEEDED", 2, 1)
        assert rows("out/day") == {"2024-03-01": 3, "2024-03-02": 2}
        assert approximate() == {"2024-03-01": False, "2024-03-02": True}
        ended, entered = machine(arn, key="2024-03-03")
        assert (ended, entered.count("Missing"), entered[-1]) == ("FAILED", 3, "hours_missing")
        assert "2024-03-03" not in rows("out/day")
        arrive("2024-03-02", "06")
        ended, _ = machine(arn, key="2024-03-02")  # the same input again: the hour that came is added
        assert (ended, rows("out/day")["2024-03-02"], approximate()["2024-03-02"]) == ("SUCCEEDED", 3, False)
        assert generations("hour", "2024-03-02T05") == generations("day", "2024-03-02") == {1}
        arrive("2024-03-02", "05", amount=10)
        ended, _ = machine(arn, key="2024-03-02", request_id="corrected")
        assert (ended, rows("out/day")["2024-03-02"]) == ("SUCCEEDED", 12)
        assert generations("hour", "2024-03-02T05") == generations("day", "2024-03-02") == {1, 2}


def ways(entered):
    return [name for name in entered if name.startswith(("when_", "size_"))]


def test_each_choice_takes_both_ways(machine):
    arrive("2024-03-01", "05", amount=1)
    arrive("2024-03-02", "05", amount=9)
    arn = machine.create("choice", how="checkpoints")
    with workers(machine.queue, count=1):
        ended, entered = machine(arn, key="2024-03-01")
        assert ended == "SUCCEEDED", Path("workers.log").read_text()
        assert [name for name in entered if name.startswith(("when_", "size_"))] == [
            "when_old",
            "size_decided",
            "size_small",
        ]
        ended, entered = machine(arn, key="2024-03-02")
        assert [name for name in entered if name.startswith(("when_", "size_"))] == [
            "when_new",
            "size_decided",
            "size_large",
        ]
    written = {name: list(rows(f"out/{name}")) for name in ("old", "new", "small", "large")}
    assert written == {"old": ["2024-03-01"], "small": ["2024-03-01"], "new": ["2024-03-02"], "large": ["2024-03-02"]}


def test_a_worker_that_is_killed_is_followed_by_another(machine):
    arrive("2024-03-01", "05")
    arn = machine.create("trend")
    with ThreadPoolExecutor(1) as pool:
        with workers(machine.queue, count=1) as (first,):
            ran = pool.submit(machine, arn, key="2024-03-01")
            until = time.monotonic() + PATIENCE
            while not (Path("state/ledger").exists() and DeltaLedger("state").read("trend", "2024-03-01")):
                assert time.monotonic() < until
                time.sleep(0.2)
            os.killpg(first.pid, signal.SIGKILL)
        with workers(machine.queue, count=1):
            ended, _ = ran.result()
    assert (ended, rows("out/trend")) == ("SUCCEEDED", {"2024-03-01": 1})
    assert generations("trend", "2024-03-01") == {1}


class Cluster:
    """A driver for the steps of a cluster, which moto leaves pending: in order, some at once, by the rules of each.

    It stands for EMR (https://docs.aws.amazon.com/emr/latest/ManagementGuide/emr-add-steps-console.html).
    """

    def __init__(self, client, made):
        given = {"InstanceCount": 1, "KeepJobFlowAliveWhenNoSteps": True, "MasterInstanceType": "m5.xlarge"}
        self.client, self.at_once = client, made["StepConcurrencyLevel"]
        self.id = client.run_job_flow(
            Name="test", Instances=given, StepConcurrencyLevel=self.at_once, ReleaseLabel="emr-7.0.0", JobFlowRole="r"
        )["JobFlowId"]
        client.add_job_flow_steps(JobFlowId=self.id, Steps=made["Steps"])

    def run(self):
        """Run the pending steps; returns their names by state."""
        steps = list(reversed(self.client.list_steps(ClusterId=self.id)["Steps"]))  # the newest is listed first
        assert {step["Status"]["State"] for step in steps} <= {"PENDING", "RUNNING"}  # moto calls the first one running
        ended, stop = {}, False

        def step(one):
            nonlocal stop
            if stop:
                ended[one["Name"]] = "CANCELLED"
                return
            words = one["Config"]["Args"]
            assert words[:2] == ["spark-flow", "submit"]
            program = [sys.executable, "-m", "spark_flow.cli.app", *words[1:]]
            done = subprocess.run(program, env=ENVIRONMENT, capture_output=True, text=True, check=False)
            ended[one["Name"]] = "FAILED" if done.returncode else "COMPLETED"
            stop = stop or (done.returncode != 0 and one["ActionOnFailure"] == "CANCEL_AND_WAIT")

        with ThreadPoolExecutor(self.at_once) as pool:
            list(pool.map(step, steps))
        return ended


def test_steps_that_depend_on_the_past_are_cancelled_after_one_that_fails(clients, project):
    arrive("2024-03-01", "05")
    arrive("2024-03-03", "05")
    made, _ = emr.steps(job("trend"), "")
    ended = Cluster(clients["emr"], made).run()
    assert ended == {"trend 2024-03-01": "COMPLETED", "trend 2024-03-02": "FAILED", "trend 2024-03-03": "CANCELLED"}
    assert rows("out/trend") == {"2024-03-01": 1}
    arrive("2024-03-02", "05")
    ended = Cluster(clients["emr"], made).run()
    assert set(ended.values()) == {"COMPLETED"}
    assert rows("out/trend") == {"2024-03-01": 1, "2024-03-02": 1, "2024-03-03": 1}


def test_steps_of_independent_keys_run_at_once_and_one_that_fails_stops_no_other(clients, project):
    arrive("2024-03-01", "05", "07")
    made, _ = emr.steps(job("hour"), "2024-03-01T05..2024-03-01T07")
    assert made["StepConcurrencyLevel"] == 2
    ended = Cluster(clients["emr"], made).run()
    assert list(ended.values()).count("COMPLETED") == 2
    assert ended["hour 2024-03-01T06"] == "FAILED"
