"""Provider and consumer on Spark: several tables as one consistent set, whoever writes meanwhile."""

import sys
import threading

import pytest
from conftest import rows, stored
from handover import AT_ONCE, KEY, marker, provide, put, writes
from pyspark.sql import functions as F
from runs import new_run

import spark_flow as sf
from spark_flow.errors import InvalidMarker, SparkFlowError
from spark_flow.jobfile import load
from spark_flow.jobfile.interpreter import execute
from spark_flow.ledger import MemoryLedger
from spark_flow.storage.markers import MarkedTable, Marker, write

pytestmark = pytest.mark.spark


@pytest.fixture
def markers(tmp_path):
    return str(tmp_path / "out" / "markers")


def handed_over(spark, root, key=KEY, **options):
    with sf.Run.open("consumer", key, state=str(root / "c"), ledger=MemoryLedger(), spark=spark) as run:
        found = sf.wait_for(run, "hours", markers=str(root / "out" / "markers"), **{"polling": AT_ONCE, **options})
        return {table: rows(frame.frame) for table, frame in found.frames.items()}


@pytest.mark.nightly
def test_two_tables_are_one_consistent_pair_while_the_provider_writes_on(spark, tmp_path):
    ledger, stop = MemoryLedger(), threading.Event()
    provide(tmp_path, 0, ledger=ledger)

    def write_on():
        number = 1
        while not stop.is_set():
            provide(tmp_path, number, ledger=ledger, rerun=True)
            number += 1

    provider = threading.Thread(target=write_on)
    provider.start()
    try:
        pairs = [handed_over(spark, tmp_path) for _ in range(8)]
    finally:
        stop.set()
        provider.join()
    assert all(pair["a"] == pair["b"] for pair in pairs)
    assert len({pair["a"][0][1] for pair in pairs}) > 2


def test_without_the_markers_versions_the_pair_would_not_be_one(spark, tmp_path):
    provide(tmp_path, 1)
    put(tmp_path / "out" / "hours" / "a", KEY, 2)
    latest = {t: stored(str(tmp_path / "out" / "hours" / t)) for t in ("a", "b")}
    assert latest["a"] != latest["b"]
    assert handed_over(spark, tmp_path) == {"a": [(KEY, 1)], "b": [(KEY, 1)]}


def test_only_the_keys_rows_are_read(spark, tmp_path):
    for number, key in enumerate(("2013-01-01", KEY, "2013-01-03")):
        provide(tmp_path, number, key=key)
    assert handed_over(spark, tmp_path)["a"] == [(KEY, 1)]
    days = handed_over(spark, tmp_path, key="2013-01-03", keys=sf.last_days(3))
    assert days["a"] == [("2013-01-01", 0), (KEY, 1), ("2013-01-03", 2)]


def test_a_table_without_the_column_of_its_key_is_read_whole(spark, tmp_path, markers):
    for number, key in enumerate(("2013-01-01", KEY)):
        put(tmp_path / "out" / "a", key, number)
    table = MarkedTable(path=str(tmp_path / "out" / "a"), format="delta", version=1)
    write(markers, Marker(dataset="hours", key=KEY, state="ready", tables={"a": table}))
    assert handed_over(spark, tmp_path)["a"] == [("2013-01-01", 0), (KEY, 1)]


@pytest.fixture
def provided(spark, tmp_path, markers):
    """A provider with Spark that writes to sinks of all kinds."""

    def go(sinks, *, hours=("05", "06"), **options):
        made = {h: (lambda h=h: spark.createDataFrame([(h, int(h))], "hour STRING, n INT")) for h in ("05", "06")}
        absent = sf.source("json", str(tmp_path / "none"), schema="hour STRING, n INT")
        branches = {h: made[h] if h in hours else absent for h in made}
        with new_run("provider", KEY, state=str(tmp_path / "p"), spark=spark, **options) as run:
            found = sf.unaligned_fan_in(run, "hours", branches, require=sf.any_succeeded)
            frame = sf.local_sequencer(run, found.frame, [dated])
            for name, sink in sinks.items():
                sf.write(run, name, frame, sink)
            sf.publish(run, "hours", markers=markers)
        return run

    return go


