"""``spark-flow doctor``: what a job needs on this machine, each line right or with its fix."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spark_flow.errors import EnvironmentTooOld, SparkFlowError, describe
from spark_flow.ledger import DeltaLedger
from spark_flow.ledger.register import NOT_CONDITIONAL, has_conditional_writes
from spark_flow.spark import archive, jars
from spark_flow.spark.session import make_archive, session
from spark_flow.storage import files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

SKEW = 5.0  # seconds that two clocks may differ by; leases are renewed far more slowly


@dataclass(frozen=True)
class Check:
    """One line of the result.

    Attributes:
        name: What was checked.
        found: What was found.
        fix: What to do; empty if it is right.
    """

    name: str
    found: str
    fix: str = ""


def checks(state: str) -> Iterator[Check]:
    """Check Java, Spark, Delta, the workers' Python, the state folder and the clock, one after another.

    Args:
        state: The state folder; a probe file is written to it and removed.
    """
    yield Check("python", f"{sys.version.split()[0]}, {sys.executable}")
    java = _java()
    yield java
    yield Check("spark", f"{importlib.metadata.version('pyspark')}, {jars.spark_home()}")
    delta = _delta() if not java.fix else Check("delta", "not checked", "Fix Java first.")
    yield delta
    yield from _state(state)
    if java.fix or delta.fix:
        yield Check("session", "not started", "Fix the lines above first.")
        return
    yield _archive()
    try:
        spark = session("spark-flow doctor")
    except Exception as error:
        yield Check(
            "session", describe(error), "Spark cannot start: see the message; --debug of a job prints all logs."
        )
        return
    yield _table(spark)
    yield _workers(spark)
    spark.stop()


def _java() -> Check:
    try:
        found = jars.check_java()
    except EnvironmentTooOld as error:
        return Check("java", error.found, f"Expected {error.expected}. {error.fix}")
    return Check("java", f"{found}, {jars.java_command()}")


def _delta() -> Check:
    version = importlib.metadata.version("delta-spark")
    try:
        found = jars.delta_jars()
    except SparkFlowError as error:
        return Check("delta", f"{version}, without its jars", str(error))
    return Check("delta", f"{version}, {len(found)} jars in {jars.jars_folder()}")


def _archive() -> Check:
    """Create the class-data archive, as the first job would; it is no error if there is none."""
    if os.environ.get("SPARK_FLOW_ARCHIVE") == "no":
        return Check("archive", "switched off (SPARK_FLOW_ARCHIVE=no)")
    why = make_archive()
    return Check("archive", f"none, Spark starts without it: {why}" if why else str(archive.path()))


def _state(state: str) -> Iterator[Check]:
    fix = "Make the folder writable, or give another one (state= of a job, --state here)."
    try:
        probe = files.join(files.absolute(state), f".doctor-{uuid.uuid4().hex[:8]}")
        there = files.exists(state)
        keys = len(DeltaLedger(state, create=False).recorded_keys()) if there else 0
        began = time.time()
        files.write_bytes(probe, b"probe")
        took, written = time.time() - began, _written(probe)
        files.remove(probe)
        if not there and not files.is_uri(state):
            with contextlib.suppress(OSError):  # not empty: a run has begun there meanwhile
                Path(files.absolute(state)).rmdir()
    except (SparkFlowError, OSError, ValueError) as error:
        yield Check("state folder", f"{state}: {describe(error)}", fix)
        return
    yield Check(
        "state folder", f"{files.absolute(state)} is writable ({took * 1000:.0f} ms); {keys} key(s) in its ledger"
    )
    if files.is_uri(state):
        right = has_conditional_writes(state)
        yield Check("leases", f"conditional writes: {'yes' if right else 'no'}", "" if right else f"{NOT_CONDITIONAL}.")
    apart = written - began
    where = f"{time.strftime('%Y-%m-%d %H:%M:%SZ', time.gmtime())}, {apart:+.1f} s at the state folder"
    wrong = abs(apart) > SKEW + took
    yield Check("clock", where, "Synchronise the clocks (NTP): leases expire by them." if wrong else "")


def _written(path: str) -> float:
    storage, inner = files.of(path)
    moment = storage.get_file_info(inner).mtime
    return moment.timestamp() if moment is not None else time.time()


def _table(spark: SparkSession) -> Check:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "table"))
        began = time.monotonic()
        try:
            spark.range(3).write.format("delta").save(path)
            rows = spark.read.format("delta").load(path).count()
        except Exception as error:
            fix = "Start programs with spark-flow submit, or give spark-submit the output of spark-flow spark-options."
            return Check("session", f"no Delta table can be written: {describe(error)}", fix)
    return Check("session", f"wrote and read a Delta table of {rows} rows in {time.monotonic() - began:.1f} s")


def _workers(spark: SparkSession) -> Check:
    """Compare the workers' Python with ours, by a function that they run."""
    from pyspark.sql import functions as F

    worker = F.udf(lambda _: f"{sys.version.split()[0]} {sys.executable}", "string")
    here = sys.version.split()[0]
    try:
        version, _, path = str(spark.range(1).select(worker("id")).collect()[0][0]).partition(" ")
    except Exception as error:
        return Check("workers", describe(error), f"Set PYSPARK_PYTHON to a Python {here} that the workers have.")
    same = version.rpartition(".")[0] == here.rpartition(".")[0]
    return Check("workers", f"Python {version}, {path}", "" if same else f"Set PYSPARK_PYTHON to a Python {here}.")
