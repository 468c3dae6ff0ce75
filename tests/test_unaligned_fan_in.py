"""The unaligned fan-in: enough branches, and it says what is missing, in five ways."""

import dataclasses
import json
import logging
import shutil
from functools import partial

import pytest
from conftest import Killed, killing, law, states, stored
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st
from runs import new_run

import spark_flow as sf
from spark_flow.core import notify
from spark_flow.errors import (
    BranchesFailed,
    CannotReplace,
    DuplicateNode,
    InvalidArgument,
    InvalidRule,
    NoBranches,
    NotAllArrived,
    NotEnoughBranches,
    NotNotified,
    SetNotVisible,
    TookFallback,
)
from spark_flow.storage.folders import read_manifest

pytestmark = pytest.mark.spark
SCHEMA = "id STRING NOT NULL, n INT"
HOURS = ("05", "06", "07", "08")


@pytest.fixture
def hours(lines, tmp_path):
    for n, name in enumerate(HOURS):
        lines(f'{{"id": "{name}", "n": {n}}}', name=f"hour={name}")
    return sf.source("json", str(tmp_path / "hour={branch}"), schema=SCHEMA, branches=HOURS)


@pytest.fixture
def away(hours, tmp_path):
    """Take hours' folders away, or bring them back."""

    def move(*names, back=False):
        for name in names:
            here, there = tmp_path / f"hour={name}", tmp_path / f"away-{name}"
            (there if back else here).rename(here if back else there)

    return move


@pytest.fixture
def notified(webhook, monkeypatch):
    """What the services in FLOW_NOTIFY were told."""
    address, told = webhook
    monkeypatch.setenv("FLOW_NOTIFY", address)
    return told


@pytest.fixture
def day(spark, state, tmp_path, hours):
    """Run a day of hours into a table with a flag, and report its completeness."""

    def go(source=hours, *, sink=None, run_options=(), **options):
        run = new_run("p", "k", **{"state": state, "spark": spark, **dict(run_options)})
        with run:
            found = sf.unaligned_fan_in(run, "hours", source, **{"require": sf.at_least(0.5), **options})
            part = found.completeness
            flag = sf.step(sf.with_completeness, expected=part.expected, arrived=part.arrived)
            keyed = sf.step(partial(with_key, key="k"), name="keyed", restart=True)
            frame = sf.local_sequencer(run, found.frame, [flag, keyed])
            sf.write(run, "lake", frame, sink or sf.delta(str(tmp_path / "lake"), partition_by="key"))
            sf.report_completeness(run, "days", frame, table=str(tmp_path / "completeness"), notify_by="FLOW_NOTIFY")
        return run

    def lake(name="lake"):
        return stored(tmp_path / name, "id", "n", "is_approximate")

    go.lake = lake
    go.report = lambda: DeltaTable(str(tmp_path / "completeness")).to_pyarrow_table().to_pylist()
    return go


def with_key(frame, *, key):
    return frame.selectExpr(f"'{key}' AS key", "*")


def branches(run):
    return {o.node.removeprefix("hours/"): o.state for o in run.outcomes if o.kind == "branch"}


def test_a_partial_key_says_so_and_the_gap_is_filled_by_the_same_command(day, away, notified, tmp_path):
    away("06", "07")
    run = day()
    assert branches(run) == {"05": "succeeded", "06": "skipped", "07": "skipped", "08": "succeeded"}
    assert day.lake() == [("05", 0, True), ("08", 3, True)]
    (row,) = day.report()
    expected = {"dataset": "days", "key": "k", "fan_in": "hours", "expected": 4, "arrived": 2, "ratio": 0.5}
    expected |= {"missing": ["06", "07"], "is_approximate": True, "generation": 1, "run": run.run_id}
    assert {name: row[name] for name in expected} == expected
    tag = json.loads(DeltaTable(str(tmp_path / "lake")).history()[0]["userMetadata"])["spark_flow"]
    assert tag["completeness"][0]["missing"] == ["06", "07"]
    assert [told["title"] for told in notified] == ["days k is approximate"]
    assert "2 of 4 = 50%" in notified[0]["message"]
    assert run.summary()["state"] == "succeeded"
    assert run.summary()["completeness"][0]["ratio"] == 0.5

    away("06", "07", back=True)
    run = day()
    assert branches(run) == {"05": "reused", "06": "succeeded", "07": "succeeded", "08": "reused"}
    assert day.lake() == [("05", 0, False), ("06", 1, False), ("07", 2, False), ("08", 3, False)]
    (row,) = day.report()
    assert (row["ratio"], row["missing"], row["is_approximate"]) == (1.0, [], False)
    assert len(notified) == 1
    assert DeltaTable(str(tmp_path / "lake")).version() == 1


