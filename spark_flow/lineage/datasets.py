"""The datasets that a run reads and writes, as OpenLineage describes them; determined without Spark."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from spark_flow.storage import files, key_folder
from spark_flow.storage.sources import TABLE, Source, schema_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql.types import StructType

    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run

_OF_FOLDERS = ("csv", "json", "parquet")
_PARTITIONS = re.compile(r"(?<=[^/:])(/[^/=]+=[^/]*)+/?$")


@dataclass(frozen=True, kw_only=True)
class Data:
    """A dataset that was read or written.

    Attributes:
        path: An absolute path or a URI.
        source: The source from which to determine the columns; ``None`` if there is a manifest or no columns are known.
        manifest: The folder whose manifest has the columns.
        is_table: Whether this is a Delta table, whose path is the dataset even if it looks like a partition.
        version: The version of a Delta table, or the revision of a folder.
        rows: The number of rows written.
        completeness: The completeness that was recorded with the write.
    """

    path: str
    source: Source | None = None
    manifest: str = ""
    is_table: bool = False
    version: str = ""
    rows: int | None = None
    completeness: Sequence[Mapping[str, Any]] = field(default_factory=tuple)

    @property
    def name(self) -> tuple[str, str]:
        """OpenLineage namespace and name.

        A partition's folder has the name of the folder that contains the partitions, as in Spark's listener: all days
        and hours of a table are one dataset, in both kinds of events (decision 0018).

        >>> Data(path="s3://bucket/flights/date=2013-01-02/hour=07").name
        ('s3://bucket', 'flights')
        """
        if self.path.startswith(f"{TABLE}://"):
            return "spark_catalog", self.path.removeprefix(f"{TABLE}://")
        path = self.path if self.is_table else _PARTITIONS.sub("", self.path)
        if not files.is_uri(path):
            return "file", path
        parts = urlsplit(path)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.strip("/") or "/"

    def columns(self) -> list[tuple[str, str]]:
        """Return column names and types, from metadata only."""
        if self.manifest:
            schema = key_folder.read_manifest(self.manifest).get("schema", {})
            return [_column(each) for each in schema.get("fields", [])]
        if self.source is None:
            return []
        if isinstance(self.source.schema, str):
            return _of_ddl(self.source.schema)  # Spark's parser needs a session, which may not exist
        known = schema_of(self.source)
        return _of_struct(known) if known is not None else []  # otherwise Spark would have to read data


def inputs_of(run: Run, node: str) -> list[Data]:
    """Return a node's inputs: each folder, file or table of its sources, with a Delta table's pinned version."""
    found = []
    for name in run.graph.reads(node):
        source = run.graph.sources[name]
        version = source.version if source.version is not None else _pinned(run, name, source)
        if source.format == TABLE:
            found += [Data(path=path, is_table=True, version=text_of(version)) for path in source.paths]
            continue
        for path in source.paths:
            at = Source(source.format, path, source.schema, options=source.options, version=version)
            found.append(Data(path=path, source=at, is_table=source.format == "delta", version=text_of(version)))
    return found


def text_of(version: int | None) -> str:
    """A version as OpenLineage has it; empty without one."""
    return "" if version is None else str(version)


def _pinned(run: Run, name: str, source: Source) -> int | None:
    for node in (name, f"{name}/source"):
        outcome = run.outcome(node) or run.recorded(node, source.fingerprint)
        if source.format in ("delta", TABLE) and outcome is not None and "version" in outcome.detail:
            return int(outcome.detail["version"])
    return None


def output_of(outcome: Outcome) -> Data | None:
    """Return the dataset that a node wrote; ``None`` if it is not a sink, or a sink without a path."""
    detail = outcome.detail
    if outcome.kind != "sink" or outcome.state not in ("succeeded", "reused") or "path" not in detail:
        return None
    path, kind = str(detail["path"]), str(detail.get("format", ""))
    written: dict[str, Any] = {"rows": outcome.rows, "completeness": detail.get("completeness", ())}
    if "version" in detail:
        table = Source("delta", path, version=int(detail["version"]))
        return Data(path=path, source=table, is_table=True, version=str(detail["version"]), **written)
    if kind in _OF_FOLDERS:
        return Data(path=path, manifest=path, version=str(detail["revision"]), **written)
    return Data(path=path, **written)


def _column(field: Mapping[str, Any]) -> tuple[str, str]:
    kind = field["type"]
    return str(field["name"]), kind if isinstance(kind, str) else str(kind.get("type", "struct"))


def _of_struct(schema: StructType) -> list[tuple[str, str]]:
    return [(each.name, each.dataType.simpleString()) for each in schema.fields]


def _of_ddl(text: str) -> list[tuple[str, str]]:
    """Return the columns of a DDL text.

    >>> _of_ddl("id INT NOT NULL, `a b`: ARRAY<STRUCT<x: INT, y: DECIMAL(3, 1)>> COMMENT 'z'")
    [('id', 'int'), ('a b', 'array<struct<x: int, y: decimal(3, 1)>>')]
    """
    found, depth, start = [], 0, 0
    quoted = ""
    for at, character in enumerate(f"{text},"):
        if quoted or character in "'`":
            quoted = "" if character == quoted else quoted or character
        depth += 0 if quoted else (character in "<(") - (character in ">)")
        if character == "," and not depth and not quoted:
            found.append(text[start:at])
            start = at + 1
    return [_of_one(column) for column in found if column.strip()]


def _of_one(column: str) -> tuple[str, str]:
    match = re.fullmatch(r"\s*(`[^`]+`|[^\s:]+)\s*:?\s*(.+?)\s*", column, re.DOTALL)
    if match is None:
        return column.strip(), ""
    kind = re.split(r"\s+(?:NOT\s+NULL|COMMENT|DEFAULT)\b", match[2], maxsplit=1, flags=re.IGNORECASE)[0]
    return match[1].strip("`"), kind.lower()
