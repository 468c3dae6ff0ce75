"""spark-submit.sh: the project's settings, the user's on top, the job's exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "spark-submit.sh"

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not (ROOT / ".venv").exists(), reason="spark-submit.sh runs the Python of .venv: make venv"),
]

EXIT = "import sys; sys.exit(int(sys.argv[1]))"
SHOW = """
import json, sys
from spark_flow.spark.session import session
spark = session("show")
spark.range(3).write.format("delta").save(sys.argv[1])
sql = ["spark.sql.session.timeZone", "spark.sql.shuffle.partitions"]
keys = ["spark.master", "spark.ui.enabled", "spark.jars", *sql]
conf = {key: spark.sparkContext.getConf().get(key) for key in keys}
rows = spark.read.format("delta").load(sys.argv[1]).count()
print(json.dumps({"rows": rows, "args": sys.argv[2:], "conf": conf}))
spark.stop()
"""
SLEEP = """
import os, time
from spark_flow.spark.session import session
session("sleep")
print(os.getpid(), flush=True)
time.sleep(120)
"""


def environment(**changes):
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("SPARK_", "PYSPARK_"))}
    kept = {key: os.environ[key] for key in ("SPARK_FLOW_CACHE", "SPARK_FLOW_IVY_SETTINGS") if key in os.environ}
    return inherited | kept | changes


def submit(*arguments, cwd=ROOT, **changes):
    command = [str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment(**changes))


def job(folder, text):
    (folder / "job.py").write_text(text)
    return "job.py"


def test_exit_code_of_the_job_comes_through(tmp_path):
    assert submit(job(tmp_path, EXIT), "75", cwd=tmp_path).returncode == 75


def test_ours_below_yours_from_any_folder_and_quiet(tmp_path):
    (tmp_path / "mine.conf").write_text("spark.sql.session.timeZone=Europe/Rome\nspark.sql.shuffle.partitions 9\n")
    mine = tmp_path / "mine.jar"
    mine.write_bytes(b"PK\x05\x06" + bytes(18))  # an empty archive

    done = submit(
        *("--properties-file", "mine.conf", "--conf", "spark.sql.shuffle.partitions=7", "--jars", "mine.jar"),
        *(job(tmp_path, SHOW), "table", "a b", "--conf", "of=the job"),
        cwd=tmp_path,
        MASTER="local[1]",
    )

    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    jars = [Path(jar).name for jar in shown["conf"].pop("spark.jars").split(",")]
    assert shown == {
        "rows": 3,
        "args": ["a b", "--conf", "of=the job"],
        "conf": {
            "spark.master": "local[1]",
            "spark.sql.session.timeZone": "Europe/Rome",
            "spark.sql.shuffle.partitions": "7",
            "spark.ui.enabled": "false",
        },
    }
    assert jars[0] == "mine.jar"
    assert len(jars) > 1
    # The JVM's own line, and nothing else (the first start on a machine fetches Delta).
    said = [line for line in done.stderr.splitlines() if "incubator" not in line and "(once)" not in line]
    assert said == []


def test_a_killed_run_leaves_no_driver_behind(tmp_path):
    command = [str(SCRIPT), job(tmp_path, SLEEP)]
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stdout is not None
        driver = int(run.stdout.readline())
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert ends(driver, within=10)


def ends(pid, *, within):
    until = time.monotonic() + within
    while time.monotonic() < until:
        state = Path(f"/proc/{pid}/stat")
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True  # dead, and not yet reaped by whoever adopted it
        time.sleep(0.2)
    return False


@pytest.mark.parametrize("text", ["echo 'version \"11.0.2\"' >&2", "exit 127"])
def test_java_missing_or_too_old_is_one_sentence(tmp_path, text):
    (tmp_path / "bin").mkdir()
    java = tmp_path / "bin" / "java"
    java.write_text(f"#!/bin/sh\n{text}\n")
    java.chmod(0o755)
    done = submit("job.py", JAVA_HOME=str(tmp_path))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
