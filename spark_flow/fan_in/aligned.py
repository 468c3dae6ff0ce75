"""The aligned fan-in (the book's section 3.1): a dataset made of all of its branches.

Restartable, each branch is a node with a boundary: a branch that failed, or whose data comes later, is run
alone by the next attempt. Lazy, all branches are one Spark plan.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from spark_flow.core.completeness import Completeness, together
from spark_flow.engine.lazy_frame import LazyFrame
from spark_flow.engine.parallel import IN_FLIGHT, OnFailure, check_settings
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
    is_asked,
    merge_fingerprint,
    merged,
    planned,
    settle,
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
    max_in_flight: int = IN_FLIGHT,
    on_failure: OnFailure = "finish",
    allow_missing_columns: bool = False,
) -> FanIn:
    """All branches as one frame, or no frame.

    >>> hours = {h: partial(read_hour, spark, h) for h in ("05", "06", "07")}  # doctest: +SKIP
    >>> daily = aligned_fan_in(run, "hours", hours)  # doctest: +SKIP
    >>> wide = aligned_fan_in(run, "wide", {"flights": daily.frame, "weather": weather},
    ...                       merge=partial(join_all, on="origin", how="left"), restart=False)  # doctest: +SKIP

    Args:
        run: The run.
        name: The node's name; a branch's node is ``<name>/<branch>``.
        branches: By name, each a function that returns a frame, a source, or a frame of the run; or a source with
            ``{branch}`` in its path. Restartable branches are read from threads: a function must bear that.
        each: Done with each branch's frame, within the branch.
        merge: Makes one frame of the branches' frames by name (``partial(join_all, on=..., how=...)``); by
            default their rows are stacked, columns matched by name.
        restart: Give each branch a boundary of its own. Without it all is one plan: for cheap branches.
        max_in_flight: How many branches run at once.
        on_failure: ``finish`` the others when one fails, or ``stop`` them; a retry goes on in both cases.
        allow_missing_columns: Fill a column that a branch lacks with nulls.

    Returns:
        The frame and its completeness. Nothing is run before something needs the frame.

    Raises:
        NoBranches: There is none.
        DuplicateNode: Two have one name.
        InvalidName: A name cannot be a folder name.

    Raises (when the frame is asked for):
        BranchesFailed: Some failed; the others are recorded.
        NotAllArrived: None failed, but some have not arrived (exit code 75); the others are recorded.
        FrameMismatch: The branches' columns do not go together.
    """
    check_settings(max_in_flight, on_failure)
    declared = declare(run, name, branches, each=each, restart=restart)
    node = run.node(name)
    names = tuple(branch.name for branch in declared)
    complete = Completeness(node=node, expected=names, arrived=names)
    made_of = merge_fingerprint(names, declared, merge, allow_missing_columns=allow_missing_columns)
    upstream = together([*(part for branch in declared for part in branch.frame.completeness), complete])

    def stacked() -> DataFrame:
        _check_all_arrived(run, node, declared, by_result({branch.name: planned(branch) for branch in declared}))
        frames = {branch.name: branch.frame.frame for branch in declared}
        return merge(frames) if merge else union_by_name(frames, allow_missing_columns=allow_missing_columns)

    def scanned() -> DataFrame:
        ended = _all_of(run, node, declared, max_in_flight, on_failure)
        how = {"merge": merge, "allow_missing_columns": allow_missing_columns, "words": f"{len(names)} branches"}
        return merged(run, node, made_of, declared, ended, **how)  # type: ignore[arg-type]

    if restart:
        return FanIn(LazyFrame(run, node, "merge", made_of, (), scanned, upstream), complete)
    inputs = [branch.frame for branch in declared]
    return FanIn(LazyFrame(run, node, "merge", made_of, inputs, stacked, upstream, _gathers=True), complete)


def _all_of(run: Run, node: str, branches: Sequence[Branch], max_in_flight: int, on_failure: OnFailure) -> Ended:
    """All branches settled, or the error that says which are not."""
    mine = chosen(run, branches)
    ended = settle(run, mine, max_in_flight=max_in_flight, on_failure=on_failure)
    _check_all_arrived(run, node, branches, ended)
    if mine == list(branches):
        return ended
    everything = settle(run, branches, max_in_flight=max_in_flight, on_failure=on_failure)
    return dataclasses.replace(everything, slowest=ended.slowest)


def _check_all_arrived(run: Run, node: str, branches: Sequence[Branch], ended: Ended) -> None:
    """Raise if not all branches are there, those that were not run in this attempt included.

    Raises:
        BranchesFailed: Some failed.
        NotAllArrived: None failed, some are not there.
    """
    measured = completeness_of(run, node, branches, ended)
    if not measured.missing:
        return
    run.measure(measured)
    failed = {name: error for name, error in ended.failed.items() if not isinstance(error, StoppedBySibling)}
    if failed:
        raise BranchesFailed(node, failed, len(branches))
    raise NotAllArrived(node, measured.missing, len(branches), asked=is_asked(run, node) or bool(ended.absent))
