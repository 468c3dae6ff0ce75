"""Frames of a run written to sinks, once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from spark_flow.core import fingerprint
from spark_flow.engine.lazy_frame import LazyFrame, lazy
from spark_flow.engine.node import Node, Target
from spark_flow.errors import DuplicateNode
from spark_flow.storage import files
from spark_flow.storage.delta_tables import last_revision, why_invalid
from spark_flow.storage.sink_protocol import Intent, Sink, Written, app_id, replaces

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame, SparkSession

    from spark_flow.engine.lazy_frame import HasFrame
    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run
    from spark_flow.ledger import Event


class Scope(Protocol):
    """Where nodes are written to: a run, or a transaction within one."""

    @property
    def run(self) -> Run: ...  # noqa: D102
    def node(self, name: str) -> str: ...  # noqa: D102
    def wrote(self, outcome: Outcome) -> None: ...  # noqa: D102


@runtime_checkable
class KnownByName(Protocol):
    """A sink that may be a table known by its name: where it is, only the session's catalog knows."""

    @property
    def table(self) -> str: ...  # noqa: D102
    def located(self, spark: SparkSession) -> Sink: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class SinkTarget(Target):
    """A sink, as the target of one node and key."""

    sink: Sink
    app_id: str
    key: str

    def last_revision(self) -> int:
        """The last revision that the sink's target remembers."""
        return self.sink.last_revision(self.app_id, self.key)

    def why_invalid(self, event: Event) -> str:
        """Why the target no longer holds the recorded write."""
        known = self.sink.last_revision(self.app_id, self.key, event.detail)
        return "" if known == event.revision else f"its target remembers revision {known}, not {event.revision}"

    def validate(self, intent: Intent) -> None:
        """Refuse a write that could duplicate rows."""
        self.sink.validate(intent)


@dataclass(frozen=True)
class TableTarget(Target):
    """A Delta table that is written by ``delta_tables.replace_rows``."""

    path: str
    app_id: str

    def last_revision(self) -> int:
        """The last revision that the table remembers."""
        return last_revision(self.path, self.app_id)

    def why_invalid(self, event: Event) -> str:
        """Why the table no longer holds the recorded write."""
        return why_invalid(self.path, self.app_id, event.revision)


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
    def is_done(self) -> bool:
        """Whether it succeeded, and its target still holds the result."""
        return self.scope.run.is_valid(self._node, self._target)

    def ensure(self, do: Callable[[Intent], Written] | None = None) -> Outcome:
        """Write, unless that was done.

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

        outcome = run.once(self._node, action, self._target)
        self.scope.wrote(outcome)
        return outcome

    @property
    def _node(self) -> Node:
        return Node(name=self.node, kind="sink", fingerprint=self.fingerprint, inputs=(self.data,))

    @property
    def _target(self) -> SinkTarget:
        run = self.scope.run
        return SinkTarget(self.sink, app_id(run.pipeline, self.node, run.key), run.key)


def writing(scope: Scope, name: str, frame: DataFrame | HasFrame, sink: Sink) -> Writing:
    """A write as a node of its run; nothing is written.

    Raises:
        DuplicateNode: Another node writes to the same path, to one below it or to one above it.
    """
    run, node = scope.run, scope.node(name)
    if isinstance(sink, KnownByName) and sink.table:
        sink = sink.located(run.spark)
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

    Reuse needs more than the event in the ledger: the target must exist and remember the revision, else it is
    written again.

    Raises:
        CannotReplace: The sink can only append, and the key's rows may be there already.
        DuplicateNode: Another node writes to the same path, to one below it or to one above it.
        NodeFailed: The write raised; it was recorded.
        OutsideKey: The frame holds rows of another key.
        WriteNotProved: The target does not hold what was written.
    """
    return writing(scope, name, frame, sink).ensure()