def dated(frame):
    return frame.select("hour", "n", F.lit(KEY).cast("date").alias("date"))


def places(root):
    return {
        "lake": sf.delta(str(root / "out" / "lake"), partition_by="date"),
        "whole": sf.delta(str(root / "out" / "whole"), mode="overwrite"),
        "csv": sf.csv(str(root / "out" / "csv"), partition_by="date"),
        "parquet": sf.parquet(str(root / "out" / "parquet")),
    }


def test_all_kinds_of_sinks_are_handed_over(spark, tmp_path, provided):
    provided(places(tmp_path))
    told = marker(tmp_path).tables
    assert {name: (t.version, t.revision, t.column) for name, t in told.items()} == {
        "lake": (0, None, "date"),
        "whole": (0, None, None),
        "csv": (None, 1, None),
        "parquet": (None, 1, None),
    }
    found = handed_over(spark, tmp_path)
    assert [row[0] for row in found["lake"]] == ["05", "06"]
    assert found["lake"] == found["whole"] == found["csv"] == found["parquet"]


def test_a_partial_day_is_told_on_and_completed_later(spark, tmp_path, provided, markers):
    sinks = {"lake": places(tmp_path)["lake"]}
    provided(sinks, hours=["05"])
    assert (marker(tmp_path).completeness.ratio, marker(tmp_path).completeness.is_approximate) == (0.5, True)

    def consume(**options):
        with new_run("consumer", KEY, state=str(tmp_path / "c"), spark=spark, **options) as run:
            frame = sf.wait_for(run, "hours", markers=markers, polling=AT_ONCE).frame
            sf.write(run, "out", frame, sf.delta(str(tmp_path / "out" / "report"), partition_by="date"))
            sf.publish(run, "report", markers=markers)

    consume()
    assert marker(tmp_path, "report").completeness.is_approximate
    provided(sinks)
    consume(rerun=True)
    assert not marker(tmp_path, "report").completeness.is_approximate
    assert len(stored(str(tmp_path / "out" / "report"))) == 2


def test_what_is_kept_in_staging_is_not_published(spark, tmp_path, provided):
    public, private = places(tmp_path)["lake"], sf.delta(str(tmp_path / "private"), partition_by="date")
    run = provided({"lake": sf.staged(public, private)}, hours=["05"])
    assert {o.node: o.state for o in run.outcomes}["marker/hours"] == "skipped"
    assert not (tmp_path / "out" / "markers").exists()
    provided({"lake": sf.staged(public, private)})
    assert marker(tmp_path).state == "ready"


def test_a_folder_that_is_replaced_after_the_wait_is_not_read_for_what_was_waited_for(
    spark, tmp_path, provided, markers
):
    sinks = {"csv": places(tmp_path)["csv"]}
    provided(sinks)
    with sf.Run.open("consumer", KEY, state=str(tmp_path / "c"), spark=spark) as run:
        found = sf.wait_for(run, "hours", markers=markers, polling=AT_ONCE)
        provided(sinks, rerun=True)
        with pytest.raises(InvalidMarker, match="replaced"):
            _ = found.frame.frame


def test_a_marker_of_another_tool_over_plain_files(spark, tmp_path, markers):
    folder = tmp_path / "out" / "plain"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text('{"n": 1}\n')
    table = MarkedTable(path=str(folder), format="json")
    write(markers, Marker(dataset="hours", key=KEY, state="ready", tables={"plain": table}))
    assert handed_over(spark, tmp_path) == {"plain": [(1,)]}


