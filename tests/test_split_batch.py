"""A stream to several tables: each row once in each, whatever is killed."""

import shutil

import pytest
from conftest import stored
from deltalake import DeltaTable

import spark_flow as sf
from spark_flow.errors import ConfigError, DuplicateNode, InvalidArgument, InvalidName, NoBranches, OtherCheckpoint
from spark_flow.jobfile import load_stream

pytestmark = pytest.mark.spark


def odd(frame):
    return frame.where("n % 2 = 1")


@pytest.fixture
def stream(spark, lines, tmp_path):
    """Run a query over the files that are there, until all are read; what a batch raised is raised here."""

    def go(app_id="s", checkpoint="checkpoint", on_written=None):
        sinks = {"all": sf.delta(str(tmp_path / "all")), "odd": (odd, sf.delta(str(tmp_path / "odd")))}
        split, raised = sf.split_batch(sinks, app_id, on_written=on_written), []

        def write(frame, batch):
            try:
                split(frame, batch)
            except Exception as error:
                raised.append(error)
                raise

        source = spark.readStream.schema("n INT").option("maxFilesPerTrigger", 1).json(str(tmp_path / "in"))
        query = source.writeStream.foreachBatch(write).option("checkpointLocation", str(tmp_path / checkpoint))
        try:
            query.trigger(availableNow=True).start().awaitTermination()
        except Exception as error:
            raise (raised[0] if raised else error) from None

    go.tables = lambda: [[n for (n,) in stored(str(tmp_path / t))] for t in ("all", "odd")]
    go.land = lambda *numbers: lines(*[f'{{"n": {n}}}' for n in numbers], file=f"{numbers[0]}.json")
    return go


def test_each_batch_is_in_each_table_once_and_the_next_start_goes_on(stream, tmp_path):
    stream.land(1, 2)
    stream.land(3)
    stream()
    assert stream.tables() == [[1, 2, 3], [1, 3]]
    stream.land(5)
    stream()
    stream()
    assert stream.tables() == [[1, 2, 3, 5], [1, 3, 5]]
    assert DeltaTable(str(tmp_path / "all")).transaction_version("s/all") == 2


@pytest.mark.parametrize(
    ("table", "batch"),
    [("all", 0), ("odd", 1), *(pytest.param(*each, marks=pytest.mark.nightly) for each in (("all", 1), ("odd", 0)))],
)
def test_killed_after_a_table_and_started_again(stream, table, batch):
    def kill(name, at):
        if (name, at) == (table, batch):
            raise InterruptedError  # the bridge to Java hangs on what is no Exception

    stream.land(1, 2)
    stream.land(3)
    with pytest.raises(InterruptedError):
        stream(on_written=kill)
    stream()
    assert stream.tables() == [[1, 2, 3], [1, 3]]


def test_another_checkpoint_needs_another_name(stream):
    stream.land(1)
    stream()
    with pytest.raises(OtherCheckpoint) as error:
        stream(checkpoint="other")
    assert (error.value.app_id, error.value.known, error.value.batch) == ("s/all", 0, 0)
    stream(app_id="s2", checkpoint="third")
    assert stream.tables() == [[1, 1], [1, 1]]


def test_batches_of_other_writers_between_do_not_hide_the_streams_own(spark, stream, tmp_path):
    stream.land(1)
    stream()
    spark.range(1).selectExpr("7 AS n").write.format("delta").mode("append").save(str(tmp_path / "all"))
    with pytest.raises(OtherCheckpoint):
        stream(checkpoint="other")
    stream.land(3)
    stream()
    assert stream.tables() == [[1, 3, 7], [1, 3]]


@pytest.mark.parametrize(
    ("sinks", "app_id", "error"),
    [
        ({}, "s", NoBranches),
        ({"a": sf.delta("x"), "b": (odd, sf.delta("./x"))}, "s", DuplicateNode),
        ({"a/b": sf.delta("x")}, "s", InvalidName),
        ({"a": sf.delta("x")}, "../s", InvalidName),
    ],
)
def test_bad_input(sinks, app_id, error):
    with pytest.raises(error):
        sf.split_batch(sinks, app_id)


def test_a_checkpoint_that_was_set_back_by_more_than_a_batch_is_refused(stream, tmp_path):
    for n in (1, 2, 3):
        stream.land(n)
        stream()
        if n == 1:
            shutil.copytree(tmp_path / "checkpoint", tmp_path / "old")
    with pytest.raises(OtherCheckpoint) as error:
        stream(checkpoint="old")
    assert (error.value.known, error.value.batch) == (2, 1)


@pytest.mark.parametrize(
    "sink", [sf.csv("x"), (None, sf.delta("x")), sf.delta("x", mode="overwrite"), sf.delta("x", replace_where="true")]
)
def test_what_cannot_be_appended_to_is_refused(sink):
    with pytest.raises(InvalidArgument):
        sf.split_batch({"a": sink}, "s")


STREAM = """
app_id: s
source: {format: json, path: in, schema: "n INT"}
checkpoint: check
sinks:
  all: SINK
"""


@pytest.mark.parametrize(
    ("sink", "found"),
    [
        ("{table: shop.orders}", "table"),
        ("{format: delta, path: x, mode: overwrite}", "mode"),
        ("{format: delta, path: x, mode: merge, 'on': id}", "mode"),
        ("{format: delta, path: x, cluster_by: n, replace_where: n > 0}", "cluster_by"),
        ("{format: delta, path: x, schema: evolve}", "schema"),
        ("{format: delta, path: x, staging: y}", "staging"),
    ],
)
def test_a_file_of_a_stream_appends_and_refuses_what_needs_more(tmp_path, sink, found):
    (tmp_path / "stream.yaml").write_text(STREAM.replace("SINK", sink))
    with pytest.raises(ConfigError) as wrong:
        load_stream(tmp_path / "stream.yaml")
    assert f"sink all with {found}" in [problem.found for problem in wrong.value.problems]
