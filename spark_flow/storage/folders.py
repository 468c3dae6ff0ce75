"""CSV, JSON and Parquet folders as sinks: written beside, then swapped in with a manifest as the proof.

A key's folder is ``<path>/<first partition column>=<key>``, or ``<path>/key=<key>`` without partitions. A
reader sees the old folder or the new one. Where storage cannot move a folder at once (object stores), the
files are copied and the manifest is written last: it is then the truth, and a folder without one is not there.
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
from spark_flow.storage.key_folder import MANIFEST, data_files, lacking, read, read_manifest, rows_in_footers
from spark_flow.storage.sink_protocol import ALL, Intent, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

Format = Literal["csv", "json", "parquet"]

_TIMES = {  # Spark's own formats cut to milliseconds
    "timestampFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
    "timestampNTZFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSSSS",
}
_WRITE: Mapping[Format, Mapping[str, str]] = {
    # RFC 4180: quotes are doubled, and blanks at the ends belong to the text.
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
    # NULL is written as nothing and an empty text as "". Spark reads both as nullValue if that is empty, as it is by
    # default; another one tells them apart.
    "csv": {"multiLine": "true", "nullValue": "\0", "mode": "FAILFAST"},
    "json": {"mode": "FAILFAST"},
    "parquet": {},
}
_FIX = "Write Delta or Parquet, or set the format's options to something that holds these values."


@dataclass(frozen=True)
class FolderSink:
    """Files of one format in a folder per key; make one with ``spark_flow.csv``, ``json`` or ``parquet``."""

    format: Format
    path: str
    partition_by: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    file_name: str = ""

    @property
    def paths(self) -> tuple[str, ...]:
        """The one place that it writes to."""
        return (self.path,)

    @property
    def fingerprint(self) -> str:
        """A hash of the sink's settings."""
        named = (self.file_name,) if self.file_name else ()
        options = secrets.shown(self.options)
        return fingerprint.of((self.format, files.absolute(self.path), self.partition_by, options, *named))

    def folder(self, key: str) -> str:
        """The key's folder."""
        return files.join(files.absolute(self.path), f"{self.partition_by[0] if self.partition_by else 'key'}={key}")

    def replaces(self, key: str) -> Mapping[str, str]:
        """All of the key's folder; see ``port.TellsRows``."""
        return {self.folder(key): ALL}

    def remembered(self, app_id: str, key: str, written: Mapping[str, Any] | None = None) -> int:  # noqa: ARG002 - the port's
        """The revision in the manifest, 0 when there is none, it is damaged, or its files are not all there."""
        try:
            manifest = read_manifest(self.folder(key))
        except DamagedFile:
            return 0  # so that the key's folder is written again
        return manifest["revision"] if manifest.get("app_id") == app_id and not lacking(self.folder(key)) else 0

    def admit(self, intent: Intent) -> None:
        """A key's folder can always be replaced."""

    def write(self, frame: DataFrame, intent: Intent) -> Written:
        """Write beside the key's folder, prove that a reader gets what was written, then swap the folder in.

        Raises:
            NotRepresentable: A reader would get other rows: the format cannot hold these values.
            OtherTimeZone: The key's text is another instant than the one that it was written as.
            OutsideKey: The frame holds rows of another key.
            WriteNotProved: A newer revision is there, or the folder does not hold this one.
        """
        folder = self.folder(intent.key)
        known = self.remembered(intent.app_id, intent.key)
        if known == intent.revision:
            return self._written(intent, f"already written at revision {intent.revision}")
        if known > intent.revision:
            raise WriteNotProved(folder, f"no revision above {intent.revision}", f"revision {known}")
        # A name per key: what a killed attempt has left is found without listing the folders of all keys.
        beside = files.join(files.absolute(self.path), f".spark_flow-{intent.key}")
        files.remove(beside)
        try:
            staged = self._stage(frame, files.join(beside, f"new-{uuid.uuid4().hex[:8]}"), intent)
            swap(staged, folder, beside=beside, check=lambda: intent.mark("before_commit"))
        finally:
            files.remove(beside)
        intent.mark("after_commit")
        return self._written(intent, f"written at revision {intent.revision}")

    def _stage(self, frame: DataFrame, staging: str, intent: Intent) -> str:
        """Write the key's folder below the staging folder, its manifest included, and prove it."""
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
        told = {"app_id": intent.app_id, "revision": intent.revision, "rows": written.rows, "hash": written.hash}
        manifest = told | how | {"files": data_files(staged), "spark_flow": intent.facts}
        files.write_json(files.join(staged, MANIFEST), manifest)
        self._prove(frame.sparkSession, staged, written, intent.node)
        return staged

    def _written_value(self, intent: Intent) -> object:
        """The key's value as the folder that is there was written."""
        known = self.remembered(intent.app_id, intent.key)
        return read_manifest(self.folder(intent.key)).get("value") if known else None

    def _save(self, frame: DataFrame, folder: str) -> None:
        """The key's column is in the folder's name, and not in its files."""
        data = frame.drop(self.partition_by[0]) if self.partition_by else frame
        data = data.repartition(1) if self.file_name else data
        options = secrets.resolved(self._with(_WRITE))
        writer = data.write.format(self.format).options(**options).partitionBy(*self.partition_by[1:])
        writer.mode("overwrite").save(files.for_spark(folder))

    def _with(self, defaults: Mapping[Format, Mapping[str, str]]) -> dict[str, str]:
        """The format's defaults under the user's options, whose names Spark reads in any case."""
        given = {name.lower() for name in self.options}
        ours = {name: value for name, value in defaults[self.format].items() if name.lower() not in given}
        if "quoteall" in given:  # then NULL is written as "", too
            ours.pop("nullValue", None)
        return {**ours, **self.options}

    def _prove(self, spark: SparkSession, folder: str, written: Content, node: str) -> None:
        """Compare what a reader gets with what was written: by the footers of Parquet, else by reading it."""
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
            found_ = f"{back.rows} row(s)" + " of other values" * (back.rows == written.rows)
            raise NotRepresentable(node, self.format, f"{written.rows} row(s)", found_, _FIX)

    def _written(self, intent: Intent, words: str) -> Written:
        folder = self.folder(intent.key)
        manifest = read_manifest(folder)
        if manifest.get("revision") != intent.revision or lacking(folder):
            found = f"revision {manifest.get('revision')}, {len(lacking(folder))} file(s) missing"
            raise WriteNotProved(folder, f"revision {intent.revision} with all its files", found)
        detail = {"format": self.format, "path": folder, "revision": intent.revision}
        return Written(rows=manifest["rows"], reason=words, detail=detail)


