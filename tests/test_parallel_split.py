"""The parallel split: one frame, read once, to several sinks; a failed branch spoils no other."""

import shutil
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from conftest import Killed, killing, law, states, stored, stored_csv
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import functions as F
from runs import new_run

import spark_flow as sf
from spark_flow.errors import (
    ApplicationFailed,
    BadRecords,
    BranchesFailed,
    ColumnClash,
    DuplicateNode,
    InvalidArgument,
    InvalidName,
    NoBranches,
    NotADataFrame,
    UnknownFormat,
)
from spark_flow.ledger import DeltaLedger

pytestmark = pytest.mark.spark
NIGHTLY = pytest.mark.nightly
SCHEMA = "key STRING NOT NULL, n INT"
KEYS = ("2013-01-01", "2013-01-02", "2013-01-03")


def tenfold(frame):
    return frame.withColumn("n", F.col("n") * 10)


def fails(frame):
    raise ValueError("broken")


@pytest.fixture
def folder(lines, tmp_path):
    for key in KEYS:
        lines(*[f'{{"key": "{key}", "n": {n}}}' for n in range(3)], name=f"in-{key}")
    return str(tmp_path / "in-")


@pytest.fixture
def split(spark, state, folder, tmp_path):
    """Split a key's rows into a Delta table, ten times as much into another, and CSV; returns the run."""

    def go(branches=None, *, key="2013-01-02", run_options=(), **options):
        run = new_run("p", key, **{"state": state, "spark": spark, **dict(run_options)})
        with run:
            frame = sf.read(run, "in", sf.source("json", folder + key, schema=SCHEMA))
            sf.parallel_split(run, frame, branches or go.branches(), **options)
        return run

    def branches(**changed):
        sinks = {name: sf.delta(str(tmp_path / name), partition_by="key") for name in ("lake", "tenfold")}
        legacy = sf.csv(str(tmp_path / "legacy"), partition_by="key")
        return {"lake": sinks["lake"], "tenfold": (tenfold, sinks["tenfold"]), "legacy": legacy, **changed}

    def tables():
        legacy = sorted(int(n) for (n,) in stored_csv(tmp_path / "legacy", "n"))
        return [*([n for (n,) in stored(tmp_path / name, "n")] for name in ("lake", "tenfold")), legacy]

    go.branches, go.tables = branches, tables
    go.versions = lambda: [DeltaTable(str(tmp_path / name)).version() for name in ("lake", "tenfold")]
    return go


def test_each_branch_gets_all_rows_and_a_second_run_needs_no_spark(split):
    run = split()
    assert split.tables() == [[0, 1, 2], [0, 10, 20], [0, 1, 2]]
    assert run.outcome("split").reason == "persisted in MEMORY_AND_DISK"
    assert (run.outcome("split").rows, set(states(run).values())) == (3, {"succeeded"})
    again = split(run_options={"spark": lambda: pytest.fail("no session is needed")})
    assert set(states(again).values()) == {"reused"}
    assert split.versions() == [0, 0]


@pytest.mark.parametrize(
    "share",
    [
        "MEMORY_AND_DISK",
        pytest.param("MEMORY_ONLY", marks=NIGHTLY),
        pytest.param("DISK_ONLY", marks=NIGHTLY),
        "boundary",
    ],
)
def test_the_source_is_read_once_before_any_branch_begins(split, folder, share):
    """With its files gone when the first branch begins, a second scan of the source would fail."""

    def gone(point, node, _):
        if point == "before_action" and node in ("lake", "tenfold", "legacy"):
            shutil.rmtree(folder + "2013-01-02", ignore_errors=True)

    split(share=share, run_options={"observers": [gone]})
    assert split.tables() == [[0, 1, 2], [0, 10, 20], [0, 1, 2]]


@pytest.mark.parametrize("branch", [{}, {"tenfold": None}])
def test_what_is_held_is_released_whatever_happens(spark, split, tmp_path, branch):
    # as ids: what earlier tests held may be collected meanwhile
    before = set(spark.sparkContext._jsc.getPersistentRDDs())
    if branch:
        broken = (fails, sf.delta(str(tmp_path / "tenfold"), partition_by="key"))
        with pytest.raises(BranchesFailed):
            split(split.branches(tenfold=broken))
    else:
        split()
    assert set(spark.sparkContext._jsc.getPersistentRDDs()) <= before


