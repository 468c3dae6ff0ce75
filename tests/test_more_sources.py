"""Sources beyond files of JSON, CSV, Parquet and Delta by path: other formats, tables by name, databases, waiting."""

import threading
import time
from pathlib import Path

import pytest
from conftest import rows, states
from runs import new_run

import spark_flow as sf
from spark_flow import Wait, jobfile
from spark_flow.core.clock import Clock
from spark_flow.errors import (
    ConfigError,
    InvalidArgument,
    InvalidName,
    MissingInput,
    NotArrived,
    NotRecorded,
    SourceNotReadable,
)
from spark_flow.storage.arrivals import data_files, until_there


@pytest.fixture
def table(spark, tmp_path):
    """A Delta table in the session's catalog: its name."""
    spark.sql(f"CREATE TABLE orders (id BIGINT) USING delta LOCATION '{tmp_path}/orders'")
    spark.range(2).write.format("delta").mode("append").saveAsTable("orders")
    yield "orders"
    spark.sql("DROP TABLE IF EXISTS orders")


def read(run, source, name="in"):
    """A source's rows, through a checkpoint."""
    return rows(sf.local_sequencer(run, sf.read(run, name, source), [sf.step(lambda f: f, name="all")]).frame)


# --- other formats --------------------------------------------------------------------------------------------------


@pytest.mark.spark
@pytest.mark.parametrize("schema", [None, "id BIGINT NOT NULL"])
def test_any_format_of_sparks_files_is_read_with_its_arrivals(spark, state, tmp_path, schema):
    spark.range(3).write.orc(str(tmp_path / "in"))
    with new_run("p", "k1", state=state, spark=spark) as run:
        assert read(run, sf.source("orc", str(tmp_path / "in"), schema=schema)) == [(0,), (1,), (2,)]
        assert run.graph.inputs["in"]["files"] > 0


@pytest.mark.spark
def test_a_glob_pattern_and_folders_that_are_columns(spark, state, tmp_path):
    for day in ("2024-03-01", "2024-03-02", "2024-04-01"):
        spark.range(1).write.parquet(f"{tmp_path}/in/date={day}")
    with new_run("p", "k1", state=state, spark=spark) as run:
        march = sf.source("parquet", f"{tmp_path}/in/date=2024-03-*", options={"basePath": f"{tmp_path}/in"})
        frame = sf.read(run, "march", march).frame
        assert sorted(str(row.date) for row in frame.collect()) == ["2024-03-01", "2024-03-02"]
        assert len(read(run, sf.source("parquet", f"{tmp_path}/in"), "all_days")) == 3


@pytest.mark.spark
def test_a_table_of_a_database_is_read_as_it_is_at_each_attempt(spark, state, tmp_path):
    """Derby, which Spark brings along: a real database within the session's JVM."""
    url = f"jdbc:derby:{tmp_path}/db;create=true"
    options = {"url": url, "dbtable": "rates", "driver": "org.apache.derby.jdbc.EmbeddedDriver"}
    spark.range(2).write.format("jdbc").options(**options).save()
    source = sf.source("jdbc", options=options)
    with new_run("p", "k1", state=state, spark=spark) as run:
        assert len(read(run, source)) == 2
    spark.range(1).write.format("jdbc").options(**options).mode("append").save()
    with new_run("p", "k1", state=state, spark=spark) as run:
        assert len(read(run, source)) == 3
    with new_run("p", "k1", state=state, plan=True, spark=spark) as run:
        _ = sf.read(run, "in", source).frame
    assert "not pinned" in run.outcome("in").reason
    redo = jobfile.Redo(frozenset(["late"]), frozenset(["in"]))
    with pytest.raises(NotRecorded), new_run("p", "k1", state=state, spark=spark, redo=redo) as run:
        _ = sf.read(run, "in", source).frame


@pytest.mark.spark
def test_a_database_that_is_down_is_asked_again_and_then_named_without_its_password(spark, state, monkeypatch):
    from spark_flow.storage import sources

    monkeypatch.setattr(sources, "_PAUSE", 0.01)
    options = {
        "url": "jdbc:derby://127.0.0.1:1/db",
        "dbtable": "t",
        "user": "etl",
        "password": "hunter2",
        "driver": "org.apache.derby.jdbc.EmbeddedDriver",
    }
    with pytest.raises(SourceNotReadable) as fault, new_run("p", "k1", state=state, spark=spark) as run:
        _ = sf.read(run, "rates", sf.source("jdbc", options=options)).frame
    assert (fault.value.source, fault.value.format, fault.value.exit_code) == ("rates", "jdbc", 1)
    assert ("hunter2" in str(fault.value), "127.0.0.1" in str(fault.value)) == (False, True)


# --- tables by name -------------------------------------------------------------------------------------------------


