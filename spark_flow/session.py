"""A Spark session with Delta Lake, quick and quiet on one machine, and untouched where somebody else made it.

``python -m spark_flow.session jars`` prints Delta's jars as one comma list, for ``spark-submit --jars``.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from spark_flow.errors import EnvironmentTooOld

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import SparkSession

OLDEST_JAVA = 17
_RESOURCES = Path(__file__).parent / "jars"

DELTA: dict[str, str] = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}

LOCAL_DEFAULTS: dict[str, str] = {
    # One machine: a handful of tasks each; Spark's 200 and Delta's 50 are for clusters.
    "spark.sql.shuffle.partitions": "4",
    "spark.databricks.delta.snapshotPartitions": "1",
    # A union of frames of one partition each would become one task (8 branches: 9.4 s against 4.4 s).
    "spark.sql.unionOutputPartitioning": "false",
    # Branches run from threads; the allocation file makes the default pool fair as well.
    "spark.scheduler.mode": "FAIR",
    "spark.scheduler.allocation.file": (_RESOURCES / "fairscheduler.xml").as_uri(),
    # The same key means the same hours on every machine.
    "spark.sql.session.timeZone": "UTC",
    # Neither a port for the world nor a progress bar over ours.
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    # Short jobs end before the second compiler pays off. The first alone has 48 MB of room for
    # code, and Spark fills it: then nothing is compiled any more, silently and slowly.
    "spark.driver.extraJavaOptions": (
        "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m "
        f'"-Dlog4j2.configurationFile={(_RESOURCES / "log4j2.properties").as_uri()}"'
    ),
}


def session(app_name: str, *, delta: bool = True, config: Mapping[str, str] | None = None) -> SparkSession:
    """The session to work in: the one that is there, else a local one with our defaults.

    Under spark-submit, in a notebook of a hosted service or with Spark Connect, the settings are the
    launcher's business: the session is taken as it is.

    Args:
        app_name: The name that Spark's own views show.
        delta: Whether a local session can read and write Delta tables.
        config: Settings on top of the defaults; of no effect on a session that exists.
    """
    from pyspark.sql import SparkSession

    active = SparkSession.getActiveSession()
    if active is not None:
        return active
    builder = SparkSession.builder.appName(app_name)
    if os.environ.get("PYSPARK_GATEWAY_PORT"):
        end_with(os.getppid())
    if not _launched_by_others():
        check_java()
        builder = builder.master(os.environ.get("MASTER") or "local[*]")
        for key, value in local_settings(delta=delta).items():
            builder = builder.config(key, value)
    for key, value in (config or {}).items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def local_settings(*, delta: bool = True) -> dict[str, str]:
    """What a local session is started with; fetches Delta's jars if need be."""
    return LOCAL_DEFAULTS | (DELTA | {"spark.jars": ",".join(delta_jars())} if delta else {})


def _launched_by_others() -> bool:
    return any(os.environ.get(name) for name in ("PYSPARK_GATEWAY_PORT", "SPARK_REMOTE"))


@functools.cache
def end_with(pid: int) -> None:
    """End this process soon after another one has ended: the JVM that is our parent, or who waits for our report.

    A kill under spark-submit reaches the JVM alone and would leave us running on. An orphan could still hold a
    lease, or write by ``deltalake``, beside the retry that took its place.
    """
    is_parent = pid == os.getppid()

    def watch() -> None:
        while os.getppid() == pid if is_parent else _exists(pid):
            time.sleep(0.5)
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


# ---------------------------------------------------------------------------------------------- Java


def check_java() -> int:
    """Java's major version.

    Raises:
        EnvironmentTooOld: Java is missing or older than Spark needs.
    """
    java = java_command()
    found = java_version(java)
    if found is None or found < OLDEST_JAVA:
        raise EnvironmentTooOld(
            "Java",
            f"none ({java} does not run)" if found is None else f"{found} ({java})",
            f"{OLDEST_JAVA} or 21",
            "Install a Java runtime and put it on PATH, or set JAVA_HOME to it.",
        )
    return found


def java_command() -> str:
    """The Java that Spark's scripts would start."""
    home = os.environ.get("JAVA_HOME")
    return str(Path(home, "bin", "java")) if home else "java"


