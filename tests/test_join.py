"""join_all: the same rows or fewer, more columns."""

import pytest
from conftest import rows

import spark_flow as sf
from spark_flow.errors import ColumnClash, MissingColumns, NoBranches, TypeConflict

pytestmark = pytest.mark.spark


@pytest.fixture
def frames(spark):
    return {
        "flights": spark.createDataFrame([("a", "x", 1), ("b", "y", 2), (None, "z", 3)], "id STRING, k STRING, n INT"),
        "planes": spark.createDataFrame([("a", 10), (None, 20), (None, 30)], "ID STRING, seats INT"),
        "codes": spark.createDataFrame([("x", "X")], "k STRING, code STRING"),
    }


ON = {"planes": "id", "codes": ["k"]}


def test_left_keeps_all_rows_of_the_first(frames):
    result = sf.join_all(frames, ON, "left")
    assert result.columns == ["id", "k", "n", "seats", "code"]
    found = rows(result.select("n", "seats", "code").fillna(0).fillna("-"))
    assert found == [(1, 10, "X"), (2, 0, "-"), (3, 0, "-")]


def test_inner_keeps_the_rows_that_match_everywhere(frames):
    assert rows(sf.join_all(frames, ON)) == [("a", "x", 1, 10, "X")]


def test_a_key_that_would_multiply_rows_is_refused_by_the_action_and_named(spark, frames):
    twice = {"flights": frames["flights"], "planes": spark.createDataFrame([("a", 1), ("a", 2)], "id STRING, s INT")}
    with pytest.raises(Exception, match=r"duplicate key \[planes\] id=a"):
        sf.join_all(twice, "id").collect()
    assert sf.join_all(twice, "id", allow_duplicates=True).count() == 2


def test_clashing_columns_are_refused_or_prefixed(spark, frames):
    both = {"flights": frames["flights"], "planes": spark.createDataFrame([("a", 7)], "id STRING, N INT")}
    with pytest.raises(ColumnClash) as caught:
        sf.join_all(both, "id")
    assert caught.value.columns == {"n": ("flights", "planes")}
    assert sf.join_all(both, "id", clash="prefix").columns == ["id", "k", "n", "planes_N"]


def test_keys_that_are_missing_or_of_another_type_are_refused(spark, frames):
    with pytest.raises(MissingColumns):
        sf.join_all(frames, "k")
    numbers = {"flights": frames["flights"], "planes": spark.createDataFrame([(1, 2)], "id INT, s INT")}
    with pytest.raises(TypeConflict):
        sf.join_all(numbers, "id")


def test_no_frames():
    with pytest.raises(NoBranches):
        sf.join_all({}, "id")
