"""Sources: what is missing, what is bad, and the version that a generation reads."""

import csv

import pytest
from conftest import rows, states, stored
from runs import new_run

import spark_flow as sf
from spark_flow.errors import BadRecords, InvalidArgument, MissingInput, NodeFailed, NotArrived

pytestmark = pytest.mark.spark
SCHEMA = "id INT NOT NULL, name STRING, n INT"
GOOD = '{"id": 1, "name": "a", "n": 3}'
BAD = {
    "corrupt": ('{"id": 2, "na', "not valid JSON"),
    "wrong type": ('{"id": 2, "name": "b", "n": "many"}', "a value does not fit its column's type"),
    "missing column": ('{"name": "b", "n": 1}', "missing or null: id"),
}
each_bad = pytest.mark.parametrize(("record", "reason"), BAD.values(), ids=BAD.keys())


@pytest.fixture
def copy(spark, state, tmp_path):
    """Read a source and write it as it is."""

    def run_copy(source, key="k", **options):
        run = new_run("p", key, state=state, spark=spark, **options)
        with run:
            sf.write(run, "copy", sf.read(run, "in", source), sf.parquet(str(tmp_path / "copy")))
        return run

    run_copy.rows = lambda: rows(spark.read.parquet(str(tmp_path / "copy")).drop("key"))
    return run_copy


@each_bad
def test_a_bad_record_fails_and_names_its_file(copy, lines, record, reason):
    folder = lines(GOOD, record)
    with pytest.raises(BadRecords) as failure:
        copy(sf.source("json", folder, schema=SCHEMA))
    assert failure.value.source == "in"
    assert failure.value.file.endswith("/in/a.json")
    assert failure.value.reason


@each_bad
def test_a_bad_record_is_set_aside_with_file_and_reason_and_counted(spark, state, copy, lines, record, reason):
    run = copy(sf.source("json", lines(GOOD, record), schema=SCHEMA, bad_records="quarantine"))
    aside = spark.read.format("delta").load(f"{state}/quarantine/p").collect()
    assert [(r.record, r.reason, r.key, r.source) for r in aside] == [(record, reason, "k", "in")]
    assert aside[0].file.endswith("/in/a.json")
    assert copy.rows() == [(1, "a", 3)]
    (node,) = [n for n in run.summary()["nodes"] if n["node"] == "in"]
    assert node["reason"].startswith("1 bad record")


def test_a_rerun_over_mended_files_empties_the_quarantine(spark, state, copy, lines):
    source = sf.source("json", lines(GOOD, "{"), schema=SCHEMA, bad_records="quarantine")
    copy(source)
    lines(GOOD)
    copy(source, rerun=True)
    assert len(stored(f"{state}/quarantine/p")) == 0


def test_bad_lines_of_csv_are_set_aside(spark, state, copy, lines):
    folder = lines("id,name,n", "1,a,3", "2,b,many", ",c,1", "4,d", file="a.csv")
    copy(sf.source("csv", folder, schema=SCHEMA, bad_records="quarantine", options={"header": "true"}))
    assert copy.rows() == [(1, "a", 3)]
    assert len(stored(f"{state}/quarantine/p")) == 3


def test_every_missing_branch_is_named(copy, lines):
    folder = lines(GOOD, name="hour=05").replace("05", "{branch}")
    with pytest.raises(NotArrived) as failure:
        copy(sf.source("json", folder, schema=SCHEMA, branches=["05", "06", "07"]))
    assert [path[-2:] for path in failure.value.missing] == ["06", "07"]


def test_an_empty_folder_is_missing_data(copy, tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(MissingInput) as failure:
        copy(sf.source("json", str(tmp_path / "none"), schema=SCHEMA))
    assert failure.value.missing == (str(tmp_path / "none"),)


def test_a_missing_table_is_named(copy, tmp_path):
    with pytest.raises(MissingInput):
        copy(sf.source("delta", str(tmp_path / "none")))


def test_a_retry_reads_the_version_that_was_pinned_and_a_rerun_pins_anew(spark, copy, tmp_path):
    table = str(tmp_path / "table")
    source = sf.source("delta", table)
    spark.range(2).write.format("delta").save(table)

    def stop(point, node, _):
        if (point, node) == ("before_action", "copy"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy(source, observers=[stop])
    spark.range(5).write.format("delta").mode("append").save(table)
    copy(source)
    assert len(copy.rows()) == 2
    copy(source, rerun=True)
    assert len(copy.rows()) == 7


def test_a_version_that_is_not_there_fails_the_read(spark, copy, tmp_path):
    spark.range(2).write.format("delta").save(str(tmp_path / "table"))
    with pytest.raises(NodeFailed) as failure:
        copy(sf.source("delta", str(tmp_path / "table"), version=9))
    assert failure.value.node == "in"


def test_a_source_that_was_read_is_reused_with_what_was_made_of_it(copy, lines):
    source = sf.source("json", lines(GOOD), schema=SCHEMA)
    copy(source)
    assert states(copy(source)) == {"in": "reused", "copy": "reused"}


def test_a_schema_that_is_no_ddl_is_named_with_its_source(copy, lines):
    folder = lines(GOOD)
    with pytest.raises(InvalidArgument) as refused:
        copy(sf.source("json", folder, schema="id INT/ name STRING"))
    assert refused.value.where == f"schema of {folder}"
    assert "'id INT/ name STRING' (ParseException: " in refused.value.found


@pytest.mark.parametrize("policy", ["no schema", "fail", "quarantine"])
def test_csv_that_others_wrote_is_read_as_they_meant_it(spark, state, tmp_path, policy):
    texts = ['27" screen', 'a "b", c', '"', '""', "a\\", '\\"', "it's; #1", " blank ", "a,b"]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("n", "text"), *enumerate(texts)])
    checked = {} if policy == "no schema" else {"schema": "n INT, text STRING", "bad_records": policy}
    source = sf.source("csv", str(tmp_path / "a.csv"), options={"header": "true"}, **checked)
    with new_run("p", "k", state=state, spark=spark) as run:
        read = sf.read(run, "in", source).frame
        assert [text for _, text in sorted(rows(read), key=lambda row: int(row[0]))] == texts


def test_a_backslash_escapes_where_the_user_says_so(spark, state, tmp_path):
    (tmp_path / "a.csv").write_text('1,"a \\"b\\", c"\n')
    source = sf.source("csv", str(tmp_path / "a.csv"), schema="n INT, text STRING", options={"Escape": "\\"})
    with new_run("p", "k", state=state, spark=spark) as run:
        assert rows(sf.read(run, "in", source).frame) == [(1, 'a "b", c')]