@pytest.mark.spark
def test_a_delta_table_by_name_is_pinned_for_the_generation(spark, state, table):
    source = sf.source("table", table)
    run = new_run("p", "k1", state=state, spark=spark)
    assert read(run, source) == [(0,), (1,)]
    spark.range(5, 6).write.format("delta").mode("append").saveAsTable(table)
    with new_run("p", "k1", state=state, spark=spark) as run:
        assert (read(run, source), states(run)["in"]) == ([(0,), (1,)], "reused")
    with new_run("p", "k1", state=state, spark=spark, rerun=True) as run:
        assert read(run, source) == [(0,), (1,), (5,)]
    with new_run("p", "k2", state=state, spark=spark) as run:
        assert read(run, sf.source("table", table, version=0)) == []


@pytest.mark.spark
def test_a_view_and_a_table_of_another_format_are_read_but_not_pinned(spark, state, table, tmp_path):
    spark.sql(f"CREATE OR REPLACE TEMP VIEW some_orders AS SELECT * FROM {table} WHERE id > 0")
    spark.sql(f"CREATE TABLE plain USING parquet LOCATION '{tmp_path}/plain' AS SELECT 7 AS id")
    try:
        with new_run("p", "k1", state=state, spark=spark) as run:
            assert read(run, sf.source("table", "some_orders"), "view") == [(1,)]
            assert rows(sf.read(run, "other", sf.source("table", "default.plain")).frame) == [(7,)]
        assert [run.outcome(node).reason for node in ("view", "other")] == ["not pinned: no Delta table"] * 2
    finally:
        spark.sql("DROP TABLE plain")
        spark.catalog.dropTempView("some_orders")


@pytest.mark.spark
@pytest.mark.parametrize("name", ["gone", "gone.orders", "spark_catalog.gone.orders"])
def test_a_table_that_is_not_there_is_missing(spark, state, name):
    with pytest.raises(MissingInput) as fault, new_run("p", "k1", state=state, spark=spark) as run:
        _ = sf.read(run, "in", sf.source("table", name)).frame
    assert fault.value.missing == (name,)


@pytest.mark.parametrize("name", ["", "a.b.c.d", "a..b"])
def test_what_is_no_tables_name_is_refused(name):
    with pytest.raises(InvalidName):
        sf.source("table", name)


def test_names_of_one_table_are_one_path():
    paths = {sf.source("table", name).paths for name in ("shop.Orders", "spark_catalog.shop.orders")}
    assert paths == {("table://shop.orders",)}


# --- waiting --------------------------------------------------------------------------------------------------------


class Time:
    """A clock that a pause sets forward; ``at`` maps seconds to what happens then."""

    def __init__(self, **at):
        self.now, self.at = 0.0, {float(name[1:]): do for name, do in at.items()}
        self.clock = Clock(monotonic=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds):
        self.now += seconds
        for at in [at for at in self.at if at <= self.now]:
            self.at.pop(at)()


def wait_at(folder, time_, **wait):
    reports = []

    def look():
        found = data_files(str(folder))
        return found or [], [] if found else [str(folder)]

    found, missing = until_there(look, Wait(**wait), began=0.0, report=reports.append, clock=time_.clock)
    return [Path(info.path).name for info in found], missing, reports


def test_files_that_come_late_are_waited_for(tmp_path):
    time_ = Time(s30=lambda: (tmp_path / "a.json").write_text("{}"))
    assert wait_at(tmp_path, time_, timeout=60, interval=10)[:2] == (["a.json"], [])
    assert time_.now == 30


def test_files_that_still_change_are_waited_for(tmp_path):
    file = tmp_path / "a.json"
    file.write_text("1")
    time_ = Time(s5=lambda: file.write_text("12"), s10=lambda: (tmp_path / "b.json").write_text("1"))
    found, missing, _ = wait_at(tmp_path, time_, timeout=60, stable_for=10, interval=5)
    assert (found, missing, time_.now) == (["a.json", "b.json"], [], 20)


def test_at_the_timeout_it_is_named_what_is_missing_or_changes(tmp_path):
    _, missing, reports = wait_at(tmp_path, Time(), timeout=7, interval=5)
    assert (missing, reports) == ([str(tmp_path)], [f"{tmp_path}; 7 s left", f"{tmp_path}; 2 s left"])
    (tmp_path / "a.json").write_text("1")
    _, missing, _ = wait_at(tmp_path, Time(), timeout=7, stable_for=10, interval=5)
    assert missing == [f"{tmp_path}/a.json, which still change"]


@pytest.mark.parametrize("wrong", [{"timeout": -1}, {"timeout": 1, "stable_for": -1}, {"timeout": 1, "interval": 0}])
def test_what_cannot_be_waited_for_is_refused(wrong):
    with pytest.raises(InvalidArgument):
        Wait(**wrong)


