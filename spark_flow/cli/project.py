"""``spark-flow init``: a project to start from."""

from __future__ import annotations

import shutil
from pathlib import Path

from spark_flow.errors import InvalidArgument

TEMPLATE = Path(__file__).parent / "template"


def create(name: str) -> Path:
    """Copy the template into a new or empty folder.

    Args:
        name: The folder.

    Returns:
        The folder.

    Raises:
        InvalidArgument: It is a file, is not empty, or cannot be written.
    """
    folder = Path(name)
    try:
        there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        if there:
            found = f"{folder}, which has {', '.join(there[:3])}{', ...' if there[3:] else ''}"
            raise InvalidArgument("init", found, "a new or empty folder")
        shutil.copytree(TEMPLATE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    except OSError as error:
        raise InvalidArgument("init", f"{folder}: {error.strerror or error}", "a folder that can be written") from error
    return folder
