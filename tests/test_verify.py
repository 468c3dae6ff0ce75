"""``verify``: what a target holds of a recorded write, by its files; what they cannot tell is unknown, never ok."""

import os

import pytest
from deltalake import DeltaTable
from pyspark.sql import functions as F

import spark_flow as sf
from spark_flow.ledger import Event
from spark_flow.operations.verify import verify
from spark_flow.storage.sink_protocol import Intent

pytestmark = pytest.mark.spark
KEY = "2013-01-02"
SINKS = [sf.delta, sf.parquet, sf.json, sf.csv]
by_format = pytest.mark.parametrize("make", SINKS, ids=lambda make: make.__name__)


def write(sink, frame, *, revision=1, key=KEY):
    """A write as a run records it."""
    place = {"pipeline": "p", "key": key, "generation": 1, "attempt": 1, "node": "out", "revision": revision}
    written = sink.write(frame, Intent(run_id="r", mark=lambda _: None, **place))
    return Event(kind="sink", state="succeeded", seq=1, rows=written.rows, detail=written.detail, **place)


def states(event, deep=None):
    (finding,) = verify([event], deep=deep)
    return finding.state


@pytest.fixture
def numbers(spark):
    def make(*ids, key=KEY):
        frame = spark.createDataFrame([(n, f"name {n}") for n in ids], "id INT, name STRING").coalesce(1)
        return frame.withColumn("date", F.lit(key).cast("date"))

    return make


@by_format
def test_what_was_just_written_is_ok_by_its_files_and_by_its_rows(make, spark, numbers, tmp_path):
    event = write(make(str(tmp_path / "t"), partition_by="date"), numbers(1, 2))
    assert (states(event), states(event, spark)) == ("ok", "ok")


@by_format
@pytest.mark.parametrize("harm", ["gone", "cut"])
def test_a_data_file_that_is_gone_or_cut_is_missing(make, numbers, tmp_path, harm):
    """Delta answers count(*) from its log: the file is not looked at."""
    event = write(make(str(tmp_path / "t"), partition_by="date"), numbers(1, 2))
    (data,) = (f for f in (tmp_path / "t" / f"date={KEY}").iterdir() if f.name.startswith("part-"))
    data.unlink() if harm == "gone" else os.truncate(data, data.stat().st_size - 1)
    assert states(event) == "missing"


@by_format
def test_other_values_of_the_same_number_are_found_by_reading_them(make, spark, numbers, tmp_path):
    """Bytes of a file changed in place: neither names nor sizes differ."""
    event = write(make(str(tmp_path / "t"), partition_by="date", options={"compression": "none"}), numbers(11, 22))
    (data,) = (f for f in (tmp_path / "t" / f"date={KEY}").iterdir() if f.name.startswith("part-"))
    content = data.read_bytes()
    assert content.count(b"name 22") >= 1
    data.write_bytes(content.replace(b"name 22", b"name 33"))
    (data.parent / f".{data.name}.crc").unlink(missing_ok=True)
    assert (states(event), states(event, spark)) == ("ok", "differs")


@pytest.mark.parametrize("make", [sf.parquet, sf.csv], ids=lambda make: make.__name__)
def test_a_file_that_others_put_into_a_keys_folder_differs(make, numbers, tmp_path):
    event = write(make(str(tmp_path / "t"), partition_by="date"), numbers(1, 2))
    (data,) = (f for f in (tmp_path / "t" / f"date={KEY}").iterdir() if f.name.startswith("part-"))
    (data.parent / "part-more").write_bytes(data.read_bytes())
    assert states(event) == "differs"


def test_a_table_restored_to_before_the_write_differs_though_its_rows_are_as_many(spark, numbers, tmp_path):
    sink = sf.delta(str(tmp_path / "t"), partition_by="date")
    write(sink, numbers(1, 2))
    event = write(sink, numbers(3, 4), revision=2)
    spark.sql(f"RESTORE TABLE delta.`{sink.path}` TO VERSION AS OF 0")
    assert states(event) == "differs"
    assert states(event, spark) == "differs"


def test_a_table_restored_to_the_write_itself_is_ok(spark, numbers, tmp_path):
    sink = sf.delta(str(tmp_path / "t"), partition_by="date")
    event = write(sink, numbers(1, 2))
    spark.sql(f"DELETE FROM delta.`{sink.path}` WHERE id = 1")
    assert states(event) == "differs"
    spark.sql(f"RESTORE TABLE delta.`{sink.path}` TO VERSION AS OF 0")
    assert states(event) == "ok"


def test_optimize_and_writes_of_other_keys_are_no_difference(spark, numbers, tmp_path):
    sink = sf.delta(str(tmp_path / "t"), partition_by="date")
    event = write(sink, numbers(1, 2).repartition(2))
    write(sink, numbers(1, key="2013-01-03"), key="2013-01-03")
    spark.sql(f"OPTIMIZE delta.`{sink.path}`")
    assert DeltaTable(sink.path).history(1)[0]["operation"] == "OPTIMIZE"
    assert (states(event), states(event, spark)) == ("ok", "ok")


def test_an_update_by_hand_is_unknown_by_files_and_found_by_rows(spark, numbers, tmp_path):
    sink = sf.delta(str(tmp_path / "t"), partition_by="date")
    event = write(sink, numbers(1, 2))
    spark.sql(f"UPDATE delta.`{sink.path}` SET name = 'x' WHERE id = 1")
    assert (states(event), states(event, spark)) == ("unknown", "differs")


def test_a_predicate_that_only_spark_can_judge_is_unknown_without_it(spark, numbers, tmp_path):
    sink = sf.delta(str(tmp_path / "t"), replace_where=f"date_format(date, 'yyyy-MM-dd') = '{KEY}'")
    event = write(sink, numbers(1, 2))
    assert (states(event), states(event, spark)) == ("unknown", "ok")


def test_keys_of_a_table_without_partitions_are_told_apart(spark, numbers, tmp_path):
    """A write of another key rewrites the file that both were in."""
    first, second = (sf.delta(str(tmp_path / "t"), replace_where=f"date = '{key}'") for key in (KEY, "2013-01-03"))
    event = write(first, numbers(1, 2))
    other = write(second, numbers(1, key="2013-01-03"), key="2013-01-03")
    assert (states(event), states(other), states(event, spark)) == ("ok", "ok", "ok")


def test_an_append_is_known_by_its_files(numbers, tmp_path):
    sink = sf.delta(str(tmp_path / "t"), mode="append")
    event = write(sink, numbers(1, 2))
    write(sink, numbers(1, key="2013-01-03"), key="2013-01-03")
    assert states(event) == "ok"


def test_a_record_from_before_files_were_recorded_is_judged_by_what_it_has(numbers, tmp_path):
    event = write(sf.delta(str(tmp_path / "t"), partition_by="date"), numbers(1, 2))
    for name in ("files", "hash", "columns"):
        del event.detail[name]
    assert states(event) == "ok"