def test_a_failed_branch_spoils_no_other_and_is_written_alone_by_the_retry(split, tmp_path):
    sink = sf.delta(str(tmp_path / "tenfold"), partition_by="key")
    with pytest.raises(BranchesFailed) as failure:
        split(split.branches(tenfold=(fails, sink)))
    assert list(failure.value.errors) == ["tenfold"]
    assert "broken" in str(failure.value)
    run = split()
    assert {n: states(run)[n] for n in ("lake", "tenfold", "legacy")} == {
        "lake": "reused",
        "tenfold": "succeeded",
        "legacy": "reused",
    }
    assert split.tables() == [[0, 1, 2], [0, 10, 20], [0, 1, 2]]
    assert split.versions() == [0, 0]


def test_a_target_that_cannot_be_written_fails_its_branch_alone(split, tmp_path):
    (tmp_path / "legacy").write_text("a file where a folder should be")
    with pytest.raises(BranchesFailed) as failure:
        split()
    assert list(failure.value.errors) == ["legacy"]
    (tmp_path / "legacy").unlink()
    assert states(split())["legacy"] == "succeeded"
    assert split.tables() == [[0, 1, 2], [0, 10, 20], [0, 1, 2]]


def test_what_is_wrong_with_the_shared_frame_is_no_branchs_failure(split, folder):
    Path(folder + "2013-01-02", "a.json").write_text("{\n")
    with pytest.raises(BadRecords):
        split()


def test_branches_run_side_by_side(split):
    lock, running, most = threading.Lock(), [], []

    def slow(frame, name):
        with lock:
            running.append(name)
            most.append(len(running))
        time.sleep(0.5)
        with lock:
            running.remove(name)
        return frame

    sinks = split.branches()
    steps = {"lake": sinks["lake"], "tenfold": sinks["tenfold"][1]}
    split({n: (sf.step(partial(slow, name=n), name="slow"), sink) for n, sink in steps.items()})
    assert max(most) == 2


def test_loading_time_is_one_for_all_branches_and_retries_and_another_for_a_rerun(spark, split, tmp_path):
    def times(name):
        return sorted({time.replace(tzinfo=None) for (time,) in stored(tmp_path / name, "loading_time")})

    sink = sf.delta(str(tmp_path / "tenfold"), partition_by="key")
    with pytest.raises(BranchesFailed):
        split(split.branches(tenfold=(fails, sink)), loading_time="loading_time")
    time.sleep(0.01)
    split(loading_time="loading_time")
    (first,) = times("lake")
    assert times("tenfold") == [first]
    csv = spark.read.csv(str(tmp_path / "legacy"), header=True).select(F.to_timestamp("loading_time"))
    assert abs(csv.distinct().collect()[0][0] - first).total_seconds() < 0.001  # CSV holds milliseconds
    split(loading_time="loading_time", run_options={"rerun": True})
    (second,) = times("lake")
    assert second > first
    assert times("tenfold") == [second]


def test_a_column_of_the_users_is_not_clobbered_by_the_loading_time(split):
    with pytest.raises(ColumnClash):
        split(loading_time="N")


def test_within_a_transaction_all_become_visible_together(spark, state, folder, tmp_path):
    for expected in ("succeeded", "reused"):
        with sf.Run.open("p", "2013-01-02", state=state, spark=spark) as run:
            frame = sf.read(run, "in", sf.source("json", folder + "2013-01-02", schema=SCHEMA))
            with sf.transaction(run, "publish") as tx:
                sinks = {n: sf.parquet(str(tmp_path / n), partition_by="key") for n in "dcba"}
                sf.parallel_split(tx, frame, sinks)
        assert {states(run)[n] for n in ("publish", "publish/a", "publish/split")} == {expected}
    assert sorted(sf.read_transaction(spark, "p", "2013-01-02", state=state)) == ["a", "b", "c", "d"]


