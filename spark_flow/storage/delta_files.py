"""The data files of a Delta table: which ones a commit added, and whether a recorded write is still there.

Read from the log and from Parquet's footers, by the protocol
(https://github.com/delta-io/delta/blob/master/PROTOCOL.md); never from the log's statistics, which say what was
written and not what is there.
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
    from collections.abc import Callable, Mapping

    from deltalake import DeltaTable

_NAMED = 100  # files that a record names; of more it has a digest
# What changes no rows: Delta says "dataChange": false of it, or it changes no file.
_UPKEEP = ("OPTIMIZE", "REORG", "VACUUM", "SET ", "UNSET ", "ADD ", "DROP CONSTRAINT", "CHANGE ", "UPGRADE ", "CLUSTER")


def recorded(path: str, version: int) -> dict[str, Any] | None:
    """The files that a commit added, to be recorded: their number, bytes, digest and, if few, names.

    ``None`` for an old commit that the log does not hold any more.
    """
    try:
        log = files.read_bytes(files.join(files.absolute(path), "_delta_log", f"{version:020}.json"))
    except FileNotFoundError:
        return None
    actions = [json.loads(line) for line in log.splitlines()]
    return _record({a["add"]["path"]: int(a["add"]["size"]) for a in actions if "add" in a})


def _record(sizes: Mapping[str, int]) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(sorted(sizes.items())).encode()).hexdigest()[:16]
    told = {"count": len(sizes), "bytes": sum(sizes.values()), "digest": digest}
    return told | ({"names": dict(sizes)} if len(sizes) <= _NAMED else {})


def active(table: DeltaTable, column: str = "", key: str = "", value: str = "") -> dict[str, int]:
    """The table's data files, by their names in the log, with their size in bytes.

    Args:
        table: The table, at the version to look at.
        column: A partition column: only the files of the key.
        key: The key.
        value: Its value in that column, where it is a time (``KeyRows.value``).
    """
    actions = pa.table(table.get_add_actions(flatten=True))
    sizes = dict(zip(actions["path"].to_pylist(), actions["size_bytes"].to_pylist(), strict=True))
    if not column:
        return sizes
    wanted = value if value.endswith("Z") else value.replace("T", " ")
    of_key = table.file_uris(file_pruning_predicate=[(column, "=", wanted or key)])
    last = {uri.rpartition("/")[2] for uri in of_key}  # of the two lists, only the files' own names are spelled alike
    return {name: size for name, size in sizes.items() if name.rpartition("/")[2] in last}


def gone(path: str, sizes: Mapping[str, int]) -> list[str]:
    """The data files that are not there with their size, by their paths."""
    places = {files.from_delta_log(path, name): size for name, size in sizes.items()}
    if not places:
        return []
    storage, _ = files.of(path)
    found = storage.get_file_info([files.of(place)[1] for place in places])
    return [
        place
        for (place, size), info in zip(places.items(), found, strict=True)
        if info.type == fs.FileType.NotFound or info.size != size
    ]


def held(table: DeltaTable, detail: Mapping[str, Any], key: str, count: Callable[[str], int]) -> Held:
    """What a table holds now of a recorded write; its ``revision`` is for the caller to fill in.

    Args:
        table: The table, at its newest version.
        detail: The write's record.
        key: The run's key.
        count: Counts the rows of a predicate by reading them.

    Raises:
        MissingInput: Files are gone, or changed in size.
    """
    path, column, written = detail["path"], detail.get("column") or "", detail.get("files") or {}
    names = written.get("names")
    apart = column in table.metadata().partition_columns
    if apart or detail.get("whole"):
        mine = active(table, column if apart else "", key, detail.get("value", ""))
        same = not written or _record(mine)["digest"] == written["digest"]
    else:
        mine = {name: size for name, size in active(table).items() if names is None or name in names}
        same = not written or (names is not None and len(mine) == len(names))
    missing = gone(path, mine)
    if missing:
        raise MissingInput(f"{path} {key}", missing)
    changed = {} if same else _since(table, int(detail["version"]), key)
    if apart or detail.get("whole") or (not detail.get("predicate") and names is not None and same):
        return Held(revision=0, rows=_in_footers(table, path, mine), **changed)
    if not detail.get("predicate"):
        return Held(revision=0, rows=None, unknown="the files that it added are not recorded, or not there any more")
    return Held(revision=0, rows=count(detail["predicate"]), by="deltalake", **changed)


def _in_footers(table: DeltaTable, path: str, sizes: Mapping[str, int]) -> int | None:
    """The rows of data files; ``None`` where the log may say that some of them are deleted."""
    if "deletionVectors" in (table.protocol().reader_features or []):
        return None
    storage, _ = files.of(path)
    inner = [files.of(files.from_delta_log(path, name))[1] for name in sizes]
    return sum(int(pq.read_metadata(name, filesystem=storage).num_rows) for name in inner)


def _since(table: DeltaTable, version: int, key: str) -> dict[str, str]:
    """What has changed a key's files after a version: nothing, or why its rows differ or may differ."""
    for commit in table.history():
        if commit.get("version", 0) <= version:
            return {}
        operation, said = commit["operation"], f"{commit['operation']} at version {commit['version']}"
        to = commit.get("operationParameters", {}).get("version")
        if operation == "RESTORE" and to is not None and int(to) < version:
            return {"differs": f"it was restored to version {to}, from before the write ({said})"}
        other_key = tag_of(commit).get("key", key) != key
        if not operation.startswith(_UPKEEP) and not other_key:
            return {"unknown": f"its files were changed since, by {said}"}
    return {"unknown": f"the log does not reach back to version {version}"}


def tag_of(commit: Mapping[str, Any]) -> Mapping[str, Any]:
    """What we wrote into a commit's ``userMetadata``; empty for another tool's."""
    try:
        tag = json.loads(commit.get("userMetadata") or "{}")
    except ValueError:
        return {}  # another tool's metadata
    found = tag.get("spark_flow", {}) if isinstance(tag, dict) else {}
    return found if isinstance(found, dict) else {}
