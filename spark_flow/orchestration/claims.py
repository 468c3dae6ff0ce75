"""Claims, pools and the rules that decide which process may run, as pure values.

Nothing here waits, reads a clock or writes. ``leases.py`` stores these values in a register, where each change is one
compare-and-swap, so a rule that holds for one change holds across all processes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spark_flow.errors import Busy, InvalidArgument, OtherLimit, QueueFull, UnknownPool

if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT = 20  # the number of takeovers that a pool remembers


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that made a claim.

    Attributes:
        host: The host name, for display.
        pid: The process id on that host.
        place: The identity of the machine's boot and its PID namespace; empty where it is unknown.
        started: The start time in the machine's ticks; distinguishes processes that had the same process id.
    """

    host: str
    pid: int
    place: str = ""
    started: str = ""

    def __str__(self) -> str:
        """Return ``host:pid``."""
        return f"{self.host}:{self.pid}"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A request to run. Once ``token`` is set it has been granted, and is a lease.

    All times are in seconds since 1970 by the holder's clock.

    Attributes:
        id: The unique id of this claim.
        pipeline: The pipeline to run.
        key: The unit of work. Two claims of the same pipeline and key are never held at once.
        holder: The process that made the claim.
        slots: The number of slots that it takes from the pool.
        limit: The pool's number of slots as configured in this process; ``None`` accepts the limit of other claims.
        ttl: Seconds without a renewal after which the claim may be taken over.
        token: The fencing token, higher for each lease of the pool; 0 while the claim waits.
        beat: The number of renewals so far.
        asked: When the claim was made.
        held: When it became a lease; 0 while it waits.
        expires: When it may be taken over unless it is renewed.
    """

    id: str
    pipeline: str
    key: str
    holder: Holder
    slots: int = 1
    limit: int | None = None
    ttl: float = 60.0
    token: int = 0
    beat: int = 0
    asked: float = 0.0
    held: float = 0.0
    expires: float = 0.0

    def __str__(self) -> str:
        """Return ``pipeline key (host:pid)``."""
        return f"{self.pipeline} {self.key} ({self.holder})"

    @property
    def unit(self) -> tuple[str, str]:
        """Pipeline and key; no two leases have the same."""
        return self.pipeline, self.key


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A claim that another process ended: its process had ended, it expired, or it was released manually."""

    claim: Claim
    why: str
    by: Holder
    at: float


