"""Files and folders that are not tables, on any storage: a thin layer on ``pyarrow.fs``."""

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

if TYPE_CHECKING:
    from collections.abc import Sequence


def is_uri(path: str) -> bool:
    """Whether a path names another storage than the local disk, as ``s3://bucket/x`` does."""
    return "://" in path and not path.startswith("file:")


def absolute(path: str) -> str:
    """A URI as it is; a local path from the current folder."""
    if is_uri(path):
        return path.rstrip("/")
    local = path.removeprefix("file:")
    return os.path.abspath(f"/{local.lstrip('/')}" if local.startswith("/") else local)  # noqa: PTH100 - resolve() would follow links


def join(*parts: str) -> str:
    """Join parts of a path or URI by ``/``."""
    return "/".join([parts[0].rstrip("/"), *(p.strip("/") for p in parts[1:])])


def of(path: str) -> tuple[fs.FileSystem, str]:
    """The storage of a path or URI, and the path within it."""
    storage, inner = fs.FileSystem.from_uri(path) if is_uri(path) else (fs.LocalFileSystem(), absolute(path))
    return storage, inner


def exists(path: str) -> bool:
    """Whether a file or folder is there."""
    storage, inner = of(path)
    return bool(storage.get_file_info(inner).type != fs.FileType.NotFound)


def listing(path: str, *, recursive: bool = False) -> list[fs.FileInfo]:
    """What is in a folder; empty when the folder is not there."""
    storage, inner = of(path)
    selector = fs.FileSelector(inner, recursive=recursive, allow_not_found=True)
    return sorted(storage.get_file_info(selector), key=lambda info: str(info.path))


def remove(path: str) -> None:
    """Remove a folder or file, if it is there."""
    storage, inner = of(path)
    kind = storage.get_file_info(inner).type
    if kind == fs.FileType.Directory:
        storage.delete_dir(inner)
    elif kind == fs.FileType.File:
        storage.delete_file(inner)


def read_bytes(path: str) -> bytes:
    """A file's content.

    Raises:
        FileNotFoundError: There is no such file.
    """
    storage, inner = of(path)
    with storage.open_input_stream(inner) as stream:
        return bytes(stream.read())


def write_bytes(path: str, content: bytes) -> None:
    """Write a file so that a reader sees all of it or none."""
    storage, inner = of(path)
    storage.create_dir(inner.rpartition("/")[0], recursive=True)
    if not can_rename(storage):  # an object is visible when its upload is complete
        with storage.open_output_stream(inner) as stream:
            stream.write(content)
        return
    staged = f"{inner}.{uuid.uuid4().hex}.tmp"
    if storage.type_name == "local":
        _write_local(staged, inner, content)
        return
    with storage.open_output_stream(staged) as stream:
        stream.write(content)
    storage.move(staged, inner)


def _write_local(staged: str, target: str, content: bytes) -> None:
    """Write, flush to the disk, rename: without the flush, a power loss can leave an empty file under the new name."""
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
    with contextlib.suppress(OSError):  # of a folder: not every file system can
        folder = os.open(os.path.dirname(target), os.O_RDONLY)  # noqa: PTH120 - as above
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_json(path: str, *, fix: str = "") -> dict[str, Any]:
    """A JSON file that we wrote: a mapping.

    Args:
        path: The file.
        fix: What to do when it is damaged, for the error.

    Raises:
        DamagedFile: It is empty, cut, or no JSON mapping.
        FileNotFoundError: There is no such file.
    """
    content = read_bytes(path)
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        what = f"{len(content)} bytes that are no JSON ({describe(error)[:80]})" if content else "an empty file"
        raise DamagedFile(path, what, fix) from error
    if not isinstance(found, dict):
        raise DamagedFile(path, f"JSON that is no mapping ({type(found).__name__})", fix)
    return found


def write_json(path: str, content: object) -> None:
    """Write a JSON file so that a reader sees all of it or none."""
    write_bytes(path, json.dumps(content, indent=1, sort_keys=True, default=str).encode())


def checksum(folder: str, names: Sequence[str]) -> str:
    """A checksum of files: their names below a folder, sizes and contents; four at once, each read as a stream."""
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
    """Whether a folder moves in one step: true of local disks and HDFS, not of object stores."""
    return storage.type_name in {"local", "hdfs"}


def for_spark(path: str) -> str:
    """A path for Spark's writers and for Delta tables, whatever Spark's default storage is; taken literally."""
    return path if is_uri(path) else f"file://{absolute(path)}"


def for_spark_files(path: str) -> str:
    r"""A path for Spark's readers of files, which take it for a pattern: special characters are escaped.

    >>> for_spark_files("/out/part[1]")
    'file:///out/part\\[1\\]'
    """
    return re.sub(r"[\[\]{}*?\\]", r"\\\g<0>", for_spark(path))


_MISREAD = re.compile(r"[#?\\\[\]]|%[0-9A-Fa-f]{2}")


def for_deltalake(path: str) -> str:
    """A Delta table's path for ``deltalake``, which parses it as a URL.

    Raises:
        InvalidPath: It holds ``#``, ``?``, a bracket, a backslash, or ``%`` and two hexadecimal digits: Spark takes
            them literally, ``deltalake`` does not, so that each would use another folder.
    """
    found = _MISREAD.search(path)
    if found:
        raise InvalidPath(path, found[0], "Delta tables are read by two libraries that disagree about it")
    return absolute(path)


def from_delta_log(table: str, name: str) -> str:
    """The path of a data file as a Delta log names it: percent-encoded, below the table's folder unless absolute."""
    plain = unquote(name)
    return plain if is_uri(plain) or plain.startswith("/") else join(absolute(table), plain)
