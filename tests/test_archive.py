"""The class-data archive: made once for a Java and its jars, used while it is whole and of these, never an error."""

import fcntl
import os
import subprocess
import time
from pathlib import Path

import pytest

from spark_flow.spark import archive, jars

ROOT = Path(__file__).parents[1]
VERSION = "echo 'openjdk version \"17.0.1\"' >&2; echo 'Some VM (build 17.0.1+8, sharing)' >&2"
# Stands for Spark's: writes what Java was asked to write, and counts how often.
SUBMIT = """#!/bin/sh
echo run >> "$(dirname "$0")/runs"
for word in $(echo "$*"); do case $word in
  -XX:ArchiveClassesAtExit=*) DUMP ;;
esac; done
"""


@pytest.fixture
def made(monkeypatch, tmp_path):
    """A machine that has fetched jars, with a Spark and a Java that are quick."""
    home = tmp_path / "spark"
    (home / "jars").mkdir(parents=True)
    (home / "jars" / "spark-core.jar").touch()
    (home / "bin").mkdir()
    (tmp_path / "java" / "bin").mkdir(parents=True)
    put(tmp_path / "java" / "bin" / "java", f"#!/bin/sh\n{VERSION}\n")
    put(home / "bin" / "spark-submit", SUBMIT.replace("DUMP", 'echo classes > "${word#*=}"'))
    monkeypatch.setenv("SPARK_FLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "java"))
    monkeypatch.setenv("SPARK_HOME", str(home))
    monkeypatch.delenv("SPARK_FLOW_ARCHIVE", raising=False)
    monkeypatch.setattr(archive, "ROOM", 0)
    (jars.jars_folder() / jars.ARCHIVES).mkdir(parents=True)
    past = time.time() - 60
    for path in (home / "jars", home / "jars" / "spark-core.jar"):
        os.utime(path, (past, past))
    return archive.path()


def put(file, text):
    file.write_text(text)
    file.chmod(0o755)


def made_and_used():
    return archive.make(archive.path(), {}), archive.options()


def runs():
    counted = jars.spark_home() / "bin" / "runs"
    return len(counted.read_text().splitlines()) if counted.exists() else 0


def test_it_is_made_once_with_one_line_and_used(made, capfd):
    used = f'"-XX:SharedArchiveFile={made}" {archive.QUIET}'
    assert archive.options() == ""
    assert [made_and_used(), made_and_used()] == [("", used), ("", used)]
    assert runs() == 1
    assert capfd.readouterr().err == "spark_flow: creating a class-data archive (once)\n"
    assert sorted(path.name for path in made.parent.iterdir()) == ["classes.jsa", "classes.size", "making.lock"]


def test_a_changed_jar_and_a_cut_archive_have_it_made_again(made):
    made_and_used()
    os.utime(jars.spark_home() / "jars" / "spark-core.jar", (time.time() + 5, time.time() + 5))
    assert archive.options() == ""
    archive.make(made, {})
    assert runs() == 2
    os.utime(jars.spark_home() / "jars" / "spark-core.jar", (1, 1))
    os.truncate(made, 3)  # Java would crash
    assert archive.options() == ""
    assert made_and_used()[1]
    assert runs() == 3


def test_another_java_has_an_archive_of_its_own(made, monkeypatch, tmp_path):
    made_and_used()
    (tmp_path / "java21" / "bin").mkdir(parents=True)
    put(tmp_path / "java21" / "bin" / "java", f"#!/bin/sh\n{VERSION.replace('17.0.1+8', '21.0.1+9')}\n")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "java21"))
    assert archive.options() == ""
    assert str(made) not in made_and_used()[1]
    assert runs() == 2


@pytest.mark.parametrize("dump", ["exit 1", ": > /dev/null", ': > "${word#*=}"'], ids=["fails", "writes none", "empty"])
def test_what_cannot_be_made_is_said_and_not_used(made, capfd, dump):
    put(jars.spark_home() / "bin" / "spark-submit", SUBMIT.replace("DUMP", dump))
    why, used = made_and_used()
    assert (bool(why), used) == (True, "")
    assert len(capfd.readouterr().err.splitlines()) == 2
    assert (made.read_bytes(), [path.name for path in made.parent.glob(".work-*")]) == (b"", [])


