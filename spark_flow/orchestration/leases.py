"""Leases: permission to run, coordinated across processes and hosts through shared storage only.

Each pool has a register of claims (``claims.py`` has the rules). A process renews its claim; a waiting process takes
over a claim that is dead. A claim is dead if

- its process ran on this machine and has ended, which is detected at once; or
- a waiting process has seen no renewal for the claim's ``ttl`` by its own monotonic clock; or
- it has expired by the wall clock, and a waiting process sees no renewal although one is due. An expiry further ahead
  than this clock would produce was written by a clock that was ahead: the claim is watched for its whole ``ttl``.

Clocks of different machines differ and jump, so no decision rests on comparing two of them. A process that was taken
over by mistake, or that was suspended and wakes up, is rejected by its fencing token (``spark_flow.ledger.Fence``) and
cannot write a revision that was already written.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import socket
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spark_flow.core.clock import Clock
from spark_flow.errors import Busy, LeaseLost, OtherLimit, QueueFull, StateDamaged, describe
from spark_flow.ledger import DeltaRegister, Fence, Register
from spark_flow.orchestration.claims import Claim, Holder, Pool
from spark_flow.storage import files
from spark_flow.storage.stores import needs_s3, scheme_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

OnBusy = Literal["wait", "queue", "exit"]

TTL = 60.0
QUEUE = 100
RENEWALS = 3  # renewals in each ttl
_AHEAD = 2  # an expiry more than this many ttls from now was written by a clock ahead of this one
_POLL = (0.02, 0.3)  # seconds between two reads of a pool: the first pause, and the longest for the next in the queue
_POLL_BEHIND = (5, 5.0)  # this many claims ahead double the longest pause, up to this many seconds
_RETRY = (0.01, 2.0)  # seconds before a conflicting change is retried: the first pause, and the longest


@dataclass(frozen=True)
class PoolDocument:
    """A pool's register and its display name.

    Attributes:
        name: ``pipelines/<name>`` or ``pools/<name>``.
        register: Stores the pool's claims.
    """

    name: str
    register: Register

    def read(self) -> Pool:
        """Return the pool as it is now.

        Raises:
            StateDamaged: The register cannot be read.
        """
        return self._pool(self.register.read()[1])

    def change(self, how: Callable[[Pool], Pool]) -> Pool:
        """Apply a change atomically: after a conflicting change, read the pool again and retry.

        Raises:
            StateDamaged: The register cannot be read.
        """
        pause = _RETRY[0]
        while True:
            version, content = self.register.read()
            before = self._pool(content)
            after = how(before)
            if after == before or self.register.swap(version, after.as_content()):
                return after
            # Many processes that retry at once would conflict again and again, and no lease would be renewed in time.
            time.sleep(random.uniform(0, pause))  # noqa: S311
            pause = min(pause * 2, _RETRY[1])

    def _pool(self, content: Mapping[str, Any]) -> Pool:
        try:
            return Pool.of(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            fix = "Remove the folder when no run uses it: it is created again."
            raise StateDamaged(f"leases of {self.name}", describe(error), "claims", fix) from error


@dataclass(frozen=True)
class Leases:
    """A folder of registers, shared by all processes that must coordinate.

    Attributes:
        root: A path or URI.
    """

    root: str

    def of_pipeline(self, pipeline: str) -> PoolDocument:
        """Return the pool in which runs of a pipeline claim their keys."""
        return self._document(f"pipelines/{pipeline}", create=True)

    def of_pool(self, pool: str) -> PoolDocument:
        """Return a workload pool, in which runs of several pipelines claim slots."""
        return self._document(f"pools/{pool}", create=True)

    def all(self, *, only: Collection[str] | None = None) -> list[PoolDocument]:
        """Return all existing pools, or those of some pipelines; each one is a table to open."""
        kinds = ("pipelines", "pools")
        names = [f"{kind}/{i.base_name}" for kind in kinds for i in files.listing(files.join(self.root, kind))]
        if only is not None:
            names = [name for name in names if name.removeprefix("pipelines/") in only]
        return [self._document(name, create=False) for name in names]

    def _document(self, name: str, *, create: bool) -> PoolDocument:
        return PoolDocument(name, DeltaRegister(files.join(files.absolute(self.root), name), create=create))


# --- processes -------------------------------------------------------------------------------------------------


def this_process() -> Holder:
    """Return the current process as a holder."""
    pid = os.getpid()
    return Holder(host=socket.gethostname(), pid=pid, place=_machine(), started=_start_of(pid))


def has_gone(holder: Holder) -> bool:
    """Return whether a holder's process ran on this machine and has ended; false where that is unknown."""
    return bool(holder.place) and holder.place == _machine() and _start_of(holder.pid) != holder.started


