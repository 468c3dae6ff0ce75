"""Readiness markers as files: what is written can be read by anybody, what cannot be trusted is refused."""

import dataclasses
import datetime as dt
import json
from pathlib import Path

import jsonschema
import pytest
from deltalake import DeltaTable
from handover import KEY, mark, marker, provide, put

import spark_flow
from spark_flow.errors import InvalidMarker, InvalidName, MarkerTooNew, OutsideRoots, WriteNotProved
from spark_flow.storage import markers
from spark_flow.storage.markers import MarkedTable, Marker

SCHEMA = Path(spark_flow.__file__).parent / "schemas" / "marker.json"


def place(root, content):
    """A file where the marker belongs, with this content."""
    path = root / "out" / "markers" / "hours" / f"{KEY}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return str(path)


GOOD = {"format": 1, "dataset": "hours", "key": KEY, "state": "ready"}


def test_a_marker_says_what_was_written(tmp_path):
    provide(tmp_path, 7)
    found = marker(tmp_path)
    assert (found.state, found.generation, found.revision, found.rows) == ("ready", 1, 1, 2)
    assert {name: (t.format, t.version, t.column, t.rows) for name, t in found.tables.items()} == {
        "a": ("delta", 0, "date", 1),
        "b": ("delta", 0, "date", 1),
    }
    assert abs(found.at - dt.datetime.now(dt.timezone.utc)) < dt.timedelta(minutes=1)


def test_the_schema_that_ships_is_that_of_the_code():
    assert json.loads(SCHEMA.read_text()) == markers.json_schema()


def test_what_is_written_is_by_the_schema_and_what_is_damaged_is_not(tmp_path):
    run = provide(tmp_path, success_file=True)
    path = run.outcomes[-1].detail["marker"]["path"]
    written = json.loads(Path(path).read_text())
    jsonschema.validate(written, json.loads(SCHEMA.read_text()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**written, "state": "done"}, json.loads(SCHEMA.read_text()))


