"""A partial backfill: what is not asked for is kept, and is never done again behind one's back."""

import contextlib
import json
import shutil
import sys
import threading
import time
from functools import partial

import pyarrow as pa
import pytest
from conftest import Killed, dated, double, keep_large, killing, states, stored
from deltalake import DeltaTable, write_deltalake
from handover import AT_ONCE, KEY, marker, provide, put, writes
from runs import FakeTarget, new_run

import spark_flow as sf
from spark_flow.cli import job
from spark_flow.engine.mode import Mode
from spark_flow.engine.node import Node
from spark_flow.errors import InvalidArgument, NodeFailed, NotRecorded, UnknownNode
from spark_flow.jobfile import load
from spark_flow.jobfile import redo as asks
from spark_flow.ledger import DeltaLedger, MemoryLedger
from spark_flow.storage import checkpoints, files
from spark_flow.storage.sink_protocol import Written

LOAD = {"load"}.__contains__


class Watched(MemoryLedger):
    """A ledger that tells its commits apart."""

    def __init__(self):
        super().__init__()
        self.commits = []

    def append(self, events, fence=None):
        super().append(events, fence)
        self.commits.append([(e.generation, e.node, e.state) for e in events])


@pytest.fixture
def ledger():
    return Watched()


@pytest.fixture
def day(ledger, state):
    """Run two nodes that process and two that load; returns the run, and what was done."""

    def go(made_of=(), lacks="", fails="", **options):
        done = []

        def act(node, _):
            if node == fails:
                raise ValueError(node)
            done.append(node)
            return Written(rows=3, reason="written", detail={"n": node})

        with new_run("p", KEY, state=state, ledger=ledger, **options) as run:
            for node in ("clean", "enrich", "load", "tell"):
                lack = (lambda _: "gone") if node == lacks else (lambda _: "")
                run.once(
                    Node(name=node, fingerprint=dict(made_of).get(node, "a")), partial(act, node), FakeTarget(lack=lack)
                )
        return run, done

    return go


def redo(*nodes):
    return set(nodes).__contains__


def test_what_is_kept_is_recorded_with_the_beginning_in_one_commit(day, ledger):
    day()
    before = len(ledger.commits)
    run, done = day(redo=redo("load", "tell"))
    assert (done, run.generation, run.attempt) == (["load", "tell"], 2, 1)
    kept = [(2, "clean", "succeeded"), (2, "enrich", "succeeded")]
    assert ledger.commits[before] == [(2, "", "started"), *kept, (2, "load", "started")]
    first, second = (e for e in ledger.read() if (e.node, e.state) == ("enrich", "succeeded"))
    same = ("kind", "revision", "fingerprint", "rows", "detail")
    assert [getattr(first, name) for name in same] == [getattr(second, name) for name in same]
    assert second.reason == "kept from generation 1"
    assert next(e.kind for e in ledger.read() if e.generation == 2) == "run"  # also when read again


def test_a_plain_retry_of_it_reuses_all(day):
    day()
    day(redo=LOAD)
    run, done = day()
    assert (done, run.generation, run.summary()["state"]) == ([], 2, "reused")
    assert [o.reason for o in run.outcomes[:3]] == [*["kept from generation 1"] * 2, "succeeded in attempt 1"]


def test_what_was_kept_twice_tells_who_did_it(day):
    day()
    day(redo=LOAD)
    run, _ = day(redo=LOAD)
    assert {o.node: o.reason for o in run.outcomes}["clean"] == "kept from generation 1"
    assert {o.node: o.revision for o in run.outcomes} == {"clean": 1, "enrich": 1, "load": 3, "tell": 1}


