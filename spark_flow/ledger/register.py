"""A compare-and-swap register: one small document that processes and hosts change without a server.

Two commits to a Delta table that carry an app transaction of one id conflict, so of two writers who have read the same
version one wins and the other reads again (Delta's protocol, "Transaction Identifiers":
https://github.com/delta-io/delta/blob/master/PROTOCOL.md). The document stands in the commit's own metadata: a swap
writes one file of the log and no data.
"""

from __future__ import annotations

import json
import threading
import zlib
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
_SCHEMA = pa.schema([("unused", pa.string())])
# The log of so small a table is all that is read: a checkpoint often, and what it covers is removed after a day.
_PROPERTIES = {"delta.checkpointInterval": "20", "delta.logRetentionDuration": "interval 1 days"}


class Register(Protocol):
    """A document and its version, which rises with each change."""

    def read(self) -> tuple[int, dict[str, Any]]:
        """The version and the document; 0 and an empty one before the first swap."""

    def swap(self, version: int, content: Mapping[str, Any]) -> bool:
        """Put a document in the place of the one that was read as ``version``; false if others were faster."""


class MemoryRegister:
    """A register for tests: the same contract, and gone with the process."""

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
    """A register in a Delta table of its own, whose history is the table's.

    Args:
        path: The table's folder, a path or URI.
        create: Make it where it is missing; without it a missing table reads as empty.

    Raises:
        StateDamaged: What is there is no Delta table that can be read.
        StateNotWritable: It cannot be made.
    """

    def __init__(self, path: str, *, create: bool = True) -> None:
        self._path = files.for_deltalake(path)
        self._lock = threading.Lock()
        self._known: tuple[int, str | None] | None = None  # the version that was read last, and its document
        try:
            damage.check_log(self._path)  # Delta would pass over an empty commit, and a token be given again
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
        try:
            return DeltaTable.create(self._path, _SCHEMA, mode="ignore", configuration=_PROPERTIES)
        except CommitFailedError:
            return DeltaTable(self._path)  # another process was faster
        except (DeltaError, OSError) as error:
            raise StateNotWritable(self._path, describe(error)) from error

    def read(self) -> tuple[int, dict[str, Any]]:
        """See ``Register.read``.

        Raises:
            StateDamaged: The last commit is gone, or not one of ours.
            StateTooNew: It was written by a newer version.
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
        """What the last change has put there; ``None`` if there was none yet.

        A change that came after the version was looked at may be told instead: then no swap of that version succeeds.
        Of processes that create the table at once, the second one's creation is a commit on top of what the first one
        did meanwhile: first few commits are asked for, each of which is a file to read, then all.

        Raises:
            StateDamaged: It is not in the log any more: what stood there is not known, and is not nothing.
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
            raise self._damaged("a commit that is no register's") from error
        if not isinstance(found, int) or found > FORMAT:
            raise StateTooNew(self._path, found, FORMAT)
        return dict(content)

    def _damaged(self, found: str) -> StateDamaged:
        fix = "When nothing runs that uses it, remove the folder: it is made anew. No recorded work is in it."
        return StateDamaged(self._path, found, "a table of leases", fix)

    def swap(self, version: int, content: Mapping[str, Any]) -> bool:
        """See ``Register.swap``.

        Raises:
            StateNotWritable: The register was opened for reading, or storage refuses.
        """
        if self._table is None:
            raise StateNotWritable(self._path, "there is no register here")
        plain = json.loads(json.dumps(content))
        told = {FIELD: json.dumps({"format": FORMAT, "content": plain, "crc": _checksum(plain)})}
        one = CommitProperties(told, max_commit_retries=0, app_transactions=[Transaction(_ID, version + 1)])
        with self._lock:
            if self._table.version() != version:
                return False
            try:
                self._table.create_write_transaction([], "append", _SCHEMA, commit_properties=one)
            except CommitFailedError:
                return False
            except (DeltaError, OSError) as error:
                if self._has_moved_on(version):
                    return False
                raise StateNotWritable(self._path, describe(error)) from error
        return True

    def _has_moved_on(self, version: int) -> bool:
        """Whether others have changed it since; of a process that stood still, they may have removed the old log."""
        try:
            return self._table is not None and DeltaTable(self._path).version() > version
        except (DeltaError, OSError):
            return False


def _checksum(content: Any) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"
