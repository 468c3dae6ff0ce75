"""The fan-out jobs as a user runs them: processes, failing branches, kills, days in any order, roads."""

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

pytestmark = pytest.mark.process
ROOT = Path(__file__).parent.parent
CRASH = "spark_flow/testing/crash.py"
BRANCHES = ("lake", "enriched", "legacy")


@pytest.fixture
def command(tmp_path):
    def line(name, *arguments, crash=()):
        program = [f"jobs/{name}.py", f"state={tmp_path}/state", f"output={tmp_path}/out", *arguments]
        return [sys.executable, *([CRASH, *crash] if crash else []), *program]

    return line


ENVIRONMENT = {**os.environ, "MASTER": "local[2]"}


@pytest.fixture
def submit(command, tmp_path):
    def go(name, *arguments, crash=(), key="2013-01-02"):
        asked = [f"key={key}", "--summary-json", f"{tmp_path}/s.json"]
        line = command(name, *asked, *arguments, crash=crash)
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env=ENVIRONMENT, check=False)
        summary = {} if crash else json.loads((tmp_path / "s.json").read_text())
        return done.returncode, done.stdout + done.stderr, {n["node"]: n for n in summary.get("nodes", [])}

    return go


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


def test_a_failed_branch_and_kills_between_commit_and_event(submit, rows, tmp_path):
    target = tmp_path / "out" / "split_legacy"
    target.parent.mkdir()
    target.write_text("a file where a folder should be")
    code, output, nodes = submit("parallel_split")
    assert (code, {b: nodes[b]["state"] for b in BRANCHES}) == (
        1,
        {"lake": "succeeded", "enriched": "succeeded", "legacy": "failed"},
    ), output
    assert "legacy" in output.splitlines()[-1]
    target.unlink()
    code, output, nodes = submit("parallel_split")
    assert (code, {b: nodes[b]["state"] for b in BRANCHES}) == (
        0,
        {"lake": "reused", "enriched": "reused", "legacy": "succeeded"},
    ), output
    assert rows() == [943, 943, 943]
    versions = [DeltaTable(f"{tmp_path}/out/{name}").version() for name in ("split_flights", "split_enriched")]
    assert versions == [0, 0]
    for key, branch in zip(("2013-01-01", "2013-01-03", "2013-01-04"), BRANCHES, strict=True):
        code, output, _ = submit("parallel_split", key=key, crash=("after_commit", branch))
        assert code == -signal.SIGKILL, output
        code, output, nodes = submit("parallel_split", key=key)
        assert (code, "already written" in nodes[branch]["reason"]) == (0, True), output
    assert rows() == [sum(len(f.read_text().splitlines()) for f in ROOT.glob("data/flights/*/*/*.json"))] * 3


def test_days_in_any_order_and_at_once_lose_no_row(submit, command, rows):
    for key in ("2013-01-03", "2013-01-01"):
        code, output, _ = submit("parallel_split", key=key)
        assert code == 0, output
    lines = [command("parallel_split", f"key={key}") for key in ("2013-01-02", "2013-01-04")]
    running = [subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, env=ENVIRONMENT) for line in lines]
    assert [process.wait() for process in running] == [0, 0]
    assert len(set(rows())) == 1
    assert rows()[0] == sum(len(f.read_text().splitlines()) for f in ROOT.glob("data/flights/*/*/*.json"))


def test_each_kind_of_choice_and_its_reason(submit, tmp_path):
    code, output, nodes = submit("exclusive_choice")
    assert code == 0, output
    assert nodes["migration"]["reason"].startswith("old: key before 2013-01-03: yes")
    assert nodes["asked"]["reason"].startswith("delta: output_type = delta")
    assert nodes["shape"]["reason"].startswith("with_cancelled: has cancelled")
    assert nodes["asked/csv"]["state"] == "skipped"
    code, output, nodes = submit("exclusive_choice", "--output-type", "csv")
    assert (code, nodes["asked"]["state"], "asked_csv" in nodes) == (0, "reused", False), output
    code, output, nodes = submit("exclusive_choice", "--output-type=csv", "--rerun")
    assert (code, nodes["asked"]["state"], nodes["asked_csv"]["rows"]) == (0, "succeeded", 943), output
    code, output, nodes = submit("exclusive_choice", key="2013-01-03")
    assert (code, nodes["migration"]["reason"][:4]) == (0, "new:"), output
    done = subprocess.run(
        [sys.executable, "jobs/exclusive_choice.py", "key=2013-01-02", "--output-type", "orc"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "csv, delta" in done.stderr) == (2, True)


KILLS = int(os.environ.get("SPARK_FLOW_TEST_KILLS", "3"))


def test_a_stream_killed_at_random_moments_has_each_row_once_in_each_table(command, tmp_path):
    """``SPARK_FLOW_TEST_KILLS=20 pytest -k stream_killed`` for more of them."""
    line, random_ = command("stream_split", "source.options.maxFilesPerTrigger=2"), random.Random(7)
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


def test_a_road_to_csv_runs_without_deltas_jars(tmp_path):
    """Neither in the cache nor to be had; by spark-submit.sh with DELTA=no, without it by the job's own session."""
    (tmp_path / "job.yaml").write_text(CSV_OR_DELTA)
    none = {"SPARK_FLOW_CACHE": f"{tmp_path}/none", "SPARK_FLOW_IVY_SETTINGS": f"{tmp_path}/none.xml", "DELTA": "no"}
    for launcher, key in ([sys.executable], "k1"), (["./spark-submit.sh"], "k2"):
        arguments = ["--config", f"{tmp_path}/job.yaml", f"key={key}", f"state={tmp_path}/state", f"output={tmp_path}"]
        line = [*launcher, "jobs/exclusive_choice.py", *arguments]
        done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, env={**ENVIRONMENT, **none}, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(Path(tmp_path, "csv").glob("key=*/*.csv"))) == 2
    assert not (tmp_path / "delta").exists()
