"""A key is rolled back: the rows of an earlier generation are published again, or that is refused."""

from pathlib import Path

import pytest
from conftest import Killed, at_night, double, keep_large, killing, states, stored
from deltalake import DeltaTable
from pyspark.sql import functions as F
from runs import new_run
from typer.testing import CliRunner

import spark_flow as sf
from spark_flow.cli.app import app
from spark_flow.errors import CannotRollBack
from spark_flow.ledger import DeltaLedger, Event
from spark_flow.operations import rollback as rollbacks
from spark_flow.operations.stale import stale
from spark_flow.storage import markers

KEY = "2013-01-02"
COMMAND = {"job": "jobs/days.py", "config": "conf/days.yaml", "overrides": [f"key={KEY}"], "cwd": "/"}


def dated(frame, *, key):
    return frame.withColumn("date", F.lit(key).cast("date"))


@pytest.fixture
def day(spark, state, lines, tmp_path):
    """Publish a day; ``times`` multiplies its numbers, as a faulty step would."""
    folder = lines('{"id": "a", "n": 1}', '{"id": "b", "n": 2}', '{"id": "c", "n": 3}')
    root, out = str(tmp_path / "markers"), str(tmp_path / "out")

    def run_day(times=1, **options):
        with new_run("p", KEY, state=state, spark=spark, command=COMMAND, **options) as run:
            source = sf.source("json", folder, schema="id STRING NOT NULL, n INT")
            multiply = sf.step(lambda frame, *, by: frame.withColumn("n", F.col("n") * by), name="times", by=times)
            frame = sf.local_sequencer(run, sf.read(run, "in", source), [multiply, sf.step(dated, key=KEY)])
            with sf.transaction(run, "publish") as tx:
                sf.write(tx, "lake", frame, sf.delta(out, partition_by="date"))
            sf.publish(run, "days", markers=root)
        return run

    run_day.numbers = lambda: sorted(DeltaTable(out).to_pyarrow_table()["n"].to_pylist())
    run_day.events = lambda: DeltaLedger(state).read("p", KEY)
    run_day.marker = lambda: markers.read(f"{root}/days/{KEY}.json")
    run_day.root, run_day.out, run_day.state = root, out, state
    return run_day


@pytest.mark.spark
def test_a_bad_publish_is_undone_and_its_consumers_are_stale(spark, day, tmp_path):
    day()
    day(times=100, rerun=True)
    with sf.Run.open("reader", KEY, state=str(tmp_path / "r"), spark=spark) as run:
        handed = sf.wait_for(run, "days", markers=day.root, polling=sf.Polling(timeout=0))
        sf.write(run, "copy", handed.frame, sf.parquet(str(tmp_path / "copy")))
    ledgers = {"r": DeltaLedger(str(tmp_path / "r")).read()}
    assert (day.numbers(), stale(ledgers)) == ([100, 200, 300], [])
    done = CliRunner().invoke(app, ["rollback", "p", KEY, f"--state={day.state}", "--yes"])
    assert done.exit_code == 0, done.output
    assert (day.numbers(), day.marker().revision, day.marker().tables["lake"].version) == ([1, 2, 3], 3, 2)
    assert [(one.pipeline, one.key) for one in stale(ledgers)] == [("reader", KEY)]
    seen = sf.read_transaction(spark, "p", KEY, state=day.state)["lake"]
    assert sorted(row.n for row in seen.collect()) == [1, 2, 3]
    again = day()  # the code of the earlier generation reuses what was published
    assert (again.generation, states(again)["publish/lake"], DeltaTable(day.out).version()) == (3, "reused", 2)
    with pytest.raises(CannotRollBack, match="already"):
        rollbacks.plan(day.events())
    assert rollbacks.plan(day.events(), to=2).to == 2