def test_nothing_is_made_or_said_where_it_cannot_be_kept_or_another_makes_it(made, monkeypatch, capfd):
    made.parent.mkdir(parents=True)
    with (made.parent / "making.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert made_and_used()[1] == ""
    monkeypatch.setattr(archive, "ROOM", 10**18)  # a full disk
    assert made_and_used()[1] == ""
    monkeypatch.setattr(archive, "ROOM", 0)
    (made.parent / "making.lock").unlink()
    made.parent.rmdir()
    made.parent.touch()  # a folder that cannot be made: as on a read-only disk, also for root
    assert made_and_used()[1] == ""
    assert (runs(), capfd.readouterr().err) == (0, "")


def test_it_is_due_when_missing_or_cut_off_but_not_after_a_failure_or_where_nothing_was_fetched(made, monkeypatch):
    assert not archive.is_due()  # a Spark of one's own
    home = jars.spark_home()
    monkeypatch.setattr(archive, "spark_home", lambda: home)
    monkeypatch.delenv("SPARK_HOME")
    assert archive.is_due()
    made.parent.mkdir(parents=True)
    made.write_text("classes")
    made.with_suffix(".size").write_text("7")
    assert not archive.is_due()
    made.with_suffix(".size").write_text("8")  # cut off
    assert archive.is_due()
    made.write_bytes(b"")  # a failure
    assert not archive.is_due()
    made.unlink()
    monkeypatch.setenv("SPARK_FLOW_ARCHIVE", "no")
    assert not archive.is_due()


def test_it_can_be_switched_off(made, monkeypatch):
    monkeypatch.setenv("SPARK_FLOW_ARCHIVE", "no")
    assert made_and_used() == ("", "")


@pytest.mark.process
@pytest.mark.parametrize("content", [None, b"", b"no archive at all " * 9999], ids=["missing", "empty", "another file"])
def test_java_says_nothing_of_an_archive_that_it_cannot_use(tmp_path, content):
    if content is not None:
        (tmp_path / "classes.jsa").write_bytes(content)
    options = f"-XX:SharedArchiveFile={tmp_path}/classes.jsa {archive.QUIET}".split()
    done = subprocess.run([jars.java_command(), *options, "-version"], capture_output=True, text=True, check=False)
    plain = subprocess.run([jars.java_command(), "-version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, plain.stdout)
    assert done.stderr.replace(", sharing", "") == plain.stderr.replace(", sharing", "")


@pytest.mark.process
@pytest.mark.skipif(not (ROOT / ".venv").exists(), reason="spark-submit.sh runs the Python of .venv: make venv")
def test_spark_submit_uses_the_same_archive_while_it_is_whole(made, monkeypatch, tmp_path):
    home = next((ROOT / ".venv" / "lib").glob("python3*/site-packages/pyspark"))
    shown = f'#!/bin/sh\ncase "$*" in *-version*) {VERSION};; *) echo "$SPARK_SUBMIT_OPTS" >&2; exit 3;; esac\n'
    put(tmp_path / "java" / "bin" / "java", shown)
    (jars.jars_folder() / "delta-spark_4.2_2.13-1.jar").touch()
    monkeypatch.setenv("SPARK_HOME", str(home))
    file = archive.path()
    file.parent.mkdir(parents=True)
    file.write_text("classes")
    monkeypatch.delenv("SPARK_HOME")

    def submitted(size):
        file.with_suffix(".size").write_text(size)
        done = subprocess.run([ROOT / "spark-submit.sh", "x.py"], capture_output=True, text=True, check=False)
        return f'"-XX:SharedArchiveFile={file}" {archive.QUIET}' in done.stderr

    assert submitted("7")
    monkeypatch.setenv("SPARK_FLOW_ARCHIVE", "no")
    assert not submitted("7")
    monkeypatch.delenv("SPARK_FLOW_ARCHIVE")
    with (file.parent / "making.lock").open("w") as lock:  # so that it is not made again
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not submitted("8")