@pytest.mark.spark
def test_a_fan_in_waits_for_each_branch_and_goes_on_without_one_at_the_timeout(spark, state, lines, tmp_path):
    lines('{"id": 5}', name="05")
    late = threading.Timer(1.5, lambda: lines('{"id": 6}', name="06"))
    late.start()
    hours = sf.source(
        "json",
        f"{tmp_path}/{{branch}}",
        schema="id INT",
        branches=["05", "06", "07"],
        wait=Wait(timeout=6, stable_for=0.2, interval=0.2),
    )
    began = time.monotonic()
    with new_run("p", "k1", state=state, spark=spark) as run:
        day = sf.unaligned_fan_in(run, "hours", hours, require=sf.at_least(2))
        assert rows(day.frame.frame.select("id")) == [(5,), (6,)]
    late.join()
    assert day.completeness.missing == ("07",)
    assert time.monotonic() - began >= 6 - 1  # for the one that never came
    with new_run("p", "k1", state=state, plan=True, spark=spark) as run:  # a plan waits for nothing
        sf.unaligned_fan_in(run, "hours", hours, require=sf.at_least(2))


@pytest.mark.spark
def test_at_the_timeout_a_run_waits_for_its_next_attempt_but_a_wrong_path_fails_at_once(spark, state, tmp_path):
    wait = Wait(timeout=0.3, interval=0.1)
    source = sf.source("json", f"{tmp_path}/in", schema="id INT", wait=wait)
    with pytest.raises(NotArrived) as fault, new_run("p", "k1", state=state, spark=spark) as run:
        _ = sf.read(run, "in", source).frame
    assert (fault.value.exit_code, run.summary()["state"]) == (75, "waiting")
    wrong = sf.source("json", f"{tmp_path}/gone/in", parent=f"{tmp_path}/gone", wait=Wait(timeout=600))
    with pytest.raises(MissingInput), new_run("p", "k2", state=state, spark=spark) as run:
        _ = sf.read(run, "in", wrong).frame


# --- in a file ------------------------------------------------------------------------------------------------------

JOB = """
pipeline: p
key: k1
spark: {spark.jars.packages: "org.postgresql:postgresql:42.7.4"}
sources:
  orders: {table: shop.orders}
  rates: {format: jdbc, options: {url: "jdbc:postgresql://db/shop", dbtable: rates}}
  hours: {format: json, path: "in/{branch}", branches: "05..06", schema: "id INT", wait: {timeout: 60, stable_for: 5}}
  old: {format: orc, path: in/old}
flow:
  - read: orders
  - write: {name: w, format: parquet, path: out}
"""


def test_sources_of_a_file(tmp_path):
    (tmp_path / "job.yaml").write_text(JOB)
    config = jobfile.load(tmp_path / "job.yaml")
    made = {name: model.source(None) for name, model in config.sources.items()}
    assert made["orders"].paths == ("table://shop.orders",)
    assert (made["rates"].paths, made["rates"].has_files) == ((), False)
    assert made["hours"].wait == Wait(timeout=60, stable_for=5)
    assert config.formats() == {"delta", "jdbc", "json", "orc"}
    assert config.spark == {"spark.jars.packages": "org.postgresql:postgresql:42.7.4"}


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("{table: shop.orders}", "{table: a.b.c.d}", "sources.orders.table"),
        ("{table: shop.orders}", "{table: shop.orders, format: delta}", "sources.orders.format"),
        ("{table: shop.orders}", "{table: shop.orders, path: x}", "sources.orders.path"),
        ("{table: shop.orders}", "{table: shop.orders, schema: 'id INT'}", "sources.orders.schema"),
        ("{table: shop.orders}", "{table: shop.orders, wait: {timeout: 5}}", "sources.orders.wait"),
        ("{table: shop.orders}", "{path: x}", "sources.orders.format"),
        ("{format: orc,", "{format: orcc,", "sources.old.format"),
        ("path: in/old", "version: 3, path: in/old", "sources.old.version"),
        (", path: in/old", "", "sources.old.path"),
        ("path: in/old", "path: in/old, bad_records: fail", "sources.old.bad_records"),
        ("timeout: 60", "timeout: 60s", "sources.hours.wait.timeout"),
        ("timeout: 60", "timeouts: 60", "sources.hours.wait.timeouts"),
        ("timeout: 60, ", "", "sources.hours.wait.timeout"),
        ("path: in/old", 'path: "in/*", wait: {timeout: 5}', "sources.old.wait"),
    ],
)
def test_what_is_no_source_is_refused_with_its_place(tmp_path, old, new, path):
    assert JOB.count(old) == 1
    (tmp_path / "job.yaml").write_text(JOB.replace(old, new))
    with pytest.raises(ConfigError) as fault:
        jobfile.load(tmp_path / "job.yaml")
    assert path in [problem.path for problem in fault.value.problems]
