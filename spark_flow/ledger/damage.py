"""Detect damage to our Delta tables, and report the damaged file with a remedy.

Delta's reader skips an empty commit, and Parquet's does not verify content. So each event's row contains a checksum,
and on local disks each commit contains the checksum of the previous one; object stores verify their own content.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
from deltalake.exceptions import TableNotFoundError

from spark_flow.errors import SparkFlowError, StateDamaged, describe
from spark_flow.storage import files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from deltalake import DeltaTable

FIELD = "spark_flow.previous"  # in a commit: the previous version, and the checksum of its file
_SEAL = re.compile(r'\{"~": "([0-9a-f]{8})"(?:, |(?=\}))')
_EXPECTED = "a readable ledger"
_REMEDY = (
    "Restore {folder} from a backup, or remove that folder while nothing uses it: each key is then recomputed on its "
    "next run and its rows are replaced, not duplicated, because the targets remember their revisions."
)
_LAST = "It is the last commit: remove the file, and what it recorded runs again. Or: "


@contextlib.contextmanager
def reading(path: str, table: DeltaTable | None = None) -> Iterator[None]:
    """Convert errors of the code that reads a ledger to ``StateDamaged``, with the damaged file.

    Raises:
        StateDamaged: The ledger cannot be read.
    """
    try:
        yield
    except (SparkFlowError, TableNotFoundError):
        raise
    except BaseException as error:
        # A panic in Rust code is not an Exception; the query engine raises nothing more specific than Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        file, found = _broken(path, table) or (path, describe(error))
        raise StateDamaged(file, found, _EXPECTED, _REMEDY.format(folder=path)) from error


def check_log(path: str) -> None:
    """Check the log of a table on a local disk for commits that are empty, truncated or changed.

    Raises:
        StateDamaged: A commit is damaged.
    """
    sums: dict[int, int] = {}
    wanted: dict[int, int] = {}
    commits = _commits(path)
    for version, file in commits.items():
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            continue  # another process has just cleaned up
        try:
            actions = [json.loads(line) for line in content.splitlines()]
            info = next(action["commitInfo"] for action in actions if "commitInfo" in action)
            before, _, recorded = str(info.get(FIELD, "")).partition(":")
            if recorded:  # one of ours: it adds events
                wanted[int(before)] = int(recorded, 16)
                _ = next(action["add"] for action in actions if "add" in action)
        except (ValueError, TypeError, AttributeError, StopIteration) as error:
            found = f"{len(content)} bytes that are not a commit" if content else "an empty file"
            raise _damaged_commit(path, file, found, last=version == max(commits)) from error
        sums[version] = zlib.crc32(content)
    for version, checksum in wanted.items():
        if sums.get(version, checksum) != checksum:
            raise _damaged_commit(path, commits[version], "a commit that was changed", last=False)


def previous(path: str, version: int) -> dict[str, str]:
    """Return the metadata about the previous commit that the next one stores; empty if not on a local disk."""
    if files.is_uri(path):
        return {}
    try:
        content = _log(path).joinpath(f"{version:020}.json").read_bytes()
    except OSError:
        return {}
    return {FIELD: f"{version}:{zlib.crc32(content):08x}"}


def sealed(row: Mapping[str, Any]) -> str:
    """Return a row's detail as JSON that includes a checksum of the whole row."""
    text = str(row["detail"])
    return f'{{"~": "{_sum(row, text):08x}"' + ("}" if text == "{}" else f", {text[1:]}")


def unsealed(row: Mapping[str, Any]) -> str:
    """Return the detail that ``sealed`` was given; a row of an earlier version has no checksum.

    Raises:
        ValueError: The row was changed after it was written.
    """
    text = str(row["detail"])
    seal = _SEAL.match(text)
    if seal is None:
        return text
    plain = "{" + text[seal.end() :]
    if _sum(row, plain) != int(seal.group(1), 16):
        raise ValueError(f"an event of {row['pipeline']} {row['key']} {row['node']} that was changed")
    return plain


def _sum(row: Mapping[str, Any], text: str) -> int:
    values = [value for name, value in sorted(row.items()) if name not in ("detail", "at")]
    return zlib.crc32(json.dumps([*values, f"{row['at']:%Y-%m-%dT%H:%M:%S.%f}", text]).encode())


def _damaged_commit(path: str, file: Path, found: str, *, last: bool) -> StateDamaged:
    fix = _REMEDY.format(folder=path)
    return StateDamaged(str(file), found, _EXPECTED, f"{_LAST}{fix[0].lower()}{fix[1:]}" if last else fix)


def _log(path: str) -> Path:
    return Path(files.absolute(path), "_delta_log")


def _commits(path: str) -> dict[int, Path]:
    """Return the commits that a reader needs: those after the log's last checkpoint."""
    if files.is_uri(path) or not _log(path).is_dir():
        return {}
    names = [file.name for file in _log(path).iterdir()]
    covered = max((int(name[:20]) for name in names if re.match(r"\d{20}\.checkpoint.*\.parquet$", name)), default=-1)
    versions = (int(name[:20]) for name in names if re.fullmatch(r"\d{20}\.json", name))
    return {version: _log(path) / f"{version:020}.json" for version in sorted(versions) if version > covered}


def _broken(path: str, table: DeltaTable | None) -> tuple[str, str] | None:
    """Return the first file of a table that cannot be read, and why; ``None`` if every file can be read."""
    log = [str(file) for file in _log(path).glob("*.checkpoint*.parquet")] if not files.is_uri(path) else []
    try:
        check_log(path)
    except StateDamaged as damaged:
        return damaged.path, damaged.found
    data = [files.from_delta_log(path, uri) for uri in (table.file_uris() if table is not None else [])]
    looked_at = ((file, _unreadable(file)) for file in [*log, *data])
    return next(((file, found) for file, found in looked_at if found), None)


def _unreadable(file: str) -> str:
    try:
        storage, inner = files.of(file)
        pq.read_table(inner, filesystem=storage)
    except Exception as error:
        return describe(error)
    return ""
