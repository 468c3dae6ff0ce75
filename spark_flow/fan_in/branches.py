"""What aligned and unaligned fan-in share: named branches, run side by side, and merged."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from spark_flow.engine.node import Node
from spark_flow.core import fingerprint
from spark_flow.core.completeness import Completeness, together
from spark_flow.core.names import check_name
from spark_flow.engine.lazy_frame import Bounded, LazyFrame, held, lazy
from spark_flow.engine.outcome import Outcome, not_its_own_fault
from spark_flow.engine.parallel import IN_FLIGHT, OnFailure, Task, side_by_side
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
from spark_flow.storage import boundaries
from spark_flow.storage.failures import as_missing_input
from spark_flow.storage.sink_protocol import Intent, Written
from spark_flow.storage.sources import Source, check_present
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
    """What a fan-in gives.

    Attributes:
        frame: The branches' rows as one frame of the run, computed when something needs it.
        completeness: Which branches it holds, and which are missing.
    """

    frame: LazyFrame
    completeness: Completeness


@dataclass(frozen=True)
class Branch:
    """One branch as a node of its run."""

    name: str
    bounded: Bounded
    frame: LazyFrame
    source: Source | None

    @property
    def node(self) -> str:
        """``<fan-in>/<branch>``."""
        return self.bounded.node

    @property
    def fingerprint(self) -> str:
        """What the branch is made of."""
        return self.bounded.fingerprint


@dataclass(frozen=True)
class Ended:
    """What became of branches, by name.

    Attributes:
        slowest: The slowest of those that were run, in words; empty for fewer than two.
    """

    arrived: Mapping[str, Outcome] = field(default_factory=dict)
    failed: Mapping[str, Exception] = field(default_factory=dict)
    absent: Mapping[str, MissingInput | NotAllArrived | NotArrived] = field(default_factory=dict)
    slowest: str = ""


def declare(run: Run, name: str, inputs: Inputs, *, each: Each | None = None, restart: bool = True) -> list[Branch]:
    """The branches as nodes of the run; nothing is read.

    Raises:
        NoBranches: There is none.
        DuplicateNode: Two have one name.
        InvalidName: A name cannot be a folder name.
        UnknownBranch: ``run.only`` names a branch that there is not.
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
    for branch in names:
        if names.count(branch) > 1:
            raise DuplicateNode(f"{node}/{branch}", f"branch {branch!r} stands twice")
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
    made_of = fingerprint.combine(
        "branch", fingerprint.of(value, name=node), fingerprint.of(each, name=node) if each else "", restart
    )
    build = functools.partial(_build, run, node, value, each)
    bounded = Bounded(run, node, "branch", made_of, inputs, build)
    completeness = together(part for frame in inputs for part in frame.completeness)
    if restart:
        return Branch(name, bounded, bounded.lazily(completeness), source)
    return Branch(name, bounded, LazyFrame(run, node, "branch", made_of, inputs, build, completeness), source)


def _build(run: Run, node: str, value: Input, each: Each | None) -> DataFrame:
    try:
        frame = _read(run, node, value)
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
    """The branches that this attempt may run: all, or those that ``run.only`` names."""
    named = [branch for branch in branches if branch.node in run.only]
    return named or list(branches)


def is_asked(run: Run, node: str) -> bool:
    """Whether the merge was asked for, not only some branches."""
    return node in run.only or not any(only.startswith(f"{node}/") for only in run.only)


def settle(
    run: Run, branches: Sequence[Branch], *, max_in_flight: int = IN_FLIGHT, on_failure: OnFailure = "finish"
) -> Ended:
    """Run branches that are not recorded, side by side; what fails or is absent is told, not raised.

    Raises:
        UsageError, StateError: Nothing can be done or recorded at all.
    """
    if run.plan:
        return by_result({branch.name: planned(branch) for branch in branches})
    results: dict[str, Outcome | Exception] = {}
    ready = []
    for branch in branches:
        looked_at = run.recorded(branch.node, branch.fingerprint) or run.keeps(branch.node)
        missing = None if looked_at else _missing(branch)
        if missing is None:
            ready.append(branch)
        else:
            run.failed(branch.node, "branch", missing, fingerprint=branch.fingerprint)
            results[branch.name] = missing
    tasks = [Task(branch.node, "branch", branch.fingerprint, branch.bounded.settle) for branch in ready]
    found = side_by_side(run, tasks, max_in_flight=max_in_flight, on_failure=on_failure)
    ended = {branch.name: found[branch.node] for branch in ready}
    results |= {name: one.result for name, one in ended.items()}
    times = {
        name: (one.began, one.ended) for name, one in ended.items() if getattr(one.result, "state", "") == "succeeded"
    }
    for branch in branches:
        result = results[branch.name]
        if isinstance(result, Exception) and run.outcome(branch.node) is None:  # what it is made of told its error
            _note(run, branch, result)
    return by_result({branch.name: results[branch.name] for branch in branches}, _slowest(times))


def _note(run: Run, branch: Branch, error: Exception) -> None:
    """What becomes of a branch by an error that what it is made of has recorded: its own source's is its failure."""
    if branch.source is None or not_its_own_fault("branch", error):
        run.skip(branch.node, "branch", describe(error), branch.fingerprint)
    else:
        run.note_failure(branch.node, "branch", error, fingerprint=branch.fingerprint)


