"""Paths: one folder for all libraries, or refused before anything is written."""

import pytest
from conftest import rows

import spark_flow as sf
from spark_flow.errors import ConfigError, InvalidPath
from spark_flow.ledger import DeltaLedger
from spark_flow.operations.verify import verify
from spark_flow.storage import checkpoints, files
from spark_flow.storage.sink_protocol import Intent

KEY = "2013-01-02"
TAKEN = ["sp ace", "é☃", "100%", "pl+us", "a:b", "q'uo\"te", "{a,b}", "st*ar", "amp&eq=1"]
COLON = "{a,b} a:b"
REFUSED = ["pct%3A", "p%41x", "h#1", "q?x", "b\\s", "br[1]"]


@pytest.mark.parametrize("name", [*REFUSED, COLON])
def test_a_path_that_deltalake_would_read_as_another_is_refused(tmp_path, name):
    path = str(tmp_path / name)
    for use in (
        lambda path: sf.delta(path).last_revision("p/out/k", "k"),
        lambda path: sf.Run.open("p", KEY, state=path),
    ):
        with pytest.raises(InvalidPath) as refused:
            use(path)
        assert refused.value.path == path
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("where", ["state", "sink", "source"])
def test_a_file_with_such_a_path_is_refused_when_it_is_loaded(tmp_path, where):
    from spark_flow import jobfile

    bad = {name: f"{tmp_path}/{'h#1' if name == where else 'plain'}" for name in ("state", "sink", "source")}
    (tmp_path / "job.yaml").write_text(f"""
pipeline: p
key: '{KEY}'
state: '{bad["state"]}'
sources: {{in: {{format: delta, path: '{bad["source"]}'}}}}
flow:
- read: in
- write: {{name: out, format: delta, path: '{bad["sink"]}/t', partition_by: date}}
""")
    with pytest.raises(ConfigError) as refused:
        jobfile.load(tmp_path / "job.yaml", [])
    assert ["#" in problem.expected for problem in refused.value.problems] == [True]


@pytest.mark.spark
@pytest.mark.parametrize(
    "name",
    [
        " ".join(TAKEN).replace("a:b ", ""),
        "a:b",
        *(pytest.param(name, marks=pytest.mark.nightly) for name in TAKEN if name != "a:b"),
    ],
)
def test_state_tables_checkpoints_and_markers_at_unusual_paths(spark, tmp_path, name):
    root = tmp_path / name
    with sf.Run.open("p", KEY, state=str(root / "state"), spark=spark) as run:
        frame = sf.local_sequencer(
            run, spark.sql(f"SELECT DATE'{KEY}' AS date, 1 AS id"), [sf.step(same, restart=True)]
        )
        for sink in (sf.delta, sf.csv):
            sf.write(run, sink.__name__, frame, sink(str(root / sink.__name__), partition_by="date"))
        sf.publish(run, "data", markers=str(root / "markers"))
    with sf.Run.open("c", KEY, state=str(root / "state"), spark=spark) as run:
        day = sf.wait_for(run, "data", markers=str(root / "markers"), polling=sf.Polling(timeout=0))
        assert {table: rows(frame.frame.select("id")) for table, frame in day.frames.items()} == {
            "delta": [(1,)],
            "csv": [(1,)],
        }
    findings = verify(DeltaLedger(str(root / "state")).read("p", KEY))
    assert [finding.state for finding in findings] == ["ok", "ok"]


def same(frame):
    return frame


@pytest.mark.spark
def test_a_checkpoint_is_not_read_from_a_folder_that_its_path_would_match_as_a_pattern(spark, tmp_path):
    for name, value in (("st*ar", 1), ("stxar", 2)):
        spark.range(value, value + 1).write.parquet(files.for_spark(str(tmp_path / name / "b")))
    detail = {"path": "b", "schema": spark.range(1).schema.jsonValue()}
    assert rows(checkpoints.read(spark, str(tmp_path / "st*ar"), [detail])) == [(1,)]


@pytest.mark.spark
@pytest.mark.parametrize("name", [*TAKEN, *REFUSED])
def test_files_of_a_source_at_unusual_paths(spark, tmp_path, name):
    matched_as_pattern = name.replace("*", "xx").replace("?", "x").replace("[1]", "1")
    for folder, value in ((matched_as_pattern, 2), (name, 1)):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "a.json").write_text(f'{{"id": {value}}}\n')
    source = sf.source("json", str(tmp_path / name), schema="id INT")
    with sf.Run.open("p", KEY, state=str(tmp_path / "state"), spark=spark) as run:
        assert rows(sf.read(run, "in", source).frame) == [(1,)]


@pytest.mark.spark
def test_a_path_that_is_no_file_is_a_pattern(spark, tmp_path):
    for folder, value in (("a", 1), ("b", 2), ("c", 3)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.json").write_text(f'{{"id": {value}}}\n')
    source = sf.source("json", f"{tmp_path}/{{a,b}}", schema="id INT")
    with sf.Run.open("p", KEY, state=str(tmp_path / "state"), spark=spark) as run:
        assert rows(sf.read(run, "in", source).frame) == [(1,), (2,)]


def test_a_data_file_is_where_the_log_says_decoded_once():
    assert files.from_delta_log("/t", "hour=2013-01-02%2005%253A00/part-0") == "/t/hour=2013-01-02 05%3A00/part-0"
    assert files.from_delta_log("/t", "/elsewhere/part%20-0") == "/elsewhere/part -0"


def test_a_folder_that_spark_could_not_read_is_refused():
    with pytest.raises(InvalidPath) as refused:
        files.for_spark_files(f"/out/{COLON}")
    assert refused.value.path == f"/out/{COLON}"


@pytest.mark.parametrize("make", [sf.csv, sf.json, sf.parquet])
def test_a_sink_there_refuses_before_it_writes(tmp_path, make):
    intent = Intent(
        pipeline="p", key=KEY, generation=1, attempt=1, run_id="r", node="out", revision=1, mark=lambda _: None
    )
    with pytest.raises(InvalidPath):
        make(str(tmp_path / COLON), partition_by="date").validate(intent)
