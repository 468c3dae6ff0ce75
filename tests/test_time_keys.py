"""Keys in a column of a time: an instant is resolved once, by the session that writes, and used everywhere."""

import datetime as dt

import pytest
from conftest import rows
from runs import new_run

import spark_flow as sf
from spark_flow.errors import InvalidArgument, OtherTimeZone
from spark_flow.ledger import DeltaLedger
from spark_flow.operations.verify import verify
from spark_flow.storage.delta import _records_utc
from spark_flow.storage.delta_tables import read_rows

pytestmark = pytest.mark.spark
KEY = "2013-01-02T05"
SINKS = {
    "partitioned": lambda path: sf.delta(path, partition_by="hour"),
    "parquet": lambda path: sf.parquet(path, partition_by="hour"),
    "csv": lambda path: sf.csv(path, partition_by="hour"),
}
in_any_zone = pytest.mark.skipif(not _records_utc(), reason="this Delta records local times as UTC, and is refused")
by_sink = pytest.mark.parametrize("make", SINKS.values(), ids=SINKS)


@pytest.fixture
def in_zone(spark):
    """A session of its own with a time zone: nothing is changed in the shared one."""

    def session(zone):
        other = spark.newSession()
        other.conf.set("spark.sql.session.timeZone", zone)
        return other

    return session


def provide(spark, folder, make, *, kind="timestamp", ids=(1,), **how):
    frame = spark.createDataFrame([(n,) for n in ids], "id INT").selectExpr(f"CAST('{KEY}' AS {kind}) AS hour", "id")
    with new_run("p", KEY, state=str(folder / "state"), spark=spark, **how) as run:
        outcome = sf.write(run, "out", frame, make(str(folder / "t")))
        sf.publish(run, "hours", markers=str(folder / "markers"))
    return outcome, run


def consume(spark, folder, name="c"):
    with sf.Run.open(name, KEY, state=str(folder / "state"), spark=spark) as run:
        hour = sf.wait_for(run, "hours", markers=str(folder / "markers"), polling=sf.Polling(timeout=0))
        return rows(hour.frame.frame.selectExpr("CAST(hour AS STRING)", "id"))


@by_sink
@pytest.mark.parametrize("kind", ["timestamp", "timestamp_ntz"])
def test_an_hour_is_consumed_verified_and_shown(make, spark, tmp_path, kind):
    outcome, _ = provide(spark, tmp_path, make, kind=kind)
    assert consume(spark, tmp_path) == [("2013-01-02 05:00:00", 1)]
    events = DeltaLedger(str(tmp_path / "state")).read("p", KEY)
    assert [finding.state for finding in verify(events)] == ["ok"]
    assert [finding.state for finding in verify(events, deep=spark)] == ["ok"]
    if outcome.detail["format"] == "delta":
        assert read_rows(outcome.detail, limit=3).num_rows == 1


@in_any_zone
@by_sink
def test_another_zone_reads_the_instant_and_must_not_write_the_key(make, in_zone, tmp_path):
    """By its own zone it would replace other rows, and leave those that are there."""
    provide(in_zone("UTC"), tmp_path, make)
    paris = in_zone("Europe/Paris")
    assert consume(paris, tmp_path) == [("2013-01-02 06:00:00", 1)]
    with pytest.raises(OtherTimeZone) as refused:
        provide(paris, tmp_path, make, rerun=True)
    assert (refused.value.written, refused.value.zone) == ("2013-01-02T05:00:00Z", "Europe/Paris")
    assert consume(paris, tmp_path, "c2") == [("2013-01-02 06:00:00", 1)]


@in_any_zone
@by_sink
def test_a_rerun_in_the_same_zone_replaces_the_hour(make, in_zone, tmp_path):
    paris = in_zone("Europe/Paris")
    provide(paris, tmp_path, make, ids=(1, 2))
    provide(paris, tmp_path, make, ids=(3,), rerun=True)
    assert consume(paris, tmp_path) == [("2013-01-02 05:00:00", 3)]


def test_a_delta_that_records_local_times_as_utc_is_refused_before_anything_is_written(in_zone, tmp_path, monkeypatch):
    monkeypatch.setattr("spark_flow.storage.delta._version", lambda: "4.0.1")
    provide(in_zone("UTC"), tmp_path, lambda path: sf.delta(path, partition_by="hour"))
    with pytest.raises(InvalidArgument, match=r"Europe/Paris and Delta 4\.0\.1"):
        provide(in_zone("Europe/Paris"), tmp_path / "other", lambda path: sf.delta(path, partition_by="hour"))
    assert not (tmp_path / "other" / "t").exists()


def test_a_key_that_is_no_time_is_refused_before_anything_is_written(spark, tmp_path):
    frame = spark.sql("SELECT TIMESTAMP'2013-01-02 05:00:00' AS hour, 1 AS id")
    with (
        pytest.raises(InvalidArgument) as refused,
        sf.Run.open("p", "first", state=str(tmp_path / "state"), spark=spark) as run,
    ):
        sf.write(run, "out", frame, sf.delta(str(tmp_path / "t"), partition_by="hour"))
    assert refused.value.found == "'first'"
    assert not (tmp_path / "t").exists()


def test_a_dates_key_needs_no_resolving(spark):
    from spark_flow.storage import key_rows

    frame = spark.sql("SELECT DATE'2013-01-02' AS date, 7 AS shop")
    assert key_rows.of_column(frame, "date", "out", "2013-01-02").value == ""
    assert key_rows.of_column(frame, "SHOP", "out", "007").predicate == "`SHOP` = '007'"
    assert dt.date(2013, 1, 2) == frame.where(key_rows.is_key("date", "2013-01-02")).first().date
