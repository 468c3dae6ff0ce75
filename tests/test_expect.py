"""Expectations: nothing reaches a sink before its rules passed; what was found is recorded."""

import json
from pathlib import Path

import pytest
from conftest import Killed, at_night, killing, rows, states
from deltalake import DeltaTable
from runs import new_run

import spark_flow as sf
from spark_flow.engine.outcome import Outcome
from spark_flow.errors import ConfigError, ExpectationFailed, InvalidArgument, NodeFailed
from spark_flow.jobfile import load
from spark_flow.storage import markers

GOOD = [(1, 5, "a"), (2, 6, "b"), (3, 7, "c")]


@pytest.fixture
def check(spark, state, tmp_path):
    """Check rows ``(id, amount, name)`` by rules, and write what may be used."""

    def run_check(data, key="k1", quarantine="", **rules):
        options = {name: rules.pop(name) for name in ("rerun", "observers", "plan") if name in rules}
        frame = spark.createDataFrame(data, "id INT, amount INT, name STRING")
        with new_run("p", key, state=state, spark=spark, **options) as run:
            run_check.run = run
            good = sf.expect(run, frame, rules, name="checked", quarantine=quarantine)
            sf.write(run, "lake", good, sf.parquet(str(tmp_path / "lake")))
        return run

    run_check.rows = lambda key="k1": rows(spark.read.parquet(f"{tmp_path}/lake/key={key}"))
    run_check.written = lambda: Path(tmp_path, "lake").exists()
    return run_check


@pytest.mark.spark
def test_all_rules_are_met_and_reused(check):
    rules = {"positive": sf.holds("amount > 0"), "one": sf.unique("id"), "some": sf.row_count(1, 3)}
    run = check(GOOD, **rules)
    assert run.outcome("checked").detail["expectations"] == {"positive": 0, "one": 0, "some": 0}
    assert (run.outcome("checked").reason, check.rows()) == ("all expectations met", GOOD)
    assert states(check(GOOD, **rules)) == {"checked": "reused", "lake": "reused"} | {
        name: state for name, state in states(check.run).items() if name.startswith("input")
    }


@pytest.mark.spark
@pytest.mark.parametrize(
    ("rule", "found"),
    [
        (sf.holds("amount > 5"), "a row with amount = 5"),
        (sf.holds("amount > CASE WHEN id = 2 THEN NULL ELSE 0 END"), "id = 2"),  # NULL is not true
        (sf.unique("name"), "1 value(s) of name"),
        (sf.row_count(at_least=5), "4 rows, expected at least 5"),
        (sf.row_count(1, 3), "4 rows, expected at least 1 and at most 3"),
    ],
)
def test_a_rule_that_fails_names_what_it_found_and_nothing_reaches_a_sink(check, rule, found):
    with pytest.raises(ExpectationFailed) as fault:
        check([*GOOD, (4, 8, "c")], rule=rule)
    assert (fault.value.rule, found in fault.value.found) == ("rule", True), fault.value
    assert (check.run.outcome("checked").state, check.written()) == ("failed", False)
    check(GOOD, rule=sf.holds("id > 0"))
    assert check.rows() == GOOD


@pytest.mark.spark
def test_a_warning_is_counted_in_ledger_summary_and_warnings(check, state):
    from spark_flow.ledger import DeltaLedger

    run = check(GOOD, small=sf.holds("amount < 7", "warn"), few=sf.row_count(at_most=2, otherwise="warn"))
    node = next(node for node in run.summary()["nodes"] if node["node"] == "checked")
    assert node["expectations"] == {"small": 1, "few": 1}
    assert run.warnings == [
        "checked: small: 1 row(s) without amount < 7 (counted)",
        "checked: few: 3 rows, expected at most 2",
    ]
    (event,) = [e for e in DeltaLedger(state).read("p") if e.node == "checked" and e.state == "succeeded"]
    assert event.detail["expectations"] == {"small": 1, "few": 1}
    assert check.rows() == GOOD


