"""The aligned fan-in: all branches or none, each restartable."""

import shutil
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from conftest import Killed, killing, states, stored
from runs import new_run

import spark_flow as sf
from spark_flow.engine.mode import Mode
from spark_flow.errors import (
    BadRecords,
    BranchesFailed,
    DuplicateKeys,
    DuplicateNode,
    InvalidArgument,
    InvalidName,
    MissingColumns,
    NoBranches,
    NotADataFrame,
    NotAllArrived,
    TypeConflict,
    UnknownBranch,
)

pytestmark = pytest.mark.spark
SCHEMA = "id STRING NOT NULL, n INT"


def doubled(frame):
    return frame.selectExpr("id", "n * 2 AS n")


@pytest.fixture
def hours(lines, tmp_path):
    """A source with one folder for each of three hours."""
    for n, name in enumerate(("05", "06", "07")):
        lines(f'{{"id": "{name}", "n": {n}}}', name=f"hour={name}")
    path = str(tmp_path / "hour={branch}")
    return sf.source("json", path, schema=SCHEMA, branches=("05", "06", "07"))


@pytest.fixture
def daily(spark, state, tmp_path):
    """Run a fan-in of all hours into a table; returns the run."""

    def go(branches, *, run_options=(), **options):
        run = new_run("p", "k", **{"state": state, "spark": spark, **dict(run_options)})
        with run:
            fan_in = sf.aligned_fan_in(run, "hours", branches, **options)
            sf.write(run, "lake", fan_in.frame, sf.delta(str(tmp_path / "lake"), replace_where="true"))
        return run

    go.lake = lambda: stored(str(tmp_path / "lake"), "id", "n")
    return go


def test_all_branches_are_merged_and_a_second_run_needs_no_spark(daily, hours):
    first = daily(hours)
    assert daily.lake() == [("05", 0), ("06", 1), ("07", 2)]
    assert states(first) == dict.fromkeys(["hours/05", "hours/06", "hours/07", "hours", "lake"], "succeeded")
    again = daily(hours, run_options={"spark": lambda: pytest.fail("no session is needed")})
    assert set(states(again).values()) == {"reused"}
    assert again.summary()["state"] == "reused"


def test_the_merge_is_one_scan_of_all_branches(spark, state, hours):
    with sf.Run.open("p", "k", state=state, spark=spark) as run:
        frame = sf.aligned_fan_in(run, "hours", hours).frame.frame
        assert len(frame.inputFiles()) == 3
        assert not any("Union" in line for line in frame._jdf.queryExecution().toString().splitlines())


def test_a_corrupt_file_fails_its_branch_alone_and_the_retry_runs_it_alone(daily, hours, tmp_path):
    file = Path(hours.branch("06").paths[0], "a.json")
    good = file.read_text()
    file.write_text('{"id": "06", "n": \n')
    with pytest.raises(BranchesFailed) as failure:
        daily(hours)
    error = failure.value.errors["06"]
    assert isinstance(error, BadRecords)
    assert (error.source, error.file.rpartition("/")[2], list(failure.value.errors)) == ("hours/06", "a.json", ["06"])
    assert "06" in str(failure.value)
    assert "a.json" in str(failure.value)
    file.write_text(good)
    run = daily(hours)
    assert {n: s for n, s in states(run).items() if "/" in n} == {
        "hours/05": "reused",
        "hours/06": "succeeded",
        "hours/07": "reused",
    }
    assert daily.lake() == [("05", 0), ("06", 1), ("07", 2)]


def test_what_has_not_arrived_waits_and_is_no_failure(daily, hours):
    late = Path(hours.branch("07").paths[0])
    away = late.rename(late.with_name("away"))
    with pytest.raises(NotAllArrived) as waiting:
        daily(hours)
    assert (waiting.value.missing, waiting.value.exit_code, waiting.value.requested) == (("07",), 75, True)
    away.rename(late)
    assert states(daily(hours))["hours/05"] == "reused"
    assert daily.lake() == [("05", 0), ("06", 1), ("07", 2)]


