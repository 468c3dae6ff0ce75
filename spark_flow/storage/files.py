"""Files and folders that are not tables, on any storage: a thin layer over ``pyarrow.fs``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pyarrow import fs

from spark_flow.errors import DamagedFile, InvalidPath, describe
from spark_flow.storage import stores

if TYPE_CHECKING:
    from collections.abc import Sequence


def is_uri(path: str) -> bool:
    """Whether a path is on another storage than the local disk, for example ``s3://bucket/x``.

    Raises:
        InvalidPath: It has a scheme that we do not know.
    """
    return stores.scheme_of(path) != ""


def absolute(path: str) -> str:
    """Return a local path as an absolute path, and a URI as we record it; without a slash at the end."""
    if is_uri(path):
        return stores.canonical(path)
    local = path.removeprefix("file:")
    return os.path.abspath(f"/{local.lstrip('/')}" if local.startswith("/") else local)  # noqa: PTH100 - resolve() would follow links


def join(*parts: str) -> str:
    """Join parts of a path or URI by ``/``."""
    return "/".join([parts[0].rstrip("/"), *(p.strip("/") for p in parts[1:])])


def of(path: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path or URI, and the path within it."""
    return stores.filesystem(path) if is_uri(path) else (fs.LocalFileSystem(), absolute(path))


def exists(path: str) -> bool:
    """Whether a file or folder exists."""
    storage, inner = of(path)
    return bool(storage.get_file_info(inner).type != fs.FileType.NotFound)


def listing(path: str, *, recursive: bool = False) -> list[fs.FileInfo]:
    """Return the entries of a folder, sorted by path; empty if the folder does not exist."""
    storage, inner = of(path)
    selector = fs.FileSelector(inner, recursive=recursive, allow_not_found=True)
    return sorted(storage.get_file_info(selector), key=lambda info: str(info.path))


def remove(path: str) -> None:
    """Remove a folder or file if it exists."""
    storage, inner = of(path)
    kind = storage.get_file_info(inner).type
    if kind == fs.FileType.Directory:
        storage.delete_dir(inner)
    elif kind == fs.FileType.File:
        storage.delete_file(inner)


def read_bytes(path: str) -> bytes:
    """Return a file's content.

    Raises:
        FileNotFoundError: There is no such file.
    """
    storage, inner = of(path)
    with storage.open_input_stream(inner) as stream:
        return bytes(stream.read())


def write_bytes(path: str, content: bytes) -> None:
    """Write a file atomically: a reader sees all of it or none."""
    storage, inner = of(path)
    if not can_rename(storage):  # an object becomes visible when its upload is complete, and needs no folder
        with storage.open_output_stream(inner) as stream:
            stream.write(content)
        return
    storage.create_dir(inner.rpartition("/")[0], recursive=True)
    staged = f"{inner}.{uuid.uuid4().hex}.tmp"
    if storage.type_name == "local":
        _write_local(staged, inner, content)
        return
    with storage.open_output_stream(staged) as stream:
        stream.write(content)
    storage.move(staged, inner)


def _write_local(staged: str, target: str, content: bytes) -> None:
    """Write, fsync and rename: without the fsync, a power loss can leave an empty file under the new name."""
    try:
        with open(staged, "wb") as stream:  # noqa: PTH123 - paths are text here
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(staged, target)  # noqa: PTH105 - as above
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(staged)  # noqa: PTH108 - as above
        raise
    with contextlib.suppress(OSError):  # not every file system can fsync a folder
        folder = os.open(os.path.dirname(target), os.O_RDONLY)  # noqa: PTH120 - as above
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_json(path: str, *, fix: str = "") -> dict[str, Any]:
    """Read a JSON file that we wrote; it contains a mapping.

    Args:
        path: The file.
        fix: What to do if it is damaged, for the error message.

    Raises:
        DamagedFile: It is empty, truncated, or not a JSON mapping.
        FileNotFoundError: There is no such file.
    """
    content = read_bytes(path)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        what = f"{len(content)} bytes that are not JSON ({describe(error)[:80]})" if content else "an empty file"
        raise DamagedFile(path, what, fix) from error
    if not isinstance(found, dict):
        raise DamagedFile(path, f"JSON that is not a mapping ({type(found).__name__})", fix)
    return found


def write_json(path: str, content: object) -> None:
    """Write a JSON file atomically: a reader sees all of it or none."""
    write_bytes(path, json.dumps(content, indent=1, sort_keys=True, default=str).encode())


def checksum(folder: str, names: Sequence[str]) -> str:
    """Return a checksum of files: names below a folder, sizes and contents; streams four files at a time."""
    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(_checksum, [join(folder, name) for name in names]))
    return hashlib.blake2b(repr(sorted(zip(names, sums, strict=True))).encode(), digest_size=8).hexdigest()


def _checksum(path: str) -> tuple[int, int]:
    storage, inner = of(path)
    size = crc = 0
    with storage.open_input_stream(inner) as stream:
        while block := stream.read(1 << 20):
            size, crc = size + len(block), zlib.crc32(block, crc)
    return size, crc


def can_rename(storage: fs.FileSystem) -> bool:
    """Whether storage can rename a folder in one step: true for local disks and HDFS, false for object stores."""
    return storage.type_name in {"local", "hdfs"}


def for_spark(path: str) -> str:
    """Return a path for Spark's writers and for Delta tables, independent of Spark's default storage."""
    return stores.for_spark(path) if is_uri(path) else f"file://{absolute(path)}"


def for_spark_files(path: str) -> str:
    r"""Return a path for Spark's file readers, which treat it as a pattern: special characters are escaped.

    >>> for_spark_files("/out/part[1]")
    'file:///out/part\\[1\\]'

    Raises:
        InvalidPath: It contains a colon and a character of patterns.
    """
    _check_colon(path)
    return re.sub(r"[\[\]{}*?\\]", r"\\\g<0>", for_spark(path))


def _check_colon(path: str) -> None:
    """Refuse a path that Hadoop cannot match: beside a name with a pattern, one with a colon is a URI to it."""
    literal = path.removeprefix("file:").replace("{branch}", "")
    if not is_uri(path) and ":" in literal and re.search(r"[{}*]", literal):
        raise InvalidPath(path, ":", "beside {, } or * Spark takes it for the end of a scheme")


_MISREAD = re.compile(r"[#?\\\[\]]|%[0-9A-Fa-f]{2}")


def for_deltalake(path: str) -> str:
    """Return a Delta table's path for ``deltalake``, which parses it as a URL.

    Raises:
        InvalidPath: It contains ``#``, ``?``, a bracket, a backslash, or ``%`` and two hexadecimal digits: Spark takes
            them literally and ``deltalake`` does not, so they would use different folders. Or it contains a colon and a
            character of patterns, which Spark could not read.
    """
    _check_colon(path)
    found = _MISREAD.search(path)
    if found:
        raise InvalidPath(path, found[0], "for a Delta table, Spark and deltalake interpret it differently")
    return absolute(path)


def from_delta_log(table: str, name: str) -> str:
    """Return the path of a data file from its percent-encoded name in a Delta log, relative to the table's folder."""
    plain = unquote(name)
    return plain if is_uri(plain) or plain.startswith("/") else join(absolute(table), plain)
