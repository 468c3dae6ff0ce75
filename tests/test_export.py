"""Exports for orchestrators, from the graphs of files; what they do is tested by `make aws` and `make datafactory`."""

import datetime as dt
import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from jobs import ROOT
from spark_flow.cli.app import app
from spark_flow.errors import InvalidArgument
from spark_flow.export import data_factory, emr, step_functions
from spark_flow.export.tasks import Job, tasks
from spark_flow.fan_out import by_date
from spark_flow.jobfile.plan import draw

WORKER = step_functions.Worker(queue_url="http://queue")
FILES = sorted(path.name for path in (ROOT / "conf").glob("*.yaml") if path.stem not in ("pools", "stream_split"))
DAY, HOUR = "flights_of_day.yaml", "flights_by_hour.yaml"


def job(name, *overrides):
    path = ROOT / "conf" / name
    return Job(file=f"conf/{name}", graph=draw(path, overrides, cwd=ROOT), overrides=overrides)


def states(machine):
    for name, state in machine["States"].items():
        yield name, state
        yield from states(state.get("ItemProcessor", {"States": {}}))


@pytest.mark.parametrize("name", FILES)
def test_law_the_tasks_of_a_job_have_each_node_once_and_the_last_ones_do_the_rest(name):
    graph = job(name).graph
    made = tasks(graph, "checkpoints")
    nodes = [node for task in made for node in task.nodes]
    routes = [n["name"] for n in graph["nodes"] if re.fullmatch(r"flow\[\d+\]\.exclusive_choice", n.get("entry", ""))]
    expected = [node["name"] for node in graph["nodes"] if "entry" in node]
    assert len(nodes) == len(set(nodes))
    assert set(expected) - set(nodes) <= {route for route in routes if "/" in route}
    inner = {name for task in made for name in task.after}
    assert all(bool(task.until) == (task.name in inner) for task in made)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("runner", [WORKER, step_functions.Emr()], ids=["worker", "emr"])
def test_all_states_are_reached_and_lead_to_an_end(name, runner):
    machine, _ = step_functions.state_machine(job(name), runner, how="checkpoints")
    reached, left = set(), [machine["StartAt"]]
    while left:
        state = machine["States"][here := left.pop()]
        reached.add(here)
        following = [state.get("Next"), state.get("Default"), *(one["Next"] for one in state.get("Choices", ()))]
        left += [one for one in following if one and one not in reached]
        assert following != [None, None] or state["Type"] in ("Succeed", "Fail")
    assert reached == set(machine["States"])


def test_a_fan_in_is_a_map_over_the_hours_and_a_choice_on_the_rule():
    machine, notes = step_functions.state_machine(job(DAY), WORKER, branches=[job(HOUR)])
    hours = machine["States"]["flights_by_hour"]
    assert (hours["Type"], hours["MaxConcurrency"]) == ("Map", 4)
    assert machine["States"]["flights_by_hour_keys"]["Parameters"]["keys.$"].count("States.Format('{}T") == 19
    run = hours["ItemProcessor"]["States"]["flights_by_hour_run"]
    assert run["Catch"][0]["Next"] == "Missing"
    (rule,) = machine["States"]["flights_by_hour_rule"]["Choices"]
    assert (rule["Variable"], rule["BooleanEquals"]) == ("$.arrived.any", True)
    assert "'flow.0.wait_for.timeout=0'" in json.dumps(machine)
    assert notes == [
        "flights_by_hour: Step Functions looks whether any branch arrived; the job itself checks at_least(0.5)"
    ]
    whole = job(DAY, "flow.0.wait_for.require=all_succeeded")
    machine, notes = step_functions.state_machine(whole, WORKER, branches=[job(HOUR)])
    (rule,) = machine["States"]["flights_by_hour_rule"]["Choices"]
    assert (rule["Variable"], rule["BooleanEquals"], notes) == ("$.arrived.missing", False, [])
    names = [name for name, _ in states(machine)]
    assert len(names) == len(set(names))


def test_a_choice_by_date_is_decided_by_the_state_and_others_by_what_was_recorded():
    machine, notes = step_functions.state_machine(job("exclusive_choice.yaml"), WORKER, how="checkpoints")
    found = machine["States"]
    assert (found["migration"]["Type"], found["asked"]["Type"], found["asked_decided"]["Type"]) == (
        "Choice",
        "Task",
        "Choice",
    )
    skipped, first, _ = found["asked_decided"]["Choices"]
    assert first == {"Variable": "$.decided.route", "StringEquals": "csv", "Next": "asked_csv"}
    assert skipped == {"Variable": "$.decided.route", "IsPresent": False, "Next": "Done"}  # the key was skipped
    assert notes == []
    machine, notes = step_functions.state_machine(job("exclusive_choice.yaml"), step_functions.Emr(), how="checkpoints")
    assert "asked_csv" not in machine["States"]
    assert [note.partition(":")[0] for note in notes] == ["asked", "shape"]


