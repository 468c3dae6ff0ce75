"""Checkpoints: a step's frame as a Parquet folder that is unique to the attempt that wrote it.

Only the ledger's event points at the folder, so an incomplete one is never read.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from spark_flow.errors import DamagedFile, WriteNotProved, describe
from spark_flow.storage import files
from spark_flow.storage.key_folder import rows_in_footers
from spark_flow.storage.sink_protocol import Intent, Written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

SUCCEEDED = "boundaries_succeeded"  # next to the checkpoints: a file for each key, so that one listing finds old ones


def write(frame: DataFrame, state: str, intent: Intent) -> Written:
    """Write a frame as a checkpoint; its rows are counted from the footers of the written files.

    Raises:
        WriteNotProved: The files cannot be read back.
    """
    attempt = f"g{intent.generation}/{intent.node}/{intent.attempt}-{intent.run_id}"
    relative = files.join("boundaries", intent.pipeline, intent.key, attempt)
    folder = files.join(files.absolute(state), relative)
    intent.mark("before_commit")
    frame.write.mode("overwrite").parquet(files.for_spark(folder))
    intent.mark("after_commit")
    sizes = _sizes(folder)
    if not files.exists(files.join(folder, "_SUCCESS")):
        raise WriteNotProved(folder, "a finished Parquet folder (_SUCCESS)", "none")
    try:
        rows = rows_in_footers(folder)
    except (pa.ArrowException, OSError) as error:
        raise WriteNotProved(folder, "Parquet files that can be read", describe(error)) from error
    detail = {"path": relative, "files": len(sizes), "bytes": sum(sizes.values()), "schema": frame.schema.jsonValue()}
    detail["checksum"] = files.checksum(folder, list(sizes))
    return Written(rows=rows, reason="checkpoint written", detail=detail)


def why_invalid(state: str, detail: Mapping[str, Any]) -> str:
    """Return why a recorded checkpoint cannot be used; empty if it can.

    Its files are read once for their checksum, which a checkpoint of an earlier version does not have.
    """
    if "path" not in detail:
        return "it was held in memory, not in a checkpoint"
    folder = files.join(files.absolute(state), detail["path"])
    sizes = _sizes(folder)
    if not files.exists(folder):
        return "its checkpoint was removed"
    found = len(sizes), sum(sizes.values())
    if found != (detail["files"], detail["bytes"]):
        return f"its checkpoint was changed: {found[0]} files of {found[1]} bytes"
    if "checksum" in detail and files.checksum(folder, list(sizes)) != detail["checksum"]:
        return "its checkpoint was changed: different content of the same size"
    return ""


def schema(detail: Mapping[str, Any]) -> StructType:
    """Return the columns of a recorded checkpoint."""
    from pyspark.sql.types import StructType

    return StructType.fromJson(dict(detail["schema"]))


def read(
    spark: SparkSession, state: str, details: Sequence[Mapping[str, Any]], columns: StructType | None = None
) -> DataFrame:
    """Read one or more recorded checkpoints in one scan.

    Args:
        spark: The session.
        state: The state folder.
        details: The recorded detail of each checkpoint.
        columns: The columns to read, matched by name; by default those of the first checkpoint.
    """
    folders = [files.for_spark_files(files.join(files.absolute(state), detail["path"])) for detail in details]
    return spark.read.schema(columns or schema(details[0])).parquet(*folders)


def mark_succeeded(state: str, pipeline: str, key: str, generation: int) -> None:
    """Record that a key's generation succeeded; the age of its checkpoints counts from now."""
    folder = files.join(files.absolute(state), "boundaries", pipeline, key)
    noted = _noted(state, pipeline, key)
    if files.exists(folder) and _succeeded_generation(noted) != generation:
        files.write_json(noted, {"generation": generation})


def mark_begun(state: str, pipeline: str, key: str, generation: int) -> int | None:
    """Record that a generation has begun, so that checkpoints of an older one are not removed while it runs.

    Returns:
        The older generation, if it had succeeded.
    """
    noted = _noted(state, pipeline, key)
    older = _succeeded_generation(noted)
    if older in (None, generation):
        return None
    files.remove(noted)
    return older


def _noted(state: str, pipeline: str, key: str) -> str:
    return files.join(files.absolute(state), SUCCEEDED, pipeline, f"{key}.json")


def _succeeded_generation(noted: str) -> int | None:
    try:
        return int(files.read_json(noted)["generation"])
    except (FileNotFoundError, DamagedFile, KeyError, TypeError, ValueError):
        return None  # a damaged file counts as missing; it is written again when the generation succeeds


def remove(state: str, pipeline: str, key: str) -> None:
    """Remove the checkpoints of a key, of all its generations."""
    files.remove(files.join(files.absolute(state), "boundaries", pipeline, key))
    files.remove(_noted(state, pipeline, key))


def sweep(state: str, pipeline: str, *, older_than: dt.timedelta, now: dt.datetime | None = None) -> list[str]:
    """Remove the checkpoints of runs that succeeded longer ago than ``older_than``; returns the keys.

    Needs one listing, however many keys have checkpoints, and further calls only for what is removed.
    """
    now = now or dt.datetime.now(dt.timezone.utc)
    root = files.absolute(state)
    swept = []
    for info in files.listing(files.join(root, SUCCEEDED, pipeline)):
        key, _, kind = info.base_name.rpartition(".")
        if kind == "json" and now - info.mtime >= older_than:
            files.remove(files.join(root, "boundaries", pipeline, key))
            files.remove(files.join(root, SUCCEEDED, pipeline, info.base_name))
            swept.append(key)
    return swept


def _sizes(folder: str) -> dict[str, int]:
    """Return the Parquet files of a checkpoint by name, with their sizes in bytes."""
    found = (i for i in files.listing(folder, recursive=True) if i.base_name.endswith(".parquet"))
    return {i.base_name: i.size for i in found}