def test_a_byte_order_mark_does_no_harm(tmp_path):
    place(tmp_path, b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert marker(tmp_path).state == "ready"


def test_a_message_does_not_print_the_whole_marker(tmp_path):
    place(tmp_path, {**{k: v for k, v in GOOD.items() if k != "state"}, "reason": "x" * 5000})
    with pytest.raises(InvalidMarker) as told:
        marker(tmp_path)
    assert len(str(told.value)) < 500


def test_a_marker_of_another_tool_needs_little(tmp_path):
    place(tmp_path, {**GOOD, "tables": {"a": {"path": "/x", "format": "delta", "version": 3}}, "extra": "ignored"})
    found = marker(tmp_path)
    assert (found.revision, found.generation, found.tables["a"].version, found.at) == (1, 1, 3, None)


def test_a_record_reads_back_as_the_marker(tmp_path):
    provide(tmp_path)
    found = marker(tmp_path)
    assert markers.from_record(markers.as_record(found)) == found


@pytest.mark.parametrize(
    ("content", "error", "cut_off"),
    [
        (b"", InvalidMarker, True),
        (json.dumps(GOOD).encode()[:-9], InvalidMarker, True),
        (b"\xff\xfe\x00", InvalidMarker, True),
        ([GOOD], InvalidMarker, False),
        ({**GOOD, "format": 2, "state": "of tomorrow"}, MarkerTooNew, False),
        ({**GOOD, "format": "1"}, InvalidMarker, False),
        ({**GOOD, "format": True}, InvalidMarker, False),
        ({k: v for k, v in GOOD.items() if k != "format"}, InvalidMarker, False),
        ({**GOOD, "dataset": "days"}, InvalidMarker, False),
        ({**GOOD, "key": "2013-01-03"}, InvalidMarker, False),
        ({**GOOD, "state": "done"}, InvalidMarker, False),
        ({**GOOD, "tables": {"a": {"path": "/x", "format": "orc"}}}, InvalidMarker, False),
        ({**GOOD, "tables": {"a": {"path": "/x", "format": "delta", "version": "last"}}}, InvalidMarker, False),
        ({**GOOD, "completeness": {"fan_ins": [{"node": "x"}]}}, InvalidMarker, False),
        ({**GOOD, "revision": 0}, InvalidMarker, False),
        ({**GOOD, "revision": 10**30}, InvalidMarker, False),
        ({**GOOD, "tables": {"a": {"path": "/x", "format": "delta", "version": -1}}}, InvalidMarker, False),
        (b"[" * 200_000, InvalidMarker, True),
        ({**GOOD, "format": 0}, InvalidMarker, False),
    ],
)
def test_what_cannot_be_trusted_is_refused(tmp_path, content, error, cut_off):
    path = place(tmp_path, content)
    with pytest.raises(error) as told:
        marker(tmp_path)
    assert type(told.value) is error
    assert (told.value.path, told.value.cut_off) == (path, cut_off)


@pytest.mark.parametrize("name", ["..", "a/../b", "../x", "", "a/b", "a'b", ".hidden"])
def test_names_are_no_paths(tmp_path, name):
    with pytest.raises(InvalidName):
        markers.path_of(str(tmp_path), name, KEY)
    with pytest.raises(InvalidName):
        markers.path_of(str(tmp_path), "hours", name)


def table(path, **more):
    return MarkedTable(**{"path": str(path), "format": "delta", "version": 0, "column": "date", **more})


def check(root, one, roots):
    told = Marker(dataset="hours", key=KEY, state="ready", tables={"a": one})
    markers.check_tables("the marker", told, [str(each) for each in roots])


@pytest.mark.parametrize(
    "path", ["elsewhere/a", "out/../elsewhere/a", "outer/a", "s3://bucket/out/../x", "s3://other/a", "dbfs:/a"]
)
def test_a_table_outside_of_the_allowed_folders_is_refused(tmp_path, path):
    put(tmp_path / "elsewhere" / "a", KEY, 1)
    given = path if "://" in path else tmp_path / path
    with pytest.raises(OutsideRoots):
        check(tmp_path, table(given), [tmp_path / "out", "s3://bucket/out"])


def test_a_link_is_no_way_out(tmp_path):
    put(tmp_path / "elsewhere" / "a", KEY, 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere" / "a")
    with pytest.raises(OutsideRoots):
        check(tmp_path, table(tmp_path / "out" / "a"), [tmp_path / "out"])


def test_what_a_marker_pins_is_gone(tmp_path):
    place_ = tmp_path / "out" / "a"
    put(place_, KEY, 1)
    put(place_, KEY, 2)
    check(tmp_path, table(place_), [tmp_path])
    for wrong in (
        table(place_, version=9),
        table(place_, version=10**15),
        table(tmp_path / "none"),
        table(place_, version=None),
        table(f"{place_}\0"),
    ):
        with pytest.raises(InvalidMarker):
            check(tmp_path, wrong, [tmp_path])
    vacuum = {"retention_hours": 0, "enforce_retention_duration": False, "dry_run": False}
    DeltaTable(str(place_)).vacuum(**vacuum)
    check(tmp_path, table(place_, version=1), [tmp_path])
    with pytest.raises(InvalidMarker, match="vacuumed"):
        check(tmp_path, table(place_), [tmp_path])


def test_another_key_vacuumed_does_not_matter(tmp_path):
    place_ = tmp_path / "out" / "a"
    put(place_, "2013-01-01", 1)
    put(place_, KEY, 1)
    pinned = table(place_, version=1)
    put(place_, "2013-01-01", 2)
    DeltaTable(str(place_)).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    check(tmp_path, pinned, [tmp_path])


def test_a_folder_that_was_replaced_is_not_what_was_marked(tmp_path):
    folder = tmp_path / "out" / "csv" / f"date={KEY}"
    folder.mkdir(parents=True)
    (folder / "part.csv").write_text("n\n1\n")
    (folder / "_spark_flow.json").write_text(json.dumps({"revision": 2, "files": {"part.csv": 4}}))
    check(tmp_path, table(folder, format="csv", version=None, revision=2), [tmp_path])
    with pytest.raises(InvalidMarker, match="replaced"):
        check(tmp_path, table(folder, format="csv", version=None, revision=1), [tmp_path])
    (folder / "part.csv").unlink()
    with pytest.raises(InvalidMarker, match="files are missing"):
        check(tmp_path, table(folder, format="csv", version=None, revision=2), [tmp_path])
    with pytest.raises(InvalidMarker, match="it is missing"):
        check(tmp_path, table(tmp_path / "out" / "none", format="csv", version=None), [tmp_path])


def test_an_older_revision_does_not_take_a_newer_ones_place(tmp_path):
    mark(tmp_path, revision=3)
    with pytest.raises(WriteNotProved):
        mark(tmp_path, revision=2)
    mark(tmp_path, revision=3)
    assert marker(tmp_path).revision == 3
    with pytest.raises(WriteNotProved):
        mark(tmp_path, revision=3, tables={"a": MarkedTable(path="/x", format="delta", version=7)})


def test_a_marker_of_a_newer_version_is_not_written_over(tmp_path):
    path = place(tmp_path, {**GOOD, "format": 2})
    with pytest.raises(MarkerTooNew):
        provide(tmp_path)
    assert json.loads(Path(path).read_text())["format"] == 2


def test_a_damaged_marker_is_written_over(tmp_path):
    place(tmp_path, b"{")
    provide(tmp_path)
    assert marker(tmp_path).state == "ready"


def test_readers_see_all_of_a_marker_or_none(tmp_path):
    told = Marker(dataset="hours", key=KEY, state="ready", reason="x" * 200_000)
    for revision in range(1, 30):
        markers.write(str(tmp_path / "out" / "markers"), dataclasses.replace(told, revision=revision))
        assert marker(tmp_path).revision == revision
    assert [p.name for p in (tmp_path / "out" / "markers" / "hours").iterdir()] == [f"{KEY}.json"]
