"""Code shared by the aligned and unaligned fan-in: named branches that run in parallel and are merged."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from spark_flow.core import fingerprint
from spark_flow.core.completeness import Completeness, together
from spark_flow.core.names import check_name
from spark_flow.engine.lazy_frame import Checkpoint, LazyFrame, held, lazy
from spark_flow.engine.node import Node
from spark_flow.engine.outcome import Outcome, not_its_own_fault
from spark_flow.engine.parallel import OnFailure, Task, run_parallel
from spark_flow.engine.reading import read_now
from spark_flow.errors import (
    BranchesFailed,
    DuplicateNode,
    InvalidArgument,
    MissingInput,
    NoBranches,
    NotAllArrived,
    NotArrived,
    NotRecorded,
    RunError,
    UnknownBranch,
    describe,
    reason_of,
)
from spark_flow.storage import checkpoints
from spark_flow.storage.failures import as_missing_input
from spark_flow.storage.reading import analysed
from spark_flow.storage.sink_protocol import Intent, Written
from spark_flow.storage.sources import Source, check_present, is_pattern
from spark_flow.transforms.columns import check_frame, folding, is_frame
from spark_flow.transforms.pipe import apply
from spark_flow.transforms.union import common_columns, union_by_name

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from spark_flow.engine.run import Run

Input: TypeAlias = "Callable[[], DataFrame] | Source | LazyFrame | DataFrame"
Inputs: TypeAlias = "Mapping[str, Input] | Sequence[tuple[str, Input]] | Source"
Each: TypeAlias = "Callable[[DataFrame], DataFrame]"
Merge: TypeAlias = "Callable[[Mapping[str, DataFrame]], DataFrame]"


Absent = MissingInput | NotAllArrived | NotArrived


@dataclass(frozen=True)
class FanIn:
    """The result of a fan-in.

    Attributes:
        frame: The merged branches as one frame of the run, computed when it is needed.
        completeness: Which branches the frame contains, and which are missing.
    """

    frame: LazyFrame
    completeness: Completeness

    def _repr_html_(self) -> str:
        """Return its completeness and its frame for notebooks."""
        return self.completeness._repr_html_() + self.frame._repr_html_()


@dataclass(frozen=True)
class Branch:
    """One branch as a node of the run."""

    name: str
    checkpoint: Checkpoint
    frame: LazyFrame
    source: Source | None

    @property
    def node(self) -> str:
        """``<fan-in>/<branch>``."""
        return self.checkpoint.node

    @property
    def fingerprint(self) -> str:
        """A hash of the branch's inputs and code."""
        return self.checkpoint.fingerprint


@dataclass(frozen=True)
class Ended:
    """The results of branches, by name.

    Attributes:
        slowest: A description of the slowest branch that ran; empty if fewer than two ran.
    """

    arrived: Mapping[str, Outcome] = field(default_factory=dict)
    failed: Mapping[str, Exception] = field(default_factory=dict)
    absent: Mapping[str, MissingInput | NotAllArrived | NotArrived] = field(default_factory=dict)
    slowest: str = ""


def declare(run: Run, name: str, inputs: Inputs, *, each: Each | None = None, restart: bool = True) -> list[Branch]:
    """Declare the branches as nodes of the run, without reading anything.

    Raises:
        NoBranches: There are no branches.
        DuplicateNode: Two branches have the same name.
        InvalidName: A name cannot be a folder name.
        UnknownBranch: ``run.only`` names a branch that does not exist.
    """
    node = run.node(name)
    if isinstance(inputs, Source):
        inputs = {branch: inputs.branch(branch) for branch in inputs.branches}
    pairs = list(inputs.items() if isinstance(inputs, Mapping) else inputs)
    if any(isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2 for pair in pairs):  # noqa: PLR2004
        raise InvalidArgument(node, repr(inputs), "branches by name: a mapping, or pairs of a name and a branch")
    if not pairs:
        raise NoBranches(node)
    names = [check_name("branch", branch) for branch, _ in pairs]
    for branch, times in Counter(names).items():
        if times > 1:
            raise DuplicateNode(f"{node}/{branch}", f"branch {branch!r} is listed twice")
    branches = [_declare(run, f"{node}/{branch}", branch, value, each, restart=restart) for branch, value in pairs]
    run.graph.fan_ins[node] = tuple(branch.node for branch in branches)
    alone = run.graph.fan_ins[node] if restart else ()  # branches of one plan cannot be run alone
    for only in run.only:
        if only.startswith(f"{node}/") and only not in alone:
            raise UnknownBranch(only, alone)
    return branches


