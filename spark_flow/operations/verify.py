"""Verifies that tables and folders still hold what the ledger recorded; needs Spark only for a deep check."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from spark_flow.errors import MissingInput, describe, some
from spark_flow.storage import arrivals, delta_tables, key_folder
from spark_flow.storage.sink_protocol import app_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pyspark.sql import SparkSession

    from spark_flow.ledger import Event
    from spark_flow.storage.content import Content
    from spark_flow.storage.sink_protocol import Held


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of checking one recorded write.

    Attributes:
        pipeline: The pipeline.
        key: The key.
        node: The node that wrote.
        path: The target's path; for ``changed``, the input paths.
        state: ``ok``, ``differs``, ``missing``, ``changed`` (the write is intact, but its input files have changed), or
            ``unknown`` where this cannot be determined, or only with Spark.
        recorded: The number of rows according to the ledger.
        found: The number of rows in the target.
        reason: The reason as a message, with what to do.
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
    """Compare each node's last recorded write with the current content of its target.

    By default this checks the files of the write, their sizes and Parquet footers, and later changes of the table;
    what they do not show is ``unknown``. OPTIMIZE changes no rows and is not a difference.

    Args:
        events: The events of one pipeline and key, oldest first.
        deep: A session with which to read all rows and compare their hash as well.
    """
    events = list(events)
    last = {e.node: e for e in events if e.state == "succeeded" and e.revision and "format" in e.detail}
    return [_check(event, deep) for event in last.values()] + changed_inputs(events) + _adopted(events)


def changed_inputs(events: Iterable[Event]) -> list[Finding]:
    """Return the nodes whose latest success was computed from files that have changed since."""
    last = {e.node: e for e in events if e.state == "succeeded" and "input" in e.detail}
    found = [(event, arrivals.changed(event.detail["input"])) for event in last.values()]
    return [_changed(event, change) for event, change in found if change]


def _changed(event: Event, change: str) -> Finding:
    identity = {"pipeline": event.pipeline, "key": event.key, "node": event.node}
    path = ", ".join(event.detail["input"]["paths"])
    reason = f"{change}; --rerun the key to read it"
    return Finding(state="changed", path=path, recorded=event.rows, found=None, reason=reason, **identity)


def _adopted(events: Sequence[Event]) -> list[Finding]:
    """Return the targets of an adopted key, whose rows another tool wrote: no file or hash of them is recorded."""
    run = next((event for event in reversed(events) if not event.node and event.state != "started"), None)
    if run is None or "adopted" not in run.detail:
        return []
    finding = functools.partial(Finding, pipeline=run.pipeline, key=run.key, state="unknown", found=None)
    reason = "adopted: written by another tool, so there is nothing to compare with"
    return [
        finding(node=node, path=target["path"], recorded=target["rows"], reason=reason)
        for node, target in run.detail["adopted"].items()
    ]


def _check(event: Event, deep: SparkSession | None) -> Finding:
    of = delta_tables if event.detail["format"] == "delta" else key_folder
    recorded = event.detail.get("quarantined", event.rows)
    identity = {"pipeline": event.pipeline, "key": event.key, "node": event.node, "path": event.detail["path"]}
    finding = functools.partial(Finding, recorded=recorded, **identity)
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
        doubt = f"{held.by} counts {held.rows} rows with a Spark predicate" if held.by else doubt or "not counted"
    if doubt:
        return finding(state="unknown", found=held.rows, reason=f"{doubt}; --deep reads the rows with Spark")
    return finding(state="ok", found=held.rows)


def _wrong(held: Held, revision: int, recorded: int | None) -> str:
    """Return why a target does not hold what was written; empty if no difference is known."""
    if held.revision != revision:
        return f"the target remembers revision {held.revision}, the ledger {revision}; run the job again"
    if held.differs:
        return f"{held.differs}; --rerun the key to fix it"
    if not held.by and None not in (recorded, held.rows) and held.rows != recorded:
        return f"{recorded} rows were written, {held.rows} were found; --rerun the key to fix it"
    return ""


def _compare(finding: Callable[..., Finding], hash_: str, content: Content, recorded: int | None) -> Finding:
    """Compare the number of rows and their hash with the recorded ones."""
    if recorded is not None and content.rows != recorded:
        reason = f"{recorded} rows were written, {content.rows} were found; --rerun the key to fix it"
        return finding(state="differs", found=content.rows, reason=reason)
    if not hash_:
        return finding(state="unknown", found=content.rows, reason="no hash was recorded when it was written")
    if content.hash != hash_:
        reason = "the number of rows is the same, but values differ; --rerun the key to fix it"
        return finding(state="differs", found=content.rows, reason=reason)
    return finding(state="ok", found=content.rows)