def test_the_summary_of_a_waiting_run_says_so(spark, state, hours):
    late = Path(hours.branch("07").paths[0])
    late.rename(late.with_name("away"))
    run = sf.Run.open("p", "k", state=state, spark=spark)
    with pytest.raises(NotAllArrived), run:
        _ = sf.aligned_fan_in(run, "hours", hours).frame.frame
    summary = run.summary()
    assert summary["state"] == "waiting"
    assert summary["completeness"] == [
        {"node": "hours", "expected": 3, "arrived": 2, "ratio": 0.6667, "missing": ["07"], "is_approximate": True}
    ]
    by_node = {n["node"]: n for n in summary["nodes"]}
    assert by_node["hours/07"]["state"] == "skipped"
    assert by_node["hours/07"]["reason"].startswith("not arrived: ")


def test_branches_are_run_as_their_data_comes_and_the_merge_in_the_run_that_completes_them(daily, hours):
    for name in ("07", "05"):
        with pytest.raises(NotAllArrived) as waiting:
            daily(hours, run_options={"only": [f"hours/{name}"]})
        assert not waiting.value.requested
    with pytest.raises(NotAllArrived) as waiting:
        daily(hours, run_options={"only": ["hours/05", "hours"]})
    assert (waiting.value.missing, waiting.value.requested) == (("06",), True)
    run = daily(hours, run_options={"only": ["hours/06"]})
    assert states(run) == {
        "hours/05": "reused",
        "hours/06": "succeeded",
        "hours/07": "reused",
        "hours": "succeeded",
        "lake": "succeeded",
    }


def test_a_branch_that_there_is_not_is_refused(daily, hours):
    with pytest.raises(UnknownBranch) as failure:
        daily(hours, run_options={"only": ["hours/24"]})
    assert failure.value.known == ("hours/05", "hours/06", "hours/07")


def test_the_summary_names_the_slowest_branch_and_what_was_waited_for_it(spark, daily, hours):
    def slow():
        time.sleep(1)
        return spark.createDataFrame([("s", 9)], SCHEMA)

    run = daily([("05", hours.branch("05")), ("slow", slow)])
    reason = run.outcome("hours").reason
    assert "slowest slow with" in reason
    share = int(reason.rpartition("%")[0].rpartition(" ")[2])
    assert 20 < share <= 100


def test_a_branch_is_what_each_makes_of_it(daily, hours):
    daily(hours, each=doubled)
    assert daily.lake() == [("05", 0), ("06", 2), ("07", 4)]


def test_lazy_all_branches_are_one_plan_without_a_boundary(daily, hours, state):
    run = daily(hours, restart=False)
    assert daily.lake() == [("05", 0), ("06", 1), ("07", 2)]
    assert {o.node: o.reason for o in run.outcomes}["hours/05"] == "within lake"
    assert not Path(state, "boundaries").exists()
    assert set(states(daily(hours, restart=False)).values()) == {"reused"}


def test_at_most_max_in_flight_run_at_once(spark, daily):
    lock, running, most = threading.Lock(), [], []

    def branch(name):
        with lock:
            running.append(name)
            most.append(len(running))
        time.sleep(0.2)
        with lock:
            running.remove(name)
        return spark.createDataFrame([(name, 1)], SCHEMA)

    daily({name: partial(branch, name) for name in "abcdef"}, max_in_flight=2)
    assert max(most) == 2


def test_stop_interrupts_the_siblings_and_a_retry_goes_on(spark, daily, tmp_path):
    broken = tmp_path / "broken"
    broken.touch()

    def fails():
        if broken.exists():
            time.sleep(2)
            raise ValueError("broken")
        return spark.createDataFrame([("f", 1)], SCHEMA)

    def slow():
        if not broken.exists():
            return spark.createDataFrame([("s", 2)], SCHEMA)
        return spark.range(10**12).selectExpr("id % 7 AS n").groupBy("n").count().selectExpr("'s' AS id", "1 AS n")

    branches = {"fails": fails, "slow": slow}
    began = time.monotonic()
    with pytest.raises(BranchesFailed) as failure:
        daily(branches, on_failure="stop")
    assert time.monotonic() - began < 12
    assert str(failure.value.errors["fails"].cause) == "broken"
    broken.unlink()
    run = daily(branches, on_failure="stop")
    assert daily.lake() == [("f", 1), ("s", 2)]
    assert states(run)["hours/slow"] == "succeeded"