@pytest.mark.spark
def test_rows_are_set_aside_with_the_rules_that_they_violate_and_replaced_by_a_rerun(check, tmp_path):
    bad = str(tmp_path / "bad")

    def aside():
        table = DeltaTable(bad).to_pyarrow_table().to_pylist()
        return sorted((row["key"], row["id"], tuple(row["rules"])) for row in table)

    rules = {"small": sf.holds("amount < 7", "quarantine"), "a": sf.holds("name = 'a'", "quarantine")}
    check(GOOD, quarantine=bad, **rules)
    check([(9, 9, "z")], key="k2", quarantine=bad, **rules)
    check([(5, 5, "a")], key="k3", quarantine=bad, **rules)
    assert DeltaTable(bad).version() == 1  # a key without such rows writes nothing
    assert check.rows() == [(1, 5, "a")]
    assert aside() == [("k1", 2, ("a",)), ("k1", 3, ("small", "a")), ("k2", 9, ("small", "a"))]
    check([(1, 5, "a"), (2, 6, "a")], quarantine=bad, rerun=True, **rules)
    assert check.rows() == [(1, 5, "a"), (2, 6, "a")]
    assert aside() == [("k2", 9, ("small", "a"))]


@pytest.mark.spark
def test_without_a_bad_row_there_is_no_table_of_them(check, tmp_path):
    check(GOOD, quarantine=str(tmp_path / "bad"), small=sf.holds("amount < 70", "quarantine"))
    assert not (tmp_path / "bad").exists()


@pytest.mark.spark
@pytest.mark.parametrize("node", ["checked/quarantine", *at_night("checked", "lake")])
@pytest.mark.parametrize("point", ["after_commit", "after_event"])
def test_killed_and_repeated_equals_never_killed(check, tmp_path, node, point):
    rules = {"small": sf.holds("amount < 7", "quarantine")}
    bad = str(tmp_path / "bad")
    with pytest.raises(Killed):
        check(GOOD, quarantine=bad, observers=[killing(point, node)], **rules)
    check(GOOD, quarantine=bad, **rules)
    assert check.rows() == GOOD[:2]
    assert DeltaTable(bad).to_pyarrow_table().num_rows == 1


@pytest.mark.spark
def test_a_rule_that_is_no_sql_fails_the_node(check):
    with pytest.raises(NodeFailed, match="gone"):
        check(GOOD, rule=sf.holds("gone > 1"))


@pytest.mark.spark
@pytest.mark.parametrize("rule", [sf.holds("amout > 0"), sf.holds("amount > 0 and"), sf.unique("idd")])
def test_a_plan_finds_a_rule_that_cannot_be_checked(check, rule):
    with pytest.raises(NodeFailed) as failure:
        check(GOOD, plan=True, rule=rule)
    assert failure.value.node == "checked"


@pytest.mark.spark
def test_a_plan_writes_nothing(check):
    run = check(GOOD, plan=True, rule=sf.holds("id > 0", "warn"))
    assert (run.outcome("checked").state, run.outcome("lake").state, check.written()) == (
        "would run",
        "would run",
        False,
    )


@pytest.mark.parametrize(
    ("rules", "quarantine"),
    [
        ({}, ""),
        ({"r": sf.Rule()}, ""),
        ({"r": sf.Rule(that="x", unique=("a",))}, ""),
        ({"r": sf.holds("x", "quarantine")}, ""),
        ({"r": sf.Rule(unique=("a",), otherwise="quarantine")}, "out"),
        ({"r": sf.holds("x", "ignore")}, ""),
    ],
)
def test_rules_that_say_nothing_are_refused(memory_ledger, state, rules, quarantine):
    run = new_run("p", "k1", state=state, ledger=memory_ledger)
    with pytest.raises(InvalidArgument):
        sf.expect(run, None, rules, quarantine=quarantine)


JOB = """
pipeline: p
key: k1
output: OUT
sources: {in: {format: json, path: FOLDER, schema: "id INT, amount INT"}}
flow:
  - read: in
  - expect:
      name: checked
      quarantine: OUT/bad
      rules:
        positive: {that: amount > 0}
        small: {that: amount < 10, otherwise: quarantine}
        one: {unique: id}
        some: {at_least: 1, otherwise: warn}
  - write: {name: lake, format: delta, path: OUT/lake, mode: overwrite}
"""


def test_delta_is_needed_only_for_rows_that_are_set_aside(tmp_path):
    text = JOB.replace("format: delta, path: OUT/lake, mode: overwrite", "format: csv, path: OUT/lake")
    (tmp_path / "job.yaml").write_text(text)
    assert load(tmp_path / "job.yaml").formats() == {"json", "delta"}
    without = text.replace("      quarantine: OUT/bad\n", "").replace(", otherwise: quarantine", "")
    (tmp_path / "job.yaml").write_text(without)
    assert load(tmp_path / "job.yaml").formats() == {"json"}


