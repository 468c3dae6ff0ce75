"""Runs side by side: never more than may be, whatever fails; nodes that wait for the key before; no Spark."""

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import stored, stored_csv
from runners import Work, of, states

import spark_flow as sf
from spark_flow.engine.node import Node
from spark_flow.errors import Busy, InvalidArgument, MissingInput, OtherLimit, SharedState, UnknownPool, UpstreamSkipped
from spark_flow.ledger import DeltaLedger, Event, MemoryLedger
from spark_flow.orchestration.calendar import daily
from spark_flow.orchestration.claims import Claim, Holder
from spark_flow.orchestration.concurrent_runner import ConcurrentRunner
from spark_flow.orchestration.leases import Leases
from spark_flow.orchestration.pipeline import Slots, pipeline
from spark_flow.orchestration.shared_state import Footprint, Read, Write
from spark_flow.orchestration.single_runner import SingleRunner
from spark_flow.storage.sink_protocol import Written

TEN = daily("2013-01-01", "2013-01-10")
DAYS = [f"2013-01-{day:02d}" for day in range(1, 11)]
COLUMNS = ("date", "id", "twice")
ELSEWHERE = Holder(host="other", pid=1, place="another machine", started="1")


@pytest.fixture
def work():
    return Work(takes=0.2)  # longer than a claim on a busy machine: those that may be at once are


@pytest.fixture
def runner(work, memory_ledger, tmp_path):
    def make(**how):
        made = of(work, memory_ledger, tmp_path, **how.pop("pipeline", {}))
        return ConcurrentRunner(made, how.pop("calendar", TEN), **how)

    return make


def most_at_once(ledger):
    """By the ledger's times: the ends of runs that began before another one ended."""
    begun = {(e.key, e.attempt): e for e in ledger.read("p") if e.kind == "run" and e.state == "started"}
    spans = [(begun[e.key, e.attempt].at, e.at) for e in ledger.read("p") if e.kind == "run" and e.state != "started"]
    return max(sum(began <= at < ended for began, ended in spans) for at, _ in spans)


def test_never_more_at_once_than_may_be_and_all_are_done(runner, work, memory_ledger):
    summary = runner(max_active_runs=3).run()
    assert (states(summary), summary.exit_code) == (["succeeded"] * 10, 0)
    assert (work.most, most_at_once(memory_ledger), sorted(work.done)) == (3, 3, DAYS)


def test_results_come_in_the_calendars_order_whoever_ends_first(runner, work):
    work.told = {DAYS[0]: lambda _: time.sleep(0.3)}
    assert [result.key for result in runner(max_active_runs=3).run().results] == DAYS
    assert work.done[0] != DAYS[0]


@pytest.mark.parametrize(("first", "expected"), [("oldest", DAYS), ("newest", DAYS[::-1])])
def test_the_oldest_or_the_newest_goes_first(runner, work, first, expected):
    runner(max_active_runs=1, first=first).run()
    assert work.done == expected


def test_failed_keys_stop_no_others_and_are_done_next_time(runner, work):
    work.broken = {DAYS[1], DAYS[4]}
    summary = runner().run()
    assert (summary.counts["failed"], summary.counts["succeeded"], summary.exit_code) == (2, 8, 1)
    assert "no data for 2013-01-02" in summary.results[1].reason
    work.broken, work.done = set(), []
    assert runner().run().counts == {"reused": 8, "succeeded": 2}
    assert sorted(work.done) == [DAYS[1], DAYS[4]]


def test_two_runners_share_the_limit_and_do_each_key_once(work, tmp_path):
    summaries = []

    def run():
        ledger = DeltaLedger(str(tmp_path / "state"))
        summaries.append(ConcurrentRunner(of(work, ledger, tmp_path), TEN, max_active_runs=2).run())

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (work.most, sorted(work.done)) == (2, DAYS)
    assert sum(summary.counts["succeeded"] for summary in summaries) == 10
    begun = [e.key for e in DeltaLedger(str(tmp_path / "state")).read("p") if e.kind == "run" and e.state == "started"]
    assert sorted(begun) == DAYS  # what another one has done meanwhile is not even begun


def foreign(place, name, **how):
    wish = Claim(id=name, pipeline="q", key=name, holder=ELSEWHERE, ttl=600, **how)
    place.change(lambda pool: pool.ask("p", wish, now=time.time()))