@pytest.mark.parametrize(
    ("before", "now", "node", "reason"),
    [
        ({}, {"made_of": {"enrich": "b"}}, "enrich", "it changed, or something before it did"),
        ({}, {"lacks": "clean"}, "clean", "gone"),
        ({"fails": "enrich"}, {}, "enrich", "it failed before"),
        ({"observers": [killing("before_event", "enrich")]}, {}, "enrich", "it was started and did not end"),
        ({"fails": "clean"}, {"redo": redo("clean", "load")}, "enrich", "it was never recorded"),
        (None, {}, "clean", "it was never recorded"),
    ],
    ids=["changed", "lost", "failed", "begun", "never reached", "never run"],
)
def test_a_kept_node_that_would_have_to_run_is_refused(day, ledger, before, now, node, reason):
    if before is not None:
        with contextlib.suppress(NodeFailed, Killed):
            day(**before)
    with pytest.raises(NotRecorded) as failure:
        day(**{"redo": LOAD, **now})
    assert (failure.value.node, failure.value.reason, failure.value.exit_code) == (node, reason, 1)
    assert not [e for e in ledger.read() if e.node == node and e.generation == 2]


def test_a_refused_one_leaves_no_generation_behind(day, ledger):
    with pytest.raises(NodeFailed):
        day(fails="enrich")
    before = ledger.read()
    with pytest.raises(NotRecorded):
        day(redo=LOAD)
    assert ledger.read() == before
    run, done = day()
    assert (done, run.generation, run.attempt) == (["enrich", "load", "tell"], 1, 2)


def test_a_refused_one_of_a_key_that_was_never_run_records_nothing(day, ledger):
    with pytest.raises(NotRecorded):
        day(redo=LOAD)
    assert ledger.read() == []
    assert day()[0].generation == 1


def test_a_refused_one_leaves_the_age_of_boundaries_be(day, state):
    folder = f"{state}/boundaries/p/{KEY}"
    files.write_json(f"{folder}/x.json", {})
    day()
    succeeded = f"{state}/{checkpoints.SUCCEEDED}/p/{KEY}.json"
    assert files.exists(succeeded)
    with pytest.raises(NotRecorded):
        day(redo=LOAD, lacks="clean")
    assert files.read_json(succeeded) == {"generation": 1}


def test_a_target_that_does_not_answer_spoils_nothing_that_is_kept(day, ledger, state):
    day()

    def silent(_):
        raise OSError("no answer")

    with pytest.raises(NodeFailed), sf.Run.open("p", KEY, state=state, ledger=ledger, mode=Mode(redo=LOAD)) as run:
        run.once(Node(name="clean", fingerprint="a"), lambda _: pytest.fail("it is kept"), FakeTarget(lack=silent))
    assert day(redo=LOAD)[1] == ["load"]


POINTS = [
    (point, node) for node in ("load", "tell") for point in ("before_action", "before_event", "after_event", "ended")
]


@pytest.mark.parametrize(("point", "node"), POINTS)
def test_killed_anywhere_and_repeated_equals_never_killed(day, point, node):
    day()
    anew = redo("load", "tell")
    with pytest.raises(Killed):
        day(redo=anew, observers=[killing(point, node)])
    run, _ = day(redo=anew)
    assert (run.generation, {o.node: o.revision for o in run.outcomes}) == (
        2,
        {"clean": 1, "enrich": 1, "load": 2, "tell": 2},
    )
    run, done = day()
    assert (done, run.generation) == ([], 2)


def test_one_that_did_not_end_is_completed_by_a_plain_retry(day):
    day()
    with pytest.raises(NodeFailed):
        day(redo=redo("load", "tell"), fails="load")
    run, done = day()
    assert (run.generation, done) == (2, ["load", "tell"])


@pytest.mark.parametrize(
    ("options", "generation", "done"),
    [
        ({"rerun": True}, 3, ["clean", "enrich", "load", "tell"]),
        ({"redo": redo("enrich", "load", "tell")}, 3, ["enrich", "load", "tell"]),
        ({"redo": redo("load", "tell")}, 2, ["load", "tell"]),
    ],
    ids=["all", "more", "the same"],
)
def test_one_that_did_not_end_is_gone_on_with_unless_it_keeps_what_is_asked_for(day, options, generation, done):
    day()
    with pytest.raises(NodeFailed):
        day(redo=redo("load", "tell"), fails="load")
    run, did = day(**options)
    assert (run.generation, did) == (generation, done)


def test_in_a_rerun_that_did_not_end_what_it_has_not_done_is_not_kept(day):
    day()
    with pytest.raises(NodeFailed):
        day(rerun=True, fails="enrich")
    with pytest.raises(NotRecorded) as failure:
        day(redo=redo("tell"))
    assert (failure.value.node, failure.value.reason) == ("enrich", "it failed before")
    with pytest.raises(NotRecorded) as failure:
        day(redo=redo("enrich", "tell"))
    assert failure.value.reason == "it is not recorded in generation 2, which did not end and is resumed"


