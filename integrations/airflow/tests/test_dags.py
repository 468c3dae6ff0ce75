"""DAGs as they are made, without a scheduler."""

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import TriggerRule
from airflow.sdk.exceptions import AirflowSkipException
from conftest import ROOT
from spark_flow_airflow import MarkerSensor, PublishedOperator, SparkFlowBranchOperator, dag_from_file

ROUTES = """
pipeline: routes
key: ???
sources: {in: {format: json, path: "in/${key}", schema: "date DATE"}}
flow:
  - read: in
  - exclusive_choice:
      name: road
      routes:
        old:
          when: {by_date: {before: 2013-01-02}}
          flow: [write: {name: a, format: delta, path: out/a, partition_by: [date]}, publish: old_days]
        new:
          when: {by_date: {since: 2013-01-02}}
          flow: [write: {name: b, format: delta, path: out/b, partition_by: [date]}, publish: new_days]
"""


@pytest.fixture(scope="module")
def dags(home):
    os.environ["SPARK_FLOW_HOME"] = str(home)
    bag = DagBag(str(home / "dags"))
    assert bag.import_errors == {}
    return bag.dags


def edges(dag):
    return {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}


def test_the_files_of_dags_are_read_without_a_warning(home):
    for path in sorted((home / "dags").glob("*.py")):
        done = subprocess.run(
            [sys.executable, "-W", "error", str(path)],
            env={**os.environ, "SPARK_FLOW_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_reading_a_dag_imports_no_spark(home):
    program = (home / "dags" / "book_examples.py").read_text()
    code = f"{program}\nimport sys; print('pyspark' in sys.modules)"
    env = {**os.environ, "SPARK_FLOW_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "False"


def test_the_python_of_the_page_runs(home):
    page = (ROOT / "docs" / "orchestrators" / "airflow.md").read_text().replace("/srv/flights", str(home))
    names = {}
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec("from spark_flow_airflow import *\n" + code, names)
    assert names["daily_flights"].task_ids == ["hours", "enrich", "publish", "announce_daily_flights"]


def test_checkpoints_are_tasks_in_order(dags):
    dag = dags["daily_flights"]
    assert edges(dag) == {
        "hours": ["enrich"],
        "enrich": ["publish"],
        "publish": ["announce_daily_flights"],
        "announce_daily_flights": [],
    }
    assert [dag.get_task(name).until for name in ("hours", "enrich", "publish")] == ["hours", "enrich", ""]
    assert "19 branches, at_least(0.5)" in dag.get_task("hours").doc_md
    assert dag.edge_info["hours"]["enrich"]["label"] == "at_least(0.5)"


def test_a_choice_is_a_branch_task_and_its_routes_join(dags):
    dag = dags["exclusive_choice"]
    assert isinstance(dag.get_task("migration"), SparkFlowBranchOperator)
    assert dag.get_task("migration").routes == {"old": "migration_old", "new": "migration_new"}
    assert dag.get_task("asked").trigger_rule == TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
    assert dag.edge_info["migration"]["migration_old"]["label"] == "old: by_date(before=2013-01-03)"
    assert "migration_old" not in dag.edge_info  # its condition is that of the arrow into it
    assert (dag.get_task("asked_csv").until, dag.get_task("shape_plain").until) == ("asked/csv", "")


def test_the_runner_is_the_schedule_and_the_limits(dags):
    assert (dags["daily_trend"].max_active_runs, dags["daily_trend"].get_task("daily_trend").depends_on_past) == (
        1,
        True,
    )
    daily = dags["daily_loads"]
    assert (daily.max_active_runs, daily.get_task("daily_loads").pool) == (3, "etl")
    assert str(daily.start_date.date()) == "2013-01-01"


def test_a_wait_is_a_sensor_or_the_schedule(dags):
    consumer = dags["consumer"]
    assert isinstance(consumer.get_task("wait_days"), MarkerSensor)
    assert edges(consumer)["wait_days"] == ["consumer"]
    assert edges(dags["flights_by_carrier"])["flights_by_carrier"] == ["announce_flights_by_carrier"]
    asset = dags["flights_by_carrier"].timetable.asset_condition
    provider = dags["hourly_flights"].get_task("announce_hourly_flights")
    assert isinstance(provider, PublishedOperator)
    assert (asset.name, asset.uri) == (provider.asset.name, provider.asset.uri)


def test_branches_of_a_fan_in_are_tasks_and_the_rule_decides(dags):
    aligned, unaligned = dags["aligned_fan_in"], dags["unaligned_fan_in"]
    hours = [name for name in unaligned.task_ids if name.startswith("flights_by_hourT")]
    assert (len(hours), hours[0]) == (19, "flights_by_hourT05")
    assert unaligned.get_task(hours[0]).key.endswith("}}T05")
    assert unaligned.get_task("flights_of_day").trigger_rule == TriggerRule.ALL_DONE
    assert unaligned.get_task("flights_of_day").overrides == ["flow.0.wait_for.timeout=0"]
    assert aligned.get_task("flights_of_whole_day").trigger_rule == TriggerRule.ALL_SUCCESS


@pytest.mark.parametrize(
    ("file", "options", "words"),
    [
        ("flows/parts.yaml", {"tasks": "nodes"}, "job or checkpoints"),
        ("flows/parts.yaml", {"waits": "assets"}, "one first wait_for, keys same"),
        ("flows/parts.yaml", {"branches": ["flows/past.yaml"]}, "a wait_for at the start"),
        ("flows/consumer.yaml", {"branches": ["flows/past.yaml"]}, "the files that publish days"),
        ("flows/missing.yaml", {}, "missing.yaml"),
    ],
)
def test_what_cannot_be_a_dag_is_refused(home, file, options, words):
    with pytest.raises(Exception, match=words):
        dag_from_file(file, cwd=home, **options)


def test_a_marker_of_a_route_is_announced_after_it_or_not_at_all(home):
    (home / "flows" / "routes.yaml").write_text(ROUTES)
    parts = edges(dag_from_file("flows/routes.yaml", tasks="checkpoints", cwd=home))
    assert (parts["road_old"], parts["road_new"]) == (["announce_old_days"], ["announce_new_days"])
    whole = dag_from_file("flows/routes.yaml", dag_id="whole_routes", cwd=home)
    assert edges(whole)["routes"] == ["announce_new_days", "announce_old_days"]
    announce = whole.get_task("announce_old_days")
    results = {"routes": {"routes": {"road": "new"}}}
    context = {"ti": SimpleNamespace(xcom_pull=lambda task_ids: results[task_ids])}
    with pytest.raises(AirflowSkipException, match="road took the route new"):
        announce._check_routes(context)
    assert whole.get_task("announce_new_days")._check_routes(context) is None