def test_another_limit_for_the_same_pipeline_is_refused(runner, work, tmp_path):
    foreign(Leases(str(tmp_path / "state" / "leases")).of_pipeline("p"), "x", limit=4)
    with pytest.raises(OtherLimit) as refused:
        runner(max_active_runs=3).run()
    assert (refused.value.found, refused.value.wanted, work.done) == (4, 3, [])


def test_exit_leaves_what_cannot_start_now_to_later(runner, work, tmp_path):
    foreign(Leases(str(tmp_path / "state" / "leases")).of_pipeline("p"), "x", limit=1)
    summary = runner(max_active_runs=1, on_busy="exit").run()
    assert (set(states(summary)), summary.exit_code, work.done) == ({"waiting"}, 75, [])
    assert isinstance(summary.results[0].error, Busy)


def test_with_exit_a_busy_key_is_left_to_later_and_free_ones_run(runner, work, tmp_path):
    place = Leases(str(tmp_path / "state" / "leases")).of_pipeline("p")
    wish = Claim(id="x", pipeline="p", key=DAYS[1], holder=ELSEWHERE, ttl=600, limit=3)
    place.change(lambda pool: pool.ask("p", wish, now=time.time()))
    summary = runner(max_active_runs=3, on_busy="exit").run("2013-01-01..2013-01-03")
    assert (states(summary), summary.exit_code) == (["succeeded", "waiting", "succeeded"], 75)
    assert isinstance(summary.results[1].error, Busy)


def test_a_key_that_cannot_be_planned_stops_no_other(runner, work):
    def walk(key):
        if key == DAYS[1]:
            raise MissingInput("days", ["in/2013-01-02"])
        return Footprint(key, (), ())

    shares = runner()
    shares = dataclasses.replace(shares, pipeline=dataclasses.replace(shares.pipeline, footprint=walk))
    assert shares.run("2013-01-01..2013-01-03").counts == {"succeeded": 3}


@pytest.mark.parametrize(
    "how",
    [
        {"max_active_runs": 0},
        {"max_active_runs": -1},
        {"first": "any"},
        {"on_busy": "never"},
        {"depends_on_past": "load"},
        {"depends_on_past": True},
        {"depends_on_past": ["load"], "first": "newest"},
        {"reprocess": "some"},
    ],
)
def test_settings_that_are_none_are_refused(runner, how):
    with pytest.raises(InvalidArgument):
        runner(**how).run()


# --- workload pools ----------------------------------------------------------------------------------------------


def slots(tmp_path, pool="etl", slots=1, pools=None):
    return Slots(pool=pool, pools=pools or {"etl": 2, "reports": 1}, leases=str(tmp_path / "shared"), slots=slots)


def test_a_pool_limits_all_pipelines_together(work, tmp_path):
    summaries = []

    def run(name):
        made = pipeline(name, work, state=str(tmp_path / name), ledger=MemoryLedger(), slots=slots(tmp_path))
        summaries.append(ConcurrentRunner(made, TEN, max_active_runs=4).run("2013-01-01..2013-01-04"))

    threads = [threading.Thread(target=run, args=(name,)) for name in ("flights", "weather")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (work.most, len(work.done)) == (2, 8)


def test_a_run_may_take_several_slots(runner, work, tmp_path):
    runner(max_active_runs=4, pipeline={"slots": slots(tmp_path, slots=2)}).run("2013-01-01..2013-01-03")
    assert work.most == 1


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"pools": {"etl": 0}}, InvalidArgument),
        ({"pools": {"etl": -2}}, InvalidArgument),
        ({"pool": "etll"}, UnknownPool),
        ({"slots": 3}, UnknownPool),
        ({"slots": 0}, InvalidArgument),
    ],
)
def test_a_pool_that_cannot_be_had_is_refused_before_anything_runs(runner, tmp_path, how, error):
    with pytest.raises(error):
        runner(pipeline={"slots": slots(tmp_path, **how)})


def test_a_flooded_pool_does_not_hold_up_another_one(memory_ledger, tmp_path):
    """Twenty runs want one pool; a run in the other one starts within a second."""
    release, began = threading.Event(), {}

    def flood(run):
        run.once(Node(name="load", kind="sink"), lambda _: (release.wait(20) and Written()) or Written())

    def quick(run):
        began[run.key] = time.monotonic()
        run.once(Node(name="load", kind="sink"), lambda _: Written())

    calendar = daily("2013-01-01", "2013-01-20")
    flooding = pipeline("flood", flood, state=str(tmp_path / "a"), ledger=MemoryLedger(), slots=slots(tmp_path))
    flooder = threading.Thread(target=ConcurrentRunner(flooding, calendar, max_active_runs=20).run)
    flooder.start()
    place = Leases(str(tmp_path / "shared")).of_pool("etl")
    while len(place.read().held) < 2:
        time.sleep(0.02)
    report = pipeline(
        "report", quick, state=str(tmp_path / "b"), ledger=memory_ledger, slots=slots(tmp_path, pool="reports")
    )
    asked = time.monotonic()
    assert SingleRunner(report, calendar).run("2013-01-01").exit_code == 0
    assert began["2013-01-01"] - asked < 1
    assert len(place.read().held) == 2
    release.set()
    flooder.join()


