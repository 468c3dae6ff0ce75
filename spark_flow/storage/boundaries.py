"""Restart boundaries: a step's frame as a Parquet folder, unique to the attempt that wrote it.

The ledger's event points at the folder, so a half-written one is never seen.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds

from spark_flow.errors import DamagedFile, WriteNotProved
from spark_flow.storage import files
from spark_flow.storage.port import Intent, Written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

DONE = "_succeeded.json"


def write(frame: DataFrame, state: str, intent: Intent) -> Written:
    """Write a frame as a boundary; its rows are counted from the footers of the files that were written.

    Raises:
        WriteNotProved: The files cannot be read back.
    """
    place = f"g{intent.generation}/{intent.node}/{intent.attempt}-{intent.run_id}"
    relative = files.join("boundaries", intent.pipeline, intent.key, place)
    folder = files.join(files.absolute(state), relative)
    intent.mark("before_commit")
    frame.write.mode("overwrite").parquet(files.for_spark(folder))
    intent.mark("after_commit")
    sizes = _sizes(folder)
    if not files.exists(files.join(folder, "_SUCCESS")):
        raise WriteNotProved(folder, "a finished Parquet folder (_SUCCESS)", "none")
    storage, inner = files.of(folder)
    rows = ds.dataset(inner, filesystem=storage, format="parquet").count_rows() if sizes else 0
    detail = {"path": relative, "files": len(sizes), "bytes": sum(sizes), "schema": frame.schema.jsonValue()}
    return Written(rows=rows, reason="boundary written", detail=detail)


def lack(state: str, detail: Mapping[str, Any]) -> str:
    """Why a recorded boundary cannot be used; empty when it can."""
    if "path" not in detail:
        return "it was held in memory, not as a boundary"
    folder = files.join(files.absolute(state), detail["path"])
    sizes = _sizes(folder)
    if not files.exists(folder):
        return "its boundary was removed"
    if (len(sizes), sum(sizes)) != (detail["files"], detail["bytes"]):
        return f"its boundary was changed: {len(sizes)} files of {sum(sizes)} bytes"
    return ""


def schema(detail: Mapping[str, Any]) -> StructType:
    """The columns of a recorded boundary."""
    from pyspark.sql.types import StructType

    return StructType.fromJson(dict(detail["schema"]))


def read(
    spark: SparkSession, state: str, details: Sequence[Mapping[str, Any]], columns: StructType | None = None
) -> DataFrame:
    """The frame of one or more recorded boundaries, in one scan.

    Args:
        spark: The session.
        state: The state folder.
        details: What was recorded of each boundary.
        columns: The columns to read, matched by name; by default those of the first boundary.
    """
    folders = [files.for_spark_files(files.join(files.absolute(state), detail["path"])) for detail in details]
    return spark.read.schema(columns or schema(details[0])).parquet(*folders)


def mark_succeeded(state: str, pipeline: str, key: str, generation: int) -> None:
    """Note that a key's generation succeeded: from now its boundaries grow old."""
    folder = files.join(files.absolute(state), "boundaries", pipeline, key)
    if files.exists(folder) and _succeeded_generation(folder) != generation:
        files.write_json(files.join(folder, DONE), {"generation": generation})


def mark_begun(state: str, pipeline: str, key: str, generation: int) -> int | None:
    """Note that a generation has begun: what an older one left is not swept while this one is at work.

    Returns:
        The older one, if it had succeeded.
    """
    folder = files.join(files.absolute(state), "boundaries", pipeline, key)
    older = _succeeded_generation(folder)
    if older in (None, generation):
        return None
    files.remove(files.join(folder, DONE))
    return older


def _succeeded_generation(folder: str) -> int | None:
    try:
        return int(files.read_json(files.join(folder, DONE))["generation"])
    except (FileNotFoundError, DamagedFile, KeyError, TypeError, ValueError):
        return None  # a damaged one counts as none: it is written again when the generation succeeds


def sweep(state: str, pipeline: str, *, older_than: dt.timedelta, now: dt.datetime | None = None) -> list[str]:
    """Remove the boundaries of runs that succeeded longer ago than ``older_than``; returns the keys."""
    now = now or dt.datetime.now(dt.timezone.utc)
    root = files.join(files.absolute(state), "boundaries", pipeline)
    swept = []
    for info in files.listing(root):
        folder = files.join(root, info.base_name)
        done = [i for i in files.listing(folder) if i.base_name == DONE]
        if done and now - done[0].mtime >= older_than:
            files.remove(folder)
            swept.append(info.base_name)
    return swept


def _sizes(folder: str) -> list[int]:
    return [i.size for i in files.listing(folder, recursive=True) if i.base_name.endswith(".parquet")]