@pytest.mark.spark
@pytest.mark.parametrize(
    ("node", "point"),
    [
        ("publish/lake", "after_commit"),
        ("marker/days", "after_commit"),
        *at_night(("publish/lake", "before_commit"), ("publish/lake", "before_event")),
        *at_night(("marker/days", "before_commit"), ("marker/days", "before_event")),
    ],
)
def test_killed_and_repeated_it_is_the_same_rollback(spark, day, point, node, monkeypatch):
    day()
    day(times=100, rerun=True)
    planned = rollbacks.plan(day.events())
    assert planned.command == COMMAND  # so that a backfill can run the key again
    opened = sf.Run.open
    watched = {"observers": [killing(point, node)]}
    monkeypatch.setattr(rollbacks.Run, "open", lambda *a, **more: opened(*a, **{**more, **watched}))
    with pytest.raises(Killed):
        rollbacks.rollback(spark, DeltaLedger(day.state), day.state, planned)
    watched.clear()
    planned = rollbacks.plan(day.events())
    assert (planned.to, planned.resumed) == (1, True)
    run = rollbacks.rollback(spark, DeltaLedger(day.state), day.state, planned)
    assert (run.generation, day.numbers(), DeltaTable(day.out).version()) == (3, [1, 2, 3], 2)
    assert day.marker().revision == 3


@pytest.mark.spark
def test_what_is_gone_is_refused_before_anything_is_written(spark, day):
    day()
    with pytest.raises(CannotRollBack, match="no earlier generation"):
        rollbacks.plan(day.events())
    day(times=100, rerun=True)
    with pytest.raises(CannotRollBack, match="no generation 7"):
        rollbacks.plan(day.events(), to=7)
    for file in DeltaTable(day.out, version=0).file_uris():  # as VACUUM does, which takes a minute to find them
        Path(file).unlink()
    done = CliRunner().invoke(app, ["rollback", "p", KEY, f"--state={day.state}", "--yes"])
    assert (done.exit_code, "VACUUM" in done.output) == (2, True), done.output
    assert (day.numbers(), max(event.generation for event in day.events())) == ([100, 200, 300], 2)


@pytest.mark.spark
def test_a_folder_that_was_replaced_and_a_merge_cannot_be_undone(flow, spark, state, tmp_path):
    flow()
    flow(steps=[keep_large, sf.step(double, restart=True), sf.step(dated, key=KEY, version="2")], rerun=True)
    events = DeltaLedger(state).read("p", KEY)
    with pytest.raises(CannotRollBack, match="replaced since"):
        rollbacks.plan(events)
    for at in range(2):
        with new_run("m", KEY, state=state, spark=spark, rerun=bool(at)) as run:
            sf.write(run, "t", spark.range(at + 1), sf.delta(str(tmp_path / "m"), mode="merge", on="id"))
    with pytest.raises(CannotRollBack, match="cannot be undone"):
        rollbacks.plan(DeltaLedger(state).read("m", KEY))


def test_an_adopted_generation_has_nothing_to_publish_again():
    place = {"pipeline": "p", "key": KEY, "attempt": 1, "node": "", "kind": "run", "state": "succeeded"}
    events = [
        Event(**place, seq=1, generation=1, detail={"adopted": {"lake": {"path": "/t", "rows": 3}}}),
        Event(**place, seq=1, generation=2),
    ]
    for to in (0, 1):
        with pytest.raises(CannotRollBack):
            rollbacks.plan(events, to=to)


@pytest.mark.spark
def test_a_consumer_that_is_rolled_back_keeps_what_it_had_read_and_is_stale(spark, day, tmp_path):
    state = str(tmp_path / "r")

    def read(**options):
        with new_run("reader", KEY, state=state, spark=spark, command=COMMAND, **options) as run:
            handed = sf.wait_for(run, "days", markers=day.root, polling=sf.Polling(timeout=0))
            sf.write(run, "copy", handed.frame, sf.delta(str(tmp_path / "copy"), partition_by="date"))
        return run

    day()
    read()
    day(times=100, rerun=True)
    read(rerun=True)
    done = CliRunner().invoke(app, ["rollback", "reader", KEY, f"--state={state}", "--yes"])
    assert (done.exit_code, [n for (n,) in stored(tmp_path / "copy", "n")]) == (0, [1, 2, 3]), done.output
    again = states(read())
    assert (again["wait/days"], again["copy"]) == ("reused", "reused")
    (found,) = stale({"r": DeltaLedger(state).read()})
    assert (found.pipeline, found.key) == ("reader", KEY)
