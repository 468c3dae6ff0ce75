"""Class-data archive: Spark's classes as parsed and linked by Java, which shortens the start of the next JVM.

It is created once for each Java and each Spark, by a small run of common readers and writers. It is stored in the
folder of Delta's jars, below the path of its Spark::

    ~/.cache/spark_flow/delta-4.4.0-spark-4.2/archives/<Java's VM and build>/<path of Spark>/classes.jsa

Java verifies that the archive is of its own build and that no jar has changed, and starts without it otherwise. It does
not verify that the file is complete, and would crash: the size is stored in a file next to it and checked before use.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from spark_flow.spark.jars import ARCHIVES, RESOURCES, jars_folder, java_command, java_text, spark_home

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOM = 1_000_000_000  # bytes of free disk space; an archive takes a fifth of it
TIMEOUT = 180  # seconds: about ten times the usual duration; a start is not delayed for longer
QUIET = "-Xshare:auto -Xlog:cds=off -Xlog:cds+dynamic=off"
# Variables of our own Spark, or of a configured cluster, that would change the class path or the JVM.
_THEIRS = (
    *("PYSPARK_", "_PYSPARK_", "SPARK_CONF_DIR", "SPARK_SUBMIT_OPTS", "SPARK_REMOTE", "SPARK_ENV_LOADED"),
    *("SPARK_DIST_CLASSPATH", "HADOOP_CONF_DIR", "YARN_CONF_DIR"),
)


def options() -> str:
    """Return the Java options that enable the archive; empty if there is no usable archive."""
    archive = path()
    if archive is None or os.environ.get("SPARK_FLOW_ARCHIVE") == "no":
        return ""
    return f'"-XX:SharedArchiveFile={archive}" {QUIET}' if _current(archive) and _whole(archive) else ""


def is_due() -> bool:
    """Whether to create the archive: it is missing, outdated or cut off, and the jars were fetched here.

    The empty file of a failure is not due, so that the failure is not repeated at each start.
    """
    archive = path()
    if archive is None or os.environ.get("SPARK_FLOW_ARCHIVE") == "no" or os.environ.get("SPARK_HOME"):
        return False
    usable = _current(archive) and (archive.stat().st_size == 0 or _whole(archive))
    return not usable and os.access(jars_folder() / ARCHIVES, os.W_OK)


def path() -> Path | None:
    """Return the archive's path for this Java and this Spark, even if it does not exist; ``None`` without Java."""
    text = java_text(java_command())
    if not text:
        return None
    build = re.sub(r"[^A-Za-z0-9.]", "-", text.strip().splitlines()[-1])
    return jars_folder() / ARCHIVES / build / str(spark_home()).lstrip("/") / "classes.jsa"


def make(archive: Path, settings: Mapping[str, str]) -> str:
    """Create the archive, unless another process is creating it; returns why it failed, or an empty string.

    A failure is remembered as an empty file, so that it is not repeated at each start.
    """
    try:
        with _alone(archive.parent) as free:
            if not free:
                return "another process is creating it"
            if _current(archive) and _whole(archive):
                return ""
            if shutil.disk_usage(archive.parent).free < ROOM:
                return f"less than {ROOM // 1_000_000} MB are free in {archive.parent}"
            return _made(archive, settings)
    except OSError as error:  # a read-only or full disk
        return str(error)


def _current(archive: Path) -> bool:
    """Whether the archive, or the empty file of a failure, is newer than all jars that it covers."""
    jars = spark_home() / "jars"
    try:
        made = archive.stat().st_mtime
        return all(made >= entry.stat().st_mtime for entry in (jars, *jars.iterdir()))
    except OSError:
        return False


def _whole(archive: Path) -> bool:
    """Whether the archive is complete; false for the empty file of a failure."""
    try:
        return archive.with_suffix(".size").read_text() == str(archive.stat().st_size)
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Lock a folder and yield whether that worked; removes what a killed process has left."""
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "making.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        for left in folder.glob(".work-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield True


def _made(archive: Path, settings: Mapping[str, str]) -> str:
    print("spark_flow: creating a class-data archive (once)", file=sys.stderr, flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix=".work-", dir=archive.parent, ignore_cleanup_errors=True) as work:
        fresh = Path(work) / archive.name
        why = _dump(fresh, Path(work) / "tables", settings)
        if why:
            archive.with_suffix(".size").unlink(missing_ok=True)
            archive.write_bytes(b"")
            print(f"spark_flow: no class-data archive, Spark starts without it: {why}", file=sys.stderr)  # noqa: T201
            return why
        fresh.chmod(0o644)
        with fresh.open("rb+") as written:
            os.fsync(written.fileno())  # an empty file of the right size would crash Java
        size = fresh.stat().st_size
        fresh.replace(archive)
        archive.with_suffix(".size").write_text(str(size))
    return ""


def _dump(fresh: Path, tables: Path, settings: Mapping[str, str]) -> str:
    """Run common Spark work in a JVM that writes the archive when it exits; returns why it failed."""
    java = f"-XX:TieredStopAtLevel=1 -XX:ArchiveClassesAtExit={fresh}"  # the run takes seconds
    ours = {"spark.driver.extraJavaOptions": f"{settings.get('spark.driver.extraJavaOptions', '')} {java}"}
    conf = [part for key, value in {**settings, **ours}.items() for part in ("--conf", f"{key}={value}")]
    command = [str(spark_home() / "bin" / "spark-submit"), "--master", "local[2]", *conf]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(_THEIRS)}
    python = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    try:
        done = subprocess.run(  # noqa: S603
            [*command, str(RESOURCES / "usual_work.py"), str(tables)],
            env={**inherited, **python, "SPARK_HOME": str(spark_home())},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {TIMEOUT} s"
    if done.returncode == 0 and fresh.exists() and fresh.stat().st_size:
        return ""
    lines = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line or "unsupported" in line]
    return lines[0].strip() if lines else f"exit code {done.returncode}, and Java wrote no archive"
