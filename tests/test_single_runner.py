"""One run of a pipeline at a time, keys in order; no Spark, and real leases."""

import sys
import threading
import time

import pytest
from deltalake.exceptions import DeltaError
from handover import mark
from runners import Work, of, states

from spark_flow.errors import Busy, InvalidArgument, OtherLimit, QueueFull, StateDamaged
from spark_flow.ledger import DeltaLedger, Event, MemoryLedger
from spark_flow.orchestration.calendar import daily, listed
from spark_flow.orchestration.claims import Claim, Holder
from spark_flow.orchestration.concurrent_runner import ConcurrentRunner
from spark_flow.orchestration.leases import Leases
from spark_flow.orchestration.single_runner import SingleRunner
from spark_flow.orchestration.stragglers import Straggler, usual

DAYS = ["2013-01-01", "2013-01-02", "2013-01-03", "2013-01-04"]
JANUARY = daily("2013-01-01", "2013-01-04")
ELSEWHERE = Holder(host="other", pid=1, place="another machine", started="1")


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def runner(work, memory_ledger, tmp_path):
    def make(**how):
        return SingleRunner(of(work, memory_ledger, tmp_path), how.pop("calendar", JANUARY), **how)

    return make


def held(tmp_path, *keys, limit=1, ttl=600.0):
    """Claims of another host, in order."""
    place = Leases(str(tmp_path / "state" / "leases")).of_pipeline("p")
    for key in keys:
        wish = Claim(id=key, pipeline="p", key=key, holder=ELSEWHERE, limit=limit, ttl=ttl)
        place.change(lambda pool, wish=wish: pool.ask("p", wish, now=time.time()))
    return place


def test_keys_run_in_order_and_once(runner, work):
    assert runner().run("2013-01-02..2013-01-03,2013-01-01").exit_code == 0
    assert work.done == DAYS[:3]
    assert states(runner().run()) == ["reused", "reused", "reused", "succeeded"]
    assert work.done == DAYS


def test_a_failed_key_holds_back_the_next_ones_under_depends_on_past(runner, work):
    work.broken = {DAYS[1]}
    summary = runner(depends_on_past=True).run()
    assert (states(summary), summary.exit_code) == (["succeeded", "failed", "waiting", "waiting"], 1)
    assert work.done == DAYS[:1]
    work.broken = set()
    assert states(runner(depends_on_past=True).run()) == ["reused", "succeeded", "succeeded", "succeeded"]
    assert work.done == DAYS


def test_a_failed_key_holds_nobody_back_without(runner, work):
    work.broken = {DAYS[1]}
    assert states(runner().run()) == ["succeeded", "failed", "succeeded", "succeeded"]


def test_a_key_whose_previous_was_never_run_waits_and_the_first_is_exempt(runner, work):
    summary = runner(depends_on_past=True).run("2013-01-03")
    assert (states(summary), summary.exit_code, work.done) == (["waiting"], 75, [])
    assert "2013-01-02: never run" in summary.results[0].reason
    assert states(runner(depends_on_past=True).run("2013-01-01")) == ["succeeded"]


def test_depends_on_past_needs_a_first_key(runner):
    with pytest.raises(InvalidArgument):
        runner(depends_on_past=True, calendar=daily()).run("2013-01-01")
    assert states(runner(depends_on_past=True, calendar=listed(["a", "b"])).run()) == ["succeeded"] * 2


@pytest.mark.parametrize(
    ("reprocess", "expected", "code"),
    [
        ("none", ["reused", "left", "succeeded", "succeeded"], 1),
        ("failed", ["reused", "succeeded", "succeeded", "succeeded"], 0),
        ("all", ["succeeded", "succeeded", "succeeded", "succeeded"], 0),
    ],
)
def test_reprocess_tells_which_keys_are_run_again(runner, work, reprocess, expected, code):
    work.broken = {DAYS[1]}
    runner().run("2013-01-01..2013-01-02")
    work.broken, work.done = set(), []
    summary = runner(reprocess=reprocess, request_id=reprocess).run()
    assert (states(summary), summary.exit_code) == (expected, code)


def test_the_plan_tells_what_would_be_done_and_why(runner, work, memory_ledger):
    work.broken = {DAYS[1]}
    runner().run("2013-01-01..2013-01-02")
    before = len(memory_ledger.read())
    planned = runner(depends_on_past=True).plan()
    assert [each.what for each in planned] == ["reuse", "run", "run", "run"]
    assert "no data for 2013-01-02" in planned[1].reason
    assert "after 2013-01-02" in planned[2].reason
    left = runner(depends_on_past=True, reprocess="none").plan()
    assert [each.what for each in left] == ["reuse", "leave", "wait", "wait"]
    assert len(memory_ledger.read()) == before


@pytest.mark.parametrize(
    ("how", "words"),
    [({"on_busy": "now"}, "on_busy"), ({"queue": -1}, "queue"), ({"reprocess": "some"}, "reprocess")],
)
def test_settings_that_are_none_are_refused(runner, how, words):
    with pytest.raises(InvalidArgument) as refused:
        runner(**how).run()
    assert words in refused.value.where


