"""Read and check a key's folder of files by its manifest, which a folder sink writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from spark_flow.core import secrets
from spark_flow.errors import MissingInput
from spark_flow.storage import files
from spark_flow.storage.content import Content, measured
from spark_flow.storage.sink_protocol import Held

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame, SparkSession

MANIFEST = "_spark_flow.json"


def held(detail: Mapping[str, Any], app_id: str) -> Held:
    """Return what a key's folder holds now of a recorded write, from its manifest, file sizes and Parquet's footers.

    Raises:
        MissingInput: The folder or some of its files are missing, or changed in size.
    """
    folder = str(detail["path"])
    manifest = read_manifest(folder)
    missing = [files.join(folder, name) for name in (missing_files(folder) if manifest else [MANIFEST])]
    if missing:
        raise MissingInput(app_id, missing)
    rows = int(manifest["rows"])
    others = sorted(set(data_files(folder)) - set(manifest["files"]))
    doubt = f"files that are not in its manifest: {', '.join(others[:3])}" if others else ""
    if manifest["format"] == "parquet" and not others:
        rows = rows_in_footers(folder)
    revision = int(manifest["revision"]) if manifest["app_id"] == app_id else 0
    return Held(revision=revision, rows=rows, differs=doubt)


def content(spark: SparkSession, detail: Mapping[str, Any]) -> tuple[str, Content]:
    """Return the hash in a key's manifest (empty in one of an earlier version), and what a reader gets now."""
    folder = str(detail["path"])
    return str(read_manifest(folder).get("hash", "")), measured(read(spark, folder))


def read(spark: SparkSession, folder: str) -> DataFrame:
    """Read a key's folder with the types, reader options and partition columns of its manifest."""
    from pyspark.sql.types import StructType

    manifest = read_manifest(folder)
    options = secrets.resolved(manifest.get("read_options", manifest["options"]))
    reader = spark.read.format(manifest["format"]).options(**options)
    if manifest["partition_by"]:
        reader = reader.option("basePath", files.for_spark(folder.rpartition("/")[0]))
    return reader.schema(StructType.fromJson(manifest["schema"])).load(files.for_spark_files(folder))


def read_manifest(folder: str) -> dict[str, Any]:
    """Return a folder's manifest; empty if there is none.

    Raises:
        DamagedFile: It is empty or truncated.
    """
    try:
        return files.read_json(files.join(folder, MANIFEST), fix="Run the key again: it rewrites the folder.")
    except FileNotFoundError:
        return {}


def missing_files(folder: str) -> list[str]:
    """Return the manifest's files that are missing or have another size."""
    present = data_files(folder)
    return [name for name, size in read_manifest(folder).get("files", {}).items() if present.get(name) != size]


def rows_in_footers(folder: str) -> int:
    """Count the rows of a folder of Parquet files by the files' footers."""
    storage, inner = files.of(folder)
    return sum(pq.read_metadata(f"{inner}/{name}", filesystem=storage).num_rows for name in data_files(folder))


def data_files(folder: str) -> dict[str, int]:
    """Return the data files below a folder by relative name, with their sizes in bytes."""
    _, inner = files.of(folder)
    found = {
        str(info.path)[len(inner) :].strip("/"): info.size
        for info in files.listing(folder, recursive=True)
        if info.is_file
    }
    return {name: size for name, size in found.items() if not _hidden(name)}


def _hidden(name: str) -> bool:
    """Whether Spark's readers skip this file."""
    return name.rpartition("/")[2].startswith(("_", "."))
