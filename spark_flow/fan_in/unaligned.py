"""The unaligned fan-in (the book's section 3.2): merge the branches that arrived, if enough did.

Failed branches and branches whose data has not arrived are recorded separately. When late branches arrive, the same
command runs only those. Everything downstream of the merge then has a new fingerprint, so its sinks replace the key's
rows at a new revision: readers see either the partial or the complete key.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable  # noqa: TC003 - part of a public alias
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from spark_flow.core import fingerprint
from spark_flow.core.arrival_rules import RULES, Require
from spark_flow.core.completeness import Completeness, together
from spark_flow.engine.lazy_frame import CheckpointTarget, LazyFrame
from spark_flow.engine.node import Node
from spark_flow.engine.parallel import check_settings
from spark_flow.engine.reading import read_now
from spark_flow.engine.writing import TableTarget
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
    ensure,
    is_requested,
    merge_fingerprint,
    merged,
)
from spark_flow.ledger.event import now
from spark_flow.storage import checkpoints, delta_tables, files
from spark_flow.storage.sink_protocol import Intent, Written, app_id
from spark_flow.storage.sources import Source
from spark_flow.transforms.columns import check_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

    from spark_flow.engine.run import Run
    from spark_flow.fan_in.branches import Branch


@dataclass(frozen=True)
class ErrorTable:
    """A Delta table of the branches' errors; create one with ``error_table``."""

    path: str

    @property
    def fingerprint(self) -> str:
        """A hash of the table's path."""
        return fingerprint.of(("error_table", files.absolute(self.path)))