# --- others at work ----------------------------------------------------------------------------------------------


def test_exit_ends_at_once_and_says_who_is_at_work(runner, work, tmp_path):
    held(tmp_path, "2012-12-31")
    summary = runner(on_busy="exit").run()
    assert (states(summary), summary.exit_code, work.done) == (["waiting"] * 4, 75, [])
    assert isinstance(summary.results[0].error, Busy)
    assert "other:1" in summary.results[0].reason


def test_a_full_queue_refuses(runner, work, tmp_path):
    held(tmp_path, *[f"k{n}" for n in range(3)])
    summary = runner(on_busy="queue", queue=2).run("2013-01-01")
    assert (states(summary), summary.exit_code) == (["waiting"], 75)
    assert isinstance(summary.results[0].error, QueueFull)


def test_one_who_waits_goes_on_after_the_others_in_their_order(runner, work, tmp_path):
    place = held(tmp_path, "a", "b")
    told = []

    def report(words):
        told.append(words)
        if "waits" in words:
            for name in "ab":
                place.change(lambda pool, name=name: pool.release(name, 0))

    assert states(runner(report=report).run("2013-01-01")) == ["succeeded"]
    assert "held by p a (other:1), 1 ahead in the queue" in told[0]


def test_what_somebody_else_did_meanwhile_is_not_done_again(runner, work, memory_ledger, tmp_path):
    place = held(tmp_path, "2013-01-01")

    def report(words):
        if "waits" in words:
            told = {"pipeline": "p", "key": "2013-01-01", "generation": 1, "attempt": 1, "node": "", "kind": "run"}
            memory_ledger.append([Event(**told, seq=n, state=s) for n, s in ((1, "started"), (2, "succeeded"))])
            place.change(lambda pool: pool.release("2013-01-01", 0))

    assert states(runner(report=report).run("2013-01-01")) == ["reused"]
    assert work.done == []


def test_a_runner_with_another_limit_is_refused(runner, tmp_path):
    held(tmp_path, "k", limit=3)
    with pytest.raises(OtherLimit):
        runner().run("2013-01-01")


