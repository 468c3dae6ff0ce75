"""Roll a key back: publish the rows of an earlier generation again, as the next one, from the versions it recorded."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deltalake.exceptions import DeltaError

from spark_flow.core.completeness import Completeness
from spark_flow.engine.mode import Mode, Permission
from spark_flow.engine.node import Node
from spark_flow.engine.run import Run
from spark_flow.engine.writing import SinkTarget
from spark_flow.errors import CannotRollBack, describe
from spark_flow.operations.stale import command_of, read_by
from spark_flow.orchestration.leases import only_writer
from spark_flow.sequence import expose, publish, transaction
from spark_flow.storage import catalog, delta_files, files, key_folder
from spark_flow.storage import markers as readiness
from spark_flow.storage.delta import delta
from spark_flow.storage.delta_tables import open_table
from spark_flow.storage.sink_protocol import Intent, Written, app_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from spark_flow.engine.mode import Lease
    from spark_flow.engine.outcome import Outcome
    from spark_flow.ledger import Event, Ledger
    from spark_flow.storage.delta import DeltaSink
    from spark_flow.storage.markers import Reference

_REQUEST = "rollback to "


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """What is published again.

    Attributes:
        pipeline: The pipeline.
        key: The key.
        current: The newest generation.
        to: The generation whose rows are published again.
        events: The last successes of that generation's waits, sinks, transactions, views and markers, in their order.
        made_of: The markers that it has read.
        command: How it was run, for a later ``backfill``.
        resumed: Whether the newest generation is this rollback, which did not succeed.
    """

    pipeline: str
    key: str
    current: int
    to: int
    events: tuple[Event, ...]
    made_of: tuple[Reference, ...] = ()
    command: Mapping[str, Any] = field(default_factory=dict)
    resumed: bool = False


def plan(events: Sequence[Event], *, to: int = 0) -> Rollback:
    """Plan a rollback, and check that all rows are still there.

    Args:
        events: The events of one pipeline and key, oldest first; at least one.
        to: The generation; by default the last one before the newest that succeeded.

    Raises:
        CannotRollBack: There is no such generation, or rows of it are gone.
    """
    pipeline, key, current = events[-1].pipeline, events[-1].key, max(event.generation for event in events)
    name = f"{pipeline} {key}"
    runs = [event for event in events if event.kind == "run"]
    good = sorted({event.generation for event in runs if event.state == "succeeded" and "adopted" not in event.detail})
    mine = [str(e.detail.get("cause", "")) for e in runs if e.generation == current and e.detail.get("cause")]
    before = next((cause.removeprefix(_REQUEST) for cause in mine if cause.startswith(_REQUEST)), "")
    if before and current in good and not to:
        raise CannotRollBack(name, f"generation {current} is a rollback to {before} already", "Name one with --to.")
    resumed = bool(before) and current not in good and to in (0, int(before))
    chosen = int(before) if resumed else to or max((each for each in good if each < current), default=0)
    if chosen not in good or chosen == current:
        found = f"no generation {to} that succeeded before {current}" if to else "no earlier generation that succeeded"
        raise CannotRollBack(name, found, f"Succeeded: {', '.join(map(str, good)) or 'none'}.")
    last = {
        event.node: event
        for event in events
        if event.generation == chosen and event.state == "succeeded" and event.kind in ("sink", "marker")
    }
    chosen_events = tuple(event for event in last.values() if _is_published(event))
    if not any(event.kind == "sink" for event in chosen_events):
        raise CannotRollBack(name, f"no write in generation {chosen}", f"Succeeded: {', '.join(map(str, good))}.")
    for event in chosen_events:
        if event.kind == "sink" and (why := _why_gone(event)):
            raise CannotRollBack(name, f"{event.node} of generation {chosen}: {why}", "Rerun the key instead.")
    return Rollback(
        pipeline=pipeline,
        key=key,
        current=current,
        to=chosen,
        events=chosen_events,
        made_of=tuple(read_by([event for event in events if event.generation == chosen])),
        command=command_of([event for event in events if event.generation == chosen]),
        resumed=resumed,
    )


def _is_published(event: Event) -> bool:
    """Whether an event is a wait, a write, a transaction, a view or a marker; not that of a completeness table."""
    return any(name in event.detail for name in _AGAIN)


def _why_gone(event: Event) -> str:
    """Why what a sink wrote cannot be published again; empty if it can."""
    detail = event.detail
    if detail["format"] != "delta":
        try:
            found = key_folder.read_manifest(detail["path"]).get("revision")
        except (OSError, ValueError) as error:
            return describe(error)
        return "" if found == event.revision else f"its folder {detail['path']} was replaced since"
    if not detail.get("predicate") and not detail.get("whole"):
        return "it was merged or appended, which cannot be undone"
    try:
        table = open_table(detail["path"])
        if table is None:
            return f"no table at {detail['path']}"
        table.load_as_version(int(detail["version"]))
        column = detail.get("column") or ""
        partition = column if column in table.metadata().partition_columns else ""
        sizes = delta_files.active(table, partition, event.key, detail.get("value", ""))
        missing = delta_files.gone(detail["path"], sizes)
    except (DeltaError, OSError, ValueError) as error:
        return f"version {detail['version']} of {detail['path']} cannot be read: {describe(error)}"
    return f"version {detail['version']} is gone: {missing[0]} was removed (VACUUM)" if missing else ""


def rollback(spark: SparkSession, ledger: Ledger, state: str, planned: Rollback, lease: Lease | None = None) -> Run:
    """Publish the rows of an earlier generation again; returns the run, which has ended.

    Each write takes the next revision, so the rows of the newest generation are replaced. Nodes keep the fingerprints
    of the earlier generation: the job's code of that time reuses what is published here, other code runs again.

    Raises:
        InvalidArgument: The session does not have the catalog of an exposed view; nothing was written.
        SparkFlowError: A table cannot be written; the same call again resumes.
    """
    for event in planned.events:
        if "exposed" in event.detail:  # before anything is written
            catalog.check_lasting(spark, event.detail["exposed"]["view"])
    mode = Mode(request_id=f"{_REQUEST}{planned.to}", command=planned.command)
    permission = Permission(lease=lease, only_writer=only_writer)
    with Run.open(
        planned.pipeline, planned.key, state=state, spark=spark, ledger=ledger, mode=mode, permission=permission
    ) as run:
        run.upstream["rollback"] = planned.made_of
        for what, again in _AGAIN.items():
            for event in planned.events:
                if what in event.detail:
                    again(run, event)
    return run


def _outcome(run: Run, node: str) -> Outcome:
    outcome = run.outcome(node)
    if outcome is None:
        raise CannotRollBack(f"{run.pipeline} {run.key}", f"{node} was not written", "Rerun the key instead.")
    return outcome


def _write(run: Run, event: Event) -> None:
    detail = event.detail
    parts = tuple(Completeness.from_record(part) for part in detail.get("completeness", ()))
    node = Node(name=event.node, kind="sink", fingerprint=event.fingerprint)
    if detail["format"] != "delta":  # its folder was not replaced since
        written = Written(rows=event.rows, reason="still in place", detail=detail)
        run.once(dataclasses.replace(node, writes=False), lambda _: written)
        return
    sink = _sink(event)

    def again(intent: Intent) -> Written:
        done = sink.write(_rows(run.spark, event), dataclasses.replace(intent, completeness=parts))
        more = {"completeness": detail["completeness"]} if parts else {}
        reason = f"{done.reason}, with the rows of version {detail['version']}"
        return dataclasses.replace(done, reason=reason, detail={**done.detail, **more})

    run.once(node, again, SinkTarget(sink, app_id(run.pipeline, event.node, run.key), run.key))


def _sink(event: Event) -> DeltaSink:
    detail = event.detail
    table = open_table(detail["path"])
    columns = tuple(table.metadata().partition_columns) if table is not None else ()
    if detail.get("whole"):
        return delta(detail["path"], partition_by=columns, mode="overwrite")
    by_column = detail.get("column") and columns[:1] == (detail["column"],)
    return delta(detail["path"], partition_by=columns, replace_where=None if by_column else detail["predicate"])


def _rows(spark: SparkSession, event: Event) -> DataFrame:
    detail = event.detail
    frame = spark.read.format("delta").option("versionAsOf", int(detail["version"]))
    rows = frame.load(files.for_spark(detail["path"]))
    return rows.where(detail["predicate"]) if detail.get("predicate") else rows


def _wait(run: Run, event: Event) -> None:
    """Take over what a wait has pinned: the rows come from it, and `stale` asks whether it is outdated."""
    kept = Written(rows=event.rows, reason="as pinned before", detail=event.detail)
    run.once(Node(name=event.node, kind="marker", fingerprint=event.fingerprint, writes=False), lambda _: kept)


def _close(run: Run, event: Event) -> None:
    """Record a transaction again."""
    with transaction(run, event.node) as within:
        for name in event.detail["tables"]:
            within.wrote(_outcome(run, f"{event.node}/{name}"))


def _expose(run: Run, event: Event) -> None:
    shown = event.detail["exposed"]
    expose(run, shown["view"], shown["node"], name=event.node)


def _publish(run: Run, event: Event) -> None:
    """Publish a marker again: of the tables that it pins now, at the versions of this run."""
    dataset, path = str(event.detail["marker"]["dataset"]), str(event.detail["marker"]["path"])
    there = {table.path for table in readiness.read(path).tables.values()}
    nodes = [o.node for o in run.outcomes if o.kind == "sink" and o.detail.get("path") in there]
    if not nodes:
        return  # it was published as failed or skipped since
    root = path.removesuffix(f"/{dataset}/{run.key}.json")
    publish(run, dataset, markers=root, tables=nodes, name=event.node)


# By what the detail of an event has, in the order in which they are done.
_AGAIN: Mapping[str, Callable[[Run, Event], None]] = {
    "paths": _wait,
    "format": _write,
    "tables": _close,
    "exposed": _expose,
    "marker": _publish,
}
