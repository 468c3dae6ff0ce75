"""What a run reads and writes, as OpenLineage names it: a namespace, a name, columns and figures. No Spark is asked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from spark_flow.storage import files, key_folder
from spark_flow.storage.sources import Source, schema_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyspark.sql.types import StructType

    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run

_OF_FOLDERS = ("csv", "json", "parquet")
_PARTITIONS = re.compile(r"(?<=[^/:])(/[^/=]+=[^/]*)+/?$")


@dataclass(frozen=True, kw_only=True)
class Data:
    """A place that was read or written.

    Attributes:
        path: Absolute, or a URI.
        source: How its columns are found; none where a manifest has them.
        manifest: The folder whose manifest has the columns.
        is_table: Whether it is a Delta table, whose place is its own whatever it is called.
        version: Of a Delta table the version, of a folder the revision.
        rows: Rows written.
        completeness: As recorded with the write.
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
        """OpenLineage's namespace and name of a path.

        A partition's folder has the name of what holds it, as Spark's listener has it: the days and hours of a
        table are one dataset, in both kinds of events (decision 0018).

        >>> Data(path="s3://bucket/flights/date=2013-01-02/hour=07").name
        ('s3://bucket', 'flights')
        """
        path = self.path if self.is_table else _PARTITIONS.sub("", self.path)
        if not files.is_uri(path):
            return "file", path
        parts = urlsplit(path)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.strip("/") or "/"

    def columns(self) -> list[tuple[str, str]]:
        """Names and types, from metadata."""
        if self.manifest:
            schema = key_folder.read_manifest(self.manifest).get("schema", {})
            return [_column(each) for each in schema.get("fields", [])]
        if self.source is None:
            return []
        if isinstance(self.source.schema, str):
            return _of_ddl(self.source.schema)  # Spark's own parser needs a session, and there may be none
        known = schema_of(self.source)
        return _of_struct(known) if known is not None else []  # only Spark could tell, by reading data


def inputs_of(run: Run, node: str) -> list[Data]:
    """What a node is made from: each folder, file or table of its sources, a Delta table at its pinned version."""
    found = []
    for name in run.graph.reads(node):
        source = run.graph.sources[name]
        version = source.version if source.version is not None else _pinned(run, name, source)
        for path in source.paths:
            at = Source(source.format, path, source.schema, options=source.options, version=version)
            told = "" if version is None else str(version)
            found.append(Data(path=path, source=at, is_table=source.format == "delta", version=told))
    return found


def _pinned(run: Run, name: str, source: Source) -> int | None:
    for node in (name, f"{name}/source"):
        outcome = run.outcome(node) or run.recorded(node, source.fingerprint)
        if source.format == "delta" and outcome is not None and "version" in outcome.detail:
            return int(outcome.detail["version"])
    return None


def output_of(outcome: Outcome) -> Data | None:
    """What a node wrote; none if it is no sink, or one that does not tell a place."""
    detail = outcome.detail
    if outcome.kind != "sink" or outcome.state not in ("succeeded", "reused") or "path" not in detail:
        return None
    path, kind = str(detail["path"]), str(detail.get("format", ""))
    told: dict[str, Any] = {"rows": outcome.rows, "completeness": detail.get("completeness", ())}
    if "version" in detail:
        table = Source("delta", path, version=int(detail["version"]))
        return Data(path=path, source=table, is_table=True, version=str(detail["version"]), **told)
    if kind in _OF_FOLDERS:
        return Data(path=path, manifest=path, version=str(detail["revision"]), **told)
    return Data(path=path, **told)


def _column(field: Mapping[str, Any]) -> tuple[str, str]:
    kind = field["type"]
    return str(field["name"]), kind if isinstance(kind, str) else str(kind.get("type", "struct"))


def _of_struct(schema: StructType) -> list[tuple[str, str]]:
    return [(each.name, each.dataType.simpleString()) for each in schema.fields]


def _of_ddl(text: str) -> list[tuple[str, str]]:
    """The columns of DDL text.

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
