"""The unaligned fan-in (the book's section 3.2): a dataset made of enough of its branches, which says so.

A branch that failed and one whose data has not arrived are told apart. When late branches arrive, the same
command runs only them; what is made of the merge has then another fingerprint, so its sinks replace the key's
rows under a new revision: readers see the partial or the whole key.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable  # noqa: TC003 - part of a public alias
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from spark_flow.engine.node import Node
from spark_flow.engine.lazy_frame import CheckpointTarget
from spark_flow.engine.writing import TableTarget
from spark_flow.core import fingerprint
from spark_flow.core.arrival_rules import RULES, Require
from spark_flow.core.completeness import Completeness, together
from spark_flow.engine.lazy_frame import LazyFrame
from spark_flow.engine.parallel import IN_FLIGHT, check_settings
from spark_flow.engine.reading import read_now
from spark_flow.errors import (
    BranchesFailed,
    DuplicateNode,
    InvalidArgument,
    InvalidRule,
    NotAllArrived,
    NotEnoughBranches,
    NotRecorded,
    TookFallback,
)
from spark_flow.fan_in.branches import (
    Each,
    FanIn,
    Inputs,
    Merge,
    chosen,
    completeness_of,
    declare,
    is_asked,
    merge_fingerprint,
    merged,
    settle,
)
from spark_flow.ledger.event import now
from spark_flow.storage import boundaries, delta, files
from spark_flow.storage.sink_protocol import Intent, Written, app_id
from spark_flow.storage.sources import Source
from spark_flow.transforms.columns import check_frame

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from spark_flow.engine.run import Run
    from spark_flow.ledger import Event


@dataclass(frozen=True)
class ErrorTable:
    """A Delta table of what became of each branch; make one with ``error_table``."""

    path: str

    @property
    def fingerprint(self) -> str:
        """A hash of the table's place."""
        return fingerprint.of(("error_table", files.absolute(self.path)))


def error_table(path: str) -> ErrorTable:
    """A fallback that records the errors of all branches in a Delta table, one row for each branch of the key.

    Columns: ``pipeline, key, fan_in, branch: string``, ``state: string`` (``failed`` or ``absent``),
    ``error: string``, ``generation: bigint``, ``run: string``, ``at: timestamp``.
    """
    return ErrorTable(path)


Fallback: TypeAlias = "Callable[[Completeness], DataFrame | None] | Source | ErrorTable"


def unaligned_fan_in(
    run: Run,
    name: str,
    branches: Inputs,
    *,
    require: Require,
    each: Each | None = None,
    merge: Merge | None = None,
    max_in_flight: int = IN_FLIGHT,
    on_all_failed: Fallback | None = None,
    allow_missing_columns: bool = False,
) -> FanIn:
    """The branches that arrived as one frame, if they are enough.

    What follows depends on which branches arrived, so they are run at once, those that are recorded excepted.

    >>> hours = unaligned_fan_in(run, "hours", branches, require=at_least(0.5))  # doctest: +SKIP
    >>> cube = local_sequencer(run, hours.frame, [by_carrier])  # doctest: +SKIP

    Args:
        run: The run.
        name: The node's name; a branch's node is ``<name>/<branch>``.
        branches: As for ``aligned_fan_in``; each is restartable.
        require: How many must arrive: ``all_succeeded``, ``any_succeeded``, ``all_done``, ``at_least(n)`` or
            ``at_least(share)``. It is judged when all branches have ended.
        each: Done with each branch's frame, within the branch.
        merge: Makes one frame of the frames that arrived, by name; by default their rows are stacked.
        max_in_flight: How many branches run at once.
        on_all_failed: What to do when no branch arrived: a function of the completeness that returns a frame to go
            on with, or ``None`` to stop there; a source, as the last good copy; or an ``error_table``. The run
            ends with ``TookFallback`` in any case.
        allow_missing_columns: Fill a column that a branch lacks with nulls.

    Returns:
        The frame, and which branches it holds.

    Raises:
        NoBranches: There is none.
        DuplicateNode: Two have one name.
        InvalidName: A name cannot be a folder name.
        InvalidRule: More branches are required than there are.
        InvalidArgument: The fallback is none.
        NotEnoughBranches: Fewer arrived than are required, or none and there is no fallback.
        BranchesFailed: The run was told to do some branches only, and one of them failed.
        NotAllArrived: The run was told to do some branches only, and others are missing.
        TookFallback: No branch arrived, and the fallback gives no frame to go on with.
    """
    node = run.node(name)
    check_settings(max_in_flight)
    if not isinstance(require, Require):
        raise InvalidRule(repr(require), type(require).__name__, f"a rule: {RULES}")
    if on_all_failed is not None and not (isinstance(on_all_failed, Source | ErrorTable) or callable(on_all_failed)):
        raise InvalidArgument(f"{node}: on_all_failed", repr(on_all_failed), "a function, a source or an error_table")
    declared = declare(run, name, branches, each=each)
    names = tuple(branch.name for branch in declared)
    needed = require.needed(len(names))
    if on_all_failed is not None and "fallback" in names:
        raise DuplicateNode(f"{node}/fallback", "a branch has the name of the fallback's node")

    recorded = [branch for branch in declared if run.recorded(branch.node, branch.fingerprint)]
    kept = run.keeps(node)
    if kept and len(recorded) < max(needed, 1):
        lacking = f"{len(recorded)} of {len(names)} branches are recorded as they are now"
        raise run.failed(node, "merge", NotRecorded(node, lacking))
    # What is kept stays as complete as it was: a branch that was missing then is left out.
    pending = [] if kept else [branch for branch in chosen(run, declared) if branch not in recorded]
    ended = settle(run, pending, max_in_flight=max_in_flight)
    completeness = completeness_of(run, node, declared, ended)
    arrived = [branch for branch in declared if branch.name in completeness.arrived]
    run.measure(completeness)
    if completeness.missing and not is_asked(run, node):
        if ended.failed:
            raise run.failed(node, "merge", BranchesFailed(node, ended.failed, len(names)))
        waiting = NotAllArrived(node, completeness.missing, len(names), asked=bool(ended.absent))
        raise run.failed(node, "merge", waiting)
    if not arrived and on_all_failed is not None:
        run.skip(node, "merge", str(completeness))
        return FanIn(_fall_back(run, f"{node}/fallback", completeness, on_all_failed), completeness)
    if len(arrived) < needed:
        short = NotEnoughBranches(node, str(require), len(arrived), completeness.failed, completeness.absent)
        raise run.failed(node, "merge", short)

    made_of = merge_fingerprint(names, arrived, merge, allow_missing_columns=allow_missing_columns)
    upstream = together([*(part for branch in arrived for part in branch.frame.completeness), completeness])

    def scanned() -> DataFrame:
        # Recorded branches are looked at only now: where all is reused, their boundaries do not matter.
        again = settle(run, arrived, max_in_flight=max_in_flight)
        settled = dataclasses.replace(again, slowest=ended.slowest or again.slowest)
        how = {"merge": merge, "allow_missing_columns": allow_missing_columns, "words": str(completeness)}
        return merged(run, node, made_of, arrived, settled, **how)  # type: ignore[arg-type]

    return FanIn(LazyFrame(run, node, "merge", made_of, (), scanned, upstream), completeness)


