"""The exclusive choice: exactly one route runs, why is recorded, and a retry keeps the road."""

import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import states
from hypothesis import given
from hypothesis import strategies as st
from runs import new_run

import spark_flow as sf
from spark_flow.errors import InvalidCondition, InvalidName, MissingInput, NoBranches, NodeFailed, NotExclusive


@pytest.fixture
def choose(state, memory_ledger):
    """Choose between routes that note that they ran; returns the choice and the run."""

    def go(routes, *, key="2013-01-02", run_options=(), **options):
        taken = []
        noted = {name: (condition, lambda name=name: taken.append(name) or name) for name, condition in routes.items()}
        run = new_run("p", key, **{"state": state, "ledger": memory_ledger, **dict(run_options)})
        with run:
            choice = sf.exclusive_choice(run, "road", noted, **options)
        assert taken == ([choice.route] if choice.route else [])
        return choice, run

    return go


OLD, NEW = sf.by_date(before="2013-01-03"), sf.by_date(since="2013-01-03")


@pytest.mark.parametrize(("key", "route"), [("2013-01-02", "old"), ("2013-01-03", "new"), ("2013-01-03-07", "new")])
def test_by_date(choose, key, route):
    choice, _ = choose({"old": OLD, "new": NEW}, key=key)
    assert (choice.route, choice.result) == (route, route)


def test_by_date_a_range(choose):
    routes = {"in": sf.by_date(since="2013-01-02", before="2013-01-04"), "out": None}
    keys = ("2013-01-01", "2013-01-02", "2013-01-03", "2013-01-04")
    assert [choose(routes, key=k, default="out")[0].route for k in keys] == ["out", "in", "in", "out"]


def kind(value):
    allowed = ("csv", "delta")
    return {each: sf.by_parameter("output_type", value, each, allowed=allowed) for each in allowed}


def test_by_parameter(choose):
    assert choose(kind("delta"))[0].route == "delta"


def test_an_unknown_value_of_a_parameter_lists_those_allowed():
    with pytest.raises(InvalidCondition, match="csv, delta"):
        kind("orc")


def test_the_reason_and_the_routes_not_taken_are_in_the_summary(choose):
    _, run = choose({"old": OLD, "new": NEW})
    nodes = {n["node"]: (n["kind"], n["state"], n["reason"]) for n in run.summary()["nodes"]}
    assert nodes == {
        "road": ("choice", "succeeded", "old: key before 2013-01-03: yes, key = 2013-01-02"),
        "road/new": ("choice", "skipped", "not taken: key since 2013-01-03: no, key = 2013-01-02"),
    }


def test_a_retry_keeps_the_road_and_a_rerun_decides_anew(choose):
    assert choose(kind("csv"))[0].route == "csv"
    choice, run = choose(kind("delta"))
    assert (choice.route, states(run)["road"]) == ("csv", "reused")
    assert "--rerun decides again" in choice.reason
    assert choose(kind("delta"), run_options={"rerun": True})[0].route == "delta"


def test_another_condition_decides_anew(choose):
    choose({"old": OLD, "new": NEW})
    routes = {"old": sf.by_date(before="2013-01-02"), "new": sf.by_date(since="2013-01-02")}
    assert choose(routes)[0].route == "new"


@pytest.mark.parametrize(
    ("routes", "holding"),
    [
        ({"a": sf.by_share(0), "b": NEW}, ()),
        ({"a": sf.by_share(1), "b": OLD}, ("a", "b")),
    ],
)
def test_none_or_several_without_a_default_is_an_error_that_tells_all(choose, routes, holding):
    with pytest.raises(NotExclusive) as error:
        choose(routes)
    assert (error.value.holding, list(error.value.conditions)) == (holding, ["a", "b"])
    assert "key = 2013-01-02" in str(error.value)
    choice, run = choose({**routes, "c": None}, default="c")
    assert (choice.route, states(run)["road/a"]) == ("c", "skipped")


@pytest.mark.parametrize(
    ("routes", "options", "error"),
    [
        ({}, {}, NoBranches),
        ({"a/b": OLD}, {}, InvalidName),
        ({"a": None, "b": OLD}, {}, InvalidCondition),
        ({"a": OLD}, {"default": "b"}, InvalidCondition),
        ({"a": OLD, "b": sf.by_date(since="2013-01-02", before="2013-01-05")}, {}, InvalidCondition),
    ],
)
def test_bad_routes_are_refused_before_anything_runs(choose, routes, options, error):
    with pytest.raises(error):
        choose(routes, **options)


@pytest.mark.parametrize(
    "make",
    [
        sf.by_date,
        lambda: sf.by_date(since="yesterday"),
        lambda: sf.by_date(since="2013-01-03", before="2013-01-03"),
        lambda: sf.by_share(1.5),
        lambda: sf.by_share(True),
        lambda: sf.by_schema(None),
        lambda: sf.by_data(None, at_least=0),
        lambda: sf.by_data(None, at_least=9, within=5),
        lambda: sf.by_date(since="2013-01-03").ask("first"),
    ],
)
def test_bad_conditions(make):
    with pytest.raises(InvalidCondition):
        make()


