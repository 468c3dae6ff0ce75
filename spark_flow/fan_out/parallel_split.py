"""The parallel split (the book's section 4.1): one frame, computed once and written to several sinks in parallel.

A failing branch does not affect the others, and a retry writes only the failed ones. If branches need different
hardware, the shared frame becomes a checkpoint and each branch runs as a separate application.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from spark_flow.core import fingerprint
from spark_flow.core.names import check_name
from spark_flow.engine.lazy_frame import Checkpoint, LazyFrame, lazy
from spark_flow.engine.node import Node, Target
from spark_flow.engine.parallel import Task, run_parallel
from spark_flow.engine.writing import Writing, writing
from spark_flow.errors import BranchesFailed, ColumnClash, DuplicateNode, InvalidArgument, NoBranches
from spark_flow.fan_out.branch_application import handover, run_apart
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
    from spark_flow.ledger import Event
    from spark_flow.sequence.local_sequencer import Transform

Share = Literal["MEMORY_AND_DISK", "MEMORY_ONLY", "DISK_ONLY", "boundary"]
Mode = Literal["threads", "intermediary"]
Branch: TypeAlias = "Sink | tuple[Transform | Step, Sink]"

_LOST = "the persisted frame was lost with its process"


def parallel_split(
    scope: Scope,
    frame: DataFrame | HasFrame,
    branches: Mapping[str, Branch],
    *,
    name: str = "split",
    share: Share = "MEMORY_AND_DISK",
    loading_time: str = "",
    max_in_flight: int | None = None,
    mode: Mode = "threads",
    spark: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, Outcome]:
    """Write one frame to several sinks; it is computed once, and each sink is a node.

    >>> with transaction(run, "publish") as tx:  # doctest: +SKIP
    ...     parallel_split(tx, daily, {"lake": delta("out/daily", partition_by="date"),
    ...                                "legacy": (as_text, csv("out/legacy", partition_by="date"))})

    Args:
        scope: A run, or a transaction of a run.
        frame: The frame that all branches share.
        branches: By name, a sink, or a transform (a function or ``step(...)``) and a sink.
        name: The node of the shared frame.
        share: How to share the frame between branches: a Spark storage level (always unpersisted at the end), or
            ``boundary`` for a checkpoint. With a storage level a retry computes the frame again; use ``boundary`` if
            that may return different rows.
        loading_time: The name of a timestamp column to add: the start of the run's generation, the same in all branches
            and in every retry.
        max_in_flight: How many branches run at once; by default what the session can run at once, at least two.
        mode: ``threads`` runs the branches in this application. ``intermediary`` writes the shared frame as a
            checkpoint, and runs each branch as a separate application with spark-submit.
        spark: For ``intermediary``, Spark settings by branch: ``{"lake": {"spark.driver.memory": "4g"}}``.

    Returns:
        The outcome of each branch.

    Raises:
        NoBranches: There are no sinks.
        DuplicateNode: Two sinks write to the same path, or to one inside the other; or the run already has a split with
            this name.
        InvalidArgument: A branch is not a sink, or a setting is invalid.
        InvalidName: A branch's name cannot be a folder name.
        ColumnClash: The frame already has a column with the name in ``loading_time``.
        BranchesFailed: Some branches failed; the others are written, and a retry reuses them.
    """
    run, node = scope.run, scope.node(name)
    _check(node, name, branches, share, mode, spark or {}, max_in_flight)
    data = lazy(run, frame, f"{node}: frame")
    make = functools.partial(_with_loading_time, run, data, loading_time)
    digest = fingerprint.combine("split", data.fingerprint, loading_time)
    separate = mode == "intermediary" and not run.plan
    with contextlib.ExitStack() as held:
        if separate:
            files.remove(handover(run))  # left by a killed attempt
            held.callback(files.remove, handover(run))
        if separate or share == "boundary":
            shared = Checkpoint(run, node, "step", digest, (data,), make).lazily(data.completeness)
        else:
            hold = functools.partial(_hold, run, node, digest, data, make, share, held)
            shared = LazyFrame(run, node, "step", digest, (), hold, data.completeness)
            run.graph.uses(node, [data.node])
        declared = {each: _declare(scope, each, shared, branch) for each, branch in branches.items()}
        return _write_branches(run, node, shared, declared, max_in_flight, (spark or {}) if separate else None)


def _check(
    node: str, name: str, branches: object, share: str, mode: str, spark: Mapping[str, object], max_in_flight: object
) -> None:
    """Validate the arguments before anything is computed."""
    if not isinstance(branches, Mapping):
        raise InvalidArgument(f"{node}: branches", type(branches).__name__, "a mapping of names to sinks")
    if not branches:
        raise NoBranches(node)
    for each, branch in branches.items():
        sink = branch[-1] if isinstance(branch, tuple) and len(branch) == 2 else branch  # noqa: PLR2004 - (transform, sink)
        if not hasattr(sink, "write") or not hasattr(sink, "last_revision"):
            raise InvalidArgument(f"{node}/{each}", repr(branch), "a sink, or (transform, sink)")
        if each == name:
            raise DuplicateNode(node, "a branch has the same name as the split; pass another name=")
    for what, given, allowed in (("share", share, get_args(Share)), ("mode", mode, get_args(Mode))):
        if given not in allowed:
            raise InvalidArgument(f"{node}: {what}", repr(given), f"one of: {', '.join(allowed)}")
    if max_in_flight is not None and (not isinstance(max_in_flight, int) or max_in_flight < 1):
        raise InvalidArgument(f"{node}: max_in_flight", repr(max_in_flight), "1 or more")
    unknown = sorted(set(spark) - set(branches))
    if unknown or (any(spark.values()) and mode != "intermediary"):
        found = f"settings of {unknown[0]!r}" if unknown else "settings with mode threads"
        raise InvalidArgument(f"{node}: spark", found, "settings of a branch, with mode intermediary")


@dataclass(frozen=True)
class _Declared:
    """A branch's optional transform, and its write."""

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


