"""Each sink: once for each revision, proved, and replaced by the next."""

import shutil
import threading

import pytest
from conftest import rows, stored
from deltalake import DeltaTable
from pyspark.sql import functions as F

import spark_flow as sf
from spark_flow.errors import (
    CannotReplace,
    ConstraintViolated,
    InvalidArgument,
    InvalidName,
    MissingInput,
    NotRepresentable,
    OutsideKey,
    WriteNotProved,
)
from spark_flow.storage import delta_tables, files, key_folder
from spark_flow.storage.sink_protocol import Held, Intent

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
    assert (written.rows, sink.last_revision(intent(1).app_id, "2013-01-02")) == (0, 2)
    held = delta_tables.held if sink.format == "delta" else key_folder.held
    assert held(written.detail, intent(1).app_id) == Held(revision=2, rows=0)


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
    held = delta_tables.held if sink.format == "delta" else key_folder.held
    with pytest.raises(MissingInput):
        held(written.detail, "p/out/2013-01-02")


def test_a_sink_that_can_only_append_refuses_a_second_revision(tmp_path):
    sink = sf.delta(str(tmp_path / "t"))
    sink.validate(intent(1))
    with pytest.raises(CannotReplace) as refused:
        sink.validate(intent(2))
    assert (refused.value.path, refused.value.revision) == (str(tmp_path / "t"), 2)


def test_the_naive_rule_loses_a_day_without_a_word(numbers, spark, tmp_path):
    """Why the revision, and never the date, is the transaction's version."""
    for date in ("20240202", "20240201"):
        writer = numbers(1).write.format("delta").mode("append")
        writer.option("txnAppId", "naive").option("txnVersion", date).save(str(tmp_path / "naive"))
    assert len(stored(str(tmp_path / "naive"))) == 1


def test_a_write_that_delta_drops_is_not_taken_for_done(numbers, tmp_path, monkeypatch):
    sink = sf.delta(str(tmp_path / "t"), partition_by="date")
    sink.write(numbers(3), intent(5))
    with pytest.raises(WriteNotProved) as refused:
        sink.write(numbers(4), intent(4))
    assert refused.value.found == "revision 5"
    monkeypatch.setattr(type(sink), "last_revision", lambda *_: 0)
    with pytest.raises(WriteNotProved) as refused:
        sink.write(numbers(4), intent(4))
    assert refused.value.found == "revision 5"
    with pytest.raises(WriteNotProved) as refused:
        sink.write(numbers(4), intent(5))  # the revision is there, by an earlier commit
    assert refused.value.expected == "a commit of revision 5 after version 0"


def test_a_commit_of_fewer_rows_than_the_frame_had_is_not_taken_for_done(numbers, tmp_path, monkeypatch):
    """What the table's history says is compared with what was counted on the way into the writer."""
    commit_of = delta_tables.commit_of

    def with_a_row_less(*arguments):
        commit = commit_of(*arguments)
        return commit | {"operationMetrics": {"numOutputRows": int(commit["operationMetrics"]["numOutputRows"]) - 1}}

    monkeypatch.setattr(delta_tables, "commit_of", with_a_row_less)
    with pytest.raises(WriteNotProved) as refused:
        sf.delta(str(tmp_path / "t"), partition_by="date").write(numbers(3), intent(1))
    assert (refused.value.expected, refused.value.found) == ("3 rows in version 0", "2")


def test_an_append_that_was_committed_is_not_repeated(numbers, spark, tmp_path):
    """The id in the table is the guard where nothing is replaced: the event was lost, the rows are there."""
    sink = sf.delta(str(tmp_path / "t"))
    sink.write(numbers(3), intent(1))
    sink.write(numbers(3), intent(1))
    assert len(stored(sink.path)) == 3


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
    assert sink.last_revision("p/out/2013-01-02", "2013-01-02") == 0


def test_without_partitions_a_folder_sink_keeps_a_folder_per_key(spark, tmp_path):
    sink = sf.parquet(str(tmp_path / "t"))
    sink.write(spark.range(2), intent(1)), sink.write(spark.range(3), intent(1, "2013-01-03"))
    assert spark.read.parquet(sink.path).groupBy("key").count().count() == 2


