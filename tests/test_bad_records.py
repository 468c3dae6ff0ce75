"""Bad records: one way to parse and judge, whatever is done with them and whatever is used of the others."""

import gzip
import json

import pytest
from conftest import law, rows, states, stored
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import types as T

import spark_flow as sf
from spark_flow.errors import HeaderMismatch, InvalidArgument
from spark_flow.storage import sources

SCHEMA = "id INT NOT NULL, name STRING, trip STRUCT<fare: INT>"
PARTS = "id INT NOT NULL, delay INT, name STRING"


@pytest.fixture
def put(tmp_path):
    def write(content, name="in/a.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path.parent)

    return write


@pytest.fixture
def judged(spark):
    """What both policies make of a source: the kept rows, the texts set aside by reason, and what ``fail`` raised."""

    def judge(kind, folder, schema=SCHEMA, columns=("id",), **options):
        aside = sf.source(kind, folder, schema=schema, options=options, bad_records="quarantine")
        good, bad = sources.split_bad_records(spark, aside)
        kept = rows(good.select(*columns))
        told = sorted((row.record, row.reason) for row in bad.collect())
        strict = sources.read_files(spark, "in", sf.source(kind, folder, schema=schema, options=options))
        if told:
            with pytest.raises(Exception, match="spark_flow bad record"):
                strict.select(*columns).collect()
        else:
            assert rows(strict.select(*columns)) == kept
        return kept, told

    return judge


TRAILING = "text after the first JSON object"
LINES = {
    '{"id": 1}{"id": 2}': TRAILING,
    '{"id": 1} garbage': TRAILING,
    '{"id": 1},{"id": 2}': TRAILING,
    '{"id": 1}]': TRAILING,
    '{"id": 1}}': TRAILING,
    '{"id": 1}],"b":[2': TRAILING,
    '[{"id": 1}, {"id": 2}]': "an array, expected an object",
    "5": "expected an object",
    "null": "expected an object",
    '{"id": 1, "na': "not valid JSON",
    '{"id": "x"}': "a value does not fit its column's type",
    '{"id": 1, "trip": {"fare": "x"}}': "a value does not fit its column's type",
    '{"name": "x"}': "missing or null: id",
}


@pytest.mark.spark
def test_a_line_that_is_not_one_object_by_the_schema_is_bad(judged, put):
    good = ['{"id": 7}', "", "  \t", '{"id": 8, "id": 9}', '{"id": 10, "trip": {}}', "{'id': 11}"]
    folder = put("".join(f"{line}\n" for line in [*good, *LINES]))
    kept, told = judged("json", folder)
    assert kept == [(7,), (9,), (10,), (11,)]
    assert dict(told) == LINES


@pytest.mark.spark
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_endings_and_a_byte_order_mark_are_no_part_of_a_record(judged, put, ending):
    folder = put(b"\xef\xbb\xbf" + ending.join(['{"id": 1}', '{"id": 2}', ""]).encode())
    assert judged("json", folder) == ([(1,), (2,)], [])


@pytest.mark.spark
def test_invalid_utf_8_is_bad_in_json_and_csv(judged, put):
    _, told = judged("json", put(b'{"id": 1, "name": "\xff"}\n{"id": 2}\n'))
    assert [reason for _, reason in told] == ["not valid UTF-8"]
    folder = put(b"1,2,\xff\n2,3,\xc3\xa9\n", "csv/a.csv")
    kept, told = judged("csv", folder, PARTS, columns=("id", "name"))
    assert (kept, [reason for _, reason in told]) == ([(2, "\u00e9")], ["not valid UTF-8"])


@pytest.mark.spark
def test_multi_line_json_is_read_alike(judged, put):
    put('{\n "id": 1,\n "trip": {"fare": 3}}\n')
    put('\ufeff[\n {"id": 2},\n {"name": "x"}]\n', "in/b.json")
    put("\n", "in/empty.json")
    put('{"id": 4}\n{"id": 5}\n', "in/two.json")
    kept, told = judged("json", put("[]", "in/none.json"), multiLine="true")
    assert kept == [(1,), (2,)]
    assert dict(told) == {'{"name":"x"}': "missing or null: id", '{"id": 4}\n{"id": 5}\n': TRAILING}


@pytest.mark.spark
def test_numbers_of_multi_line_json_are_exact(judged, put):
    text = "123456789012345678.12345678901234567890"
    folder = put(f'[\n{{"d": {text}}}\n]')
    kept, _ = judged("json", folder, "d DECIMAL(38, 20)", columns=("d",), multiLine="true")
    assert str(kept[0][0]) == text


@pytest.mark.spark
def test_separators_and_encodings_are_read_alike(judged, put):
    assert judged("json", put('{"id": 1};{"id": 2}'), lineSep=";") == ([(1,), (2,)], [])
    folder = put('{"id": 1, "name": "\u00e9"}\n'.encode("utf-16-le"), "wide/a.json")
    kept, _ = judged("json", folder, columns=("name",), encoding="UTF-16LE", lineSep="\n")
    assert kept == [("\u00e9",)]
    folder = put("1;2;\u00e9\n3\n".encode("latin-1"), "csv/a.csv")
    kept, told = judged("csv", folder, PARTS, columns=("id", "name"), sep=";", encoding="ISO-8859-1")
    assert (kept, [record for record, _ in told]) == ([(1, "\u00e9")], ["3"])


@pytest.mark.spark
def test_columns_in_folders_names_have_the_types_of_the_schema(judged, put):
    put('{"id": 1}\n{"id": "x"}\n', "in/hour=07/a.json")
    kept, told = judged(
        "json", put("", "in/hour=08/a.json")[:-8], "hour STRING NOT NULL, id INT", columns=("id", "hour")
    )
    assert (kept, len(told)) == ([(1, "07")], 1)


NESTED = T.StructType(
    [
        T.StructField("id", T.IntegerType(), nullable=False),
        T.StructField("trip", T.StructType([T.StructField("fare", T.IntegerType(), nullable=False)])),
        T.StructField("stops", T.ArrayType(T.StructType([T.StructField("at", T.StringType(), nullable=False)]))),
        T.StructField("seats", T.ArrayType(T.IntegerType(), containsNull=False)),
        T.StructField("fees", T.MapType(T.StringType(), T.ArrayType(T.IntegerType(), containsNull=False))),
    ]
)


@pytest.mark.spark
def test_not_null_is_checked_at_any_depth(judged, put):
    bad = {
        '{"id": 2, "trip": {}}': "trip.fare",
        '{"id": 3, "stops": [{"at": "x"}, {}]}': "stops[].at",
        '{"id": 4, "seats": [1, null]}': "seats[]",
        '{"id": 5, "fees": {"a": [null]}}': "fees[][]",
        '{"trip": {"fare": null}}': "id, trip.fare",
    }
    good = ['{"id": 1}', '{"id": 6, "trip": {"fare": 1}, "stops": [null], "seats": [], "fees": {"a": null}}']
    kept, told = judged("json", put("\n".join([*good, *bad])), NESTED)
    assert kept == [(1,), (6,)]
    assert {record: reason.removeprefix("missing or null: ") for record, reason in told} == bad


@pytest.mark.spark
def test_not_null_of_a_parquet_source_is_checked(spark, tmp_path):
    path = str(tmp_path / "in")
    spark.sql("SELECT 1 AS id, named_struct('fare', CAST(NULL AS INT)) AS trip").write.parquet(path)
    frame = sources.read_files(
        spark, "in", sf.source("parquet", path, schema="id INT, trip STRUCT<fare: INT NOT NULL>")
    )
    with pytest.raises(Exception, match=r"spark_flow bad record.*trip\.fare"):
        frame.collect()


CSV = "id,delay,name\n1,5,x\n2,abc,y\n3,7\n4,8,w,extra\n,1,z\n"


@pytest.mark.spark
@pytest.mark.parametrize("columns", [("id",), ("name",), ("id", "delay", "name")])
def test_what_is_bad_in_csv_does_not_depend_on_the_columns_used(judged, put, columns):
    kept, told = judged("csv", put(CSV, "in/a.csv"), PARTS, columns=columns, header="true")
    assert len(kept) == 1
    assert [record for record, _ in told] == [",1,z", "2,abc,y", "3,7", "4,8,w,extra"]


@pytest.mark.spark
@pytest.mark.parametrize(
    ("kind", "text"), [("csv", "1,5,x\n2,abc,y\n"), ("json", '{"id": 1}\n{"id": 2, "delay": "x"}\n')]
)
def test_what_is_bad_does_not_depend_on_the_rows_wanted(spark, put, kind, text):
    frame = sources.read_files(spark, "in", sf.source(kind, put(text), schema=PARTS))
    for wanted in (frame.where("id = 1"), frame.where("id = 1").select("name"), frame.groupBy().count()):
        with pytest.raises(Exception, match="spark_flow bad record"):
            wanted.collect()


@pytest.mark.spark
def test_a_record_is_parsed_once(spark, put, capsys):
    source = sf.source("json", put('{"id": 1}\n'), schema=SCHEMA)
    sources.read_files(spark, "in", source).where("id > 0").select("id", "name").explain()
    assert capsys.readouterr().out.count("from_json(StructField(_spark_flow_rows") == 1


@pytest.mark.spark
@pytest.mark.parametrize("policy", ["fail", "quarantine"])
@pytest.mark.parametrize("multi", ["true", "false"])
@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("id,name,delay", "name"),
        ("id,delay", "id,delay"),
        ("id,delay,name,x", "id,delay,name,x"),
        ("id,delay,nome", "nome"),
    ],
)
def test_a_header_of_other_columns_fails_and_names_them(spark, state, put, policy, multi, header, found):
    put("id,delay,name\n1,2,x\n", "in/a.csv")
    folder = put(f"{header}\n1,2,3\n", "in/b.csv")
    options = {"header": "true", "multiLine": multi}
    source = sf.source("csv", folder, schema=PARTS, options=options, bad_records=policy)
    run = sf.Run.open("p", "k", state=state, spark=spark)
    with pytest.raises(HeaderMismatch) as failure, run:
        sf.write(run, "out", sf.read(run, "in", source), sf.parquet(f"{folder}/../out"))
    error = failure.value
    assert (error.source, error.file[-8:], error.expected) == ("in", "in/b.csv", ("id", "delay", "name"))
    assert found in error.found


