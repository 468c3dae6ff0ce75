"""union_by_name: columns by name, nothing lost, what does not fit is named."""

import pytest
from conftest import law, rows
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import functions as F

import spark_flow as sf
from spark_flow.errors import AmbiguousColumns, MissingColumns, NoBranches, NotADataFrame, TypeConflict

pytestmark = pytest.mark.spark


def test_columns_are_matched_by_name_in_the_first_frames_order_and_case(spark):
    one = spark.createDataFrame([("a", 1)], "id STRING, n INT")
    other = spark.createDataFrame([(2, "b")], "N INT, ID STRING")
    result = sf.union_by_name([one, other])
    assert (result.columns, rows(result)) == (["id", "n"], [("a", 1), ("b", 2)])


def test_nullability_may_differ(spark):
    one, other = spark.range(1), spark.createDataFrame([(None,)], "id BIGINT")
    assert sf.union_by_name([one, other]).schema["id"].nullable


def test_missing_columns_are_refused_unless_asked_for(spark):
    frames = {"x": spark.createDataFrame([(1,)], "a INT"), "y": spark.createDataFrame([(2, "s")], "a INT, b STRING")}
    with pytest.raises(MissingColumns) as caught:
        sf.union_by_name(frames)
    assert (caught.value.branch, caught.value.missing) == ("x", ("b",))
    filled = sf.union_by_name(frames, allow_missing_columns=True)
    assert rows(filled.fillna("-")) == [(1, "-"), (2, "s")]


def test_a_type_conflict_names_both_branches_and_types(spark):
    frames = {"x": spark.range(1), "y": spark.createDataFrame([("1",)], "id STRING")}
    with pytest.raises(TypeConflict) as caught:
        sf.union_by_name(frames)
    assert (caught.value.column, caught.value.types) == ("id", {"x": "bigint", "y": "string"})


@pytest.mark.parametrize(("frames", "error"), [([], NoBranches), ([None], NotADataFrame)])
def test_what_is_no_list_of_frames_is_refused(frames, error):
    with pytest.raises(error):
        sf.union_by_name(frames)


def test_two_columns_of_one_name_are_refused(spark):
    frame = spark.range(1).select("id", F.col("id").alias("ID"))
    with pytest.raises(AmbiguousColumns):
        sf.union_by_name([frame, frame])


def test_one_partition_frames_stay_side_by_side_in_a_session_of_others(spark):
    spark.conf.set("spark.sql.unionOutputPartitioning", "true")
    try:
        union = sf.union_by_name([spark.range(0, 4, 1, 1) for _ in range(4)])
        assert union.select(F.spark_partition_id()).distinct().count() == 4
    finally:
        spark.conf.set("spark.sql.unionOutputPartitioning", "false")


@law(6)
@given(data=st.data(), sizes=st.lists(st.integers(0, 3), min_size=1, max_size=5))
def test_the_order_of_branches_and_columns_does_not_matter(spark, data, sizes):
    columns = ["a", "b", "c"]
    frames = [spark.range(size).select(*[F.lit(at).alias(c) for c in columns]) for at, size in enumerate(sizes)]
    shuffled = [f.select(*data.draw(st.permutations(columns))) for f in data.draw(st.permutations(frames))]
    assert rows(sf.union_by_name(shuffled).select(*columns)) == rows(sf.union_by_name(frames))
