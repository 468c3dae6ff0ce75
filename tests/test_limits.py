"""Limits of nodes: how often one is tried, and how long a try may take."""

import threading

import pytest
from runs import FakeTarget, new_run

import spark_flow as sf
from spark_flow.engine.mode import Permission
from spark_flow.engine.node import Node
from spark_flow.errors import (
    BadRecords,
    ConfigError,
    Interrupted,
    InvalidArgument,
    NodeFailed,
    NodeTimedOut,
    StoppedBySibling,
)
from spark_flow.jobfile import load
from spark_flow.storage.sink_protocol import Written

NOW = sf.Limits(retries=2, backoff=0)


@pytest.fixture
def open_run(memory_ledger, tmp_path):
    def open_(**options):
        return new_run("p", "2013-01-02", **{"ledger": memory_ledger, "state": str(tmp_path), **options})

    return open_


def failing(*errors):
    """An action that raises one error after another, and then succeeds; and the tries so far."""
    left, tries = list(errors), []

    def action(intent):
        tries.append(intent.revision)
        if left:
            raise left.pop(0)
        return Written(rows=1)

    return action, tries


def do(run, action, name="hours/07"):
    return run.once(Node(name=name, kind="branch"), action, FakeTarget())


@pytest.mark.parametrize("where", ["hours", "hours/07"])
def test_a_node_is_tried_again_under_the_same_revision(open_run, memory_ledger, where):
    action, tries = failing(OSError("cut off"), OSError("cut off again"))
    with open_run(limits={where: NOW}) as run:
        assert do(run, action).state == "succeeded"
    assert tries == [1, 1, 1]
    assert [e.state for e in memory_ledger.read() if e.node] == ["started", "succeeded"]
    assert [words.partition(" (")[0] for words in run.warnings] == [
        "hours/07: try 1 of 3 failed: OSError: cut off",
        "hours/07: try 2 of 3 failed: OSError: cut off again",
    ]


def test_the_last_error_fails_the_node_and_the_next_attempt_runs_it(open_run):
    action, tries = failing(*(OSError(str(at)) for at in range(3)))
    with pytest.raises(NodeFailed) as fault, open_run(limits={"hours": NOW}) as run:
        do(run, action)
    assert (str(fault.value.cause), len(tries)) == ("2", 3)
    with open_run(limits={"hours": NOW}) as run:
        assert do(run, action).state == "succeeded"


@pytest.mark.parametrize("error", [BadRecords("s", "f", "r"), KeyboardInterrupt(), Interrupted("x")])
def test_what_another_try_would_not_change_is_raised_at_once(open_run, error):
    action, tries = failing(error)
    with pytest.raises(type(error)), open_run(limits={"hours": NOW}) as run:
        do(run, action)
    assert len(tries) == 1


def test_nodes_of_other_names_have_no_limits(open_run):
    action, tries = failing(OSError("x"))
    with pytest.raises(NodeFailed), open_run(limits={"hour": NOW, "hours/0": NOW}) as run:
        do(run, action)
    assert len(tries) == 1


@pytest.mark.parametrize("how", ["interrupted", "stopped"])
def test_a_pause_ends_when_the_run_is_asked_to_stop(open_run, how):
    action, tries = failing(OSError("x"), OSError("y"))
    asked = threading.Event()
    limits = {"hours": sf.Limits(retries=5, backoff=60)}
    error = {"interrupted": Interrupted, "stopped": StoppedBySibling}[how]
    run = open_run(limits=limits, interrupted=asked.is_set)

    def stop(point, *_):
        if point == "warning" and how == "interrupted":
            asked.set()
        elif point == "warning":
            run.stopped["hours/07"] = StoppedBySibling("hours/07")

    run.observe(stop)
    with pytest.raises(error):
        do(run, action)
    assert len(tries) == 1


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": -1}, {"retries": -1}, {"backoff": -1}])
def test_limits_that_limit_nothing_are_refused(wrong):
    with pytest.raises(InvalidArgument):
        sf.Limits(**wrong)


