"""Part of a flow: ``--until NODE`` ends after a node; ``--plan --json`` prints the graph of nodes."""

import json

import pytest
from deltalake import DeltaTable

from spark_flow.ledger import DeltaLedger

JOB = """
pipeline: p
key: k1
output: OUT
sources: {in: {format: json, path: FOLDER, schema: "id INT NOT NULL"}}
flow:
  - read: in
  - step: {name: lazy, sql: "SELECT * FROM {frame}"}
  - step: {name: bounded, sql: "SELECT id * 2 AS id FROM {frame}", restart: true, timeout: 600}
  - write: {name: first, format: delta, path: OUT/first, mode: overwrite}
  - exclusive_choice:
      name: road
      default: old
      routes:
        new:
          when: {by_date: {since: 2013-01-02}}
          flow: [write: {name: second, format: delta, path: OUT/second, mode: overwrite}]
        old:
          flow: [write: {name: third, format: parquet, path: OUT/third}]
  - publish: {dataset: p}
"""


@pytest.fixture
def job(run_file, lines, tmp_path):
    """Run the job; returns its exit code, the states of its nodes and what it printed."""
    lines('{"id": 1}')

    def run(*arguments):
        code, said = run_file(JOB.replace("k1", "2013-01-02"), f"--summary-json={tmp_path}/s.json", *arguments)
        summary = json.loads((tmp_path / "s.json").read_text())
        return code, {node["node"]: node["state"] for node in summary["nodes"]}, said

    run.root = tmp_path
    return run


@pytest.mark.spark
def test_a_run_ends_after_a_node_and_the_next_one_goes_on_in_the_same_generation(spark, job):
    code, states, said = job("--until", "bounded")
    assert (code, states["bounded"], "first" in states) == (0, "succeeded", False), said
    code, states, said = job("--until", "first")
    assert (code, states["bounded"], states["first"], "road" in states) == (0, "reused", "succeeded", False), said
    assert not (job.root / "out" / "markers").exists()
    code, states, said = job("--until", "second")
    assert (code, states["first"], states["second"], states["road/old"]) == (0, "reused", "succeeded", "skipped"), said
    code, states, said = job("--until", "marker/p")  # nothing is left: the run is whole
    assert (code, states["second"], states["marker/p"]) == (0, "reused", "succeeded"), said
    events = DeltaLedger(f"{job.root}/state").read("p")
    assert {event.generation for event in events} == {1}
    assert [e.state for e in events if e.kind == "run" and e.state != "started"] == ["skipped"] * 3 + ["succeeded"]
    assert DeltaTable(f"{job.root}/out/first").version() == 0


@pytest.mark.spark
def test_a_run_that_ends_with_a_choice_only_decides_and_the_next_one_takes_the_route(spark, job):
    code, states, said = job("--until", "road")
    assert (code, states["road"], states["road/old"], "second" in states) == (0, "succeeded", "skipped", False), said
    assert "ended: after road (--until)" in said
    road = next(node for node in json.loads((job.root / "s.json").read_text())["nodes"] if node["node"] == "road")
    assert road["route"] == "new"
    assert not (job.root / "out" / "second").exists()
    assert not (job.root / "out" / "markers").exists()  # nothing has failed
    code, states, said = job("--until", "road/new")
    assert (code, states["road"], states["second"]) == (0, "reused", "succeeded"), said
    code, states, said = job()
    assert (code, states["second"], states["marker/p"]) == (0, "reused", "succeeded"), said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--until", "lazy"], "restart: true"),
        (["--until", "frist"], "Did you mean 'first'?"),
        (["--until", ""], "an empty value"),
        (["--until", "first", "--only", "first"], "one of both"),
        (["--json"], "--plan --json"),
    ],
)
def test_what_a_run_cannot_end_after_is_refused(job, arguments, words):
    code, _, said = job(*arguments)
    assert (code, words in said) == (2, True), said


@pytest.mark.spark
def test_the_graph_has_each_node_with_its_state_edges_conditions_and_paths(spark, run_file, lines, tmp_path):
    lines('{"id": 1}')
    text = JOB.replace("k1", "2013-01-02")
    run_file(text, "--until", "first")
    code, said = run_file(text, "--plan", "--json")
    graph = json.loads(said)
    nodes = {node["name"]: node for node in graph["nodes"]}
    assert (code, graph["format"], graph["pipeline"], graph["state"]) == (0, 1, "p", "planned")
    assert list(nodes) == [
        "in",
        "lazy",
        "bounded",
        "first",
        "road",
        "road/new",
        "road/old",
        "second",
        "third",
        "marker/p",
    ]
    assert [nodes[name].get("state") for name in ("bounded", "first", "road", "second", "marker/p")] == [
        "would reuse",
        "would reuse",
        "would run",
        "would run",
        "would run",
    ]
    assert (nodes["bounded"]["inputs"], nodes["bounded"]["timeout"], nodes["lazy"]["inputs"]) == (["lazy"], 600, ["in"])
    assert nodes["road"]["routes"] == {"new": "by_date(since=2013-01-02)", "old": ""}
    third = nodes["third"]
    assert (third["within"], third["entry"]) == (["road/old"], "flow[4].exclusive_choice.routes.old.flow[0].write")
    assert nodes["second"]["writes"] == [f"{tmp_path}/out/second"]
    assert nodes["marker/p"]["dataset"] == "p"


@pytest.mark.spark
def test_a_plan_that_fails_prints_the_graph_as_far_as_it_is_known(spark, run_file):
    code, said = run_file(JOB, "--plan", "--json")
    graph, _ = json.JSONDecoder().raw_decode(said)
    assert (code, graph["state"]) == (1, "failed")
    assert [node["name"] for node in graph["nodes"]][:3] == ["in", "lazy", "bounded"]
    assert "not found" in said


def test_the_graph_of_a_fan_in_has_its_branches_and_rule(run_file, tmp_path):
    text = """
pipeline: p
key: k1
sources: {in: {format: json, path: "FOLDER/{branch}", branches: "05..06", schema: "id INT"}}
flow:
  - unaligned_fan_in: {name: hours, source: in, require: at_least(0.5)}
  - write: {name: w, format: parquet, path: OUT/w}
"""
    code, said = run_file(text, "--plan", "--json")
    graph, _ = json.JSONDecoder().raw_decode(said)
    hours = graph["nodes"][0]
    assert code == 1  # no hour is there
    assert (hours["branches"], hours["rule"]) == (["05", "06"], "at_least(0.5)")
    assert hours["reads"] == [f"{tmp_path}/in/05", f"{tmp_path}/in/06"]
