"""A Spark session with Delta Lake: fast and quiet on one machine; an existing session is used unchanged."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from spark_flow.errors import EnvironmentTooOld, describe
from spark_flow.spark import archive
from spark_flow.spark.jars import (
    LISTENER_PACKAGE,
    RESOURCES,
    check_java,
    delta_jars,
    delta_package,
    listener_jars,
    s3_jars,
)
from spark_flow.storage.stores import needs_s3, spark_settings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pyspark.sql import SparkSession

LISTENER = "io.openlineage.spark.agent.OpenLineageSparkListener"
CONNECT_PORT = 15002
_PATIENCE = 10.0  # seconds for a Connect server to accept a connection
_GRACE = 3.0  # seconds to record an interrupt and to release the lease; the JVM has ended at once
LOGGING = f"-Dlog4j2.configurationFile={(RESOURCES / 'log4j2.properties').as_uri()}"
OPENS = "--add-opens=java.base/java.security=ALL-UNNAMED"  # a JDK package that the listener accesses

# Spark 4.2.0 hangs on a Python UDF over columnar input like Parquet (SPARK-58241; fixed in 4.2.1).
HANGING = "4.2.0"
_SPARKS_OWN = {"parquet", "json", "csv", "orc", "text"}
UDF_ARROW = "spark.sql.execution.pythonUDF.arrow.enabled"


def settings_in(name: str) -> dict[str, str]:
    """Return the settings of one of our resource files, which have the reason of each."""
    lines = (line.split(None, 1) for line in (RESOURCES / name).read_text().splitlines())
    return {line[0]: line[1].strip() for line in lines if line and not line[0].startswith("#")}


_DEFAULTS = settings_in("spark-defaults.conf")
DELTA = {name: _DEFAULTS[name] for name in ("spark.sql.extensions", "spark.sql.catalog.spark_catalog")}
LOCAL_DEFAULTS = {
    **{name: value for name, value in _DEFAULTS.items() if name not in {*DELTA, UDF_ARROW}},
    **settings_in("spark-local.conf"),
    "spark.scheduler.allocation.file": (RESOURCES / "fairscheduler.xml").as_uri(),
    "spark.driver.extraJavaOptions": f'"{LOGGING}"',
}
_QUERY_CONTEXT = ("SQLQueryContextLogger", "DataFrameQueryContextLogger")


def session(
    app_name: str,
    *,
    delta: bool = True,
    config: Mapping[str, str] | None = None,
    listener: Mapping[str, str] | None = None,
    schemes: Collection[str] = (),
) -> SparkSession:
    """Return the Spark session to use: the existing one, else a new local one with our defaults.

    Under spark-submit, in a hosted notebook or with Spark Connect (``SPARK_REMOTE``), the launcher or the server
    decides the settings, and the local defaults do not apply; a Connect session takes those of ``config`` that begin
    with ``spark.sql.``.

    Args:
        app_name: The application name shown in Spark's UI.
        delta: Whether a local session can read and write Delta tables.
        config: Settings on top of the defaults, jars and Java options beside them; ignored if a session exists.
        listener: Settings of OpenLineage's Spark listener, which is added if there are any.
        schemes: Schemes of URIs that are read or written, such as ``s3``, which a local session gets the jars for.

    Raises:
        EnvironmentTooOld: Java, Delta's jars or the listener is missing and cannot be fetched; or the Connect server
            does not answer.
    """
    there = existing()
    if there is not None:
        return there
    if remote := os.environ.get("SPARK_REMOTE"):
        return _connected(remote, config or {})
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName(app_name)
    if os.environ.get("PYSPARK_GATEWAY_PORT"):
        end_with(os.getppid())
    local, settings = not _launched_by_others(), dict[str, str]()
    if local:
        check_java()
        builder = builder.master(os.environ.get("MASTER") or "local[*]")
        settings = local_settings(delta=delta, listener=bool(listener), schemes=schemes)
    settings |= {"spark.extraListeners": LISTENER, **listener} if listener else {}
    builder = _set(builder, _beside(settings, config or {}))
    try:
        made = builder.getOrCreate()
    except KeyboardInterrupt:
        _end_what_was_starting()
        raise
    except Exception as error:
        if listener and LISTENER in str(error):
            raise _without_listener() from error
        raise
    context = getattr(made, "sparkContext", None)  # none of Connect, which a session of somebody else may be
    if local and context is not None and sys.executable:
        # UDFs run in this Python, with this process's packages; PYSPARK_PYTHON would apply to other sessions too.
        context.pythonExec = sys.executable
    _raise_errors_once()
    return made


def _raise_errors_once() -> None:
    """Stop PySpark from logging each error of an analysis as JSON with its stack, as it is raised as well.

    ``SPARK_FLOW_LOGS``, which ``--debug`` sets, keeps these logs.
    """
    from pyspark.logger import PySparkLogger

    for name in _QUERY_CONTEXT if not os.environ.get("SPARK_FLOW_LOGS") else ():
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL + 1)


def _connected(remote: str, config: Mapping[str, str]) -> SparkSession:
    """A session of a Spark Connect server, which has its own master, jars and listeners.

    Raises:
        EnvironmentTooOld: Its packages are missing, or nothing answers: its client would retry for ten minutes.
    """
    if importlib.util.find_spec("grpc") is None or importlib.util.find_spec("grpc_status") is None:
        raise EnvironmentTooOld("Spark Connect", "no grpcio", "pyspark[connect]", "pip install 'pyspark[connect]'")
    from pyspark.sql import SparkSession

    place = urlsplit(remote)
    if place.scheme == "sc" and place.hostname:  # else it is local[*], or Spark says what is wrong
        try:
            socket.create_connection((place.hostname, place.port or CONNECT_PORT), timeout=_PATIENCE).close()
        except OSError as error:
            fix = "Start it (sbin/start-connect-server.sh of a Spark), or name another one (SPARK_REMOTE, --remote)."
            raise EnvironmentTooOld("Spark Connect", f"{remote}: {describe(error)}", "a server", fix) from error
    settings = {name: value for name, value in config.items() if name.startswith("spark.sql.")}
    made = _set(SparkSession.builder.remote(remote), settings).getOrCreate()
    _raise_errors_once()
    return made


def _end_what_was_starting() -> None:
    """End a JVM that was being started: PySpark has forgotten it, and it would outlive this process."""
    from pyspark import SparkContext

    if getattr(SparkContext, "_gateway", None) is not None:
        return  # it ends with this process
    with contextlib.suppress(OSError):  # no ps
        columns = ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="]
        listed = subprocess.run(columns, capture_output=True, text=True, check=False)  # noqa: S603
        for line in listed.stdout.splitlines():
            pid, parent, *program = line.split(None, 2)
            if int(parent) == os.getpid() and "pyspark-shell" in "".join(program):
                os.kill(int(pid), signal.SIGKILL)


def check_machine(*, delta: bool = True) -> None:
    """Check what a new local session needs, where one would be created.

    Raises:
        EnvironmentTooOld: Java or Delta's jars are missing and cannot be fetched.
    """
    if existing() is None and not _launched_by_others():
        check_java()
        if delta:
            delta_jars()


def warn_of_hanging_udfs(spark: SparkSession) -> None:
    """Warn if a Python UDF over Parquet would hang: on Spark 4.2.0, in a session that we did not create."""
    if spark.version == HANGING and spark.conf.get(UDF_ARROW, "true") == "true":
        message = (
            f"Spark {HANGING} hangs on a Python UDF over columnar input such as Parquet (SPARK-58241). "
            f"Set {UDF_ARROW}=false in this session, or use Spark 4.2.1."
        )
        warnings.warn(message, RuntimeWarning, stacklevel=3)


def check_formats(spark: SparkSession, formats: Collection[str]) -> None:
    """Check that a session has the data sources of a run, before its first node: Spark itself fails late.

    Raises:
        EnvironmentTooOld: Some are missing, for example Delta's classes under a plain spark-submit.
    """
    missing = sorted(name for name in {*formats} - _SPARKS_OWN if not _has_format(spark, name))
    if missing:
        found = f"a session without {' and '.join(map(repr, missing))}"
        delta = f"--packages {delta_package()}" if "delta" in missing else "the library of each"
        fix = "Start the job with spark-flow submit, or give spark-submit $(spark-flow spark-options)."
        if "delta" not in missing:
            fix = "Name it in the job's file (spark: {spark.jars.packages: ...}), or check the format's name."
        raise EnvironmentTooOld("Spark's data sources", found, delta, fix)


def _has_format(spark: SparkSession, name: str) -> bool:
    """Whether a data source is known; with Spark Connect it is only known when it is used."""
    try:
        spark.read.format(name).load()
    except Exception as error:  # a known one misses its path; of which class the error is depends on the source
        return re.search("Failed to find (the )?data source", str(error)) is None
    return True


def existing() -> SparkSession | None:
    """Return the active session of any thread, or ``None``; a builder with settings would change it for everyone."""
    if "pyspark.sql" not in sys.modules:
        return None
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    try:
        found = SparkSession.active()
    except PySparkRuntimeError:
        return None
    context = getattr(found, "_sc", None)  # Connect's session has none; it knows whether it was stopped
    return None if context is not None and context._jsc is None else found  # noqa: SLF001


def _beside(ours: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, str]:
    """Return settings, the user's before ours; lists of jars and Java options have both."""
    merged = {**ours, **theirs}
    for name, sign in (("spark.jars", ","), ("spark.driver.extraJavaOptions", " ")):
        if name in ours and name in theirs:
            merged[name] = f"{ours[name]}{sign}{theirs[name]}"
    return merged


