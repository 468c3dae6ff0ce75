"""The file of ``--summary-json``: checked before any work, and written when a run ends."""

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
    """Check that a summary can be written, and remove the one of an earlier run.

    Raises:
        InvalidArgument: The file cannot be written.
    """
    if path is None:
        return
    expected = "a local file that this user can write"
    scheme, is_uri, _ = str(path).partition(":/")
    if is_uri and len(scheme) > 1 and scheme.isalnum():
        raise InvalidArgument(_OPTION, str(path), expected)
    if path.is_dir():
        raise InvalidArgument(_OPTION, f"a folder: {path}", expected)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
        if path.is_file():  # not a device such as /dev/stdout
            path.unlink()  # else, if this run is killed, an old summary would be read as its own
    except OSError as error:
        raise InvalidArgument(_OPTION, f"{path} ({describe(error)})", expected) from error


def write_summary(path: Path | None, facts: Mapping[str, Any]) -> None:
    """Write the summary of a run.

    Raises:
        SummaryNotWritten: The file cannot be written, although the check before the run succeeded.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise SummaryNotWritten(str(path), describe(error)) from error


def write_refused(path: Path | None, error: SparkFlowError, facts: Mapping[str, Any]) -> None:
    """Write the summary of a run that ended with an error before it started, unless a summary exists."""
    if path is None or path.exists() or (isinstance(error, InvalidArgument) and error.where == _OPTION):
        return
    write_summary(path, {**facts, "state": end_of(error), "reason": describe(error)})
