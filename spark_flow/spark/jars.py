"""Check Java, and fetch the jars that do not come with Spark, once."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from spark_flow.errors import EnvironmentTooOld

if TYPE_CHECKING:
    from collections.abc import Mapping

OLDEST_JAVA = 17
LISTENER_VERSION = "1.53.0"
LISTENER_PACKAGE = f"io.openlineage:openlineage-spark_2.13:{LISTENER_VERSION}"
AWS_VERSION = "2.57.8"
RESOURCES = Path(__file__).parent / "resources"
ARCHIVES = "archives"  # in the folder of Delta's jars, if they were fetched here: the folder of archive.py


def check_java() -> int:
    """Return Java's major version.

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
    """Return the Java command that Spark's scripts start."""
    home = os.environ.get("JAVA_HOME")
    return str(Path(home, "bin", "java")) if home else "java"


def java_version(java: str) -> int | None:
    """Return the major version that ``java -version`` reports; ``None`` if it does not run."""
    return parse_java_version(java_text(java))


@functools.cache
def java_text(java: str) -> str:
    """Return the output of ``java -version``; empty if it does not run. Cached, since Java starts slowly."""
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout + answer.stderr


def parse_java_version(text: str) -> int | None:
    """Parse the major version in ``version "17.0.15"``, ``version "21-ea"`` or ``version "1.8.0_402"``."""
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None


# --------------------------------------------------------------------------------------------- jars


class Library(NamedTuple):
    """Jars that are fetched together: what they are, their Ivy file, a pattern of the first one, and their folder."""

    name: str
    wanted: str
    ivy: str
    first: str
    folder: Path
    versions: Mapping[str, str]


def delta_jars() -> tuple[str, ...]:
    """Return the paths of Delta's jars for the installed PySpark; fetches them once.

    Raises:
        EnvironmentTooOld: The jars are missing and cannot be fetched.
    """
    delta, _ = _versions()
    name = delta_artifact()
    wanted = f"{name} {delta} and its delta-* jars"
    versions = {"delta.version": delta, "delta.artifact": name}
    return _jars(Library("Delta Lake", wanted, "delta.xml", "delta-spark_*.jar", jars_folder(), versions))


def delta_artifact() -> str:
    """Return the name of Delta's library for the installed PySpark: with Spark's version in it since Delta 4.1."""
    delta, spark = _versions()
    major, minor = (int(part) for part in delta.split(".")[:2])
    return f"delta-spark_{spark}_2.13" if (major, minor) >= (4, 1) else "delta-spark_2.13"


def delta_package() -> str:
    """Return the coordinates of Delta's library for ``spark-submit --packages``."""
    return f"io.delta:{delta_artifact()}:{_versions()[0]}"


def listener_jars() -> tuple[str, ...]:
    """Return the path of the jar of OpenLineage's Spark listener; fetches it once and raises as ``delta_jars`` does."""
    name = "openlineage-spark"
    folder, versions = _cache() / f"{name}-{LISTENER_VERSION}", {"listener.version": LISTENER_VERSION}
    wanted = f"{name}_2.13 {LISTENER_VERSION}"
    return _jars(Library("OpenLineage for Spark", wanted, "lineage.xml", f"{name}_*.jar", folder, versions))


def s3_jars() -> tuple[str, ...]:
    """Return the paths of Hadoop's S3 library and of the AWS modules that it uses; fetches them once.

    Raises:
        EnvironmentTooOld: The jars are missing and cannot be fetched.
    """
    hadoop = _spark_jar("hadoop-client-api").stem.rpartition("-")[2]
    versions = {"hadoop.version": hadoop, "aws.version": AWS_VERSION}
    return _jars(
        Library(
            "S3 for Spark", f"hadoop-aws {hadoop}", "s3.xml", "hadoop-aws-*.jar", _cache() / f"s3-{hadoop}", versions
        )
    )


def _jars(library: Library) -> tuple[str, ...]:
    if not _filled(library.folder, library):
        _fetch(library)
    return tuple(str(jar) for jar in sorted(library.folder.glob("*.jar")))


