"""CSV, JSON and Parquet folders as sinks: written beside, then swapped in with a manifest as the proof.

A key's folder is ``<path>/<first partition column>=<key>``, or ``<path>/key=<key>`` without partitions. A
reader sees the old folder or the new one. Where storage cannot move a folder at once (object stores), the
files are copied and the manifest is written last: it is then the truth, and a folder without one is not there.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from spark_flow import fingerprint
from spark_flow.errors import MissingInput, OutsideKey, WriteNotProved
from spark_flow.storage import files
from spark_flow.storage.port import ALL, Intent, Written

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyarrow import fs
    from pyspark.sql import DataFrame, SparkSession

MANIFEST = "_spark_flow.json"
Format = Literal["csv", "json", "parquet"]


@dataclass(frozen=True)
class FolderSink:
    """Files of one format in a folder per key; make one with ``spark_flow.csv``, ``json`` or ``parquet``."""

    format: Format
    path: str
    partition_by: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> tuple[str, ...]:
        """The one place that it writes to."""
        return (self.path,)

    @property
    def fingerprint(self) -> str:
        """A hash of the sink's settings."""
        return fingerprint.of((self.format, files.absolute(self.path), self.partition_by, self.options))

    def folder(self, key: str) -> str:
        """The key's folder."""
        return files.join(files.absolute(self.path), f"{self.partition_by[0] if self.partition_by else 'key'}={key}")

    def replaces(self, key: str) -> Mapping[str, str]:
        """All of the key's folder; see ``port.TellsRows``."""
        return {self.folder(key): ALL}

    def remembered(self, app_id: str, key: str, written: Mapping[str, Any] | None = None) -> int:  # noqa: ARG002 - the port's
        """The revision in the manifest, 0 when there is none or its files are not all there."""
        manifest = read_manifest(self.folder(key))
        return manifest["revision"] if manifest.get("app_id") == app_id and not lacking(self.folder(key)) else 0

    def admit(self, intent: Intent) -> None:
        """A key's folder can always be replaced."""

    def write(self, frame: DataFrame, intent: Intent) -> Written:
        """Write beside the key's folder, then swap it in."""
        folder = self.folder(intent.key)
        if self.remembered(intent.app_id, intent.key) == intent.revision:
            return self._written(intent, f"already written at revision {intent.revision}")
        root = files.absolute(self.path)
        _clear_leftovers(root, intent.key)
        staging = files.join(root, f".spark_flow-{intent.key}-{uuid.uuid4().hex[:8]}")
        try:
            staged = self._stage(frame, staging, intent)
            intent.mark("before_commit")
            swap(staged, folder)
        finally:
            files.remove(staging)
        intent.mark("after_commit")
        return self._written(intent, f"written at revision {intent.revision}")

    def _stage(self, frame: DataFrame, staging: str, intent: Intent) -> str:
        """Write the key's folder below the staging folder, manifest included."""
        name = self.folder(intent.key).rpartition("/")[2]
        target = staging if self.partition_by else files.join(staging, name)
        writer = frame.write.format(self.format).options(**self.options).partitionBy(*self.partition_by)
        writer.mode("overwrite").save(files.for_spark(target))
        found = [info.base_name for info in files.listing(staging) if "=" in info.base_name]
        if set(found) - {name}:
            raise OutsideKey(intent.node, intent.key, sorted(set(found) - {name}))
        staged = files.join(staging, name)
        names = _data_files(staged)
        rows = self._read_back(frame, staged) if names else 0
        manifest = {"app_id": intent.app_id, "revision": intent.revision, "rows": rows, "files": names}
        how: dict[str, Any] = {"format": self.format, "options": self.options, "partition_by": self.partition_by}
        how["schema"] = frame.schema.jsonValue()
        files.write_json(files.join(staged, MANIFEST), manifest | how | {"spark_flow": intent.facts})
        return staged

    def _read_back(self, frame: DataFrame, folder: str) -> int:
        """Rows counted from the written files: the proof that they can be read."""
        columns = frame.drop(*self.partition_by).schema
        reader = frame.sparkSession.read.format(self.format).schema(columns).options(**self.options)
        return reader.load(files.for_spark(folder)).count()

    def _written(self, intent: Intent, words: str) -> Written:
        folder = self.folder(intent.key)
        manifest = read_manifest(folder)
        if manifest.get("revision") != intent.revision or lacking(folder):
            found = f"revision {manifest.get('revision')}, {len(lacking(folder))} file(s) lacking"
            raise WriteNotProved(folder, f"revision {intent.revision} with all its files", found)
        detail = {"format": self.format, "path": folder, "revision": intent.revision}
        return Written(rows=manifest["rows"], reason=words, detail=detail)


