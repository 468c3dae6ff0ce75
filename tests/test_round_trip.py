"""The law of sinks: what was written is what is read, by every reader, or the write was refused."""

import csv
import json

import pytest
from conftest import law
from hypothesis import example, given
from hypothesis import strategies as st
from pyspark.sql.types import StructType

import spark_flow as sf
from spark_flow.errors import NotRepresentable
from spark_flow.storage import key_folder

pytestmark = pytest.mark.spark
KEY = "2013-01-02"

# Weighted towards what formats of text stumble over.
AWKWARD = " \t\r\n\"\\,;'#\0\ufeff\u2028Na\N{LATIN SMALL LETTER E WITH ACUTE}"
awkward = st.text(st.sampled_from(AWKWARD), max_size=6)
texts = st.none() | awkward | st.text(st.characters(codec="utf-8"), max_size=12)
rows_ = st.lists(
    st.tuples(
        texts,
        texts,
        st.none() | st.integers(-141427, 2932896),  # days: years 1582 to 9999
        st.none() | st.integers(-(10**16), 25 * 10**16),  # microseconds
        st.none() | st.decimals(-(10**12), 10**12, places=6),
        st.none() | st.floats(),
        st.lists(texts, max_size=3),
        st.none() | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), texts, max_size=2),
    ),
    max_size=30,
)
WORST = [(f"{one}{two}", one, None, None, None, None, [one], {one: two}) for one in AWKWARD for two in AWKWARD]
few = law(1)
PLAIN = ["id", "s", "t", "day", "at", "local", "dec", "dbl"]
NESTED = [*PLAIN, "list", "map", "record"]


def frame_of(spark, rows, columns):
    """Times are made by Spark from numbers: Python's own would pass the machine's time zone."""
    ddl = "id INT, s STRING, t STRING, d INT, m BIGINT, dec DECIMAL(20, 6), dbl DOUBLE, list ARRAY<STRING>, "
    frame = spark.createDataFrame([(n, *row) for n, row in enumerate(rows)], ddl + "map MAP<STRING, STRING>")
    made = {
        "day": "date_from_unix_date(d) AS day",
        "at": "timestamp_micros(m) AS at",
        "local": "CAST(timestamp_micros(m) AS TIMESTAMP_NTZ) AS local",
        "record": "IF(d IS NULL, NULL, struct(s, struct(m, list) AS inner)) AS record",
    }
    return frame.selectExpr(*[made.get(name, f"`{name}`") for name in columns], f"DATE'{KEY}' AS date")


def texts_of(frame):
    return sorted(repr(tuple(row)) for row in frame.select(sorted(frame.columns)).collect())


@pytest.mark.parametrize("make", [sf.delta, sf.parquet, sf.json, sf.csv], ids=lambda make: make.__name__)
@few
@example(rows=[row for row in WORST if row[1] != "\0"])
@example(rows=[])
@given(rows=rows_)
def test_what_was_written_is_what_every_reader_gets(make, spark, tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("out")
    frame = frame_of(spark, rows, PLAIN if make is sf.csv else NESTED)
    with sf.Run.open("p", KEY, state=str(folder / "state"), spark=spark) as run:
        try:
            with sf.transaction(run) as tx:
                outcome = sf.write(tx, "out", frame, make(str(folder / "t"), partition_by="date"))
        except NotRepresentable:
            assert make is sf.csv  # a text that is what stands for NULL
            assert any("\0" in (text or "") for row in rows for text in row[:2])
            return
        sf.publish(run, "data", markers=str(folder / "markers"))
    expected = texts_of(frame)
    assert outcome.rows == len(rows)
    assert texts_of(sf.read_transaction(spark, "p", KEY, state=str(folder / "state"))["out"]) == expected
    with sf.Run.open("c", KEY, state=str(folder / "state"), spark=spark) as run:
        day = sf.wait_for(run, "data", markers=str(folder / "markers"), polling=sf.Polling(timeout=0))
        assert texts_of(day.frame.frame) == expected
    if make is not sf.delta:
        assert texts_of(plain_reader(spark, outcome.detail["path"])) == expected
    if make is sf.csv:
        assert by_python(outcome.detail["path"], PLAIN.index("s"), PLAIN.index("t")) == {
            str(n): (row[0] or "", row[1] or "") for n, row in enumerate(rows)
        }


def plain_reader(spark, folder):
    """As somebody who knows Spark and the manifest, and not spark_flow."""
    with open(f"{folder}/{key_folder.MANIFEST}") as file:  # noqa: PTH123
        manifest = json.load(file)
    reader = spark.read.format(manifest["format"]).options(**manifest["read_options"])
    schema = StructType.fromJson(manifest["schema"])
    return reader.option("basePath", folder.rpartition("/")[0]).schema(schema).load(folder)


def by_python(folder, *columns):
    import pathlib

    found = {}
    for path in pathlib.Path(folder).glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            _, *records = csv.reader(file)
        found |= {record[0]: tuple(record[at] for at in columns) for record in records}
    return found
