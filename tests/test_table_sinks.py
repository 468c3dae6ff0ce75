"""Delta tables by their name in the catalog as sinks, and how their schemas may change."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Killed, at_night, killing, rows, stored
from runs import new_run

import spark_flow as sf
from jobs import ENVIRONMENT
from spark_flow.errors import InvalidArgument, InvalidName, MissingColumns, NewColumns
from spark_flow.operations.verify import verify


@pytest.fixture
def write(spark, state):
    def write_rows(key, *ids, sink, schema="id INT, day STRING", **options):
        frame = spark.createDataFrame([(each, key) if isinstance(each, int) else each for each in ids], schema)
        with new_run("p", key, **{"state": state, "spark": spark, **options}) as run:
            return sf.write(run, "orders", frame, sink)

    return write_rows


@pytest.mark.spark
def test_a_table_is_created_and_each_key_replaces_its_rows(spark, write, shop, state):
    sink = sf.delta(
        table="shop.orders", partition_by="day", comment="of the shop", properties={"delta.appendOnly": "false"}
    )
    first = write("d1", 1, 2, sink=sink)
    write("d2", 3, sink=sink)
    assert write("d1", 1, 2, sink=sink).state == "reused"
    write("d1", 4, sink=sink, rerun=True)
    assert rows(spark.table("shop.orders")) == [(3, "d2"), (4, "d1")]
    detail = spark.sql("DESCRIBE DETAIL shop.orders").collect()[0]
    assert (detail["description"], detail["partitionColumns"]) == ("of the shop", ["day"])
    assert detail["properties"]["delta.appendOnly"] == "false"
    assert (first.detail["table"], first.detail["path"]) == ("shop.orders", detail["location"].removeprefix("file:"))
    from spark_flow.ledger import DeltaLedger

    assert [found.state for found in verify(DeltaLedger(state).read("p", "d2"))] == ["ok"]


@pytest.mark.spark
@pytest.mark.parametrize("point", ["before_commit", *at_night("after_commit", "before_event")])
def test_killed_while_the_table_is_created_and_repeated(spark, write, shop, point):
    sink = sf.delta(table="shop.orders", partition_by="day")
    with pytest.raises(Killed):
        write("d1", 1, 2, sink=sink, observers=[killing(point, "orders")])
    write("d1", 1, 2, sink=sink)
    assert rows(spark.table("shop.orders")) == [(1, "d1"), (2, "d1")]


@pytest.mark.spark
def test_a_table_that_was_dropped_is_written_again(spark, write, shop):
    sink = sf.delta(table="shop.orders", partition_by="day")
    write("d1", 1, sink=sink)
    spark.sql("DROP TABLE shop.orders")
    assert write("d1", 1, sink=sink).state == "succeeded"
    assert rows(spark.table("shop.orders")) == [(1, "d1")]


@pytest.mark.spark
def test_a_clustered_table_needs_the_predicate_of_its_key(spark, write, shop):
    sink = sf.delta(table="shop.orders", cluster_by="id", replace_where="day = 'd1'")
    write("d1", 1, sink=sink)
    write("d1", 2, sink=sink, rerun=True)
    assert rows(spark.table("shop.orders")) == [(2, "d1")]
    assert spark.sql("DESCRIBE DETAIL shop.orders").collect()[0]["clusteringColumns"] == ["id"]


@pytest.mark.spark
def test_a_merge_into_a_table_by_name(spark, write, shop):
    sink = sf.delta(table="shop.orders", mode="merge", on="id")
    write("d1", 1, 2, sink=sink)
    write("d2", 2, 3, sink=sink)
    assert rows(spark.table("shop.orders")) == [(1, "d1"), (2, "d2"), (3, "d2")]


@pytest.mark.spark
def test_what_is_no_delta_table_is_refused_before_any_work(spark, write, shop):
    spark.sql("CREATE VIEW shop.seen AS SELECT 1 AS id")
    spark.sql("CREATE TABLE shop.plain USING parquet AS SELECT 1 AS id")
    for name, words in (("seen", "a view"), ("plain", "parquet")):
        with pytest.raises(InvalidArgument, match=words):
            write("d1", 1, sink=sf.delta(table=f"shop.{name}", partition_by="day"))


@pytest.mark.spark
def test_a_name_that_the_next_session_would_not_know_is_refused(spark, write):
    with pytest.raises(InvalidArgument, match="memory") as fault:
        write("d1", 1, sink=sf.delta(table="orders", partition_by="day"))
    assert "spark.sql.catalogImplementation" in fault.value.fix


@pytest.mark.spark
def test_columns_that_come_and_go_are_told_by_policy(spark, write, tmp_path):
    path = str(tmp_path / "t")
    how = {"partition_by": "day"}
    write("d1", 1, sink=sf.delta(path, **how))
    wider = "id INT, day STRING, email STRING"
    with pytest.raises(NewColumns):
        write("d2", (2, "d2", "x@y"), schema=wider, sink=sf.delta(path, schema="strict", **how))
    added = write("d2", (2, "d2", "x@y"), schema=wider, sink=sf.delta(path, schema="evolve", **how))
    assert added.reason == "written at version 1; added column(s) email"
    with pytest.raises(MissingColumns):
        write("d3", 3, sink=sf.delta(path, schema="strict", **how))
    gone = write("d3", 3, sink=sf.delta(path, schema="evolve", **how))
    assert gone.reason == "written at version 2; NULL in email, which the frame does not have"
    assert stored(path, "id", "email") == [(1, None), (2, "x@y"), (3, None)]


@pytest.mark.parametrize("name", ["a.b.c.d", "a..b", "."])
def test_what_is_no_tables_name_is_refused(name):
    with pytest.raises(InvalidName):
        sf.delta(table=name)


JOB = """
pipeline: shop
key: ???
root: .
state: state
spark:
  spark.sql.catalogImplementation: hive
  spark.sql.warehouse.dir: ROOT/warehouse
  spark.hadoop.javax.jdo.option.ConnectionURL: "jdbc:derby:ROOT/metastore;create=true"
sources:
  in: {format: json, path: in, schema: "id INT, day STRING"}
  there: {table: raw}
flow:
  - read: in
  - write: {name: raw, table: raw, mode: overwrite}
  - aligned_fan_in: {name: again, sources: [there], restart: false}
  - step: {name: mine, sql: "SELECT id, '${key}' AS day FROM {frame}"}
  - write: {name: orders, table: orders, partition_by: [day]}
"""


@pytest.mark.nightly
@pytest.mark.process
def test_a_hive_metastore_keeps_the_names_between_processes(lines, tmp_path):
    lines('{"id": 1, "day": "x"}')
    (tmp_path / "job.yaml").write_text(JOB.replace("ROOT", str(tmp_path)))
    said = []
    for key in ("d1", "d1", "d2"):
        line = [Path(sys.executable).with_name("spark-flow"), "run", tmp_path / "job.yaml", f"key={key}"]
        done = subprocess.run(line, capture_output=True, text=True, env=ENVIRONMENT, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
    assert "reused      orders" in said[1]
    assert "pinned at version" in said[0]
    log = next((tmp_path / "warehouse" / "orders" / "_delta_log").glob("*.json")).parent
    assert len(list(log.glob("*.json"))) == 3  # created, and a write of each key
