"""CSV, JSON and Parquet folders as sinks: staged next to the target, then swapped in with a manifest as proof.

A key's folder is ``<path>/<first partition column>=<key>``, or ``<path>/key=<key>`` without partitions. A
reader sees the old folder or the new one. Where storage cannot rename a folder (object stores), the files
are copied and the manifest is written last: a folder without a manifest counts as missing.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from spark_flow.core import fingerprint, secrets
from spark_flow.core.names import check_name
from spark_flow.errors import DamagedFile, InvalidArgument, NotRepresentable, WriteNotProved, describe
from spark_flow.storage import files, key_rows
from spark_flow.storage.content import Content, measured, observed
from spark_flow.storage.key_folder import MANIFEST, data_files, missing_files, read, read_manifest, rows_in_footers
from spark_flow.storage.sink_protocol import ALL, Intent, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

Format = Literal["csv", "json", "parquet"]

_TIMES = {  # Spark's default formats truncate to milliseconds
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}
_WRITE: Mapping[Format, Mapping[str, str]] = {
    # RFC 4180: quotes are doubled, and leading and trailing blanks belong to the text.
    "csv": {
        "header": "true",
        "escape": '"',
        "lineSep": "\n",
        "ignoreLeadingWhiteSpace": "false",
        "ignoreTrailingWhiteSpace": "false",
        **_TIMES,
    },
    "json": _TIMES,
    "parquet": {},
}
_READ: Mapping[Format, Mapping[str, str]] = {
    # NULL is written as nothing and an empty text as "". With the default nullValue, which is empty, Spark reads both
    # as NULL; another nullValue distinguishes them.
    "csv": {"multiLine": "true", "nullValue": "\0", "mode": "FAILFAST"},
    "json": {"mode": "FAILFAST"},
    "parquet": {},
}
_FIX = "Write Delta or Parquet, or set options of the format that preserve these values."


@dataclass(frozen=True)
class FolderSink:
    """Files of one format in a folder per key; create one with ``spark_flow.csv``, ``json`` or ``parquet``."""

    format: Format
    path: str
    partition_by: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    file_name: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """The path of the folder that contains the keys' folders."""
        return (self.path,)

    @property
    def fingerprint(self) -> str:
        """A hash of the sink's settings."""
        named = (self.file_name,) if self.file_name else ()
        options = secrets.shown(self.options)
        return fingerprint.of((self.format, files.absolute(self.path), self.partition_by, options, *named))

    def folder(self, key: str) -> str:
        """Return the key's folder."""
        return files.join(files.absolute(self.path), f"{self.partition_by[0] if self.partition_by else 'key'}={key}")

    def replaces(self, key: str) -> Mapping[str, str]:
        """Return what a write replaces: the key's whole folder; see ``TellsRows``."""
        return {self.folder(key): ALL}

    def last_revision(self, app_id: str, key: str, written: Mapping[str, Any] | None = None) -> int:  # noqa: ARG002 - the port's
        """Return the revision in the manifest; 0 if it is missing or damaged, or if any of its files is missing."""
        try:
            manifest = read_manifest(self.folder(key))
        except DamagedFile:
            return 0  # so that the key's folder is written again
        return manifest["revision"] if manifest.get("app_id") == app_id and not missing_files(self.folder(key)) else 0

    def validate(self, intent: Intent) -> None:
        """Accept every intent whose folder Spark can read back: a key's folder can always be replaced.

        Raises:
            InvalidPath: Spark could not read the folder.
        """
        files.for_spark_files(self.folder(intent.key))

    def write(self, frame: DataFrame, intent: Intent) -> Written:
        """Stage the frame next to the key's folder, verify that it reads back unchanged, then swap it in.

        Raises:
            NotRepresentable: Reading back gives different rows: the format cannot represent these values.
            OtherTimeZone: The key now stands for another instant than when its rows were written.
            OutsideKey: The frame holds rows of another key.
            WriteNotProved: The folder has a newer revision, or does not hold this one.
        """
        folder = self.folder(intent.key)
        known = self.last_revision(intent.app_id, intent.key)
        if known == intent.revision:
            return self._written(intent, f"already written at revision {intent.revision}")
        if known > intent.revision:
            raise WriteNotProved(folder, f"no revision above {intent.revision}", f"revision {known}")
        # One staging folder per key: what a killed attempt has left is found without listing the folders of all keys.
        work = files.join(files.absolute(self.path), f".spark_flow-{intent.key}")
        files.remove(work)
        try:
            staged = self._stage(frame, files.join(work, f"new-{uuid.uuid4().hex[:8]}"), intent)
            swap(staged, folder, work=work, check=lambda: intent.mark("before_commit"))
        finally:
            files.remove(work)
        intent.mark("after_commit")
        return self._written(intent, f"written at revision {intent.revision}")

    def _stage(self, frame: DataFrame, staging: str, intent: Intent) -> str:
        """Write the key's folder, with its manifest, below the staging folder, and verify it."""
        staged = files.join(staging, self.folder(intent.key).rpartition("/")[2])
        rows = None
        if self.partition_by:
            rows = key_rows.of_column(frame, self.partition_by[0], intent.node, intent.key)
            rows.check_zone(intent.node, intent.key, self._written_value(intent))
            frame = key_rows.only(frame, rows)
        watched, measure = observed(frame)
        try:
            self._save(watched, staged)
        except Exception as error:
            outside = key_rows.as_outside_key(error, intent.node, intent.key)
            if outside is None:
                raise
            raise outside from error
        written = measure()
        if self.file_name:
            _rename_only_file(staged, self.file_name.format(key=intent.key))
        zone = {"timeZone": rows.zone} if rows is not None and rows.zone else {}
        how: dict[str, Any] = {"format": self.format, "partition_by": self.partition_by}
        write, read = secrets.shown(self._with(_WRITE)), secrets.shown(self._with(_READ))
        how |= {"options": write, "read_options": {**write, **read, **zone}}
        how |= {"schema": frame.schema.jsonValue(), "value": rows.value if rows is not None else ""}
        what = {"app_id": intent.app_id, "revision": intent.revision, "rows": written.rows, "hash": written.hash}
        manifest = what | how | {"files": data_files(staged), "spark_flow": intent.facts}
        files.write_json(files.join(staged, MANIFEST), manifest)
        self._prove(frame.sparkSession, staged, written, intent.node)
        return staged

    def _written_value(self, intent: Intent) -> object:
        """Return the key's value with which the existing folder was written."""
        known = self.last_revision(intent.app_id, intent.key)
        return read_manifest(self.folder(intent.key)).get("value") if known else None

    def _save(self, frame: DataFrame, folder: str) -> None:
        """Write the frame's files; the key's column is in the folder's name and not in the files."""
        data = frame.drop(self.partition_by[0]) if self.partition_by else frame
        data = data.repartition(1) if self.file_name else data
        options = secrets.resolved(self._with(_WRITE))
        writer = data.write.format(self.format).options(**options).partitionBy(*self.partition_by[1:])
        writer.mode("overwrite").save(files.for_spark(folder))

    def _with(self, defaults: Mapping[Format, Mapping[str, str]]) -> dict[str, str]:
        """Return the format's defaults, overridden by the user's options, whose names are case-insensitive."""
        given = {name.lower() for name in self.options}
        ours = {name: value for name, value in defaults[self.format].items() if name.lower() not in given}
        if "quoteall" in given:  # then NULL is written as "" as well
            ours.pop("nullValue", None)
        return {**ours, **self.options}

    def _prove(self, spark: SparkSession, folder: str, written: Content, node: str) -> None:
        """Compare the staged files with what was written: by Parquet's footers, else by reading them."""
        if self.format == "parquet":
            found = rows_in_footers(folder)
            if found != written.rows:
                raise WriteNotProved(folder, f"{written.rows} rows", f"{found}")
            return
        try:
            back = measured(read(spark, folder))
        except Exception as error:
            raise NotRepresentable(node, self.format, f"{written.rows} row(s)", describe(error), _FIX) from error
        if back != written:
            found_ = f"{back.rows} row(s)" + " with other values" * (back.rows == written.rows)
            raise NotRepresentable(node, self.format, f"{written.rows} row(s)", found_, _FIX)

    def _written(self, intent: Intent, words: str) -> Written:
        folder = self.folder(intent.key)
        manifest = read_manifest(folder)
        if manifest.get("revision") != intent.revision or missing_files(folder):
            found = f"revision {manifest.get('revision')}, {len(missing_files(folder))} file(s) missing"
            raise WriteNotProved(folder, f"revision {intent.revision} with all its files", found)
        detail = {"format": self.format, "path": folder, "revision": intent.revision}
        return Written(rows=manifest["rows"], reason=words, detail=detail)