def test_what_has_not_begun_when_one_fails_is_not_begun_under_stop(spark, state):
    called = []

    def fails():
        raise ValueError("broken")

    def other():
        called.append(1)
        return spark.range(1)

    run = sf.Run.open("p", "k", state=state, spark=spark)
    branches = {"a": fails, **{f"b{n}": other for n in range(5)}}
    with pytest.raises(BranchesFailed) as failure, run:
        _ = sf.aligned_fan_in(run, "hours", branches, on_failure="stop", max_in_flight=1).frame.frame
    assert "a" in failure.value.errors
    assert len(called) < 5
    assert "skipped" in {o.state for o in run.outcomes if o.kind == "branch"}


@pytest.mark.parametrize(
    ("branches", "error"),
    [
        ({}, NoBranches),
        ([], NoBranches),
        ([("a", sum), ("a", sum)], DuplicateNode),
        ({"a/b": sum}, InvalidName),
        ({"..": sum}, InvalidName),
        ({"": sum}, InvalidName),
        ({7: sum}, InvalidName),
    ],
)
def test_bad_branches_are_refused_before_anything_runs(state, branches, error):
    with pytest.raises(error), sf.Run.open("p", "k", state=state) as run:
        sf.aligned_fan_in(run, "hours", branches)


def test_a_branch_that_returns_no_frame(daily):
    with pytest.raises(BranchesFailed) as failure:
        daily({"a": lambda: None})
    assert isinstance(failure.value.errors["a"], NotADataFrame)


def test_an_empty_branch_has_succeeded(spark, daily):
    run = daily(
        {"a": lambda: spark.createDataFrame([], SCHEMA), "b": lambda: spark.createDataFrame([("b", 1)], SCHEMA)}
    )
    assert (run.outcome("hours/a").state, run.outcome("hours/a").rows) == ("succeeded", 0)
    assert daily.lake() == [("b", 1)]


def test_columns_go_by_name_whatever_order_case_or_nullability(spark, daily):
    daily(
        {
            "a": lambda: spark.createDataFrame([("a", 1)], "id STRING NOT NULL, n INT"),
            "b": lambda: spark.createDataFrame([(2, "b")], "N INT NOT NULL, ID STRING"),
        }
    )
    assert daily.lake() == [("a", 1), ("b", 2)]


def test_types_that_differ_and_columns_that_lack_are_told(spark, daily):
    one = {"a": lambda: spark.createDataFrame([("a", 1)], "id STRING, n INT")}
    with pytest.raises(TypeConflict) as conflict:
        daily({**one, "b": lambda: spark.createDataFrame([("b", "x")], "id STRING, n STRING")})
    assert conflict.value.types == {"a": "int", "b": "string"}
    lacking = {**one, "c": lambda: spark.createDataFrame([("c",)], "id STRING")}
    with pytest.raises(MissingColumns):
        daily(lacking)
    daily(lacking, allow_missing_columns=True)
    assert daily.lake() == [("a", 1), ("c", None)]


def test_a_join_of_branches_refuses_to_multiply_rows(spark, state, tmp_path):
    def wide(names):
        run = sf.Run.open("p", "k", state=state, spark=spark)
        with run:
            chain = sf.local_sequencer(run, spark.createDataFrame([("a", 1)], "id STRING, n INT"), [doubled])
            right = partial(spark.createDataFrame, names, "id STRING, name STRING")
            join = partial(sf.join_all, on="id", how="left")
            fan_in = sf.aligned_fan_in(run, "wide", {"rows": chain, "names": right}, merge=join, restart=False)
            sf.write(run, "lake", fan_in.frame, sf.delta(str(tmp_path / "wide"), replace_where="true"))

    with pytest.raises(DuplicateKeys) as failure:
        wide([("a", "x"), ("a", "y")])
    assert (failure.value.branch, failure.value.key) == ("names", "id=a")
    wide([("a", "x")])
    assert stored(str(tmp_path / "wide")) == [("a", 2, "x")]