def _set(builder: SparkSession.Builder, settings: Mapping[str, str]) -> SparkSession.Builder:
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder


def _without_listener() -> EnvironmentTooOld:
    fix = f"Start the job as LINEAGE=yes spark-flow submit ..., or give spark-submit --packages {LISTENER_PACKAGE}"
    fix += "; or set lineage.spark_events=false."
    return EnvironmentTooOld("OpenLineage's Spark listener", "no such class in Spark", LISTENER_PACKAGE, fix)


def local_settings(*, delta: bool = True, listener: bool = False, schemes: Collection[str] = ()) -> dict[str, str]:
    """Return the settings of a local session; fetches jars if needed, and uses the class-data archive if it exists."""
    settings = _settings(delta=delta, listener=listener, schemes=schemes)
    settings["spark.driver.extraJavaOptions"] += f" {archive.options()}".rstrip()
    return settings


def _settings(*, delta: bool = True, listener: bool = False, schemes: Collection[str] = ()) -> dict[str, str]:
    settings, jars = dict(LOCAL_DEFAULTS), delta_jars() if delta else ()
    if importlib.metadata.version("pyspark") == HANGING:
        settings[UDF_ARROW] = "false"
    if delta:
        settings |= DELTA
    if listener:
        jars = (*jars, *listener_jars())
        settings["spark.driver.extraJavaOptions"] += f" {OPENS}"
    if needs_s3(schemes):
        jars = (*jars, *s3_jars())
    return settings | spark_settings(schemes) | ({"spark.jars": ",".join(jars)} if jars else {})