def _declare(run: Run, node: str, name: str, value: Input, each: Each | None, *, restart: bool) -> Branch:
    value = held(value)
    if is_frame(value):
        value = lazy(run, value)
    if not (isinstance(value, Source | LazyFrame) or callable(value)):
        raise InvalidArgument(node, repr(value), "a function that returns a frame, a source, or a frame")
    inputs = (value,) if isinstance(value, LazyFrame) else ()
    source = value if isinstance(value, Source) else None
    if source is not None:
        run.graph.sources[node] = source
    digest = fingerprint.combine(
        "branch", fingerprint.of(value, name=node), fingerprint.of(each, name=node) if each else "", restart
    )
    build = functools.partial(_build, run, node, value, each)
    checkpoint = Checkpoint(run, node, "branch", digest, inputs, build)
    completeness = together(part for frame in inputs for part in frame.completeness)
    if restart:
        return Branch(name, checkpoint, checkpoint.lazily(completeness), source)
    return Branch(name, checkpoint, LazyFrame(run, node, "branch", digest, inputs, build, completeness), source)


def _build(run: Run, node: str, value: Input, each: Each | None) -> DataFrame:
    try:
        frame = _read(run, node, value)
        frame = analysed(frame) if is_frame(frame) else frame
    except Exception as error:
        missing = as_missing_input(node, error)
        if missing is None or missing is error:
            raise
        raise missing from error
    check_frame(node, frame)
    return apply(each, frame, name=node) if each else frame


def _read(run: Run, node: str, value: Input) -> DataFrame:
    if isinstance(value, LazyFrame):
        return value.frame
    if isinstance(value, Source):
        return read_now(run, f"{node}/source", value, name=node)
    return value if is_frame(value) else value()


def chosen(run: Run, branches: Sequence[Branch]) -> list[Branch]:
    """Return the branches that this attempt may run: those in ``run.only`` if it names any, else all."""
    named = [branch for branch in branches if branch.node in run.only]
    return named or list(branches)


def is_requested(run: Run, node: str) -> bool:
    """Return whether the merge was requested, not only some of its branches."""
    return node in run.only or not any(only.startswith(f"{node}/") for only in run.only)


def ensure(
    run: Run, branches: Sequence[Branch], *, max_in_flight: int | None = None, on_failure: OnFailure = "finish"
) -> Ended:
    """Run the branches that have no valid checkpoint, in parallel; failed and missing ones are returned, not raised.

    Raises:
        UsageError, StateError: Nothing can run or be recorded at all.
    """
    if run.plan:
        built = {branch.name for branch in one_of_each(branches)}
        return by_result(
            {each.name: planned(each) if each.name in built else _planned_alike(run, each) for each in branches}
        )
    results: dict[str, Outcome | Exception] = {}
    ready = []
    for branch in branches:
        looked_at = run.recorded(branch.node, branch.fingerprint) or run.keeps(branch.node)
        missing = None if looked_at else _missing(branch)
        if missing is None:
            ready.append(branch)
        else:
            run.failed(branch.node, "branch", missing, branch.fingerprint)
            results[branch.name] = missing
    tasks = [Task(branch.node, "branch", branch.fingerprint, branch.checkpoint.ensure) for branch in ready]
    found = run_parallel(run, tasks, max_in_flight=max_in_flight, on_failure=on_failure)
    ended = {branch.name: found[branch.node] for branch in ready}
    results |= {name: one.result for name, one in ended.items()}
    times = {
        name: (one.began, one.ended) for name, one in ended.items() if getattr(one.result, "state", "") == "succeeded"
    }
    for branch in branches:
        result = results[branch.name]
        if isinstance(result, Exception) and run.outcome(branch.node) is None:  # the error was recorded by its input
            _note(run, branch, result)
    return by_result({branch.name: results[branch.name] for branch in branches}, _slowest(times))