@given(share=st.floats(0, 1), salt=st.text(max_size=3), key=st.text(min_size=1, max_size=5))
def test_a_share_is_stable_and_grows_with_the_share(share, salt, key):
    one = sf.by_share(share, salt=salt).ask(key)
    assert one == sf.by_share(share, salt=salt).ask(key)
    assert not one.holds or sf.by_share(1, salt=salt).ask(key).holds


def test_a_share_of_the_keys_goes_down_one_road():
    went = sum(sf.by_share(0.2).ask(f"key-{n}").holds for n in range(5000))
    assert 900 < went < 1100


def test_metadata_costs_less_than_50_ms(choose):
    began = time.monotonic()
    choose({"old": OLD, "new": NEW})
    assert time.monotonic() - began < 0.05


# ------------------------------------------------------------------------------------------ schemas and data


@pytest.fixture
def jobs(spark):
    """The number of Spark jobs that were started so far."""
    return lambda: len(spark.sparkContext.statusTracker().getJobIdsForGroup(None))


@pytest.mark.spark
@pytest.mark.parametrize(
    ("stored", "delay", "peeked"),
    [("delta", "double", True), ("parquet", "double", True), ("json", "double", False), ("csv", "string", False)],
)
def test_by_schema_of_a_source_launches_no_spark_job_where_metadata_tells(
    spark, choose, tmp_path, jobs, stored, delay, peeked
):
    frame = spark.createDataFrame([("AA", 5, 1.5)], "carrier STRING, seats INT, delay DOUBLE")
    frame.write.format(stored).option("header", "true").save(str(tmp_path / "in"))
    source = sf.source(stored, str(tmp_path / "in"), options={"header": "true"} if stored == "csv" else {})
    before = jobs()
    has = choose({"a": sf.by_schema(source, has=["Carrier"], fields=3), "b": None}, default="b")[0]
    lacks = choose({"a": sf.by_schema(source, has=["origin"]), "b": None}, default="b", key="k")[0]
    typed = choose({"a": sf.by_schema(source, types={"delay": delay}), "b": None}, default="b", key="k2")[0]
    assert [c.route for c in (has, lacks, typed)] == ["a", "b", "a"]
    assert (jobs() == before) is peeked


HEADER = {"header": "true"}
SOURCES = {
    "sep": ("csv", "id;name;seats\n1;x;3\n", {**HEADER, "sep": ";"}),
    "time": ("json", '{"seats": 1, "at": "2013-01-02 05:00:00"}\n', {}),
    "ragged": ("csv", "id,seats\n1,2\n3\n", HEADER),
    "object, then text": ("json", '{"seats": {"a": 1}}\n{"seats": "text"}\n', {}),
    "array": ("json", '[\n {"seats": 1},\n {"seats": 2}\n]\n', {"multiLine": "true"}),
    "inferred": ("csv", "seats,at\n1,2013-01-02\n", {**HEADER, "inferSchema": "true"}),
}