def _rename_only_file(folder: str, name: str) -> None:
    """Rename the only file that Spark wrote into a folder.

    Raises:
        WriteNotProved: There is not exactly one file.
    """
    found = list(data_files(folder))
    if len(found) != 1:
        raise WriteNotProved(folder, f"one file, to be named {name}", f"{len(found)}")
    storage, inner = files.of(folder)
    storage.move(f"{inner}/{found[0]}", f"{inner}/{name}")
    files.remove(files.join(folder, f".{found[0]}.crc"))  # Hadoop's checksum, named after the file


def swap(staged: str, folder: str, *, work: str, check: Callable[[], None]) -> None:
    """Replace a folder by a staged one, and remove its old content.

    Args:
        staged: The new folder.
        folder: The folder to replace.
        work: A hidden folder on the same storage that holds the old content until it is removed.
        check: Called at the last moment; raises if the folder must no longer be replaced.
    """
    storage, source = files.of(staged)
    if not files.can_rename(storage):
        _copy(staged, folder, check)
        return
    # Two renames: between them the key's folder is missing, but it is never incomplete.
    there = files.exists(folder)
    check()
    if there:
        storage.move(files.of(folder)[1], f"{files.of(work)[1]}/old-{uuid.uuid4().hex[:8]}")
    storage.move(source, files.of(folder)[1])