def error_table(path: str) -> ErrorTable:
    """Create a fallback that writes the errors of all branches to a Delta table, one row per branch of the key.

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
    max_in_flight: int | None = None,
    on_all_failed: Fallback | None = None,
    allow_missing_columns: bool = False,
) -> FanIn:
    """Merge the branches that arrived, if they are enough.

    The branches run during this call, except those already recorded: what happens downstream depends on which arrived.

    >>> hours = unaligned_fan_in(run, "hours", branches, require=at_least(0.5))  # doctest: +SKIP
    >>> cube = local_sequencer(run, hours.frame, [by_carrier])  # doctest: +SKIP

    Args:
        run: The run.
        name: The node's name; a branch's node is ``<name>/<branch>``.
        branches: As for ``aligned_fan_in``; each branch has a checkpoint.
        require: How many must arrive: ``all_succeeded``, ``any_succeeded``, ``all_done``, ``at_least(n)`` or
            ``at_least(share)``. Evaluated when all branches have ended.
        each: A transform applied to each branch's frame, as part of the branch.
        merge: A function from the arrived frames by name to one frame; by default their rows are unioned.
        max_in_flight: How many branches run at once; by default what the session can run at once, at least two.
        on_all_failed: The fallback when no branch arrived: a function that takes the completeness and returns a frame
            to continue with, or ``None`` to stop; a source, for example the last good copy; or an ``error_table``.
            The run ends with ``TookFallback`` in any case.
        allow_missing_columns: Fill columns that a branch does not have with nulls.

    Returns:
        The frame and its completeness: which branches it contains.

    Raises:
        NoBranches: There are no branches.
        DuplicateNode: Two branches have the same name.
        InvalidName: A name cannot be a folder name.
        InvalidRule: The rule requires more branches than there are.
        InvalidArgument: ``on_all_failed`` is not a fallback.
        NotEnoughBranches: Fewer branches arrived than required, or none and there is no fallback.
        BranchesFailed: Only some branches were requested, and one of them failed.
        NotAllArrived: Only some branches were requested, and others are missing.
        TookFallback: No branch arrived, and the fallback returns no frame to continue with.
    """
    node = run.node(name)
    check_settings(max_in_flight)
    _check(node, require, on_all_failed)
    declared = declare(run, name, branches, each=each)
    names = tuple(branch.name for branch in declared)
    needed = require.needed(len(names))
    if on_all_failed is not None and "fallback" in names:
        raise DuplicateNode(f"{node}/fallback", "a branch has the same name as the fallback's node")

    ended = ensure(run, _pending(run, node, declared, needed), max_in_flight=max_in_flight)
    completeness = completeness_of(run, node, declared, ended)
    arrived = [branch for branch in declared if branch.name in completeness.arrived]
    run.measure(completeness)
    if completeness.missing and not is_requested(run, node):
        waiting = NotAllArrived(node, completeness.missing, len(names), requested=bool(ended.absent))
        failed = BranchesFailed(node, ended.failed, len(names)) if ended.failed else None
        raise run.failed(node, "merge", failed or waiting)
    if not arrived and on_all_failed is not None:
        run.skip(node, "merge", str(completeness))
        return FanIn(_fall_back(run, f"{node}/fallback", completeness, on_all_failed), completeness)
    if len(arrived) < needed:
        short = NotEnoughBranches(node, str(require), len(arrived), completeness.failed, completeness.absent)
        raise run.failed(node, "merge", short)

    digest = merge_fingerprint(names, arrived, merge, allow_missing_columns=allow_missing_columns)
    upstream = together([*(part for branch in arrived for part in branch.frame.completeness), completeness])

    def scanned() -> DataFrame:
        # Checkpoints of recorded branches are validated only now: if everything downstream is reused, they are unused.
        again = ensure(run, arrived, max_in_flight=max_in_flight)
        settled = dataclasses.replace(again, slowest=ended.slowest or again.slowest)
        return merged(
            run,
            node,
            digest,
            arrived,
            settled,
            merge=merge,
            allow_missing_columns=allow_missing_columns,
            words=str(completeness),
            rule=str(require),
        )

    return FanIn(LazyFrame(run, node, "merge", digest, (), scanned, upstream), completeness)


def _check(node: str, require: object, fallback: object) -> None:
    if not isinstance(require, Require):
        raise InvalidRule(repr(require), type(require).__name__, f"a rule: {RULES}")
    if fallback is not None and not (isinstance(fallback, Source | ErrorTable) or callable(fallback)):
        raise InvalidArgument(f"{node}: on_all_failed", repr(fallback), "a function, a source or an error_table")


def _pending(run: Run, node: str, declared: Sequence[Branch], needed: int) -> list[Branch]:
    """Return the branches to run: those that were asked for and are not recorded.

    A merge that a partial backfill reuses stays as complete as it was: branches that were missing then are left out.
    """
    recorded = {branch.node for branch in declared if run.recorded(branch.node, branch.fingerprint)}
    if not run.keeps(node):
        return [branch for branch in chosen(run, declared) if branch.node not in recorded]
    if len(recorded) < max(needed, 1):
        too_few = f"{len(recorded)} of {len(declared)} branches have a valid checkpoint"
        raise run.failed(node, "merge", NotRecorded(node, too_few))
    return []


def _fall_back(run: Run, node: str, completeness: Completeness, fallback: Fallback) -> LazyFrame:
    """Return the fallback's frame; the run continues with it, and ends with ``TookFallback``.

    Raises:
        TookFallback: There is no frame to continue with.
    """
    wrong = [sorted(completeness.failed), sorted(completeness.absent)]
    digest = fingerprint.combine("fallback", list(completeness.expected), wrong, fingerprint.of(fallback, name=node))
    if isinstance(fallback, Source):
        run.graph.sources[node] = fallback
        run.fall_short(TookFallback(node, fallback.path))
        copy = functools.partial(read_now, run, f"{node}/source", fallback, name=node)
        return LazyFrame(run, node, "fallback", digest, (), copy, (completeness,))
    if isinstance(fallback, ErrorTable):
        run.graph.writes[node] = {fallback.path: f"key = '{run.key}'"}
        errors = fingerprint.combine(digest, completeness.failed, completeness.absent)
        write = functools.partial(_write_errors, run, completeness, fallback.path)
        target = TableTarget(fallback.path, app_id(run.pipeline, node, run.key))
        run.once(Node(name=node, kind="fallback", fingerprint=errors), write, target)
        raise TookFallback(node, f"the errors {'would be' if run.plan else 'are'} in {fallback.path}")
    return _called(run, node, completeness, fallback, digest)


def _called(
    run: Run, node: str, completeness: Completeness, fallback: Callable[[Completeness], Any], digest: str
) -> LazyFrame:
    """Call a fallback function once, since it may have side effects; its frame becomes a checkpoint."""

    def call(intent: Intent) -> Written:
        frame = fallback(completeness)
        if frame is None:
            return Written(reason="the fallback returned no frame")
        check_frame(node, frame)
        return checkpoints.write(frame, run.state, intent)

    target = CheckpointTarget(run.state, optional=True)
    outcome = run.once(Node(name=node, kind="fallback", fingerprint=digest), call, target)
    error = TookFallback(node, getattr(fallback, "__name__", "a function"))
    if not outcome.detail:
        raise error
    run.fall_short(error)
    read = functools.partial(_read_checkpoint, run, outcome.detail)
    return LazyFrame(run, node, "fallback", digest, (), read, (completeness,))


def _read_checkpoint(run: Run, detail: Any) -> DataFrame:
    return checkpoints.read(run.spark, run.state, [detail])


def _write_errors(run: Run, completeness: Completeness, path: str, intent: Intent) -> Written:
    identity = {"pipeline": run.pipeline, "key": run.key, "fan_in": completeness.node}
    when = {"generation": run.generation, "run": run.run_id, "at": now()}
    errors = [("failed", *item) for item in completeness.failed.items()]
    errors += [("absent", *item) for item in completeness.absent.items()]
    rows = [{**identity, "branch": name, "state": state, "error": error, **when} for state, name, error in errors]
    predicate = " AND ".join(f"{name} = '{value}'" for name, value in identity.items())  # validated names
    version = delta_tables.replace_rows(path, pa.Table.from_pylist(rows, schema=_ERRORS), predicate, intent)
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
