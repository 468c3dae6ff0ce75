"""The ledger's contract, on both adapters, and what is Delta's alone."""

import datetime as dt
import json
import multiprocessing as mp
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable

from spark_flow.errors import Fenced, StateNotWritable, StateTooNew
from spark_flow.ledger import FORMAT, DeltaLedger, DeltaRegister, Event, Fence, MemoryLedger, delta
from spark_flow.ledger.delta import COMPACT_EVERY, FORMAT_FILE


def event(**fields):
    defaults = {"pipeline": "p", "key": "k", "generation": 1, "attempt": 1, "seq": 1, "node": "n"}
    return Event(**{**defaults, "kind": "step", "state": "succeeded", **fields})


@pytest.fixture(params=["memory", "delta"])
def ledger(request, state):
    return MemoryLedger() if request.param == "memory" else DeltaLedger(state)


def test_an_event_comes_back_as_it_was(ledger):
    whole = event(
        revision=3, fingerprint="ab", rows=7, duration_ms=5, reason="r", error="e", detail={"a": [1, {"b": None}]}
    )
    ledger.append([whole])
    assert ledger.read("p", "k") == [whole]


def test_events_come_in_the_order_of_generation_attempt_and_sequence(ledger):
    places = [(2, 1, 1), (1, 2, 1), (1, 1, 2), (1, 1, 1), (2, 1, 3)]
    ledger.append([event(generation=g, attempt=a, seq=s) for g, a, s in places])
    assert [(e.generation, e.attempt, e.seq) for e in ledger.read("p", "k")] == sorted(places)


def test_reads_one_key_one_pipeline_or_all(ledger):
    ledger.append([event(pipeline=p, key=k) for p in "pq" for k in "ab"])
    assert [(e.pipeline, e.key) for e in ledger.read("p", "b")] == [("p", "b")]
    assert [(e.pipeline, e.key) for e in ledger.read("q")] == [("q", "a"), ("q", "b")]
    assert len(ledger.read()) == 4


def test_a_key_that_is_a_prefix_or_looks_like_sql_is_just_a_key(ledger):
    ledger.append([event(key="2013-01"), event(key="2013-01-02"), event(key="x' OR 'a'='a")])
    assert [e.key for e in ledger.read("p", "2013-01")] == ["2013-01"]
    assert [e.key for e in ledger.read("p", "x' OR 'a'='a")] == ["x' OR 'a'='a"]


def at(minute):
    return dt.datetime(2024, 3, 1, 12, minute, tzinfo=dt.timezone.utc)


def test_events_of_some_kinds_alone(ledger):
    ledger.append([event(seq=n, kind=kind) for n, kind in enumerate(("run", "step", "marker", "run"))])
    assert [e.seq for e in ledger.read("p", kinds=["run", "marker"])] == [0, 2, 3]
    assert ledger.read("p", "k", kinds=["choice"]) == []


def test_the_keys_that_ran_last_come_first_and_their_events_in_the_usual_order(ledger):
    ledger.append([event(key=key, at=at(minute)) for key, minute in (("a", 3), ("b", 1), ("c'", 2))])
    ledger.append([event(key="b", seq=2, at=at(4)), event(pipeline="q", key="z", at=at(0))])
    assert ledger.recorded_keys() == [("p", "b"), ("p", "a"), ("p", "c'"), ("q", "z")]
    assert ledger.recorded_keys("p", last=2) == [("p", "b"), ("p", "a")]
    assert [(e.key, e.seq) for e in ledger.latest(last=3)] == [("a", 1), ("b", 1), ("b", 2), ("c'", 1)]
    assert [e.key for e in ledger.latest("q", last=3)] == ["z"]


def test_the_last_runs_of_a_pipeline_with_a_state_newest_first(ledger):
    ledger.append([event(key=key, kind="run", state="succeeded", at=at(n)) for n, key in enumerate("abc")])
    ledger.append([event(key="d", kind="run", state="failed", at=at(4)), event(key="d", state="succeeded", at=at(5))])
    ledger.append([event(pipeline="q", kind="run", state="succeeded", at=at(6))])
    assert [e.key for e in ledger.runs("p", "succeeded", last=2)] == ["c", "b"]
    assert [e.key for e in ledger.runs("p", "failed", last=9)] == ["d"]


def test_an_empty_ledger_reads_as_empty(ledger):
    assert ledger.read("p", "k") == ledger.latest(last=1) == ledger.recorded_keys() == []


def test_a_fence_is_checked_again_once_another_commit_is_read(ledger):
    """A commit of one's own has proved the fence, for the version of the table that it made."""
    ledger.append([event(seq=1)], Fence("p/k", 1))
    ledger.append([event(seq=2)], Fence("p/k", 1))
    ledger.append([event(seq=3)], Fence("p/k", 2))
    for _ in range(2):
        with pytest.raises(Fenced):
            ledger.append([event(seq=4)], Fence("p/k", 1))
    assert [e.seq for e in ledger.read("p", "k")] == [1, 2, 3]


def test_a_fence_is_checked_although_ones_own_commit_was_the_last_that_one_has_read(state):
    mine, other = DeltaLedger(state), DeltaLedger(state)
    mine.append([event(seq=1)], Fence("p/k", 1))
    other.append([event(seq=2)], Fence("p/k", 2))
    with pytest.raises(Fenced):
        mine.append([event(seq=3)], Fence("p/k", 1))
    assert [e.seq for e in mine.read("p", "k")] == [1, 2]


