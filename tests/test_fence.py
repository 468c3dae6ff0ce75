"""Who has lost the lease of a key: it begins, commits and records nothing more, and what took its place is whole."""

import contextlib

import pytest
from conftest import stored
from runs import new_run

import spark_flow as sf
from spark_flow.core.completeness import Completeness
from spark_flow.engine.mode import Permission
from spark_flow.engine.node import Node
from spark_flow.errors import Fenced, LeaseLost
from spark_flow.ledger import DeltaLedger, Event, Fence, MemoryLedger, MemoryRegister
from spark_flow.orchestration.leases import PoolDocument, free, hold
from spark_flow.storage.sink_protocol import Written


@pytest.fixture(params=["memory", "delta"])
def ledgers(request, state):
    """Two processes' views of one ledger."""
    if request.param == "memory":
        return (MemoryLedger(),) * 2
    return DeltaLedger(state), DeltaLedger(state)


def event(seq):
    return Event(pipeline="p", key="k", generation=1, attempt=1, seq=seq, node="n", kind="step", state="succeeded")


def test_a_lower_token_is_refused_after_a_higher_one_and_adds_nothing(ledgers):
    old, new = ledgers
    old.append([event(1)], Fence("p/k", 7))
    new.append([event(2)], Fence("p/k", 9))
    with pytest.raises(Fenced) as refused:
        old.append([event(3)], Fence("p/k", 7))
    assert (refused.value.token, refused.value.seen) == (7, 9)
    assert [e.seq for e in new.read()] == [1, 2]


def test_the_same_token_goes_on_and_other_names_do_not_care(ledgers):
    old, new = ledgers
    new.append([event(1)], Fence("p/k", 9))
    new.append([event(2)], Fence("p/k", 9))
    old.append([event(3)], Fence("p/other", 1))
    old.append([event(4)])
    assert [e.seq for e in old.read()] == [1, 2, 3, 4]


def test_a_ledger_that_was_opened_later_knows_the_fence(state):
    DeltaLedger(state).append([event(1)], Fence("p/k", 9))
    with pytest.raises(Fenced):
        DeltaLedger(state).append([event(2)], Fence("p/k", 8))


def test_a_fence_outlives_compaction(state):
    ledger = DeltaLedger(state)
    ledger.append([event(0)], Fence("p/k", 9))
    for seq in range(1, 120):
        ledger.append([event(seq)])
    with pytest.raises(Fenced):
        DeltaLedger(state).append([event(200)], Fence("p/k", 8))


# --- runs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def place():
    return PoolDocument("pipelines/p", MemoryRegister())


def opened(lease, ledger, state, **options):
    return new_run("p", "k", state=state, ledger=ledger, permission=Permission(lease=lease), **options)


def done(seen, name="done"):
    def action(intent):
        intent.mark("before_commit")
        seen.append(name)
        return Written(rows=1)

    return action


def lose(place, lease):
    free(place, "k")
    lease.renew()


def test_a_run_notes_its_lease_and_who_it_took_over(place, memory_ledger, state):
    with hold(place, "p", "k") as lease, opened(lease, memory_ledger, state) as run:
        run.once(Node(name="n"), done([]))
    begun = memory_ledger.read()[0]
    assert (begun.state, begun.detail["lease"]["token"]) == ("started", lease.claim.token)


def test_who_lost_its_lease_does_not_begin(place, memory_ledger, state):
    with hold(place, "p", "k") as lease:
        lose(place, lease)
        with pytest.raises(LeaseLost):
            opened(lease, memory_ledger, state)
    assert memory_ledger.read() == []


@pytest.mark.parametrize("point", ["before_action", "before_commit"])
def test_who_lost_its_lease_commits_nothing_and_says_so(place, memory_ledger, state, point):
    seen = []
    with hold(place, "p", "k") as lease:

        def observer(at, *_):
            if at == point:
                lose(place, lease)

        run = opened(lease, memory_ledger, state, observers=[observer])
        with pytest.raises(LeaseLost), run:
            run.once(Node(name="n"), done(seen))
    assert seen == []
    assert [(e.node, e.state) for e in memory_ledger.read()] == [("", "started"), ("n", "started")]
    assert run.summary()["state"] == "waiting"


def test_who_was_overtaken_in_the_ledger_records_no_success(ledgers, place, state):
    """Although it knows nothing of it: its lease looks as good as ever."""
    old, new = ledgers
    seen = []
    with hold(place, "p", "k") as first:
        run = opened(first, old, state)
        run.once(Node(name="a"), done(seen, "a"))
        free(place, "k")
        with hold(place, "p", "k") as second, opened(second, new, state) as other:
            assert other.once(Node(name="a"), done(seen, "again")).state == "reused"
            other.once(Node(name="b"), done(seen, "b"))
            with pytest.raises(Fenced), run:
                run.once(Node(name="b"), done(seen, "too late"))
    recorded = [(e.attempt, e.node, e.state) for e in new.read() if e.node == "b"]
    assert recorded == [(2, "b", "started"), (2, "b", "succeeded")]
    assert "too late" not in seen
    assert [(e.attempt, e.state) for e in new.read() if e.kind == "run"] == [
        (1, "started"),
        (2, "started"),
        (2, "succeeded"),
    ]


