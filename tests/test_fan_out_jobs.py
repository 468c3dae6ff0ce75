"""The fan-out jobs as a user runs them: failing branches, kills, days in any order, choices."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable

from jobs import ENVIRONMENT, ROOT, Jobs

BRANCHES = ("lake", "enriched", "legacy")
ALL = sum(len(file.read_text().splitlines()) for file in ROOT.glob("data/flights/*/*/*.json"))


@pytest.fixture
def rows(tmp_path):
    """How many rows each of the split's targets holds."""

    def count():
        tables = [DeltaTable(f"{tmp_path}/out/{name}") for name in ("split_flights", "split_enriched")]
        files = Path(tmp_path, "out", "split_legacy").rglob("*.csv")
        return [
            *(t.to_pyarrow_table().num_rows for t in tables),
            sum(len(f.read_text().splitlines()) - 1 for f in files),
        ]

    return count


def states(submit):
    return {branch: submit.nodes[branch]["state"] for branch in BRANCHES}


def test_a_failed_branch_is_repeated_alone(submit, rows, tmp_path):
    target = tmp_path / "out" / "split_legacy"
    target.parent.mkdir()
    target.write_text("a file where a folder should be")
    code, output = submit("parallel_split")
    assert (code, states(submit)) == (1, {"lake": "succeeded", "enriched": "succeeded", "legacy": "failed"}), output
    assert "legacy" in output.splitlines()[-1]
    target.unlink()
    code, output = submit("parallel_split")
    assert (code, states(submit)) == (0, {"lake": "reused", "enriched": "reused", "legacy": "succeeded"}), output
    assert rows() == [943, 943, 943]
    versions = [DeltaTable(f"{tmp_path}/out/{name}").version() for name in ("split_flights", "split_enriched")]
    assert versions == [0, 0]


@pytest.mark.nightly
def test_kills_between_commit_and_event(rows, tmp_path):
    submit = Jobs(tmp_path)
    assert submit("parallel_split")[0] == 0
    for key, branch in zip(("2013-01-01", "2013-01-03", "2013-01-04"), BRANCHES, strict=True):
        code, output = submit.killed("parallel_split", "after_commit", branch, key=key)
        assert code == -signal.SIGKILL, output
        code, output = submit("parallel_split", key=key)
        assert (code, "already written" in submit.nodes[branch]["reason"]) == (0, True), output
    assert rows() == [ALL] * 3


@pytest.mark.nightly
def test_days_in_any_order_lose_no_row(submit, rows):
    for key in ("2013-01-03", "2013-01-01", "2013-01-04", "2013-01-02"):
        code, output = submit("parallel_split", key=key)
        assert code == 0, output
    assert rows() == [ALL] * 3


@pytest.mark.nightly
def test_days_at_once_in_their_own_processes_lose_no_row(rows, tmp_path):
    jobs = Jobs(tmp_path)
    running = [jobs.start("parallel_split", key=key, stdout=subprocess.DEVNULL) for key in ("2013-01-02", "2013-01-04")]
    assert [process.wait() for process in running] == [0, 0]
    assert len(set(rows())) == 1


def test_each_kind_of_choice_and_its_reason(submit):
    code, output = submit("exclusive_choice")
    nodes = submit.nodes
    assert code == 0, output
    assert nodes["migration"]["reason"].startswith("old: key before 2013-01-03: yes")
    assert nodes["asked"]["reason"].startswith("delta: output_type = delta")
    assert nodes["shape"]["reason"].startswith("with_cancelled: has cancelled")
    assert nodes["asked/csv"]["state"] == "skipped"
    code, output = submit("exclusive_choice", "--output-type", "csv")
    assert (code, submit.nodes["asked"]["state"], "asked_csv" in submit.nodes) == (0, "reused", False), output
    code, output = submit("exclusive_choice", "--output-type=csv", "--rerun")
    nodes = submit.nodes
    assert (code, nodes["asked"]["state"], nodes["asked_csv"]["rows"]) == (0, "succeeded", 943), output
    code, output = submit("exclusive_choice", key="2013-01-03")
    assert (code, submit.nodes["migration"]["reason"][:4]) == (0, "new:"), output
    code, output = submit("exclusive_choice", "--output-type", "orc")
    assert (code, "csv, delta" in output) == (2, True)


KILLS = int(os.environ.get("SPARK_FLOW_TEST_KILLS", "3"))


@pytest.mark.nightly
def test_a_stream_killed_at_random_moments_has_each_row_once_in_each_table(tmp_path):
    """``SPARK_FLOW_TEST_KILLS=20 pytest -m nightly -k stream_killed`` for more of them."""
    places = [f"state={tmp_path}/state", f"output={tmp_path}/out"]
    line = [sys.executable, "jobs/stream_split.py", *places, "source.options.maxFilesPerTrigger=2"]
    random_ = random.Random(7)
    for _ in range(KILLS):
        process = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        assert process.stdout is not None
        process.stdout.readline()  # it is at work
        time.sleep(random_.uniform(0, 1.5))
        process.kill()
        process.wait()
        process.stdout.close()
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    records = [json.loads(r) for f in ROOT.glob("data/flights/*/*/*.json") for r in f.read_text().splitlines()]
    expected = [len(records), sum(record.get("dep_time") is None for record in records)]
    tables = [DeltaTable(f"{tmp_path}/out/{name}") for name in ("stream_flights", "stream_cancelled")]
    assert [table.to_pyarrow_table().num_rows for table in tables] == expected


CSV_OR_DELTA = """
pipeline: p
key: k
sources:
  airlines: {format: json, path: data/airlines, schema: "carrier STRING, name STRING"}
parameters:
  kind: {values: [csv, delta], value: csv}
flow:
  - read: airlines
  - exclusive_choice:
      name: road
      routes:
        csv:
          when: {by_parameter: {name: kind, equals: csv}}
          flow: [write: {name: w, format: csv, path: "${output}/csv"}]
        delta:
          when: {by_parameter: {name: kind, equals: delta}}
          flow: [write: {name: v, format: delta, path: "${output}/delta"}]
"""


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param([sys.executable], marks=pytest.mark.nightly, id="python"),
        pytest.param(["./spark-submit.sh"], marks=pytest.mark.nightly, id="spark-submit.sh"),
    ],
)
def test_a_route_to_csv_runs_without_deltas_jars(tmp_path, launcher):
    """Neither in the cache nor to be had; by spark-submit.sh with DELTA=no, without it by the job's own session."""
    (tmp_path / "job.yaml").write_text(CSV_OR_DELTA)
    none = {"SPARK_FLOW_CACHE": f"{tmp_path}/none", "SPARK_FLOW_IVY_SETTINGS": f"{tmp_path}/none.xml", "DELTA": "no"}
    arguments = ["--config", f"{tmp_path}/job.yaml", "key=k1", f"state={tmp_path}/state", f"output={tmp_path}"]
    line = [*launcher, "jobs/exclusive_choice.py", *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env={**ENVIRONMENT, **none}, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(Path(tmp_path, "csv").glob("key=*/*.csv"))) == 1
    assert not (tmp_path / "delta").exists()