# --- nodes that wait for the key before ----------------------------------------------------------------------


class Trend:
    """Loads side by side; the trend of a key needs that of the key before."""

    def __init__(self):
        self.seen, self.lock, self.broken, self.slow = [], threading.Lock(), set(), {}
        self.skipped, self.without = set(), set()

    def __call__(self, run):
        for node in ("load", "trend"):
            if (run.key, node) not in self.without:
                run.once(Node(name=node, kind="sink"), lambda _, node=node: self._note(run, node))

    def _note(self, run, node):
        time.sleep(self.slow.get((run.key, node), 0))
        if (run.key, node) in self.broken:
            raise ValueError(f"no {node}")
        if (run.key, node) in self.skipped:
            raise UpstreamSkipped(node, [run.key])
        with self.lock:
            self.seen.append((node, run.key))
        return Written()

    def of(self, node):
        return [key for name, key in self.seen if name == node]


@pytest.fixture
def trend(memory_ledger, tmp_path):
    body = Trend()

    def run(keys="2013-01-01..2013-01-04", **how):
        slots = how.pop("slots", None)
        made = pipeline("p", body, state=str(tmp_path / "state"), ledger=memory_ledger, slots=slots)
        return ConcurrentRunner(dataclasses.replace(made, footprint=None), TEN, **{"patience": 1.0, **how}).run(keys)

    return body, run


def test_a_node_waits_for_the_key_before_while_the_rest_goes_on(trend):
    body, run = trend
    body.slow = {(DAYS[0], "trend"): 0.8}
    assert run(depends_on_past=["trend"], max_active_runs=4).exit_code == 0
    assert body.of("trend") == DAYS[:4]
    assert body.seen.index(("load", DAYS[3])) < body.seen.index(("trend", DAYS[0]))


def test_without_it_the_order_is_nobodys(trend):
    body, run = trend
    body.slow = {(DAYS[0], "trend"): 0.5}
    run(max_active_runs=4)
    assert body.of("trend") != DAYS[:4]


def test_a_node_whose_key_before_failed_waits_for_the_next_call(trend):
    body, run = trend
    body.broken = {(DAYS[1], "trend")}
    summary = run(depends_on_past=["trend"], max_active_runs=4)
    assert (states(summary), summary.exit_code) == (["succeeded", "failed", "waiting", "waiting"], 1)
    assert sorted(body.of("load")) == DAYS[:4]
    body.broken = set()
    assert states(run(depends_on_past=["trend"], max_active_runs=4)) == ["reused"] + ["succeeded"] * 3
    assert body.of("trend") == DAYS[:4]


def test_a_node_whose_key_before_was_never_run_waits_at_once(trend):
    _, run = trend
    began = time.monotonic()
    assert states(run("2013-01-03", depends_on_past=["trend"], patience=60)) == ["waiting"]
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("slots", [1, 2])
def test_a_node_waits_for_a_key_that_is_at_work_and_not_for_one_that_waits_for_its_slot(
    trend, memory_ledger, tmp_path, slots
):
    body, run = trend
    body.slow = {(DAYS[1], "load"): 1.0, (DAYS[0], "trend"): 1.2}
    how = {"depends_on_past": ["trend"], "patience": 0.4}
    how["slots"] = Slots(pool="etl", pools={"etl": slots}, leases=str(tmp_path / "pools"))
    with ThreadPoolExecutor(1) as beside:
        later = beside.submit(run, DAYS[1], **how)
        while not memory_ledger.read("p", DAYS[1]):
            time.sleep(0.02)
        assert states(run(DAYS[0], **how)) == ["succeeded"]
        assert states(later.result(30)) == ["waiting" if slots == 1 else "succeeded"]


@pytest.mark.parametrize("at", ["load", "trend"])
def test_a_key_before_that_was_skipped_counts_as_done(trend, at):
    body, run = trend
    body.skipped = {(DAYS[0], at)}
    assert states(run("2013-01-01..2013-01-02", depends_on_past=["trend"])) == ["skipped", "succeeded"]
    assert states(run("2013-01-03", depends_on_past=["trend"])) == ["succeeded"]


