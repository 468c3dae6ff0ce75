"""Leases: the right to run, over processes and hosts, with no server but the storage.

A claim stands in the register of its pool (``claims.py`` has the rules). Its process renews it; one that does not is
taken over by those who wait. A claim is dead if

- its process was on this machine and has gone: told at once; or
- it was not renewed for as long as its ``ttl``, by the monotonic clock of one who has watched it; or
- by the time of day it has expired, and one who watches sees no renewal although one was due. A claim that expires
  later than any of this clock would was written by one that was ahead: it is watched for its whole ``ttl``.

No two clocks are compared alone: they differ and jump. Who is taken over by mistake, or was only stopped and wakes up,
is kept out by its fencing token (``spark_flow.ledger.Fence``), and cannot write a revision that was written.
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

OnBusy = Literal["wait", "queue", "exit"]

TTL = 60.0
QUEUE = 100
RENEWALS = 3  # in each ttl
_AHEAD = 2  # ttls from now: what expires later was written by a clock that is, or was, ahead of this one
_LOOKS = (0.02, 0.3)  # seconds between two looks at a pool: the first pause, and the longest of who is next
_LOOKS_LATER = (5, 5.0)  # as many before one make its longest pause twice as long, up to so many seconds
_AGAIN = (0.01, 2.0)  # seconds before a change that was overtaken is made again: the first pause, and the longest


@dataclass(frozen=True)
class Place:
    """A pool's register, and its name for people.

    Attributes:
        name: ``pipelines/<name>`` or ``pools/<name>``.
        register: Where its claims stand.
    """

    name: str
    register: Register

    def read(self) -> Pool:
        """Its claims now.

        Raises:
            StateDamaged: They cannot be read.
        """
        return self._pool(self.register.read()[1])

    def change(self, how: Callable[[Pool], Pool]) -> Pool:
        """Change it as if nobody else did: what others changed meanwhile is read, and the change made on top.

        Raises:
            StateDamaged: See ``read``.
        """
        pause = _AGAIN[0]
        while True:
            version, content = self.register.read()
            before = self._pool(content)
            after = how(before)
            if after == before or self.register.swap(version, after.as_content()):
                return after
            # Many who try again at once would overtake each other for ever, and nobody's lease be renewed in time.
            time.sleep(random.uniform(0, pause))  # noqa: S311
            pause = min(pause * 2, _AGAIN[1])

    def _pool(self, content: Mapping[str, Any]) -> Pool:
        try:
            return Pool.of(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            fix = "When nothing runs that uses it, remove the folder: it is made anew."
            raise StateDamaged(f"leases of {self.name}", describe(error), "claims", fix) from error


@dataclass(frozen=True)
class Leases:
    """A folder of registers, which all processes share that shall not disturb each other.

    Attributes:
        root: A path or URI.
    """

    root: str

    def of_pipeline(self, pipeline: str) -> Place:
        """Where the runs of a pipeline claim their keys."""
        return self._place(f"pipelines/{pipeline}", create=True)

    def of_pool(self, pool: str) -> Place:
        """Where runs of many pipelines claim slots."""
        return self._place(f"pools/{pool}", create=True)

    def all(self) -> list[Place]:
        """All that are there."""
        kinds = ("pipelines", "pools")
        names = [f"{kind}/{i.base_name}" for kind in kinds for i in files.listing(files.join(self.root, kind))]
        return [self._place(name, create=False) for name in names]

    def _place(self, name: str, *, create: bool) -> Place:
        return Place(name, DeltaRegister(files.join(files.absolute(self.root), name), create=create))


# --- processes -------------------------------------------------------------------------------------------------


def this_process() -> Holder:
    """This process as a holder."""
    pid = os.getpid()
    return Holder(host=socket.gethostname(), pid=pid, place=_machine(), started=_start_of(pid))


def has_gone(holder: Holder) -> bool:
    """Whether a holder's process was on this machine and has ended; false where it cannot be known."""
    return bool(holder.place) and holder.place == _machine() and _start_of(holder.pid) != holder.started


@functools.cache
def _machine() -> str:
    """This start of this machine, and the space that its process numbers are of (Linux); empty elsewhere."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start_of(pid: int) -> str:
    """When a process was started, in ticks of its machine; empty when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]  # ended, and its parent has not asked how


# --- one claim, from its wish to its end -------------------------------------------------------------------------