def test_the_same_partial_key_again_reuses_all_and_needs_no_spark(day, away, notified):
    away("06")
    day()
    run = day(run_options={"spark": lambda: pytest.fail("no session is needed")})
    assert run.summary()["state"] == "reused"
    assert {n: s for n, s in states(run).items() if s != "reused"} == {"hours/06": "skipped"}
    assert len(notified) == 1


def test_what_failed_and_what_has_not_arrived_are_told_apart(day, away, tmp_path):
    away("06")
    (tmp_path / "hour=07" / "a.json").write_text("{\n")
    run = day()
    assert branches(run) == {"05": "succeeded", "06": "skipped", "07": "failed", "08": "succeeded"}
    (part,) = run.completeness
    assert list(part.failed) == ["07"]
    assert "a.json" in part.failed["07"]
    assert list(part.absent) == ["06"]
    assert "hour=06" in part.absent["06"]
    assert part.missing == ("06", "07")
    assert run.summary()["state"] == "succeeded"


def test_a_branch_that_is_a_function_has_not_arrived_when_its_path_is_not_there(spark, day, hours, tmp_path):
    def read_hour(name):
        return spark.read.schema(SCHEMA).json(str(tmp_path / f"hour={name}"))

    run = day({name: partial(read_hour, name) for name in ("05", "06", "24")})
    assert branches(run) == {"05": "succeeded", "06": "succeeded", "24": "skipped"}
    assert "hour=24" in run.completeness[0].absent["24"]


def test_a_plan_builds_one_of_the_branches_that_differ_in_their_folder_alone(day, away, hours):
    away("05", "07")
    run = day(run_options={"plan": True})
    assert branches(run) == {"05": "skipped", "06": "would run", "07": "skipped", "08": "would run"}
    assert [node for node in run.graph.built if node.startswith("hours/")] == ["hours/06"]
    inferred = day(dataclasses.replace(hours, schema=None), run_options={"plan": True})
    assert [node for node in inferred.graph.built if node.startswith("hours/")] == ["hours/06", "hours/08"]


def test_a_plan_builds_all_branches_for_a_merge_of_the_users(day):
    merged = day(run_options={"plan": True}, merge=lambda frames: frames["05"].union(frames["08"]))
    assert len([node for node in merged.graph.built if node.startswith("hours/")]) == len(HOURS)


def test_too_few_publish_nothing(day, away, tmp_path):
    away("06", "07")
    with pytest.raises(NotEnoughBranches) as failure:
        day(require=sf.at_least(0.9))
    assert (failure.value.arrived, failure.value.rule, list(failure.value.absent)) == (2, "at_least(0.9)", ["06", "07"])
    assert not (tmp_path / "lake").exists()
    assert not (tmp_path / "completeness").exists()
    away("06", "07", back=True)
    run = day(require=sf.at_least(0.9))
    assert branches(run) == {"05": "reused", "06": "succeeded", "07": "succeeded", "08": "reused"}


def test_none_and_no_fallback(day, away, state, spark):
    away(*HOURS)
    run = sf.Run.open("p", "k", state=state, spark=lambda: pytest.fail("no session is needed"))
    with pytest.raises(NotEnoughBranches), run:
        sf.unaligned_fan_in(run, "hours", sf.source("json", "no/{branch}", branches=HOURS), require=sf.all_done)
    assert run.summary()["state"] == "failed"


def test_the_fallback_is_an_error_table(day, away, tmp_path):
    away(*HOURS)
    for _ in range(2):
        with pytest.raises(TookFallback) as fallback:
            day(on_all_failed=sf.error_table(str(tmp_path / "errors")))
    assert fallback.value.exit_code == 1
    table = DeltaTable(str(tmp_path / "errors"))
    found = [(r["branch"], r["state"]) for r in table.to_pyarrow_table().to_pylist()]
    assert sorted(found) == [(name, "absent") for name in HOURS]
    assert table.version() == 0
    assert not (tmp_path / "lake").exists()


def test_the_fallback_is_a_function_whose_frame_is_published_and_the_run_is_no_success(spark, day, away, state):
    called = []

    def stand_in(completeness):
        called.append(completeness.missing)
        return spark.createDataFrame([("none", 0)], SCHEMA)

    away(*HOURS)
    run = None
    for _ in range(2):
        with pytest.raises(TookFallback):
            run = day(on_all_failed=stand_in)
    assert called == [HOURS]
    assert day.lake() == [("none", 0, True)]
    assert day.report()[0]["ratio"] == 0
    away(*HOURS, back=True)
    run = day(on_all_failed=stand_in)
    assert run.summary()["state"] == "succeeded"
    assert [n for n, _, _ in day.lake()] == list(HOURS)


