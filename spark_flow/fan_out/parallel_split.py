"""The parallel split (the book's section 4.1): one frame, computed once, to several sinks side by side.

A branch that fails neither stops nor spoils another; a retry writes the failed ones alone. Where branches need
unlike hardware, the shared frame is written once and each branch is an application of its own.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from spark_flow.engine.node import Node, Target
from spark_flow.core import fingerprint
from spark_flow.core.names import check_name
from spark_flow.engine.lazy_frame import Bounded, LazyFrame, lazy
from spark_flow.engine.parallel import IN_FLIGHT, Task, side_by_side
from spark_flow.engine.writing import Writing, writing
from spark_flow.errors import BranchesFailed, ColumnClash, DuplicateNode, InvalidArgument, NoBranches
from spark_flow.fan_out.branch_application import handover, settle_apart
from spark_flow.sequence import Step, local_sequencer, step
from spark_flow.storage import files
from spark_flow.storage.sink_protocol import Intent, Sink, Written
from spark_flow.transforms.columns import folding

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import DataFrame

    from spark_flow.engine.lazy_frame import HasFrame
    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run
    from spark_flow.engine.writing import Scope
    from spark_flow.sequence.local_sequencer import Transform

Share = Literal["MEMORY_AND_DISK", "MEMORY_ONLY", "DISK_ONLY", "boundary"]
Mode = Literal["threads", "intermediary"]
Branch: TypeAlias = "Sink | tuple[Transform | Step, Sink]"

_LOST = "what was held is gone with the process that held it"


def parallel_split(
    scope: Scope,
    frame: DataFrame | HasFrame,
    branches: Mapping[str, Branch],
    *,
    name: str = "split",
    share: Share = "MEMORY_AND_DISK",
    loading_time: str = "",
    max_in_flight: int = IN_FLIGHT,
    mode: Mode = "threads",
    spark: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, Outcome]:
    """Write one frame to several sinks, read once; each sink is a node of its own.

    >>> with transaction(run, "publish") as tx:  # doctest: +SKIP
    ...     parallel_split(tx, daily, {"lake": delta("out/daily", partition_by="date"),
    ...                                "legacy": (as_text, csv("out/legacy", partition_by="date"))})

    Args:
        scope: A run, or a transaction within one.
        frame: What all branches share.
        branches: By name, each a sink, or a transform (a function or ``step(...)``) and a sink.
        name: The node of the shared frame.
        share: How the shared frame is held while branches run: a Spark storage level, released in the end whatever
            happens, or a ``boundary``, which a retry reads as well. Held in memory, a retry computes the frame
            again: take the boundary if that does not give the same rows.
        loading_time: The name of a column to add: when the run's generation began, a timestamp that is the same in
            all branches and on every retry.
        max_in_flight: How many branches run at once.
        mode: ``threads`` of this application; ``intermediary``: the shared frame becomes a boundary, and each branch
            is an application of its own under spark-submit.
        spark: For ``intermediary``, Spark settings of each branch, as ``{"lake": {"spark.driver.memory": "4g"}}``.

    Returns:
        What became of each branch.

    Raises:
        NoBranches: There is no sink.
        DuplicateNode: Two sinks write to one place, or one within the other's; or a split of this name was done.
        InvalidArgument: A branch is no sink, or a setting is none.
        InvalidName: A branch's name cannot be a folder name.
        ColumnClash: The frame has a column of the name of ``loading_time``.
        BranchesFailed: Some branches failed; the others are written, and a retry reuses them.
    """
    run, node = scope.run, scope.node(name)
    _check(node, name, branches, share, mode, spark or {}, max_in_flight)
    data = lazy(run, frame, f"{node}: frame")
    make = functools.partial(_with_loading_time, run, data, loading_time)
    made_of = fingerprint.combine("split", data.fingerprint, loading_time)
    apart = mode == "intermediary" and not run.plan
    with contextlib.ExitStack() as held:
        if apart:
            files.remove(handover(run))  # of an attempt that was killed
            held.callback(files.remove, handover(run))
        if apart or share == "boundary":
            shared = Bounded(run, node, "step", made_of, (data,), make).lazily(data.completeness)
        else:
            hold = functools.partial(_hold, run, node, made_of, data, make, share, held)
            shared = LazyFrame(run, node, "step", made_of, (), hold, data.completeness)
            run.graph.uses(node, [data.node])
        declared = {each: _declare(scope, each, shared, branch) for each, branch in branches.items()}
        return _settle(run, node, shared, declared, max_in_flight, (spark or {}) if apart else None)


def _check(
    node: str, name: str, branches: object, share: str, mode: str, spark: Mapping[str, object], max_in_flight: object
) -> None:
    """Refuse what no split can be made of, before anything is computed."""
    if not isinstance(branches, Mapping):
        raise InvalidArgument(f"{node}: branches", type(branches).__name__, "a mapping of names to sinks")
    if not branches:
        raise NoBranches(node)
    for each, branch in branches.items():
        sink = branch[-1] if isinstance(branch, tuple) and len(branch) == 2 else branch  # noqa: PLR2004 - (transform, sink)
        if not hasattr(sink, "write") or not hasattr(sink, "remembered"):
            raise InvalidArgument(f"{node}/{each}", repr(branch), "a sink, or (transform, sink)")
        if each == name:
            raise DuplicateNode(node, "a branch has the name of the split; give the split another by name=")
    for what, given, allowed in (("share", share, get_args(Share)), ("mode", mode, get_args(Mode))):
        if given not in allowed:
            raise InvalidArgument(f"{node}: {what}", repr(given), f"one of: {', '.join(allowed)}")
    if not isinstance(max_in_flight, int) or max_in_flight < 1:
        raise InvalidArgument(f"{node}: max_in_flight", repr(max_in_flight), "1 or more")
    unknown = sorted(set(spark) - set(branches))
    if unknown or (any(spark.values()) and mode != "intermediary"):
        found = f"settings of {unknown[0]!r}" if unknown else "settings with mode threads"
        raise InvalidArgument(f"{node}: spark", found, "settings of a branch, with mode intermediary")


@dataclass(frozen=True)
class _Declared:
    """A branch's transform, if it has one, and its write."""

    transform: Step | None
    write: Writing


