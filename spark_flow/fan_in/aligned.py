"""The aligned fan-in (the book's section 3.1): merge branches once all of them have arrived.

With ``restart=True`` each branch is a node with a checkpoint, so the next attempt runs only the branches that failed or
whose data arrived late. With ``restart=False`` all branches are one Spark plan.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from spark_flow.core.completeness import Completeness, together
from spark_flow.engine.lazy_frame import LazyFrame
from spark_flow.engine.parallel import OnFailure, check_settings
from spark_flow.errors import BranchesFailed, NotAllArrived, StoppedBySibling
from spark_flow.fan_in.branches import (
    Branch,
    Each,
    Ended,
    FanIn,
    Inputs,
    Merge,
    by_result,
    chosen,
    completeness_of,
    declare,
    ensure,
    is_requested,
    merge_fingerprint,
    merged,
    planned,
)
from spark_flow.transforms.union import union_by_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

    from spark_flow.engine.run import Run


def aligned_fan_in(
    run: Run,
    name: str,
    branches: Inputs,
    *,
    each: Each | None = None,
    merge: Merge | None = None,
    restart: bool = True,
    max_in_flight: int | None = None,
    on_failure: OnFailure = "finish",
    allow_missing_columns: bool = False,
) -> FanIn:
    """Merge all branches into one frame; an error if any is missing.

    >>> hours = {h: partial(read_hour, spark, h) for h in ("05", "06", "07")}  # doctest: +SKIP
    >>> daily = aligned_fan_in(run, "hours", hours)  # doctest: +SKIP
    >>> wide = aligned_fan_in(run, "wide", {"flights": daily.frame, "weather": weather},
    ...                       merge=partial(join_all, on="origin", how="left"), restart=False)  # doctest: +SKIP

    Args:
        run: The run.
        name: The node's name; a branch's node is ``<name>/<branch>``.
        branches: Branches by name: a function that returns a frame, a source, or a frame of the run. Or one source with
            ``{branch}`` in its path. With ``restart``, functions are called from several threads.
        each: A transform applied to each branch's frame, as part of the branch.
        merge: A function from the branches' frames by name to one frame (``partial(join_all, on=..., how=...)``);
            by default their rows are unioned, columns matched by name.
        restart: Write a checkpoint for each branch. Use False for cheap branches: all of them become one plan.
        max_in_flight: How many branches run at once; by default what the session can run at once, at least two.
        on_failure: When a branch fails, ``finish`` the others or ``stop`` them; a retry resumes in both cases.
        allow_missing_columns: Fill columns that a branch does not have with nulls.

    Returns:
        The frame and its completeness. Nothing runs until the frame is needed.

    Raises:
        NoBranches: There are no branches.
        DuplicateNode: Two branches have the same name.
        InvalidName: A name cannot be a folder name.

    Raises (when the frame is computed):
        BranchesFailed: Some branches failed; the others are recorded.
        NotAllArrived: No branch failed, but some have not arrived (exit code 75); the others are recorded.
        FrameMismatch: The branches' columns do not match.
    """
    check_settings(max_in_flight, on_failure)
    declared = declare(run, name, branches, each=each, restart=restart)
    node = run.node(name)
    names = tuple(branch.name for branch in declared)
    complete = Completeness(node=node, expected=names, arrived=names)
    digest = merge_fingerprint(names, declared, merge, allow_missing_columns=allow_missing_columns)
    upstream = together([*(part for branch in declared for part in branch.frame.completeness), complete])

    def stacked() -> DataFrame:
        _check_all_arrived(run, node, declared, by_result({branch.name: planned(branch) for branch in declared}))
        frames = {branch.name: branch.frame.frame for branch in declared}
        return merge(frames) if merge else union_by_name(frames, allow_missing_columns=allow_missing_columns)

    def scanned() -> DataFrame:
        ended = _all_of(run, node, declared, max_in_flight, on_failure)
        return merged(
            run,
            node,
            digest,
            declared,
            ended,
            merge=merge,
            allow_missing_columns=allow_missing_columns,
            words=f"{len(names)} branches",
            rule="all_succeeded",
        )

    if restart:
        return FanIn(LazyFrame(run, node, "merge", digest, (), scanned, upstream), complete)
    inputs = [branch.frame for branch in declared]
    return FanIn(LazyFrame(run, node, "merge", digest, inputs, stacked, upstream, _gathers=True), complete)


def _all_of(run: Run, node: str, branches: Sequence[Branch], max_in_flight: int | None, on_failure: OnFailure) -> Ended:
    """Return the checkpoints of all branches, or raise an error that lists the ones that failed or are missing."""
    mine = chosen(run, branches)
    ended = ensure(run, mine, max_in_flight=max_in_flight, on_failure=on_failure)
    _check_all_arrived(run, node, branches, ended)
    if mine == list(branches):
        return ended
    everything = ensure(run, branches, max_in_flight=max_in_flight, on_failure=on_failure)
    return dataclasses.replace(everything, slowest=ended.slowest)


def _check_all_arrived(run: Run, node: str, branches: Sequence[Branch], ended: Ended) -> None:
    """Raise an error unless all branches are there, including the ones that did not run in this attempt.

    Raises:
        BranchesFailed: Some branches failed.
        NotAllArrived: No branch failed, but some are missing.
    """
    measured = completeness_of(run, node, branches, ended)
    if not measured.missing:
        return
    run.measure(measured)
    failed = {name: error for name, error in ended.failed.items() if not isinstance(error, StoppedBySibling)}
    if failed:
        raise BranchesFailed(node, failed, len(branches))
    raise NotAllArrived(node, measured.missing, len(branches), requested=is_requested(run, node) or bool(ended.absent))
