"""Under Airflow's scheduler: what is missing, killed, cleared, backfilled; asserted from tables and the ledger.

One state folder for all, so each test has days of its own.
"""

import contextlib
import json
import os
import signal
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import until
from deltalake import DeltaTable

from spark_flow.ledger import DeltaLedger

SHOPS = {"a": 1, "b": 2}


@pytest.fixture
def arrive(home):
    """Files of a day; of all shops, or some."""

    def arrive(day, *shops, times=1):
        for shop in shops or SHOPS:
            folder = home / "in" / f"date={day}" / f"shop={shop}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "part.json").write_text(json.dumps({"date": day, "amount": SHOPS[shop] * times}) + "\n")

    return arrive


@pytest.fixture
def story(home):
    """The events of a key that are no starts, as ``(generation, attempt, node, state)``."""

    def story(pipeline, key):
        events = DeltaLedger(str(home / "state")).read(pipeline, key)
        return [(e.generation, e.attempt, e.node, e.state) for e in events if e.state != "started" and e.kind != "run"]

    return story


@pytest.fixture
def amounts(home):
    """The amounts of a day in a table."""

    def amounts(table, day):
        found = DeltaTable(str(home / "out" / table)).to_pyarrow_table().to_pylist()
        return sorted(row["amount"] for row in found if str(row["date"]) == day)

    return amounts


def generations(story):
    return {generation for generation, *_ in story}


def test_dags_test_runs_a_provider_and_its_consumer(airflow, arrive, amounts):
    arrive("2024-03-01")
    airflow.cli("dags", "test", "parts", "2024-03-01")
    assert amounts("day", "2024-03-01") == [3]
    airflow.cli("dags", "test", "consumer", "2024-03-01")
    assert amounts("copy", "2024-03-01") == [3]


def test_an_hour_that_is_missing_is_waited_for_without_using_up_a_retry(airflow, arrive, amounts, story):
    arrive("2024-03-02", "a")
    run = airflow.start("parts", "2024-03-02")
    until(lambda: airflow.states("parts", run)["shops"] == "up_for_reschedule", "a task that waits")
    arrive("2024-03-02", "b")
    airflow.ended("parts", run)
    tasks = airflow.tasks("parts", run)
    assert tasks["shops"]["try_number"] == 1
    assert amounts("day", "2024-03-02") == [3]
    branches = Counter(node for _, _, node, state in story("parts", "2024-03-02") if state == "succeeded")
    assert branches["shops/a"] == branches["shops/b"] == branches["day"] == 1  # the first hour was not read again


def test_a_driver_that_is_killed_is_retried_and_reuses_what_succeeded(airflow, arrive, amounts, story):
    arrive("2024-03-03")
    run = airflow.start("whole", "2024-03-03")

    def recorded():
        return any(node == "sums" for _, _, node, state in story("whole", "2024-03-03") if state == "succeeded")

    until(recorded, "a checkpoint")
    os.killpg(driver("whole", "2024-03-03"), signal.SIGKILL)
    airflow.ended("whole", run)
    tasks = airflow.tasks("whole", run)
    assert tasks["whole"]["try_number"] == 2
    result = airflow.result("whole", run, "whole")
    assert (result["generation"], result["attempt"]) == (1, 2)
    assert result["nodes"]["reused"] >= 1
    assert amounts("whole/day", "2024-03-03") == [3]
    done = Counter(node for _, _, node, state in story("whole", "2024-03-03") if state == "succeeded")
    assert done["sums"] == done["shops/a"] == 1