def _declare(scope: Scope, name: str, shared: LazyFrame, branch: Branch) -> _Declared:
    check_name("branch", name)
    transform, sink = branch if isinstance(branch, tuple) else (None, branch)
    if transform is None:
        return _Declared(None, writing(scope, name, shared, sink))
    one = transform if isinstance(transform, Step) else step(transform)
    chain = local_sequencer(scope.run, shared, [one], name=scope.node(name))
    return _Declared(one, writing(scope, name, chain, sink))


def _settle(
    run: Run,
    node: str,
    shared: LazyFrame,
    branches: Mapping[str, _Declared],
    max_in_flight: int,
    apart: Mapping[str, Mapping[str, str]] | None,
) -> dict[str, Outcome]:
    """Settle the branches: what stands is reused here, so that a run that writes nothing needs no session."""
    outcomes: dict[str, Outcome] = {}
    pending = {}
    for name, branch in branches.items():
        if run.plan or branch.write.is_done:
            outcomes[name] = branch.write.settle()
        else:
            pending[name] = branch
    if not pending:
        return outcomes
    _ = shared.frame  # filled before the branches start; what is wrong with it is no branch's failure
    tasks = [
        Task(
            branch.write.node,
            "sink",
            branch.write.fingerprint,
            branch.write.settle
            if apart is None
            else functools.partial(_settle_apart, run, shared, branch, apart.get(name, {})),
        )
        for name, branch in pending.items()
    ]
    ended = side_by_side(run, tasks, max_in_flight=max_in_flight)
    failed: dict[str, BaseException] = {}
    for name, branch in pending.items():
        result = ended[branch.write.node].result
        if isinstance(result, Exception):
            failed[name] = result
        else:
            outcomes[name] = result
    if failed:
        raise BranchesFailed(node, failed, len(branches))
    return outcomes


def _settle_apart(run: Run, shared: LazyFrame, branch: _Declared, settings: Mapping[str, str]) -> Outcome:
    def do(intent: Intent) -> Written:
        return settle_apart(run, intent, shared, branch.transform, branch.write.sink, settings)

    return branch.write.settle(do)


def _with_loading_time(run: Run, data: LazyFrame, column: str) -> DataFrame:
    from pyspark.sql import functions as F

    frame = data.frame
    if not column:
        return frame
    fold = folding(frame.sparkSession)
    if fold(column) in {fold(name) for name in frame.columns}:
        raise ColumnClash({column: [data.node, "loading_time"]})
    return frame.withColumn(column, F.lit(run.loading_time))


class _Memory(Target):
    """Memory of this process: a recorded success of an earlier one is always invalid."""

    def why_invalid(self, event: Event) -> str:  # noqa: ARG002 - whatever was recorded
        return _LOST


def _hold(
    run: Run,
    node: str,
    made_of: str,
    data: LazyFrame,
    make: Callable[[], DataFrame],
    share: Share,
    held: contextlib.ExitStack,
) -> DataFrame:
    """The shared frame, filled as a node of its own and released with ``held``."""
    from pyspark.storagelevel import StorageLevel

    if run.plan:
        return make()
    frames = []

    def fill(_: Intent) -> Written:
        frame = make().persist(getattr(StorageLevel, share))
        held.callback(frame.unpersist)
        frames.append(frame)
        return Written(rows=frame.count(), reason=f"held in {share}")

    run.once(Node(name=node, fingerprint=made_of, inputs=(data,), writes=False), fill, _Memory())
    if not frames:
        raise DuplicateNode(node, "a split of this name was done in this run already; give each another by name=")
    return frames[0]
