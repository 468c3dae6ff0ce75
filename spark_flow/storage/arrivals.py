"""Record the files of a source when it is read, so that a later change can be detected."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_flow.core.clock import Clock
from spark_flow.errors import InvalidArgument
from spark_flow.storage import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

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


@dataclass(frozen=True, kw_only=True)
class Wait:
    """How long to wait for a source's data (the book's file sensor).

    Attributes:
        timeout: Seconds after the start of the run; then the run ends with exit code 75.
        stable_for: Seconds for which names, sizes and times of the files must not change: a copy may be under way.
        interval: Seconds between two looks.

    Raises:
        InvalidArgument: A value is negative, or the interval is not above 0.
    """

    timeout: float
    stable_for: float = 0.0
    interval: float = 5.0

    def __post_init__(self) -> None:
        """Refuse what cannot be waited for."""
        for name, least in (("timeout", 0.0), ("stable_for", 0.0), ("interval", 0.001)):
            if getattr(self, name) < least:
                raise InvalidArgument(f"Wait: {name}", f"{getattr(self, name)}", f"seconds, {least:g} or more")


def until_there(
    look: Callable[[], tuple[Sequence[fs.FileInfo], Sequence[str]]],
    wait: Wait,
    *,
    began: float,
    report: Callable[[str], None],
    clock: Clock | None = None,
) -> tuple[list[fs.FileInfo], list[str]]:
    """Look for files until all are there and do not change, or the timeout is over.

    Args:
        look: Returns the files that are there, and the paths that are missing.
        wait: The timeout, and how long files must not change.
        began: When the time began, on the clock.
        report: Called before each pause with what is still missing.
        clock: The clock (for tests).

    Returns:
        The files, and what is missing or still changes at the timeout; empty if nothing is.
    """
    clock = clock or Clock()
    before, since = "", clock.monotonic()
    while True:
        found, missing = look()
        now = clock.monotonic()
        listing = facts((), found)["digest"]
        if listing != before:
            before, since = listing, now
        changing = now - since < wait.stable_for
        if not missing and not changing:
            return list(found), []
        left = began + wait.timeout - now
        waiting = [*missing] or [f"{files_of(found)}, which still change"]
        if left <= 0:
            return list(found), waiting
        report(f"{', '.join(waiting)}; {left:.0f} s left")
        clock.sleep(min(wait.interval, left))


def files_of(found: Sequence[fs.FileInfo]) -> str:
    """Name files by the first one and their number."""
    first = str(found[0].path) if found else "files"
    return first if len(found) < 2 else f"{first} and {len(found) - 1} more"  # noqa: PLR2004 - the first one


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
