"""What a runner does with each key, by what the ledger knows of it; nothing here runs or waits."""

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
    """What became of a key so far.

    Attributes:
        state: Of its last attempt. ``incomplete`` succeeded, with branches missing; ``begun`` did not say how it
            ended: it runs, or was killed.
        reason: In words.
    """

    key: str
    state: PastState
    reason: str

    @property
    def done(self) -> bool:
        """Whether keys that depend on it may start."""
        return self.state in ("succeeded", "incomplete", "skipped")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What will be done with a key.

    Attributes:
        what: ``run`` it, ``reuse`` what there is, ``leave`` it as it failed, or ``wait`` for the key before it.
        reason: In words.
    """

    key: str
    what: What
    reason: str


def past_of(key: str, events: Iterable[Event]) -> Past:
    """What became of a key.

    Args:
        key: The key.
        events: Its events, oldest first.
    """
    runs = [event for event in events if event.kind == "run"]
    if not runs:
        return Past(key=key, state="never", reason="never run")
    last = runs[-1]
    place = f"generation {last.generation}, attempt {last.attempt}"
    if last.state == "started":
        return Past(key=key, state="begun", reason=f"{place} did not say how it ended")
    if last.state == "failed":
        return Past(key=key, state="failed", reason=f"failed in {place}: {last.error}")
    if last.state == "skipped":
        state: PastState = "waiting" if last.reason == "waiting" else "skipped"
        return Past(key=key, state=state, reason=f"{state} in {place}: {last.error}")
    parts = last.detail.get("completeness", ())
    missing = [f"{p['node']} {p['arrived']} of {p['expected']}" for p in parts if p["is_approximate"]]
    if missing:
        return Past(key=key, state="incomplete", reason=f"incomplete in {place}: {'; '.join(missing)}")
    return Past(key=key, state="succeeded", reason=f"succeeded in {place}")


def pasts(ledger: Ledger, pipeline: str) -> Callable[[str], Past]:
    """What the ledger knows of each key of a pipeline, read once."""
    by_key: dict[str, list[Event]] = defaultdict(list)
    for event in ledger.read(pipeline):
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
    """What to do with each key, in the given order.

    Args:
        keys: What is asked for.
        past: What became of a key so far.
        previous: The key before one; ``None`` for the first.
        reprocess: Of keys that were run before do ``none`` again, those that ``failed`` or were incomplete, or ``all``.
            What has begun and did not end is always gone on with.
        depends_on_past: A key starts only when the one before it has succeeded, before or in this plan.

    Raises:
        InvalidArgument: ``reprocess`` is none.
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
        return "wait", f"for {before}, which {'waits' if planned.what == 'wait' else 'is left as it failed'}"
    return ("run", reason) if past.done else ("wait", f"for {before}: {past.reason}")
