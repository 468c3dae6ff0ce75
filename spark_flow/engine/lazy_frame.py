"""Frames of a run that are computed only when something needs them, and checkpoints of such frames."""

from __future__ import annotations

import dataclasses
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from spark_flow.core import fingerprint, html
from spark_flow.engine.node import Node, Target
from spark_flow.errors import InvalidArgument
from spark_flow.storage import arrivals, checkpoints, sources
from spark_flow.storage.reading import analysed
from spark_flow.transforms.columns import is_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import DataFrame

    from spark_flow.core.completeness import Completeness
    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run
    from spark_flow.ledger import Event, Kind
    from spark_flow.storage.sink_protocol import Intent, Written


@dataclass(eq=False, repr=False)
class LazyFrame:
    """A node's frame, computed when ``frame`` is first used; a reused node is never computed.

    Attributes:
        run: The run that the node belongs to.
        node: The node's name.
        kind: The kind of node.
        fingerprint: A hash of what the node is computed from, its inputs included.
        inputs: The frames that it is computed from.
        completeness: That of the fan-ins upstream; empty without one.
    """

    run: Run
    node: str
    kind: Kind
    fingerprint: str
    inputs: Sequence[LazyFrame]
    _build: Callable[[], DataFrame]
    completeness: tuple[Completeness, ...] = ()
    _gathers: bool = False  # it computes its inputs itself, to report everything that is wrong with them at once
    _frame: DataFrame | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        """Declare the node in its run."""
        self.run.graph.declare(self)

    @property
    def frame(self) -> DataFrame:
        """The node's frame; the first use runs the nodes that it needs and that have no valid result.

        Raises:
            NodeFailed: The node's function raised; it was recorded.
            SparkFlowError: As the node's source or step says.
        """
        self.run.check()
        with self._lock:
            if self._frame is None:
                self._frame = self._make()
            return self._frame

    def show(self, n: int = 20, truncate: bool | int = True) -> None:  # noqa: FBT001 - as in Spark
        """Compute the frame if needed, and print its first rows, as ``DataFrame.show`` does."""
        self.frame.show(n, truncate)

    def __getattr__(self, name: str) -> Any:
        """Name ``.frame`` in the error for what only a DataFrame has.

        Raises:
            AttributeError: Always.
        """
        hint = "" if name.startswith("_") else f". Its DataFrame is .frame: .frame.{name}"
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}")

    def __repr__(self) -> str:
        """Return the node, and whether its frame is there; computes nothing."""
        return f"<LazyFrame {self.node} ({self.kind}), {self._words}>"

    def _repr_html_(self) -> str:
        """Return the node for notebooks; computes nothing."""
        rows = [(self.node, self.kind, ", ".join(each.node for each in self.inputs), self._words)]
        return html.table("lazy frame", ("node", "kind", "inputs", "frame"), rows)

    @property
    def _words(self) -> str:
        if self._frame is None:
            return "not computed: .show() and .frame compute it"
        return ", ".join(f"{name} {kind}" for name, kind in self._frame.dtypes)

    def _make(self) -> DataFrame:
        for needed in () if self._gathers else self.inputs:
            _ = needed.frame
        began = time.monotonic()
        try:
            self.run.check_kept(Node(name=self.node, kind=self.kind, fingerprint=self.fingerprint))
            self.run.permit(self.node)
            frame = analysed(self._build())
        except Exception as error:
            failure = self.run.failed(self.node, self.kind, error, self.fingerprint)
            raise failure from (error if failure is not error else error.__cause__)
        self.run.graph.built[self.node] = round((time.monotonic() - began) * 1000)
        return frame


@dataclass(frozen=True)
class CheckpointTarget(Target):
    """The checkpoint of a node.

    Attributes:
        state: The state folder.
        optional: Whether a result without a checkpoint is valid.
    """

    state: str
    optional: bool = False

    def why_invalid(self, event: Event) -> str:
        """Why the recorded checkpoint cannot be used."""
        if self.optional and not event.detail:
            return ""
        return checkpoints.why_invalid(self.state, event.detail)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A node whose frame is written as a checkpoint before anything is computed from it.

    Attributes:
        run: The run that the node belongs to.
        node: The node's name.
        kind: The kind of node.
        fingerprint: A hash of what the node is computed from.
        inputs: Frames that ``build`` uses.
        build: Makes the frame; not called if the checkpoint is valid.
    """

    run: Run
    node: str
    kind: Kind
    fingerprint: str
    inputs: Sequence[LazyFrame]
    build: Callable[[], DataFrame]

    def ensure(self) -> Outcome:
        """Write the checkpoint, unless there is a valid one.

        Raises:
            NodeFailed: The node's function raised; it was recorded.
            SparkFlowError: As the node's source or step says.
        """
        node = Node(name=self.node, kind=self.kind, fingerprint=self.fingerprint, inputs=self.inputs)
        return self.run.once(node, self._write, CheckpointTarget(self.run.state))

    def _write(self, intent: Intent) -> Written:
        """Write the checkpoint; what the input files held is recorded with it."""
        written = checkpoints.write(analysed(self.build()), self.run.state, intent)
        held = self.run.graph.inputs.get(self.node)
        if held is None:
            return written
        reason = arrivals.EMPTY if arrivals.is_empty(held) else written.reason
        return dataclasses.replace(written, reason=reason, detail={**written.detail, "input": held})

    def frame(self) -> DataFrame:
        """The frame of the checkpoint; raises as ``ensure`` does."""
        outcome = self.ensure()
        if outcome.state == "would run":
            return self.build()
        return checkpoints.read(self.run.spark, self.run.state, [outcome.detail])

    def lazily(self, completeness: tuple[Completeness, ...] = ()) -> LazyFrame:
        """The node as a frame of its run."""
        self.run.graph.uses(self.node, (each.node for each in self.inputs))
        return LazyFrame(self.run, self.node, self.kind, self.fingerprint, (), self.frame, completeness)


class HasFrame(Protocol):
    """A result of a pattern that has a frame: of a fan-in, a hand-over of one table, a choice."""

    @property
    def frame(self) -> DataFrame | LazyFrame: ...  # noqa: D102


def held(value: Any) -> Any:
    """The frame of a pattern's result; any other value unchanged.

    Raises:
        InvalidArgument: The result has no frame, or several; the message says how to name one.
    """
    if isinstance(value, LazyFrame) or is_frame(value):
        return value
    frame = getattr(value, "frame", None)
    return frame if isinstance(frame, LazyFrame) or is_frame(frame) else value


def lazy(run: Run, frame: DataFrame | HasFrame, of: str = "frame") -> LazyFrame:
    """A frame as a node; a frame from outside the run is fingerprinted by its plan.

    Args:
        run: The run.
        frame: A frame, or a pattern's result that has one.
        of: The name of the argument in an error.

    Raises:
        InvalidArgument: It is not a frame.
    """
    one = held(frame)
    if isinstance(one, LazyFrame):
        return one
    if not is_frame(one):
        raise InvalidArgument(of, _kind(one), "a DataFrame, a frame of the run, or a result that has one as .frame")
    digest = fingerprint.of_frame(one)
    return LazyFrame(run, f"input-{digest[:6]}", "source", digest, (), lambda: one)


def _kind(value: object) -> str:
    """What was given instead of a frame, and how to get a frame from it."""
    name = type(value).__name__
    if value is None:
        return "nothing (is a return missing?)"
    if isinstance(value, sources.Source):
        return f"a {name} (read(run, name, source) makes a frame of it)"
    return f"a function {name} (call it)" if callable(value) else f"a {name}"
