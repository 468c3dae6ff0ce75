"""Plans what a runner does with each key from the key's history in the ledger; nothing here runs or waits."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from spark_flow.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from spark_flow.ledger import Event, Ledger

Reprocess = Literal["none", "failed", "all"]
PastState = Literal["never", "succeeded", "incomplete", "skipped", "failed", "waiting", "begun"]
What = Literal["run", "reuse", "leave", "wait"]

REPROCESS = ("none", "failed", "all")


@dataclass(frozen=True, kw_only=True)
class Past:
    """The history of a key.

    Attributes:
        key: The key.
        state: The state of its last attempt. ``incomplete`` means that it succeeded with missing branches; ``begun``
            means that no end is recorded, so it is running or was killed.
        reason: The state as a message.
    """

    key: str
    state: PastState
    reason: str

    @property
    def done(self) -> bool:
        """Whether keys that depend on this one may start."""
        return self.state in ("succeeded", "incomplete", "skipped")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The action planned for a key.

    Attributes:
        key: The key.
        what: ``run`` the key, ``reuse`` its result, ``leave`` it failed, or ``wait`` for the previous key.
        reason: The reason as a message.
    """

    key: str
    what: What
    reason: str


def past_of(key: str, events: Iterable[Event]) -> Past:
    """Return the history of a key.

    Args:
        key: The key.
        events: The key's events, oldest first.
    """
    runs = [event for event in events if event.kind == "run"]
    if not runs or runs[-1].state == "forgotten":
        return Past(key=key, state="never", reason="forgotten" if runs else "never run")
    last = runs[-1]
    attempt = f"generation {last.generation}, attempt {last.attempt}"
    if last.state == "started":
        return Past(key=key, state="begun", reason=f"{attempt} has no recorded end")
    if last.state == "failed":
        return Past(key=key, state="failed", reason=f"failed in {attempt}: {last.error}")
    if last.state == "skipped":
        state: PastState = "waiting" if last.reason == "waiting" else "skipped"
        return Past(key=key, state=state, reason=f"{state} in {attempt}: {last.error}")
    parts = last.detail.get("completeness", ())
    missing = [f"{p['node']} {p['arrived']} of {p['expected']}" for p in parts if p["is_approximate"]]
    if missing:
        return Past(key=key, state="incomplete", reason=f"incomplete in {attempt}: {'; '.join(missing)}")
    return Past(key=key, state="succeeded", reason=f"succeeded in {attempt}")


def pasts(ledger: Ledger, pipeline: str) -> Callable[[str], Past]:
    """Read a pipeline's ledger once, and return a function from a key to its history."""
    by_key: dict[str, list[Event]] = defaultdict(list)
    for event in ledger.read(pipeline, kinds=["run"]):
        by_key[event.key].append(event)
    return lambda key: past_of(key, by_key.get(key, ()))


def plan(
    keys: Sequence[str],
    past: Callable[[str], Past],
    previous: Callable[[str], str | None],
    *,
    reprocess: Reprocess = "failed",
    depends_on_past: bool = False,
) -> list[Planned]:
    """Plan what to do with each key, in the given order.

    Args:
        keys: The requested keys.
        past: Returns the history of a key.
        previous: Returns the key before another one; ``None`` for the first.
        reprocess: Which keys that were run before are run again: ``none``, those that ``failed`` or were incomplete,
            or ``all``. A run without a recorded end is always resumed.
        depends_on_past: Run a key only if the previous one has succeeded or is run by this plan.

    Raises:
        InvalidArgument: ``reprocess`` is not one of these values.
    """
    if reprocess not in REPROCESS:
        raise InvalidArgument("reprocess", repr(reprocess), " or ".join(REPROCESS))
    planned: dict[str, Planned] = {}
    for key in keys:
        what, reason = _decide(past(key), reprocess)
        before = previous(key) if depends_on_past and what == "run" else None
        if before is not None:
            what, reason = _after(before, planned.get(before), past(before), reason)
        planned[key] = Planned(key=key, what=what, reason=reason)
    return list(planned.values())


def _decide(past: Past, reprocess: Reprocess) -> tuple[What, str]:
    if past.state in ("never", "begun", "waiting") or reprocess == "all":
        return "run", past.reason
    if past.state in ("failed", "incomplete"):
        left: What = "leave" if past.state == "failed" else "reuse"
        return ("run", past.reason) if reprocess == "failed" else (left, f"{past.reason}; reprocess is none")
    return "reuse", past.reason


def _after(before: str, planned: Planned | None, past: Past, reason: str) -> tuple[What, str]:
    if planned is not None and planned.what == "run":
        return "run", f"{reason}; after {before}"
    if planned is not None and planned.what in ("wait", "leave"):
        return "wait", f"for {before}, which {'waits' if planned.what == 'wait' else 'failed and is not run again'}"
    return ("run", reason) if past.done else ("wait", f"for {before}: {past.reason}")