@pytest.mark.spark
def test_a_header_is_compared_as_names_are_and_may_be_absent(judged, put):
    put("\ufeffID,Delay,NAME\n1,2,x\n", "in/a.csv")
    put("", "in/empty.csv")
    kept, told = judged("csv", put("id,delay,name\n", "in/header.csv"), PARTS, header="true")
    assert (kept, told) == ([(1,)], [])


@pytest.mark.spark
def test_files_of_several_headers_fail_without_a_schema_too(spark, state, put):
    put("id,n\n1,2\n", "in/a.csv")
    source = sf.source("csv", put("n,id\n2,1\n", "in/b.csv"), options={"header": "true"})
    run = sf.Run.open("p", "k", state=state, spark=spark)
    with pytest.raises(HeaderMismatch), run:
        sf.write(run, "out", sf.read(run, "in", source), sf.parquet(f"{source.path}/../out"))


@pytest.mark.spark
@pytest.mark.parametrize("header", ["id,,n", "id,id,n", "a0,b1,c"])
def test_a_header_that_spark_completes_is_read(spark, put, header):
    source = sf.source("csv", put(f"{header}\n1,2,3\n", "in/a.csv"), options={"header": "true"})
    assert sources.read_files(spark, "in", source).count() == 1


@pytest.mark.parametrize(
    ("kind", "schema", "settings"),
    [
        ("csv", SCHEMA, {"options": {"header": "true", "enforceSchema": True}}),
        ("csv", None, {"options": {"header": "True", "ENFORCESCHEMA": "true"}}),
        ("json", SCHEMA, {"options": {"mode": "DROPMALFORMED"}}),
        ("csv", SCHEMA, {"options": {"columnnameofcorruptrecord": "x"}}),
        ("json", SCHEMA, {"options": {"encoding": "windows-1252"}}),
        ("json", SCHEMA, {"options": {"charset": "utf-16"}}),
        ("json", None, {"bad_records": "quarantine"}),
        ("parquet", SCHEMA, {"bad_records": "quarantine"}),
        ("delta", SCHEMA, {}),
    ],
)
def test_settings_that_do_not_go_together_are_refused(kind, schema, settings):
    with pytest.raises(InvalidArgument):
        sf.source(kind, "x", schema=schema, **settings)


