"""Runs and ``once``, without Spark: actions are functions, the target is a dictionary."""

import datetime as dt
import functools

import pytest
from conftest import Killed, killing
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import FakeTarget, new_run

from spark_flow import Run
from spark_flow.engine.mode import Mode
from spark_flow.engine.node import Node
from spark_flow.engine.run import recomputing
from spark_flow.errors import BadRecords, DuplicateNode, InvalidArgument, InvalidName, NodeFailed
from spark_flow.ledger import MemoryLedger
from spark_flow.storage.sink_protocol import Written


class Table:
    """A target that remembers a revision and never takes one twice, as Delta does."""

    def __init__(self):
        self.rows = []
        self.remembered = 0
        self.writes = 0

    def write(self, intent, rows):
        intent.mark("before_commit")
        if self.remembered != intent.revision:
            self.rows, self.remembered, self.writes = list(rows), intent.revision, self.writes + 1
        intent.mark("after_commit")
        return Written(rows=len(self.rows))

    def lack(self, event):
        return "" if self.remembered == event.revision else "gone"


@pytest.fixture
def open_run(memory_ledger, tmp_path):
    def open_(key="2013-01-02", **options):
        return new_run("p", key, **{"ledger": memory_ledger, "state": str(tmp_path), **options})

    return open_


def do(run, node="n", fingerprint="a", action=lambda _: Written(rows=1), kind="step", **target):
    return run.once(Node(name=node, kind=kind, fingerprint=fingerprint), action, FakeTarget(**target))


def test_what_succeeded_is_reused_with_its_recorded_outcome(open_run):
    with open_run() as run:
        first = do(run, action=lambda _: Written(rows=3, detail={"version": 4}))
    with open_run() as run:
        again = do(run, action=lambda _: pytest.fail("it was done before"))
    assert (first.state, again.state) == ("succeeded", "reused")
    assert (again.rows, again.detail, run.attempt) == (3, {"version": 4}, 2)


def test_what_failed_is_redone_and_the_failure_holds_node_and_cause(open_run):
    cause = ValueError("no")

    def fails(_):
        raise cause

    with pytest.raises(NodeFailed) as failure, open_run() as run:
        do(run, action=fails)
    assert (failure.value.node, failure.value.cause) == ("n", cause)
    assert run.summary()["state"] == "failed"
    with open_run() as run:
        assert do(run).state == "succeeded"


def test_our_own_errors_come_through_unwrapped(open_run):
    def fails(_):
        raise BadRecords("s", "f.json", "r")

    with pytest.raises(BadRecords), open_run() as run:
        do(run, action=fails)
    assert [o.state for o in run.outcomes] == ["failed"]


def test_a_changed_node_runs_again_and_its_old_success_never_counts_again(open_run):
    states = []
    for fingerprint in ("a", "b", "a", "a"):
        with open_run() as run:
            states.append(do(run, fingerprint=fingerprint).state)
    assert states == ["succeeded", "succeeded", "succeeded", "reused"]


def test_a_change_that_failed_makes_the_old_success_stale_too(open_run):
    def fails(_):
        raise ValueError

    with open_run() as run:
        do(run, fingerprint="a")
    with pytest.raises(NodeFailed), open_run() as run:
        do(run, fingerprint="b", action=fails)
    with open_run() as run:
        assert do(run, fingerprint="a").state == "succeeded"


def test_a_ledger_older_than_the_target_goes_on_above_it(open_run):
    table = Table()
    revisions(open_run, table, "a")
    table.remembered = 7  # the state folder was restored from an old copy
    assert revisions(open_run, table, "a") == [8]


def revisions(open_run, table, *fingerprints, rerun=()):
    seen = []
    for n, fingerprint in enumerate(fingerprints):
        with open_run(rerun=n in rerun) as run:
            seen.append(
                do(
                    run,
                    fingerprint=fingerprint,
                    action=lambda i: table.write(i, [1]),
                    remembered=lambda: table.remembered,
                    lack=table.lack,
                ).revision
            )
    return seen