def test_a_plan_of_it_writes_nothing(day, ledger):
    day()
    before = ledger.read()
    run, done = day(redo=LOAD, plan=True)
    assert (ledger.read(), done, run.generation) == (before, [], 2)
    assert states(run) == {"clean": "would reuse", "enrich": "would reuse", "load": "would run", "tell": "would reuse"}
    with pytest.raises(NotRecorded):
        day(redo=LOAD, plan=True, lacks="clean")


def test_a_rerun_of_a_part_is_not_understood(day):
    with pytest.raises(InvalidArgument):
        day(rerun=True, redo=LOAD)


class Slow(Watched):
    """The commit that says what is kept takes a while."""

    def append(self, events, fence=None):
        if events[0].kind == "run":
            time.sleep(0.2)
        super().append(events, fence)


def test_of_nodes_that_begin_together_none_is_recorded_before_what_it_builds_on(state):
    ledger, nodes = Slow(), ("a", "b", "c")

    def do(run, node):
        run.once(Node(name=node), lambda _: Written())

    with sf.Run.open("p", KEY, state=state, ledger=ledger) as run:
        do(run, "clean")
    ledger.commits.clear()
    with sf.Run.open("p", KEY, state=state, ledger=ledger, mode=Mode(redo=redo(*nodes))) as run:
        threads = [threading.Thread(target=do, args=(run, node)) for node in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert ledger.commits[0][:2] == [(2, "", "started"), (2, "clean", "succeeded")]
    assert [commit for commit in ledger.commits[1:] if (2, "", "started") in commit] == []


# --- hand-over ---------------------------------------------------------------------------------------------


@pytest.fixture
def consumer(tmp_path, ledger):
    """Wait for two datasets of which one is enough, then load."""

    def go(**options):
        with new_run("consumer", KEY, state=str(tmp_path / "c"), ledger=ledger, **options) as run:
            how = {"require": sf.at_least(1), "markers": str(tmp_path / "out" / "markers"), "polling": AT_ONCE}
            found = sf.wait_for(run, ["hours", "late"], name="wait", **how)
            run.once(Node(name="load"), lambda _: Written())
        return {name: one.tables["a"].version for name, one in found.markers.items()}

    return go


def test_a_kept_wait_gives_what_was_read_whatever_was_published_since(consumer, tmp_path):
    provided = MemoryLedger()
    provide(tmp_path, 1, tables=("a",), ledger=provided)
    read = consumer()
    provide(tmp_path, 2, tables=("a",), ledger=provided, rerun=True)
    provide(tmp_path, 3, tables=("a",), dataset="late")
    assert marker(tmp_path).tables["a"].version == 1
    assert consumer(redo=LOAD) == read == {f"hours/{KEY}": 0}
    assert consumer(redo=LOAD, plan=True) == read
    assert set(consumer(redo=redo("wait", "load"))) == {f"hours/{KEY}", f"late/{KEY}"}


@pytest.mark.parametrize("plan", [False, True])
def test_a_kept_wait_whose_tables_are_gone_is_refused(consumer, tmp_path, plan):
    provide(tmp_path, 1, tables=("a",))
    consumer()
    shutil.rmtree(tmp_path / "out" / "hours" / "a")
    with pytest.raises(NotRecorded) as failure:
        consumer(redo=LOAD, plan=plan)
    assert failure.value.node == "wait"


def test_markers_and_triggers_are_kept_where_nothing_new_is_written(tmp_path, ledger):
    (tmp_path / "report.py").write_text("")
    to_start = sf.consumer(tmp_path / "report.py")

    def run_flow(**options):
        with new_run("p", KEY, state=str(tmp_path / "s"), ledger=ledger, **options) as run:
            run.once(Node(name="enrich"), lambda _: Written())
            writes(run, "lake", tmp_path / "lake", 1)
            sf.publish(run, "days", markers=str(tmp_path / "markers"))
            sf.trigger(run, to_start, wait=False, launcher=sys.executable)
        return states(run)

    run_flow()
    kept = {"lake": "reused", "marker/days": "reused", "trigger/report": "reused"}
    assert run_flow(redo=redo("enrich")) == {"enrich": "succeeded", **kept}
    assert run_flow() == {"enrich": "reused", **kept}
    with pytest.raises(NotRecorded) as failure:
        run_flow(redo=redo("lake"))
    assert failure.value.node == "marker/days"


def test_a_kept_choice_is_not_decided_anew(state, ledger):
    def decide(wanted, **options):
        with new_run("p", KEY, state=state, ledger=ledger, **options) as run:
            conditions = {
                each: sf.by_parameter("to", wanted, each, allowed=("csv", "delta")) for each in ("csv", "delta")
            }
            routes = {each: (condition, lambda: None) for each, condition in conditions.items()}
            choice = sf.exclusive_choice(run, "road", routes)
            run.once(Node(name="load"), lambda _: Written())
        return choice

    decide("csv")
    choice = decide("delta", redo=LOAD)
    assert (choice.route, choice.reason.startswith("csv: ")) == ("csv", True)
    assert "decided in generation 1, --rerun decides again" in choice.reason
    assert decide("delta", redo=redo("road")).route == "delta"


@pytest.mark.parametrize("plan", [False, True])
def test_a_kept_choice_that_was_not_made_is_refused(state, ledger, plan):
    with (
        pytest.raises(NotRecorded),
        sf.Run.open("p", KEY, state=state, ledger=ledger, mode=Mode(redo=LOAD, plan=plan)) as run,
    ):
        sf.exclusive_choice(run, "road", {"a": (sf.by_date(since="2013-01-01"), lambda: pytest.fail("kept"))})


# --- with Spark --------------------------------------------------------------------------------------------


def load_only(node):
    return node.startswith("publish")


@pytest.mark.spark
def test_only_the_load_is_done_anew_and_its_rows_are_replaced_once(flow, lines):
    flow()
    first = flow.lake()
    lines('{"id": "z", "n": 9}', file="late.json")  # what processing has read is not read again
    run = flow(redo=load_only)
    assert (flow.lake(), len(flow.legacy())) == (first, 2)
    assert {o.node: o.revision for o in run.outcomes if o.kind == "sink"} == {"publish/lake": 2, "publish/legacy": 2}
    assert {name: states(run)[name] for name in ("double", "dated")} == {"double": "reused", "dated": "succeeded"}
    assert set(states(flow()).values()) == {"reused"}
    flow(rerun=True)
    assert len(flow.lake()) == 3


@pytest.mark.spark
@pytest.mark.parametrize(
    ("point", "node"),
    [
        ("after_commit", "publish/lake"),
        ("before_commit", "publish/legacy"),
        *(
            pytest.param(point, node, marks=pytest.mark.nightly)
            for node in ("publish/lake", "publish/legacy")
            for point in ("before_commit", "after_commit", "after_event")
            if (point, node) not in {("after_commit", "publish/lake"), ("before_commit", "publish/legacy")}
        ),
    ],
)
def test_a_load_that_was_killed_is_completed_by_the_same_command(flow, point, node):
    flow()
    first = flow.lake(), flow.legacy()
    with pytest.raises(Killed):
        flow(redo=load_only, observers=[killing(point, node)])
    run = flow(redo=load_only)
    assert (run.generation, flow.lake(), flow.legacy()) == (2, *first)
    assert {o.revision for o in run.outcomes if o.kind == "sink"} == {2}


@pytest.mark.spark
def test_a_boundary_that_is_gone_is_refused_and_nothing_is_written(flow, state):
    flow()
    shutil.rmtree(f"{state}/boundaries/p/2013-01-02/g1/double")
    with pytest.raises(NotRecorded) as failure:
        flow(redo=load_only)
    assert (failure.value.node, failure.value.reason) == ("double", "its checkpoint was removed")
    assert {e.generation for e in DeltaLedger(state).read("p")} == {1}
    assert set(states(flow()).values()) == {"reused"}


def dated_anew(frame, *, key):
    return frame.selectExpr("*", f"date '{key}' AS date")


@pytest.mark.spark
def test_a_lazy_step_that_was_changed_is_refused(flow):

    steps = [keep_large, sf.step(double, restart=True), sf.step(dated_anew, name="dated", key="2013-01-02")]
    flow()
    for plan in (False, True):
        with pytest.raises(NotRecorded) as failure:
            flow(steps=steps, redo=load_only, plan=plan)
        assert (failure.value.node, failure.value.reason) == ("dated", "it changed, or something before it did")


@pytest.mark.spark
@pytest.mark.parametrize("plan", [False, True])
def test_files_are_not_read_again(flow, plan):

    steps = [keep_large, sf.step(dated, key="2013-01-02")]
    flow(steps=steps)
    with pytest.raises(NotRecorded) as failure:
        flow(steps=steps, redo=load_only, plan=plan)
    assert (failure.value.node, "restart: true" in str(failure.value)) == ("in", True)


@pytest.mark.spark
def test_a_kept_table_is_read_at_the_version_that_was_read(spark, state, tmp_path):
    put(tmp_path / "in", KEY, 1)

    def run_flow(**options):
        with new_run("p", KEY, state=state, spark=spark, **options) as run:
            frame = sf.read(run, "in", sf.source("delta", str(tmp_path / "in")))
            sf.write(run, "lake", frame, sf.delta(str(tmp_path / "lake"), partition_by="date"))
        return [n for (n,) in stored(str(tmp_path / "lake"), "n")]

    run_flow()
    put(tmp_path / "in", KEY, 2)
    assert run_flow(redo={"lake"}.__contains__) == [1]
    assert run_flow(redo={"lake", "in"}.__contains__) == [2]
    write_deltalake(str(tmp_path / "in"), pa.table({"date": [KEY], "m": [3]}), mode="append", schema_mode="merge")
    with sf.Run.open("p", KEY, state=state, spark=spark, mode=Mode(redo=LOAD, plan=True)) as run:
        assert sf.read(run, "in", sf.source("delta", str(tmp_path / "in"))).frame.columns == ["date", "n"]


def keyed(frame):
    return frame.selectExpr("'k' AS key", "*")


@pytest.fixture
def hours(spark, state, lines, tmp_path):
    """Run a day of hours, with a boundary for each, into a table."""
    for name in ("05", "06", "07"):
        lines(f'{{"id": "{name}"}}', name=f"hour={name}")

    def go(pattern=sf.aligned_fan_in, restart=True, how=(), **options):
        source = sf.source("json", f"{tmp_path}/hour={{branch}}", schema="id STRING", branches=["05", "06", "07"])
        with new_run("p", "k", state=state, spark=spark, **options) as run:
            found = pattern(run, "hours", source, **dict(how))
            frame = sf.local_sequencer(run, found.frame, [keyed])
            sf.write(run, "lake", frame, sf.delta(str(tmp_path / "lake"), partition_by="key"))
        return [id_ for (id_,) in stored(str(tmp_path / "lake"), "id")]

    return go


def lake_only(node):
    return node == "lake"


UNALIGNED = {"pattern": sf.unaligned_fan_in, "how": {"require": sf.at_least(1)}}


@pytest.mark.spark
def test_a_kept_fan_in_stays_as_complete_as_it_was(hours, tmp_path):
    (tmp_path / "hour=06").rename(tmp_path / "away")
    assert hours(**UNALIGNED) == ["05", "07"]
    (tmp_path / "away").rename(tmp_path / "hour=06")
    assert hours(**UNALIGNED, redo=lake_only) == ["05", "07"]
    assert hours(**UNALIGNED) == ["05", "06", "07"]


@pytest.mark.spark
@pytest.mark.parametrize("options", [{}, UNALIGNED], ids=["aligned", "unaligned"])
def test_a_kept_branch_is_not_run(hours, state, tmp_path, options):
    with pytest.raises(NotRecorded) as failure:  # and is no branch that has not arrived, or has failed
        hours(**options, redo=lake_only)
    assert failure.value.node in ("hours", "hours/05", "hours/06", "hours/07")
    (tmp_path / "hour=06").rename(tmp_path / "away")
    with pytest.raises(NotRecorded):
        hours(**options, redo=lake_only)
    with pytest.raises(NotRecorded):
        hours(**options, redo=lake_only, plan=True)
    (tmp_path / "away").rename(tmp_path / "hour=06")
    hours(**options)
    shutil.rmtree(f"{state}/boundaries/p/k/g1/hours/06")
    for plan in (False, True):
        with pytest.raises(NotRecorded) as failure:
            hours(**options, redo=lake_only, plan=plan)
        assert (failure.value.node, failure.value.reason) == ("hours/06", "its checkpoint was removed")


@pytest.mark.spark
def test_a_kept_branch_that_failed_and_is_gone_is_not_waited_for(hours, lines, state, tmp_path):
    hours()
    shutil.rmtree(f"{state}/boundaries/p/k/g1/hours/06")
    shutil.rmtree(tmp_path / "lake")
    lines("{", name="hour=06")
    with pytest.raises(Killed):
        hours(observers=[killing("ended", "hours/06")])
    shutil.rmtree(tmp_path / "hour=06")
    with pytest.raises(NotRecorded) as failure:
        hours(redo=lake_only)
    assert (failure.value.node, failure.value.reason) == ("hours/06", "it failed before")


@pytest.mark.spark
def test_branches_without_boundaries_are_not_read_again(hours):
    hours(how={"restart": False})
    with pytest.raises(NotRecorded) as failure:
        hours(how={"restart": False}, redo=lake_only)
    assert failure.value.node == "hours/05/source"


# --- as a job ----------------------------------------------------------------------------------------------

CONFIG = """
pipeline: p
key: ???
output: ROOT/out
state: ROOT/state
parameters:
  to: {values: [one, other], value: one}
sources:
  in: {format: json, path: "ROOT/in/${key}", schema: "id STRING"}
  names: {format: json, path: "ROOT/names", schema: "id STRING, name STRING"}
flow:
  - read: in
  - step:
      name: enrich
      sql: "SELECT id, n.name FROM {frame} JOIN {names} n USING (id)"
      with: {names: names}
      restart: true
  - step: {name: dated, sql: "SELECT '${key}' AS date, * FROM {frame}"}
  - transaction:
      - write: {name: lake, format: delta, path: "ROOT/out/lake", partition_by: [date]}
      - write: {name: legacy, format: csv, path: "ROOT/out/legacy", partition_by: [date]}
  - step: {name: names_of, sql: "SELECT date, name FROM {frame}"}
  - exclusive_choice:
      name: road
      routes:
        one:
          when: {by_parameter: {name: to, equals: one}}
          flow: [write: {name: a, format: csv, path: ROOT/out/a}]
        other:
          when: {by_parameter: {name: to, equals: other}}
          flow: [write: {name: b, format: csv, path: ROOT/out/b}]
  - publish: days
"""
NODES = ["enrich", "dated", "publish/lake", "publish/legacy", "publish", "names_of", "road", "road/one", "road/other"]
NODES += ["a", "b", "marker/days"]
DAYS = [f"2013-01-0{day}" for day in range(1, 6)]


@pytest.fixture
def config(tmp_path):
    def read(text=CONFIG, key=KEY):
        (tmp_path / "job.yaml").write_text(text.replace("ROOT", str(tmp_path)))
        return load(tmp_path / "job.yaml", [f"key={key}"])

    return read


def anew(config, **options):
    asked = asks(config, **options)
    return [node for node in NODES if asked(node)]


@pytest.mark.parametrize(
    ("start", "first"),
    [
        *((node, node) for node in NODES if node not in ("publish", "road/one", "road/other", "a")),
        ("publish", "publish/lake"),
        ("road/other", "road"),
    ],
)
def test_from_a_node_on_in_the_order_of_the_file(config, start, first):
    assert anew(config(), start=start) == NODES[NODES.index(first) :]


def test_from_a_node_of_a_route_the_other_routes_are_left_alone(config):
    assert anew(config(), start="a") == ["a", "marker/days"]
    assert anew(config(), start="b") == ["b", "marker/days"]


@pytest.mark.parametrize(
    ("only", "nodes"),
    [
        (["enrich"], ["enrich"]),
        (["marker/days"], ["marker/days"]),
        (["marker/days", "publish/lake"], ["publish/lake", "publish", "marker/days"]),
        (["marker/days", "publish"], ["publish/lake", "publish/legacy", "publish", "marker/days"]),
        (["marker/days", "road/one"], ["road", "road/one", "road/other", "a", "b", "marker/days"]),
    ],
)
def test_only_a_nodes_entry(config, only, nodes):
    assert anew(config(), only=only) == nodes


def test_what_another_route_reads_is_not_kept_for_it(config):
    step = "step: {name: STEP, sql: 'SELECT * FROM {frame}', with: {names: names}}"
    text = CONFIG.replace("with: {names: names}", "").replace("JOIN {names} n", "JOIN {frame} n")
    for node in ("a", "b"):
        text = text.replace(
            f"[write: {{name: {node},", f"[{step.replace('STEP', f'of_{node}')}, write: {{name: {node},"
        )
    assert asks(config(text), start="of_b")("names")
    assert not asks(config(text), start="b")("names")


def test_what_is_below_a_node_or_read_by_it_goes_with_it(config):
    asked = asks(config(), start="dated")
    assert [asked(node) for node in ("enrich/x", "names", "in", "publish/lake/x", "other")] == [False] * 3 + [True] * 2
    assert asks(config(), start="enrich")("names")
    assert not asks(config(CONFIG.replace("{name: dated,", "{name: dated, with: {names: names},")), start="dated")(
        "names"
    )


@pytest.mark.parametrize(
    ("options", "nearest"),
    [({"start": "publish/lak"}, "publish/lake"), ({"only": ["enrch"]}, "enrich"), ({"start": "in"}, "")],
)
def test_an_unknown_node_is_refused_with_the_nearest(config, options, nearest):
    with pytest.raises(UnknownNode) as failure:
        asks(config(), **options)
    assert (failure.value.nearest, failure.value.known[:2], failure.value.exit_code) == (
        nearest,
        ("enrich", "dated"),
        2,
    )


@pytest.mark.parametrize(
    "options",
    [
        {"start": "publish", "only": ["enrich"]},
        {"start": "publish", "rerun": True},
        {"only": ["enrich"], "rerun": True},
        {"only": ["dated"]},
        {"only": ["publish/lake"]},
    ],
    ids=["from and only", "from and rerun", "only and rerun", "no work of its own", "a marker tells of it"],
)
def test_what_cannot_be_done_by_itself_is_refused(config, options):
    with pytest.raises(InvalidArgument):
        asks(config(), **options)


HOURS = """
pipeline: p
key: ???
sources:
  hourly: {format: json, path: "ROOT/{branch}", branches: "05..07"}
flow:
  - aligned_fan_in: {name: hours, source: hourly}
  - write: {name: lake, format: delta, path: ROOT/lake, mode: overwrite}
  - trigger: TRIGGER
"""


def test_branches_of_fan_ins_are_no_partial_backfill(config, tmp_path):
    (tmp_path / "report.py").write_text("")
    read = config(HOURS.replace("TRIGGER", str(tmp_path / "report.py")))
    assert asks(read, only=["hours/07", "hours"]) is None
    assert asks(read, only=["hours/07"], rerun=True) is None
    assert asks(read, start="hours")("hours/07/source")
    for options in ({"only": ["hours/07", "trigger/report"]}, {"only": ["lake"]}):  # it tells of what is written
        with pytest.raises(InvalidArgument):
            asks(read, **options)
    with pytest.raises(UnknownNode) as failure:
        asks(read, only=["hours/24"])
    assert "hours/05" in failure.value.known


@pytest.fixture
def submit(spark, lines, config, tmp_path, monkeypatch, capsys):
    """Run the job; returns its exit code, what it said, and each node's state."""
    monkeypatch.setattr(type(spark), "stop", lambda _: None)  # the job would end the session of all tests
    (tmp_path / "in").mkdir()
    lines('{"id": "a", "name": "Ann"}', '{"id": "b", "name": "Bob"}', name="names")
    for day in DAYS:
        lines('{"id": "a"}', name=f"in/{day}")
    config()

    def go(*arguments, key=KEY):
        told = tmp_path / "s.json"
        told.unlink(missing_ok=True)
        line = ["--config", str(tmp_path / "job.yaml"), f"key={key}", "--summary-json", str(told), *arguments]
        code = job.main(line, job=str(tmp_path / "job.py"))
        output = capsys.readouterr()
        nodes = json.loads(told.read_text())["nodes"] if told.exists() else []
        return code, output.out + output.err, {node["node"]: node["state"] for node in nodes}

    go.lake = lambda: stored(str(tmp_path / "out" / "lake"), "date", "id", "name")
    return go


@pytest.mark.nightly  # by default those of test_runner_jobs.py
@pytest.mark.spark
def test_of_five_past_days_the_loads_alone_are_done_anew(submit, lines, tmp_path):
    for day in DAYS:
        assert submit(key=day)[0] == 0
    whole = submit.lake()
    for day in DAYS:  # since then the sources have changed, and the loads were spoilt
        lines('{"id": "b"}', name=f"in/{day}", file="late.json")
    shutil.rmtree(tmp_path / "names")
    DeltaTable(str(tmp_path / "out" / "lake")).delete()
    for day in DAYS:
        code, output, nodes = submit("--from", "publish", key=day)
        assert code == 0, output
        kept = {"in": "reused", "names": "reused", "enrich": "reused"}
        assert nodes.items() >= {**kept, "publish/lake": "succeeded", "publish/legacy": "succeeded"}.items()
    assert submit.lake() == whole == [(day, "a", "Ann") for day in DAYS]
    for day in DAYS:
        code, output, nodes = submit(key=day)
        assert (code, set(nodes.values()) - {"skipped"}) == (0, {"reused"}), output
    assert submit.lake() == whole


@pytest.mark.spark
def test_a_plan_tells_what_would_be_done_and_what_is_kept(submit, state):
    submit()
    before = DeltaLedger(state).read()
    code, output, nodes = submit("--from", "publish/legacy", "--plan")
    assert code == 0, output
    expected = {"enrich": "would reuse", "publish/lake": "would reuse", "publish/legacy": "would run"}
    assert nodes.items() >= {**expected, "publish": "would run", "marker/days": "would run"}.items()
    assert DeltaLedger(state).read() == before


@pytest.mark.spark
def test_only_a_step_is_done_and_what_was_made_of_it_is_kept(submit, config):
    config(CONFIG.replace("name: dated,", "name: dated, restart: true,"))
    submit()
    code, output, nodes = submit("--only", "dated")
    kept = {"enrich": "reused", "publish/lake": "reused", "marker/days": "reused"}
    assert (code, nodes.items() >= {**kept, "dated": "succeeded"}.items()) == (0, True), output
    code, output, nodes = submit()
    assert set(nodes.values()) - {"skipped"} == {"reused"}, output
    code, output, _ = submit("--only", "enrich")
    assert (code, "in is not part of this backfill" in output) == (1, True), output


@pytest.mark.spark
def test_the_recorded_command_holds_overrides_only(submit, state, tmp_path):
    submit()
    submit("--from", "publish", f"output={tmp_path}/out")
    first, second = (e.detail["command"] for e in DeltaLedger(state).read() if e.kind == "run" and e.state == "started")
    assert first["overrides"] == [f"key={KEY}"]
    assert second["overrides"] == [f"key={KEY}", f"output={tmp_path}/out"]


@pytest.mark.spark
def test_a_refused_job_says_what_to_do_and_leaves_nothing(submit, state, tmp_path):
    for options in (["--from", "publish", "--rerun"], ["--from", "nowhere"], ["--only", "publish/lake"]):
        code, output, _ = submit(*options)
        assert (code, (tmp_path / "state").exists()) == (2, False), output
    code, output, _ = submit("--from", "publish")
    assert (code, "enrich is not part of this backfill" in output, "--from" in output) == (1, True, True), output
    assert (DeltaLedger(state).read(), (tmp_path / "out").exists()) == ([], False)  # nor does a marker tell of it


@pytest.mark.spark
def test_a_node_of_a_route_that_was_not_taken_is_refused(submit, state):
    submit()
    code, output, _ = submit("--from", "b")
    assert (code, "it took the route one" in output) == (1, True), output
    assert {e.generation for e in DeltaLedger(state).read()} == {1}
    assert submit("--from", "a")[2]["a"] == "succeeded"