@pytest.mark.spark
def test_what_is_reported_is_what_the_quarantine_holds(spark, state, put, tmp_path):
    data = sf.source("csv", put(CSV, "in/a.csv"), schema=PARTS, options={"header": "true"}, bad_records="quarantine")
    run = sf.Run.open("p", "k", state=state, spark=spark)
    with run:
        sf.write(run, "out", sf.read(run, "in", data), sf.parquet(str(tmp_path / "out")))
    aside = len(stored(f"{state}/quarantine/p"))
    kept = spark.read.parquet(str(tmp_path / "out")).count()
    assert (run.outcome("in").detail["quarantined"], aside, kept) == (4, 4, 1)


@pytest.mark.spark
@pytest.mark.parametrize("policy", ["fail", "quarantine"])
def test_a_cut_file_fails_its_branch_alone(spark, state, put, tmp_path, policy):
    whole = gzip.compress(b'{"id": 1}\n' * 20_000)
    put(whole, "in/05/a.json.gz")
    put(whole[: len(whole) // 2], "in/06/a.json.gz")
    path = f"{tmp_path}/in/{{branch}}"
    hours = sf.source("json", path, schema=SCHEMA, branches=["05", "06"], bad_records=policy)
    run = sf.Run.open("p", "k", state=state, spark=spark)
    with run:
        gathered = sf.unaligned_fan_in(run, "hours", hours, require=sf.any_succeeded)
        sf.write(run, "out", gathered.frame, sf.parquet(str(tmp_path / "out")))
    assert (gathered.completeness.arrived, list(gathered.completeness.failed)) == (("05",), ["06"])
    assert states(run)["hours/06"] == "failed"
    assert run.outcome("hours/06").error


WHOLE = st.integers(0, 9).map(lambda number: json.dumps({"id": number, "name": "x"}))
RECORD = st.one_of(
    WHOLE,
    st.builds(lambda text, end: text[:end], WHOLE, st.integers(0, 20)),
    st.builds(str.__add__, WHOLE, WHOLE),
    st.builds(str.__add__, WHOLE, st.sampled_from(["]", "}", ",", " x", ' {"a"', '],"b":[1', "//", "\\", "  "])),
    st.sampled_from(
        ['{"name": "y"}', '{"id": null}', '{"id": "z"}', "[]", "{}", "null", "7", '{"id": 1, "name": {"a": 1}}']
    ),
).map(str.encode) | st.just(b'{"id": 1, "name": "\xff"}')


@pytest.mark.spark
@law(6)
@given(records=st.lists(RECORD, min_size=1, max_size=30), column=st.sampled_from(["id", "name", "trip"]))
def test_every_record_is_kept_or_set_aside_and_fail_raises_if_one_is_set_aside(judged, put, records, column):
    kept, told = judged("json", put(b"\n".join(records)), columns=(column,))
    assert len(kept) + len(told) == sum(bool(record.strip()) for record in records)
    whole = [record for record in records if _is_good(record)]
    assert len(kept) == len(whole)


def _is_good(record):
    """By Python's own parser: one object with a whole number as id, and a name that is text or made text."""
    try:
        found = json.loads(record)
    except ValueError:
        return False
    return isinstance(found, dict) and isinstance(found.get("id"), int)