def _rename_only_file(folder: str, name: str) -> None:
    """Give the only file that Spark wrote into a folder a name.

    Raises:
        WriteNotProved: There is not exactly one.
    """
    found = list(data_files(folder))
    if len(found) != 1:
        raise WriteNotProved(folder, f"one file, to be named {name}", f"{len(found)}")
    storage, inner = files.of(folder)
    storage.move(f"{inner}/{found[0]}", f"{inner}/{name}")
    files.remove(files.join(folder, f".{found[0]}.crc"))  # Hadoop's checksum, by the file's name


def swap(staged: str, folder: str, *, beside: str, check: Callable[[], None]) -> None:
    """Put a staged folder in a folder's place, its old content removed.

    Args:
        staged: The new folder.
        folder: Its place.
        beside: A hidden folder on the same storage, where the old content waits to be removed.
        check: Called at the last moment; raises if the folder must not be replaced any more.
    """
    storage, source = files.of(staged)
    if not files.can_rename(storage):
        _copy(staged, folder, check)
        return
    # Two renames: for the moment between them the key is absent, never half there.
    there = files.exists(folder)
    check()
    if there:
        storage.move(files.of(folder)[1], f"{files.of(beside)[1]}/old-{uuid.uuid4().hex[:8]}")
    storage.move(source, files.of(folder)[1])


def _copy(staged: str, folder: str, check: Callable[[], None]) -> None:
    """Without a rename: the old manifest goes first, the new one comes last."""
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
    """CSV files with a header, a folder per key, as a sink.

    Texts come back as they were, with line breaks, quotes and blanks: fields are quoted as in RFC 4180, and NULL and
    the empty text are told apart. The manifest beside the files (``_spark_flow.json``) has the options to read them by.

    Args:
        path: A folder, a path or URI; a key's files are in ``<path>/<partition column>=<key>``.
        partition_by: The column of the key, and further partition columns.
        options: Those of Spark's CSV writer, in place of ours.
        file_name: Write one file of this name, as ``shop_{key}.csv``, also for a key without rows.
    """
    return _make("csv", path, partition_by, {"header": "true", **(options or {})}, file_name)


def json(
    path: str,
    *,
    partition_by: str | Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    file_name: str = "",
) -> FolderSink:
    """JSON lines, a folder per key, as a sink; ``options`` are those of Spark's writer, the rest as for ``csv``."""
    return _make("json", path, partition_by, options, file_name)


def parquet(
    path: str,
    *,
    partition_by: str | Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    file_name: str = "",
) -> FolderSink:
    """Parquet files, a folder per key, as a sink; ``options`` are those of Spark's writer, the rest as for ``csv``."""
    return _make("parquet", path, partition_by, options, file_name)
