"""The session: Java is checked, Delta's jars are fetched once, the settings are ours."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from spark_flow.errors import EnvironmentTooOld
from spark_flow.spark import jars, session


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARK_FLOW_CACHE", str(tmp_path / "cache"))
    return jars.jars_folder()


def fake_java(monkeypatch, folder, script):
    (folder / "bin").mkdir(parents=True)
    command = folder / "bin" / "java"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(folder))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21-ea" 2023-09-19', 21),
        ('NOTE: Picked up something\njava version "1.8.0_402"', 8),
        ("Segmentation fault", None),
    ],
)
def test_java_versions(text, expected):
    assert jars.parse_java_version(text) == expected


@pytest.mark.parametrize(("script", "found"), [("echo 'version \"11.0.2\"' >&2", "11"), ("exit 1", "none")])
def test_java_missing_or_too_old(monkeypatch, tmp_path, script, found):
    fake_java(monkeypatch, tmp_path, script)
    with pytest.raises(EnvironmentTooOld) as error:
        jars.check_java()
    assert error.value.where == "Java"
    assert error.value.found.startswith(found)


def test_java_home_wins_over_path(monkeypatch, tmp_path):
    fake_java(monkeypatch, tmp_path, "echo 'version \"21.0.1\"' >&2")
    assert jars.check_java() == 21


def test_jars_are_fetched_once_by_whoever_comes_first(monkeypatch, cache):
    both = threading.Barrier(2)

    def retrieve(ready, **_):
        ready.mkdir()
        (ready / "delta-spark_4.2_2.13-1.jar").touch()
        both.wait(10)  # nobody has renamed yet: both were seen to be in it

    monkeypatch.setattr(jars, "check_java", lambda: 17)
    monkeypatch.setattr(jars, "_retrieve", retrieve)
    results: list[tuple[str, ...]] = []
    threads = [threading.Thread(target=lambda: results.append(jars.delta_jars())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [(str(cache / "delta-spark_4.2_2.13-1.jar"),)] * 2
    assert [path.name for path in cache.parent.iterdir()] == [cache.name]


def test_failed_fetch_names_reason_and_folder_and_leaves_nothing(monkeypatch, tmp_path, cache):
    fake_java(
        monkeypatch,
        tmp_path / "java",
        'case "$*" in *-version*) echo \'version "17"\' >&2;; *) echo "Server access error: refused"; exit 1;; esac',
    )
    with pytest.raises(EnvironmentTooOld) as error:
        jars.delta_jars()
    assert "refused" in error.value.found
    assert str(cache) in error.value.found
    assert list(cache.parent.iterdir()) == []


@pytest.mark.spark
def test_session_has_the_settings_and_is_the_active_one(spark):
    assert session.session("another") is spark
    wanted = session.DELTA | {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.unionOutputPartitioning": "false",
        session.UDF_ARROW: "false",
    }
    assert {key: spark.conf.get(key) for key in wanted} == wanted


def test_a_listener_joins_the_other_jars_and_options(monkeypatch):
    monkeypatch.setenv("SPARK_FLOW_ARCHIVE", "no")
    monkeypatch.setattr(session, "delta_jars", lambda: ("delta.jar",))
    monkeypatch.setattr(session, "listener_jars", lambda: ("listener.jar",))
    plain, with_listener = session.local_settings(), session.local_settings(listener=True)
    options = "spark.driver.extraJavaOptions"
    assert (plain["spark.jars"], with_listener["spark.jars"]) == ("delta.jar", "delta.jar,listener.jar")
    assert with_listener[options] == f"{plain[options]} {session.OPENS}"
    assert session.local_settings(delta=False, listener=True)["spark.jars"] == "listener.jar"


def test_a_missing_listener_says_what_to_do(monkeypatch):
    from pyspark.sql import SparkSession

    def fail(_):
        raise RuntimeError(f"Exception when registering SparkListener: {session.LISTENER}")

    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    monkeypatch.setattr(session, "end_with", lambda _: None)
    monkeypatch.setattr(session, "existing", lambda: None)
    monkeypatch.setattr(SparkSession.Builder, "getOrCreate", fail)
    with pytest.raises(EnvironmentTooOld, match="LINEAGE=yes"):
        session.session("x", listener={"spark.openlineage.namespace": "n"})
    with pytest.raises(RuntimeError):
        session.session("x")


@pytest.mark.spark
def test_the_data_sources_of_a_run_are_checked_before_its_first_node(spark):
    session.check_formats(spark, {"delta", "json", "jdbc", "parquet"})
    with pytest.raises(EnvironmentTooOld) as error:
        session.check_formats(spark, {"json", "excel", "avro"})
    assert error.value.found == "a session without 'avro' and 'excel'"


@pytest.mark.process
def test_a_job_in_a_session_without_delta_fails_at_once_and_says_how_to_start_it(tmp_path):
    program = f"""
import sys
from pyspark.sql import SparkSession
from spark_flow.cli import project, run
SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
sys.exit(run.main([str(project.create("{tmp_path}/shop") / "job.yaml"), "key=2024-03-01"]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, "spark-flow submit" in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "shop" / "out" / "sales").exists()
