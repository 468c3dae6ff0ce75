"""The file of ``--summary-json``: can it be written, looked at before any work; and what became of a run, in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from spark_flow.engine.outcome import end_of
from spark_flow.errors import InvalidArgument, SummaryNotWritten, describe

_OPTION = "--summary-json"

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from spark_flow.errors import SparkFlowError


def check_summary(path: Path | None) -> None:
    """Make sure that a summary can be written, and that none of an earlier run is there.

    Raises:
        InvalidArgument: It cannot.
    """
    if path is None:
        return
    expected = "a local file that this user may write"
    scheme, is_uri, _ = str(path).partition(":/")
    if is_uri and len(scheme) > 1 and scheme.isalnum():
        raise InvalidArgument(_OPTION, str(path), expected)
    if path.is_dir():
        raise InvalidArgument(_OPTION, f"a folder: {path}", expected)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
        if path.is_file():  # no device, as /dev/stdout
            path.unlink()  # an old one would be read as this run's, if this one is killed
    except OSError as error:
        raise InvalidArgument(_OPTION, f"{path} ({describe(error)})", expected) from error


def write_summary(path: Path | None, facts: Mapping[str, Any]) -> None:
    """Write what became of a run.

    Raises:
        SummaryNotWritten: It cannot be written, although it could before the run.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise SummaryNotWritten(str(path), describe(error)) from error


def write_refused(path: Path | None, error: SparkFlowError, facts: Mapping[str, Any]) -> None:
    """Write the summary of what ended before it began, if none is there, for those who wait for it."""
    if path is None or path.exists() or (isinstance(error, InvalidArgument) and error.where == _OPTION):
        return
    write_summary(path, {**facts, "state": end_of(error), "reason": describe(error)})
