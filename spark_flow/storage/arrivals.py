"""What a source of files held when it was read: recorded, so that a later change of it can be seen."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING, Any

from spark_flow.storage import files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyarrow import fs

_NAMES = 20  # files that are recorded by name

EMPTY = "arrived, empty"


def data_files(path: str) -> list[fs.FileInfo] | None:
    """The files of a path that hold data, hidden ones left out; ``None`` where there is none."""
    storage, inner = files.of(path)
    info = storage.get_file_info(inner)
    if info.is_file:
        return [info]
    found = [i for i in files.listing(path, recursive=True) if i.is_file and not i.base_name.startswith(("_", "."))]
    return found or None


def facts(paths: Sequence[str], found: Iterable[fs.FileInfo]) -> dict[str, Any]:
    """Files as the ledger has them: their number, bytes, newest time, a hash of the listing, and the first names."""
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
    """How files differ from what was recorded of them, in words; empty when they are the same."""
    found = [info for path in recorded["paths"] for info in data_files(path) or ()]
    now = facts(recorded["paths"], found)
    if now["digest"] == recorded["digest"]:
        return ""
    before, after = (f"{each['files']} file(s) of {each['bytes']} bytes, {each['newest']}" for each in (recorded, now))
    return f"its input changed since: {before}; now {after if found else 'nothing is there'}"


def is_empty(recorded: Mapping[str, Any] | None) -> bool:
    """Whether what was recorded are files without a byte."""
    return recorded is not None and not recorded["bytes"]


def _time(nanoseconds: int) -> str:
    return dt.datetime.fromtimestamp(nanoseconds / 1e9, dt.timezone.utc).isoformat(timespec="seconds")
