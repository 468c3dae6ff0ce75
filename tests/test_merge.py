"""Merges: rows are updated and inserted by their keys, exactly once for each revision."""

import json

import pyarrow as pa
import pytest
from conftest import Killed, at_night, killing, law, stored
from deltalake import DeltaTable, write_deltalake
from hypothesis import given
from hypothesis import strategies as st
from runs import new_run

import spark_flow as sf
from spark_flow.errors import ConfigError, InvalidArgument, InvalidMergeKeys, MissingColumns, NewColumns
from spark_flow.jobfile import load
from spark_flow.operations.verify import verify

SCHEMA = "id INT, at INT, name STRING"
KINDS = (pa.int32(), pa.int32(), pa.string())
LEAK = ("spark.databricks.delta.write.txnAppId", "spark.databricks.delta.commitInfo.userMetadata")


@pytest.fixture
def merge(spark, state, tmp_path):
    """Merge rows ``(id, at, name)`` under a key; by default into one table by ``id``."""
    path = str(tmp_path / "customers")

    def run_merge(key, *data, schema=SCHEMA, sink=None, name="customers", **options):
        frame = spark.createDataFrame(list(data), schema)
        with new_run("p", key, **{"state": state, "spark": spark, **options}) as run:
            return sf.write(run, name, frame, sink or sf.delta(path, mode="merge", on="id", **run_merge.how))

    def begin(*data):
        """The table as another tool has made it: without Spark, which takes seconds."""
        columns = [pa.array(column, kind) for column, kind in zip(zip(*data, strict=True), KINDS, strict=True)]
        write_deltalake(path, pa.table(columns, names=["id", "at", "name"]))

    run_merge.begin = begin
    run_merge.how = {}
    run_merge.path = path
    run_merge.rows = lambda: stored(path)
    run_merge.version = lambda: DeltaTable(path).version()
    return run_merge


@pytest.mark.spark
def test_rows_are_inserted_and_updated_and_a_repeat_merges_nothing(spark, merge):
    first = merge("k1", (1, 0, "a"), (2, 0, "b"))
    assert (first.state, first.rows, first.reason) == ("succeeded", 2, "merged at version 1")  # 0 created it
    second = merge("k2", (2, 1, "B"), (3, 1, "c"))
    assert merge.rows() == [(1, 0, "a"), (2, 1, "B"), (3, 1, "c")]
    assert merge("k2", (2, 1, "B"), (3, 1, "c")).state == "reused"
    assert (second.rows, merge.version()) == (2, 2)
    tag = json.loads(DeltaTable(merge.path).history(1)[0]["userMetadata"])["spark_flow"]
    assert (tag["key"], tag["node"], tag["revision"]) == ("k2", "customers", 1)
    assert [spark.conf.get(name, None) for name in LEAK] == [None, None]


@pytest.mark.spark
def test_a_rerun_merges_again_and_does_not_remove_rows(merge):
    merge("k1", (1, 0, "a"), (2, 0, "b"))
    merge("k1", (1, 0, "A"), rerun=True)
    assert merge.rows() == [(1, 0, "A"), (2, 0, "b")]


@pytest.mark.spark
@pytest.mark.parametrize("point", ["after_commit", "before_event", *at_night("before_commit", "after_event")])
def test_killed_at_each_point_and_repeated_equals_never_killed(merge, point):
    merge.begin((1, 0, "a"))
    with pytest.raises(Killed):
        merge("k2", (1, 1, "b"), (2, 1, "c"), observers=[killing(point, "customers")])
    assert merge("k2", (1, 1, "b"), (2, 1, "c")).state in ("succeeded", "reused")
    assert (merge.rows(), merge.version()) == ([(1, 1, "b"), (2, 1, "c")], 1)


@pytest.mark.spark
def test_a_lost_ledger_does_not_make_a_merge_be_taken_for_an_old_one(merge, tmp_path):
    merge("k1", (1, 0, "a"))
    merge("k1", (1, 1, "b"), state=str(tmp_path / "another"))
    assert merge.rows() == [(1, 1, "b")]


@pytest.mark.spark
@pytest.mark.parametrize(
    ("data", "keys"),
    [
        ([(1, 0, "a"), (1, 1, "b"), (2, 0, "c")], ("id = 1",)),
        ([(None, 0, "a"), (2, 0, "c")], ("id = None",)),
    ],
)
def test_keys_that_are_none_are_refused_before_anything_is_written(merge, data, keys):
    merge("k0", (9, 0, "z"))
    with pytest.raises(InvalidMergeKeys) as fault:
        merge("k1", *data)
    assert (fault.value.keys, fault.value.count, merge.version()) == (keys, 1, 1)


@pytest.mark.spark
def test_a_frame_without_the_columns_is_refused(merge):
    merge.how = {"sequence_by": "at"}
    with pytest.raises(MissingColumns):
        merge("k1", (1, "a"), schema="id INT, name STRING")
    with pytest.raises(MissingColumns):
        merge("k1", (1, "a"), schema="at INT, name STRING")


@pytest.mark.spark
def test_a_row_is_deleted_or_not_inserted(merge):
    merge.begin((1, 0, "a"), (2, 0, "b"))
    merge.how = {"delete_when": "source.name = 'gone'"}
    merge("k2", (1, 0, "gone"), (3, 0, "gone"), (4, 0, None))
    assert merge.rows() == [(2, 0, "b"), (4, 0, None)]


