"""Readiness markers: a JSON file that says a dataset's key is ready, failed or skipped, and pins each table's version.

``<markers>/<dataset>/<key>.json`` is written after the data, atomically, so that a reader never sees part of it. Any
tool can watch it: its format is ``spark_flow/schemas/marker.json`` (a JSON Schema).
"""

from __future__ import annotations

import codecs
import dataclasses
import datetime as dt  # noqa: TC003 - pydantic reads the annotations when a marker is read
import functools
import json
import os
import zlib
from collections.abc import Mapping, Sequence  # noqa: TC003
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Le, MinLen
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from spark_flow.core import fingerprint
from spark_flow.core.completeness import Completeness
from spark_flow.core.names import check_name
from spark_flow.errors import InvalidMarker, InvalidPath, MarkerTooNew, OutsideRoots, WriteNotProved, describe, some
from spark_flow.storage import delta_files, files, key_folder
from spark_flow.storage.delta_tables import open_table

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT = 1
"""The format of markers. A higher one was written by a newer version and is refused."""
MARKERS = "out/markers"
"""The default folder of markers."""
MarkerState = Literal["ready", "failed", "skipped"]
Version = Annotated[int, Ge(0), Le(2**53)]
_OF = ": "  # between a dataset's key and its fan-in; it cannot occur in a node's name


@dataclass(frozen=True, kw_only=True)
class MarkedTable:
    """A table as pinned by a marker.

    Attributes:
        path: A Delta table's folder, or a key's folder of files; an absolute path or a URI.
        format: ``delta``, ``parquet``, ``json`` or ``csv``.
        version: The Delta version that holds the key's rows.
        revision: The revision in the manifest, for a folder of files.
        column: The column whose value is the key; without it the whole table is read.
        value: The key's value in that column if it is a time, in ISO 8601; an instant ends with ``Z``.
        rows: The number of the key's rows.
    """

    path: str
    format: Literal["delta", "parquet", "json", "csv"]
    version: Version | None = None
    revision: Version | None = None
    column: str | None = None
    value: str | None = None
    rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A marker as it was read: its file, generation, revision and content.

    Attributes:
        revision: The marker's revision, which rises with each rerun and each late branch; 0 if there was none yet.
        content: A hash of what the marker pinned. It detects different content under the same revision, as from a
            provider that has lost its state and its markers.
    """

    dataset: str
    key: str
    generation: int
    revision: int
    path: str
    content: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The branches of a fan-in: expected and arrived."""

    node: str
    expected: Annotated[Sequence[str], MinLen(1)]
    arrived: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Told:
    """How complete a key is.

    Attributes:
        ratio: Arrived branches divided by expected ones, 0 to 1, of the least complete fan-in.
        is_approximate: Whether any branch is missing.
        fan_ins: The fan-ins that the key was computed from.
    """

    ratio: Annotated[float, Ge(0), Le(1)] = 1.0
    is_approximate: bool = False
    fan_ins: Sequence[Part] = ()


@dataclass(frozen=True, kw_only=True)
class Marker:
    """What a provider reports about a dataset's key.

    Attributes:
        format: The version of the file format.
        dataset: The name of the dataset that the tables form.
        key: The unit of work, usually a date.
        state: ``ready``, ``failed`` or ``skipped``.
        generation: The generation of the provider's run: 1, and one more for each rerun.
        revision: One more for each new content of this marker.
        tables: The tables by name; empty unless ``ready``.
        rows: The number of rows of all tables.
        completeness: How complete the inputs of the data were.
        made_of: The markers that the provider itself has read.
        expectations: What the provider's checks found, by node: the rows (or values) that violate each rule.
        pipeline: The provider's pipeline.
        run: The id of the provider's run.
        reason: Why it failed or was skipped.
        at: When it was written, by the provider's clock; for information only.
        checksum: A checksum of all other fields that detects damage; empty if a tool does not write one.
    """

    format: int = FORMAT
    dataset: str
    key: str
    state: MarkerState
    generation: Annotated[Version, Ge(1)] = 1
    revision: Annotated[Version, Ge(1)] = 1
    tables: Mapping[str, MarkedTable] = field(default_factory=dict)
    rows: int | None = None
    completeness: Told = field(default_factory=Told)
    made_of: Sequence[Reference] = ()
    expectations: Mapping[str, Mapping[str, Annotated[int, Ge(0)]]] = field(default_factory=dict)
    pipeline: str = ""
    run: str = ""
    reason: str = ""
    at: dt.datetime | None = None
    checksum: str = ""

    @property
    def partial(self) -> tuple[Completeness, ...]:
        """The incomplete fan-ins, each named after the dataset and key that it was first computed for.

        Downstream markers reuse these names, so that they do not grow from hop to hop.
        """
        made = [Completeness.from_record(dataclasses.asdict(part)) for part in self.completeness.fan_ins]
        named = [
            part if _OF in part.node else dataclasses.replace(part, node=f"{self.dataset} {self.key}{_OF}{part.node}")
            for part in made
            if part.is_approximate
        ]
        if self.completeness.is_approximate and not named:  # written by another tool, without fan-ins
            node = f"{self.dataset} {self.key}{_OF}whole"
            named = [Completeness(node=node, expected=("complete",), arrived=())]
        return tuple(named)

    @property
    def is_approximate(self) -> bool:
        """Whether anything is missing, by its own flag or by its fan-ins."""
        return bool(self.partial)

    @property
    def content(self) -> str:
        """A hash of what the marker pins."""
        pinned = {name: [t.path, t.version, t.revision] for name, t in self.tables.items()}
        return fingerprint.combine(self.state, pinned, [dataclasses.asdict(part) for part in self.partial])[:12]

    def at_path(self, path: str) -> Reference:
        """Return the reference that a reader of the marker at ``path`` records."""
        return Reference(
            dataset=self.dataset,
            key=self.key,
            generation=self.generation,
            revision=self.revision,
            path=path,
            content=self.content,
        )

    def __str__(self) -> str:
        """Return for example ``daily_flights 2013-01-02 is ready, generation 1``."""
        partial = f", approximate ({self.completeness.ratio:.0%})" if self.is_approximate else ""
        why = f": {self.reason}" if self.reason else ""
        return f"{self.dataset} {self.key} is {self.state}, generation {self.generation}{partial}{why}"


