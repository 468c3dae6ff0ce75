"""Frames of a run that are computed only when something needs them, and the two ends of a flow."""

from __future__ import annotations

import dataclasses
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from spark_flow.core import fingerprint
from spark_flow.core.names import quote_literal
from spark_flow.errors import DuplicateNode, InvalidArgument, NotRecorded
from spark_flow.storage import arrivals, boundaries, files, sources
from spark_flow.storage.delta import delta
from spark_flow.storage.failures import as_missing_input
from spark_flow.storage.port import Intent, Sink, Written, app_id, replaces
from spark_flow.transforms.columns import is_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import DataFrame

    from spark_flow.core.completeness import Completeness
    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run
    from spark_flow.ledger import Event, Kind
    from spark_flow.storage.sources import Source


class Scope(Protocol):
    """Where nodes are written to: a run, or a transaction within one."""

    @property
    def run(self) -> Run: ...  # noqa: D102
    def node(self, name: str) -> str: ...  # noqa: D102
    def wrote(self, outcome: Outcome) -> None: ...  # noqa: D102


@dataclass(eq=False)
class LazyFrame:
    """A node's frame, computed when ``frame`` is first asked for; what is reused is never computed.

    Attributes:
        run: The run that the node belongs to.
        node: The node's name.
        kind: What the node is.
        fingerprint: What the node is made of, its inputs included.
        inputs: The frames that it is made from.
        completeness: Of the fan-ins that it comes from; empty where there is none.
    """

    run: Run
    node: str
    kind: Kind
    fingerprint: str
    inputs: Sequence[LazyFrame]
    _build: Callable[[], DataFrame]
    completeness: tuple[Completeness, ...] = ()
    _gathers: bool = False  # it asks for its inputs itself, to tell all that is wrong with them at once
    _frame: DataFrame | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        """Make the node known to its run."""
        self.run.graph.declare(self)

    @property
    def frame(self) -> DataFrame:
        """The node's frame; asking for it runs what is needed and was not done before.

        Raises:
            NodeFailed: The node's function raised; it was recorded.
            SparkFlowError: As the node's source or step says.
        """
        self.run.check()
        with self._lock:
            if self._frame is None:
                self._frame = self._make()
            return self._frame

    def _make(self) -> DataFrame:
        for needed in () if self._gathers else self.inputs:
            _ = needed.frame
        began = time.monotonic()
        try:
            self.run.check_kept(self.node, self.fingerprint)
            self.run.admit(self.node)
            frame = self._build()
        except Exception as error:
            failure = self.run.failed(self.node, self.kind, error, fingerprint=self.fingerprint)
            raise failure from (error if failure is not error else error.__cause__)
        self.run.graph.built[self.node] = round((time.monotonic() - began) * 1000)
        return frame


@dataclass(frozen=True, eq=False)
class Bounded:
    """A node whose frame is written as a restart boundary before anything is made from it.

    Attributes:
        run: The run that the node belongs to.
        node: The node's name.
        kind: What the node is.
        fingerprint: What the node is made of.
        inputs: Frames that ``build`` uses.
        build: Makes the frame; not called when the boundary is there.
    """

    run: Run
    node: str
    kind: Kind
    fingerprint: str
    inputs: Sequence[LazyFrame]
    build: Callable[[], DataFrame]

    def settle(self) -> Outcome:
        """Write the boundary where it is not there.

        Raises:
            NodeFailed: The node's function raised; it was recorded.
            SparkFlowError: As the node's source or step says.
        """
        return self.run.once(
            self.node,
            self._write,
            kind=self.kind,
            fingerprint=self.fingerprint,
            inputs=self.inputs,
            lack=lambda event: boundaries.lack(self.run.state, event.detail),
        )

    def _write(self, intent: Intent) -> Written:
        """Write the boundary; what its files held is recorded with it."""
        written = boundaries.write(self.build(), self.run.state, intent)
        held = self.run.graph.inputs.get(self.node)
        if held is None:
            return written
        reason = arrivals.EMPTY if arrivals.is_empty(held) else written.reason
        return dataclasses.replace(written, reason=reason, detail={**written.detail, "input": held})

    def frame(self) -> DataFrame:
        """The frame of the boundary; raises as ``settle`` does."""
        outcome = self.settle()
        if outcome.state == "would run":
            return self.build()
        return boundaries.read(self.run.spark, self.run.state, [outcome.detail])

    def lazily(self, completeness: tuple[Completeness, ...] = ()) -> LazyFrame:
        """The node as a frame of its run."""
        self.run.graph.uses(self.node, (each.node for each in self.inputs))
        return LazyFrame(self.run, self.node, self.kind, self.fingerprint, (), self.frame, completeness)