class Lease:
    """The right to run, for as long as it is renewed; made by ``hold``."""

    def __init__(
        self, place: Place, claim: Claim, took: Sequence[str], clock: Clock, seen: tuple[float, float]
    ) -> None:
        self.claim = claim
        self.took_over = tuple(took)
        self._place = place
        self._clock = clock
        self._lost = ""
        self._told = seen
        self._stop = threading.Event()

    @property
    def fence(self) -> Fence:
        """What the ledger refuses an older holder by."""
        return Fence(f"{self.claim.pipeline}/{self.claim.key}", self.claim.token)

    @property
    def facts(self) -> dict[str, Any]:
        """What is recorded of it where the run begins."""
        told = {"pool": self._place.name, "token": self.claim.token, "holder": str(self.claim.holder)}
        return {**told, "took_over": list(self.took_over)} if self.took_over else told

    def check(self) -> None:
        """Whether it is held still. Storage is asked only if it may have expired, as after a pause of the process.

        Raises:
            LeaseLost: Others may run now.
        """
        if (
            not self._lost
            and max(now - then for now, then in zip(_times(self._clock), self._told, strict=True)) >= self.claim.ttl
        ):
            self.renew()
        if self._lost:
            raise LeaseLost(self._place.name, self.claim.key, self._lost)

    def renew(self) -> None:
        """One more beat; what is gone from the register is lost for good."""
        times = _times(self._clock)
        pool = self._place.change(lambda pool: pool.renew(self.claim.id, _seconds(self._clock)))
        if pool.find(self.claim.id) is not None:
            self._told = times
            return
        taken = next((each for each in reversed(pool.taken) if each.claim.id == self.claim.id), None)
        self._lost = f"{taken.why}; taken by {taken.by}" if taken else "it is not in the register any more"

    @contextlib.contextmanager
    def renewed(self) -> Iterator[None]:
        """Renew it beside the work."""
        thread = threading.Thread(target=self._keep, name=f"spark_flow-lease-{self.claim.key}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _keep(self) -> None:
        while not self._lost and not self._stop.wait(self.claim.ttl / RENEWALS):
            # Storage that does not answer now may do so next time; after the ttl, ``check`` asks it and raises.
            with contextlib.suppress(Exception):
                self.renew()


@dataclass(frozen=True)
class Rights:
    """Several leases as one: the first is the run's own, the others are slots of pools."""

    leases: tuple[Lease, ...]

    @property
    def fence(self) -> Fence:
        """The first one's."""
        return self.leases[0].fence

    @property
    def facts(self) -> dict[str, Any]:
        """Those of the first; of the others the pool and the slots."""
        slots = {lease.facts["pool"]: lease.claim.slots for lease in self.leases[1:]}
        return {**self.leases[0].facts, **({"slots": slots} if slots else {})}

    def check(self) -> None:
        """Whether all are held still.

        Raises:
            LeaseLost: One is not.
        """
        for lease in self.leases:
            lease.check()


@contextlib.contextmanager
def hold(
    place: Place,
    pipeline: str,
    key: str,
    *,
    slots: int = 1,
    limit: int | None = None,
    busy: OnBusy = "wait",
    queue: int = QUEUE,
    ttl: float = TTL,
    above: int = 0,
    tell: Callable[[str], None] = lambda _: None,
    clock: Clock | None = None,
    holder: Holder | None = None,
) -> Iterator[Lease]:
    """Hold a lease while the block runs: wait for it in the order of arrival, renew it, release it.

    Args:
        place: The pool.
        pipeline: What wants to run.
        key: The unit of work; two of one pipeline and key never run at once.
        slots: How many of the pool it takes.
        limit: How many slots the pool has; ``None``: as many as others say who run or wait, or no limit.
        busy: ``wait``; ``queue``: wait, but only if fewer than ``queue`` do; ``exit``: do not wait.
        queue: See there.
        ttl: Seconds after which a process that was stopped or cut off may be taken over.
        above: The highest token that the ledger knows of the unit: the lease's is higher, whatever became of the pool.
        tell: Told what it waits for, whenever that changes.
        clock: Time; by default the machine's.
        holder: The process; by default this one.

    Raises:
        Busy: It is held by others, and ``busy`` is ``exit``.
        OtherLimit: Those who run or wait have another limit.
        QueueFull: Too many wait.
        UnknownPool: It wants more slots than there are.
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
    waiter = _Waiter(place, claim, clock or Clock(), tell, above)
    try:
        lease = waiter.wait(busy, queue)
        with lease.renewed():
            yield lease
    finally:
        try:
            place.change(lambda pool: pool.release(claim.id, _seconds(waiter.clock)))
        except Exception as error:  # what was done is done, and what went wrong before matters more
            tell(f"{key} could not release {place.name}, which others get after {ttl:.0f} s: {describe(error)}")


@dataclass
class _Waiter:
    """One claim on its way to the head of the queue, with an eye on those before it."""

    place: Place
    claim: Claim
    clock: Clock
    tell: Callable[[str], None]
    above: int = 0
    took: list[str] = field(default_factory=list)
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)
    _told: str = ""

    def wait(self, busy: OnBusy, queue: int) -> Lease:
        """Until it is a lease."""
        seen = _times(self.clock)  # before each look: a process may be stopped right after it, and taken for dead
        pool = self._ask(busy, queue)
        beaten, pause, before = self.clock.monotonic(), _LOOKS[0], -1
        while True:
            mine = pool.find(self.claim.id)
            if mine is None:  # taken for dead while this process was stopped: from the end again
                seen = _times(self.clock)
                pool = self._ask(busy, queue)
                continue
            if 0 < mine.token <= self.above:
                pool = self.place.change(lambda pool: pool.lift(self.claim.id, self.above))
                continue
            if mine.token:
                return Lease(self.place, mine, self.took, self.clock, seen)
            self._tell(pool)
            self._take(self._silent(pool))
            if self.clock.monotonic() - beaten >= self.claim.ttl / RENEWALS:
                self.place.change(lambda pool: pool.renew(self.claim.id, _seconds(self.clock)))
                beaten = self.clock.monotonic()
            ahead = [claim.id for claim in pool.waiting].index(self.claim.id)
            if ahead != before:  # it moves: who is next looks often, for it may be served at once
                before, pause = ahead, _LOOKS[0] * (1 + ahead)
            self.clock.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that many do not look at once
            pause = min(pause * 1.5, self._longest(ahead))
            seen = _times(self.clock)
            pool = self.place.read()

    def _longest(self, ahead: int) -> float:
        """The longest pause between two looks: who is far behind looks seldom, or many would only read."""
        every, most = _LOOKS_LATER
        return min(_LOOKS[1] * (1 + ahead / every), most, self.claim.ttl / RENEWALS)

    def _ask(self, busy: OnBusy, queue: int) -> Pool:
        def ask(pool: Pool) -> Pool:
            return pool.ask(self.place.name, self.claim, now=_seconds(self.clock), busy=busy, queue=queue)

        self._take(self._gone(self.place.read()))
        try:
            return self.place.change(ask)
        except (Busy, QueueFull, OtherLimit):
            if not self._take(self._overdue()):
                raise
        return self.place.change(ask)

    def _gone(self, pool: Pool) -> dict[Claim, str]:
        return {claim: f"its process {claim.holder} has gone" for claim in pool.claims if has_gone(claim.holder)}

    def _silent(self, pool: Pool) -> dict[Claim, str]:
        """Claims without a renewal for as long as their ttl, as seen from here."""
        now, silent = self.clock.monotonic(), self._gone(pool)
        for claim in pool.claims:
            beat, since = self._seen.get(claim.id, (-1, now))
            if beat != claim.beat:
                self._seen[claim.id] = (claim.beat, now)
            elif now - since >= claim.ttl and claim.id != self.claim.id:
                silent.setdefault(claim, f"not renewed for {now - since:.0f} s")
        return silent

    def _overdue(self) -> dict[Claim, str]:
        """Claims that look dead by the time of day, and of which no renewal is seen while one is due."""
        left = self._suspects()
        if not left:
            return {}
        self._tell_once(f"waits to see whether {', '.join(map(str, left))} is renewed")
        waited, longest = 0.0, max(left.values())
        while left and waited < longest:
            pause = min(longest - waited, *(claim.ttl / RENEWALS for claim in left))
            self.clock.sleep(pause)
            waited += pause
            there = set(self.place.read().claims)  # one that was renewed is another value
            left = {claim: span for claim, span in left.items() if claim in there}
            longest = max(left.values(), default=0.0)
        return dict.fromkeys(left, f"not renewed for {waited:.0f} s")

    def _suspects(self) -> dict[Claim, float]:
        """Claims whose expiry is past, or further ahead than clocks differ; and how long each is to be watched."""
        now, found = _seconds(self.clock), {}
        for claim in self.place.read().claims:
            if now > claim.expires:
                found[claim] = 1.5 * claim.ttl / RENEWALS
            elif claim.expires > now + _AHEAD * claim.ttl:
                found[claim] = claim.ttl
        return found

    def _take(self, why: Mapping[Claim, str]) -> bool:
        """End dead claims, if they are still as they were seen; whether one was ended by this."""
        if not why:
            return False
        ids, now = {claim.id for claim in why}, _seconds(self.clock)
        pool = self.place.change(lambda pool: pool.take(why, self.claim.holder, now))
        mine = [each for each in pool.taken if each.claim.id in ids and (each.by, each.at) == (self.claim.holder, now)]
        self.took += [f"{each.claim} was taken over: {each.why}" for each in mine]
        return bool(mine)

    def _tell(self, pool: Pool) -> None:
        ahead = [claim.id for claim in pool.waiting].index(self.claim.id)
        others = f", {ahead} wait before it" if ahead else ""
        held = ", ".join(map(str, pool.held)) or "nobody"
        self._tell_once(f"{self.claim.key} waits for {self.place.name}: held by {held}{others}")

    def _tell_once(self, words: str) -> None:
        if words != self._told:
            self._told = words
            self.tell(words)


def free(place: Place, wanted: str, *, clock: Clock | None = None) -> tuple[Claim, ...]:
    """Release by hand the claims of a key, or one by its id: whoever holds it is kept out from now; returns them."""
    seconds = _seconds(clock or Clock())
    found: tuple[Claim, ...] = ()

    def take(pool: Pool) -> Pool:
        nonlocal found
        found = tuple(claim for claim in pool.claims if wanted in (claim.key, claim.id))
        return pool.take(dict.fromkeys(found, "released by hand"), this_process(), seconds)

    place.change(take)
    return found


def _times(clock: Clock) -> tuple[float, float]:
    return clock.monotonic(), _seconds(clock)


def _seconds(clock: Clock) -> float:
    return clock.now().timestamp()
