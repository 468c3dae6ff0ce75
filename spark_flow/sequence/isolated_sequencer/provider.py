"""The provider's side: publish a readiness marker after the data."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from spark_flow.core import fingerprint
from spark_flow.core.completeness import Completeness, together
from spark_flow.engine.node import Node, Target
from spark_flow.errors import (
    DuplicateNode,
    InvalidArgument,
    InvalidMarker,
    NothingToDo,
    NotNow,
    SparkFlowError,
    describe,
)
from spark_flow.ledger.event import now
from spark_flow.sequence.expect import is_aside
from spark_flow.sequence.isolated_sequencer.polling import check_choice
from spark_flow.storage import files
from spark_flow.storage import markers as readiness
from spark_flow.storage.markers import MARKERS, MarkedTable, Marker, MarkerState, Part, Told
from spark_flow.storage.sink_protocol import ALL, Intent, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run
    from spark_flow.ledger import Event

SUCCESS = "_SUCCESS"


def publish(
    run: Run,
    dataset: str,
    *,
    markers: str = MARKERS,
    tables: Sequence[str] = (),
    completeness: Completeness | Sequence[Completeness] | None = None,
    state: MarkerState = "ready",
    reason: str = "",
    success_file: bool = False,
    name: str = "",
) -> Outcome:
    """Publish that a dataset's key is ready: write a marker that pins the tables written by the run.

    Call it after the writes. A retry publishes nothing new; a rerun, or a late branch, publishes the next revision. The
    marker is a JSON file, ``<markers>/<dataset>/<key>.json``; its format is ``spark_flow/schemas/marker.json``.

    Args:
        run: The run.
        dataset: The name of the tables as a whole; must be a valid folder name.
        markers: The folder of markers, a path or URI that provider and consumers share.
        tables: Nodes of the writes to publish (``publish/lake``); defaults to all writes of the run so far.
        completeness: The dataset's completeness; defaults to the one recorded with the writes.
        state: ``ready``, or ``failed`` or ``skipped``, which publish no tables.
        reason: Why it failed or was skipped.
        success_file: Also write an empty ``_SUCCESS`` into the key's folder of each table (Hadoop's convention).
        name: The node's name; defaults to ``marker/<dataset>``.

    Raises:
        DuplicateNode: Another node publishes the dataset.
        InvalidName: The dataset's name cannot be a folder name.
        InvalidArgument: There is no write to publish, a table was not written by the run, or the key's rows of a table
            cannot be separated from those of other keys.
        WriteNotProved: A newer marker exists.
    """
    node = run.node(name or f"marker/{dataset}")
    path = readiness.path_of(markers, dataset, run.key)
    check_choice(f"{node}: state", state, MarkerState)
    other = run.targets.setdefault(path, node)
    if other != node:
        raise DuplicateNode(node, f"{other} also publishes {dataset}")
    run.graph.writes[node] = {path: ALL}
    if state == "ready" and run.shortfall is not None:  # consumers do not wait for the result of a fallback
        _announce(run, dataset, markers, run.shortfall, node)
        return run.outcome(node) or run.skip(node, "marker", f"not published: {describe(run.shortfall)}")
    written = _written(run, node, tables) if state == "ready" else []
    run.graph.uses(node, [outcome.node for outcome in written])
    staged = [outcome.node for outcome in written if outcome.detail.get("staged")]
    if staged:
        return run.skip(node, "marker", f"not published: {', '.join(staged)} is kept in staging")
    completeness = getattr(completeness, "completeness", completeness)  # accepts a FanIn as well
    parts = (completeness,) if isinstance(completeness, Completeness) else completeness
    parts = _recorded(written) if parts is None else tuple(parts)
    read = [reference for each in run.upstream.values() for reference in each]
    marker = Marker(
        dataset=dataset,
        key=run.key,
        state=state,
        generation=run.generation,
        tables=_tables(written),
        rows=sum(outcome.rows or 0 for outcome in written) if written else None,
        completeness=_summary(parts),
        made_of=read,
        expectations={o.node: o.detail["expectations"] for o in run.outcomes if "expectations" in o.detail},
        pipeline=run.pipeline,
        run=run.run_id,
        reason=run.secrets(reason),
    )
    success = [_success_of(table, run.key) for table in marker.tables.values()] if success_file else []
    return _mark(run, node, markers, marker, success)


def _mark(run: Run, node: str, root: str, marker: Marker, success: Sequence[str]) -> Outcome:
    """Write the ``_SUCCESS`` files, then the marker; a marker with the same content is written once."""
    path = readiness.path_of(root, marker.dataset, marker.key)

    def write(intent: Intent) -> Written:
        final = dataclasses.replace(marker, revision=intent.revision, at=now())
        intent.mark("before_commit")
        for success_path in success:
            files.write_bytes(success_path, b"")
        readiness.write(root, final)
        intent.mark("after_commit")
        detail = {"marker": dataclasses.asdict(final.at_path(path))}
        return Written(rows=marker.rows, reason=f"{final}; {len(final.tables)} table(s), in {path}", detail=detail)

    # The content has the tables' versions and revisions. The generation adds nothing: a later one may reuse the tables.
    content = dataclasses.asdict(dataclasses.replace(marker, run="", generation=0))
    del content["checksum"]  # of the file
    if not marker.expectations:
        del content["expectations"]  # a field that earlier versions did not have
    published = Node(name=node, kind="marker", fingerprint=fingerprint.combine(path, content, success))
    return run.once(published, write, _MarkerTarget(path, run.pipeline, tuple(success)))


@dataclasses.dataclass(frozen=True)
class _MarkerTarget(Target):
    """A marker, which several pipelines may write, and the success files that are written with it."""

    path: str
    pipeline: str
    success: Sequence[str]

    def last_revision(self) -> int:
        return readiness.revision(self.path)

    def proven_revision(self) -> int:
        return readiness.revision(self.path, of=self.pipeline)

    def why_invalid(self, event: Event) -> str:
        known = self.last_revision()
        if known != event.revision:
            return f"the marker has revision {known}, expected {event.revision}"
        missing = [path for path in self.success if not files.exists(path)]
        return f"{missing[0]} is missing" if missing else ""


@contextlib.contextmanager
def announcing(run: Run, *datasets: str, markers: str = MARKERS) -> Iterator[None]:
    """Publish a ``failed`` or ``skipped`` marker if the block raises an error.

    A key that is already published stays published: the tables that its marker pins are still valid. An error that only
    means to retry later (exit code 75) publishes nothing.

    >>> with sf.Run.open("daily", key) as run, announcing(run, "daily_flights"):  # doctest: +SKIP
    ...     sf.write(run, "lake", daily, sf.delta("out/daily", partition_by="date"))
    ...     sf.publish(run, "daily_flights")
    """
    try:
        yield
    except Exception as error:
        for dataset in datasets:
            announce(run, dataset, error, markers=markers)
        raise


def announce(run: Run, dataset: str, error: BaseException, *, markers: str = MARKERS) -> None:
    """Publish a ``failed`` or ``skipped`` marker for an error that ended the run, as ``announcing`` does.

    The marker has only the error's type: its message may contain details that other teams should not see.
    """
    if not run.plan and isinstance(error, Exception) and not isinstance(error, NotNow):
        _announce(run, dataset, markers, error, f"marker/{dataset}")


def _announce(run: Run, dataset: str, root: str, error: BaseException, node: str) -> None:
    if _is_published(readiness.path_of(root, dataset, run.key)):
        return
    state: MarkerState = "skipped" if isinstance(error, NothingToDo) else "failed"
    with contextlib.suppress(SparkFlowError):  # recorded and shown; the caller raises the run's own error
        publish(run, dataset, markers=root, state=state, reason=_kind_of(error), name=node)


def _is_published(path: str) -> bool:
    """Return whether a key is published; if its marker cannot be read, assume that it is not."""
    try:
        return readiness.read(path).state == "ready"
    except (OSError, InvalidMarker):
        return False


def _kind_of(error: BaseException) -> str:
    """Return the error's type with node and cause: ``NodeFailed (enrich: AnalysisException)``."""
    node, cause = getattr(error, "node", ""), getattr(error, "cause", None)
    more = ": ".join(part for part in (str(node), type(cause).__name__ if cause is not None else "") if part)
    return type(error).__name__ + (f" ({more})" if more else "")


