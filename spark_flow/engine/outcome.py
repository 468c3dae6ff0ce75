"""The outcome of a node, and what an error means for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from spark_flow.errors import (
    EndedAfter,
    Interrupted,
    MissingInput,
    NotArrived,
    NothingToDo,
    NotNow,
    StoppedBySibling,
    TookFallback,
    describe,
)

if TYPE_CHECKING:
    from spark_flow.ledger import Event, Kind

OutcomeState = Literal["succeeded", "reused", "failed", "skipped", "waiting", "would run", "would reuse"]
Point = Literal[
    "before_action", "waiting", "before_commit", "after_commit", "before_event", "after_event", "ended", "warning"
]
Observer = Callable[[str, str, "Outcome | None"], None]
"""Called with a ``Point``, a node and, at ``ended``, its outcome: progress views and crash injection. At ``waiting``,
which comes again and again, the outcome's reason says what for; at ``warning`` the last of ``Run.warnings`` is new."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of a node in this attempt.

    Attributes:
        state: ``succeeded``, ``reused``, ``failed``, ``skipped``; in plan mode ``would run``, ``would reuse``. An
            observer is told ``waiting``, too, which is never recorded.
        rows: Rows written, where known.
        duration_ms: How long it took, in milliseconds.
        reason: Why, in words.
        error: The failure's message.
        detail: What was recorded of it: a table and version, the folder of a checkpoint.
    """

    node: str
    kind: Kind
    state: OutcomeState
    revision: int = 0
    fingerprint: str = ""
    rows: int | None = None
    duration_ms: int | None = None
    reason: str = ""
    error: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> dict[str, Any]:
        """The node's entry in ``--summary-json``."""
        names = ("node", "kind", "state", "rows", "duration_ms", "reason", "error")
        found = {name: self.detail[name] for name in ("expectations", "route") if name in self.detail}
        return {name: getattr(self, name) for name in names} | found


def not_its_own_fault(kind: Kind, error: BaseException) -> bool:
    """Whether a node was stopped or has to wait, rather than failed."""
    return isinstance(error, NotNow | NothingToDo | StoppedBySibling) or (
        kind == "branch" and isinstance(error, MissingInput)
    )


def why_not(error: BaseException) -> str:
    """Why a node was skipped, by the error that stopped it."""
    if isinstance(error, MissingInput | NotArrived):
        return f"not arrived: {', '.join(error.missing)}"
    return describe(error)


def reason_to_skip(error: BaseException | None) -> str:
    """Why a lazy node was not computed, by the error that the run ended with."""
    if error is None:
        return "nothing that ran needed it"
    ends: dict[type[BaseException], str] = {
        EndedAfter: "the run ended before it",
        NotNow: "the run waits",
        NothingToDo: "the key is skipped",
        **_interrupted("the run was interrupted"),
    }
    return next((reason for kind, reason in ends.items() if isinstance(error, kind)), "the run failed first")


def end_of(error: BaseException | None) -> str:
    """How a run ended, as its summary and the ledger have it."""
    if error is None:
        return "succeeded"
    ends: dict[type[BaseException], str] = {
        NotNow: "waiting",
        NothingToDo: "skipped",
        TookFallback: "fallback",
        **_interrupted("interrupted"),
    }
    return next((end for kind, end in ends.items() if isinstance(error, kind)), "failed")


def _interrupted(words: str) -> dict[type[BaseException], str]:
    return {KeyboardInterrupt: words, Interrupted: words}


def outcome_of(event: Event, state: OutcomeState, kept: int = 0) -> Outcome:
    """The outcome of a node, as an earlier attempt recorded it.

    Args:
        event: Its success.
        state: What it is in this attempt.
        kept: The generation that did it, where a partial backfill has kept it.
    """
    when = f"attempt {event.attempt}" if not kept else f"generation {kept}"
    reason = f"kept from {when}" if kept else f"succeeded in {when}"
    if event.kind == "choice":  # what was decided matters more than when
        reason = f"{event.reason}; decided in {when}, --rerun decides again"
    return Outcome(
        node=event.node,
        kind=event.kind,
        state=state,
        revision=event.revision,
        fingerprint=event.fingerprint,
        rows=event.rows,
        duration_ms=event.duration_ms,
        reason=reason,
        detail=event.detail,
    )
