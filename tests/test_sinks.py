"""Each sink: once for each revision, proved, and replaced by the next."""

import threading

import pytest
from conftest import rows
from deltalake import DeltaTable
from pyspark.sql import functions as F

import spark_flow as sf
from spark_flow.errors import CannotReplace, MissingInput, OutsideKey, WriteNotProved
from spark_flow.storage import delta, files, folders
from spark_flow.storage.port import Intent

pytestmark = pytest.mark.spark
SINKS = [sf.delta, sf.csv, sf.json, sf.parquet]
by_format = pytest.mark.parametrize("make", SINKS, ids=lambda make: make.__name__)


def intent(revision, key="2013-01-02", mark=lambda _: None, node="out"):
    fields = {"pipeline": "p", "key": key, "generation": 1, "attempt": 1, "run_id": "r"}
    return Intent(node=node, revision=revision, mark=mark, **fields)


@pytest.fixture
def numbers(spark):
    def make(count, key="2013-01-02"):
        return spark.range(count).withColumn("date", F.lit(key).cast("date"))

    return make


@pytest.fixture
def read(spark, tmp_path):
    def load(sink):
        options = {"header": "true"} if sink.format == "csv" else {}
        frame = spark.read.format(sink.format).options(**options).load(sink.path)
        return rows(frame.select(F.col("id").cast("int"), F.col("date").cast("string")))

    return load


@by_format
def test_the_same_revision_is_written_once(make, numbers, read, tmp_path):
    sink = make(str(tmp_path / "t"), partition_by="date")
    first, again = sink.write(numbers(3), intent(1)), sink.write(numbers(3), intent(1))
    assert (first.rows, again.rows) == (3, 3)
    assert (first.reason.split()[0], again.reason.split()[0]) == ("written", "already")
    assert len(read(sink)) == 3


@by_format
def test_the_next_revision_replaces_the_keys_rows_alone(make, numbers, read, tmp_path):
    sink = make(str(tmp_path / "t"), partition_by="date")
    sink.write(numbers(3), intent(1))
    sink.write(numbers(2, "2013-01-03"), intent(1, "2013-01-03"))
    sink.write(numbers(1), intent(2))
    assert read(sink) == [(0, "2013-01-02"), (0, "2013-01-03"), (1, "2013-01-03")]


@by_format
def test_an_older_day_after_a_newer_one_is_written_not_dropped(make, numbers, read, tmp_path):
    sink = make(str(tmp_path / "t"), partition_by="date")
    for key in ("2013-01-03", "2013-01-01", "2013-01-02"):
        sink.write(numbers(1, key), intent(1, key))
    assert [date for _, date in read(sink)] == ["2013-01-01", "2013-01-02", "2013-01-03"]


@by_format
def test_an_empty_frame_empties_the_key_and_uses_the_revision_up(make, numbers, tmp_path):
    sink = make(str(tmp_path / "t"), partition_by="date")
    sink.write(numbers(3), intent(1))
    written = sink.write(numbers(0), intent(2))
    assert (written.rows, sink.remembered(intent(1).app_id, "2013-01-02")) == (0, 2)
    held = delta.held if sink.format == "delta" else folders.held
    assert held(written.detail, intent(1).app_id) == (2, 0)


@by_format
def test_rows_of_another_key_are_refused_and_nothing_is_written(make, numbers, read, tmp_path):
    sink = make(str(tmp_path / "t"), partition_by="date")
    sink.write(numbers(3), intent(1))
    with pytest.raises(OutsideKey) as refused:
        sink.write(numbers(3).union(numbers(1, "2013-01-05")), intent(2))
    assert refused.value.key == "2013-01-02"
    assert len(read(sink)) == 3


@by_format
def test_a_target_that_is_gone_is_missing(make, numbers, tmp_path):
    sink = make(str(tmp_path / "t"), partition_by="date")
    written = sink.write(numbers(3), intent(1))
    files.remove(sink.path)
    held = delta.held if sink.format == "delta" else folders.held
    with pytest.raises(MissingInput):
        held(written.detail, "p/out/2013-01-02")


