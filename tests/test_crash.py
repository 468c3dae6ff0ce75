"""Killed at any point and repeated, a job equals one that was never killed."""

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
from deltalake import DeltaTable

from jobs import KEY, Jobs, table
from spark_flow.ledger import DeltaLedger
from spark_flow.testing import CrashImages

SMALL = """
pipeline: small
key: ???
sources:
  hourly: {format: json, path: "data/flights/date=${key}/hour={branch}", schema: flights:SCHEMA}
flow:
  - unaligned_fan_in:
      {name: hours, source: hourly, branches: ["05", "06", "99"], require: at_least(0.5), max_in_flight: 1}
  - step: {name: late, sql: "SELECT * FROM {frame} WHERE dep_delay > 15", restart: true}
  - step: {name: dated, sql: "SELECT DATE'${key}' AS date, carrier, flight FROM {frame}"}
  - with_completeness: is_approximate
  - transaction:
      name: publish
      flow:
        - parallel_split:
            max_in_flight: 1
            sinks:
              lake: {format: delta, path: "${output}/lake", partition_by: [date]}
              legacy: {format: csv, path: "${output}/legacy", partition_by: [date]}
  - report_completeness: {dataset: small, table: "${output}/completeness"}
  - publish: {dataset: small}
"""
ONCE = ["hours/05", "hours/06", "late", "publish/lake", "publish/legacy", "publish", "completeness", "marker/small"]


def successes(root, pipeline, nodes):
    """How often each node succeeded, as the ledger has it."""
    events = DeltaLedger(f"{root}/state", create=False).read(pipeline, KEY)
    return {node: len([e for e in events if (e.node, e.state) == (node, "succeeded")]) for node in nodes}


def csv_lines(folder):
    """The rows of CSV files; each has a header, and how many files there are depends on the session."""
    return sorted(line for file in Path(folder).rglob("*.csv") for line in file.read_text().splitlines()[1:])


def small_result(root):
    """What readers find of the small job: its tables' rows, the file's lines, and the marker."""
    report = [row[:8] for row in table(root / "out" / "completeness")]
    marker = json.loads((root / "out" / "markers" / "small" / f"{KEY}.json").read_text())
    versions = [DeltaTable(str(root / "out" / name)).version() for name in ("lake", "completeness")]
    said = (marker["state"], marker["revision"], sorted(marker["tables"]))
    return table(root / "out" / "lake"), csv_lines(root / "out" / "legacy"), report, said, versions


@pytest.fixture
def small(spark, tmp_path, capsys, monkeypatch):
    """The small job in this process, in a folder that holds all that it writes."""
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "work").mkdir()
    jobs = Jobs(tmp_path / "work", how="here", capsys=capsys, monkeypatch=monkeypatch)

    def run(*more, **options):
        return jobs("daily_flights", f"--config={tmp_path}/small.yaml", *more, **options)

    run.root, run.jobs, run.config = tmp_path / "work", jobs, f"--config={tmp_path}/small.yaml"
    return run


def test_law_killed_anywhere_and_repeated_equals_never_killed(small, tmp_path):
    images = CrashImages(folder=small.root, into=tmp_path / "images")
    code, said = small(observers=[images])
    assert code == 0, said
    expected = small_result(small.root)
    assert {image.node for image in images.taken} >= set(ONCE)
    for image in images.taken:
        image.restore()
        shutil.rmtree(small.root / "state" / "leases", ignore_errors=True)  # their holder, this process, is alive
        code, said = small()
        assert (code, small_result(small.root)) == (0, expected), (image, said)
        assert successes(small.root, "small", ONCE) == dict.fromkeys(ONCE, 1), image


def shape(root):
    """The files of a folder, and the ledger's events, without what differs between any two runs."""
    files = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    kept = [re.sub(r"[0-9a-f]{4,}(-[0-9a-f]+)*", "*", name) for name in files if "/leases/" not in name]
    events = DeltaLedger(f"{root}/state", create=False).read("small", KEY)
    return sorted(kept), [(event.node, event.state, event.revision) for event in events]


@pytest.mark.nightly
@pytest.mark.process
def test_an_image_is_the_disk_that_a_kill_leaves(small, tmp_path):
    images = CrashImages(folder=small.root, into=tmp_path / "images")
    assert small(observers=[images])[0] == 0
    (image,) = [image for image in images.taken if (image.point, image.node) == ("after_commit", "publish/lake")]
    image.restore()
    expected = shape(small.root)
    shutil.rmtree(small.root)
    small.root.mkdir()
    code, said = small.jobs.killed("daily_flights", "after_commit", "publish/lake", small.config)
    assert (code, shape(small.root)) == (-signal.SIGKILL, expected), said


