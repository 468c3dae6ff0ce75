"""Files and folders that are not tables, on any storage: a thin layer on ``pyarrow.fs``."""

from __future__ import annotations

import json
import os
import uuid
from typing import Any

from pyarrow import fs


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
    with storage.open_output_stream(staged) as stream:
        stream.write(content)
    storage.move(staged, inner)


def read_json(path: str) -> Any:
    """A JSON file's content.

    Raises:
        FileNotFoundError: There is no such file.
    """
    return json.loads(read_bytes(path))


def write_json(path: str, content: object) -> None:
    """Write a JSON file so that a reader sees all of it or none."""
    write_bytes(path, json.dumps(content, indent=1, sort_keys=True, default=str).encode())


def can_rename(storage: fs.FileSystem) -> bool:
    """Whether a folder moves in one step: true of local disks and HDFS, not of object stores."""
    return storage.type_name in {"local", "hdfs"}


def for_spark(path: str) -> str:
    """The same place for Spark, whose own default may be another storage than the local disk."""
    return path if is_uri(path) else f"file://{absolute(path)}"
