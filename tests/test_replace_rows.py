"""Rows that are replaced without Spark: the guards of a sink, and a commit that conflicts with one of its id."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from deltalake import DeltaTable

import spark_flow as sf
from spark_flow.core.completeness import Completeness
from spark_flow.engine.mode import Permission
from spark_flow.errors import LeaseLost, WriteNotProved
from spark_flow.fan_in import FanIn
from spark_flow.ledger import MemoryRegister
from spark_flow.orchestration.leases import PoolDocument, free, hold
from spark_flow.storage import delta_tables
from spark_flow.storage.sink_protocol import Intent


@pytest.fixture
def table(tmp_path):
    return str(tmp_path / "t")


def put(table, revision, value, *, key="k", mark=lambda _: None):
    place = {"pipeline": "p", "key": key, "generation": 1, "attempt": 1, "node": "n", "run_id": "r"}
    intent = Intent(**place, revision=revision, mark=mark)
    rows = pa.table({"key": [key], "value": [value]})
    return delta_tables.replace_rows(table, rows, f"key = '{key}'", intent)


def rows(table):
    return sorted((r["key"], r["value"]) for r in DeltaTable(table).to_pyarrow_table().to_pylist())


def at_commit(do):
    """Do something once, just before the commit of a write."""
    left = [do]
    return lambda point: left.pop()() if point == "before_commit" and left else None


def test_a_revision_replaces_the_one_before_and_is_written_once(table):
    assert [put(table, 1, "a"), put(table, 2, "b"), put(table, 2, "c")] == [0, 1, 1]
    assert rows(table) == [("k", "b")]


def test_an_older_revision_is_refused(table):
    put(table, 2, "new")
    with pytest.raises(WriteNotProved) as refused:
        put(table, 1, "old")
    assert (refused.value.path, rows(table)) == (table, [("k", "new")])


@pytest.mark.parametrize("first", [True, False], ids=["table made", "table there"])
def test_what_another_commits_of_this_id_meanwhile_is_not_replaced(table, first):
    if not first:
        put(table, 1, "before")
    with pytest.raises(WriteNotProved):
        put(table, 2, "old", mark=at_commit(lambda: put(table, 3, "new")))
    assert rows(table) == [("k", "new")]


@pytest.mark.parametrize("first", [True, False], ids=["table made", "table there"])
def test_the_same_revision_by_two_is_there_once(table, first):
    if not first:
        put(table, 1, "before")
    put(table, 2, "mine", mark=at_commit(lambda: put(table, 2, "theirs")))
    assert rows(table) == [("k", "theirs")]


def test_of_many_who_make_the_table_at_once_one_does(tmp_path):
    for number in range(8):
        table = str(tmp_path / f"t{number}")
        start = threading.Barrier(3)

        def write(table=table, start=start):
            start.wait()
            put(table, 1, "once")

        with ThreadPoolExecutor(3) as pool:
            for done in [pool.submit(write) for _ in range(3)]:
                done.result()
        assert rows(table) == [("k", "once")]


@pytest.mark.parametrize("first", [True, False], ids=["table made", "table there"])
def test_another_key_is_committed_beside_it(table, first):
    if not first:
        put(table, 1, "before")
    put(table, 2, "mine", mark=at_commit(lambda: put(table, 1, "theirs", key="other")))
    assert rows(table) == [("k", "mine"), ("other", "theirs")]


# --- the nodes that write so ---------------------------------------------------------------------------------------


def report(run, table):
    told = Completeness(node="hours", expected=("05", "06"), arrived=("05",))

    class Frame:  # stands for a fan-in's frame
        node, completeness = "hours", (told,)

    sf.report_completeness(run, "d", FanIn(frame=Frame, completeness=told), table=table)


def errors(run, table):
    def missing():
        raise ValueError("away")

    inputs = {"05": missing}
    sf.unaligned_fan_in(run, "hours", inputs, require=sf.any_succeeded, on_all_failed=sf.error_table(table))


@pytest.mark.parametrize(
    ("write", "node"), [(report, "completeness"), pytest.param(errors, "hours/fallback", marks=pytest.mark.spark)]
)
def test_who_lost_its_lease_before_the_commit_writes_nothing(request, memory_ledger, state, table, write, node):
    spark = request.getfixturevalue("spark") if write is errors else None
    place = PoolDocument("pipelines/p", MemoryRegister())

    def lose(point, where, _):
        if (point, where) == ("before_commit", node):
            free(place, "k")
            lease.renew()

    with hold(place, "p", "k") as lease:
        run = sf.Run.open(
            "p",
            "k",
            state=state,
            ledger=memory_ledger,
            permission=Permission(lease=lease),
            spark=spark,
            observers=[lose],
        )
        with pytest.raises(LeaseLost), run:
            write(run, table)
    assert delta_tables.open_table(table) is None
