"""Who may run now, as values: claims in the order of their arrival, and the rules by which they are served.

Nothing here waits, looks at a clock or writes. ``leases.py`` puts these values into a register, where each change is
one compare-and-swap: whatever rule holds of one change holds over all processes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spark_flow.errors import Busy, InvalidArgument, OtherLimit, QueueFull, UnknownPool

if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT = 20  # takeovers that a pool remembers


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process.

    Attributes:
        host: Its machine's name, for people.
        pid: Its number there.
        place: What tells its machine, and its numbering of processes, from others; empty where that is not known.
        started: When it was started, as the machine counts: a number that is given again is another process.
    """

    host: str
    pid: int
    place: str = ""
    started: str = ""

    def __str__(self) -> str:
        """For people."""
        return f"{self.host}:{self.pid}"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The wish to run, and once ``token`` is set the right to: then it is a lease.

    Attributes:
        id: Of this claim alone.
        pipeline: What wants to run.
        key: The unit of work. Two claims of one pipeline and key are never held at once.
        holder: The process that asked.
        slots: How many of the pool it takes.
        limit: The slots of the pool as this claim's process has them; ``None``: as many as others say.
        ttl: Seconds after which it may be taken over if it was not renewed.
        token: The fencing token, higher for each lease of the pool; 0 while it waits.
        beat: Renewals so far.
        asked: When it was asked for, in seconds since 1970, as all times here by its holder's clock.
        held: When it became a lease; 0 while it waits.
        expires: When it may be taken over if it is not renewed.
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
        """For people."""
        return f"{self.pipeline} {self.key} ({self.holder})"

    @property
    def unit(self) -> tuple[str, str]:
        """What no two may hold at once."""
        return self.pipeline, self.key


@dataclass(frozen=True, kw_only=True)
class Taken:
    """A claim that ended otherwise than by its holder: its process has gone, it expired, or it was released by hand."""

    claim: Claim
    why: str
    by: Holder
    at: float


@dataclass(frozen=True, kw_only=True)
class Pool:
    """All claims of one pool, in the order of their arrival; each change of it is a new one.

    Attributes:
        token: The last fencing token that was given.
        claims: Held and waiting.
        taken: The last takeovers, the newest last.
    """

    token: int = 0
    claims: tuple[Claim, ...] = ()
    taken: tuple[Taken, ...] = field(default=())

    @property
    def held(self) -> tuple[Claim, ...]:
        """The leases."""
        return tuple(claim for claim in self.claims if claim.token)

    @property
    def waiting(self) -> tuple[Claim, ...]:
        """Those that are not served yet."""
        return tuple(claim for claim in self.claims if not claim.token)

    @property
    def used(self) -> int:
        """Slots that are taken."""
        return sum(claim.slots for claim in self.held)

    @property
    def limit(self) -> int | None:
        """How many slots there are, as those say who run or wait; ``None`` if nobody says."""
        return next((claim.limit for claim in self.claims if claim.limit is not None), None)

    def find(self, id_: str) -> Claim | None:
        """A claim by its id."""
        return next((claim for claim in self.claims if claim.id == id_), None)

    def ask(self, name: str, claim: Claim, *, now: float, busy: str = "wait", queue: int = 100) -> Pool:
        """Add a claim at the end, and serve it if it can be.

        Args:
            name: The pool's, for errors.
            claim: A new one.
            now: Seconds since 1970.
            busy: What to do when it cannot be served at once: ``wait``, ``queue`` (wait, but only if fewer than
                ``queue`` do) or ``exit``.
            queue: See there.

        Raises:
            Busy: It cannot be served at once, and shall not wait.
            OtherLimit: Those who run or wait have another limit.
            QueueFull: Too many wait.
            UnknownPool: It wants more slots than there are.
        """
        limit = self.limit
        if None not in (limit, claim.limit) and limit != claim.limit:
            other = next(each for each in self.claims if each.limit is not None)
            raise OtherLimit(name, int(other.limit or 0), int(claim.limit or 0), str(other))
        limit = claim.limit if limit is None else limit
        if limit is not None and claim.slots > limit:
            raise UnknownPool(name, f"a run that wants {claim.slots} slots", f"at most its {limit}")
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
        """Make leases of those who wait, in order, as far as there are slots.

        Nobody overtakes one who waits for slots: a run that wants many would never get them. One that waits for its
        own key is passed by.
        """
        pool, limit = self, self.limit
        for claim in self.waiting:
            if claim.unit in {each.unit for each in pool.held}:
                continue
            if limit is not None and pool.used + claim.slots > limit:
                break
            # The first token of a pool is the time in ms: one that was lost and made anew gives no old tokens again.
            token = pool.token + 1 if pool.token else round(now * 1000)
            lease = dataclasses.replace(claim, token=token, held=now, expires=now + claim.ttl)
            pool = _changed(dataclasses.replace(pool, token=token), lease)
        return pool

    def renew(self, id_: str, now: float) -> Pool:
        """One more beat of a claim, if it is there."""
        claim = self.find(id_)
        if claim is None:
            return self
        return _changed(self, dataclasses.replace(claim, beat=claim.beat + 1, expires=now + claim.ttl))

    def lift(self, id_: str, above: int) -> Pool:
        """A lease under a token above one that was given before, by a pool that was lost or by a clock that was ahead.

        Args:
            id_: The claim's.
            above: The other token.
        """
        claim = self.find(id_)
        if claim is None or not 0 < claim.token <= above:
            return self
        token = max(self.token, above) + 1
        return _changed(dataclasses.replace(self, token=token), dataclasses.replace(claim, token=token))

    def release(self, id_: str, now: float) -> Pool:
        """A claim's end by its holder; who waits for it is served."""
        left = tuple(claim for claim in self.claims if claim.id != id_)
        return dataclasses.replace(self, claims=left).serve(now) if len(left) < len(self.claims) else self

    def take(self, why: Mapping[Claim, str], by: Holder, now: float) -> Pool:
        """End claims otherwise than by their holders, with the reason; who waits is served.

        One that was renewed since it was looked at is another value, and stays.
        """
        gone = [claim for claim in self.claims if claim in why]
        if not gone:
            return self
        noted = [Taken(claim=claim, why=why[claim], by=by, at=now) for claim in gone]
        left = tuple(claim for claim in self.claims if claim not in why)
        return dataclasses.replace(self, claims=left, taken=(*self.taken, *noted)[-KEPT:]).serve(now)

    def as_content(self) -> dict[str, Any]:
        """The document for a register."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Pool:
        """A register's document as a pool.

        Raises:
            KeyError, TypeError: It is none.
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
    """The slots of a declared pool, if a run may take so many.

    Raises:
        InvalidArgument: A pool has none, or the run wants none.
        UnknownPool: It is not declared, or has fewer.
    """
    for name, size in pools.items():
        if size < 1:
            raise InvalidArgument(f"pools.{name}", f"{size} slots", "1 or more")
    if slots < 1:
        raise InvalidArgument("slots", str(slots), "1 or more")
    if pool not in pools:
        raise UnknownPool(pool, "no such pool", f"one of: {', '.join(pools) or 'none is declared'}")
    if slots > pools[pool]:
        raise UnknownPool(pool, f"a run that wants {slots} slots", f"at most its {pools[pool]}")
    return pools[pool]
