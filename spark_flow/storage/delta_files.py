"""Data files of a Delta table: which ones a commit added, and whether a recorded write still exists.

They are read from the log and from Parquet's footers, by the protocol
(https://github.com/delta-io/delta/blob/master/PROTOCOL.md); never from the log's statistics, which describe what was
written and not what exists.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from spark_flow.errors import MissingInput
from spark_flow.storage import files
from spark_flow.storage.sink_protocol import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from deltalake import DeltaTable

_NAMED = 100  # up to this number of files, a record contains their names; beyond it, only a digest
# Operations that do not change rows: Delta marks them as "dataChange": false, or they do not change files.
_UPKEEP = ("OPTIMIZE", "REORG", "VACUUM", "SET ", "UNSET ", "ADD ", "DROP CONSTRAINT", "CHANGE ", "UPGRADE ", "CLUSTER")


def recorded(path: str, version: int) -> dict[str, Any] | None:
    """Return a record of the files that a commit added: their number, bytes, digest and, if few, names.

    ``None`` for an old commit that is no longer in the log.
    """
    try:
        log = files.read_bytes(files.join(files.absolute(path), "_delta_log", f"{version:020}.json"))
    except FileNotFoundError:
        return None
    actions = [json.loads(line) for line in log.splitlines()]
    return _record({a["add"]["path"]: int(a["add"]["size"]) for a in actions if "add" in a})


def rows_added(path: str, version: int) -> int:
    """Count the rows of the files that a commit added, by their Parquet footers."""
    log = files.read_bytes(files.join(files.absolute(path), "_delta_log", f"{version:020}.json"))
    actions = [json.loads(line) for line in log.splitlines()]
    return _rows_in(path, [action["add"]["path"] for action in actions if "add" in action])


def _record(sizes: Mapping[str, int]) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(sorted(sizes.items())).encode()).hexdigest()[:16]
    record = {"count": len(sizes), "bytes": sum(sizes.values()), "digest": digest}
    return record | ({"names": dict(sizes)} if len(sizes) <= _NAMED else {})


def active(table: DeltaTable, column: str = "", key: str = "", value: str = "") -> dict[str, int]:
    """Return the table's data files by their names in the log, with their sizes in bytes.

    Args:
        table: The table, at the version to read.
        column: A partition column, to return only the key's files; by default all files.
        key: The key.
        value: The key's value in that column, if it is a time (``KeyRows.value``).
    """
    actions = pa.table(table.get_add_actions(flatten=True))
    sizes = dict(zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True))
    if not column:
        return sizes
    wanted = value if value.endswith("Z") else value.replace("T", " ")
    of_key = table.file_uris(file_pruning_predicate=[(column, "=", wanted or key)])
    last = {uri.rpartition("/")[2] for uri in of_key}  # the two lists agree only in the file names, not in the paths
    return {name: size for name, size in sizes.items() if name.rpartition("/")[2] in last}


def gone(path: str, sizes: Mapping[str, int]) -> list[str]:
    """Return the paths of the data files that are missing or have another size."""
    expected = {files.from_delta_log(path, name): size for name, size in sizes.items()}
    if not expected:
        return []
    storage, _ = files.of(path)
    found = storage.get_file_info([files.of(file)[1] for file in expected])
    return [
        file
        for (file, size), info in zip(expected.items(), found, strict=True)
        if info.type == fs.FileType.NotFound or info.size != size
    ]


def held(table: DeltaTable, detail: Mapping[str, Any], key: str, count: Callable[[str], int]) -> Held:
    """Return what a table holds now of a recorded write; the caller fills in ``revision``.

    Args:
        table: The table, at its newest version.
        detail: The write's recorded detail.
        key: The run's key.
        count: Counts the rows that match a predicate by reading them.

    Raises:
        MissingInput: Files are missing, or changed in size.
    """
    path, column, written = detail["path"], detail.get("column") or "", detail.get("files") or {}
    names = written.get("names")
    partitioned = column in table.metadata().partition_columns
    if partitioned or detail.get("whole"):
        mine = active(table, column if partitioned else "", key, detail.get("value", ""))
        same = not written or _record(mine)["digest"] == written["digest"]
    else:
        mine = {name: size for name, size in active(table).items() if names is None or name in names}
        same = not written or (names is not None and len(mine) == len(names))
    missing = gone(path, mine)
    if missing:
        raise MissingInput(f"{path} {key}", missing)
    changed = {} if same else _since(table, int(detail["version"]), key)
    if partitioned or detail.get("whole") or (not detail.get("predicate") and names is not None and same):
        return Held(revision=0, rows=_in_footers(table, path, mine), **changed)
    if not detail.get("predicate"):
        return Held(revision=0, rows=None, unknown="the files that it added are not recorded, or no longer exist")
    return Held(revision=0, rows=count(detail["predicate"]), by="deltalake", **changed)


def _in_footers(table: DeltaTable, path: str, sizes: Mapping[str, int]) -> int | None:
    """Count the rows of data files; ``None`` if the table may have deletion vectors."""
    if "deletionVectors" in (table.protocol().reader_features or []):
        return None
    return _rows_in(path, sizes)


def _rows_in(path: str, names: Iterable[str]) -> int:
    storage, _ = files.of(path)
    inner = [files.of(files.from_delta_log(path, name))[1] for name in names]
    return sum(int(pq.read_metadata(name, filesystem=storage).num_rows) for name in inner)


def _since(table: DeltaTable, version: int, key: str) -> dict[str, str]:
    """Return why a key's rows differ or may differ after a version (fields of ``Held``); empty if they do not."""
    for commit in table.history():
        if commit.get("version", 0) <= version:
            return {}
        operation, where = commit["operation"], f"{commit['operation']} at version {commit['version']}"
        to = commit.get("operationParameters", {}).get("version")
        if operation == "RESTORE" and to is not None and int(to) < version:
            return {"differs": f"it was restored to version {to}, from before the write ({where})"}
        other_key = tag_of(commit).get("key", key) != key
        if not operation.startswith(_UPKEEP) and not other_key:
            return {"unknown": f"its files were changed since, by {where}"}
    return {"unknown": f"the log does not reach back to version {version}"}


def tag_of(commit: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what we wrote into a commit's ``userMetadata``; empty for a commit of another tool."""
    try:
        tag = json.loads(commit.get("userMetadata") or "{}")
    except ValueError:
        return {}  # another tool's metadata
    found = tag.get("spark_flow", {}) if isinstance(tag, dict) else {}
    return found if isinstance(found, dict) else {}