@functools.cache
def _machine() -> str:
    """Return the machine's boot id and PID namespace (Linux); empty on other systems."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """Return when a process was started, in ticks of its machine; empty if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]  # a zombie: ended, but not yet reaped by its parent


# --- the life of one claim ---------------------------------------------------------------------------------------


class Lease:
    """Permission to run for as long as it is renewed; obtained from ``hold``."""

    def __init__(
        self, pool: PoolDocument, claim: Claim, took: Sequence[str], clock: Clock, seen: tuple[float, float]
    ) -> None:
        self.claim = claim
        self.took_over = tuple(took)
        self._pool = pool
        self._clock = clock
        self._lost = ""
        self._renewed = seen
        self._stop = threading.Event()

    @property
    def fence(self) -> Fence:
        """Fencing token: the ledger rejects events of a holder with a lower one."""
        return Fence(f"{self.claim.pipeline}/{self.claim.key}", self.claim.token)

    @property
    def facts(self) -> dict[str, Any]:
        """Details of the lease, recorded when the run starts."""
        facts = {"pool": self._pool.name, "token": self.claim.token, "holder": str(self.claim.holder)}
        return {**facts, "took_over": list(self.took_over)} if self.took_over else facts

    def check(self) -> None:
        """Check that the lease is still held; storage is read only if it may have expired.

        Raises:
            LeaseLost: The lease was lost, and other processes may run.
        """
        if (
            not self._lost
            and max(now - then for now, then in zip(_times(self._clock), self._renewed, strict=True)) >= self.claim.ttl
        ):
            self.renew()
        if self._lost:
            raise LeaseLost(self._pool.name, self.claim.key, self._lost)

    def renew(self) -> None:
        """Renew the lease; if its claim is missing from the register, it is lost for good."""
        times = _times(self._clock)
        pool = self._pool.change(lambda pool: pool.renew(self.claim.id, _seconds(self._clock)))
        if pool.find(self.claim.id) is not None:
            self._renewed = times
            return
        taken = next((each for each in reversed(pool.taken) if each.claim.id == self.claim.id), None)
        self._lost = f"{taken.why}; taken by {taken.by}" if taken else "its claim is missing from the register"

    @contextlib.contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew the lease in a thread while the block runs."""
        thread = threading.Thread(target=self._keep, name=f"spark_flow-lease-{self.claim.key}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _keep(self) -> None:
        while not self._lost and not self._stop.wait(self.claim.ttl / RENEWALS):
            # Storage that is unavailable now may answer next time; after the ttl, ``check`` reads it and raises.
            with contextlib.suppress(Exception):
                self.renew()


@dataclass(frozen=True)
class HeldLeases:
    """The leases of one run: the first is for its key, the others are for slots of workload pools."""

    leases: tuple[Lease, ...]

    @property
    def fence(self) -> Fence:
        """Fencing token of the first lease."""
        return self.leases[0].fence

    @property
    def facts(self) -> dict[str, Any]:
        """Details of the first lease, and pool and slots of the others."""
        slots = {lease.facts["pool"]: lease.claim.slots for lease in self.leases[1:]}
        return {**self.leases[0].facts, **({"slots": slots} if slots else {})}

    def check(self) -> None:
        """Check that all leases are still held.

        Raises:
            LeaseLost: One was lost.
        """
        for lease in self.leases:
            lease.check()


@contextlib.contextmanager
def hold(
    pool: PoolDocument,
    pipeline: str,
    key: str,
    *,
    slots: int = 1,
    limit: int | None = None,
    busy: OnBusy = "wait",
    queue: int = QUEUE,
    ttl: float = TTL,
    above: int = 0,
    report: Callable[[str], None] = lambda _: None,
    clock: Clock | None = None,
    holder: Holder | None = None,
) -> Iterator[Lease]:
    """Hold a lease while the block runs: wait for it in order of arrival, renew it, and release it.

    Args:
        pool: The pool.
        pipeline: The pipeline to run.
        key: The unit of work; two runs of the same pipeline and key never hold a lease at once.
        slots: The number of slots that the run takes from the pool.
        limit: The pool's number of slots; ``None`` accepts the limit of other claims, or no limit.
        busy: ``wait``; ``queue``: wait, but only if fewer than ``queue`` claims wait; ``exit``: do not wait.
        queue: The largest number of waiting claims for ``busy="queue"``.
        ttl: Seconds without a renewal after which another process may take the lease over.
        above: The highest token that the ledger has recorded for this unit; the lease's token will be higher, even
            if the pool was lost.
        report: Called with a message whenever the reason for waiting changes.
        clock: The source of time; by default the machine's clocks.
        holder: The process; by default the current one.

    Raises:
        Busy: The lease is held by others, and ``busy`` is ``exit``.
        OtherLimit: Other claims have a different limit.
        QueueFull: Too many claims wait.
        UnknownPool: The run needs more slots than the pool has.
        StateError: The register cannot be read or written.
    """
    claim = Claim(
        id=uuid.uuid4().hex[:12],
        pipeline=pipeline,
        key=key,
        holder=holder or this_process(),
        slots=slots,
        limit=limit,
        ttl=ttl,
    )
    waiter = _Waiter(pool, claim, clock or Clock(), report, above)
    try:
        lease = waiter.wait(busy, queue)
        with lease.renewed():
            yield lease
    finally:
        try:
            pool.change(lambda pool: pool.release(claim.id, _seconds(waiter.clock)))
        except Exception as error:  # the work is done, or its own error matters more
            report(f"{key} could not release its lease in {pool.name}, which expires in {ttl:.0f} s: {describe(error)}")


@dataclass
class _Waiter:
    """Waits with one claim until it is granted, and takes over dead claims meanwhile."""

    pool: PoolDocument
    claim: Claim
    clock: Clock
    report: Callable[[str], None]
    above: int = 0
    took: list[str] = field(default_factory=list)
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)
    _last_message: str = ""

    def wait(self, busy: OnBusy, queue: int) -> Lease:
        """Wait until the claim is granted."""
        seen = _times(self.clock)  # before each read: the process may be suspended right after it, and taken over
        pool = self._ask(busy, queue)
        renewed, pause, before = self.clock.monotonic(), _POLL[0], -1
        while True:
            mine = pool.find(self.claim.id)
            if mine is None:  # taken over while this process was suspended: join the end of the queue
                seen = _times(self.clock)
                pool = self._ask(busy, queue)
                continue
            if 0 < mine.token <= self.above:
                pool = self.pool.change(lambda pool: pool.lift(self.claim.id, self.above))
                continue
            if mine.token:
                return Lease(self.pool, mine, self.took, self.clock, seen)
            self._report(pool)
            self._take(self._silent(pool))
            if self.clock.monotonic() - renewed >= self.claim.ttl / RENEWALS:
                self.pool.change(lambda pool: pool.renew(self.claim.id, _seconds(self.clock)))
                renewed = self.clock.monotonic()
            ahead = [claim.id for claim in pool.waiting].index(self.claim.id)
            if ahead != before:  # the queue moves: poll often near its head, where the claim may be granted soon
                before, pause = ahead, _POLL[0] * (1 + ahead)
            self.clock.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that processes do not poll in step
            pause = min(pause * 1.5, self._longest(ahead))
            seen = _times(self.clock)
            pool = self.pool.read()

    def _longest(self, ahead: int) -> float:
        """Return the longest pause between two reads; claims far behind poll rarely, to keep the load low."""
        every, most = _POLL_BEHIND
        return min(_POLL[1] * (1 + ahead / every), most, self.claim.ttl / RENEWALS)

    def _ask(self, busy: OnBusy, queue: int) -> Pool:
        def ask(pool: Pool) -> Pool:
            return pool.ask(self.pool.name, self.claim, now=_seconds(self.clock), busy=busy, queue=queue)

        self._take(self._gone(self.pool.read()))
        try:
            return self.pool.change(ask)
        except (Busy, QueueFull, OtherLimit):
            if not self._take(self._overdue()):
                raise
        return self.pool.change(ask)

    def _gone(self, pool: Pool) -> dict[Claim, str]:
        return {claim: f"its process {claim.holder} has ended" for claim in pool.claims if has_gone(claim.holder)}

    def _silent(self, pool: Pool) -> dict[Claim, str]:
        """Return claims for which this process has seen no renewal during their whole ttl."""
        now, silent = self.clock.monotonic(), self._gone(pool)
        for claim in pool.claims:
            beat, since = self._seen.get(claim.id, (-1, now))
            if beat != claim.beat:
                self._seen[claim.id] = (claim.beat, now)
            elif now - since >= claim.ttl and claim.id != self.claim.id:
                silent.setdefault(claim, f"not renewed for {now - since:.0f} s")
        return silent

    def _overdue(self) -> dict[Claim, str]:
        """Return claims that have expired by the wall clock and are not renewed while one watches."""
        left = self._suspects()
        if not left:
            return {}
        self._report_change(f"waits to see whether {', '.join(map(str, left))} is renewed")
        waited, longest = 0.0, max(left.values())
        while left and waited < longest:
            pause = min(longest - waited, *(claim.ttl / RENEWALS for claim in left))
            self.clock.sleep(pause)
            waited += pause
            there = set(self.pool.read().claims)  # a claim that was renewed is not equal any more
            left = {claim: span for claim, span in left.items() if claim in there}
            longest = max(left.values(), default=0.0)
        return dict.fromkeys(left, f"not renewed for {waited:.0f} s")

    def _suspects(self) -> dict[Claim, float]:
        """Return claims that have expired, or expire implausibly late, with the seconds to watch each of them."""
        now, found = _seconds(self.clock), {}
        for claim in self.pool.read().claims:
            if now > claim.expires:
                found[claim] = 1.5 * claim.ttl / RENEWALS
            elif claim.expires > now + _AHEAD * claim.ttl:
                found[claim] = claim.ttl
        return found

    def _take(self, why: Mapping[Claim, str]) -> bool:
        """Take over dead claims that have not changed since they were read; return whether any was taken over."""
        if not why:
            return False
        ids, now = {claim.id for claim in why}, _seconds(self.clock)
        pool = self.pool.change(lambda pool: pool.take(why, self.claim.holder, now))
        mine = [each for each in pool.taken if each.claim.id in ids and (each.by, each.at) == (self.claim.holder, now)]
        self.took += [f"{each.claim} was taken over: {each.why}" for each in mine]
        return bool(mine)

    def _report(self, pool: Pool) -> None:
        ahead = [claim.id for claim in pool.waiting].index(self.claim.id)
        others = f", {ahead} ahead in the queue" if ahead else ""
        held = ", ".join(map(str, pool.held)) or "no run"
        self._report_change(f"{self.claim.key} waits for {self.pool.name}: held by {held}{others}")

    def _report_change(self, message: str) -> None:
        if message != self._last_message:
            self._last_message = message
            self.report(message)


@contextlib.contextmanager
def only_writer(path: str, pipeline: str, key: str, report: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Be the only run that commits to a Delta table on S3 while the block runs; elsewhere Delta takes care of that.

    Its log store for S3 protects the writers of one driver only: of two drivers, one would silently replace the other's
    commit (https://docs.delta.io/latest/delta-storage.html). The lease is in the table's folder ``_spark_flow``.

    Args:
        path: The table's folder, a path or URI.
        pipeline: Named to those who wait, with the key.
        key: The key, and the node that writes.
        report: As for ``hold``.

    Raises:
        LeaseLost: It was lost meanwhile, after the block.
    """
    if not needs_s3([scheme_of(path)]):
        yield
        return
    folder = files.join(files.absolute(path), "_spark_flow")
    place = PoolDocument(f"the table {path}", DeltaRegister(folder))
    with hold(place, pipeline, key, limit=1, report=report) as lease:
        yield
        lease.check()  # if it was lost, another run may have replaced the commit: no success is recorded


def free(pool: PoolDocument, wanted: str, *, clock: Clock | None = None) -> tuple[Claim, ...]:
    """Release the claims of a key, or the claim with an id, and return them; their holders can no longer write."""
    seconds = _seconds(clock or Clock())
    found: tuple[Claim, ...] = ()

    def take(pool: Pool) -> Pool:
        nonlocal found
        found = tuple(claim for claim in pool.claims if wanted in (claim.key, claim.id))
        return pool.take(dict.fromkeys(found, "released manually"), this_process(), seconds)

    pool.change(take)
    return found


def _times(clock: Clock) -> tuple[float, float]:
    return clock.monotonic(), _seconds(clock)


def _seconds(clock: Clock) -> float:
    return clock.now().timestamp()
