"""Python UDFs in sessions that we make: run by this Python, and they end (Spark 4.2.0 waits for ever over Parquet)."""

import sys
import textwrap
import threading
import warnings

import pyspark
import pytest
from conftest import rows
from pyspark.sql import functions as F

import spark_flow as sf
from spark_flow.cli import job
from spark_flow.spark import session

pytestmark = [pytest.mark.spark, pytest.mark.timeout(120, func_only=True)]

JOB = """
    pipeline: p
    key: k
    sources:
      in: {format: json, path: FOLDER, schema: "id STRING, n INT"}
    flow:
      - read: in
      - step: {name: kept, sql: "SELECT * FROM {frame}", restart: true}
      - step: udf_steps:squared
      - write: {name: out, format: parquet, path: OUT}
"""
STEPS = """
from pyspark.sql import functions as F

def squared(frame):
    return frame.withColumn("n", F.udf(lambda n: n * n, "int")("n"))
"""


def kept(frame):
    return frame


def told_who(frame):
    return frame.select("id", F.udf(lambda _: sys.executable, "string")("id").alias("python"))


def read(run, folder):
    return sf.read(run, "in", sf.source("json", folder, schema="id STRING, n INT"))


def test_a_udf_after_a_checkpoint_ends_and_is_run_by_this_python(spark, state, lines):
    folder = lines('{"id": "a", "n": 2}', '{"id": "b", "n": 3}')
    with sf.Run.open("p", "k", state=state, spark=spark) as run:
        result = sf.local_sequencer(run, read(run, folder), [sf.step(kept, restart=True), sf.step(told_who, version=1)])
        assert rows(result.frame) == [("a", sys.executable), ("b", sys.executable)]


def test_a_job_with_a_udf_after_a_checkpoint_ends(spark, state, lines, tmp_path):
    folder = lines('{"id": "a", "n": 2}', '{"id": "b", "n": 3}')
    (tmp_path / "udf_steps.py").write_text(STEPS)
    text = textwrap.dedent(JOB).replace("FOLDER", folder).replace("OUT", str(tmp_path / "out"))
    (tmp_path / "job.yaml").write_text(text)
    arguments = ["--config", str(tmp_path / "job.yaml"), f"state={state}"]
    assert job.main(arguments, job=str(tmp_path / "job.py")) == 0
    assert rows(spark.read.parquet(f"{tmp_path}/out").select("id", "n")) == [("a", 4), ("b", 9)]


@pytest.fixture
def hanging(spark):
    """A session as somebody else makes it on Spark 4.2.0."""
    theirs = spark.newSession()
    theirs.conf.set(session.UDF_ARROW, "true")
    return theirs


@pytest.mark.skipif(pyspark.__version__ != session.HANGING, reason="of one version of Spark")
def test_a_run_in_somebody_elses_session_warns_once(hanging, state, monkeypatch):
    with sf.Run.open("p", "k", state=state, spark=hanging) as run:
        with pytest.warns(RuntimeWarning, match="SPARK-58241"):
            assert run.spark is hanging
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert run.spark is hanging
    monkeypatch.setattr(session, "HANGING", "4.1.0")  # any Spark but that one
    with sf.Run.open("p", "k", state=state, spark=hanging) as run:
        assert run.spark is hanging


def test_a_run_in_our_session_does_not_warn(spark, state):
    with sf.Run.open("p", "k", state=state, spark=lambda: spark) as run:
        assert run.spark is spark  # warnings are errors in these tests


def test_a_thread_gets_the_session_that_another_one_made(spark):
    found = []
    thread = threading.Thread(target=lambda: found.append(session.session("other", config={"x.y": "z"})))
    thread.start()
    thread.join()
    assert found == [spark]
    assert spark.conf.get("x.y", "untouched") == "untouched"