def test_the_one_who_was_overtaken_while_it_wrote_doubles_no_row(spark, place, state, tmp_path):
    """Both have begun the same revision; the table takes it once, and the ledger only from the second."""
    table = str(tmp_path / "t")

    def write(run):
        return sf.write(
            run, "lake", spark.range(3).selectExpr("'k' AS date", "id"), sf.delta(table, partition_by="date")
        )

    def overtake(at, node, _):
        if (at, node) == ("after_commit", "lake"):
            free(place, "k")
            with hold(place, "p", "k") as second, opened(second, DeltaLedger(state), state, spark=spark) as other:
                others.append(write(other))

    others = []
    with hold(place, "p", "k") as first:
        run = opened(first, DeltaLedger(state), state, spark=spark, observers=[overtake])
        with pytest.raises(Fenced), run:
            write(run)
    assert others[0].reason == "already written at version 0"
    assert len(stored(table)) == 3


# --- a user's step that hides it -------------------------------------------------------------------------------------

SOURCE = sf.source("json", "/nowhere", schema="id INT")
BRANCHES = {"a": SOURCE, "b": SOURCE}

CALLS = {
    "once": lambda run, _: run.once(Node(name="later"), done([])),
    "once, of a node that is done": lambda run, _: run.once(Node(name="early"), done([])),
    "read": lambda run, _: sf.read(run, "in", SOURCE),
    "a frame": lambda _, frame: frame.frame,
    "local_sequencer": lambda run, frame: sf.local_sequencer(run, frame, [sf.step(lambda f: f, name="s")]),
    "write": lambda run, frame: sf.write(run, "lake", frame, sf.delta("out/t")),
    "transaction": lambda run, _: sf.transaction(run),
    "aligned_fan_in": lambda run, _: sf.aligned_fan_in(run, "all", BRANCHES),
    "unaligned_fan_in": lambda run, _: sf.unaligned_fan_in(run, "some", BRANCHES, require=sf.at_least(1)),
    "exclusive_choice": lambda run, _: sf.exclusive_choice(run, "way", {"x": (None, lambda: None)}),
    "parallel_split": lambda run, frame: sf.parallel_split(
        run, frame, {"a": sf.delta("out/a"), "b": sf.delta("out/b")}
    ),
    "report_completeness": lambda run, frame: sf.report_completeness(run, "d", frame, table="out/report"),
    "publish": lambda run, _: sf.publish(run, "d", state="failed", reason="r", markers="out/markers"),
    "trigger": lambda run, _: sf.trigger(run, sf.consumer(__file__)),
    "wait_for": lambda run, _: sf.wait_for(run, "d", markers="out/markers"),
    "close": lambda run, _: run.close(),
    "the end of the block": lambda run, _: run.__exit__(None, None, None),
    "the end of the block, by another error": lambda run, _: run.__exit__(KeyError, KeyError("x"), None),
}


def taken_over(place, lease, run):
    """By one that this process hears of, and hides."""
    lose(place, lease)
    with contextlib.suppress(Exception):
        run.once(Node(name="hidden"), done([]))


def overtaken(place, lease, run):
    """By one that it only hears of from the ledger: its lease looks as good as ever."""
    free(place, "k")
    with hold(place, "p", "k") as second:
        run.history._ledger.append([event(1)], second.fence)
    with contextlib.suppress(Exception):
        run.once(Node(name="hidden"), done([]))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("lost_by", "error"), [(taken_over, LeaseLost), (overtaken, Fenced)])
def test_a_lost_lease_that_a_step_has_hidden_is_raised_by_every_later_call(
    place, memory_ledger, tmp_path, monkeypatch, call, lost_by, error
):
    monkeypatch.chdir(tmp_path)
    with hold(place, "p", "k") as lease:
        run = opened(lease, memory_ledger, "state")
        run.once(Node(name="early"), done([]))
        frame = sf.read(run, "before", SOURCE)
        frame.completeness = (Completeness(node="some", expected=("a", "b"), arrived=("a",)),)
        lost_by(place, lease, run)
        recorded = len(memory_ledger.read())
        for _ in range(2):
            with pytest.raises(error):
                CALLS[call](run, frame)
    assert len(memory_ledger.read()) == recorded
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("lost_by", [taken_over, overtaken])
def test_a_commit_does_not_happen_after_a_hidden_loss(place, memory_ledger, state, lost_by):
    seen = []
    with hold(place, "p", "k") as lease:
        run = opened(lease, memory_ledger, state)

        def action(intent):
            lost_by(place, lease, run)
            intent.mark("before_commit")
            seen.append("committed")
            return Written(rows=1)

        with pytest.raises((LeaseLost, Fenced)):
            run.once(Node(name="n"), action)
        with pytest.raises((LeaseLost, Fenced)), run.run:
            pass
    assert seen == []


def test_a_transaction_does_not_become_visible_after_a_hidden_loss(place, memory_ledger, state):
    with hold(place, "p", "k") as lease:
        run = opened(lease, memory_ledger, state)
        with pytest.raises(LeaseLost), sf.transaction(run, "t"):
            taken_over(place, lease, run)
    assert "t" not in {e.node for e in memory_ledger.read()}