def test_a_full_file_is_not_merged_again(state, monkeypatch):
    monkeypatch.setattr(delta, "FULL", 4096)
    ledger = DeltaLedger(state)
    ledger.append([event(seq=seq, reason=str(random.Random(seq).random())) for seq in range(1000)])
    (full,) = DeltaTable(f"{state}/ledger").file_uris()
    ledger.append([event(seq=1000)])
    ledger.append([event(seq=1001)])
    ledger.compact()
    assert full in DeltaTable(f"{state}/ledger").file_uris()
    assert len(ledger.read("p", "k")) == 1002


def test_maintenance_loses_no_event(ledger):
    for seq in range(COMPACT_EVERY + 5):
        ledger.append([event(seq=seq)])
    ledger.maintain()
    assert [e.seq for e in ledger.read("p", "k")] == list(range(COMPACT_EVERY + 5))


def test_compaction_keeps_live_files_few(state):
    ledger = DeltaLedger(state)
    for seq in range(COMPACT_EVERY):
        ledger.append([event(seq=seq)])
    assert len(DeltaTable(f"{state}/ledger").file_uris()) == 1


def test_compaction_keeps_live_files_few_when_several_processes_append(state):
    ledgers = [DeltaLedger(state) for _ in range(3)]
    for seq in range(2 * COMPACT_EVERY):
        ledgers[seq % 3].append([event(seq=seq)])
    assert len(DeltaTable(f"{state}/ledger").file_uris()) <= COMPACT_EVERY
    assert len(ledgers[0].read("p", "k")) == 2 * COMPACT_EVERY


def test_a_ledger_that_is_removed_while_a_run_writes_is_named(state):
    ledger = DeltaLedger(state)
    shutil.rmtree(f"{state}/ledger")
    with pytest.raises(StateNotWritable) as refused:
        ledger.append([event()])
    assert "ledger" in str(refused.value)


def test_who_is_suspended_in_its_turn_stops_no_other(state, monkeypatch):
    monkeypatch.setattr(delta, "_LONGEST_TURN", 0.2)
    ledger = DeltaLedger(state)
    with delta._turn(ledger._path) as waited:
        assert not waited
        began = time.monotonic()
        ledger.append([event()])
        assert time.monotonic() - began >= 0.15
    assert len(ledger.read("p", "k")) == 1


def test_another_process_sees_what_was_recorded(state):
    DeltaLedger(state).append([event()])
    assert DeltaLedger(state, create=False).read("p", "k")[0].node == "n"


def test_who_finds_another_one_compacting_leaves_it_to_that_one(state):
    """deltalake lets both succeed, and events would be there twice."""
    mine, other = DeltaLedger(state), DeltaLedger(state)
    for seq in range(4):
        mine.append([event(seq=seq)])
    claims = DeltaRegister(f"{state}/compaction")
    claims.swap(claims.read()[0], {"until": time.time() + 60})
    assert other.compact() == (4, 4)
    claims.swap(claims.read()[0], {"until": time.time() - 1})  # its process was killed
    assert other.compact() == (4, 1)
    assert other.compact() == (1, 1)
    assert [e.seq for e in DeltaLedger(state).read("p", "k")] == [0, 1, 2, 3]


def test_events_that_were_doubled_are_read_once(state):
    ledger = DeltaLedger(state)
    twice = event(at=at(1))
    for _ in range(2):
        ledger.append([twice])
    assert ledger.read("p", "k") == ledger.latest(last=1) == [twice]


def test_another_process_that_changes_the_tables_metadata_costs_no_event(state):
    """As it does when it loses the race to create the table."""
    ledger = DeltaLedger(state)
    ledger.append([event()])
    DeltaTable(f"{state}/ledger").alter.set_table_properties({"delta.checkpointInterval": "999999"})
    ledger.append([event(seq=2)])
    assert len(DeltaLedger(state).read()) == 2


def test_a_ledger_that_is_not_there_reads_as_empty_and_is_not_made(state, tmp_path):
    assert DeltaLedger(state, create=False).read() == []
    assert list(tmp_path.iterdir()) == []


def _append(state, writer, count):
    ledger = DeltaLedger(state)
    for seq in range(count):
        ledger.append([event(key=f"w{writer}", seq=seq)])


def test_several_processes_lose_no_event_even_when_they_create_the_ledger(state):
    spawn = mp.get_context("spawn")  # deltalake's runtime does not survive a fork
    writers = [spawn.Process(target=_append, args=(state, n, 15)) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [w.exitcode for w in writers] == [0, 0, 0]
    assert [len(DeltaLedger(state).read("p", f"w{n}")) for n in range(3)] == [15, 15, 15]


@pytest.mark.parametrize("found", [FORMAT + 1, "two", None])
def test_state_of_a_newer_version_is_refused(state, found):
    DeltaLedger(state)
    with Path(state, FORMAT_FILE).open("w") as file:
        json.dump({"format": found}, file)
    with pytest.raises(StateTooNew) as refused:
        DeltaLedger(state, create=False)
    assert (refused.value.found, refused.value.supported) == (found, FORMAT)


def test_a_state_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")  # root may write any folder, but nobody a folder below a file
    with pytest.raises(StateNotWritable) as refused:
        DeltaLedger(str(tmp_path / "file" / "state"))
    assert str(tmp_path / "file" / "state") in refused.value.path


def test_events_are_values():
    assert replace(event(), seq=2) != event(seq=1)
