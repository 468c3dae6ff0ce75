"""Delivers events to a file, a service or the console, in order, from a background thread that never blocks a run."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from spark_flow.core.secrets import redact
from spark_flow.errors import describe
from spark_flow.storage import files

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 5.0  # seconds that the end of a run waits for undelivered events
TIMEOUT = 5.0  # seconds to wait for a response of the service
TRIES = 2  # attempts to send one event
GIVE_UP = 3  # after this many failures in a row, no more events are sent
ENDPOINT = "api/v1/lineage"

Transport = Literal["file", "http", "console"]
Send: TypeAlias = "Callable[[Any], object]"

_log = logging.getLogger("spark_flow.lineage")


@dataclass(frozen=True, kw_only=True)
class Target:
    """The destination of events; its attributes are the keys of ``lineage`` in a job's file.

    Attributes:
        transport: ``file``, ``http`` or ``console``.
        path: The local file to append to, one JSON document per line (``file``).
        url: The URL of the service; ``/api/v1/lineage`` is added if it has no path (``http``).
        api_key: The name of an environment variable with the service's API key (``http``).
        namespace: The namespace of the jobs.
        spark_events: Whether to add the events of OpenLineage's Spark listener.
    """

    transport: Transport = "file"
    path: str = ""
    url: str = ""
    api_key: str = ""
    namespace: str = "spark_flow"
    spark_events: bool = False


class Delivery:
    """Sends events one after another from its own thread.

    Events are also built in that thread. Those that cannot be built or sent are counted, and reported once at the end.
    """

    def __init__(self, target: Target, opened: Callable[[Target], Send] | None = None) -> None:
        self._target = target
        self._open = opened or sender
        self._queue: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._put = 0
        self._sent = 0
        self._in_row = 0
        self._why = ""
        self._thread = threading.Thread(target=self._work, name="spark_flow-lineage", daemon=True)
        self._thread.start()

    def put(self, make: Callable[[], Any]) -> None:
        """Queue an event, given as a function that builds it; returns at once."""
        self._count()
        self._queue.put(make)

    def lost(self, error: BaseException) -> None:
        """Count an event that could not be queued."""
        self._count()
        self._why = _reason(error)

    def _count(self) -> None:
        with self._lock:  # nodes end in several threads
            self._put += 1

    def close(self, within: float = PATIENCE) -> None:
        """Wait up to ``within`` seconds for queued events, and log how many were not delivered."""
        self._queue.put(None)
        self._thread.join(within)
        missing = self._put - self._sent
        if missing:
            slow = f"gave up after {within:g} s" if self._thread.is_alive() else ""
            why = "; ".join(part for part in (self._why, slow) if part)
            where = f"transport {self._target.transport}"
            _log.warning("lineage: %d of %d events were not delivered (%s): %s", missing, self._put, where, why)

    def _work(self) -> None:
        send: Send | None = None
        while (make := self._queue.get()) is not None:
            if self._in_row >= GIVE_UP:
                continue
            try:
                event = make()
                send = send or self._open(self._target)
                _try(send, event)
            except Exception as error:  # lineage never fails a run; ``close`` logs it
                self._why = _reason(error)
                self._in_row += 1
            else:
                self._sent += 1
                self._in_row = 0


def _try(send: Send, event: Any, tries: int = TRIES) -> None:
    try:
        send(event)
    except Exception:
        if tries <= 1:
            raise
        time.sleep(0.2)
        _try(send, event, tries - 1)


def _reason(error: BaseException) -> str:
    """Return the reason of an error without secrets: the text of an HTTP error has the URL."""
    answer = getattr(error, "response", None)
    if answer is not None:
        return f"the service answered {answer.status_code}"
    if type(error).__module__.partition(".")[0] in ("requests", "urllib3"):
        return type(error).__name__
    return redact(describe(error))


def sender(target: Target) -> Send:
    """Create a function that sends events through OpenLineage's transport.

    Raises:
        LookupError: The environment variable with the API key is not set.
        OSError: The file's folder cannot be created.
    """
    from openlineage.client.serde import Serde
    from openlineage.client.transport.file import FileConfig, FileTransport

    if target.transport == "http":
        return _http(target)
    if target.transport == "console":
        return lambda event: print(Serde.to_json(event), flush=True)  # noqa: T201
    path = files.absolute(target.path)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return FileTransport(FileConfig(log_file_path=path, append=True)).emit


def _http(target: Target) -> Send:
    from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider

    auth = TokenProvider({})
    if target.api_key:
        key = os.environ.get(target.api_key, "").strip()
        if not key:
            raise LookupError(f"the environment variable {target.api_key} is not set")
        auth = ApiKeyTokenProvider({"apiKey": key})
    parts = urlsplit(target.url)
    # Retries are ours: urllib3 would log each of its own retries with the URL.
    how: dict[str, Any] = {"timeout": TIMEOUT, "retry": {"total": 0}, "auth": auth}
    endpoint = parts.path.strip("/") or ENDPOINT
    transport = HttpTransport(HttpConfig(url=f"{parts.scheme}://{parts.netloc}/", endpoint=endpoint, **how))

    def send(event: Any) -> None:
        transport.emit(event)
        transport.close()  # do not keep the connection: the next event may be minutes away

    return send