def _copy(staged: str, folder: str, check: Callable[[], None]) -> None:
    """Replace a folder by copying: the old manifest is removed first, the new one is written last."""
    check()
    files.remove(files.join(folder, MANIFEST))
    files.remove(folder)
    storage, target = files.of(folder)
    _, source = files.of(staged)
    for name in data_files(staged):
        storage.create_dir(f"{target}/{name}".rpartition("/")[0], recursive=True)
        storage.copy_file(f"{source}/{name}", f"{target}/{name}")
    check()
    storage.create_dir(target, recursive=True)
    storage.copy_file(f"{source}/{MANIFEST}", f"{target}/{MANIFEST}")


def _make(
    kind: Format, path: str, partition_by: str | Sequence[str], options: Mapping[str, str] | None, file_name: str
) -> FolderSink:
    columns = (partition_by,) if isinstance(partition_by, str) else tuple(partition_by)
    if file_name:
        check_name("file_name", file_name.replace("{key}", "key"))
        if len(columns) > 1:
            raise InvalidArgument(f"{kind}: file_name", f"partition_by {', '.join(columns)}", "the key's column alone")
    return FolderSink(kind, path, columns, dict(options or {}), file_name)


def csv(
    path: str,
    *,
    partition_by: str | Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    file_name: str = "",
) -> FolderSink:
    """Return a sink of CSV files with a header, in one folder per key.

    Text is preserved with line breaks, quotes and blanks: fields are quoted as in RFC 4180, and NULL differs from the
    empty text. The manifest next to the files (``_spark_flow.json``) contains the options for reading them.

    Args:
        path: A folder, as a path or URI; a key's files are in ``<path>/<partition column>=<key>``.
        partition_by: The key's column, followed by further partition columns.
        options: Options of Spark's CSV writer, which override ours.
        file_name: Write a single file of this name, for example ``shop_{key}.csv``, even for a key without rows.
    """
    return _make("csv", path, partition_by, {"header": "true", **(options or {})}, file_name)


def json(
    path: str,
    *,
    partition_by: str | Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    file_name: str = "",
) -> FolderSink:
    """Return a sink of JSON lines, in one folder per key; ``options`` are Spark's, other arguments as in ``csv``."""
    return _make("json", path, partition_by, options, file_name)


def parquet(
    path: str,
    *,
    partition_by: str | Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    file_name: str = "",
) -> FolderSink:
    """Return a sink of Parquet files, in one folder per key; ``options`` are Spark's, other arguments as in ``csv``."""
    return _make("parquet", path, partition_by, options, file_name)
