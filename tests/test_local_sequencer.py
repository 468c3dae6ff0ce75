"""The local sequencer: pure, and durable over a real Delta table."""

import pytest
from chispa import assert_df_equality
from conftest import dated, double, keep_large, rows, states
from pyspark.sql import functions as F

import spark_flow as sf
from spark_flow.errors import DuplicateNode, InvalidStep, NodeFailed, NotADataFrame

pytestmark = pytest.mark.spark
RESULT = [("b", 4, "2013-01-02"), ("c", 6, "2013-01-02")]


def test_pipe_is_the_steps_one_after_another(spark):
    frame = spark.createDataFrame([("a", 1), ("b", 2)], "id STRING, n INT")
    expected = spark.createDataFrame([("b", 4)], "id STRING, n INT")
    assert_df_equality(sf.pipe(frame, keep_large, double), expected)


def test_a_step_of_sql_reads_the_frame(spark):
    frame = spark.createDataFrame([("a", 1), ("b", 2)], "id STRING, n INT")
    assert rows(sf.pipe(frame, sf.sql("SELECT max(n) AS n FROM {frame}"))) == [(2,)]


def test_the_same_steps_give_the_same_frame_with_and_without_a_run(spark, flow):
    flow()
    plain = spark.createDataFrame([("a", 1), ("b", 2), ("c", 3)], "id STRING, n INT")
    piped = sf.pipe(plain, keep_large, double, lambda frame: dated(frame, key="2013-01-02"))
    assert flow.lake() == rows(piped.withColumn("date", F.col("date").cast("string")))


def test_a_second_run_reuses_every_node_and_writes_nothing(flow):
    first, second = flow(), flow()
    assert set(states(second).values()) == {"reused"}
    assert states(first).keys() == states(second).keys()
    assert flow.lake() == RESULT


def test_a_run_in_which_all_is_reused_needs_no_session(flow):
    flow()
    assert set(states(flow(spark=lambda: pytest.fail("no session is needed"))).values()) == {"reused"}


def test_steps_before_a_good_boundary_are_not_called(flow):
    calls = []

    def paid_api(frame):
        calls.append("called")
        return frame

    def broken(_):
        raise ValueError("not yet")

    with pytest.raises(NodeFailed) as failure:
        flow(steps=[paid_api, sf.step(double, restart=True), broken])
    assert failure.value.node == "broken"
    run = flow(steps=[paid_api, sf.step(double, restart=True), sf.step(dated, key="2013-01-02")])
    assert calls == ["called"]
    assert (states(run)["paid_api"], states(run)["double"], states(run)["dated"]) == ("reused", "reused", "succeeded")


def test_without_a_boundary_the_chain_is_one_plan(spark, state):
    frame = spark.range(5).withColumn("n", F.col("id"))
    with sf.Run.open("p", "k", state=state, spark=spark) as run:
        chained = sf.local_sequencer(run, frame, [keep_large, double]).frame
    assert_df_equality(chained, double(keep_large(frame)))
    assert [o.state for o in run.outcomes if o.state == "succeeded"] == []


def changed_double(frame):
    return frame.withColumn("n", F.col("n") * 3)


def test_a_changed_step_runs_again_with_all_after_it_and_one_before_is_reused(flow):
    def after(key="2013-01-02"):
        return sf.step(dated, key=key)

    flow(steps=[sf.step(keep_large, restart=True), sf.step(double, name="scale", restart=True), after()])
    run = flow(steps=[sf.step(keep_large, restart=True), sf.step(changed_double, name="scale", restart=True), after()])
    expected = {"keep_large": "reused", "scale": "succeeded", "dated": "succeeded", "publish/lake": "succeeded"}
    assert expected.items() <= states(run).items()
    assert flow.lake() == [("b", 6, "2013-01-02"), ("c", 9, "2013-01-02")]


def test_a_step_that_is_changed_back_runs_again(flow):
    def steps(transform):
        return [keep_large, sf.step(transform, name="scale", restart=True), sf.step(dated, key="2013-01-02")]

    flow(steps=steps(double)), flow(steps=steps(changed_double))
    run = flow(steps=steps(double))
    assert states(run)["scale"] == "succeeded"
    assert flow.lake() == RESULT


def test_the_state_folder_deleted_replaces_the_rows(flow, state):
    import shutil

    flow()
    shutil.rmtree(state)
    run = flow()
    assert states(run)["publish/lake"] == "succeeded"
    assert (flow.lake(), flow.legacy()) == (RESULT, [("b", "4"), ("c", "6")])


def test_the_tables_deleted_are_written_anew(flow):
    import shutil

    flow()
    shutil.rmtree(flow.out)
    run = flow()
    assert (states(run)["double"], states(run)["publish/lake"]) == ("reused", "succeeded")
    assert (flow.lake(), flow.legacy()) == (RESULT, [("b", "4"), ("c", "6")])


def test_a_boundary_that_lost_a_file_is_not_reused(flow, state):
    from pathlib import Path

    def broken(_):
        raise ValueError

    with pytest.raises(NodeFailed):
        flow(steps=[keep_large, sf.step(double, restart=True), broken])
    next(Path(state, "boundaries").rglob("*.parquet")).unlink()
    assert states(flow())["double"] == "succeeded"
    assert flow.lake() == RESULT


def test_a_rerun_replaces_the_keys_rows_and_no_others(flow):
    flow("2013-01-02"), flow("2013-01-03")
    run = flow("2013-01-02", rerun=True)
    assert (run.generation, set(states(run).values())) == (2, {"succeeded"})
    assert flow.lake() == [(i, n, d) for i, n in (("b", 4), ("c", 6)) for d in ("2013-01-02", "2013-01-03")]


def test_a_plan_shows_what_would_run_and_does_nothing(flow):
    planned = flow(plan=True)
    assert set(states(planned).values()) == {"would run"}
    assert not flow.out.exists()
    flow()
    assert set(states(flow(plan=True)).values()) == {"would reuse"}


def test_a_plan_surfaces_an_unknown_column(flow):
    with pytest.raises(NodeFailed) as failure:
        flow(plan=True, steps=[sf.step(sf.sql("SELECT missing FROM {frame}"), name="select")])
    assert failure.value.node == "select"


@pytest.mark.parametrize("result", [None, 3, "text"])
def test_a_step_that_returns_no_frame_is_named(flow, result):
    def wrong(_):
        return result

    with pytest.raises(NotADataFrame) as failure:
        flow(steps=[wrong])
    assert (failure.value.where, failure.value.found) == ("wrong", result)


def test_what_is_no_function_is_refused(flow):
    with pytest.raises(InvalidStep):
        flow(steps=["flights:clean"])


def test_two_steps_of_one_name_are_refused(flow):
    with pytest.raises(DuplicateNode) as refused:
        flow(steps=[keep_large, keep_large])
    assert refused.value.node == "keep_large"


def test_boundaries_of_a_succeeded_run_are_removed_after_the_retention(flow, state):
    import datetime as dt
    from pathlib import Path

    flow()
    assert list(Path(state, "boundaries").rglob("*.parquet"))
    run = flow(retention=dt.timedelta(0))
    assert not list(Path(state, "boundaries").rglob("*.parquet"))
    assert states(flow()) == states(run)