@given(
    st.dates(min_value=dt.date(1990, 1, 1), max_value=dt.date(2050, 1, 1)),
    st.dates(min_value=dt.date(1990, 1, 1), max_value=dt.date(2050, 1, 1)),
    st.sampled_from(["", "T00", "T23"]),
)
def test_law_a_state_decides_by_date_as_the_job_does(day, bound, hour):
    """The condition of the job, and the comparison of texts that the state makes."""
    key, bound = f"{day}{hour}", str(bound)
    texts = {"StringGreaterThanEquals": key >= bound, "StringLessThan": key < bound}
    for name, condition in (("since", by_date(since=bound)), ("before", by_date(before=bound))):
        (compared,) = step_functions._comparisons({name: bound})
        (operator,) = set(compared) & set(texts)
        assert texts[operator] == condition.answer(key, lambda: None).holds


def test_steps_are_one_at_a_time_if_they_depend_on_the_past_and_else_as_the_runner_says():
    made, _ = emr.steps(job("single_runner.yaml"), "2013-01-01..2013-01-03")
    assert (made["StepConcurrencyLevel"], len(made["Steps"])) == (1, 3)
    assert {step["ActionOnFailure"] for step in made["Steps"]} == {"CANCEL_AND_WAIT"}
    made, _ = emr.steps(job("concurrent_runner.yaml"), "")
    assert (made["StepConcurrencyLevel"], len(made["Steps"])) == (3, 4)
    assert {step["ActionOnFailure"] for step in made["Steps"]} == {"CONTINUE"}
    assert made["Steps"][0]["HadoopJarStep"]["Args"] == [
        "spark-flow",
        "submit",
        "conf/concurrent_runner.yaml",
        "key=2013-01-01",
    ]
    made, notes = emr.steps(job("single_runner.yaml"), "2013-01-01", how="checkpoints")
    assert [step["Name"] for step in made["Steps"]] == [
        f"daily_trend 2013-01-01 {n}" for n in ("counted", "past", "load")
    ]
    assert notes == ["past: one step with its routes"]
    made, _ = emr.steps(job("exclusive_choice.yaml"), "2013-01-01", how="checkpoints")
    assert "--until" not in made["Steps"][-1]["HadoopJarStep"]["Args"]  # the last choice does its route
    assert made["Steps"][0]["HadoopJarStep"]["Args"][-1] == "migration/old"


def test_a_pipeline_has_an_activity_for_each_task_and_a_condition_for_each_route():
    made, _ = data_factory.pipeline(job("exclusive_choice.yaml"), how="checkpoints")
    found = {each["name"]: each for each in made["properties"]["activities"]}
    assert [each["type"] for each in found.values()] == [
        "IfCondition",
        "IfCondition",
        "IfCondition",
        "Custom",
        "Custom",
    ]
    assert [one["activity"] for one in found["asked"]["dependsOn"]] == ["migration_old", "migration_new"]
    made, _ = data_factory.pipeline(job(DAY), branches=[job(HOUR)])
    each, whole = made["properties"]["activities"]
    assert (each["type"], each["typeProperties"]["batchCount"]) == ("ForEach", 4)
    assert whole["dependsOn"] == [{"activity": "flights_by_hour", "dependencyConditions": ["Completed"]}]


NAMES = """
pipeline: {pipeline}
key: ???
sources: {{in: {{format: json, path: "in/${{key}}", schema: "id INT"}}}}
flow:
  - read: in
  - exclusive_choice:
      name: road
      routes:
        old: {{when: {{by_date: {{before: 2013-01-02}}}}, flow: [write: {{name: a, format: parquet, path: out/a}}]}}
        very_old:
          when: {{by_date: {{since: 2013-01-02, before: 2013-01-03}}}}
          flow: [write: {{name: b, format: parquet, path: out/b}}]
        v1.0: {{when: {{by_date: {{since: 2013-01-03}}}}, flow: [write: {{name: c, format: parquet, path: out/c}}]}}
"""


def drawn(path, text):
    path.write_text(text)
    return Job(file="f.yaml", graph=draw(path, []))


