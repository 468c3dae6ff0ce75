"""Calls with an effect outside of Spark: once per generation, and with the same idempotency key otherwise."""

import json

import pytest
from conftest import Killed, killing
from runs import new_run

import spark_flow as sf
from spark_flow.errors import ConfigError, InvalidStep, NodeFailed
from spark_flow.jobfile import load

KEY = "2013-01-02"


@pytest.fixture
def open_run(memory_ledger, tmp_path):
    def open_(**options):
        return new_run("p", KEY, **{"ledger": memory_ledger, "state": str(tmp_path), **options})

    return open_


@pytest.fixture
def service():
    """A paid service: what it was asked for, and whether it is down."""

    class Service:
        asked, down = [], False

        def order(self, *, idempotency_key, **arguments):
            if self.down:
                raise ConnectionError("refused")
            self.asked.append((idempotency_key, arguments))
            return {"id": len(self.asked)}

    return Service()


def test_a_retry_reuses_the_call_and_a_rerun_calls_again_under_another_key(open_run, service):
    with open_run() as run:
        first = sf.call(run, service.order, day=KEY)
    with open_run() as run:
        again = sf.call(run, service.order, day="another argument")
    assert (first.state, again.state) == ("succeeded", "reused")
    assert again.detail["returned"] == {"id": 1}
    with open_run(rerun=True) as run:
        sf.call(run, service.order, day=KEY)
    assert service.asked == [(f"p/order/{KEY}/1", {"day": KEY}), (f"p/order/{KEY}/2", {"day": KEY})]


@pytest.mark.parametrize("given", [{"day": KEY}, {}])
def test_a_function_that_cannot_take_what_it_gets_is_refused_by_the_plan(open_run, given):
    def order(*, day):
        pytest.fail("it is not called")

    with open_run(plan=True) as run, pytest.raises(InvalidStep, match="cannot be called so"):
        sf.call(run, order, **given)


def test_a_failed_call_is_made_again_with_the_same_key(open_run, service):
    service.down = True
    with pytest.raises(NodeFailed), open_run() as run:
        sf.call(run, service.order)
    service.down = False
    with open_run() as run:
        assert sf.call(run, service.order).state == "succeeded"
    assert service.asked == [(f"p/order/{KEY}/1", {})]


@pytest.mark.parametrize(
    ("point", "calls"),
    [("before_action", 1), ("before_event", 2), ("after_event", 1)],
    ids=["before", "between", "after"],
)
def test_killed_between_effect_and_record_it_is_called_again_with_the_same_key_else_once(
    open_run, service, point, calls
):
    with pytest.raises(Killed):
        sf.call(open_run(observers=[killing(point, "order")]), service.order)
    with open_run() as run:
        sf.call(run, service.order)
    with open_run() as run:
        assert sf.call(run, service.order).state == "reused"
    assert [key for key, _ in service.asked] == [f"p/order/{KEY}/1"] * calls


@pytest.mark.parametrize(
    ("returned", "detail"),
    [
        (None, {}),
        ([1, "a"], {"returned": [1, "a"]}),
        (float("nan"), {"not_recorded": "a float, which is not JSON"}),
        (object(), {"not_recorded": "a object, which is not JSON"}),
        ("x" * 5000, {"not_recorded": "5002 characters, more than 4000"}),
    ],
)
def test_a_result_that_cannot_be_recorded_does_not_fail_the_call_that_was_made(open_run, returned, detail):
    with open_run() as run:
        outcome = sf.call(run, lambda *, idempotency_key: returned, name="c")  # noqa: ARG005
    assert outcome.state == "succeeded"
    assert {name: value for name, value in outcome.detail.items() if name != "idempotency_key"} == detail


def test_a_secret_is_resolved_for_the_call_and_recorded_nowhere(open_run, memory_ledger, service, monkeypatch):
    monkeypatch.setenv("TOKEN", "s3cret-value")
    service_down = "down, with s3cret-value"

    def order(*, idempotency_key, token):
        service.asked.append((idempotency_key, token))
        raise OSError(service_down)

    with pytest.raises(NodeFailed) as fault, open_run() as run:
        sf.call(run, order, token="${oc.env:TOKEN}")
    assert service.asked[0][1] == "s3cret-value"
    assert "s3cret-value" not in str(fault.value) + str(memory_ledger.read())


def test_a_plan_calls_nothing(open_run, service):
    with open_run(plan=True) as run:
        assert sf.call(run, service.order).state == "would run"
    assert service.asked == []


def test_a_function_without_a_name_needs_one(open_run):
    with open_run() as run, pytest.raises(InvalidStep):
        sf.call(run, lambda **_: None)


BILLING = """
from pathlib import Path

def order(*, idempotency_key, day, file):
    with Path(file).open("a") as out:
        out.write(f"{idempotency_key} {day}\\n")
"""
JOB = """
pipeline: billing
key: ???
sources: {in: {format: json, path: FOLDER, schema: "id INT"}}
flow:
  - call: {run: billing_service:order, with: {day: "${key}", file: OUT/orders}}
  - read: in
  - write: {name: lake, format: parquet, path: OUT/lake}
"""


@pytest.mark.spark
def test_a_call_of_a_file_may_come_before_the_data(spark, run_file, lines, tmp_path):
    lines('{"id": 1}')
    (tmp_path / "billing_service.py").write_text(BILLING)
    (tmp_path / "out").mkdir()
    for _ in range(2):
        code, said = run_file(JOB, f"key={KEY}", f"--summary-json={tmp_path}/s.json")
        assert code == 0, said
    assert (tmp_path / "out" / "orders").read_text() == f"billing/order/{KEY}/1 {KEY}\n"
    assert {n["node"]: n["state"] for n in json.loads((tmp_path / "s.json").read_text())["nodes"]}["order"] == "reused"


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("billing_service:order", "billing_service:gone", "flow[0].call.run"),
        ("day:", "idempotency_key:", "flow[0].call.with"),
        ("call: {run", "call: {timeout: 5, run", "flow[0].call.timeout"),
        ("  - read: in\n", "", "flow[1]"),
    ],
)
def test_what_cannot_be_called_is_refused_with_its_place(tmp_path, old, new, path):
    (tmp_path / "billing_service.py").write_text(BILLING)
    (tmp_path / "job.yaml").write_text(JOB.replace(old, new))
    with pytest.raises(ConfigError) as fault:
        load(tmp_path / "job.yaml", [f"key={KEY}"], beside=tmp_path)
    assert path in [problem.path for problem in fault.value.problems]