def _note(run: Run, branch: Branch, error: Exception) -> None:
    """Record a branch whose input failed: as failed if that is its own source, else as skipped."""
    if branch.source is None or not_its_own_fault("branch", error):
        run.skip(branch.node, "branch", describe(error), branch.fingerprint)
    else:
        seen, words = branch.fingerprint, describe(error)
        run.note_failure(Outcome(node=branch.node, kind="branch", state="failed", fingerprint=seen, error=words))


def by_result(results: Mapping[str, Outcome | Exception], slowest: str = "") -> Ended:
    """Group the branches by result."""
    return Ended(
        arrived={name: r for name, r in results.items() if not isinstance(r, Exception)},
        failed={n: r for n, r in results.items() if isinstance(r, Exception) and not isinstance(r, Absent)},
        absent={name: r for name, r in results.items() if isinstance(r, Absent)},
        slowest=slowest,
    )


def completeness_of(run: Run, node: str, branches: Sequence[Branch], ended: Ended) -> Completeness:
    """Return which branches are there: those that succeeded now or in an earlier attempt."""
    missing = {branch.name: "not run" for branch in branches if not _is_there(run, branch, ended)}
    absent = {
        name: ", ".join(ended.absent[name].missing) if name in ended.absent else why for name, why in missing.items()
    }
    return Completeness(
        node=node,
        expected=tuple(branch.name for branch in branches),
        arrived=tuple(branch.name for branch in branches if branch.name not in missing),
        failed={name: run.secrets(reason_of(error)) for name, error in ended.failed.items()},
        absent={name: why for name, why in absent.items() if name not in ended.failed},
    )


def _is_there(run: Run, branch: Branch, ended: Ended) -> bool:
    if branch.name in ended.failed or branch.name in ended.absent:
        return False
    return branch.name in ended.arrived or run.recorded(branch.node, branch.fingerprint) is not None


def planned(branch: Branch) -> Outcome | Exception:
    """Build a branch's plan without running it; return the error if that fails."""
    try:
        _ = branch.frame.frame
    except NotRecorded:
        raise
    except (RunError, NotArrived) as error:
        return error
    return Outcome(node=branch.node, kind="branch", state="would run")


def one_of_each(branches: Sequence[Branch]) -> list[Branch]:
    """Return the branches that a plan builds: of those that differ in their folder alone, the first that is there."""
    found: list[Branch] = []
    kinds = set[tuple[str, ...] | None]()
    for branch in branches:
        kind = _kind(branch)
        if kind is None or (kind not in kinds and _missing(branch) is None):
            found.append(branch)
            kinds.add(kind)
    return found


def _kind(branch: Branch) -> tuple[str, ...] | None:
    """Return what decides a branch's columns but for its folder; ``None`` where that is the data, or unknown."""
    source = branch.source
    if source is None or source.schema is None or not source.has_files:
        return None
    if source.wait is not None or any(map(is_pattern, source.paths)):
        return None
    schema = source.schema if isinstance(source.schema, str) else source.schema.json()
    return source.format, schema, source.bad_records, repr(sorted(source.options.items()))


def _planned_alike(run: Run, branch: Branch) -> Outcome | Exception:
    """Plan a branch whose plan is that of another one: only whether its data is there is its own."""
    if missing := _missing(branch):
        run.failed(branch.node, "branch", missing, branch.fingerprint)
        return missing
    try:
        return branch.checkpoint.ensure()
    except NotRecorded:
        raise
    except (RunError, NotArrived) as error:
        return error