def test_a_sink_that_can_only_append_refuses_a_second_revision(tmp_path):
    sink = sf.delta(str(tmp_path / "t"))
    sink.admit(intent(1))
    with pytest.raises(CannotReplace) as refused:
        sink.admit(intent(2))
    assert (refused.value.path, refused.value.revision) == (str(tmp_path / "t"), 2)


def test_the_naive_rule_loses_a_day_without_a_word(numbers, spark, tmp_path):
    """Why the revision, and never the date, is the transaction's version."""
    for date in ("20240202", "20240201"):
        writer = numbers(1).write.format("delta").mode("append")
        writer.option("txnAppId", "naive").option("txnVersion", date).save(str(tmp_path / "naive"))
    assert spark.read.format("delta").load(str(tmp_path / "naive")).count() == 1


def test_a_write_that_delta_drops_is_not_taken_for_done(numbers, tmp_path, monkeypatch):
    sink = sf.delta(str(tmp_path / "t"), partition_by="date")
    sink.write(numbers(3), intent(5))
    monkeypatch.setattr(type(sink), "remembered", lambda *_: 0)
    with pytest.raises(WriteNotProved) as refused:
        sink.write(numbers(4), intent(4))
    assert "revision 5" in refused.value.found


def test_an_append_that_was_committed_is_not_repeated(numbers, spark, tmp_path):
    """The id in the table is the guard where nothing is replaced: the event was lost, the rows are there."""
    sink = sf.delta(str(tmp_path / "t"))
    sink.write(numbers(3), intent(1))
    sink.write(numbers(3), intent(1))
    assert spark.read.format("delta").load(sink.path).count() == 3


def test_the_commit_tells_who_wrote_it(numbers, tmp_path):
    import json

    sink = sf.delta(str(tmp_path / "t"), partition_by="date")
    sink.write(numbers(1), intent(1))
    tag = json.loads(DeltaTable(sink.path).history(1)[0]["userMetadata"])["spark_flow"]
    assert (tag["pipeline"], tag["key"], tag["node"], tag["revision"]) == ("p", "2013-01-02", "out", 1)


def test_writers_that_race_to_create_a_table_all_succeed(numbers, read, tmp_path):
    sink = sf.delta(str(tmp_path / "t"), partition_by="date")
    keys = ["2013-01-01", "2013-01-02", "2013-01-03"]
    frames = {key: numbers(2, key) for key in keys}
    failures = []

    def write(key):
        try:
            sink.write(frames[key], intent(1, key))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(read(sink)) == 6


def test_a_kill_before_the_swap_leaves_the_old_folder_whole(numbers, read, tmp_path):
    class Killed(BaseException):
        pass

    def kill(point):
        if point == "before_commit":
            raise Killed

    sink = sf.csv(str(tmp_path / "t"), partition_by="date")
    sink.write(numbers(3), intent(1))
    with pytest.raises(Killed):
        sink.write(numbers(1), intent(2, mark=kill))
    assert len(read(sink)) == 3
    assert sink.write(numbers(1), intent(2)).reason == "written at revision 2"
    assert len(read(sink)) == 1


def test_a_folder_whose_file_was_cut_is_not_taken_for_written(numbers, tmp_path):
    sink = sf.csv(str(tmp_path / "t"), partition_by="date")
    sink.write(numbers(3), intent(1))
    next((tmp_path / "t" / "date=2013-01-02").glob("*.csv")).write_text("id\n")
    assert sink.remembered("p/out/2013-01-02", "2013-01-02") == 0


def test_without_partitions_a_folder_sink_keeps_a_folder_per_key(spark, tmp_path):
    sink = sf.parquet(str(tmp_path / "t"))
    sink.write(spark.range(2), intent(1)), sink.write(spark.range(3), intent(1, "2013-01-03"))
    assert spark.read.parquet(sink.path).groupBy("key").count().count() == 2


def test_what_a_killed_attempt_left_is_removed_and_not_what_another_key_is_at(numbers, tmp_path):
    """Keys may begin alike: a day, and an hour of it."""
    own, others = (tmp_path / f".spark_flow-{key}-0a1b2c3d" for key in ("2013-01-02", "2013-01-02-05"))
    for folder in (own, others):
        folder.mkdir()
    sf.csv(str(tmp_path), partition_by="date").write(numbers(3), intent(1))
    assert (own.exists(), others.exists()) == (False, True)