def test_what_a_killed_attempt_left_is_removed_and_not_what_another_key_is_at(numbers, tmp_path):
    """Keys may begin alike: a day, and an hour of it."""
    own, others = (tmp_path / f".spark_flow-{key}" / "new-0a1b2c3d" for key in ("2013-01-02", "2013-01-02-05"))
    for folder in (own, others):
        folder.mkdir(parents=True)
    sf.csv(str(tmp_path), partition_by="date").write(numbers(3), intent(1))
    assert (own.exists(), others.exists()) == (False, True)


@by_format
def test_a_newer_revision_is_never_written_over(make, numbers, read, tmp_path):
    """Of a writer that stood still past its lease: what took its place is newer."""
    sink = make(str(tmp_path / "t"), partition_by="date")
    sink.write(numbers(3), intent(2))
    marks = []
    with pytest.raises(WriteNotProved) as refused:
        sink.write(numbers(1), intent(1, mark=marks.append))
    assert (refused.value.found, marks) == ("revision 2", [])  # before anything is computed or written
    assert len(read(sink)) == 3


@by_format
@pytest.mark.parametrize("date", ["DATE'2013-01-05'", "CAST(NULL AS DATE)"], ids=["another", "null"])
def test_the_first_write_takes_no_row_of_another_key(make, spark, tmp_path, date):
    """Delta checks replaceWhere only where the table is there already."""
    sink = make(str(tmp_path / "t"), partition_by="date")
    frame = spark.sql(f"SELECT 1 AS id, DATE'2013-01-02' AS date UNION ALL SELECT 2, {date}")
    with pytest.raises(OutsideKey) as refused:
        sink.write(frame, intent(1))
    assert refused.value.found == (f"date={'NULL' if 'NULL' in date else '2013-01-05'}",)
    assert sink.last_revision(intent(1).app_id, "2013-01-02") == 0


def test_the_first_write_of_a_predicate_takes_no_other_row(spark, tmp_path):
    """The totals of a CUBE are rows whose key is NULL."""
    sink = sf.delta(str(tmp_path / "t"), replace_where="day = '2013-01-02' AND `the-shop` > 0")
    frame = spark.sql("SELECT '2013-01-02' AS day, 1 AS `the-shop`, 2 AS n").cube("day", "the-shop").agg(F.sum("n"))
    with pytest.raises(OutsideKey) as refused:
        sink.write(frame.withColumnRenamed("sum(n)", "n"), intent(1))
    assert "NULL" in refused.value.found[0]
    assert delta_tables.open_table(sink.path) is None


def test_a_session_that_collects_no_statistics_writes_as_well(spark, numbers, tmp_path):
    """Delta's history then counts no row: the files' footers do."""
    name = "spark.databricks.delta.stats.collect"
    spark.conf.set(name, "false")
    try:
        written = sf.delta(str(tmp_path / "t"), partition_by="date").write(numbers(3), intent(1))
    finally:
        spark.conf.unset(name)
    assert (written.rows, len(stored(tmp_path / "t"))) == (3, 3)


@pytest.fixture(scope="module")
def constrained(spark, tmp_path_factory):
    """A table with constraints, which take Spark six seconds; to be copied."""
    path = tmp_path_factory.mktemp("constrained") / "t"
    spark.sql(
        f"CREATE TABLE delta.`{path}` (date DATE, id INT, name STRING NOT NULL) USING delta PARTITIONED BY (date)"
    )
    spark.sql(f"ALTER TABLE delta.`{path}` ADD CONSTRAINT pos CHECK (id > 0)")
    spark.sql(f"ALTER TABLE delta.`{path}` ADD CONSTRAINT late CHECK (id < 5 OR date > '2013-01-02')")
    return path