@pytest.mark.spark
def test_new_columns_are_added_by_policy_alone(merge):
    merge.begin((1, 0, "a"))
    wider = "id INT, at INT, name STRING, email STRING"
    with pytest.raises(NewColumns):  # UPDATE SET * would ignore it
        merge("k2", (1, 0, "a", "x@y"), schema=wider)
    merge.how = {"schema": "evolve"}
    outcome = merge("k2", (1, 0, "a", "x@y"), schema=wider)
    assert "added column(s) email" in outcome.reason
    assert merge.rows() == [(1, 0, "a", "x@y")]
    merge.how = {"schema": "strict"}
    with pytest.raises(MissingColumns):
        merge("k3", (1, 0, "b"))


@pytest.mark.spark
def test_verify_does_not_take_rewritten_files_for_what_was_merged(merge, state):
    from spark_flow.ledger import DeltaLedger

    merge("k1", (1, 0, "a"), (2, 0, "b"))
    merge("k2", (1, 1, "c"))
    assert [found.state for found in verify(DeltaLedger(state).read("p", "k2"))] == ["unknown"]


BATCHES = st.lists(
    st.dictionaries(st.integers(1, 4), st.tuples(st.integers(0, 5), st.sampled_from("abc")), min_size=1, max_size=3),
    min_size=2,
    max_size=3,
)


@pytest.mark.spark
@law(2)
@given(batches=BATCHES, data=st.data())
def test_law_of_sequence_by_the_order_of_batches_does_not_matter(spark, tmp_path_factory, batches, data):
    """Against an independent computation: of each key the row of the highest value, whichever comes first."""
    root = tmp_path_factory.mktemp("merge")
    expected = {}
    for at, batch in enumerate(batches):
        for key, (value, name) in batch.items():
            row = (value * 10 + at, name)  # no two batches have the same value
            expected[key] = max(expected.get(key, (-1, "")), row)
    sink = sf.delta(f"{root}/t", mode="merge", on="id", sequence_by="at")
    for at in data.draw(st.permutations(range(len(batches)))):
        frame = [(key, value * 10 + at, name) for key, (value, name) in batches[at].items()]
        with new_run("p", f"k{at}", state=f"{root}/state", spark=spark) as run:
            sf.write(run, "t", spark.createDataFrame(frame, SCHEMA), sink)
    found = {key: (at, name) for key, at, name in stored(f"{root}/t")}
    assert found == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "merge"},
        {"mode": "merge", "on": "id", "sequence_by": "id"},
        {"mode": "merge", "on": "id", "sequence_by": "at", "delete_when": "source.gone"},
        {"mode": "merge", "on": "id", "replace_where": "id = 1"},
        {"mode": "merge", "on": "id", "partition_by": "a", "cluster_by": "b"},
        {"on": "id"},
        {"sequence_by": "at"},
        {"mode": "append", "delete_when": "true"},
        {"table": "shop.orders"},
        {"cluster_by": "id"},
        {"mode": "merge", "on": "id", "options": {"txnVersion": "1"}},
    ],
)
def test_settings_that_conflict_are_refused(wrong):
    with pytest.raises(InvalidArgument):
        sf.delta("out", **wrong)


@pytest.mark.parametrize("sink", [sf.delta("out", mode="merge", on="id"), sf.delta(table="shop.orders")])
def test_what_cannot_be_emptied_or_appended_to_is_refused(sink):
    with pytest.raises(InvalidArgument):
        sf.staged(sf.delta("public", partition_by="date"), sink)
    with pytest.raises(InvalidArgument):
        sf.split_batch({"lake": sink}, app_id="stream")


JOB = """
pipeline: p
key: k1
sources: {in: {format: json, path: in, schema: "id INT"}}
flow:
  - read: in
  - write: {name: w, format: delta, path: out, mode: merge, on: id, sequence_by: at, schema: evolve}
"""


def test_a_merge_of_a_file(tmp_path):
    (tmp_path / "job.yaml").write_text(JOB)
    (sink,) = (sink.sink() for sink in load(tmp_path / "job.yaml").flow[1].written().values())
    assert sink == sf.delta("out", mode="merge", on="id", sequence_by="at", schema="evolve")


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("on: id, ", "", "flow[1].write.on"),
        ("sequence_by: at", "sequence_by: at, delete_when: source.x", "flow[1].write.delete_when"),
        ("mode: merge, ", "", "flow[1].write.on"),
        ("schema: evolve", "schema: evolved", "flow[1].write.schema"),
        (
            "format: delta, path: out, mode: merge, on: id, sequence_by: at",
            "format: csv, path: out",
            "flow[1].write.schema",
        ),
        ("path: out", "path: out, table: shop.t", "flow[1].write.path"),
        ("format: delta, path: out", "format: csv, table: shop.t", "flow[1].write.format"),
        ("path: out", "table: a.b.c.d", "flow[1].write.table"),
        ("path: out", "path: out, staging: x", "flow[1].write.staging"),
        ("path: out", "path: out, comment: c", "flow[1].write.comment"),
        ("path: out", "table: shop.t, staging: x", "flow[1].write.staging"),
    ],
)
def test_what_is_no_merge_is_refused_with_its_place(tmp_path, old, new, path):
    assert JOB.count(old) == 1
    (tmp_path / "job.yaml").write_text(JOB.replace(old, new))
    with pytest.raises(ConfigError) as fault:
        load(tmp_path / "job.yaml")
    assert path in [problem.path for problem in fault.value.problems]