def _fall_back(run: Run, node: str, completeness: Completeness, fallback: Fallback) -> LazyFrame:
    """The fallback's frame; the run goes on with it, and ends with ``TookFallback``.

    Raises:
        TookFallback: There is no frame to go on with.
    """
    wrong = [sorted(completeness.failed), sorted(completeness.absent)]
    made_of = fingerprint.combine("fallback", list(completeness.expected), wrong, fingerprint.of(fallback, name=node))
    if isinstance(fallback, Source):
        run.graph.sources[node] = fallback
        run.fall_short(TookFallback(node, fallback.path))
        copy = functools.partial(read_now, run, f"{node}/source", fallback, name=node)
        return LazyFrame(run, node, "fallback", made_of, (), copy, (completeness,))
    if isinstance(fallback, ErrorTable):
        run.graph.writes[node] = {fallback.path: f"key = '{run.key}'"}
        errors = fingerprint.combine(made_of, completeness.failed, completeness.absent)
        write = functools.partial(_write_errors, run, completeness, fallback.path)
        target = TableTarget(fallback.path, app_id(run.pipeline, node, run.key))
        run.once(Node(name=node, kind="fallback", fingerprint=errors), write, target)
        raise TookFallback(node, f"the errors {'would be' if run.plan else 'are'} in {fallback.path}")
    return _called(run, node, completeness, fallback, made_of)


def _called(
    run: Run, node: str, completeness: Completeness, fallback: Callable[[Completeness], Any], made_of: str
) -> LazyFrame:
    """A function is called once, whatever it does besides; its frame is kept as a boundary."""

    def call(intent: Intent) -> Written:
        frame = fallback(completeness)
        if frame is None:
            return Written(reason="it returned no frame")
        check_frame(node, frame)
        return boundaries.write(frame, run.state, intent)

    outcome = run.once(Node(name=node, kind="fallback", fingerprint=made_of), call, CheckpointTarget(run.state))
    error = TookFallback(node, getattr(fallback, "__name__", "a function"))
    if not outcome.detail:
        raise error
    run.fall_short(error)
    read = functools.partial(_read_boundary, run, outcome.detail)
    return LazyFrame(run, node, "fallback", made_of, (), read, (completeness,))


def _read_boundary(run: Run, detail: Any) -> DataFrame:
    return boundaries.read(run.spark, run.state, [detail])


def _write_errors(run: Run, completeness: Completeness, path: str, intent: Intent) -> Written:
    place = {"pipeline": run.pipeline, "key": run.key, "fan_in": completeness.node}
    when = {"generation": run.generation, "run": run.run_id, "at": now()}
    errors = [("failed", *item) for item in completeness.failed.items()]
    errors += [("absent", *item) for item in completeness.absent.items()]
    rows = [{**place, "branch": name, "state": state, "error": error, **when} for state, name, error in errors]
    predicate = " AND ".join(f"{name} = '{value}'" for name, value in place.items())  # names, checked
    version = delta.replace_rows(path, pa.Table.from_pylist(rows, schema=_ERRORS), predicate, intent)
    detail = {"path": files.absolute(path), "version": version}
    return Written(rows=len(rows), reason=f"errors written to {path} at version {version}", detail=detail)


_ERRORS = pa.schema(
    [
        *[(name, pa.string()) for name in ("pipeline", "key", "fan_in", "branch", "state", "error")],
        ("generation", pa.int64()),
        ("run", pa.string()),
        ("at", pa.timestamp("us", "UTC")),
    ]
)