@pytest.mark.parametrize(
    ("row", "constraint", "values"),
    [
        ("0 AS id, 'a' AS name", "CHECK pos (id > 0)", {"id": "0"}),
        ("1 AS id, CAST(NULL AS STRING) AS name", "NOT NULL name", {}),
        ("5 AS id, 'a' AS name", "CHECK late ((id < 5) OR (date > '2013-01-02'))", {"id": "5", "date": "2013-01-02"}),
    ],
    ids=["check", "not_null", "check_of_the_keys_column"],
)
@pytest.mark.parametrize("how", [{"partition_by": "date"}, {"mode": "append"}], ids=["replace", "append"])
def test_a_violated_constraint_is_named_with_the_rows_values(
    spark, constrained, tmp_path, row, constraint, values, how
):
    path = shutil.copytree(constrained, tmp_path / "t")
    with pytest.raises(ConstraintViolated) as refused:
        sf.delta(str(path), **how).write(spark.sql(f"SELECT DATE'2013-01-02' AS date, {row}"), intent(1))
    assert (refused.value.constraint, refused.value.values) == (constraint, values)


@pytest.mark.parametrize("option", ["txnVersion", "TXNAPPID", "userMetadata", "replaceWhere"])
def test_an_option_that_the_sink_sets_itself_is_refused(option):
    with pytest.raises(InvalidArgument) as refused:
        sf.delta("t", partition_by="date", options={option: "x"})
    assert refused.value.found == option
    with pytest.raises(InvalidArgument):
        sf.delta("t", mode="append", replace_where="id = 1")


@pytest.mark.parametrize("make", [sf.csv, sf.json, sf.parquet], ids=lambda make: make.__name__)
@pytest.mark.parametrize("partition_by", ["date", ()], ids=["by_date", "by_key"])
def test_one_file_of_a_given_name_also_for_a_key_without_rows(make, numbers, tmp_path, partition_by):
    sink = make(str(tmp_path / "t"), partition_by=partition_by, file_name="shop_{key}.txt")
    for revision, count in ((1, 3), (2, 0)):
        sink.write(numbers(count).repartition(3), intent(revision))
        shown = [file.name for file in (tmp_path / "t").glob("*/*") if not file.name.startswith(("_", "."))]
        assert shown == ["shop_2013-01-02.txt"]
        assert key_folder.read(numbers(1).sparkSession, sink.folder("2013-01-02")).count() == count


def test_a_file_name_is_one_for_all_partitions_of_a_key():
    with pytest.raises(InvalidArgument):
        sf.csv("t", partition_by=("date", "shop"), file_name="{key}.csv")
    with pytest.raises(InvalidName):
        sf.csv("t", file_name="../{key}.csv")


def test_a_kill_between_two_renames_leaves_nothing_behind_after_the_next_write(numbers, read, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    sink = sf.csv(str(tmp_path / "t"), partition_by="date")
    sink.write(numbers(3), intent(1))
    remove = files.remove
    moved = []

    def move(storage, source, target):
        moved.append(target)
        if len(moved) == 2:
            raise Killed
        type(storage).move(storage, source, target)

    class Storage:
        def __init__(self, storage):
            self.storage = storage

        def __getattr__(self, name):
            return getattr(self.storage, name)

        def move(self, source, target):
            move(self.storage, source, target)

    of = files.of
    with monkeypatch.context() as killed:
        killed.setattr(files, "of", lambda path: (Storage(of(path)[0]), of(path)[1]))
        killed.setattr(files, "remove", lambda path: None if moved else remove(path))  # a kill runs no finally
        with pytest.raises(Killed):
            sink.write(numbers(1), intent(2))
    assert sorted(p.name[:4] for p in (tmp_path / "t" / ".spark_flow-2013-01-02").iterdir()) == ["new-", "old-"]
    sink.write(numbers(1), intent(2))
    assert [p.name for p in (tmp_path / "t").iterdir()] == ["date=2013-01-02"]
    assert read(sink) == [(0, "2013-01-02")]


@pytest.mark.parametrize("make", [sf.csv, sf.json], ids=lambda make: make.__name__)
def test_values_that_the_format_cannot_hold_are_refused(make, spark, tmp_path):
    """The format's own limit: CSV has no bytes; these options cut times to seconds."""
    sink = make(str(tmp_path / "t"), options={"timestampFormat": "yyyy-MM-dd HH:mm:ss"})
    with pytest.raises(NotRepresentable) as refused:
        sink.write(spark.sql("SELECT TIMESTAMP'2013-01-02 05:00:00.5' AS at"), intent(1))
    assert refused.value.format == make.__name__
    assert not files.exists(sink.folder("2013-01-02"))