def test_a_change_a_return_and_a_rerun_each_take_the_next_revision(open_run):
    assert revisions(open_run, Table(), "a", "b", "a", "a", rerun=[3]) == [1, 2, 3, 4]


def test_a_lost_ledger_starts_above_what_the_target_remembers(open_run, tmp_path):
    table = Table()
    revisions(open_run, table, "a", "b")
    with Run.open("p", "2013-01-02", ledger=MemoryLedger(), state=str(tmp_path)) as run:
        outcome = do(run, action=lambda i: table.write(i, [7]), remembered=lambda: table.remembered)
    assert (outcome.revision, table.rows) == (3, [7])


def test_a_lost_target_is_written_anew(open_run):
    table = Table()
    revisions(open_run, table, "a")
    table.remembered, table.rows = 0, []
    assert revisions(open_run, table, "a") == [2]
    assert table.rows == [1]


@pytest.mark.parametrize("point", ["before_action", "before_commit", "after_commit", "before_event"])
def test_a_retry_of_the_same_intent_keeps_the_revision(open_run, point):
    table = Table()
    options = {"remembered": lambda: table.remembered, "lack": table.lack}
    with pytest.raises(Killed):  # not closed: a killed process records nothing more
        do(open_run(observers=[killing(point, "n")]), action=lambda i: table.write(i, [1]), **options)
    with open_run() as run:
        outcome = do(run, action=lambda i: table.write(i, [1]), **options)
    assert (outcome.revision, table.writes, table.rows) == (1, 1, [1])


def test_a_rerun_is_the_next_generation_and_redoes_all(open_run):
    with open_run() as run:
        do(run)
    with open_run(rerun=True) as run:
        assert (run.generation, run.attempt, do(run).state) == (2, 1, "succeeded")


def test_a_rerun_that_was_killed_is_gone_on_with(open_run):
    with open_run() as run:
        do(run, "one"), do(run, "two")
    killed = open_run(rerun=True)
    do(killed, "one")
    with open_run(rerun=True) as run:
        assert (run.generation, do(run, "one").state, do(run, "two").state) == (2, "reused", "succeeded")


def test_two_nodes_of_one_name_are_refused(open_run):
    with pytest.raises(DuplicateNode) as refused, open_run() as run:
        do(run, fingerprint="a"), do(run, fingerprint="b")
    assert refused.value.node == "n"


def test_a_plan_runs_no_action_and_records_nothing(open_run, memory_ledger):
    with open_run() as run:
        do(run, "done")
    before = memory_ledger.read()
    with open_run(plan=True) as run:
        states = [do(run, "done").state, do(run, "new", action=lambda _: pytest.fail("a plan")).state]
    assert states == ["would reuse", "would run"]
    assert memory_ledger.read() == before


@pytest.mark.parametrize("key", ["../x", "a'b", "a/b", "", ".", "a b", "é", "x" * 129, "a..b", "-x"])
def test_a_key_that_cannot_be_a_folder_is_refused(open_run, key):
    with pytest.raises(InvalidName) as refused:
        open_run(key)
    assert (refused.value.what, refused.value.value) == ("key", key)


def test_the_summary_has_the_agreed_shape(open_run):
    with open_run() as run:
        do(run)
    summary = run.summary()
    assert {k: summary[k] for k in summary if k != "nodes"} == {
        "pipeline": "p",
        "key": "2013-01-02",
        "generation": 1,
        "attempt": 1,
        "state": "succeeded",
    }
    assert list(summary["nodes"][0]) == ["node", "kind", "state", "rows", "duration_ms", "reason", "error"]


def test_an_interrupt_is_recorded_and_goes_on_its_way(open_run):
    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), open_run() as run:
        do(run, action=interrupted)
    assert run.outcomes[0].state == "failed"


# --- the law: killed anywhere and repeated = never killed -----------------------------------------------