def test_the_nearest_limits_hold():
    mine, all_of_them = sf.Limits(timeout=1), sf.Limits(timeout=2)
    permission = Permission(limits={"a/b": mine, "a": all_of_them})
    assert [permission.limits_of(node) for node in ("a/b/c", "a/b", "a/x", "a", "b")] == [
        mine,
        mine,
        all_of_them,
        all_of_them,
        None,
    ]


@pytest.mark.spark
def test_a_hung_spark_job_is_cancelled_and_the_next_try_may_succeed(spark, state):
    """An endless job ends within seconds; the jobs of other threads go on."""
    tries, sums = [], []

    def action(_):
        tries.append(1)
        if len(tries) == 1:
            spark.range(0, 10**15, 1, 1).selectExpr("sum(id % 7)").collect()
        return Written(rows=spark.range(3).count())

    def sum_up():
        sums.append(spark.range(0, 2_000_000, 1, 1).selectExpr("sum(id)").first()[0])

    other = threading.Thread(target=sum_up)
    other.start()
    with new_run("p", "k1", state=state, spark=spark, limits={"n": sf.Limits(timeout=8, retries=1, backoff=0)}) as run:
        outcome = run.once(Node(name="n", writes=False), action)
    other.join()
    assert (outcome.state, outcome.rows, len(tries), len(sums)) == ("succeeded", 3, 2, 1)
    assert "timeout" in run.warnings[0]


@pytest.mark.spark
def test_a_node_that_takes_too_long_fails_as_timed_out(spark, state):
    def endless(_):
        spark.range(0, 10**15, 1, 1).selectExpr("sum(id % 7)").collect()

    with (
        pytest.raises(NodeTimedOut) as fault,
        new_run("p", "k1", state=state, spark=spark, limits={"n": sf.Limits(timeout=0.5)}) as run,
    ):
        run.once(Node(name="n", writes=False), endless)
    assert (fault.value.node, run.outcome("n").state) == ("n", "failed")


JOB = """
pipeline: p
key: k1
sources: {in: {format: json, path: "in/{branch}", branches: ["05", "06"], schema: "id INT"}}
flow:
  - unaligned_fan_in: {name: hours, source: in, require: any_succeeded, timeout: 600, retry: {times: 2, backoff: 30}}
  - step: {name: lazy, sql: "SELECT * FROM {frame}"}
  - step: {name: bounded, sql: "SELECT * FROM {frame}", restart: true, timeout: 60}
  - transaction:
      - write: {name: lake, format: delta, path: out/lake, retry: {times: 1}}
      - parallel_split: {sinks: {a: {format: delta, path: out/a}}, timeout: 5}
"""


def test_the_limits_of_a_file_are_those_of_its_nodes(tmp_path):
    (tmp_path / "job.yaml").write_text(JOB)
    assert load(tmp_path / "job.yaml").limits() == {
        "hours": sf.Limits(timeout=600, retries=2, backoff=30),
        "bounded": sf.Limits(timeout=60),
        "publish/lake": sf.Limits(retries=1),
        "publish/split": sf.Limits(timeout=5),
        "publish/a": sf.Limits(timeout=5),
    }


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ('{name: lazy, sql: "SELECT', '{name: lazy, timeout: 5, sql: "SELECT', "flow[1].step.timeout"),
        ("timeout: 600", "timeout: 0", "flow[0].unaligned_fan_in.timeout"),
        ("timeout: 600", "timeout: 10m", "flow[0].unaligned_fan_in.timeout"),
        ("times: 2", "times: 0", "flow[0].unaligned_fan_in.retry.times"),
        ("backoff: 30", "backof: 30", "flow[0].unaligned_fan_in.retry.backof"),
        ("retry: {times: 1}", "retry: 1", "flow[3].transaction[0].write.retry"),
        (
            "out/a}",
            'out/a, step: {name: s, sql: "SELECT * FROM {frame}", timeout: 1}}',
            "flow[3].transaction[1].parallel_split.sinks.a.step",
        ),
    ],
)
def test_what_cannot_be_limited_is_refused_with_its_place(tmp_path, old, new, path):
    assert JOB.count(old) == 1
    (tmp_path / "job.yaml").write_text(JOB.replace(old, new))
    with pytest.raises(ConfigError) as fault:
        load(tmp_path / "job.yaml")
    assert path in [problem.path for problem in fault.value.problems]
