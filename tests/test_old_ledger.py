"""A target that remembers more than the ledger: nothing recorded is reused, whatever part of the ledger was lost."""

import contextlib
import shutil

import pyarrow as pa
import pytest
from conftest import Killed, at_night, dated, killing
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runs import new_run

import spark_flow as sf
from spark_flow.engine.mode import Mode
from spark_flow.engine.node import Node
from spark_flow.engine.run import recomputing
from spark_flow.engine.writing import TableTarget
from spark_flow.errors import LedgerOld
from spark_flow.ledger import DeltaLedger, MemoryLedger
from spark_flow.storage import delta_tables
from spark_flow.storage.sink_protocol import Written, app_id

POINTS = ("before_action", "before_commit", "after_commit", "before_event", "after_event")


def cut(ledger, left):
    """What is left of a ledger that has lost its tail."""
    shorter = MemoryLedger()
    shorter.append(ledger.read()[:left])
    return shorter


def value_of(table):
    opened = delta_tables.open_table(str(table))
    return opened.to_pyarrow_table()["value"][0].as_py() if opened else None


def sink(run, name, table, value):
    """A write of one row, by the guards of a real target, without Spark."""
    path, id_ = str(table), app_id("p", name, run.key)

    def write(intent):
        rows = pa.table({"key": [run.key], "value": [value()]})
        version = delta_tables.replace_rows(path, rows, f"key = '{run.key}'", intent)
        return Written(rows=1, detail={"path": path, "version": version})

    return run.once(Node(name=name, kind="sink"), write, TableTarget(path, id_))


def flow(folder, source, *, early=False, sinks=("a", "b")):
    """A checkpoint of the source, and what is written of it; the checkpoint may be used before any sink is."""

    def body(run):
        def checkpoint():
            return run.once(Node(name="step", writes=False), lambda _: Written(detail={"value": source[0]})).detail[
                "value"
            ]

        held = checkpoint() if early else None
        for name in sinks:
            sink(run, name, folder / name, (lambda: held) if early else checkpoint)

    return body


def do(body, ledger, state, **options):
    def once():
        with new_run("p", "k", state=state, ledger=ledger, **options) as run:
            body(run)
        return run

    return recomputing(once)


