"""Forget a key: its next run is as its first one, and replaces what it wrote before."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_flow.ledger.event import now
from spark_flow.storage import checkpoints

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spark_flow.engine.mode import Lease
    from spark_flow.ledger import Event, Ledger


@dataclass(frozen=True, kw_only=True)
class Left:
    """What a forgotten key leaves behind: the ledger never deletes data.

    Attributes:
        node: The node that wrote it.
        path: A table, a folder, a marker, or the name of a view.
        rows: The rows that were written, if known.
        what: What is there: ``rows`` of a table, a ``folder``, a ``marker``, or a ``view``.
    """

    node: str
    path: str
    rows: int | None
    what: str


def left_behind(events: Sequence[Event]) -> list[Left]:
    """Return what the nodes of a key wrote last, from its events, oldest first."""
    last = {e.node: e for e in events if e.node and e.state == "succeeded" and e.kind in ("sink", "marker", "fallback")}
    found = []
    for event in last.values():
        detail = event.detail
        if "marker" in detail:
            found.append(Left(node=event.node, path=str(detail["marker"]["path"]), rows=None, what="marker"))
        elif "exposed" in detail:
            found.append(Left(node=event.node, path=str(detail["exposed"]["view"]), rows=None, what="view"))
        elif "path" in detail:
            what = "rows" if "version" in detail else "folder"
            found.append(Left(node=event.node, path=str(detail["path"]), rows=event.rows, what=what))
    return found


def forget(ledger: Ledger, state: str, events: Sequence[Event], lease: Lease) -> list[Left]:
    """Append a ``forgotten`` event, and delete the key's checkpoints.

    The next run is a new generation that reuses nothing. Its writes take the next revisions, so they replace the key's
    rows as a rerun does; other keys are not touched.

    Args:
        ledger: The ledger of the state folder.
        state: The state folder.
        events: The events of one pipeline and key, oldest first; at least one.
        lease: The lease of the key, so that no run of it begins meanwhile.

    Returns:
        What is left behind.

    Raises:
        Fenced, LeaseLost: The lease is lost: nothing is recorded.
    """
    last = max(events, key=lambda event: event.order)
    lease.check()
    forgotten = dataclasses.replace(
        last,
        seq=last.seq + 1,
        node="",
        kind="run",
        state="forgotten",
        revision=0,
        fingerprint="",
        rows=None,
        duration_ms=None,
        reason="forgotten",
        error="",
        detail={},
        at=now(),
    )
    ledger.append([forgotten], lease.fence)
    checkpoints.remove(state, last.pipeline, last.key)
    return left_behind(events)
