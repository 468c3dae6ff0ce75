"""Whether what was recorded is still there: the ledger against the tables, without Spark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from spark_flow.errors import MissingInput, describe
from spark_flow.storage import delta, folders
from spark_flow.storage.port import app_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from spark_flow.ledger import Event


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a target holds of a recorded write.

    Attributes:
        state: ``ok``, ``differs``, ``missing``, or ``unknown`` when the target cannot be read without Spark.
        recorded: Rows that the ledger says were written.
        found: Rows that are there.
        reason: In words, with what to do.
    """

    pipeline: str
    key: str
    node: str
    path: str
    state: Literal["ok", "differs", "missing", "unknown"]
    recorded: int | None
    found: int | None
    reason: str = ""


def verify(events: Iterable[Event]) -> list[Finding]:
    """Compare each node's last recorded write with what its target holds.

    Args:
        events: The events of one pipeline and key, oldest first.
    """
    last = {e.node: e for e in events if e.state == "succeeded" and e.revision and "format" in e.detail}
    return [_check(event) for event in last.values()]


def _check(event: Event) -> Finding:
    id_ = app_id(event.pipeline, event.node, event.key)
    held = delta.held if event.detail["format"] == "delta" else folders.held
    recorded = event.detail.get("quarantined", event.rows)
    place = {"pipeline": event.pipeline, "key": event.key, "node": event.node, "path": event.detail["path"]}
    try:
        revision, found = held(event.detail, id_)
    except MissingInput as error:
        return Finding(state="missing", recorded=recorded, found=None, reason=str(error), **place)
    except Exception as error:
        return Finding(state="unknown", recorded=recorded, found=None, reason=describe(error), **place)
    if revision != event.revision:
        reason = f"the target remembers revision {revision}, the ledger {event.revision}; run the job again"
        return Finding(state="differs", recorded=recorded, found=found, reason=reason, **place)
    if recorded is not None and found != recorded:
        reason = f"{recorded} rows were written, {found} are there; --rerun the key to mend it"
        return Finding(state="differs", recorded=recorded, found=found, reason=reason, **place)
    return Finding(state="ok", recorded=recorded, found=found, **place)
