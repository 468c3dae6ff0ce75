"""The ledger as a Delta table written by ``deltalake``: an append takes 10 to 40 ms and needs no JVM."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from spark_flow.errors import DamagedFile, Fenced, StateDamaged, StateNotWritable, StateTooNew, describe
from spark_flow.ledger import damage
from spark_flow.ledger.event import FORMAT, Event, Fence
from spark_flow.ledger.register import DeltaRegister
from spark_flow.storage import files
from spark_flow.storage.delta_tables import query

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from spark_flow.ledger.event import Kind, State

SCHEMA = pa.schema(
    [
        ("pipeline", pa.string()),
        ("key", pa.string()),
        ("generation", pa.int64()),
        ("attempt", pa.int64()),
        ("seq", pa.int64()),
        ("node", pa.string()),
        ("kind", pa.string()),
        ("state", pa.string()),
        ("revision", pa.int64()),
        ("fingerprint", pa.string()),
        ("rows", pa.int64()),
        ("duration_ms", pa.int64()),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("detail", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)
CLAIM = 600.0  # seconds; a compaction that was killed is not waited for longer
FORMAT_FILE = "_spark_flow_state.json"
COMPACT_EVERY = 50  # commits
MANY, MANY_ON_A_STORE = 50, 20  # files that a run compacts at its end; each is a request to an object store
# Bytes at which a file is full: it is not merged again, so a compaction costs the same however large the ledger is.
# It has some 200,000 events.
FULL = 2 << 20

# Seconds: a process that is suspended in its turn does not stop the others, and they look this often.
_LONGEST_TURN, _LOOK = 5.0, 0.003
_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)  # a compaction does both
# A concurrent creation of the table, or an append during a compaction, sometimes loses its commit. The events
# were not written then, so it is safe to write them again.
_again = retry(
    retry=retry_if_exception_type(CommitFailedError),
    stop=stop_after_attempt(8),
    wait=wait_random_exponential(multiplier=0.05, max=2),
    reraise=True,
)


class DeltaLedger:
    """Events in the Delta table ``<state>/ledger``, one row each.

    Args:
        state: The state folder, a path or URI.
        create: Create the folder and table if missing. Otherwise a missing table reads as empty.

    Raises:
        StateDamaged: The ledger cannot be read.
        StateNotWritable: The folder or table cannot be created.
        StateTooNew: The folder was written by a newer version.
    """

    def __init__(self, state: str, *, create: bool = True) -> None:
        self._path = files.join(files.for_deltalake(state), "ledger")
        self._claims = files.join(files.absolute(state), "compaction")
        self._lock = threading.Lock()
        self._many = MANY_ON_A_STORE if files.is_uri(self._path) else MANY
        self._known: tuple[str, int, int] | None = None  # a fence and its token, at a version of the table
        check_format(state, create=create)
        self._table = self._open(create=create)

    def _open(self, *, create: bool) -> DeltaTable | None:
        try:
            with damage.reading(self._path):
                damage.check_log(self._path)
                return DeltaTable(self._path)
        except TableNotFoundError:
            if not create:
                return None
        except (DeltaError, OSError) as error:
            raise StateNotWritable(self._path, describe(error)) from error
        try:
            return _create(self._path)
        except (DeltaError, OSError) as error:
            raise StateNotWritable(self._path, describe(error)) from error

    def append(self, events: Sequence[Event], fence: Fence | None = None) -> None:
        """Add events in one commit.

        The fence is the commit's application transaction: two commits with the same id conflict, so no other commit
        can come between the check of the token and this one.

        Raises:
            Fenced: See ``Ledger.append``.
            StateNotWritable: The ledger does not exist and was opened without ``create``, or storage rejects the write.
        """
        if self._table is None:
            raise StateNotWritable(self._path, "there is no ledger here")
        rows = pa.Table.from_pylist([_to_row(e) for e in events], schema=SCHEMA)
        with self._lock:
            try:
                with _turn(self._path) as waited:
                    if waited:
                        self._table.update_incremental()
                    before = self._table.version()
                    _again(self._write)(self._table, rows, fence)
            except (DeltaError, OSError) as error:
                raise StateNotWritable(self._path, describe(error)) from error
        if before // COMPACT_EVERY < self._table.version() // COMPACT_EVERY:
            with self._lock:
                self._compact()

    def _write(self, table: DeltaTable, rows: pa.Table, fence: Fence | None) -> None:
        ids = []
        if fence is not None:
            # Looking for it reads the whole log; our last commit at this version has proved it.
            if self._known != (fence.name, fence.token, table.version()):
                seen = table.transaction_version(f"fence/{fence.name}") or 0
                if seen > fence.token:
                    raise Fenced(fence.name, fence.token, seen)
            ids = [Transaction(f"fence/{fence.name}", fence.token)]
        how = CommitProperties(custom_metadata=damage.previous(self._path, table.version()), app_transactions=ids)
        try:
            write_deltalake(table, rows, mode="append", commit_properties=how, post_commithook_properties=_NO_HOOKS)
        except CommitFailedError:
            # A process that lost the race to create the table changed its metadata: ours is out of date.
            table.update_incremental()
            raise
        self._known = (fence.name, fence.token, table.version()) if fence is not None else None

    def read(self, pipeline: str | None = None, key: str | None = None, *, kinds: Collection[Kind] = ()) -> list[Event]:
        """See ``Ledger.read``.

        Raises:
            StateDamaged: The events cannot be read.
        """
        named = {name: value for name, value in (("pipeline", pipeline), ("key", key)) if value is not None}
        wanted = [f"{name} = {_quoted(value)}" for name, value in named.items()]
        wanted += [f"kind IN ({_listed(kinds)})"] if kinds else []
        return sorted(self._events(" AND ".join(wanted)), key=_in_order)

    def recorded_keys(self, pipeline: str | None = None, *, last: int | None = None) -> list[tuple[str, str]]:
        """See ``Ledger.recorded_keys``.

        Raises:
            StateDamaged: The events cannot be read.
        """
        tail = "GROUP BY pipeline, key ORDER BY at DESC, pipeline, key" + (f" LIMIT {last}" if last else "")
        found = self._rows("pipeline, key, max(at) AS at", f"pipeline = {_quoted(pipeline)}" if pipeline else "", tail)
        return [(row["pipeline"], row["key"]) for row in found]

    def latest(self, pipeline: str | None = None, *, last: int) -> list[Event]:
        """See ``Ledger.latest``.

        Raises:
            StateDamaged: The events cannot be read.
        """
        by_pipeline: dict[str, list[str]] = {}
        for name, key in self.recorded_keys(pipeline, last=last):
            by_pipeline.setdefault(name, []).append(key)
        wanted = [f"pipeline = {_quoted(name)} AND key IN ({_listed(keys)})" for name, keys in by_pipeline.items()]
        return sorted(self._events(" OR ".join(wanted)), key=_in_order) if wanted else []

    def runs(self, pipeline: str, state: State, *, last: int) -> list[Event]:
        """See ``Ledger.runs``.

        Raises:
            StateDamaged: The events cannot be read.
        """
        wanted = f"pipeline = {_quoted(pipeline)} AND kind = 'run' AND state = {_quoted(state)}"
        return self._events(wanted, f"ORDER BY at DESC LIMIT {last}")

    def _events(self, wanted: str, tail: str = "") -> list[Event]:
        with damage.reading(self._path, self._table):
            events = [_to_event(row) for row in self._rows("*", wanted, tail)]
        # Two compactions at once have doubled events before there was a claim.
        return list({(e.pipeline, e.key, *e.order, e.node, e.state): e for e in events}.values())

    def _rows(self, what: str, wanted: str, tail: str = "") -> list[dict[str, Any]]:
        """Select from the events; deltalake's query engine filters, which is a hundred times faster than Python."""
        if self._table is None:
            return []
        with self._lock, damage.reading(self._path, self._table):
            self._table.update_incremental()
            return list(query(self._table, what, wanted or None, tail).to_pylist())

    def token(self, name: str) -> int:
        """Return the highest token recorded for a fence, or 0.

        Raises:
            StateDamaged: The ledger cannot be read.
        """
        if self._table is None:
            return 0
        with self._lock, damage.reading(self._path, self._table):
            self._table.update_incremental()
            return self._table.transaction_version(f"fence/{name}") or 0

    def maintain(self) -> None:
        """Compact the table, checkpoint and clean up its log once it has many files."""
        with self._lock:
            if self._table is not None and len(self._table.file_uris()) >= self._many:
                self._compact()

    def compact(self) -> tuple[int, int]:
        """Merge small files now; returns the number of files before and after.

        ``append`` and ``maintain`` do it by themselves, every 50 commits.

        Raises:
            StateDamaged: The events cannot be read.
        """
        with self._lock:
            if self._table is None:
                return 0, 0
            self._table.update_incremental()
            before = len(self._table.file_uris())
            self._compact()
            return before, len(self._table.file_uris())

    def _compact(self) -> None:
        """Merge small files, unless another process does it now.

        deltalake (1.6) lets two compactions of the same files both succeed, which doubles their events.
        """
        register = DeltaRegister(self._claims, probe=False)  # events that were doubled are read once
        version, claim = register.read()
        mine = {"until": time.time() + CLAIM}
        if claim.get("until", 0.0) > time.time() or not register.swap(version, mine):
            return
        try:
            self._compact_alone()
        finally:
            version, claim = register.read()
            if claim == mine:
                register.swap(version, {})

    def _compact_alone(self) -> None:
        if self._table is None:
            return
        with damage.reading(self._path, self._table):
            try:
                self._table.update_incremental()
                self._table.optimize.compact(target_size=FULL)
            except CommitFailedError:
                self._table.update_incremental()
                return
            self._table.create_checkpoint()
            self._table.cleanup_metadata()
            self._table.vacuum(dry_run=False)  # files merged away more than a week ago (Delta's default)