def java_version(java: str) -> int | None:
    """The major version that ``java -version`` tells; None when it does not run."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return parse_java_version(answer.stderr + answer.stdout)


def parse_java_version(text: str) -> int | None:
    """The major version in ``version "17.0.15"``, ``version "21-ea"`` or ``version "1.8.0_402"``."""
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None


# --------------------------------------------------------------------------------------------- jars


def delta_jars() -> tuple[str, ...]:
    """Delta's jars for the installed PySpark, fetched once and kept.

    Raises:
        EnvironmentTooOld: They are not there and cannot be fetched.
    """
    folder = jars_folder()
    if not _filled(folder):
        _fetch(folder)
    return tuple(str(jar) for jar in sorted(folder.glob("*.jar")))


def _filled(folder: Path) -> bool:
    return any(folder.glob("delta-spark_*.jar"))


def jars_folder() -> Path:
    """Where Delta's jars are kept: one folder for each pair of versions."""
    delta, spark = _versions()
    root = os.environ.get("SPARK_FLOW_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root).expanduser().absolute() / "spark_flow" / f"delta-{delta}-spark-{spark}"


def _versions() -> tuple[str, str]:
    """Delta's version, and the line of Spark (major.minor) that its jar is built for."""
    spark = importlib.metadata.version("pyspark")
    return importlib.metadata.version("delta-spark"), ".".join(spark.split(".")[:2])


def _fetch(folder: Path) -> None:
    """Retrieve into a folder beside, then rename: whoever comes first wins, all others find it done."""
    check_java()
    delta, _ = _versions()
    print(f"spark_flow: fetching Delta Lake {delta} (once)", file=sys.stderr, flush=True)  # noqa: T201
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise _unfetched(folder, str(error)) from error
    try:
        ready = work / "jars"
        _retrieve(ready, cache=work / "ivy", folder=folder)
        try:
            ready.rename(folder)
        except OSError:
            if not _filled(folder):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _retrieve(ready: Path, *, cache: Path, folder: Path) -> None:
    answer = subprocess.run(_ivy(ready, cache), capture_output=True, text=True, check=False)  # noqa: S603
    if answer.returncode or not _filled(ready):
        lines = [line.strip() for line in (answer.stdout + answer.stderr).splitlines()]
        hints = ("Server access error", "not found:", ": not found", "Exception")
        found = next((line for hint in hints for line in lines if hint in line), f"Ivy's exit code {answer.returncode}")
        raise _unfetched(folder, found)


def _ivy(ready: Path, cache: Path) -> list[str]:
    """Ivy's own command line: Spark's ``--packages`` prints forty lines every time."""
    delta, spark = _versions()
    settings = os.environ.get("SPARK_FLOW_IVY_SETTINGS") or str(_RESOURCES / "ivysettings.xml")
    # fmt: off
    return [
        java_command(), "-XX:TieredStopAtLevel=1", *_proxy(),
        f"-Ddelta.version={delta}", f"-Dspark.line={spark}",
        "-cp", str(_spark_jar("ivy")), "org.apache.ivy.Main", "-warn",
        "-settings", settings, "-ivy", str(_RESOURCES / "delta.xml"), "-confs", "default",
        "-cache", str(cache), "-types", "jar", "-retrieve", f"{ready}/[artifact]-[revision].[ext]",
    ]
    # fmt: on


def _spark_jar(name: str) -> Path:
    spec = importlib.util.find_spec("pyspark")
    home = Path(spec.origin).parent if spec and spec.origin else Path()
    return next((home / "jars").glob(f"{name}-[0-9]*.jar"), home / "jars" / f"{name}.jar")


def _proxy() -> list[str]:
    """The proxy that other tools read from the environment; Java does not by itself."""
    address = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or ""
    proxy = urlsplit(address if "//" in address else f"//{address}")
    if not proxy.hostname:
        return []
    return [f"-Dhttps.proxyHost={proxy.hostname}", f"-Dhttps.proxyPort={proxy.port or 80}"]


def _unfetched(folder: Path, reason: str) -> EnvironmentTooOld:
    delta, spark = _versions()
    return EnvironmentTooOld(
        "Delta Lake's jars",
        f"none in {folder}, and fetching failed: {reason}",
        f"delta-spark_{spark}_2.13 {delta} and its delta-* jars",
        "Offline or behind a proxy? Set HTTPS_PROXY, or SPARK_FLOW_IVY_SETTINGS to an Ivy settings file "
        "that names your mirror, or copy the jars into that folder from a machine that has them.",
    )


def main(argv: list[str]) -> int:
    """``jars``: print Delta's jars as one comma list."""
    if argv != ["jars"]:
        print("usage: python -m spark_flow.session jars", file=sys.stderr)  # noqa: T201
        return 2
    try:
        print(",".join(delta_jars()))  # noqa: T201
    except EnvironmentTooOld as error:
        print(f"spark_flow: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