@pytest.mark.spark
@pytest.mark.parametrize(("kind", "text", "options"), SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("alone", [False, True])
def test_by_schema_of_a_source_answers_as_the_frame_that_a_read_gives(spark, tmp_path, kind, text, options, alone):
    path = tmp_path / "hour=05" / "a.txt"
    path.parent.mkdir()
    path.write_text(text)
    source = sf.source(kind, str(path if alone else tmp_path), options=options)
    frame = spark.read.format(kind).options(**options).load(source.path)
    for question in ({"has": ["seats"]}, {"types": {"at": "string"}}, {"types": {"seats": "int"}}, {"has": ["hour"]}):
        assert sf.by_schema(source, **question).ask("k") == sf.by_schema(frame, **question).ask("k")


@pytest.mark.spark
def test_by_schema_of_parquet_that_spark_did_not_write(spark, tmp_path):
    (tmp_path / "hour=05").mkdir()
    table = pa.table({"at": pa.array([1], pa.timestamp("us", "UTC")), "n": pa.array([1], pa.uint32())})
    pq.write_table(table, tmp_path / "hour=05" / "a.parquet")
    types = {"at": "timestamp", "n": "bigint", "hour": "int"}
    assert sf.by_schema(sf.source("parquet", str(tmp_path)), types=types).ask("k").holds


@pytest.mark.parametrize(("columns", "holds"), [(2, False), (3, True), (4, True)])
@pytest.mark.spark
def test_by_schema_with_a_least_number_of_columns(spark, columns, holds):
    frame = spark.range(1).selectExpr(*(f"id AS c{at}" for at in range(columns)))
    assert sf.by_schema(frame, min_fields=3).ask("k").holds is holds


@pytest.mark.spark
def test_a_plan_does_not_read_data_for_a_schema(choose, lines, jobs):
    condition = sf.by_schema(sf.source("json", lines('{"a": 1}')), has=["a"])
    assert isinstance(condition, sf.Condition)
    before = jobs()
    choice, _ = choose({"a": condition, "b": None}, default="b", run_options={"plan": True})
    assert (choice.route, jobs()) == ("", before)


@pytest.mark.spark
def test_by_schema_of_a_frame_launches_no_spark_job(spark, choose, lines, jobs):
    source = sf.source("json", lines('{"a": 1}'), schema="a INT, b STRING")
    before = jobs()
    routes = {"two": sf.by_schema(source, fields=2), "typed": sf.by_schema(spark.range(1), types={"id": "string"})}
    assert choose(routes)[0].route == "two"
    assert jobs() == before


@pytest.mark.spark
def test_a_source_that_is_not_there(choose, tmp_path):
    with pytest.raises((NodeFailed, MissingInput)):
        choose({"a": sf.by_schema(sf.source("json", str(tmp_path / "none")), has=["a"])})


@pytest.mark.spark
def test_by_data_exists_and_counts_and_its_cost_is_recorded(spark, choose):
    frame = spark.range(100)
    routes = {"some": sf.by_data(frame, where="id > 97"), "many": sf.by_data(frame, where="id > 97", at_least=3)}
    choice, run = choose(routes)
    assert choice.route == "some"
    assert run.outcome("road").detail["cost_ms"] > 0
    assert " ms)" in choice.reason
    assert choose({"any": sf.by_data(frame, at_least=100)}, key="k")[0].route == "any"


@pytest.mark.spark
def test_by_data_is_never_a_full_scan(spark, choose):
    frame = spark.range(0, 2_000_000, 1, 20)
    began = time.monotonic()
    assert choose({"a": sf.by_data(frame)})[0].route == "a"
    assert time.monotonic() - began < 5
    tracker = spark.sparkContext.statusTracker()
    stages = [s for j in tracker.getJobIdsForGroup(None) if (info := tracker.getJobInfo(j)) for s in info.stageIds]
    assert (tracker.getStageInfo(max(stages)).numTasks) == 1


@pytest.mark.spark
@pytest.mark.parametrize("where", ["delay > 1", "id > 1 and"])
def test_by_data_on_what_cannot_be_asked(spark, choose, where):
    with pytest.raises(InvalidCondition, match="id"):
        choose({"a": sf.by_data(spark.range(1), where=where)})


@pytest.mark.spark
def test_new_data_does_not_change_the_road_of_a_retry(spark, choose):
    few, many = spark.range(1), spark.range(10)

    def routes(frame):
        return {"many": sf.by_data(frame, at_least=5), "few": None}

    assert choose(routes(few), default="few")[0].route == "few"
    assert choose(routes(many), default="few")[0].route == "few"
    assert choose(routes(many), default="few", run_options={"rerun": True})[0].route == "many"


@pytest.mark.spark
def test_a_plan_tells_metadata_choices_and_reads_no_data(spark, choose, jobs):
    choice, run = choose({"old": OLD, "new": NEW}, run_options={"plan": True})
    assert (choice.route, states(run)["road"]) == ("old", "would run")
    before = jobs()
    choice, run = choose({"a": sf.by_data(spark.range(1))}, run_options={"plan": True})
    assert (choice.route, states(run)["road"], jobs()) == ("", "would run", before)
    assert "decided by data" in choice.reason


@pytest.mark.parametrize(("written", "found"), [("INT", "int"), ("integer", "int"), ("bool", "boolean")])
def test_types_as_people_write_them(written, found):
    condition = sf.by_schema(sf.source("json", "x"), types={"a": written})
    assert condition.text == f"a is {found}"


@pytest.mark.parametrize(
    "make",
    [
        lambda: sf.by_schema(sf.source("json", "x"), types={"a": "itn"}),
        lambda: sf.by_schema(sf.source("json", "x"), fields="3"),
        lambda: sf.by_schema(sf.source("json", "x"), fields=0),
        lambda: sf.by_schema(sf.source("json", "x"), min_fields=True),
        lambda: sf.by_schema("x", has=["a"]),
        lambda: sf.by_data("x"),
        lambda: sf.by_data(None, at_least="2"),
        lambda: sf.by_parameter("n", "cs", "cs", allowed="csv"),
        lambda: sf.by_date(since="20130103"),
        lambda: sf.by_date(since="2013-W01-2"),
        lambda: sf.by_date(since="2013-01-01").ask("2013-01-02x"),
    ],
)
def test_conditions_that_could_never_hold_are_refused(make):
    with pytest.raises(InvalidCondition):
        make()


def test_a_single_column_is_a_list_of_one():
    assert sf.by_schema(sf.source("json", "x"), has="cancelled").text == "has cancelled"


@pytest.mark.spark
def test_another_source_is_another_question(choose, lines):
    one, other = (sf.source("json", lines("{}", name=n), schema=f"{n} INT") for n in "ab")
    for source, route in ((one, "no"), (other, "yes")):
        assert choose({"yes": sf.by_schema(source, has=["b"]), "no": None}, default="no")[0].route == route


@pytest.mark.parametrize("route", [OLD, (OLD,), (OLD, 5)])
def test_a_route_is_a_condition_and_a_function(state, memory_ledger, route):
    run = sf.Run.open("p", "2013-01-02", state=state, ledger=memory_ledger)
    with pytest.raises(InvalidCondition):
        sf.exclusive_choice(run, "road", {"a": route})