@pytest.mark.nightly
@pytest.mark.process
def test_killed_again_and_again_and_repeated_equals_never_killed(small):
    """Each repeated command goes on from the kill before: in a branch, before its event, after Delta's commit."""
    assert small()[0] == 0
    expected = small_result(small.root)
    shutil.rmtree(small.root)
    small.root.mkdir()
    for point, node in (("during_action", "hours/06"), ("before_event", "late"), ("after_commit", "publish/lake")):
        code, said = small.jobs.killed("daily_flights", point, node, small.config)
        assert code == -signal.SIGKILL, said
    code, said = small()
    assert (code, small_result(small.root)) == (0, expected), said
    assert successes(small.root, "small", ONCE) == dict.fromkeys(ONCE, 1)


MAIN = ["hours/05", "hours/13", "hours", "clean", "enrich", "publish/lake", "publish/legacy", "publish"]
CHAINS = {
    "a": [
        ("during_action", "hours/13"),  # in the middle of the branches
        ("after_event", "hours"),  # all branches merged
        ("after_event", "enrich"),
        ("before_commit", "publish/lake"),
        ("before_event", "publish"),  # all tables committed, the set not visible
    ],
    "b": [
        ("before_event", "hours/13"),  # a branch's checkpoint written, not recorded
        ("after_commit", "enrich"),  # after the boundary's files
        ("after_commit", "publish/lake"),  # between Delta's commit and the ledger's event
        ("before_action", "completeness"),  # the day published, its completeness not told
    ],
    # The branches of a split run side by side: what one has done when another is killed differs.
    "c": [("after_event", "publish/lake")],
    "d": [("before_commit", "publish/legacy")],  # staged, not swapped in
    "e": [("after_commit", "publish/legacy")],
}
"""Chains of kills: each repeated command goes on from the kill before, and is killed at a later point."""


def main_result(root):
    return table(root / "out" / "daily_flights"), csv_lines(root / "out" / "legacy")


@pytest.fixture
def main_job(spark, tmp_path, capsys, monkeypatch):
    """The main job in this process, and what readers find of it when it was never killed."""
    job = Jobs(tmp_path / "never", how="here", capsys=capsys, monkeypatch=monkeypatch)
    job.root.mkdir()
    code, said = job("daily_flights")
    assert code == 0, said
    job.result = main_result(job.root)
    return job


@pytest.mark.nightly
@pytest.mark.parametrize("crashes", CHAINS.values(), ids=CHAINS)
def test_the_main_job_killed_again_and_again_equals_never_killed(main_job, tmp_path, crashes):
    jobs = Jobs(tmp_path)
    for crash in crashes:
        code, said = jobs.killed("daily_flights", *crash)
        assert code == -signal.SIGKILL, said
    code, said = jobs("daily_flights")
    assert (code, main_result(tmp_path)) == (0, main_job.result), said
    report = DeltaTable(f"{tmp_path}/out/completeness").to_pyarrow_table().to_pylist()
    assert [(r["key"], r["arrived"], r["is_approximate"]) for r in report] == [(KEY, 19, False)]
    assert successes(tmp_path, "daily_flights", MAIN) == dict.fromkeys(MAIN, 1)
    assert DeltaTable(f"{tmp_path}/out/daily_flights").version() == 0


def test_the_same_command_again_reuses_all_and_a_rerun_replaces_its_key_alone(main_job):
    version = DeltaTable(f"{main_job.root}/out/daily_flights").version()
    code, said = main_job("daily_flights")
    assert (code, {node["state"] for node in main_job.nodes.values()}) == (0, {"reused"}), said
    assert DeltaTable(f"{main_job.root}/out/daily_flights").version() == version
    assert main_result(main_job.root) == main_job.result

    assert main_job("daily_flights", key="2013-01-03")[0] == 0
    code, said = main_job("daily_flights", "--rerun")
    assert (code, main_job.summary["generation"]) == (0, 2), said
    rows, _ = main_result(main_job.root)
    assert [row for row in rows if str(row[0]) == KEY] == main_job.result[0]
    assert {str(row[0]) for row in rows} == {KEY, "2013-01-03"}