def _write_branches(
    run: Run,
    node: str,
    shared: LazyFrame,
    branches: Mapping[str, _Declared],
    max_in_flight: int | None,
    settings: Mapping[str, Mapping[str, str]] | None,
) -> dict[str, Outcome]:
    """Write the branches; valid ones are reused without a session, so that a run with nothing to write needs none."""
    outcomes: dict[str, Outcome] = {}
    pending = {}
    for name, branch in branches.items():
        if run.plan or branch.write.is_done:
            outcomes[name] = branch.write.ensure()
        else:
            pending[name] = branch
    if not pending:
        return outcomes
    _ = shared.frame  # computed before the branches start: its error is not the failure of a branch
    tasks = [
        Task(
            branch.write.node,
            "sink",
            branch.write.fingerprint,
            branch.write.ensure
            if settings is None
            else functools.partial(_run_as_application, run, shared, branch, settings.get(name, {})),
        )
        for name, branch in pending.items()
    ]
    ended = run_parallel(run, tasks, max_in_flight=max_in_flight)
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


def _run_as_application(run: Run, shared: LazyFrame, branch: _Declared, settings: Mapping[str, str]) -> Outcome:
    def do(intent: Intent) -> Written:
        return run_apart(run, intent, shared, branch.transform, branch.write.sink, settings)

    return branch.write.ensure(do)


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
    digest: str,
    data: LazyFrame,
    make: Callable[[], DataFrame],
    share: Share,
    held: contextlib.ExitStack,
) -> DataFrame:
    """Persist and count the shared frame as a node; ``held`` unpersists it."""
    from pyspark.storagelevel import StorageLevel

    if run.plan:
        return make()
    frames = []

    def fill(_: Intent) -> Written:
        frame = make().persist(getattr(StorageLevel, share))
        held.callback(frame.unpersist)
        frames.append(frame)
        return Written(rows=frame.count(), reason=f"persisted in {share}")

    run.once(Node(name=node, fingerprint=digest, inputs=(data,), writes=False), fill, _Memory())
    if not frames:
        raise DuplicateNode(node, "this run already has a split with this name; pass another name=")
    return frames[0]