@pytest.mark.parametrize("reason", ["skipped", "waiting"])
def test_a_key_before_that_waits_is_no_skipped_one(trend, memory_ledger, reason):
    _, run = trend
    place = {"pipeline": "p", "key": DAYS[0], "generation": 1, "attempt": 1, "node": ""}
    memory_ledger.append([Event(**place, seq=1, kind="run", state="skipped", reason=reason)])
    expected = ["succeeded"] if reason == "skipped" else ["waiting"]
    assert states(run(DAYS[1], depends_on_past=["trend"], patience=0.1)) == expected


def test_a_node_that_the_key_before_did_not_come_to_counts_as_done_when_its_run_succeeded(trend):
    body, run = trend
    body.without = {(DAYS[0], "trend")}
    assert states(run("2013-01-01..2013-01-02", depends_on_past=["trend"])) == ["succeeded"] * 2


def test_a_marker_that_was_held_back_is_still_to_come(trend, memory_ledger):
    _, run = trend
    place = {"pipeline": "p", "key": DAYS[0], "generation": 1, "attempt": 1}
    memory_ledger.append(
        [
            Event(**place, seq=1, node="trend", kind="marker", state="skipped", reason="kept in staging"),
            Event(**place, seq=2, node="", kind="run", state="succeeded", reason="succeeded"),
        ]
    )
    assert states(run(DAYS[1], depends_on_past=["trend"], patience=0.1)) == ["waiting"]


def test_all_anew_waits_for_the_new_one_of_the_key_before(trend):
    body, run = trend
    run(depends_on_past=["trend"])
    body.seen, body.slow = [], {(DAYS[0], "load"): 0.6}
    assert run(depends_on_past=["trend"], reprocess="all", request_id="again", max_active_runs=4).exit_code == 0
    assert body.of("trend") == DAYS[:4]


# --- shared state -----------------------------------------------------------------------------------------------


def sharing(key):
    return Footprint(key, (Write("trend", "/out/trend", f"date = {key}"),), (Read("yesterday", "/out/trend"),))


def test_runs_that_read_what_others_write_are_refused_before_anything_runs(runner, work):
    shares = runner()
    shares = dataclasses.replace(shares, pipeline=dataclasses.replace(shares.pipeline, footprint=sharing))
    for call in (shares.plan, shares.run):
        with pytest.raises(SharedState) as refused:
            call()
        assert "/out/trend" in str(refused.value)
    assert work.done == []
    ordered = dataclasses.replace(shares, depends_on_past=["trend", "yesterday"])
    assert [each.what for each in ordered.plan()] == ["run"] * 10
    assert len(dataclasses.replace(shares, max_active_runs=1).plan()) == 10
    assert len(shares.plan("2013-01-01")) == 1


# --- on Spark ----------------------------------------------------------------------------------------------------


@pytest.mark.spark
def test_ten_days_three_at_once_are_right_in_all_sinks_though_they_end_out_of_order(spark, memory_ledger, tmp_path):
    slow = {DAYS[0], DAYS[3]}

    def body(run):
        day = int(run.key[-2:])
        frame = spark.range(day).selectExpr(f"'{run.key}' AS date", "id", "id * 2 AS twice")
        if run.key in slow and not run.plan:
            time.sleep(3)
        sinks = {
            "lake": sf.delta(str(tmp_path / "lake"), partition_by="date"),
            "legacy": sf.csv(str(tmp_path / "legacy"), partition_by="date"),
        }
        sf.parallel_split(run, frame, sinks)

    made = pipeline("p", body, state=str(tmp_path / "state"), ledger=memory_ledger, spark=spark)
    summary = ConcurrentRunner(made, TEN, max_active_runs=3).run()
    assert (states(summary), most_at_once(memory_ledger)) == (["succeeded"] * 10, 3)
    ended = [e.key for e in sorted(memory_ledger.read("p"), key=lambda e: e.at) if e.kind == "run" and e.reason]
    assert ended != DAYS
    expected = sorted((day, str(n), str(2 * n)) for day in DAYS for n in range(int(day[-2:])))
    assert sorted(tuple(map(str, row)) for row in stored(tmp_path / "lake", *COLUMNS)) == expected
    assert stored_csv(tmp_path / "legacy", *COLUMNS) == expected
    assert ConcurrentRunner(made, TEN, max_active_runs=3).run().counts == {"reused": 10}
