"""The options of spark-submit: the user's as they are, and our settings below them."""

from __future__ import annotations

import importlib.metadata
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spark_flow.errors import EnvironmentTooOld, InvalidArgument
from spark_flow.spark import archive
from spark_flow.spark.jars import (
    LISTENER_PACKAGE,
    RESOURCES,
    check_java,
    delta_jars,
    delta_package,
    listener_jars,
    pyspark_home,
    s3_jars,
)
from spark_flow.spark.session import DELTA, HANGING, LOGGING, OPENS, UDF_ARROW, ensure_archive, settings_in
from spark_flow.storage.stores import needs_s3, spark_settings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_FLAGS = {"-v", "--verbose", "-h", "--help", "--version", "--usage-error", "--supervise", "--load-spark-defaults"}
_SETTINGS = {"--master": "spark.master", "--deploy-mode": "spark.submit.deployMode"}
_LISTS = {"--jars": "spark.jars", "--packages": "spark.jars.packages"}
_PROPERTY = re.compile(r"\s*([^\s#=:][^\s=:]*)\s*[=:]?\s*(.*?)\s*$")


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a user gives to spark-submit.

    Attributes:
        options: The options as they are, without lists of jars and packages, which ours are added to.
        settings: The Spark settings that all options make, those of ``--properties-file`` included.
        properties: The settings of ``--properties-file``.
        program: The program and its arguments.
    """

    options: tuple[str, ...] = ()
    settings: Mapping[str, str]
    properties: Mapping[str, str]
    program: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ours:
    """What we add to a spark-submit.

    Attributes:
        home: The Spark whose spark-submit is used.
        options: Our options, for before the user's: spark-submit takes the last one of a setting.
        variables: The environment variables that differ from this process's.
    """

    home: Path
    options: tuple[str, ...]
    variables: Mapping[str, str]


def parse(words: Sequence[str]) -> Given:
    """Parse the arguments of spark-submit, up to the program.

    >>> parse(["--conf", "spark.ui.port=4050", "--master=local[2]", "job.py", "key=a"]).settings
    {'spark.ui.port': '4050', 'spark.master': 'local[2]'}

    Raises:
        InvalidArgument: The file of ``--properties-file`` cannot be read.
    """
    left, options = list(words), list[str]()
    confs, named, properties = dict[str, str](), dict[str, str](), dict[str, str]()
    while left and left[0].startswith("-"):
        if left[0] in _FLAGS:
            options.append(left.pop(0))
            continue
        option, sign, value = left[0].partition("=") if left[0].startswith("--") else (left[0], "", "")
        if not sign and len(left) == 1:
            break  # an option without its value: spark-submit reports it
        value = value if sign else left[1]
        left = left[1 if sign else 2 :]
        if option in ("--conf", "-c"):
            name, _, confs_value = value.partition("=")
            confs[name] = confs_value
        elif option == "--properties-file":
            properties = read_properties(value)
        elif option in _SETTINGS or option in _LISTS:
            named[{**_SETTINGS, **_LISTS}[option]] = value
        options += [] if option in _LISTS else [option, value]
    settings = {**properties, **confs, **named}
    return Given(options=tuple(options), settings=settings, properties=properties, program=tuple(left))


def read_properties(file: str) -> dict[str, str]:
    """Read a properties file of Spark: a line is ``name value``, ``name=value`` or ``name: value``.

    Raises:
        InvalidArgument: It cannot be read.
    """
    try:
        lines = Path(file).read_text().splitlines()
    except OSError as error:
        raise InvalidArgument("--properties-file", f"{file}: {error.strerror}", "a file that can be read") from error
    return {found[1]: found[2] for line in lines if (found := _PROPERTY.match(line))}


def ours(given: Given, *, default: str = "local[*]", schemes: Collection[str] = ()) -> Ours:
    """Return what we add: Delta, our settings, and for a local master those for one machine.

    Without ``SPARK_HOME`` the installed PySpark is used, with Delta's jars that were fetched once. With it, as on a
    cluster's gateway, that Spark resolves Delta as a package. Variables: ``MASTER``, ``DELTA=no`` (without Delta),
    ``LINEAGE=yes`` (with OpenLineage's listener), ``S3=yes`` (with S3; a cluster's Spark has its own).

    Args:
        given: What the user gives.
        schemes: Schemes of URIs that the program reads or writes.
        default: The master if neither the user, ``MASTER`` nor ``SPARK_HOME`` decides it; empty for any.

    Raises:
        EnvironmentTooOld: Java, the Spark of ``SPARK_HOME``, or a jar is missing or does not fit.
    """
    check_java()
    home, spark = _cluster(os.environ["SPARK_HOME"]) if os.environ.get("SPARK_HOME") else (None, "")
    spark = spark or importlib.metadata.version("pyspark")
    delta, lineage = os.environ.get("DELTA") != "no", os.environ.get("LINEAGE") == "yes"
    client = given.settings.get("spark.submit.deployMode", "client") == "client"
    master = given.settings.get("spark.master") or os.environ.get("MASTER") or ("" if home else default)
    local = master.startswith("local")

    settings = settings_in("spark-defaults.conf") | (settings_in("spark-local.conf") if local else {})
    settings = {
        name: value
        for name, value in settings.items()
        if (delta or name not in DELTA) and (name != UDF_ARROW or spark == HANGING)
    }
    s3 = needs_s3(schemes) or os.environ.get("S3") == "yes"
    settings |= spark_settings(("s3",)) if s3 else {}
    if home:
        settings["spark.jars.ivySettings"] = str(RESOURCES / "ivysettings.xml")
    if client:  # the driver sees this machine's files
        settings["spark.scheduler.allocation.file"] = (RESOURCES / "fairscheduler.xml").as_uri()
    elif lineage:
        settings["spark.driver.extraJavaOptions"] = OPENS
    lists = {
        "--jars": []
        if home
        else [*(delta_jars() if delta else ()), *(listener_jars() if lineage else ()), *(s3_jars() if s3 else ())],
        "--packages": [*([delta_package()] if delta else []), *([LISTENER_PACKAGE] if lineage else [])] if home else [],
    }
    options = [part for option, values in lists.items() for part in _merged(option, given.settings, values)]
    options += ["--master", master] if master else []
    unset = {name: value for name, value in settings.items() if name not in given.properties}
    options += [part for name, value in unset.items() for part in ("--conf", f"{name}={value}")]

    java = [OPENS] if lineage and client else []
    if not home or (client and not _logs_by_itself(home)):
        java.insert(0, f'"{LOGGING}"')
    variables = _python(home) | ({"SPARK_LOCAL_IP": os.environ.get("SPARK_LOCAL_IP") or "127.0.0.1"} if local else {})
    if local and not home:
        ensure_archive()
        java.insert(0, archive.options())
    variables["SPARK_SUBMIT_OPTS"] = " ".join(part for part in [*java, os.environ.get("SPARK_SUBMIT_OPTS", "")] if part)
    return Ours(home or pyspark_home(), tuple(options), variables)


def _merged(option: str, settings: Mapping[str, str], values: Sequence[str]) -> list[str]:
    """Return a list option with the user's values and ours; nothing if there are none."""
    both = [*filter(None, settings.get(_LISTS[option], "").split(",")), *values]
    return [option, ",".join(both)] if both else []


