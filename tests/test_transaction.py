"""The transaction boundary: a set of tables is visible whole or not at all."""

import pytest
from conftest import Killed, killing, rows, states

import spark_flow as sf
from spark_flow.errors import DuplicateNode, SetNotVisible

pytestmark = pytest.mark.spark


def read(spark, state, key="2013-01-02"):
    found = sf.read_transaction(spark, "p", key, "publish", state=state)
    return {name: rows(frame.select("id", "n")) for name, frame in found.items()}


def test_a_complete_set_is_read_at_its_versions(spark, state, flow):
    flow()
    assert read(spark, state) == {"lake": [("b", 4), ("c", 6)], "legacy": [("b", 4), ("c", 6)]}


def test_killed_between_two_tables_the_set_is_invisible_and_the_retry_completes_it(spark, state, flow):
    with pytest.raises(Killed):
        flow(observers=[killing("after_event", "publish/lake")])
    with pytest.raises(SetNotVisible) as refused:
        read(spark, state)
    assert refused.value.key == "2013-01-02"
    assert states(flow())["publish/lake"] == "reused"
    assert read(spark, state)["legacy"] == [("b", 4), ("c", 6)]


def test_during_a_rerun_the_old_table_is_read_until_the_new_set_is_complete(spark, state, flow):
    only_lake = {"lake": sf.delta(str(flow.out / "lake"), partition_by="date")}
    flow(sinks=only_lake)
    spark.sql(f"DELETE FROM delta.`{flow.out}/lake` WHERE id = 'b'")  # by hand: visible in the table, not in the set
    with pytest.raises(Killed):
        flow(sinks=only_lake, rerun=True, observers=[killing("before_action", "publish")])
    assert read(spark, state) == {"lake": [("b", 4), ("c", 6)]}


def test_a_folder_that_was_replaced_since_is_not_read_as_the_old_set(spark, state, flow):
    flow()
    with pytest.raises(Killed):
        flow(rerun=True, observers=[killing("before_action", "publish")])
    with pytest.raises(SetNotVisible):
        read(spark, state)


def test_no_set_of_a_key_that_never_ran(spark, state):
    with pytest.raises(SetNotVisible):
        sf.read_transaction(spark, "p", "2013-01-02", state=state)


def test_two_writes_to_one_place_are_refused(flow):
    same = str(flow.out / "same")
    with pytest.raises(DuplicateNode):
        flow(sinks={"one": sf.delta(same, partition_by="date"), "two": sf.delta(same, partition_by="date")})