def test_two_runners_of_one_pipeline_are_never_at_work_at_once(work, tmp_path):
    work.takes = 0.05
    summaries = []

    def run(keys):
        ledger = DeltaLedger(str(tmp_path / "state"))
        summaries.append(SingleRunner(of(work, ledger, tmp_path), JANUARY).run(keys))

    threads = [threading.Thread(target=run, args=(keys,)) for keys in ("2013-01-01..2013-01-02", "", "2013-01-03")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (work.most, sorted(work.done)) == (1, DAYS)
    assert {state for summary in summaries for state in states(summary)} == {"succeeded", "reused"}


# --- by the marker of the run before ---------------------------------------------------------------------------


@pytest.fixture
def by_marker(runner, tmp_path):
    def make(**how):
        return runner(after_marker="d", markers=str(tmp_path / "out" / "markers"), **{"on_busy": "exit", **how})

    def publish(key, state="ready", **told):
        mark(tmp_path, state, dataset="d", key=key, **told)

    return make, publish


def test_without_a_lease_a_key_starts_after_the_previous_ones_marker(by_marker, work, tmp_path):
    make, publish = by_marker
    assert states(make().run("2013-01-02")) == ["waiting"]
    publish("2013-01-01")
    assert states(make().run("2013-01-02")) == ["succeeded"]
    assert not (tmp_path / "state" / "leases").exists()


def test_the_first_key_needs_no_marker(by_marker):
    assert states(by_marker[0]().run("2013-01-01")) == ["succeeded"]


def test_a_previous_key_that_is_marked_failed_is_not_waited_for(by_marker):
    make, publish = by_marker
    publish("2013-01-01", "failed", reason="no disk")
    summary = make(on_busy="wait").run("2013-01-02")
    assert states(summary) == ["waiting"]
    assert "no disk" in summary.results[0].reason


def test_one_who_waits_for_the_marker_goes_on_when_it_comes(by_marker):
    make, publish = by_marker
    told = []

    def report(words):
        told.append(words)
        if "no marker yet" in words:
            publish("2013-01-01")

    assert states(make(on_busy="wait", report=report).run("2013-01-02")) == ["succeeded"]
    assert told[0] == "2013-01-02 waits for d 2013-01-01: no marker yet"


# --- stragglers ------------------------------------------------------------------------------------------------


def test_a_run_that_takes_long_is_told_with_what_waits_behind_it(runner, work, webhook, monkeypatch):
    address, sent = webhook
    monkeypatch.setenv("ALERTS", address)
    told = []
    calendar = daily("2013-01-01")
    assert runner(calendar=calendar).run("2013-01-01..2013-01-03").exit_code == 0
    work.told = {"2013-01-04": lambda _: __import__("time").sleep(0.6)}
    straggler = Straggler(notify="ALERTS")
    runner(calendar=calendar, straggler=straggler, report=told.append).run("2013-01-04..2013-01-06")
    alerts = [words for words in told if "times its usual" in words]
    assert alerts
    assert all("2 run(s) wait behind it" in words for words in alerts)
    assert sent[0]["title"] == "straggler: p 2013-01-04"
    assert sent[0]["message"] == alerts[0]
    assert len(alerts) == len(sent)


def test_nothing_is_usual_after_few_runs(runner, memory_ledger):
    runner().run("2013-01-01..2013-01-02")
    assert usual(memory_ledger, "p", 10) is None
    runner().run("2013-01-03")
    assert usual(memory_ledger, "p", 10) is not None


def test_runs_that_had_nothing_to_do_are_not_usual(memory_ledger):
    def run(key, attempt, seconds, node=True):
        place = {"pipeline": "p", "key": key, "generation": 1, "attempt": attempt}
        if node:
            memory_ledger.append([Event(**place, seq=1, node="n", kind="step", state="succeeded")])
        ended = {"node": "", "kind": "run", "state": "succeeded", "duration_ms": seconds * 1000}
        memory_ledger.append([Event(**place, seq=2, **ended)])

    for n, seconds in enumerate((10, 20, 30, 40)):
        run(f"k{n}", 1, seconds)
        run(f"k{n}", 2, 0, node=False)
    assert (usual(memory_ledger, "p", 10), usual(memory_ledger, "p", 3)) == (25, 30)


@pytest.mark.parametrize("how", [{"factor": 1.0}, {"factor": float("nan")}, {"last": 2}])
def test_a_measure_that_is_none_is_refused(how):
    with pytest.raises(InvalidArgument):
        Straggler(**how)


def test_a_cycle_of_depends_is_no_key_of_its_own(runner):
    """A list that names a key twice would make it depend on itself."""
    with pytest.raises(InvalidArgument):
        runner(calendar=listed(["a", "b", "a"]))


# --- what goes wrong with one key stops no other -------------------------------------------------------------


class Flaky(MemoryLedger):
    """A ledger whose storage refuses some keys: their reads, or what is added of them."""

    def __init__(self, unread=(), unwritten=(), error=None):
        super().__init__()
        self.unread, self.unwritten, self.error = set(unread), set(unwritten), error or OSError("refused")

    def read(self, pipeline=None, key=None, *, kinds=()):
        if key in self.unread:
            raise self.error
        return super().read(pipeline, key, kinds=kinds)

    def append(self, events, fence=None):
        if {event.key for event in events} & self.unwritten:
            raise self.error
        super().append(events, fence)


RUNNERS = pytest.mark.parametrize("kind", [SingleRunner, ConcurrentRunner])


def test_with_exit_a_busy_key_is_left_to_later_and_a_free_one_runs(runner, work, tmp_path):
    place = held(tmp_path, "2012-12-31")

    def report(words):
        if words.startswith(DAYS[0]):  # the other run ends after the first key was refused
            place.change(lambda pool: pool.release("2012-12-31", time.time()))

    summary = runner(on_busy="exit", report=report).run()
    assert (states(summary), summary.exit_code) == (["waiting"] + ["succeeded"] * 3, 75)
    assert (type(summary.results[0].error), work.done) == (Busy, DAYS[1:])


def test_with_exit_a_key_that_depends_on_a_busy_one_waits(runner, work, tmp_path):
    place = held(tmp_path, "2012-12-31")
    report = lambda words: words.startswith(DAYS[0]) and place.change(lambda p: p.release("2012-12-31", time.time()))  # noqa: E731
    summary = runner(on_busy="exit", depends_on_past=True, report=report).run()
    assert (states(summary), work.done) == (["waiting"] * 4, [])


@RUNNERS
@pytest.mark.parametrize("where", ["unread", "unwritten"])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), StateDamaged("x", "y", "z", "fix"), DeltaError("no log")]
)
def test_a_key_whose_storage_refuses_fails_with_its_cause_and_the_others_go_on(work, tmp_path, kind, where, error):
    ledger = Flaky(**{where: {DAYS[1]}}, error=error)
    summary = kind(of(work, ledger, tmp_path), JANUARY).run()
    assert (states(summary), summary.exit_code) == (["succeeded", "failed", "succeeded", "succeeded"], 1)
    assert summary.results[1].error is error
    assert sorted(work.done) == [DAYS[0], *DAYS[2:]]


@RUNNERS
def test_where_the_storage_of_all_is_gone_each_key_fails_by_itself(work, tmp_path, kind):
    no_folder = tmp_path / "a file"
    no_folder.touch()
    summary = kind(of(work, MemoryLedger(), tmp_path, leases=str(no_folder)), JANUARY).run()
    assert (states(summary), summary.exit_code, work.done) == (["failed"] * 4, 1, [])
    unread = kind(of(work, Flaky({None}), tmp_path), JANUARY).run()
    assert (states(unread), unread.results[0].error.args) == (["failed"] * 4, ("refused",))


@RUNNERS
def test_a_function_that_calls_sys_exit_ends_its_own_key_alone(work, memory_ledger, tmp_path, kind):
    work.told = {DAYS[0]: lambda _: sys.exit(3)}
    summary = kind(of(work, memory_ledger, tmp_path), JANUARY).run()
    assert states(summary) == ["failed"] + ["succeeded"] * 3