def path_of(root: str, dataset: str, key: str) -> str:
    """Return the path of a marker.

    Raises:
        InvalidName: The dataset or key cannot be a folder name.
    """
    return files.join(files.absolute(root), check_name("dataset", dataset), f"{check_name('key', key)}.json")


def write(root: str, marker: Marker) -> str:
    """Write a marker atomically; returns its path.

    Raises:
        MarkerTooNew: A newer version of spark_flow wrote the existing marker.
        WriteNotProved: A newer marker exists, or one of the same revision with other content, from a run that
            continued while this one was paused. This is checked before and after the write; the lease of the key
            prevents two writes at the same moment.
    """
    path = path_of(root, marker.dataset, marker.key)
    known = known_at(path)
    if known is not None and known.revision > marker.revision:
        raise WriteNotProved(path, f"no marker above revision {marker.revision}", f"revision {known.revision}")
    if known is not None and known.revision == marker.revision and known.content != marker.content:
        raise WriteNotProved(path, f"revision {marker.revision} with the same content", "other content")
    marker = dataclasses.replace(marker, checksum=_checksum(marker))
    files.write_bytes(path, _adapter().dump_json(marker, indent=1))
    there = known_at(path)
    if there is None or (there.revision, there.content) != (marker.revision, marker.content):
        found = f"revision {there.revision} of another writer" if there else "none"
        raise WriteNotProved(path, f"the marker of revision {marker.revision} that was written", found)
    return path


def known_at(path: str) -> Marker | None:
    """Return the marker at a path; ``None`` if it is missing or damaged, so that it may be overwritten.

    Raises:
        MarkerTooNew: A newer version of spark_flow wrote it.
    """
    try:
        return read(path)
    except MarkerTooNew:
        raise
    except (FileNotFoundError, InvalidMarker):
        return None


def revision(path: str, *, of: str = "") -> int:
    """Return the revision of the marker at a path, 0 if there is no valid one; raises as ``known_at`` does.

    Args:
        path: The marker's path.
        of: The pipeline that must have written it; by default any.
    """
    known = known_at(path)
    return known.revision if known is not None and of in ("", known.pipeline) else 0


def read(path: str) -> Marker:
    """Read the marker at a path.

    Raises:
        FileNotFoundError: There is no marker.
        InvalidMarker: It is truncated, empty, or of another dataset or key than its path.
        MarkerTooNew: A newer version of spark_flow wrote it.
    """
    from pydantic import ValidationError

    content = files.read_bytes(path).removeprefix(codecs.BOM_UTF8)
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as error:
        found = f"{len(content)} bytes that are not JSON ({describe(error)[:80]})" if content else "an empty file"
        raise InvalidMarker(path, found, "a whole JSON document", cut_off=True) from error
    _check_format(path, raw)
    try:
        marker = _adapter().validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        given = "" if first["type"] == "missing" else f" {repr(first['input'])[:80]}"
        raise InvalidMarker(path, f"{field}{given}", first["msg"]) from error
    if marker.checksum not in ("", _checksum(marker)):
        expected = f"checksum {_checksum(marker)}, or none where the file was edited on purpose"
        raise InvalidMarker(path, f"checksum {marker.checksum}", expected)
    *_, dataset, file = path.split("/")
    if (marker.dataset, f"{marker.key}.json") != (dataset, file):
        found = f"dataset {marker.dataset!r} and key {marker.key!r}"
        raise InvalidMarker(path, found, f"those of its path, {dataset!r} and {file.removesuffix('.json')!r}")
    return marker


