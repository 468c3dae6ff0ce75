"""Record the files of a source when it is read, so that a later change can be detected."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING, Any

from spark_flow.storage import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyarrow import fs

_NAMES = 20  # files recorded by name

EMPTY = "arrived, empty"


def data_files(path: str) -> list[fs.FileInfo] | None:
    """Return the data files of a path, without hidden ones; ``None`` if there are none."""
    storage, inner = files.of(path)
    info = storage.get_file_info(inner)
    if info.is_file:
        return [info]
    found = [i for i in files.listing(path, recursive=True) if i.is_file and not i.base_name.startswith(("_", "."))]
    return found or None


def facts(paths: Sequence[str], found: Iterable[fs.FileInfo]) -> dict[str, Any]:
    """Return the ledger's record of files: number, bytes, newest time, a hash of the listing, and the first names."""
    listing = [(str(i.path), int(i.size), int(i.mtime_ns or 0)) for i in found]
    newest = max((mtime for *_, mtime in listing), default=0)
    return {
        "paths": list(paths),
        "files": len(listing),
        "bytes": sum(size for _, size, _ in listing),
        "newest": _time(newest),
        "digest": hashlib.sha256(repr(sorted(listing)).encode()).hexdigest()[:16],
        "names": [[path, size, _time(mtime)] for path, size, mtime in listing[:_NAMES]],
    }


def changed(recorded: Mapping[str, Any]) -> str:
    """Describe how files differ from their record; empty if they are the same."""
    found = [info for path in recorded["paths"] for info in data_files(path) or ()]
    now = facts(recorded["paths"], found)
    if now["digest"] == recorded["digest"]:
        return ""
    before, after = (f"{each['files']} file(s) of {each['bytes']} bytes, {each['newest']}" for each in (recorded, now))
    return f"its input changed since: {before}; now {after if found else 'nothing is there'}"


def is_empty(recorded: Mapping[str, Any] | None) -> bool:
    """Whether all recorded files were empty."""
    return recorded is not None and not recorded["bytes"]


def _time(nanoseconds: int) -> str:
    return dt.datetime.fromtimestamp(nanoseconds / 1e9, dt.timezone.utc).isoformat(timespec="seconds")