NODES = ("one", "two", "three")
POINTS = ("before_action", "before_commit", "after_commit", "before_event", "after_event")


def whole(open_, tables, data):
    return recomputing(functools.partial(attempt, open_, tables, data))


def attempt(open_, tables, data):
    run = open_()
    for node in NODES:
        table = tables[node]
        run.once(
            Node(name=node, fingerprint=str(data)),
            lambda intent, table=table, node=node: table.write(intent, [(node, data)]),
            FakeTarget(remembered=lambda table=table: table.remembered, lack=table.lack),
        )
    run.close()
    return run


@settings(deadline=None, max_examples=60)
@given(
    kills=st.lists(st.tuples(st.sampled_from(POINTS), st.sampled_from(NODES)), max_size=6),
    reruns=st.lists(st.booleans(), max_size=3),
    lost=st.booleans(),
)
def test_killed_anywhere_and_repeated_is_never_killed(tmp_path_factory, kills, reruns, lost):
    state = str(tmp_path_factory.mktemp("state"))
    ledger, tables = MemoryLedger(), {node: Table() for node in NODES}

    def open_with(**options):
        return lambda: new_run("p", "k", state=state, ledger=ledger, **options)

    for data, rerun in enumerate([False, *reruns]):
        for kill in kills:
            try:
                whole(open_with(observers=[killing(*kill)], rerun=rerun), tables, data)
                break
            except Killed:
                continue
        else:
            whole(open_with(rerun=rerun), tables, data)
        if lost:
            ledger = MemoryLedger()
    last = len(reruns)
    assert {node: table.rows for node, table in tables.items()} == {node: [(node, last)] for node in NODES}


def test_retention_is_a_span_of_time(open_run):
    with open_run(retention=dt.timedelta(0)) as run:
        do(run)


# --- what asks for a run


def generation(open_run, cause="", *, fails=False, **options):
    run = open_run(request_id=cause, **options)
    try:
        with run:
            run.once(Node(name="a"), lambda _: 1 / 0 if fails else Written())
    except NodeFailed:
        pass
    return run.generation, run.attempt, run.outcomes[-1].state


def test_the_same_cause_again_is_a_retry_and_another_a_rerun(open_run):
    assert generation(open_run, "x@1") == (1, 1, "succeeded")
    assert generation(open_run, "x@1") == (1, 2, "reused")
    assert generation(open_run, "x@2") == (2, 1, "succeeded")
    assert generation(open_run, "x@2") == (2, 2, "reused")
    assert generation(open_run) == (2, 3, "reused")


def test_a_cause_after_none_does_all_of_it_anew(open_run):
    assert generation(open_run) == (1, 1, "succeeded")
    assert generation(open_run, "x@1") == (2, 1, "succeeded")


def test_a_run_that_failed_for_an_older_cause_is_not_gone_on_with(open_run):
    assert generation(open_run, "x@1", fails=True) == (1, 1, "failed")
    assert generation(open_run, "x@1", fails=True) == (1, 2, "failed")
    assert generation(open_run, "x@2") == (2, 1, "succeeded")


def test_a_retry_by_hand_belongs_to_the_cause(open_run):
    generation(open_run, "x@1", fails=True)
    assert generation(open_run) == (1, 2, "succeeded")
    assert generation(open_run, "x@1") == (1, 3, "reused")


def test_rerun_and_plan_are_short_for_modes(open_run, memory_ledger, tmp_path):
    where = {"ledger": memory_ledger, "state": str(tmp_path)}
    with Run.open("p", "2013-01-02", **where) as first, Run.open("p", "2013-01-02", plan=True, **where) as planned:
        assert (first.plan, planned.plan) == (False, True)
    with Run.open("p", "2013-01-02", rerun=True, **where) as again:
        assert (again.generation, again.plan) == (2, False)
    with pytest.raises(InvalidArgument):
        Run.open("p", "2013-01-02", rerun=True, mode=Mode(redo=lambda _: True), **where)