def test_each_route_of_a_last_choice_has_its_own_condition_and_none_is_a_failure(tmp_path):
    made, _ = data_factory.pipeline(drawn(tmp_path / "f.yaml", NAMES.format(pipeline="my.p")), how="checkpoints")
    found = {each["name"]: each["typeProperties"] for each in made["properties"]["activities"]}
    conditions = {name: each["expression"]["value"] for name, each in found.items()}
    key = data_factory.PARAMETER
    old, middle, new = (
        f"less({key}, '2013-01-02')",
        f"greaterOrEquals({key}, '2013-01-02')",
        f"less({key}, '2013-01-03')",
    )
    assert conditions == {
        "road_old": f"@{old}",
        "road_very_old": f"@and({middle}, {new})",
        "road_v1_0": f"@greaterOrEquals({key}, '2013-01-03')",
        "road_none": f"@not(or(or({old}, and({middle}, {new})), greaterOrEquals({key}, '2013-01-03')))",
    }
    assert found["road_none"]["ifTrueActivities"][0]["type"] == "Fail"
    assert made["name"] == "my_p"


def test_names_that_clash_or_are_too_long_are_refused(tmp_path):
    day = (ROOT / "conf" / DAY).read_text().replace("name: day", "name: flights_by_hour")
    clash = drawn(tmp_path / "f.yaml", day)
    for make, more in ((step_functions.state_machine, {"runner": WORKER}), (data_factory.pipeline, {})):
        with pytest.raises(InvalidArgument, match="two with the name 'flights_by_hour'"):
            make(clash, how="checkpoints", branches=[job(HOUR)], **more)
    long = drawn(tmp_path / "f.yaml", NAMES.format(pipeline="p").replace("name: road", f"name: {'r' * 81}"))
    with pytest.raises(InvalidArgument, match="names of up to 80"):
        step_functions.state_machine(long, WORKER, how="checkpoints")
    with pytest.raises(InvalidArgument, match="names of up to 55"):
        data_factory.pipeline(long, how="checkpoints")


def test_an_override_that_names_the_key_is_left_to_the_job():
    path, quotes = "output=out/${key}/{key}", "'" * 3
    machine, _ = step_functions.state_machine(job("local_sequencer.yaml", path), WORKER)
    words = machine["States"]["local_sequencer"]["Parameters"]["MessageBody"]["arguments.$"]
    assert r"'output=out/$\{key\}/\{key\}'" in words
    made, _ = data_factory.pipeline(job("local_sequencer.yaml", path))
    (one,) = made["properties"]["activities"]
    assert f"{quotes}output=out/${{key}}/{{key}}{quotes}" in one["typeProperties"]["command"]["value"]


def test_a_word_with_quotes_and_braces_is_one_argument():
    odd = "vars.x=it's {a} \\ b"
    assert step_functions._format(odd) == r"'vars.x=it\'s \{a\} \\ b'"
    assert data_factory._text(odd) == "'vars.x=it''s {a} \\ b'"


@pytest.mark.parametrize("make", [step_functions.state_machine, data_factory.pipeline])
@pytest.mark.parametrize(
    ("of", "branches", "words"),
    [("daily_flights.yaml", [HOUR], "waits for nothing"), (DAY, ["local_sequencer.yaml"], "no dataset")],
)
def test_branches_that_the_job_does_not_wait_for_are_refused(make, of, branches, words):
    more = {"runner": WORKER} if make is step_functions.state_machine else {}
    with pytest.raises(InvalidArgument, match=words):
        make(job(of), branches=[job(each) for each in branches], **more)
    last = job(DAY, "flow.0.wait_for.keys=last_days(7)", "flow.0.wait_for.require=any_succeeded")
    with pytest.raises(InvalidArgument, match=r"last_days\(7\)"):
        make(last, branches=[job(HOUR)], **more)


def test_an_export_is_the_same_each_time_and_says_what_made_it(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = ["export", "stepfunctions", f"conf/{DAY}", "--branches", f"conf/{HOUR}", "--queue-url", "http://q"]
    texts = set()
    for name in ("a.json", "b.json"):
        done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        texts.add((tmp_path / name).read_text())
    (text,) = texts
    assert json.loads(text)["Comment"].startswith(f"conf/{DAY}, by spark-flow ")
    assert str(ROOT) not in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["stepfunctions", f"conf/{DAY}"], 2, "--queue-url"),
        (["stepfunctions", "conf/missing.yaml", "--queue-url", "q"], 2, "missing.yaml"),
        (["emr", "conf/single_runner.yaml", "2013-13-01"], 2, "2013-13-01"),
        (["emr", "conf/single_runner.yaml", "state=s3://b/state", "2013-01-02"], 0, '"state=s3://b/state"'),
        (["datafactory", f"conf/{DAY}", "--branches", f"conf/{HOUR}"], 0, "ForEach"),
    ],
)
def test_the_command(monkeypatch, words, code, said):
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(app, ["export", *words])
    assert (done.exit_code, said in done.output) == (code, True), done.output


def test_the_package_loads_no_orchestrator():
    code = "import sys, spark_flow, spark_flow.export.token_worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"airflow", "boto3", "moto", "azure", "pyspark"})