def driver(pipeline, key):
    """The process group of a job."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = file.read_text().split("\0")
            if f"pipeline={pipeline}" in words and f"key={key}" in words:
                return os.getpgid(int(file.parent.name))
    raise AssertionError(f"no process of {pipeline} {key}")


def test_a_run_that_is_cleared_is_a_new_generation_and_one_that_is_repeated_is_not(airflow, arrive, amounts, story):
    arrive("2024-03-04")
    run = airflow.start("parts", "2024-03-04")
    airflow.ended("parts", run)
    assert generations(story("parts", "2024-03-04")) == {1}
    arrive("2024-03-04", times=10)
    airflow.clear("parts", run)
    airflow.ended("parts", run)
    told = story("parts", "2024-03-04")
    assert generations(told) == {1, 2}
    done = Counter((generation, node) for generation, _, node, state in told if state == "succeeded")
    assert done[2, "shops/a"] == done[2, "sums"] == done[2, "day"] == 1  # three tasks, one request
    assert amounts("day", "2024-03-04") == [30]
    again = airflow.start("parts", conf={"key": "2024-03-04"})
    airflow.ended("parts", again)
    assert airflow.result("parts", again, "day")["state"] == "reused"
    assert airflow.states("parts", again)["announce_days"] == "skipped"  # nothing new to announce


@pytest.mark.parametrize(("dag", "behaviour"), [("whole", "none"), ("past", "failed")])
def test_a_backfill_of_three_days(airflow, arrive, amounts, story, dag, behaviour):
    days = ["2024-03-05", "2024-03-06", "2024-03-07"] if dag == "whole" else ["2024-03-01", "2024-03-02", "2024-03-03"]
    for day in days:
        arrive(day)
    body = {
        "dag_id": dag,
        "from_date": f"{days[0]}T00:00:00Z",
        "to_date": f"{days[-1]}T00:00:00Z",
        "reprocess_behavior": behaviour,
        "max_active_runs": 2,
    }
    airflow.ask("/api/v2/backfills", body)
    until(lambda: len([r for r in airflow.runs(dag) if r["run_type"] == "backfill"]) == 3, "three runs")
    runs = sorted((r for r in airflow.runs(dag) if r["run_type"] == "backfill"), key=lambda r: r["logical_date"])
    for run in runs:
        airflow.ended(dag, run["dag_run_id"])
    table = "whole/day" if dag == "whole" else "past"
    for day in days:
        assert generations(story(dag, day)) == {1}
        assert sum(amounts(table, day)) == 3
    if dag == "past":
        began = [airflow.tasks(dag, run["dag_run_id"])["past"] for run in runs]
        assert all(before["end_date"] <= after["start_date"] for before, after in pairwise(began))


def test_an_asset_starts_the_consumer_with_its_key_once_and_again_when_it_is_corrected(airflow, arrive, amounts, story):
    arrive("2024-03-08")
    run = airflow.start("parts", "2024-03-08")
    airflow.ended("parts", run)
    mine = lambda: [r for r in airflow.runs("by_asset") if r["partition_key"] == "2024-03-08"]  # noqa: E731
    (started,) = until(mine, "a run of the consumer")
    airflow.ended("by_asset", started["dag_run_id"])
    assert amounts("by_asset/copy", "2024-03-08") == [3]
    events = airflow.ask("/api/v2/assets/events?limit=100")["asset_events"]
    extra = next(e["extra"] for e in events if e["extra"].get("key") == "2024-03-08" and "days" in e["extra"]["marker"])
    assert (extra["state"], extra["generation"]) == ("ready", 1)
    again = airflow.start("parts", conf={"key": "2024-03-08"})
    airflow.ended("parts", again)
    assert airflow.states("parts", again)["announce_days"] == "skipped"
    assert len(mine()) == 1
    arrive("2024-03-08", times=10)
    airflow.clear("parts", run)
    corrected = until(lambda: [r for r in mine() if r["dag_run_id"] != started["dag_run_id"]], "a second run")
    airflow.ended("by_asset", corrected[0]["dag_run_id"])
    assert amounts("by_asset/copy", "2024-03-08") == [30]
    assert generations(story("by_asset", "2024-03-08")) == {1, 2}


def test_a_consumer_waits_in_the_triggerer_until_the_marker_is_there(airflow, arrive, amounts):
    waiting = airflow.start("consumer", "2024-03-09")
    until(lambda: airflow.states("consumer", waiting)["wait_days"] == "deferred", "a sensor that waits")
    arrive("2024-03-09")
    airflow.start("parts", "2024-03-09")
    airflow.ended("consumer", waiting)
    assert amounts("copy", "2024-03-09") == [3]


def test_the_route_that_is_not_taken_is_skipped(airflow, home, story):
    run = airflow.start("exclusive_choice", conf={"key": "2013-01-02"})
    airflow.ended("exclusive_choice", run)
    states = airflow.states("exclusive_choice", run)
    skipped = {name for name, state in states.items() if state == "skipped"}
    assert skipped == {"migration_new", "asked_csv", "shape_plain"}
    told = story("exclusive_choice", "2013-01-02")
    written = {node for _, _, node, state in told if state == "succeeded"}
    assert written >= {"by_date_csv", "asked_delta", "by_schema"}
    assert written.isdisjoint({"by_date_delta", "asked_csv", "by_schema_plain"})
    assert generations(told) == {1}