class HasFrame(Protocol):
    """What a pattern returns that holds a frame: of a fan-in, a hand-over of one table, a choice."""

    @property
    def frame(self) -> DataFrame | LazyFrame: ...  # noqa: D102


def held(value: Any) -> Any:
    """The frame that a pattern's result holds; any other value as it is.

    Raises:
        InvalidArgument: It holds several, or none: it says how to name one.
    """
    if isinstance(value, LazyFrame) or is_frame(value):
        return value
    frame = getattr(value, "frame", None)
    return frame if isinstance(frame, LazyFrame) or is_frame(frame) else value


def lazy(run: Run, frame: DataFrame | HasFrame, of: str = "frame") -> LazyFrame:
    """A frame as a node; one that was made outside of the run is fingerprinted by its plan.

    Args:
        run: The run.
        frame: A frame, or a pattern's result that holds one.
        of: What an error calls it.

    Raises:
        InvalidArgument: It is none.
    """
    one = held(frame)
    if isinstance(one, LazyFrame):
        return one
    if not is_frame(one):
        raise InvalidArgument(of, _kind(one), "a DataFrame, a frame of the run, or a result that has one as .frame")
    made_of = fingerprint.of_frame(one)
    return LazyFrame(run, f"input-{made_of[:6]}", "source", made_of, (), lambda: one)


def _kind(value: object) -> str:
    """What was given in place of a frame, and how to make one of it."""
    name = type(value).__name__
    if value is None:
        return "nothing (is a return missing?)"
    if isinstance(value, sources.Source):
        return f"a {name} (read(run, name, source) makes a frame of it)"
    return f"a function {name} (call it)" if callable(value) else f"a {name}"


def read(run: Run, name: str, source: Source) -> LazyFrame:
    """Data as a frame of the run.

    A Delta table's version is pinned at the generation's first read, and a retry reads that version again. Files
    are read as they are; records that are not by the schema fail the run or are set aside (``bad_records``).

    Raises (when the frame is asked for):
        MissingInput: A file, folder or table is not there; all that are missing are named.
        NotArrived: The same, where the source's path is another one for each key or branch (exit code 75).
        BadRecords: Within the action that meets one.
    """
    node = run.node(name)
    run.graph.sources[node] = source
    run.secrets.learn_from(source.options)
    return LazyFrame(run, node, "source", source.fingerprint, (), lambda: read_now(run, node, source))


def read_now(run: Run, node: str, source: Source, name: str = "") -> DataFrame:
    """A source's frame as ``read`` has it.

    Args:
        run: The run.
        node: Where a pinned version or what was set aside is recorded.
        source: What to read.
        name: What an error calls the source; by default the node.
    """
    if source.format == "delta":
        return _read_delta(run, node, source)
    return _read_files(run, node, source, name or node)


def _read_delta(run: Run, node: str, source: Source) -> DataFrame:
    def pin(_: Intent) -> Written:
        version = sources.current_version(node, source)
        return Written(reason=f"pinned at version {version}", detail={"version": version, "path": source.path})

    if run.plan and not run.keeps(node):
        return sources.read_delta(run.spark, source, sources.current_version(node, source))
    outcome = run.once(node, pin, kind="source", fingerprint=source.fingerprint, writes=False)
    return sources.read_delta(run.spark, source, int(outcome.detail["version"]))


def _read_files(run: Run, node: str, source: Source, name: str) -> DataFrame:
    if run.keeps(node):
        remedy = "Give a step between it and what is done anew restart: true"
        raise NotRecorded(node, "its files would be read again, and may have changed", remedy)
    found = sources.check_present(name, source)
    if found:
        run.graph.inputs[name] = arrivals.facts(source.paths, found)
    try:
        if source.bad_records == "fail":
            return sources.read_files(run.spark, name, source)
        good, bad = sources.split_bad_records(run.spark, source)
    except Exception as error:  # of a path that is a pattern Spark alone knows what is there
        missing = as_missing_input(name, error)
        if missing is None or missing is error:
            raise
        raise sources.absent(name, source, missing.missing) from error
    if not run.plan:
        _quarantine(run, node, source, bad)
    return good