def test_a_lost_boundary_is_made_again_by_its_branch_alone(daily, hours, state, tmp_path):
    daily(hours)
    shutil.rmtree(next(Path(state).glob("boundaries/p/k/g1/hours/06")))
    shutil.rmtree(tmp_path / "lake")
    run = daily(hours)
    assert {n: s for n, s in states(run).items() if "/" in n} == {
        "hours/05": "reused",
        "hours/06": "succeeded",
        "hours/07": "reused",
    }


def test_a_plan_runs_nothing_and_says_what_would_run(spark, state, hours, tmp_path):
    run = sf.Run.open("p", "k", state=state, spark=spark, mode=Mode(plan=True))
    with run:
        fan_in = sf.aligned_fan_in(run, "hours", hours)
        sf.write(run, "lake", fan_in.frame, sf.delta(str(tmp_path / "lake"), replace_where="true"))
    assert set(states(run).values()) == {"would run"}
    assert not Path(state).exists()


@pytest.mark.parametrize("point", ["before_action", "after_commit", "before_event", "after_event"])
def test_killed_in_a_branch_and_repeated(daily, hours, point):
    with pytest.raises(Killed):
        daily(hours, run_options={"observers": [killing(point, "hours/06")]})
    daily(hours)
    assert daily.lake() == [("05", 0), ("06", 1), ("07", 2)]


def tripled(frame):
    return frame.selectExpr("id", "n * 3 AS n")


def test_another_each_runs_the_branches_again(daily, hours):
    daily(hours, each=doubled)
    run = daily(hours, each=tripled)
    assert {s for n, s in states(run).items() if "/" in n} == {"succeeded"}
    assert daily.lake() == [("05", 0), ("06", 3), ("07", 6)]


def first_only(frames):
    return frames["05"]


def test_another_merge_is_made_of_the_recorded_branches(daily, hours):
    daily(hours)
    run = daily(hours, merge=first_only)
    assert (states(run)["hours/05"], states(run)["lake"], daily.lake()) == ("reused", "succeeded", [("05", 0)])


def test_a_recorded_branch_does_not_need_its_data_any_more(daily, hours, tmp_path):
    daily(hours)
    for path in (hours.branch("06").paths[0], str(tmp_path / "lake")):
        shutil.rmtree(path)
    assert states(daily(hours))["hours/06"] == "reused"
    assert daily.lake() == [("05", 0), ("06", 1), ("07", 2)]


def test_asked_for_a_branch_alone_that_is_not_there(daily, hours):
    late = Path(hours.branch("07").paths[0])
    late.rename(late.with_name("away"))
    with pytest.raises(NotAllArrived) as waiting:
        daily(hours, run_options={"only": ["hours/07"]})
    assert waiting.value.requested


def test_branches_of_one_plan_cannot_be_run_alone(daily, hours):
    with pytest.raises(UnknownBranch) as failure:
        daily(hours, restart=False, run_options={"only": ["hours/05"]})
    assert failure.value.known == ()


def test_bad_records_of_many_branches_are_set_aside_at_the_same_time(spark, state, daily, lines, tmp_path):
    names = [f"{n:02d}" for n in range(6)]
    for name in names:
        lines(f'{{"id": "{name}", "n": 1}}', "{broken", name=f"q={name}")
    path = str(tmp_path / "q={branch}")
    daily(sf.source("json", path, schema=SCHEMA, branches=names, bad_records="quarantine"), max_in_flight=6)
    assert len(daily.lake()) == 6
    assert len(stored(f"{state}/quarantine/p")) == 6


@pytest.mark.parametrize(
    ("branches", "options"),
    [
        (["aa", "bb"], {}),
        ({"a": 5}, {}),
        ({"a": sf.source("json", "x")}, {"max_in_flight": 0}),
        ({"a": sf.source("json", "x")}, {"on_failure": "halt"}),
    ],
)
def test_arguments_that_are_none_are_refused(daily, branches, options):
    with pytest.raises(InvalidArgument):
        daily(branches, **options)


def test_branches_without_their_place_in_the_path_are_refused():
    with pytest.raises(InvalidArgument, match="branch"):
        sf.source("json", "x", branches=["a", "b"])


def test_a_frame_may_be_a_branch(spark, daily, hours):
    daily({"05": hours.branch("05"), "own": spark.createDataFrame([("own", 9)], SCHEMA)})
    assert daily.lake() == [("05", 0), ("own", 9)]