def test_the_summary_of_a_run_that_took_the_fallback(spark, state):
    run = sf.Run.open("p", "k", state=state, spark=spark)
    none = {"a": lambda: 1 / 0}
    with pytest.raises(TookFallback), run:
        sf.unaligned_fan_in(run, "hours", none, require=sf.any_succeeded, on_all_failed=lambda _: None)
    summary = run.summary()
    assert summary["state"] == "fallback"
    assert {n["node"]: (n["kind"], n["state"]) for n in summary["nodes"]} == {
        "hours/a": ("branch", "failed"),
        "hours": ("merge", "skipped"),
        "hours/fallback": ("fallback", "succeeded"),
    }


def test_the_fallback_is_the_last_good_copy(day, away, lines):
    away(*HOURS)
    copy = sf.source("json", lines('{"id": "old", "n": 1}', name="copy"), schema=SCHEMA)
    with pytest.raises(TookFallback):
        day(on_all_failed=copy)
    assert day.lake() == [("old", 1, True)]


@pytest.mark.parametrize(
    ("source", "options", "error"),
    [
        ({}, {}, NoBranches),
        (None, {"require": sf.at_least(5)}, InvalidRule),
        ([("fallback", sum)], {"on_all_failed": sf.error_table("x")}, DuplicateNode),
    ],
)
def test_bad_input(day, hours, source, options, error):
    with pytest.raises(error):
        day(hours if source is None else source, **options)


def test_only_some_branches_and_the_merge_when_they_are_complete(day):
    with pytest.raises(NotAllArrived) as waiting:
        day(run_options={"only": ["hours/05", "hours/06"]})
    assert (waiting.value.missing, waiting.value.requested) == (("07", "08"), False)
    run = day(run_options={"only": ["hours/07", "hours/08"]})
    assert branches(run) == {"05": "reused", "06": "reused", "07": "succeeded", "08": "succeeded"}
    assert len(day.lake()) == 4


def test_private_staging_until_the_key_is_complete(spark, day, away, tmp_path):
    public, private = (sf.delta(str(tmp_path / name), partition_by="key") for name in ("lake", "private"))
    sink = sf.staged(public, private)
    away("06")
    run = day(sink=sink)
    assert not (tmp_path / "lake").exists()
    assert len(day.lake("private")) == 3
    assert run.outcome("lake").reason.startswith("kept in staging")
    assert set(states(day(sink=sink)).values()) == {"reused", "skipped"}
    away("06", back=True)
    day(sink=sink)
    assert DeltaTable(str(tmp_path / "lake")).version() == 0
    assert [n for n, _, _ in day.lake()] == list(HOURS)
    assert day.lake("private") == []
    assert set(states(day(sink=sink)).values()) == {"reused"}


def test_killed_between_the_public_commit_and_the_emptying_of_staging(day, away, tmp_path):
    sink = sf.staged(*(sf.delta(str(tmp_path / name), partition_by="key") for name in ("lake", "private")))
    away("06")
    day(sink=sink)
    away("06", back=True)
    with pytest.raises(Killed):
        day(sink=sink, run_options={"observers": [killing("after_commit", "lake")]})
    assert len(day.lake("private")) == 3
    day(sink=sink)
    assert (len(day.lake()), day.lake("private"), DeltaTable(str(tmp_path / "lake")).version()) == (4, [], 0)


def test_a_public_table_that_was_lost_is_written_again_though_staging_remembers(day, away, tmp_path):
    sink = sf.staged(*(sf.delta(str(tmp_path / name), partition_by="key") for name in ("lake", "private")))
    away("06")
    day(sink=sink)
    away("06", back=True)
    day(sink=sink)
    shutil.rmtree(tmp_path / "lake")
    assert states(day(sink=sink))["lake"] == "succeeded"
    assert len(day.lake()) == 4


def test_a_set_with_a_staged_table_is_not_visible_before_it_is_complete(spark, state, hours, away, tmp_path):
    def publish():
        with sf.Run.open("p", "k", state=state, spark=spark) as run:
            frame = sf.unaligned_fan_in(run, "hours", hours, require=sf.any_succeeded).frame
            with sf.transaction(run, "publish") as tx:
                sinks = [sf.parquet(str(tmp_path / name)) for name in ("lake", "private")]
                sf.write(tx, "lake", frame, sf.staged(*sinks))
        return run

    away("06")
    assert states(publish())["publish"] == "skipped"
    with pytest.raises(SetNotVisible):
        sf.read_transaction(spark, "p", "k", state=state)
    away("06", back=True)
    publish()
    assert sf.read_transaction(spark, "p", "k", state=state)["lake"].count() == 4