def _written(run: Run, node: str, chosen: Sequence[str]) -> list[Outcome]:
    """Return the run's writes that a marker can pin, ordered by node."""
    writes = [o for o in run.outcomes if o.kind == "sink" and ("format" in o.detail or run.plan)]
    sinks = {o.node: o for o in writes if not is_aside(run, o.node)}
    unknown = [name for name in chosen if name not in sinks]
    if unknown or not sinks:
        found = f"no earlier write {unknown[0]!r}" if unknown else "no earlier write"
        raise InvalidArgument(node, found, f"one of: {', '.join(sinks)}" if sinks else "a write of a table")
    written = [sinks[name] for name in chosen or sorted(sinks)]
    for outcome in written:
        detail = outcome.detail
        if detail.get("format") == "delta" and not detail.get("column") and not detail.get("whole"):
            found = f"{outcome.node}, whose table may also contain other keys"
            expected = "partition_by with the key's column first, mode: overwrite, or other tables (tables=)"
            if "column" not in detail:
                found, expected = f"{outcome.node}, recorded by a version without markers", "a new write: --rerun"
            raise InvalidArgument(node, found, expected)
    return written


def _tables(written: Sequence[Outcome]) -> dict[str, MarkedTable]:
    """Return the marker's tables, named by the last part of their node where that is unique, else by the whole node."""
    last = [outcome.node.rpartition("/")[2] for outcome in written]
    names = [short if last.count(short) == 1 else o.node for short, o in zip(last, written, strict=True)]
    known = ("path", "format", "version", "revision", "column", "value")
    return {
        name: MarkedTable(rows=outcome.rows, **{k: outcome.detail[k] for k in known if k in outcome.detail})
        for name, outcome in zip(names, written, strict=True)
        if "format" in outcome.detail
    }


def _recorded(written: Sequence[Outcome]) -> tuple[Completeness, ...]:
    """Return the completeness recorded with the writes."""
    return together(Completeness.from_record(each) for o in written for each in o.detail.get("completeness", ()))


def _summary(parts: Sequence[Completeness]) -> Told:
    return Told(
        ratio=round(min((part.ratio for part in parts), default=1.0), 4),
        is_approximate=any(part.is_approximate for part in parts),
        fan_ins=[Part(**part.as_recorded) for part in parts],
    )


def _success_of(table: MarkedTable, key: str) -> str:
    below = [f"{table.column}={key}"] if table.format == "delta" and table.column else []
    return files.join(table.path, *below, SUCCESS)
