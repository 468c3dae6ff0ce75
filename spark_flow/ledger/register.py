"""Compare-and-swap register: one small document that processes on several hosts change without a server.

Two commits to a Delta table that have an app transaction with the same id conflict: of two writers that read the same
version, one wins and the other reads again (Delta's protocol, "Transaction Identifiers":
https://github.com/delta-io/delta/blob/master/PROTOCOL.md). The document is stored in the commit's metadata: a swap
writes one file to the log and no data.
"""

from __future__ import annotations

import json
import threading
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from spark_flow.errors import StateDamaged, StateNotWritable, StateTooNew, describe
from spark_flow.ledger import damage
from spark_flow.storage import files

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1
FIELD = "spark_flow.register"
_ID = "register"
_WRITERS = 4  # at once, to find out whether storage lets one win
_SCHEMA = pa.schema([("unused", pa.string())])
# Only the log is read: it is checkpointed often, and what a checkpoint covers is removed after a day.
_PROPERTIES = {"delta.checkpointInterval": "20", "delta.logRetentionDuration": "interval 1 days"}


NOT_CONDITIONAL = (
    "its storage ignores the condition of a write (If-None-Match), so that two runs could hold one lease. Use a store "
    "that has conditional writes, as AWS S3 does, or leases: of a run on another storage"
)


def has_conditional_writes(folder: str) -> bool:
    """Whether of writers of one commit the storage keeps the first alone, which compare-and-swap is built on.

    Four writers commit the same version at once, three times. ``deltalake`` lists the log before it writes, so a store
    that ignores the condition is found only where two of them overlap, which is nearly always.

    Raises:
        StateNotWritable: Nothing can be written there.
    """
    path = files.join(files.for_deltalake(folder), f".probe-{uuid.uuid4().hex[:8]}")
    barrier = threading.Barrier(_WRITERS)

    def commit(table: DeltaTable, version: int) -> bool:
        once = CommitProperties(max_commit_retries=0, app_transactions=[Transaction(_ID, version)])
        barrier.wait()
        try:
            table.create_write_transaction([], "append", _SCHEMA, commit_properties=once)
        except CommitFailedError:
            return False
        return True

    try:
        DeltaTable.create(path, _SCHEMA)
        with ThreadPoolExecutor(_WRITERS) as pool:
            for version in range(1, 4):
                tables = [DeltaTable(path) for _ in range(_WRITERS)]
                if sum(pool.map(commit, tables, [version] * _WRITERS)) > 1:
                    return False
    except (DeltaError, OSError) as error:
        raise StateNotWritable(path, describe(error)) from error
    finally:
        files.remove(path)
    return True


class Register(Protocol):
    """A document with a version that rises with each change."""

    def read(self) -> tuple[int, dict[str, Any]]:
        """Return the version and the document; 0 and an empty one before the first swap."""

    def swap(self, version: int, content: Mapping[str, Any]) -> bool:
        """Replace the document that was read as ``version``; returns false if it was changed since."""