@contextlib.contextmanager
def _turn(path: str) -> Iterator[bool]:
    """Let the processes of one host append one after the other; tells whether this one waited.

    Delta decides who commits. But of processes that commit at once, all but one read the log and try again, which costs
    more than all of the appends.
    """
    if files.is_uri(path):
        yield False
        return
    log, waited = os.open(files.join(path, "_delta_log"), os.O_RDONLY), 0.0
    try:
        while not _locked(log) and waited < _LONGEST_TURN:
            pause = _LOOK * random.uniform(0.5, 1.5)  # noqa: S311 - so that they do not look in step
            time.sleep(pause)
            waited += pause
        yield waited > 0
    finally:
        os.close(log)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # network storage without locks: it is not needed to be right
        return True
    return True


def _create(path: str) -> DeltaTable:
    """Create the table, or open it if another process created it first."""
    # A short log keeps opening fast; the events themselves are never removed.
    configuration = {"delta.logRetentionDuration": "interval 1 days", "delta.checkpointInterval": "1000000"}
    try:
        return DeltaTable.create(path, SCHEMA, mode="ignore", name="spark_flow ledger", configuration=configuration)
    except CommitFailedError:
        return DeltaTable(path)


def check_format(state: str, *, create: bool) -> None:
    """Refuse a state folder of a newer format; write our format into a new one.

    Raises:
        StateDamaged: The format file is empty, truncated or changed.
        StateNotWritable: The format file cannot be written.
        StateTooNew: The folder's format is higher than ``FORMAT``.
    """
    path = files.join(files.absolute(state), FORMAT_FILE)
    fix = f'Restore it from a backup, or write {{"format": {FORMAT}}} into it if this version wrote the folder last.'
    try:
        found = files.read_json(path, fix=fix)
    except FileNotFoundError:
        found = None
    except DamagedFile as damaged:
        raise StateDamaged(path, damaged.found, "the state folder's format", fix) from damaged
    except (OSError, ValueError) as error:  # a URI that pyarrow refuses raises ValueError
        raise StateNotWritable(state, describe(error)) from error
    if found is None:
        if create:
            _write_format(state, path)
        return
    if "format" not in found:
        raise StateDamaged(path, f"{sorted(found)} and no format", "the state folder's format", fix)
    if found["format"] not in range(1, FORMAT + 1):
        raise StateTooNew(state, found["format"], FORMAT)


def _write_format(state: str, path: str) -> None:
    try:
        files.write_json(path, {"format": FORMAT})
    except OSError as error:
        raise StateNotWritable(state, describe(error)) from error


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _listed(values: Collection[str]) -> str:
    return ", ".join(map(_quoted, values))


def _in_order(event: Event) -> tuple[object, ...]:
    return (event.pipeline, event.key, *event.order)


def _to_row(event: Event) -> dict[str, Any]:
    row = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
    row["detail"] = json.dumps(event.detail, sort_keys=True, default=str)
    return row | {"detail": damage.sealed(row)}


def _to_event(row: dict[str, Any]) -> Event:
    return Event(**row | {"detail": json.loads(damage.unsealed(row))})