def held(detail: Mapping[str, Any], app_id: str) -> tuple[int, int]:
    """What a key's folder holds now of a recorded write: its revision and rows, by the manifest and its files.

    Raises:
        MissingInput: The folder or some of its files are gone, or changed in size.
    """
    folder = str(detail["path"])
    manifest = read_manifest(folder)
    missing = [files.join(folder, name) for name in (lacking(folder) if manifest else [MANIFEST])]
    if missing:
        raise MissingInput(app_id, missing)
    return int(manifest["revision"]) if manifest["app_id"] == app_id else 0, int(manifest["rows"])


def read(spark: SparkSession, folder: str) -> DataFrame:
    """A key's folder as its manifest describes it: with the types, options and partition columns it was written by."""
    from pyspark.sql.types import StructType

    manifest = read_manifest(folder)
    reader = spark.read.format(manifest["format"]).options(**manifest["options"])
    if manifest["partition_by"]:
        reader = reader.option("basePath", files.for_spark(folder.rpartition("/")[0]))
    return reader.schema(StructType.fromJson(manifest["schema"])).load(files.for_spark(folder))


def read_manifest(folder: str) -> dict[str, Any]:
    """A folder's manifest; empty when there is none."""
    try:
        manifest = files.read_json(files.join(folder, MANIFEST))
    except FileNotFoundError:
        return {}
    return manifest if isinstance(manifest, dict) else {}


def lacking(folder: str) -> list[str]:
    """The manifest's files that are not there with their size."""
    present = _data_files(folder)
    return [name for name, size in read_manifest(folder).get("files", {}).items() if present.get(name) != size]


def swap(staged: str, folder: str) -> None:
    """Put a staged folder in a folder's place, its old content removed."""
    storage, source = files.of(staged)
    _, target = files.of(folder)
    if not files.can_rename(storage):
        _copy(storage, source, target)
        return
    # Two renames: for the moment between them the key is absent, never half there.
    old = f"{target.rpartition('/')[0]}/.spark_flow-old-{uuid.uuid4().hex[:8]}"
    if files.exists(folder):
        storage.move(target, old)
    storage.move(source, target)
    files.remove(files.join(folder.rpartition("/")[0], old.rpartition("/")[2]))


def _copy(storage: fs.FileSystem, source: str, target: str) -> None:
    """Without a rename: the old manifest goes first, the new one comes last."""
    if files.exists(f"{target}/{MANIFEST}"):
        storage.delete_file(f"{target}/{MANIFEST}")
    storage.create_dir(target, recursive=True)
    storage.delete_dir_contents(target, missing_dir_ok=True)
    for name in [*_data_files(source), MANIFEST]:
        storage.create_dir(f"{target}/{name}".rpartition("/")[0], recursive=True)
        storage.copy_file(f"{source}/{name}", f"{target}/{name}")


def _clear_leftovers(root: str, key: str) -> None:
    """Remove what killed attempts of this key have left; not what is at work under a key that begins alike."""
    left = re.compile(rf"\.spark_flow-{re.escape(key)}-[0-9a-f]{{8}}")
    for info in files.listing(root):
        if left.fullmatch(info.base_name):
            files.remove(files.join(root, info.base_name))


def _data_files(folder: str) -> dict[str, int]:
    """Data files below a folder by their relative name, with their size in bytes."""
    _, inner = files.of(folder)
    found = {
        str(info.path)[len(inner) :].strip("/"): info.size
        for info in files.listing(folder, recursive=True)
        if info.is_file
    }
    return {name: size for name, size in found.items() if not _hidden(name)}


def _hidden(name: str) -> bool:
    """What Spark's own readers pass over."""
    return name.rpartition("/")[2].startswith(("_", "."))


def _make(kind: Format, path: str, partition_by: str | Sequence[str], options: Mapping[str, str] | None) -> FolderSink:
    columns = (partition_by,) if isinstance(partition_by, str) else tuple(partition_by)
    return FolderSink(kind, path, columns, dict(options or {}))


def csv(path: str, *, partition_by: str | Sequence[str] = (), options: Mapping[str, str] | None = None) -> FolderSink:
    """CSV files with a header, a folder per key, as a sink; ``options`` are those of Spark's CSV writer."""
    return _make("csv", path, partition_by, {"header": "true", **(options or {})})


def json(path: str, *, partition_by: str | Sequence[str] = (), options: Mapping[str, str] | None = None) -> FolderSink:
    """JSON lines, a folder per key, as a sink; ``options`` are those of Spark's JSON writer."""
    return _make("json", path, partition_by, options)


def parquet(
    path: str, *, partition_by: str | Sequence[str] = (), options: Mapping[str, str] | None = None
) -> FolderSink:
    """Parquet files, a folder per key, as a sink; ``options`` are those of Spark's Parquet writer."""
    return _make("parquet", path, partition_by, options)
