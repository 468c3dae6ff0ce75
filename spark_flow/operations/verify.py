"""Whether what was recorded is still there: the ledger against the tables, without Spark unless asked for."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from spark_flow.errors import MissingInput, describe, some
from spark_flow.storage import arrivals, delta, key_folder
from spark_flow.storage.sink_protocol import app_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pyspark.sql import SparkSession

    from spark_flow.ledger import Event
    from spark_flow.storage.content import Content
    from spark_flow.storage.sink_protocol import Held


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a target holds of a recorded write.

    Attributes:
        state: ``ok``, ``differs``, ``missing``, ``changed`` (not the write: files that it was made from are others by
            now), or ``unknown`` where that cannot be told without Spark, or at all.
        recorded: Rows that the ledger says were written.
        found: Rows that are there.
        reason: In words, with what to do.
    """

    pipeline: str
    key: str
    node: str
    path: str
    state: Literal["ok", "differs", "missing", "unknown", "changed"]
    recorded: int | None
    found: int | None
    reason: str = ""


def verify(events: Iterable[Event], *, deep: SparkSession | None = None) -> list[Finding]:
    """Compare each node's last recorded write with what its target holds now.

    By default the files of the write are looked at, with their sizes and Parquet's footers, and what changed the table
    since; what they cannot tell is ``unknown``. OPTIMIZE changes no rows, so it is no difference.

    Args:
        events: The events of one pipeline and key, oldest first.
        deep: A session by which all rows are read and compared by their hash as well.
    """
    events = list(events)
    last = {e.node: e for e in events if e.state == "succeeded" and e.revision and "format" in e.detail}
    return [_check(event, deep) for event in last.values()] + changed_inputs(events)


def changed_inputs(events: Iterable[Event]) -> list[Finding]:
    """The nodes whose latest success was made from files that are others by now."""
    last = {e.node: e for e in events if e.state == "succeeded" and "input" in e.detail}
    told = [(event, arrivals.changed(event.detail["input"])) for event in last.values()]
    return [_changed(event, words) for event, words in told if words]


def _changed(event: Event, words: str) -> Finding:
    place = {"pipeline": event.pipeline, "key": event.key, "node": event.node}
    path = ", ".join(event.detail["input"]["paths"])
    reason = f"{words}; --rerun the key to read it"
    return Finding(state="changed", path=path, recorded=event.rows, found=None, reason=reason, **place)


def _check(event: Event, deep: SparkSession | None) -> Finding:
    of = delta if event.detail["format"] == "delta" else key_folder
    recorded = event.detail.get("quarantined", event.rows)
    place = {"pipeline": event.pipeline, "key": event.key, "node": event.node, "path": event.detail["path"]}
    finding = functools.partial(Finding, recorded=recorded, **place)
    try:
        held = of.held(event.detail, app_id(event.pipeline, event.node, event.key))
        wrong = _wrong(held, event.revision, recorded)
        if deep is not None and not wrong:
            hash_, content = of.content(deep, event.detail)
            return _compare(finding, hash_, content, recorded)
    except MissingInput as error:
        return finding(
            state="missing", found=None, reason=f"not found: {some(error.missing, 3)}; --rerun the key to fix it"
        )
    except Exception as error:
        return finding(state="unknown", found=None, reason=describe(error))
    if wrong:
        return finding(state="differs", found=held.rows, reason=wrong)
    doubt = held.unknown
    if recorded is not None and held.rows != recorded:
        doubt = f"{held.by} counts {held.rows} rows by a predicate of Spark's" if held.by else doubt or "not counted"
    if doubt:
        return finding(state="unknown", found=held.rows, reason=f"{doubt}; --deep reads the rows by Spark")
    return finding(state="ok", found=held.rows)


def _wrong(held: Held, revision: int, recorded: int | None) -> str:
    """Why a target cannot hold what was written; empty when nothing says so."""
    if held.revision != revision:
        return f"the target remembers revision {held.revision}, the ledger {revision}; run the job again"
    if held.differs:
        return f"{held.differs}; --rerun the key to fix it"
    if not held.by and None not in (recorded, held.rows) and held.rows != recorded:
        return f"{recorded} rows were written, {held.rows} are there; --rerun the key to fix it"
    return ""


def _compare(finding: Callable[..., Finding], hash_: str, content: Content, recorded: int | None) -> Finding:
    """What the rows themselves say."""
    if recorded is not None and content.rows != recorded:
        reason = f"{recorded} rows were written, {content.rows} are there; --rerun the key to fix it"
        return finding(state="differs", found=content.rows, reason=reason)
    if not hash_:
        return finding(state="unknown", found=content.rows, reason="no hash was recorded when it was written")
    if content.hash != hash_:
        reason = "the same number of rows, of other values; --rerun the key to fix it"
        return finding(state="differs", found=content.rows, reason=reason)
    return finding(state="ok", found=content.rows)