def _checksum(marker: Marker) -> str:
    facts = _adapter().dump_python(dataclasses.replace(marker, checksum=""), mode="json")
    if not marker.expectations:
        del facts["expectations"]  # a field that earlier versions did not have
    return f"{zlib.crc32(json.dumps(facts, sort_keys=True).encode()):08x}"


def _check_format(path: str, raw: object) -> None:
    found = raw.get("format") if isinstance(raw, dict) else None
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        raise InvalidMarker(path, f"format {found!r}" if isinstance(raw, dict) else "not a mapping", f"format {FORMAT}")
    if found > FORMAT:
        raise MarkerTooNew(path, f"format {found}", f"a format up to {FORMAT}")


def check_tables(path: str, marker: Marker, roots: Sequence[str]) -> None:
    """Check that a marker's tables are inside the allowed folders and still hold what it pins.

    Args:
        path: The marker's path.
        marker: The marker.
        roots: Folders that may contain the tables.

    Raises:
        InvalidMarker: A table or its version is missing.
        OutsideRoots: A table is outside of the folders.
    """
    for name, table in marker.tables.items():
        try:
            inside = any(_within(table.path, root) for root in roots)
            gone = why_missing(table, marker.key) if inside else ""
        except ValueError as error:  # not a path of a known storage
            raise InvalidMarker(path, f"table {name!r} at {table.path!r} ({describe(error)})", "a path") from error
        if not inside:
            raise OutsideRoots(path, f"table {name!r} at {table.path}", f"a path within {some(list(roots))}")
        if gone:
            raise InvalidMarker(path, f"table {name!r} at {table.path}: {gone}", "the data that the marker names")


def _within(path: str, root: str) -> bool:
    try:
        real = _real(path)
    except InvalidPath:
        return False
    return ".." not in real.split("/") and f"{real}/".startswith(f"{_real(root).rstrip('/')}/")


def _real(path: str) -> str:
    """Resolve a path's symbolic links, so that a link cannot lead out of a folder."""
    full = files.absolute(path)
    return full if files.is_uri(full) else os.path.realpath(full)


def why_missing(table: MarkedTable, key: str) -> str:
    """Describe what is missing of a table that a marker pins; empty if it can be read.

    Raises:
        OSError: Storage does not answer, so nothing is known.
    """
    if table.format == "delta":
        return _lacking_delta(table, key)
    if not files.exists(table.path):
        return "it is missing"
    if table.revision is not None:
        return replaced(table)
    missing = key_folder.missing_files(table.path)
    return f"{len(missing)} of its files are missing" if missing else ""


def replaced(table: MarkedTable) -> str:
    """Describe how a folder differs from its pinned revision: another revision or missing files; empty if not."""
    found = key_folder.read_manifest(table.path).get("revision")
    if found != table.revision:
        return f"its manifest has revision {found}, not {table.revision}: it was replaced since"
    missing = key_folder.missing_files(table.path)
    return f"{len(missing)} of its files are missing" if missing else ""


def _lacking_delta(table: MarkedTable, key: str) -> str:
    newest = open_table(table.path)
    if newest is None:
        return "it is missing"
    if table.version is None or table.version > newest.version():  # else deltalake would look for each one between
        return f"version {table.version} does not exist, the newest is {newest.version()}"
    try:
        opened = DeltaTable(files.for_deltalake(table.path), version=table.version)
    except DeltaError as error:
        return f"version {table.version} no longer exists ({describe(error)})"
    column = table.column if table.column in opened.metadata().partition_columns else None
    try:
        needed = delta_files.active(opened, column or "", key, table.value or "")
    except DeltaError as error:
        return f"{table.value or key!r} is not a value of {column} ({describe(error)})"
    missing = delta_files.gone(table.path, needed)
    return f"{len(missing)} of {len(needed)} files of version {table.version} are missing (vacuumed)" if missing else ""


def as_record(marker: Marker) -> dict[str, Any]:
    """Return a marker as plain data for the ledger."""
    return dict(_adapter().dump_python(marker, mode="json", exclude_none=True))


def from_record(record: Mapping[str, Any]) -> Marker:
    """Rebuild a marker from ``as_record``."""
    return _adapter().validate_python(record)


def json_schema() -> dict[str, Any]:
    """Return the format as a JSON Schema; ``spark_flow/schemas/marker.json`` is generated from it."""
    return _adapter().json_schema()


@functools.cache
def _adapter() -> TypeAdapter[Marker]:
    from pydantic import TypeAdapter

    return TypeAdapter(Marker)