@pytest.mark.parametrize("early", [False, True], ids=["sink first", "checkpoint first"])
@pytest.mark.parametrize("lost", range(1, 14))
def test_a_lost_tail_never_brings_old_rows_back(tmp_path, state, early, lost):
    source = [1]
    ledger, body = MemoryLedger(), flow(tmp_path, source, early=early)
    do(body, ledger, state)
    source[0] = 2
    do(body, ledger, state, rerun=True)
    events = ledger.read()
    run = do(body, cut(ledger, len(events) - lost), state)
    assert [value_of(tmp_path / name) for name in "ab"] == [2, 2]
    assert run.summary()["state"] in ("succeeded", "reused")


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_was_lost_and_killed_the_targets_agree_and_never_go_back(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    state, source, ledger = str(folder / "state"), [0], MemoryLedger()
    for _ in range(data.draw(st.integers(1, 3))):
        source[0] += 1
        where = (data.draw(st.sampled_from(POINTS)), data.draw(st.sampled_from(["a", "b", "step", "none"])))
        with contextlib.suppress(Killed):
            body = flow(folder, source, early=data.draw(st.booleans()))
            do(body, ledger, state, rerun=source[0] > 1, observers=[killing(*where)])
    before = [value_of(folder / name) for name in "ab"]
    events = ledger.read()
    left = data.draw(st.integers(0, len(events)))
    do(flow(folder, source, early=data.draw(st.booleans())), cut(ledger, left), state)
    after = [value_of(folder / name) for name in "ab"]
    # Of a write that is recorded as begun only, the retry recognises the revision, as after a kill: its rows stay.
    last = {e.node: e.state for e in events[:left] if e.revision and e.state in ("started", "failed", "succeeded")}
    assert after[0] == after[1] or set(last.values()) != {"succeeded"}
    assert all(old is None or old <= new for old, new in zip(before, after, strict=True))


def outdated(tmp_path, state, *, left=None):
    """A ledger of before a rerun, and the run's body; the targets hold the rerun's rows."""
    source = [1]
    ledger, body = MemoryLedger(), flow(tmp_path, source)
    do(body, ledger, state)
    left = left or len(ledger.read())
    source[0] = 2
    do(body, ledger, state, rerun=True)
    return cut(ledger, left), body


def test_a_restored_ledger_is_told_once_and_recorded(tmp_path, state):
    ledger, body = outdated(tmp_path, state)
    run = do(body, ledger, state)
    begun = [e for e in ledger.read() if e.kind == "run" and e.state == "started"][-1]
    assert len(run.warnings) == 1
    assert (begun.generation, begun.reason) == (2, run.warnings[0])
    assert {o.node: o.state for o in run.outcomes} == dict.fromkeys(["step", "a", "b"], "succeeded")
    assert {o.state for o in do(body, ledger, state).outcomes} == {"reused"}


def test_a_plan_shows_that_nothing_is_reused_and_records_nothing(tmp_path, state):
    ledger, _ = outdated(tmp_path, state)
    known = ledger.read()
    run = sf.Run.open("p", "k", state=state, ledger=ledger, mode=Mode(plan=True))
    with run:
        for name in "ab":
            sink(run, name, tmp_path / name, lambda: None)
    assert {o.node: (o.state, o.reason) for o in run.outcomes} == dict.fromkeys("ab", ("would run", run.warnings[0]))
    assert ledger.read() == known


def test_a_plan_whose_last_sink_proves_it_takes_back_what_it_said_of_the_first(tmp_path, state):
    """The ledger knows nothing of the second sink, so that it is asked last."""
    ledger = MemoryLedger()
    do(flow(tmp_path, [1]), ledger, state)
    ledger = cut(ledger, 4)
    assert [e.node for e in ledger.read()] == ["", "a", "step", "a"]
    with sf.Run.open("p", "k", state=state, ledger=ledger, mode=Mode(plan=True)) as run:
        for name in "ab":
            sink(run, name, tmp_path / name, lambda: None)
    assert {o.node: o.state for o in run.outcomes} == dict.fromkeys("ab", "would run")


def test_a_partial_backfill_does_not_build_on_an_old_ledger(tmp_path, state):
    ledger, _ = outdated(tmp_path, state)
    known = ledger.read()
    with pytest.raises(LedgerOld) as refused:
        sf.Run.open("p", "k", state=state, ledger=ledger, mode=Mode(redo=lambda node: node == "b"))
    assert (refused.value.node, refused.value.known, refused.value.remembered) == ("a", 1, 2)
    assert ledger.read() == known


def test_what_was_used_before_the_proof_cannot_be_written_by_a_body_that_goes_on(tmp_path, state):
    ledger, _ = outdated(tmp_path, state, left=3)
    assert [(e.node, e.state) for e in ledger.read()][1:] == [("a", "started"), ("step", "succeeded")]
    source = [3]

    def stubborn(run):
        held = run.once(Node(name="step", writes=False), lambda _: Written(detail={"value": source[0]})).detail["value"]
        for name in ("a", "c"):
            with contextlib.suppress(LedgerOld):
                sink(run, name, tmp_path / name, lambda: held)

    with pytest.raises(LedgerOld), sf.Run.open("p", "k", state=state, ledger=ledger) as run:
        stubborn(run)
    assert (value_of(tmp_path / "a"), value_of(tmp_path / "c")) == (2, None)
    do(flow(tmp_path, source), ledger, state)
    assert value_of(tmp_path / "a") == 3


def test_what_was_recognised_as_written_before_is_written_again_once_the_ledger_proves_old(tmp_path, state):
    """The first sink had begun, by the ledger, and its target has its revision; of the second it knows nothing."""
    source, ledger = [1], MemoryLedger()
    do(flow(tmp_path, source), ledger, state)
    source[0] = 3
    do(flow(tmp_path, source), cut(ledger, 2), state)
    assert [value_of(tmp_path / name) for name in "ab"] == [3, 3]


def test_a_kill_between_commit_and_event_is_an_ordinary_retry(tmp_path, state):
    source, ledger = [1], MemoryLedger()
    with pytest.raises(Killed):
        do(flow(tmp_path, source), ledger, state, observers=[killing("before_event", "b")])
    source[0] = 2
    run = do(flow(tmp_path, source), ledger, state)
    assert (run.generation, run.warnings, value_of(tmp_path / "b")) == (1, [], 1)
    assert DeltaTable(str(tmp_path / "b")).version() == 0


def test_what_another_run_has_recorded_meanwhile_does_not_make_the_ledger_old(tmp_path, state):
    source, ledger = [1], MemoryLedger()
    do(flow(tmp_path, source), ledger, state)
    with sf.Run.open("p", "k", state=state, ledger=ledger) as run:  # it has read the ledger
        do(flow(tmp_path, source), ledger, state, rerun=True)
        sink(run, "a", tmp_path / "a", lambda: 1)
    assert (run.generation, run.warnings) == (1, [])


def test_a_marker_of_another_pipeline_proves_nothing(tmp_path, memory_ledger, state):
    def body(run):
        sink(run, "a", tmp_path / "a", lambda: 1)
        return sf.publish(run, "d", markers=str(tmp_path / "m"), state="skipped")

    def other(generation):
        with sf.Run.open("q", "k", state=state, ledger=MemoryLedger()) as run:
            return sf.publish(run, "d", markers=str(tmp_path / "m"), state="failed", reason=f"{generation}")

    do(body, memory_ledger, state)
    assert other(1).revision == 2
    run = do(body, memory_ledger, state)
    assert (run.generation, run.warnings) == (1, [])


def test_a_marker_proves_it_as_a_table_does(tmp_path, memory_ledger, state):
    said = ["one"]

    def body(run):
        run.once(Node(name="step", writes=False), lambda _: Written(detail={"value": said[0]}))
        return sf.publish(run, "d", markers=str(tmp_path / "m"), state="skipped", reason=said[0])

    do(body, memory_ledger, state)
    old = cut(memory_ledger, len(memory_ledger.read()))
    said[0] = "two"
    do(body, memory_ledger, state, rerun=True)
    assert do(body, old, state).generation == 2


@pytest.mark.parametrize("lost", [1, 2, 4, 7])
def test_commits_that_the_ledgers_table_has_lost(tmp_path, state, lost):
    source = [1]
    body = flow(tmp_path, source)
    do(body, DeltaLedger(state), state)
    source[0] = 2
    do(body, DeltaLedger(state), state, rerun=True)
    commits = sorted((tmp_path / "state" / "ledger" / "_delta_log").glob("*.json"))
    for commit in commits[-lost:]:
        commit.unlink()
    do(body, DeltaLedger(state), state)
    assert [value_of(tmp_path / name) for name in "ab"] == [2, 2]


# --- with Spark: checkpoints, fan-ins, and every kind of target ---------------------------------------------------


def daily(run, folder, out, fan_in):
    how = {"require": sf.all_done} if fan_in is sf.unaligned_fan_in else {}
    source = sf.source("json", f"{folder}/{{branch}}.json", branches=("x", "y"), schema="id STRING NOT NULL, n INT")
    hours = fan_in(run, "hours", source, **how)
    cube = sf.local_sequencer(run, hours.frame, [sf.step(dated, key=run.key, restart=True)])
    with sf.transaction(run, "publish") as tx:
        sf.write(tx, "lake", cube, sf.delta(str(out / "lake"), partition_by="date"))
        sf.write(tx, "legacy", cube, sf.csv(str(out / "legacy"), partition_by="date"))


@pytest.mark.parametrize("fan_in", at_night(sf.aligned_fan_in, sf.unaligned_fan_in))
def test_a_state_folder_of_before_a_rerun_brings_no_old_row_back(spark, state, lines, tmp_path, fan_in):
    def day(*numbers, **options):
        for file, n in zip("xy", numbers, strict=True):
            folder = lines(f'{{"id": "{file}", "n": {n}}}', file=f"{file}.json")
        with new_run("p", "2013-01-02", state=state, spark=spark, **options) as run:
            daily(run, folder, out, fan_in)
        return run

    def held():
        frames = sf.read_transaction(spark, "p", "2013-01-02", state=state)
        return {name: sorted(row["n"] for row in frame.collect()) for name, frame in frames.items()}

    out = tmp_path / "out"
    day(1, 2)
    shutil.copytree(state, tmp_path / "backup")
    day(8, 9, rerun=True)
    shutil.rmtree(state)
    shutil.move(tmp_path / "backup", state)
    plan = day(8, 9, plan=True)
    assert {o.state for o in plan.outcomes if o.kind in ("sink", "branch")} == {"would run"}
    run = day(8, 9)
    assert held() == {"lake": [8, 9], "legacy": [8, 9]}
    assert (run.generation, len(run.warnings)) == (2, 1)
    assert {o.state for o in day(8, 9).outcomes} == {"reused"}
