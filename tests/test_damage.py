"""Files of the state that were emptied, cut, lost or changed: an error with path and remedy, or healed; never wrong."""

import dataclasses
import json
import pickle
import random
import shutil
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from runs import new_run

import spark_flow as sf
from spark_flow.engine.node import Node
from spark_flow.engine.writing import TableTarget
from spark_flow.errors import DamagedFile, InvalidMarker, StateDamaged
from spark_flow.fan_out import branch_application
from spark_flow.ledger import DeltaLedger, DeltaRegister, Event, Fence
from spark_flow.ledger.delta import FORMAT_FILE, SCHEMA
from spark_flow.orchestration.reprocess_request import open_request
from spark_flow.storage import checkpoints, delta_tables, markers
from spark_flow.storage.sink_protocol import Intent, Written, app_id

HOW = ["empty", "cut", "missing", "zeroed", "flipped"]


def damage(file, how):
    content = bytearray(file.read_bytes())
    if how == "missing":
        return file.unlink()
    if how == "flipped":
        content[len(content) // 2] ^= 1
    left = {"empty": b"", "cut": content[: len(content) // 2], "zeroed": bytes(len(content)), "flipped": content}
    return file.write_bytes(left[how])


def event(seq, **fields):
    place = {"pipeline": "p", "key": "k", "generation": 1, "attempt": 1, "node": f"n{seq}", "kind": "step"}
    return Event(**place, seq=seq, state="succeeded", **fields)


# --- the ledger ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A ledger of ten commits, of which a reader needs the last four and a checkpoint."""
    state = tmp_path_factory.mktemp("recorded") / "state"
    ledger = DeltaLedger(str(state))
    for seq in range(6):
        ledger.append([event(seq, detail={"path": "x" * 20})], Fence("p/k", 1))
    ledger._table.create_checkpoint()
    for seq in range(6, 10):
        ledger.append([event(seq)], Fence("p/k", 1))
    return state


def log(state, name):
    return state / "ledger" / "_delta_log" / name


def data(state):
    return min((state / "ledger").glob("*.parquet"))


LEDGER = {
    "format": lambda state: state / FORMAT_FILE,
    "commit": lambda state: log(state, f"{8:020}.json"),
    "last commit": lambda state: log(state, f"{10:020}.json"),
    "checkpoint": lambda state: log(state, f"{6:020}.checkpoint.parquet"),
    "last checkpoint": lambda state: log(state, "_last_checkpoint"),
    "data": data,
}
HARMLESS = {("format", "missing"), *(("last checkpoint", how) for how in HOW)}
LOST_TAIL = {("last commit", "missing")}  # nothing in the ledger can tell; the targets do (test_old_ledger.py)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", LEDGER)
def test_a_damaged_ledger_is_named_with_its_file_or_read_as_it_was(recorded, tmp_path, kind, how):
    state = tmp_path / "state"
    shutil.copytree(recorded, state)
    events = DeltaLedger(str(recorded)).read("p", "k")
    file = LEDGER[kind](state)
    damage(file, how)
    try:
        found = DeltaLedger(str(state)).read("p", "k")
    except StateDamaged as damaged:
        assert Path(damaged.path) in (file, state / "ledger")  # noqa: PT017 - both ends are right, where it is damaged
        assert (kind, how) not in HARMLESS | LOST_TAIL
    else:
        assert all(event in events for event in found)
        assert how == "flipped" or found == (events[:-1] if (kind, how) in LOST_TAIL else events)
        assert how == "flipped" or (kind, how) in HARMLESS | LOST_TAIL


@pytest.mark.parametrize("kind", ["commit", "last commit", "data", "checkpoint"])
def test_no_bit_that_is_flipped_changes_what_is_read(recorded, tmp_path, kind):
    """A flip in statistics or names may hide an event, as if it were lost; none is read as another one."""
    state = tmp_path / "state"
    shutil.copytree(recorded, state)
    events = DeltaLedger(str(recorded)).read("p", "k")
    file, bits = LEDGER[kind](state), random.Random(kind)
    whole = file.read_bytes()
    for _ in range(40):
        changed = bytearray(whole)
        changed[bits.randrange(len(whole))] ^= 1 << bits.randrange(8)
        file.write_bytes(changed)
        try:
            found = DeltaLedger(str(state)).read("p", "k")
        except StateDamaged:
            continue
        assert [event for event in found if event not in events] == []
        assert kind != "commit" or found == events


def test_a_commit_that_was_cut_after_its_first_line_is_noticed(recorded, tmp_path):
    """What is left is a commit for Delta, without what it recorded."""
    state = tmp_path / "state"
    shutil.copytree(recorded, state)
    file = LEDGER["last commit"](state)
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(StateDamaged) as damaged:
        DeltaLedger(str(state))
    assert damaged.value.path == str(file)


def test_a_commit_whose_statistics_were_changed_is_noticed(recorded, tmp_path):
    """It is whole JSON; Delta would pass over the event, because by the statistics its file holds another key."""
    state = tmp_path / "state"
    shutil.copytree(recorded, state)
    file = LEDGER["commit"](state)
    whole = file.read_bytes()
    file.write_bytes(whole.replace(rb"\"key\":\"k\"", rb"\"key\":\"a\""))
    assert file.read_bytes() != whole
    with pytest.raises(StateDamaged) as damaged:
        DeltaLedger(str(state)).read("p", "k")
    assert damaged.value.path == str(file)


def test_a_ledger_of_the_version_before_is_read(state):
    """Its rows and commits have no checksum."""
    ledger = DeltaLedger(state)
    row = {**dataclasses.asdict(event(1)), "detail": '{"a": 1}'}
    write_deltalake(ledger._table, pa.Table.from_pylist([row], SCHEMA), mode="append")
    assert [e.detail for e in DeltaLedger(state).read("p", "k")] == [{"a": 1}]


def flow(state, table, value, **options):
    path, id_ = str(table), app_id("p", "lake", "k")

    def write(intent):
        rows = pa.table({"key": ["k"], "value": [value]})
        return Written(detail={"path": path, "version": delta_tables.replace_rows(path, rows, "key = 'k'", intent)})

    with new_run("p", "k", state=str(state), **options) as run:
        run.once(Node(name="lake", kind="sink"), write, TableTarget(path, id_))
    return delta_tables.open_table(path).to_pyarrow_table()["value"].to_pylist()


@pytest.mark.parametrize("kind", ["commit", "data", "last"])
def test_the_remedy_that_is_named_works(tmp_path, kind):
    state, table = tmp_path / "state", tmp_path / "t"
    flow(state, table, 1)
    flow(state, table, 2, rerun=True)
    file = data(state) if kind == "data" else sorted(log(state, "").glob("*.json"))[-1 if kind == "last" else 2]
    damage(file, "cut")
    with pytest.raises(StateDamaged) as damaged:
        flow(state, table, 3)
    assert damaged.value.path == str(file)
    if kind == "last":
        file.unlink()
    else:
        shutil.rmtree(state / "ledger")
    assert flow(state, table, 3) == ([2] if kind == "last" else [3])
    assert flow(state, table, 4) == ([2] if kind == "last" else [3])


def test_a_damaged_format_file_can_be_written_by_hand(state):
    DeltaLedger(state).append([event(1)])
    file = Path(state, FORMAT_FILE)
    damage(file, "cut")
    with pytest.raises(StateDamaged) as damaged:
        DeltaLedger(state)
    assert damaged.value.path == str(file)
    file.write_text('{"format": 1}')
    assert len(DeltaLedger(state).read()) == 1


# --- leases --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW[:-1])  # a flipped bit: the next test
def test_a_damaged_register_is_named_and_can_be_removed(tmp_path, how):
    path = tmp_path / "r"
    register = DeltaRegister(str(path))
    for number in range(3):
        assert register.swap(register.read()[0], {"claims": [], "token": 111_111 + number})
    damage(max((path / "_delta_log").glob("*.json")), how)
    if how == "missing":  # as if the last change had not been made
        assert DeltaRegister(str(path)).read()[1]["token"] == 111_112
        return
    with pytest.raises(StateDamaged) as damaged:
        DeltaRegister(str(path)).read()
    assert damaged.value.path == str(path)
    shutil.rmtree(path)
    assert DeltaRegister(str(path)).read()[1] == {}


def test_no_bit_that_is_flipped_changes_a_document(tmp_path):
    register = DeltaRegister(str(tmp_path / "r"))
    assert register.swap(0, {"claims": [], "token": 111_111})
    file, bits = max((tmp_path / "r" / "_delta_log").glob("*.json")), random.Random(1)
    whole = file.read_bytes()
    for _ in range(40):
        changed = bytearray(whole)
        changed[bits.randrange(len(whole))] ^= 1 << bits.randrange(8)
        file.write_bytes(changed)
        try:
            found = DeltaRegister(str(tmp_path / "r")).read()[1]
        except StateDamaged:
            continue
        assert found == {"claims": [], "token": 111_111}


# --- small files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_marker_pins_nothing(tmp_path, how):
    told = markers.Marker(dataset="d", key="k", state="skipped", reason="x" * 400, revision=3)
    path = Path(markers.write(str(tmp_path), told))
    damage(path, how)
    with pytest.raises(FileNotFoundError if how == "missing" else InvalidMarker) as damaged:
        markers.read(str(path))
    assert how == "missing" or damaged.value.path == str(path)
    assert markers.revision(str(path)) == 0  # and may be written again


@pytest.mark.parametrize("how", HOW[:-1])
def test_a_damaged_request_is_a_new_one(tmp_path, how):
    state = str(tmp_path)
    with open_request(state, "p", "rerun") as first:
        pass
    damage(next((tmp_path / "requests" / "p").iterdir()), how)
    with open_request(state, "p", "rerun") as second:
        assert second.request_id != first.request_id
    with open_request(state, "p", "rerun") as third:
        assert third.request_id == second.request_id


@pytest.mark.parametrize("how", HOW[:-1])
def test_a_damaged_note_that_a_generation_succeeded_counts_as_none(tmp_path, how):
    state = str(tmp_path)
    (tmp_path / "boundaries" / "p" / "k").mkdir(parents=True)
    checkpoints.mark_succeeded(state, "p", "k", 1)
    damage(Path(checkpoints._noted(state, "p", "k")), how)
    assert checkpoints.mark_begun(state, "p", "k", 2) is None
    checkpoints.mark_succeeded(state, "p", "k", 2)
    assert checkpoints.mark_begun(state, "p", "k", 3) == 2


@pytest.mark.parametrize("content", [b"", b'{"rows"', b"[]", b"{}", b'{"rows": 1}'])
def test_a_damaged_report_of_an_application_fails_its_branch(tmp_path, content):
    (tmp_path / branch_application.REPORT).write_bytes(content)
    assert branch_application.REPORT in branch_application._report(str(tmp_path))["error"]


@pytest.mark.parametrize("how", HOW)
def test_damaged_work_of_an_application_is_not_done(tmp_path, how):
    path = tmp_path / branch_application.WORK
    content = pickle.dumps({"a": 1})
    path.write_bytes(zlib.crc32(content).to_bytes(4, "big") + content)
    assert branch_application._work(str(tmp_path)) == {"a": 1}
    damage(path, how)
    with pytest.raises(FileNotFoundError if how == "missing" else DamagedFile, match=branch_application.WORK):
        branch_application._work(str(tmp_path))


def test_what_a_kill_has_left_beside_a_small_file_does_no_harm(tmp_path):
    told = markers.Marker(dataset="d", key="k", state="skipped")
    path = Path(markers.write(str(tmp_path), told))
    path.with_name(f"{path.name}.0123.tmp").write_text("{")
    assert markers.read(str(path)).state == "skipped"


# --- checkpoints ---------------------------------------------------------------------------------------------------


class Frame:
    """What a checkpoint needs of a Spark frame; written by pyarrow, in two files."""

    def __init__(self):
        self.write, self.schema = self, self
        self.rows = pa.table({"n": list(range(1000))})

    def mode(self, _):
        return self

    def jsonValue(self):  # noqa: N802 - Spark's
        return {}

    def parquet(self, uri):
        folder = Path(uri.removeprefix("file://"))
        folder.mkdir(parents=True)
        for name in ("part-0", "part-1"):
            pq.write_table(self.rows, folder / f"{name}.parquet", compression="none")
        (folder / "_SUCCESS").touch()


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint's record, and its files."""
    place = {"pipeline": "p", "key": "k", "generation": 1, "attempt": 1, "node": "n", "run_id": "r", "revision": 1}
    written = checkpoints.write(Frame(), str(tmp_path), Intent(**place, mark=lambda _: None))
    return dict(written.detail), sorted((tmp_path / written.detail["path"]).glob("*.parquet"))


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_checkpoint_is_not_reused(tmp_path, checkpoint, how):
    detail, parts = checkpoint
    assert checkpoints.why_invalid(str(tmp_path), detail) == ""
    damage(parts[1], how)
    assert "changed" in checkpoints.why_invalid(str(tmp_path), detail)


def test_a_checkpoint_whose_files_were_exchanged_is_not_reused(tmp_path, checkpoint):
    detail, parts = checkpoint
    parts[0].rename(parts[0].with_name("part-2.parquet"))
    assert "changed" in checkpoints.why_invalid(str(tmp_path), detail)


def test_a_checkpoint_of_the_version_before_is_judged_by_size(tmp_path, checkpoint):
    detail, parts = checkpoint
    del detail["checksum"]
    assert checkpoints.why_invalid(str(tmp_path), detail) == ""
    damage(parts[0], "cut")
    assert "changed" in checkpoints.why_invalid(str(tmp_path), detail)


def test_a_checkpoint_with_a_flipped_bit_is_computed_again(flow_with_checkpoint):
    run, out, state = flow_with_checkpoint
    run()
    part = next((state / "boundaries").rglob("*.parquet"))
    damage(part, "flipped")
    shutil.rmtree(out)
    assert {o.node: o.state for o in run().outcomes}["double"] == "succeeded"
    assert json.loads(next(out.rglob("part-*.json")).read_text())["n"] == 2


@pytest.fixture
def flow_with_checkpoint(spark, state, lines, tmp_path):
    from conftest import double

    folder, out = lines('{"id": "a", "n": 1}'), tmp_path / "out"

    def run():
        with sf.Run.open("p", "k", state=state, spark=spark) as run:
            frame = sf.read(run, "in", sf.source("json", folder, schema="id STRING, n INT"))
            doubled = sf.local_sequencer(run, frame, [sf.step(double, restart=True)])
            sf.write(run, "out", doubled, sf.sink("json", str(out)))
        return run

    return run, out, Path(state)
