"""The ledger's contract, on both adapters, and what is Delta's alone."""

import json
import multiprocessing as mp
from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable

from spark_flow.errors import StateNotWritable, StateTooNew
from spark_flow.ledger import FORMAT, DeltaLedger, Event, MemoryLedger
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


def test_an_empty_ledger_reads_as_empty(ledger):
    assert ledger.read("p", "k") == []


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


def test_another_process_sees_what_was_recorded(state):
    DeltaLedger(state).append([event()])
    assert DeltaLedger(state, create=False).read("p", "k")[0].node == "n"


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
