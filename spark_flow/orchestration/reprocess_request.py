"""Requests to reprocess many keys: a request that was killed is resumed by the same command, not started over."""

from __future__ import annotations

import contextlib
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_flow.core import fingerprint
from spark_flow.errors import DamagedFile, StateNotWritable, describe
from spark_flow.storage import files

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class ReprocessRequest:
    """A request to reprocess keys.

    Attributes:
        request_id: Request id (see ``Run.open``); it stays the same until the request is done.
        done: Set this when all keys are done.
    """

    request_id: str
    done: bool = False


@contextlib.contextmanager
def open_request(state: str, pipeline: str, *words: str) -> Iterator[ReprocessRequest]:
    """Open the request identified by ``words`` in the state folder; it is removed once it is done.

    The same words after a kill or a failure resume the request, and keys that it has done are reused. The same words
    after it was done start a new request.

    Raises:
        StateNotWritable: The state folder cannot be read or written.
    """
    identity = fingerprint.combine(*words)[:12]
    path = files.join(files.absolute(state), "requests", pipeline, f"{identity}.json")
    try:
        request_id = _request_id(path, words)
    except (OSError, ValueError) as error:  # a URI that pyarrow refuses raises ValueError
        raise StateNotWritable(state, describe(error)) from error
    opened = ReprocessRequest(request_id)
    yield opened
    if opened.done:
        files.remove(path)


def _request_id(path: str, words: tuple[str, ...]) -> str:
    """Return the id of an unfinished request, or of a new one."""
    try:
        return str(files.read_json(path)["cause"])
    except (FileNotFoundError, DamagedFile, KeyError):  # damaged: a new request does more, never less
        request_id = (
            f"{' '.join(word for word in words if word)}@{dt.datetime.now(dt.timezone.utc):%Y-%m-%dT%H:%M:%S.%f}"
        )
        files.write_json(path, {"cause": request_id})
        return request_id