def _python(home: Path | None) -> dict[str, str]:
    """Return the variables for Python: executors need nothing of ours, the driver needs spark_flow."""
    if home:
        return {"PYSPARK_DRIVER_PYTHON": os.environ.get("PYSPARK_DRIVER_PYTHON") or sys.executable}
    python = {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable}
    return {"SPARK_HOME": str(pyspark_home()), **python}


def _logs_by_itself(home: Path) -> bool:
    return Path(os.environ.get("SPARK_CONF_DIR") or home / "conf", "log4j2.properties").exists()


def _cluster(home: str) -> tuple[Path, str]:
    """Return the Spark of ``SPARK_HOME``, and its version if its jars show it.

    Raises:
        EnvironmentTooOld: It is none, or of another line than the installed PySpark.
    """
    where, fix = "SPARK_HOME", "Unset SPARK_HOME to use the installed PySpark."
    if not os.access(Path(home, "bin", "spark-submit"), os.X_OK):
        raise EnvironmentTooOld(where, f"{home}, which has no bin/spark-submit", "the folder of a Spark", fix)
    line = importlib.metadata.version("pyspark").rpartition(".")[0]
    core = next(Path(home, "jars").glob("spark-core_*.jar"), None)
    found = re.fullmatch(r"spark-core_2\.13-(.+)\.jar", core.name) if core else None
    if core and (not found or found[1].rpartition(".")[0] != line):
        raise EnvironmentTooOld(where, f"{core.name} in {home}", f"Spark {line} for Scala 2.13", fix)
    return Path(home), found[1] if found else ""