def _missing(branch: Branch) -> MissingInput | NotArrived | None:
    """Return an error if the data of a branch's source is missing; of a function this is unknown until the call."""
    if branch.source is None or branch.source.wait is not None:
        return None
    try:
        check_present(branch.node, branch.source)
    except (MissingInput, NotArrived) as missing:
        return missing
    return None


def _slowest(times: Mapping[str, tuple[float, float]]) -> str:
    """Describe the slowest branch, and the share of the wall time for which it ran alone at the end."""
    if len(times) < 2:  # noqa: PLR2004 - a single branch delays no other
        return ""
    slowest = max(times, key=lambda name: times[name][1] - times[name][0])
    began, ended = times[slowest]
    wall = max(end for _, end in times.values()) - min(start for start, _ in times.values())
    alone = max(0.0, ended - max(end for name, (_, end) in times.items() if name != slowest))
    return f"slowest {slowest} with {ended - began:.1f} s, running alone for {alone / wall:.0%} of {wall:.1f} s"


def merge_fingerprint(
    expected: Sequence[str], arrived: Sequence[Branch], merge: Merge | None, *, allow_missing_columns: bool
) -> str:
    """Hash the inputs of a merge: the expected branches, those that arrived, and how they are merged."""
    how = fingerprint.of(merge, name="merge") if merge else ""
    parts = [[branch.name, branch.fingerprint] for branch in arrived]
    return fingerprint.combine("merge", list(expected), parts, how, allow_missing_columns)


def merged(
    run: Run,
    node: str,
    digest: str,
    branches: Sequence[Branch],
    ended: Ended,
    *,
    merge: Merge | None,
    allow_missing_columns: bool,
    words: str,
    rule: str,
) -> DataFrame:
    """Merge the branches that arrived: by one scan over their checkpoints, or by ``merge``.

    Raises:
        BranchesFailed: A checkpoint was lost, and its branch cannot run again.
        FrameMismatch: The branches' columns do not match.
    """
    wrong = {**ended.failed, **ended.absent}
    if wrong:
        raise BranchesFailed(node, wrong, len(branches))
    merged = Node(name=node, kind="merge", fingerprint=digest, writes=False)
    if run.plan:
        needed = branches if merge else one_of_each(branches)
        frames = {branch.name: branch.frame.frame for branch in needed}
        run.once(merged, _unreached)
        return merge(frames) if merge else union_by_name(frames, allow_missing_columns=allow_missing_columns)
    details = {branch.name: ended.arrived[branch.name].detail for branch in branches}
    frame = _merge(run, details, merge, allow_missing_columns=allow_missing_columns)
    check_frame(node, frame)

    def record(_: Intent) -> Written:
        rows = [outcome.rows or 0 for outcome in ended.arrived.values()]
        reason = "; ".join(part for part in (words, ended.slowest) if part)
        return Written(
            rows=None if merge else sum(rows), reason=reason, detail={"arrived": list(details), "rule": rule}
        )

    run.once(merged, record)
    return frame


def _unreached(_: Intent) -> Written:
    raise AssertionError("plan mode runs no action")


def _merge(
    run: Run, details: Mapping[str, Mapping[str, object]], merge: Merge | None, *, allow_missing_columns: bool
) -> DataFrame:
    from pyspark.sql.types import StructField, StructType

    if merge is not None:
        return merge({name: checkpoints.read(run.spark, run.state, [detail]) for name, detail in details.items()})
    columns = common_columns(
        {name: checkpoints.schema(detail) for name, detail in details.items()},
        allow_missing_columns=allow_missing_columns,
        case_sensitive=folding(run.spark) is str,
    )
    schema = StructType([StructField(name, kind) for name, kind in columns.items()])
    return checkpoints.read(run.spark, run.state, list(details.values()), schema)