class MemoryRegister:
    """An in-memory register for tests, with the same contract."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self._content = "{}"

    def read(self) -> tuple[int, dict[str, Any]]:
        """See ``Register.read``."""
        with self._lock:
            return self._version, json.loads(self._content)

    def swap(self, version: int, content: Mapping[str, Any]) -> bool:
        """See ``Register.swap``."""
        with self._lock:
            if version != self._version:
                return False
            self._version, self._content = version + 1, json.dumps(content)
            return True


class DeltaRegister:
    """A register in a Delta table of its own; each version of the table is a version of the document.

    Args:
        path: The table's folder, a path or URI.
        create: Create the table if missing. Otherwise a missing table reads as empty.
        probe: Try the conditional writes of a store when the table is created there, by some 120 requests.

    Raises:
        StateDamaged: The folder does not hold a readable Delta table.
        StateNotWritable: The table cannot be created.
    """

    def __init__(self, path: str, *, create: bool = True, probe: bool = True) -> None:
        self._path = files.for_deltalake(path)
        self._probes = probe
        self._lock = threading.Lock()
        self._known: tuple[int, str | None] | None = None  # the version read last, and its document
        try:
            damage.check_log(self._path)  # Delta skips an empty commit, and a token would be issued twice
            self._table = self._open(create=create)
        except StateDamaged as damaged:
            raise self._damaged(f"{damaged.found} ({damaged.path})") from damaged
        except (DeltaError, OSError) as error:
            raise self._damaged(describe(error)) from error

    def _open(self, *, create: bool) -> DeltaTable | None:
        try:
            return DeltaTable(self._path)
        except TableNotFoundError:
            if not create:
                return None
        if self._probes and files.is_uri(self._path) and not has_conditional_writes(self._path):
            raise StateNotWritable(self._path, NOT_CONDITIONAL)
        try:
            return DeltaTable.create(self._path, _SCHEMA, mode="ignore", configuration=_PROPERTIES)
        except CommitFailedError:
            return DeltaTable(self._path)  # another process was faster
        except (DeltaError, OSError) as error:
            raise StateNotWritable(self._path, describe(error)) from error

    def read(self) -> tuple[int, dict[str, Any]]:
        """See ``Register.read``.

        Raises:
            StateDamaged: The last commit is missing, or was not written by a register.
            StateTooNew: A newer version of spark_flow wrote it.
        """
        if self._table is None:
            return 0, {}
        with self._lock:
            try:
                self._table.update_incremental()
                version = self._table.version()
                if self._known is None or self._known[0] != version:
                    self._known = (version, self._document(version))
            except (DeltaError, OSError) as error:
                raise self._damaged(describe(error)) from error
            document = self._known[1]
        return version, self._content(document) if document is not None else {}

    def _document(self, version: int) -> str | None:
        """Return the document of the last change; ``None`` if there was none yet.

        A change made after ``version`` was read may be returned instead: then no swap of that version succeeds.
        If several processes create the table at once, a later creation is a commit on top of the changes made
        meanwhile. So a few commits are searched first, since each is a file to read, and then all.

        Raises:
            StateDamaged: The commit is no longer in the log, so the document is unknown.
        """
        commits: list[dict[str, Any]] = []
        for limit in (1, 20, None):
            commits = self._table.history(limit=limit) if self._table is not None else []
            for commit in commits:
                if commit.get("operation") != "CREATE TABLE":
                    return str(commit.get(FIELD))
        if len(commits) <= version:
            raise self._damaged(f"a log without the commit of version {version}")
        return None

    def _content(self, text: str) -> dict[str, Any]:
        try:
            document = json.loads(text)
            found, content = document["format"], document["content"]
            if "crc" in document and document["crc"] != _checksum(content):
                raise self._damaged("a document that was changed")
        except (KeyError, ValueError, TypeError) as error:
            raise self._damaged("a commit that was not written by a register") from error
        if not isinstance(found, int) or found > FORMAT:
            raise StateTooNew(self._path, found, FORMAT)
        return dict(content)

    def _damaged(self, found: str) -> StateDamaged:
        fix = "Remove the folder while nothing uses it: it is created again. It does not contain recorded work."
        return StateDamaged(self._path, found, "a table of leases", fix)

    def swap(self, version: int, content: Mapping[str, Any]) -> bool:
        """See ``Register.swap``.

        Raises:
            StateNotWritable: The table does not exist and was opened without ``create``, or storage rejects the write.
        """
        if self._table is None:
            raise StateNotWritable(self._path, "there is no register here")
        plain = json.loads(json.dumps(content))
        document = {FIELD: json.dumps({"format": FORMAT, "content": plain, "crc": _checksum(plain)})}
        once = CommitProperties(document, max_commit_retries=0, app_transactions=[Transaction(_ID, version + 1)])
        with self._lock:
            if self._table.version() != version:
                return False
            try:
                self._table.create_write_transaction([], "append", _SCHEMA, commit_properties=once)
            except CommitFailedError:
                return False
            except (DeltaError, OSError) as error:
                if self._has_moved_on(version):
                    return False
                raise StateNotWritable(self._path, describe(error)) from error
        return True

    def _has_moved_on(self, version: int) -> bool:
        """Whether others have changed it since; after a long pause, the old log may have been removed as well."""
        try:
            return self._table is not None and DeltaTable(self._path).version() > version
        except (DeltaError, OSError):
            return False


def _checksum(content: Any) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"