def test_a_retry_of_the_consumer_reads_the_pinned_version(spark, tmp_path, markers):
    provider, ledger = MemoryLedger(), MemoryLedger()
    provide(tmp_path, 1, ledger=provider)

    def consume(fail):
        with sf.Run.open("c", KEY, state=str(tmp_path / "c"), spark=spark, ledger=ledger) as run:
            found = sf.wait_for(run, "hours", markers=markers, polling=AT_ONCE)
            sf.write(run, "out", found.table("a"), sf.delta(str(tmp_path / "out" / "r"), partition_by="date"))
            writes(run, "then", tmp_path / "out" / "then", 1 // (not fail))

    with pytest.raises(ZeroDivisionError):
        consume(fail=True)
    provide(tmp_path, 2, ledger=provider, rerun=True)
    consume(fail=False)
    assert stored(str(tmp_path / "out" / "r")) == [(KEY, 1)]


YAML = """
pipeline: all_settings
key: "2013-01-02"
state: {root}/s
output: {root}/out
flow:
  - wait_for: {{dataset: hours, table: a, also: [b], timeout: 0}}
  - step: {{name: both, with: {{b: b}}, sql: "SELECT {{frame}}.date, b.n FROM {{frame}} JOIN {{b}} AS b USING (date)"}}
  - write: {{name: one, format: delta, path: "${{output}}/one", partition_by: date}}
  - write: {{name: two, format: csv, path: "${{output}}/two", partition_by: date}}
  - publish: {{dataset: some, tables: [one], success_file: true, name: told}}
  - exclusive_choice:
      name: road
      default: "off"
      routes:
        "on":
          when: {{by_date: {{since: {since}}}}}
          flow:
            - step: {{name: broken, sql: "SELECT {column} AS n, date FROM {{frame}}"}}
            - write: {{name: three, format: delta, path: "${{output}}/three", partition_by: date}}
            - publish: extra
        "off":
          flow:
            - write: {{name: four, format: delta, path: "${{output}}/four", partition_by: date}}
            - publish: {{dataset: none, state: skipped, reason: a holiday}}
  - publish: {{dataset: last, tables: [two]}}
  - publish: {{dataset: quiet, on_failure: silent}}
  - trigger:
      job: {root}/jobs/child.py
      allow: failed
      launcher: {python}
      overrides: ["a=b"]
"""


@pytest.fixture
def all_settings(spark, tmp_path):
    """A file in which every pattern of the hand-over stands with settings, run in this process."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "child.py").write_text("import sys; print(sys.argv); sys.exit(1)\n")
    provide(tmp_path, 7)

    def go(since, column="n"):
        text = YAML.format(root=tmp_path, since=since, column=column, python=sys.executable)
        (tmp_path / "job.yaml").write_text(text)
        config = load(tmp_path / "job.yaml")
        with sf.Run.open("all_settings", KEY, state=str(tmp_path / "s"), spark=spark) as run:
            execute(config, run)
        return {outcome.node: outcome for outcome in run.outcomes}

    return go


def test_every_setting_of_a_file_is_heeded(tmp_path, all_settings):
    ended = all_settings("2013-01-03")
    assert set(marker(tmp_path, "some").tables) == {"one"}
    assert set(marker(tmp_path, "last").tables) == {"two"}
    assert (marker(tmp_path, "none").state, marker(tmp_path, "none").reason) == ("skipped", "a holiday")
    assert (tmp_path / "out" / "one" / f"date={KEY}" / "_SUCCESS").exists()
    assert "told" in ended
    assert ended["trigger/child"].detail["state"] == "failed"
    assert "'a=b'" in (tmp_path / "s" / "triggers" / "all_settings" / KEY / "trigger-child.log").read_text()


def test_a_failure_is_told_by_each_publish_of_the_roads_that_are_taken(tmp_path, all_settings):
    with pytest.raises(SparkFlowError):
        all_settings("2013-01-01", column="no_such")
    states = {name: marker(tmp_path, name).state for name in ("some", "extra", "last")}
    assert states == {"some": "ready", "extra": "failed", "last": "failed"}
    for name in ("none", "quiet"):  # a road that was not taken; one that is told to be silent
        with pytest.raises(FileNotFoundError):
            marker(tmp_path, name)