def test_a_plain_folder_has_its_completeness_beside_the_data(day, away, tmp_path):
    away("06")
    day(sink=sf.json(str(tmp_path / "plain"), partition_by="key"))
    manifest = read_manifest(str(tmp_path / "plain" / "key=k"))
    assert manifest["spark_flow"]["completeness"][0]["missing"] == ["06"]
    assert manifest["spark_flow"]["completeness"][0]["is_approximate"] is True


def test_what_cannot_be_notified_fails_no_run_tells_no_secret_and_is_tried_again(
    day, away, notified, monkeypatch, capfd, caplog, state
):
    import os

    good = os.environ["FLOW_NOTIFY"]
    monkeypatch.setenv("FLOW_NOTIFY", "json://user:secret@127.0.0.1:1/")
    away("06")
    run = day()
    assert run.summary()["state"] == "succeeded"
    assert run.outcome("completeness/notify").state == "failed"
    monkeypatch.setenv("FLOW_NOTIFY", good)
    assert day().outcome("completeness/notify").state == "succeeded"
    assert len(notified) == 1
    events = DeltaTable(f"{state}/ledger").to_pyarrow_table().to_pylist()
    said = "".join([*capfd.readouterr(), caplog.text, json.dumps(events, default=str), json.dumps(run.summary())])
    assert "completeness/notify" in said
    assert "secret" not in said


def test_an_address_that_is_not_set_is_told(day, away, monkeypatch):
    monkeypatch.delenv("FLOW_NOTIFY", raising=False)
    away("06")
    assert day().outcome("completeness/notify").reason == "FLOW_NOTIFY is not set"


def test_a_lost_row_of_the_report_is_written_again(day, tmp_path):
    day()
    shutil.rmtree(tmp_path / "completeness")
    run = day()
    assert {n for n, s in states(run).items() if s == "succeeded"} == {"completeness"}
    assert len(day.report()) == 1


@pytest.mark.nightly  # by default the law of test_crash.py, which has more points
@pytest.mark.parametrize(
    ("point", "node"),
    [
        ("before_event", "hours/06"),
        ("before_event", "hours"),
        ("after_event", "hours"),
        ("after_commit", "lake"),
        ("after_event", "lake"),
        ("before_action", "completeness"),
        ("before_event", "completeness"),
        ("before_event", "completeness/notify"),
    ],
)
def test_killed_anywhere_and_repeated_equals_never_killed(day, away, notified, point, node):
    away("08")
    with pytest.raises(Killed):
        day(run_options={"observers": [killing(point, node)]})
    day()
    assert day.lake() == [("05", 0, True), ("06", 1, True), ("07", 2, True)]
    assert [(r["arrived"], r["missing"]) for r in day.report()] == [(3, ["08"])]
    # A notification is sent at least once: the service cannot be asked whether it got one.
    assert len(notified) == (2 if node == "completeness/notify" else 1)


@law(1)
@given(order=st.permutations(HOURS), late=st.integers(1, 3))
def test_the_order_in_which_branches_arrive_does_not_matter(spark, tmp_path_factory, hours, order, late):
    root = tmp_path_factory.mktemp("order")
    for part in (order[:late], order):
        branches = {h: hours.branch(h) if h in part else sf.source("json", f"{root}/none") for h in HOURS}
        with sf.Run.open("p", "k", state=f"{root}/state", spark=spark) as run:
            found = sf.unaligned_fan_in(run, "hours", branches, require=sf.any_succeeded)
            sf.write(run, "lake", found.frame, sf.delta(f"{root}/lake", replace_where="true"))
        assert stored(f"{root}/lake", "id") == sorted((h,) for h in part)
        assert found.completeness.is_approximate is (len(part) < len(HOURS))


def test_a_corrupt_branch_that_is_run_alone_is_a_failure_and_an_absent_one_waits(day, away, tmp_path):
    (tmp_path / "hour=07" / "a.json").write_text("{\n")
    with pytest.raises(BranchesFailed):
        day(run_options={"only": ["hours/07"]})
    away("06")
    with pytest.raises(NotAllArrived) as waiting:
        day(run_options={"only": ["hours/06"]})
    assert waiting.value.requested


