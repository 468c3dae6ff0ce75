"""Who has lost the lease of a key: it begins, commits and records nothing more, and what took its place is whole."""

import pytest

import spark_flow as sf
from spark_flow.errors import Fenced, LeaseLost
from spark_flow.ledger import DeltaLedger, Event, Fence, MemoryLedger, MemoryRegister
from spark_flow.orchestration.leases import Place, free, hold
from spark_flow.storage.port import Written


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
    return Place("pipelines/p", MemoryRegister())


def opened(lease, ledger, state, **options):
    return sf.Run.open("p", "k", state=state, ledger=ledger, lease=lease, **options)


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
        run.once("n", done([]))
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
            run.once("n", done(seen))
    assert seen == []
    assert [(e.node, e.state) for e in memory_ledger.read()] == [("", "started"), ("n", "started")]
    assert run.summary()["state"] == "waiting"


def test_who_was_overtaken_in_the_ledger_records_no_success(ledgers, place, state):
    """Although it knows nothing of it: its lease looks as good as ever."""
    old, new = ledgers
    seen = []
    with hold(place, "p", "k") as first:
        run = opened(first, old, state)
        run.once("a", done(seen, "a"))
        free(place, "k")
        with hold(place, "p", "k") as second, opened(second, new, state) as other:
            assert other.once("a", done(seen, "again")).state == "reused"
            other.once("b", done(seen, "b"))
            with pytest.raises(Fenced), run:
                run.once("b", done(seen, "too late"))
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
    assert spark.read.format("delta").load(table).count() == 3
