"""Frames of a run written to sinks, once."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from spark_flow.core import fingerprint
from spark_flow.engine.lazy_frame import LazyFrame, lazy
from spark_flow.errors import DuplicateNode
from spark_flow.storage import files
from spark_flow.storage.sink_protocol import Intent, Sink, Written, app_id, replaces

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame

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