def by_result(results: Mapping[str, Outcome | Exception], slowest: str = "") -> Ended:
    """Branches by what became of them."""
    return Ended(
        arrived={name: r for name, r in results.items() if not isinstance(r, Exception)},
        failed={n: r for n, r in results.items() if isinstance(r, Exception) and not isinstance(r, Absent)},
        absent={name: r for name, r in results.items() if isinstance(r, Absent)},
        slowest=slowest,
    )


def completeness_of(run: Run, node: str, branches: Sequence[Branch], ended: Ended) -> Completeness:
    """Which of the branches are there: those that ended well now, and those that an earlier attempt recorded."""
    lacking = {branch.name: "not run" for branch in branches if not _is_there(run, branch, ended)}
    absent = {
        name: ", ".join(ended.absent[name].missing) if name in ended.absent else why for name, why in lacking.items()
    }
    return Completeness(
        node=node,
        expected=tuple(branch.name for branch in branches),
        arrived=tuple(branch.name for branch in branches if branch.name not in lacking),
        failed={name: run.secrets(reason_of(error)) for name, error in ended.failed.items()},
        absent={name: why for name, why in absent.items() if name not in ended.failed},
    )


def _is_there(run: Run, branch: Branch, ended: Ended) -> bool:
    if branch.name in ended.failed or branch.name in ended.absent:
        return False
    return branch.name in ended.arrived or run.recorded(branch.node, branch.fingerprint) is not None


def planned(branch: Branch) -> Outcome | Exception:
    """Make a branch's plan and run nothing; what was wrong with it is told."""
    try:
        _ = branch.frame.frame
    except NotRecorded:
        raise
    except (RunError, NotArrived) as error:
        return error
    return Outcome(node=branch.node, kind="branch", state="would run")


def _missing(branch: Branch) -> MissingInput | NotArrived | None:
    """What a branch's source lacks; of a function it is known only when it is called."""
    if branch.source is None:
        return None
    try:
        check_present(branch.node, branch.source)
    except (MissingInput, NotArrived) as missing:
        return missing
    return None


def _slowest(times: Mapping[str, tuple[float, float]]) -> str:
    """The slowest branch, and the share of the wall time in which all the others had ended."""
    if len(times) < 2:  # noqa: PLR2004 - one alone is not waited for by others
        return ""
    slowest = max(times, key=lambda name: times[name][1] - times[name][0])
    began, ended = times[slowest]
    wall = max(end for _, end in times.values()) - min(start for start, _ in times.values())
    alone = max(0.0, ended - max(end for name, (_, end) in times.items() if name != slowest))
    return f"slowest {slowest} with {ended - began:.1f} s, {alone / wall:.0%} of {wall:.1f} s waited for it alone"


def merge_fingerprint(
    expected: Sequence[str], arrived: Sequence[Branch], merge: Merge | None, *, allow_missing_columns: bool
) -> str:
    """What a merge is made of: the branches that arrived, of those expected, and how they are put together."""
    how = fingerprint.of(merge, name="merge") if merge else ""
    parts = [[branch.name, branch.fingerprint] for branch in arrived]
    return fingerprint.combine("merge", list(expected), parts, how, allow_missing_columns)


def merged(
    run: Run,
    node: str,
    made_of: str,
    branches: Sequence[Branch],
    ended: Ended,
    *,
    merge: Merge | None,
    allow_missing_columns: bool,
    words: str,
) -> DataFrame:
    """The branches that arrived as one frame: one scan over their boundaries, or what ``merge`` makes of them.

    Raises:
        BranchesFailed: A boundary was lost, and its branch cannot be run again.
        FrameMismatch: The branches' columns do not go together.
    """
    wrong = {**ended.failed, **ended.absent}
    if wrong:
        raise BranchesFailed(node, wrong, len(branches))
    merged = Node(name=node, kind="merge", fingerprint=made_of, writes=False)
    if run.plan:
        frames = {branch.name: branch.frame.frame for branch in branches}
        run.once(merged, _unreached)
        return merge(frames) if merge else union_by_name(frames, allow_missing_columns=allow_missing_columns)
    details = {branch.name: ended.arrived[branch.name].detail for branch in branches}
    frame = _merge(run, details, merge, allow_missing_columns=allow_missing_columns)
    check_frame(node, frame)

    def record(_: Intent) -> Written:
        rows = [outcome.rows or 0 for outcome in ended.arrived.values()]
        reason = "; ".join(part for part in (words, ended.slowest) if part)
        return Written(rows=None if merge else sum(rows), reason=reason, detail={"arrived": list(details)})

    run.once(merged, record)
    return frame


def _unreached(_: Intent) -> Written:
    raise AssertionError("a plan runs no action")


def _merge(
    run: Run, details: Mapping[str, Mapping[str, object]], merge: Merge | None, *, allow_missing_columns: bool
) -> DataFrame:
    from pyspark.sql.types import StructField, StructType

    if merge is not None:
        return merge({name: boundaries.read(run.spark, run.state, [detail]) for name, detail in details.items()})
    columns = common_columns(
        {name: boundaries.schema(detail) for name, detail in details.items()},
        allow_missing_columns=allow_missing_columns,
        case_sensitive=folding(run.spark) is str,
    )
    schema = StructType([StructField(name, kind) for name, kind in columns.items()])
    return boundaries.read(run.spark, run.state, list(details.values()), schema)