@dataclass(frozen=True, kw_only=True)
class Pool:
    """All claims of one pool in order of arrival; immutable, so each change returns a new pool.

    Attributes:
        token: The last fencing token that was issued.
        claims: Held and waiting claims.
        taken: The most recent takeovers, newest last.
    """

    token: int = 0
    claims: tuple[Claim, ...] = ()
    taken: tuple[Taken, ...] = field(default=())

    @property
    def held(self) -> tuple[Claim, ...]:
        """Claims that are held, which are the leases."""
        return tuple(claim for claim in self.claims if claim.token)

    @property
    def waiting(self) -> tuple[Claim, ...]:
        """Claims that still wait."""
        return tuple(claim for claim in self.claims if not claim.token)

    @property
    def used(self) -> int:
        """Number of slots in use."""
        return sum(claim.slots for claim in self.held)

    @property
    def limit(self) -> int | None:
        """Number of slots of the pool, according to its claims; ``None`` if no claim sets a limit."""
        return next((claim.limit for claim in self.claims if claim.limit is not None), None)

    def find(self, id_: str) -> Claim | None:
        """Return the claim with this id, or ``None``."""
        return next((claim for claim in self.claims if claim.id == id_), None)

    def ask(self, name: str, claim: Claim, *, now: float, busy: str = "wait", queue: int = 100) -> Pool:
        """Append a claim to the queue and grant it if possible.

        Args:
            name: The pool's name, for errors.
            claim: The new claim.
            now: The current time in seconds since 1970.
            busy: What to do when the claim cannot be granted at once: ``wait``, ``queue`` (wait, but only if fewer
                than ``queue`` claims wait) or ``exit``.
            queue: The largest number of waiting claims for ``busy="queue"``.

        Raises:
            Busy: The claim cannot be granted at once, and ``busy`` is ``exit``.
            OtherLimit: The other claims have a different limit.
            QueueFull: Too many claims wait.
            UnknownPool: The claim needs more slots than the pool has.
        """
        limit = self.limit
        if None not in (limit, claim.limit) and limit != claim.limit:
            other = next(each for each in self.claims if each.limit is not None)
            raise OtherLimit(name, int(other.limit or 0), int(claim.limit or 0), str(other))
        limit = claim.limit if limit is None else limit
        if limit is not None and claim.slots > limit:
            raise UnknownPool(name, f"a run that needs {claim.slots} slots", f"at most its {limit}")
        asked = dataclasses.replace(claim, asked=now, expires=now + claim.ttl)
        after = dataclasses.replace(self, claims=(*self.claims, asked)).serve(now)
        served = after.find(claim.id)
        if served is not None and served.token:
            return after
        if busy == "exit":
            raise Busy(name, claim.key, [str(each) for each in self.held])
        if busy == "queue" and len(self.waiting) >= queue:
            raise QueueFull(name, claim.key, len(self.waiting), queue)
        return after

    def serve(self, now: float) -> Pool:
        """Grant waiting claims in order of arrival, as long as slots are free.

        A claim that waits for slots blocks the claims behind it; otherwise a run that needs many slots would never
        get them. A claim that waits for its own key does not block the others.
        """
        pool, limit = self, self.limit
        for claim in self.waiting:
            if claim.unit in {each.unit for each in pool.held}:
                continue
            if limit is not None and pool.used + claim.slots > limit:
                break
            # Tokens start at the time in ms, so that a pool that was lost and recreated does not issue old ones again.
            token = pool.token + 1 if pool.token else round(now * 1000)
            lease = dataclasses.replace(claim, token=token, held=now, expires=now + claim.ttl)
            pool = _changed(dataclasses.replace(pool, token=token), lease)
        return pool

    def renew(self, id_: str, now: float) -> Pool:
        """Renew a claim, if it still exists."""
        claim = self.find(id_)
        if claim is None:
            return self
        return _changed(self, dataclasses.replace(claim, beat=claim.beat + 1, expires=now + claim.ttl))

    def lift(self, id_: str, above: int) -> Pool:
        """Raise a lease's token above one that was issued by a lost pool, or by a process whose clock was ahead.

        Args:
            id_: The claim's id.
            above: The token to exceed.
        """
        claim = self.find(id_)
        if claim is None or not 0 < claim.token <= above:
            return self
        token = max(self.token, above) + 1
        return _changed(dataclasses.replace(self, token=token), dataclasses.replace(claim, token=token))

    def release(self, id_: str, now: float) -> Pool:
        """Remove a claim on behalf of its holder, and grant the next ones."""
        left = tuple(claim for claim in self.claims if claim.id != id_)
        return dataclasses.replace(self, claims=left).serve(now) if len(left) < len(self.claims) else self

    def take(self, why: Mapping[Claim, str], by: Holder, now: float) -> Pool:
        """Remove claims without their holders, note the reason, and grant the next ones.

        A claim that was renewed since it was read is no longer equal to the given one, and stays.
        """
        gone = [claim for claim in self.claims if claim in why]
        if not gone:
            return self
        noted = [Taken(claim=claim, why=why[claim], by=by, at=now) for claim in gone]
        left = tuple(claim for claim in self.claims if claim not in why)
        return dataclasses.replace(self, claims=left, taken=(*self.taken, *noted)[-KEPT:]).serve(now)

    def as_content(self) -> dict[str, Any]:
        """Return the document to store in a register."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Pool:
        """Create a pool from a register's document.

        Raises:
            KeyError, TypeError: The document does not describe a pool.
        """
        return cls(
            token=int(content.get("token", 0)),
            claims=tuple(_claim(each) for each in content.get("claims", ())),
            taken=tuple(
                Taken(**{**each, "claim": _claim(each["claim"]), "by": Holder(**each["by"])})
                for each in content.get("taken", ())
            ),
        )


def _changed(pool: Pool, changed: Claim) -> Pool:
    claims = tuple(changed if claim.id == changed.id else claim for claim in pool.claims)
    return dataclasses.replace(pool, claims=claims)


def _claim(content: Mapping[str, Any]) -> Claim:
    return Claim(**{**content, "holder": Holder(**content["holder"])})


def check_slots(pools: Mapping[str, int], pool: str, slots: int) -> int:
    """Return the number of slots of a declared pool, after checking that one run may take ``slots`` of them.

    Raises:
        InvalidArgument: A pool is declared with less than one slot, or the run needs less than one.
        UnknownPool: The pool is not declared, or has fewer slots.
    """
    for name, size in pools.items():
        if size < 1:
            raise InvalidArgument(f"pools.{name}", f"{size} slots", "1 or more")
    if slots < 1:
        raise InvalidArgument("slots", str(slots), "1 or more")
    if pool not in pools:
        raise UnknownPool(pool, "no such pool", f"one of: {', '.join(pools) or '(no pool is declared)'}")
    if slots > pools[pool]:
        raise UnknownPool(pool, f"a run that needs {slots} slots", f"at most its {pools[pool]}")
    return pools[pool]