def _filled(folder: Path, library: Library) -> bool:
    return any(folder.glob(library.first))


def jars_folder() -> Path:
    """Return the folder of Delta's jars: one for each pair of versions."""
    delta, spark = _versions()
    return _cache() / f"delta-{delta}-spark-{spark}"


def _cache() -> Path:
    root = os.environ.get("SPARK_FLOW_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root).expanduser().absolute() / "spark_flow"


def _versions() -> tuple[str, str]:
    """Return Delta's version, and the Spark version (major.minor) that its jar is built for."""
    spark = importlib.metadata.version("pyspark")
    return importlib.metadata.version("delta-spark"), ".".join(spark.split(".")[:2])


def _fetch(library: Library) -> None:
    """Fetch into a temporary folder, then rename it; if another process was faster, its folder is used."""
    check_java()
    folder = library.folder
    version = next(iter(library.versions.values()))
    print(f"spark_flow: fetching {library.name} {version} (once)", file=sys.stderr, flush=True)  # noqa: T201
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise _unfetched(library, str(error)) from error
    try:
        ready = work / "jars"
        _retrieve(ready, cache=work / "ivy", library=library)
        (ready / ARCHIVES).mkdir()
        try:
            ready.rename(folder)
        except OSError:
            if not _filled(folder, library):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _retrieve(ready: Path, *, cache: Path, library: Library) -> None:
    answer = subprocess.run(_ivy(ready, cache, library), capture_output=True, text=True, check=False)  # noqa: S603
    if answer.returncode or not _filled(ready, library):
        lines = [line.strip() for line in (answer.stdout + answer.stderr).splitlines()]
        hints = ("Server access error", "not found:", ": not found", "Exception")
        found = next((line for hint in hints for line in lines if hint in line), f"Ivy's exit code {answer.returncode}")
        raise _unfetched(library, found)


def _ivy(ready: Path, cache: Path, library: Library) -> list[str]:
    """Return the command line of Ivy itself: Spark's ``--packages`` prints forty lines every time."""
    settings = os.environ.get("SPARK_FLOW_IVY_SETTINGS") or str(RESOURCES / "ivysettings.xml")
    # fmt: off
    return [
        java_command(), "-XX:TieredStopAtLevel=1", *_proxy(),
        *(f"-D{name}={version}" for name, version in library.versions.items()),
        "-cp", str(_spark_jar("ivy")), "org.apache.ivy.Main", "-warn",
        "-settings", settings, "-ivy", str(RESOURCES / library.ivy), "-confs", "default",
        "-cache", str(cache), "-types", "jar", "-retrieve", f"{ready}/[artifact]-[revision].[ext]",
    ]
    # fmt: on


def spark_home() -> Path:
    """Return the Spark installation that is used here: ``SPARK_HOME``, else the installed PySpark."""
    return Path(os.environ.get("SPARK_HOME") or pyspark_home())


def pyspark_home() -> Path:
    """Return the folder of the installed PySpark, which is a whole Spark."""
    spec = importlib.util.find_spec("pyspark")
    return Path(os.path.realpath(spec.origin)).parent if spec and spec.origin else Path()


def _spark_jar(name: str) -> Path:
    home = pyspark_home()
    return next((home / "jars").glob(f"{name}-[0-9]*.jar"), home / "jars" / f"{name}.jar")


def _proxy() -> list[str]:
    """Return Java's options for the proxy in the environment, which Java does not read by itself."""
    address = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or ""
    proxy = urlsplit(address if "//" in address else f"//{address}")
    if not proxy.hostname:
        return []
    return [f"-Dhttps.proxyHost={proxy.hostname}", f"-Dhttps.proxyPort={proxy.port or 80}"]


def _unfetched(library: Library, reason: str) -> EnvironmentTooOld:
    return EnvironmentTooOld(
        f"{library.name}'s jars",
        f"none in {library.folder}, and fetching failed: {reason}",
        library.wanted,
        "Offline or behind a proxy? Set HTTPS_PROXY, or SPARK_FLOW_IVY_SETTINGS to an Ivy settings file "
        "that names your mirror, or copy the jars into that folder from a machine that has them.",
    )
