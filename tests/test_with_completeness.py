"""with_completeness: false exactly when every expected branch has arrived."""

import pytest
from conftest import law
from hypothesis import given
from hypothesis import strategies as st

import spark_flow as sf
from spark_flow.errors import ColumnClash, MissingColumns, NoBranches

pytestmark = pytest.mark.spark
HOURS = st.sets(st.integers(0, 5), min_size=1)


@law(6)
@given(expected=HOURS, arrived=HOURS)
def test_the_flag_is_false_exactly_when_every_expected_branch_has_arrived(spark, expected, arrived):
    frame = spark.createDataFrame([(hour,) for hour in sorted(arrived)], "hour INT")
    wanted = {not expected <= arrived}
    by_rows = sf.with_completeness(frame, expected, by="hour")
    told = sf.with_completeness(frame, expected, arrived=arrived)
    assert {r.is_approximate for r in by_rows.collect()} == wanted == {r.is_approximate for r in told.collect()}


def test_a_column_of_the_users_is_not_clobbered(spark):
    frame = spark.range(1).withColumnRenamed("id", "Is_Approximate")
    with pytest.raises(ColumnClash):
        sf.with_completeness(frame, [1], arrived=[1])


def test_bad_input(spark):
    with pytest.raises(MissingColumns):
        sf.with_completeness(spark.range(1), [1], by="hour")
    with pytest.raises(NoBranches):
        sf.with_completeness(spark.range(1), [], by="id")
    with pytest.raises(TypeError):
        sf.with_completeness(spark.range(1), [1])