def test_a_lost_error_table_is_written_again_and_another_error_replaces_the_first(day, hours, tmp_path):
    def fail(text):
        for name in HOURS:
            (tmp_path / f"hour={name}" / "a.json").write_text(text)
        with pytest.raises(TookFallback):
            day(on_all_failed=sf.error_table(str(tmp_path / "errors")))
        return {r["error"] for r in DeltaTable(str(tmp_path / "errors")).to_pyarrow_table().to_pylist()}

    first = fail("{\n")
    shutil.rmtree(tmp_path / "errors")
    assert fail("{\n") == first
    assert not fail('{"id": 5, "n": "x"}\n') & first


def test_a_fallbacks_lost_boundary_is_made_again(spark, day, away, state, tmp_path):
    called = []

    def stand_in(completeness):
        called.append(1)
        return spark.createDataFrame([("none", 0)], SCHEMA)

    away(*HOURS)
    for _ in range(2):
        with pytest.raises(TookFallback):
            day(on_all_failed=stand_in)
        shutil.rmtree(f"{state}/boundaries/p/k/g1/hours/fallback")
        shutil.rmtree(tmp_path / "lake")
    assert len(called) == 2


def test_two_reports_of_one_dataset_stand_beside_each_other(spark, state, hours, tmp_path):
    table = str(tmp_path / "completeness")
    with sf.Run.open("p", "k", state=state, spark=spark) as run:
        for name in ("left", "right"):
            found = sf.unaligned_fan_in(run, name, hours, require=sf.all_done)
            sf.report_completeness(run, "days", found, table=table, name=f"of-{name}")
    rows = DeltaTable(table).to_pyarrow_table().to_pylist()
    assert sorted(row["fan_in"] for row in rows) == ["left", "right"]


def test_a_report_that_was_committed_is_not_committed_again(day, tmp_path):
    with pytest.raises(Killed):
        day(run_options={"observers": [killing("before_event", "completeness")]})
    day()
    assert DeltaTable(str(tmp_path / "completeness")).version() == 0


def test_another_partial_state_is_told_again(day, away, notified):
    away("06", "07")
    day()
    away("06", back=True)
    day()
    assert ["missing 06, 07" in told["message"] for told in notified] == [True, False]


def test_state_lost_while_a_key_is_in_staging(day, away, state, tmp_path):
    sink = sf.staged(*(sf.delta(str(tmp_path / name), partition_by="key") for name in ("lake", "private")))
    away("06")
    day(sink=sink)
    shutil.rmtree(state)
    day(sink=sink)
    assert (len(day.lake("private")), DeltaTable(str(tmp_path / "private")).version()) == (3, 1)


def test_staging_that_could_never_be_emptied_is_refused_at_once(day, away, tmp_path):
    away("06")
    appends = sf.delta(str(tmp_path / "lake"), mode="append")
    with pytest.raises(CannotReplace):
        day(sink=sf.staged(appends, sf.delta(str(tmp_path / "private"), partition_by="key")))
    assert not (tmp_path / "private").exists()


def test_an_inner_fan_in_that_waits_is_a_branch_that_is_absent(spark, state, hours, away):
    away("06")
    with sf.Run.open("p", "k", state=state, spark=spark) as run:
        inner = sf.aligned_fan_in(run, "inner", hours)
        found = sf.unaligned_fan_in(
            run, "outer", {"inner": inner.frame, "05": hours.branch("05")}, require=sf.any_succeeded
        )
        assert found.frame.frame.count() == 1
    assert found.completeness.absent == {"inner": "06"}
    assert run.outcome("outer/inner").state == "skipped"


def test_a_branch_that_is_a_frame_whose_folder_is_missing_says_so(spark, state, hours, tmp_path):
    with sf.Run.open("p", "k", state=state, spark=spark) as run:
        none = sf.read(run, "none", sf.source("json", str(tmp_path / "none"), schema=SCHEMA))
        sf.unaligned_fan_in(run, "outer", {"none": none, "05": hours.branch("05")}, require=sf.any_succeeded)
    assert str(tmp_path / "none") in run.outcome("outer/none").reason


@pytest.mark.parametrize("options", [{"require": 0.5}, {"require": "at_least(0.5)"}, {"on_all_failed": "x"}])
def test_arguments_that_are_none_are_refused_before_anything_runs(day, options):
    with pytest.raises((InvalidRule, InvalidArgument)):
        day(**options)


def test_an_address_that_apprise_does_not_know_is_not_told(caplog, monkeypatch):
    monkeypatch.setenv("FLOW_BAD", "nosuchservice://user:secret@host/")
    caplog.set_level(logging.DEBUG)
    with pytest.raises(NotNotified) as error:
        notify.send("FLOW_BAD", "t", "b")
    assert "secret" not in caplog.text + str(error.value)
    logging.getLogger("apprise").error("heard")  # the guard is lifted again
    assert "heard" in caplog.text