def _launched_by_others() -> bool:
    return any(os.environ.get(name) for name in ("PYSPARK_GATEWAY_PORT", "SPARK_REMOTE"))


@functools.cache
def end_with(pid: int) -> None:
    """End this process soon after another one ends: our parent JVM, or the process that waits for our report.

    A kill under spark-submit reaches only the JVM, and this process would continue. An orphan could still hold a
    lease, or write with ``deltalake``, at the same time as the retry that replaced it.
    """
    is_parent = pid == os.getppid()

    def watch() -> None:
        while os.getppid() == pid if is_parent else _exists(pid):
            time.sleep(0.5)
        time.sleep(_GRACE)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="spark_flow-end-with", daemon=True).start()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def ensure_archive() -> None:
    """Create the class-data archive if it is missing or outdated, on a machine where we fetched Delta's jars.

    Elsewhere, as in an image, nothing is created: a container that loses its cache would pay each time.
    """
    if archive.is_due():
        make_archive()


def make_archive() -> str:
    """Create the class-data archive; returns why it failed, or an empty string.

    Raises:
        EnvironmentTooOld: Java or Delta's jars are missing and cannot be fetched.
    """
    check_java()
    settings, made = _settings(), archive.path()
    return archive.make(made, settings) if made else "Java does not run"