def _quarantine(run: Run, node: str, source: Source, bad: DataFrame) -> None:
    """Set bad records aside in ``<state>/quarantine/<pipeline>`` before anything is made from the good ones."""
    from pyspark.sql import functions as F

    where = f"`key` = {quote_literal(run.key)} AND `source` = {quote_literal(node)}"
    path = files.join(files.absolute(run.state), "quarantine", run.pipeline)
    # By partitions, so that branches which set records aside at the same time do not conflict.
    sink = delta(path, replace_where=where, partition_by=("key", "source"))
    id_ = app_id(run.pipeline, node, run.key)

    def set_aside(intent: Intent) -> Written:
        if not sink.remembered(id_, run.key) and bad.isEmpty():
            return Written(reason="no bad records")
        place = {"pipeline": run.pipeline, "key": run.key, "source": node, "revision": intent.revision}
        rows = bad.select(*[F.lit(value).alias(name) for name, value in place.items()], "*")
        written = sink.write(rows, intent)
        count = {} if written.rows is None else {"quarantined": written.rows}  # as the table counts them
        told = "bad records" if written.rows is None else f"{written.rows} bad record(s)"
        return Written(reason=f"{told} set aside in {path}", detail={**count, **written.detail})

    run.once(
        node,
        set_aside,
        kind="source",
        fingerprint=source.fingerprint,
        remembered=lambda: sink.remembered(id_, run.key),
    )


@dataclass(frozen=True, eq=False)
class Writing:
    """A write as a node of its run; made by ``writing``."""

    scope: Scope
    node: str
    data: LazyFrame
    sink: Sink

    @property
    def fingerprint(self) -> str:
        """What is written, and where to."""
        return fingerprint.combine(self.data.fingerprint, self.sink.fingerprint)

    @property
    def stands(self) -> bool:
        """Whether it was done, and its target still holds it."""
        return self.scope.run.stands(self.node, self.fingerprint, self._lack)

    def settle(self, do: Callable[[Intent], Written] | None = None) -> Outcome:
        """Write, unless it stands.

        Args:
            do: Writes in place of the sink, under the intent that it is given. The frame's plan is made here all the
                same, so that what is wrong with it is known before.

        Raises:
            SparkFlowError: As ``write`` does.
        """
        run, completeness = self.scope.run, self.data.completeness

        def action(intent: Intent) -> Written:
            told = dataclasses.replace(intent, completeness=completeness)
            written = do(told) if do else self.sink.write(self.data.frame, told)
            parts = {"completeness": [part.as_recorded for part in completeness]} if completeness else {}
            return dataclasses.replace(written, detail={**written.detail, **parts})

        outcome = run.once(
            self.node,
            action,
            kind="sink",
            fingerprint=self.fingerprint,
            inputs=(self.data,),
            remembered=lambda: self.sink.remembered(self._id, run.key),
            lack=self._lack,
            admit=self.sink.admit,
        )
        self.scope.wrote(outcome)
        return outcome

    @property
    def _id(self) -> str:
        return app_id(self.scope.run.pipeline, self.node, self.scope.run.key)

    def _lack(self, event: Event) -> str:
        known = self.sink.remembered(self._id, self.scope.run.key, event.detail)
        return "" if known == event.revision else f"its target remembers revision {known}, not {event.revision}"


def writing(scope: Scope, name: str, frame: DataFrame | HasFrame, sink: Sink) -> Writing:
    """A write as a node of its run; nothing is written.

    Raises:
        DuplicateNode: Another node writes to the same place, within it or around it.
    """
    run, node = scope.run, scope.node(name)
    for path in sink.paths:
        place = files.absolute(path).rstrip("/")
        for taken, other in run.targets.items():
            if other != node and f"{place}/".startswith(f"{taken}/"):
                raise DuplicateNode(node, f"{other} writes to {taken} too")
            if other != node and f"{taken}/".startswith(f"{place}/"):
                raise DuplicateNode(node, f"{other} writes to {taken}, which lies within {path}")
        run.targets[place] = node
    run.graph.writes[node] = replaces(sink, run.key)
    return Writing(scope, node, lazy(run, frame, f"{node}: frame"), sink)


def write(scope: Scope, name: str, frame: DataFrame | HasFrame, sink: Sink) -> Outcome:
    """Write a frame to a sink, once: a repeated run reuses the write, a rerun replaces the key's rows.

    Reuse needs more than the ledger's word: the target must be there and remember the revision, else it is
    written anew.

    Raises:
        CannotReplace: The sink can only append, and the key's rows may be there already.
        DuplicateNode: Another node writes to the same place, within it or around it.
        NodeFailed: The write raised; it was recorded.
        OutsideKey: The frame holds rows of another key.
        WriteNotProved: The target does not hold what was written.
    """
    return writing(scope, name, frame, sink).settle()
