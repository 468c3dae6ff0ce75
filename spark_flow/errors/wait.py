"""Nothing failed: run the same command again later (exit code 75), or the run was interrupted or skipped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from spark_flow.errors.base import INTERRUPTED, NothingToDo, NotNow, SparkFlowError, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SHOWN = 5  # markers or holders that a message names


@dataclass(eq=False, repr=False)
class NotAllArrived(NotNow):
    """Branches of an aligned fan-in have not arrived; those that have are recorded, and are not run again.

    Attributes:
        requested: Whether the merge was wanted; otherwise the run was limited to some branches, and ran them.
    """

    node: str
    missing: Sequence[str]
    expected: int
    requested: bool = field(default=True, kw_only=True)

    def _text(self) -> str:
        return (
            f"{self.node}: {self.expected - len(self.missing)} of {self.expected} branches have arrived; "
            f"missing: {', '.join(self.missing)}. "
            + (
                "Run the same command again when they have."
                if self.requested
                else "Run them too, or all without --only."
            )
        )


@dataclass(eq=False, repr=False)
class NotArrived(NotNow):
    """A source whose path is another one for each key is not there yet; ``missing`` names each path."""

    source: str
    missing: Sequence[str]

    def _text(self) -> str:
        return (
            f"source {self.source!r}: not arrived: {', '.join(self.missing)}. "
            "Run the same command again when it is there, or check the path and the key."
        )


@dataclass(eq=False, repr=False)
class UpstreamNotReady(NotNow):
    """Readiness markers did not come in time; ``waiting`` holds the reason for each."""

    node: str
    waiting: Mapping[str, str]
    waited: float

    def _text(self) -> str:
        found = "; ".join(f"{name}: {words}" for name, words in list(self.waiting.items())[:_SHOWN])
        more = f"; and {len(self.waiting) - _SHOWN} more" if len(self.waiting) > _SHOWN else ""
        return (
            f"{self.node}: not ready after {self.waited:.0f} s: {found}{more}. "
            "Run the same command again, or raise the timeout; check the provider's status."
        )


@dataclass(eq=False, repr=False)
class Busy(NotNow):
    """The lease, or slots of the pool, are held by other runs, named by ``holders``."""

    pool: str
    key: str
    holders: Sequence[str]

    def _text(self) -> str:
        return (
            f"{self.pool}: {self.key} cannot start now, held by "
            f"{some(self.holders, _SHOWN) or 'nobody; others wait before it'}. "
            "Run the same command again later, or let it wait (runner.on_busy: wait); `spark-flow leases` lists them."
        )


@dataclass(eq=False, repr=False)
class QueueFull(NotNow):
    """As many wait already as may wait."""

    pool: str
    key: str
    waiting: int
    most: int

    def _text(self) -> str:
        return (
            f"{self.pool}: {self.key} is refused: {self.waiting} wait already, at most {self.most} may (runner.queue). "
            "Run the same command again later."
        )


@dataclass(eq=False, repr=False)
class LeaseLost(NotNow):
    """The lease was not renewed in time, or was released by an operator; others may run now, so this run stops."""

    pool: str
    key: str
    why: str

    def _text(self) -> str:
        return (
            f"{self.pool}: {self.key} has lost its lease ({self.why}), so that it writes and records nothing more. "
            "What it recorded before is reused: run the same command again if nobody else does."
        )


@dataclass(eq=False, repr=False)
class Fenced(NotNow):
    """Another process has taken over the key: the ledger rejects events of this one."""

    name: str
    token: int
    seen: int

    def _text(self) -> str:
        return (
            f"{self.name}: nothing is recorded under fencing token {self.token}: another run has begun under "
            f"{self.seen}. It has taken over what was recorded here, and this run ends."
        )


@dataclass(eq=False, repr=False)
class PreviousNotDone(NotNow):
    """A key depends on the one before it, which has not succeeded."""

    what: str
    previous: str
    reason: str

    def _text(self) -> str:
        return (
            f"{self.what} depends on the previous key {self.previous}: {self.reason}. "
            f"Run {self.previous} first, then the same command again."
        )


@dataclass(eq=False, repr=False)
class EndedAfter(NotNow):
    """The run was asked to end after a node, and did."""

    exit_code: ClassVar[int] = 0
    node: str

    def _text(self) -> str:
        return f"after {self.node} (--until). The same command without --until does the rest of this generation."


@dataclass(eq=False, repr=False)
class TriggeredWaits(NotNow):
    """A consumer that was triggered ended with exit code 75."""

    node: str
    consumer: str
    reason: str

    def _text(self) -> str:
        return f"{self.node}: {self.consumer} has to wait: {self.reason}. Run the same command again."


@dataclass(eq=False, repr=False)
class Interrupted(SparkFlowError):
    """The run was interrupted, by Ctrl-C or by its runner; in the main thread that is a ``KeyboardInterrupt``."""

    exit_code: ClassVar[int] = 130
    what: str

    def _text(self) -> str:
        return f"{self.what}: {INTERRUPTED}"


@dataclass(eq=False, repr=False)
class Adopted(NothingToDo):
    """The key's rows were there before its first run, and were adopted."""

    pipeline: str
    key: str
    at: str

    def _text(self) -> str:
        return f"{self.pipeline} {self.key} was adopted at {self.at}: its rows are in place. --rerun computes them."


@dataclass(eq=False, repr=False)
class UpstreamSkipped(NothingToDo):
    """A provider has skipped the key, so its consumer does."""

    node: str
    skipped: Sequence[str]

    def _text(self) -> str:
        return f"{self.node}: {'; '.join(self.skipped)}. The key is skipped here as well."
