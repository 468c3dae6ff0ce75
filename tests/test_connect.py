"""Spark Connect: what needs no server; with one (``make connect``) the job by ``--remote``, and errors."""

import os
import subprocess
import sys
import time

import pytest
from connect import SKIPPED
from typer.testing import CliRunner

import spark_flow as sf
from jobs import ROOT
from spark_flow.cli import project
from spark_flow.cli.app import app
from spark_flow.errors import DuplicateKeys, NodeFailed

served = pytest.mark.skipif(os.environ.get("CONNECT") != "yes", reason="needs a server: make connect")


@pytest.mark.process
def test_a_server_that_does_not_answer_is_named_at_once(tmp_path):
    folder, began = project.create(str(tmp_path / "shop")), time.monotonic()
    words = ["job.yaml", "key=2024-03-01", "--remote", "sc://127.0.0.1:9"]
    command = [sys.executable, "-m", "spark_flow.cli.run", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Spark Connect" in done.stderr  # that it is refused, or that pyspark[connect] is not installed
    assert time.monotonic() - began < 30, "its client would retry for ten minutes"


def test_an_address_that_is_none_is_refused(tmp_path):
    folder = project.create(str(tmp_path / "shop"))
    for words in (["run", f"{folder}/job.yaml", "key=k"], ["single-runner", f"{folder}/job.yaml"]):
        done = CliRunner().invoke(app, [*words, "--remote", "host:15002"])
        assert (done.exit_code, "sc://host:15002" in done.output) == (2, True), done.output


def test_what_is_skipped_is_in_the_docs():
    page = (ROOT / "docs" / "where-it-runs.md").read_text()
    assert [name for name, why in SKIPPED.items() if f"| `{name}` | {why} |" not in page] == []


@served
@pytest.mark.spark
def test_a_job_runs_on_a_server_and_is_reused(connect, tmp_path):
    folder = project.create(str(tmp_path / "shop"))
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_REMOTE"}
    command = [sys.executable, "-m", "spark_flow.cli.run", f"{folder}/job.yaml", "key=2024-03-01", "--remote", connect]
    for said in ("5 succeeded", "5 reused"):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, said in done.stdout) == (0, True), done.stdout + done.stderr


@served
def test_errors_are_those_of_a_classic_session(spark, state):
    left, right = (
        spark.createDataFrame([(1, 2)], "a int, b int"),
        spark.createDataFrame([(1, 3), (1, 4)], "a int, c int"),
    )
    with (
        pytest.raises(NodeFailed, match=r"UNRESOLVED_COLUMN.*nope") as failed,
        sf.Run.open("p", "k", state=state) as run,
    ):
        sf.local_sequencer(run, left, [misspelt]).frame  # noqa: B018
    assert "JVM stacktrace" not in str(failed.value)
    with pytest.raises(DuplicateKeys) as twice, sf.Run.open("p", "k2", state=state) as run:
        sf.write(run, "out", joined(left, right), sf.parquet(f"{state}/out"))
    assert "a=1" in str(twice.value)


def misspelt(frame):
    return frame.select("nope")


def joined(left, right):
    return sf.join_all({"left": left, "right": right}, on="a")