def test_a_plan_writes_nothing_and_shows_every_branch(split, state):
    run = split(run_options={"plan": True}, mode="intermediary")
    assert {states(run)[n] for n in ("lake", "tenfold", "legacy", "split")} == {"would run"}
    assert not Path(state).exists()


@pytest.mark.parametrize(
    ("branches", "options", "error"),
    [
        ({}, {}, NoBranches),
        ({"a": sf.delta("x"), "b": sf.csv("./x")}, {}, DuplicateNode),
        ({"a": sf.delta("x"), "b": sf.csv("x/y")}, {}, DuplicateNode),
        ({"a": sf.delta("x/y"), "b": sf.csv("x")}, {}, DuplicateNode),
        ({"a/b": sf.delta("x")}, {}, InvalidName),
        ({"..": sf.delta("x")}, {}, InvalidName),
        ({"a": sf.delta("x")}, {"spark": {"b": {}}}, InvalidArgument),
    ],
)
def test_bad_branches_are_refused_before_anything_runs(spark, state, folder, branches, options, error):
    run = sf.Run.open("p", "k", state=state, spark=spark)
    frame = sf.read(run, "in", sf.source("json", folder + KEYS[0], schema=SCHEMA))
    with pytest.raises(error):
        sf.parallel_split(run, frame, branches, **options)


def test_a_transform_that_returns_no_frame_fails_its_branch(split, tmp_path):
    with pytest.raises(BranchesFailed) as failure:
        split({"lake": (sf.step(lambda _: None, name="nothing"), sf.delta(str(tmp_path / "lake"), partition_by="key"))})
    assert isinstance(failure.value.errors["lake"], NotADataFrame)


def wider(frame):
    return frame.withColumn("more", F.lit(1))


def as_text(frame):
    return frame.withColumn("n", F.col("n").cast("string"))


def spaced(frame):
    return frame.withColumnRenamed("n", "a,b")


def test_a_table_of_another_schema_is_refused_and_a_column_is_added_by_policy(spark, split, tmp_path):
    split()
    path = str(tmp_path / "lake")
    merging = sf.delta(path, partition_by="key", options={"mergeSchema": "true"})
    for transform in (wider, as_text, spaced):
        with pytest.raises(BranchesFailed) as failure:
            split({"lake": (transform, sf.delta(path, partition_by="key"))}, key="2013-01-03")
        assert list(failure.value.errors) == ["lake"]
    assert split.versions()[0] == 0
    split({"lake": (wider, merging)}, key="2013-01-03")
    assert [field.name for field in DeltaTable(path).schema().fields] == ["key", "n", "more"]
    with pytest.raises(BranchesFailed):
        split({"lake": (as_text, merging)}, key="2013-01-01")


@pytest.mark.parametrize(
    "node", ["lake", pytest.param("tenfold", marks=NIGHTLY), pytest.param("legacy", marks=NIGHTLY)]
)
@pytest.mark.parametrize("point", ["before_commit", "after_commit", "before_event"])
def test_killed_in_a_branch_and_repeated_each_row_is_there_once(split, node, point):
    with pytest.raises(Killed):
        split(run_options={"observers": [killing(point, node)]})
    split()
    assert split.tables() == [[0, 1, 2], [0, 10, 20], [0, 1, 2]]
    assert split.versions() == [0, 0]


@pytest.mark.nightly
@law(1)
@given(order=st.permutations(KEYS))
def test_the_order_of_days_does_not_matter(spark, folder, tmp_path_factory, order):
    root = tmp_path_factory.mktemp("order")
    for key in order:
        with sf.Run.open("p", key, state=f"{root}/state", spark=spark) as run:
            frame = sf.read(run, "in", sf.source("json", folder + key, schema=SCHEMA))
            sinks = {
                "lake": sf.delta(f"{root}/lake", partition_by="key"),
                "csv": sf.csv(f"{root}/csv", partition_by="key"),
            }
            sf.parallel_split(run, frame, sinks)
    assert len(stored(f"{root}/lake")) == 9
    assert spark.read.csv(f"{root}/csv", header=True).count() == 9


