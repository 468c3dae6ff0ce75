"""Requests to do keys anew that reach over many runs: one that was killed is gone on with, not begun again."""

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
class Request:
    """What asks for the runs.

    Attributes:
        cause: The same for as long as the request is not done (see ``Run.open``).
        done: Set it when nothing is left to do.
    """

    cause: str
    done: bool = False


@contextlib.contextmanager
def request(state: str, pipeline: str, *words: str) -> Iterator[Request]:
    """A request in the state folder, told from others by its words; forgotten once it is done.

    The same words again, after a kill or a failure, are the same request: keys that it has done are reused. After it
    was done to its end they are a new one.

    Raises:
        StateNotWritable: The state folder cannot be read or written.
    """
    made_of = fingerprint.combine(*words)[:12]
    path = files.join(files.absolute(state), "requests", pipeline, f"{made_of}.json")
    try:
        cause = _cause(path, words)
    except (OSError, ValueError) as error:  # a URI of no storage that is known is a ValueError
        raise StateNotWritable(state, describe(error)) from error
    asked = Request(cause)
    yield asked
    if asked.done:
        files.remove(path)


def _cause(path: str, words: tuple[str, ...]) -> str:
    """The cause of a request that was begun and not done, or of a new one."""
    try:
        return str(files.read_json(path)["cause"])
    except (FileNotFoundError, DamagedFile, KeyError):  # a damaged one is a new request: it does more, never less
        cause = f"{' '.join(word for word in words if word)}@{dt.datetime.now(dt.timezone.utc):%Y-%m-%dT%H:%M:%S.%f}"
        files.write_json(path, {"cause": cause})
        return cause