@pytest.mark.spark
def test_rules_of_a_file(spark, run_file, lines, tmp_path):
    lines('{"id": 1, "amount": 5}', '{"id": 2, "amount": 50}')
    code, said = run_file(JOB, f"--summary-json={tmp_path}/s.json")
    assert code == 0, said
    nodes = {node["node"]: node for node in json.loads((tmp_path / "s.json").read_text())["nodes"]}
    assert nodes["checked"]["expectations"] == {"positive": 0, "small": 1, "one": 0, "some": 0}
    assert DeltaTable(f"{tmp_path}/out/lake").to_pyarrow_table().num_rows == 1
    lines('{"id": 1, "amount": -5}')
    code, said = run_file(JOB, "--rerun")
    assert (code, "expectation 'positive' is not met: a row with amount = -5" in said) == (1, True), said
    assert DeltaTable(f"{tmp_path}/out/lake").version() == 0


AGAIN = "{name: b, quarantine: OUT/bad, rules: {r: {unique: a}}}"


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("      quarantine: OUT/bad\n", "", "flow[1].expect.rules"),
        ("{unique: id}", "{unique: id, at_least: 1}", "flow[1].expect.rules"),
        ("{unique: id}", "{unik: id}", "flow[1].expect.rules.one.unik"),
        ("otherwise: warn", "otherwise: wran", "flow[1].expect.rules.some.otherwise"),
        ("at_least: 1", "at_least: -1", "flow[1].expect.rules.some.at_least"),
        ("  - write:", f"  - expect: {AGAIN}\n  - write:", "flow[1].expect.quarantine"),
    ],
)
def test_what_is_no_rule_is_refused_with_its_place(tmp_path, old, new, path):
    assert JOB.count(old) == 1
    (tmp_path / "job.yaml").write_text(JOB.replace(old, new))
    with pytest.raises(ConfigError) as fault:
        load(tmp_path / "job.yaml")
    assert path in [problem.path for problem in fault.value.problems]


def test_what_was_found_is_in_the_marker(memory_ledger, tmp_path):
    """Consumers of any tool see it."""
    root = str(tmp_path / "markers")
    with new_run("p", "k1", ledger=memory_ledger, state=str(tmp_path / "state")) as run:
        found = {"expectations": {"small": 2, "one": 0}}
        run.end(Outcome(node="checked", kind="expect", state="succeeded", detail=found))
        sf.publish(run, "days", markers=root, state="skipped")
    assert json.loads(Path(root, "days", "k1.json").read_text())["expectations"] == {"checked": {"small": 2, "one": 0}}
    assert markers.read(f"{root}/days/k1.json").expectations == {"checked": {"small": 2, "one": 0}}


def test_rows_that_were_set_aside_are_not_published(memory_ledger, tmp_path):
    """Their table holds other keys as well; without naming tables, a marker after a check failed."""
    with new_run("p", "k1", ledger=memory_ledger, state=str(tmp_path / "state")) as run:
        run.end(Outcome(node="checked", kind="expect", state="succeeded"))
        sinks = {"checked/quarantine": {"path": "/q"}, "lake": {"path": "/t", "column": "day"}}
        for node, detail in sinks.items():
            run.end(
                Outcome(node=node, kind="sink", state="succeeded", detail={"format": "delta", "version": 0, **detail})
            )
        sf.publish(run, "days", markers=str(tmp_path / "markers"))
    assert set(markers.read(f"{tmp_path}/markers/days/k1.json").tables) == {"lake"}


@pytest.mark.spark
def test_a_misspelt_column_in_a_rule_does_not_blame_the_data(spark, state, lines):
    """Spark's error quotes the plan, and in it our own check of records."""
    source = sf.source("json", lines('{"n": 1}'), schema="n INT", bad_records="fail")
    with pytest.raises(NodeFailed, match="UNRESOLVED_COLUMN"), new_run("p", "k1", state=state, spark=spark) as run:
        sf.expect(run, sf.read(run, "in", source), {"a": sf.holds("altitud > 3")})