def test_three_days_at_once_lose_no_row(spark, split):
    threads = [threading.Thread(target=split, kwargs={"key": key}) for key in KEYS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert split.tables() == [sorted([0, 1, 2] * 3), sorted([0, 10, 20] * 3), sorted([0, 1, 2] * 3)]


def test_the_naive_rule_loses_a_day(spark, tmp_path):
    """Why ``txnVersion`` is never the execution date: an earlier day after a later one is dropped without a word."""
    path = str(tmp_path / "naive")
    for day in (20130103, 20130101, 20130102):
        options = {"txnAppId": "naive", "txnVersion": str(day)}
        spark.range(1).selectExpr(f"{day} AS day").write.format("delta").options(**options).mode("append").save(path)
    assert stored(path) == [(20130103,)]


def test_sinks_by_the_name_of_their_format(tmp_path):
    assert sf.sink("delta", "x", partition_by="key") == sf.delta("x", partition_by="key")
    assert sf.sink("csv", "x") == sf.csv("x")
    with pytest.raises(UnknownFormat) as error:
        sf.sink("detla", "x")
    assert error.value.known == ("delta", "csv", "json", "parquet")


def test_a_format_of_an_installed_package(tmp_path, monkeypatch):
    package = tmp_path / "own-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[spark_flow.sinks]\nown = own_format:own\n")
    (tmp_path / "own_format.py").write_text("def own(path, **settings):\n    return (path, settings)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert sf.sink("own", "x", partition_by="key") == ("x", {"partition_by": "key"})
    with pytest.raises(UnknownFormat) as error:
        sf.sink("none", "x")
    assert "own" in error.value.known


@pytest.mark.nightly
@pytest.mark.process
def test_intermediary_each_branch_is_an_application_with_its_own_settings(split, tmp_path):
    spark = {"lake": {"spark.sql.shuffle.partitions": "7"}, "tenfold": {"spark.driver.memory": "700m"}}
    run = split(mode="intermediary", spark=spark, loading_time="at")
    assert split.tables() == [[0, 1, 2], [0, 10, 20], [0, 1, 2]]
    details = {name: run.outcome(name).detail for name in ("lake", "tenfold", "legacy")}
    assert {name: detail["settings"] for name, detail in details.items()} == {**spark, "legacy": {}}
    assert len({detail["application"] for detail in details.values()}) == 3
    assert set(states(split(mode="intermediary", spark=spark, loading_time="at")).values()) == {"reused"}
    assert split.versions() == [0, 0]


def test_every_failed_branch_is_named(split, tmp_path):
    sink = sf.delta(str(tmp_path / "tenfold"), partition_by="key")
    with pytest.raises(BranchesFailed) as failure:
        split(split.branches(tenfold=(fails, sink), lake=(fails, sf.delta(str(tmp_path / "lake"), partition_by="key"))))
    assert sorted(failure.value.errors) == ["lake", "tenfold"]


def test_what_branches_share_is_recorded_once_and_read_at_one_version(spark, state, split, folder, tmp_path):
    spark.createDataFrame([(0,), (1,)], "n INT").write.format("delta").save(str(tmp_path / "dim"))
    at_once = threading.Barrier(2, timeout=20)

    def together(point, node, _):
        if point == "before_action" and node in ("lake", "other"):
            at_once.wait()

    def joined(frame, dim):
        return frame.join(dim, "n")

    run = sf.Run.open("p", "2013-01-02", state=state, spark=spark, observers=[together])
    with run:
        frame = sf.read(run, "in", sf.source("json", folder + "2013-01-02", schema=SCHEMA))
        dims = [sf.read(run, "dim", sf.source("delta", str(tmp_path / "dim"))) for _ in range(2)]
        sinks = [sf.delta(str(tmp_path / name), partition_by="key") for name in ("lake", "other")]
        steps = [sf.step(joined, dim=dim) for dim in dims]
        sf.parallel_split(run, frame, {"lake": (steps[0], sinks[0]), "other": (steps[1], sinks[1])})
    events = [e.node for e in DeltaLedger(state).read("p", "2013-01-02") if e.state == "succeeded"]
    assert (events.count("dim"), events.count("in")) == (1, 1)


def test_one_place_by_two_spellings_is_one_place(split, tmp_path):
    sinks = [sf.delta(path, partition_by="key") for path in (f"{tmp_path}/lake", f"file://{tmp_path}/lake")]
    with pytest.raises(DuplicateNode):
        split({"a": sinks[0], "b": sinks[1]})


def test_a_second_split_needs_a_name_of_its_own(spark, state, folder, tmp_path):
    run = sf.Run.open("p", "2013-01-02", state=state, spark=spark)
    frame = sf.read(run, "in", sf.source("json", folder + "2013-01-02", schema=SCHEMA))
    sf.parallel_split(run, frame, {"a": sf.parquet(str(tmp_path / "a"), partition_by="key")})
    other = {"b": sf.parquet(str(tmp_path / "b"), partition_by="key")}
    with pytest.raises(DuplicateNode, match="name="):
        sf.parallel_split(run, frame, other)
    assert sf.parallel_split(run, frame, other, name="second")["b"].rows == 3


def test_another_way_to_share_after_a_failure(split, tmp_path):
    sink = sf.delta(str(tmp_path / "tenfold"), partition_by="key")
    with pytest.raises(BranchesFailed):
        split(split.branches(tenfold=(fails, sink)))
    assert states(split(share="boundary"))["tenfold"] == "succeeded"
    assert split.tables()[1] == [0, 10, 20]


@pytest.mark.parametrize(
    ("branches", "options", "error"),
    [
        (["a"], {}, InvalidArgument),
        ({"a": "out/x"}, {}, InvalidArgument),
        ({"a": (sf.delta("x"),)}, {}, InvalidArgument),
        ({"split": sf.delta("x")}, {}, DuplicateNode),
        ({"a": sf.delta("x")}, {"share": "memory"}, InvalidArgument),
        ({"a": sf.delta("x")}, {"mode": "processes"}, InvalidArgument),
        ({"a": sf.delta("x")}, {"max_in_flight": 0}, InvalidArgument),
        ({"a": sf.delta("x")}, {"spark": {"a": {"spark.driver.memory": "1g"}}}, InvalidArgument),
    ],
)
def test_what_is_no_split_is_refused_before_anything_is_computed(spark, state, folder, branches, options, error):
    run = sf.Run.open("p", "k", state=state, spark=lambda: pytest.fail("no session is needed"))
    frame = sf.read(run, "in", sf.source("json", folder + KEYS[0], schema=SCHEMA))
    with pytest.raises(error):
        sf.parallel_split(run, frame, branches, **options)


def raises_at_run_time(frame):
    return frame.withColumn(
        "n", F.when(F.col("n") > 1, F.raise_error(F.lit("no good"))).otherwise(F.col("n")).cast("int")
    )


def hour_of_day(frame):
    return frame.withColumn("n", F.hour(F.timestamp_seconds(F.lit(0))))


@pytest.mark.nightly
def test_an_application_that_fails_is_told_and_one_that_does_not_has_the_parents_settings(
    spark, state, split, tmp_path
):
    zone = "spark.sql.session.timeZone"
    branches = split.branches(
        lake=(hour_of_day, sf.delta(str(tmp_path / "lake"), partition_by="key")),
        tenfold=(raises_at_run_time, sf.delta(str(tmp_path / "tenfold"), partition_by="key")),
    )
    before = spark.conf.get(zone)
    spark.conf.set(zone, "America/New_York")
    try:
        with pytest.raises(BranchesFailed) as failure:
            split({name: branches[name] for name in ("lake", "tenfold")}, mode="intermediary")
    finally:
        spark.conf.set(zone, before)
    assert list(failure.value.errors) == ["tenfold"]
    assert isinstance(failure.value.errors["tenfold"], ApplicationFailed)
    assert set(stored(tmp_path / "lake", "n")) == {(19,)}
    assert not Path(state, "handover", "p", "2013-01-02").exists()
