"""Every error of spark_flow, in one tree.

::

    SparkFlowError
    ├── UsageError                  exit code 2: what was asked cannot be done as asked
    │   ├── ConfigError             a YAML file is wrong; all its problems at once
    │   ├── InvalidName             a pipeline, key or node name that cannot be a folder name
    │   ├── InvalidPath             a path that two libraries would take for two places
    │   ├── InvalidStep             a step that is no function, or has no stable fingerprint
    │   ├── InvalidArgument         an argument of a pattern that is not what it takes
    │   ├── DuplicateNode           two nodes of one name, or two writes to one place
    │   ├── CannotReplace           a sink that cannot replace a key's rows was asked to
    │   ├── NoBranches              a fan-in without branches
    │   ├── UnknownBranch           a branch was named that the fan-in does not have
    │   ├── UnknownNode             a node was named that the flow does not have
    │   ├── UnknownFormat           a sink's format that neither we nor an installed package has
    │   ├── InvalidCondition        a condition of a choice that cannot be asked
    │   ├── OtherCheckpoint         a stream's name was used with another checkpoint
    │   ├── UnknownJob              a job to trigger that is not there, or is another one
    │   ├── OtherLimit              another runner has another limit for the same pipeline or pool
    │   ├── UnknownPool             a pool that is not declared, or has too few slots
    │   ├── InvalidRule             a rule of how many branches must arrive that cannot be met
    │   ├── SharedState             runs of several keys that read or replace what another one writes
    │   └── EnvironmentTooOld       Java, Python or Delta's library missing or too old
    ├── StateError                  exit code 1: the state folder
    │   ├── StateNotWritable
    │   ├── StateTooNew             written by a newer version of spark_flow
    │   ├── StateDamaged            not what this version writes
    │   └── LedgerOld               a target remembers a write that the ledger does not know
    ├── NothingToDo                 exit code 0: the key is not to be done
    │   └── UpstreamSkipped         a provider has skipped the key
    ├── NotNow                      exit code 75: nothing is wrong, and it cannot be done yet
    │   ├── NotAllArrived           branches of an aligned fan-in have not arrived
    │   ├── NotArrived              a source of this key is not there yet
    │   ├── UpstreamNotReady        a provider's readiness marker did not come in time
    │   ├── Busy                    the lease, or slots of the pool, are held by others
    │   ├── QueueFull               as many wait already as may wait
    │   ├── LeaseLost               others have taken over, because the lease had expired
    │   ├── Fenced                  the ledger refuses who was taken over
    │   ├── PreviousNotDone         the previous key has not succeeded, and this one depends on it
    │   └── TriggeredWaits          a consumer that was triggered has to wait itself
    ├── Interrupted                 exit code 130: by Ctrl-C; what succeeded is reused
    └── RunError                    exit code 1: the run itself
        ├── NodeFailed              a node's action raised; holds node and cause
        ├── NotRecorded             a node that a partial backfill keeps would have to run
        ├── DamagedFile             a file that spark_flow wrote is empty, cut or changed
        ├── MissingInput            a file, folder or table that a source needs is not there
        ├── BadRecords              corrupt lines, missing or mistyped required columns
        ├── HeaderMismatch          a CSV file's header names other columns, or in another order
        ├── NotADataFrame           a step or branch returned something else
        ├── FrameMismatch           frames that cannot be put together
        │   ├── MissingColumns      one lacks a column
        │   ├── TypeConflict        a column has two types
        │   ├── ColumnClash         a name stands for a column of each
        │   └── AmbiguousColumns    a name stands for two columns of one frame
        ├── DuplicateKeys           a join would multiply rows
        ├── BranchesFailed          branches of a fan-in or a split failed; holds each one's error
        ├── ApplicationFailed       an application of a branch's own did not end well
        ├── UpstreamFailed          a provider has failed
        ├── UpstreamPartial         a provider's data is approximate, and that was refused
        ├── InvalidMarker           a readiness marker that cannot be trusted
        │   ├── MarkerTooNew        of a newer version of spark_flow
        │   └── OutsideRoots        a table outside of the folders that are allowed
        ├── TriggeredFailed         a consumer that was triggered did not end as allowed
        ├── NotEnoughBranches       fewer branches arrived than the fan-in's rule requires
        ├── NotExclusive            of a choice's routes not exactly one can be taken
        ├── StoppedBySibling        a branch was stopped because another one failed
        ├── TookFallback            a fan-in had nothing to merge, and its fallback ran instead
        ├── NotNotified             a notification could not be sent
        ├── SummaryNotWritten       the file of --summary-json could not be written when the run had ended
        ├── OutsideKey              rows that do not belong to the key being written
        ├── OtherTimeZone           a key's text is another instant than the one it was written as
        ├── ConstraintViolated      a row breaks a table's CHECK or NOT NULL
        ├── WriteNotProved          the table does not hold what was just written
        ├── NotRepresentable        a file format cannot hold the frame's values
        └── SetNotVisible           a transaction's tables were not all committed

A message says what was found, what was expected and what to do; the fields hold the objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar

from spark_flow.errors.cause import BRANCH_LIMIT, LIMIT, message, short

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

INTERRUPTED = "interrupted; what succeeded is reused when the same command is run again"
_SHOWN = 8  # branches of which a message says why they failed


class SparkFlowError(Exception):
    """The root; ``exit_code`` is what a job ends with."""

    exit_code: ClassVar[int] = 1


class UsageError(SparkFlowError):
    """What was asked cannot be done as asked."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Problem:
    """One problem of a config file.

    Attributes:
        path: Where, as in ``flow[2].step.sql``.
        found: What stands there.
        expected: What may stand there.
        fix: What to do; empty when ``expected`` says it.
    """

    path: str
    found: str
    expected: str
    fix: str = ""

    def __str__(self) -> str:
        """One line."""
        return f"{self.path}: found {self.found}; expected {self.expected}" + (f". {self.fix}" if self.fix else "")


class ConfigError(UsageError):
    """A config file is wrong. ``problems`` holds all that was found, not only the first."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{file}: {len(self.problems)} problem(s)\n{lines}")


class InvalidName(UsageError):
    """A name that becomes a folder name and a SQL literal is not fit for it."""

    def __init__(self, what: str, value: object) -> None:
        self.what = what
        self.value = value
        super().__init__(
            f"{what} {value!r} cannot be a folder name. Expected 1 to 128 letters, digits, '.', '_' or '-', "
            f"the first a letter or digit (for example 2013-01-02)."
        )


class InvalidPath(UsageError):
    """A path that means different folders to the libraries that use it."""

    def __init__(self, path: str, found: str, why: str) -> None:
        self.path = path
        self.found = found
        self.why = why
        super().__init__(f"path {path!r}: found {found!r}, which cannot be part of it: {why}. Choose another name.")


class InvalidStep(UsageError):
    """A step that is not a function, or whose arguments have no stable fingerprint."""

    def __init__(self, step: str, found: str, fix: str) -> None:
        self.step = step
        self.found = found
        super().__init__(f"step {step!r}: found {found}. {fix}")


class InvalidArgument(UsageError):
    """An argument that is not what a pattern takes."""

    def __init__(self, where: str, found: str, expected: str) -> None:
        self.where = where
        self.found = found
        self.expected = expected
        super().__init__(f"{where}: found {found}, expected {expected}.")


class DuplicateNode(UsageError):
    """Two different nodes of a run have one name, or write to one place."""

    def __init__(self, node: str, what: str) -> None:
        self.node = node
        super().__init__(f"{node}: {what}. The ledger could not tell them apart; give each its own.")


class CannotReplace(UsageError):
    """A sink has to replace a key's rows and has no way to tell them from others."""

    def __init__(self, node: str, path: str, revision: int) -> None:
        self.node = node
        self.path = path
        self.revision = revision
        super().__init__(
            f"{node}: revision {revision} must replace the key's rows in {path}, but the sink can only append; "
            "writing would duplicate them. Give it partition_by (first column = the key), replace_where "
            "(a SQL predicate of the key's rows), or mode: overwrite."
        )


class NoBranches(UsageError):
    """There is nothing to bring together."""

    def __init__(self, where: str) -> None:
        self.where = where
        super().__init__(f"{where}: found no branch, expected at least one. Check the list or range of branches.")


class UnknownBranch(UsageError):
    """A branch was named that the fan-in does not have."""

    def __init__(self, node: str, known: Sequence[str]) -> None:
        self.node = node
        self.known = tuple(known)
        expected = some(self.known) or "none: the branches of a fan-in without boundaries cannot be run alone"
        super().__init__(f"no branch {node!r} that can be run alone; expected {expected}.")


class UnknownNode(UsageError):
    """An option names a node that the flow does not have."""

    def __init__(self, option: str, node: str, known: Sequence[str]) -> None:
        self.option = option
        self.node = node
        self.known = tuple(known)
        self.nearest = "".join(get_close_matches(node, self.known, n=1))
        hint = f" Did you mean {self.nearest!r}?" if self.nearest else ""
        super().__init__(f"{option}: found {node!r}, expected one of: {some(self.known)}.{hint}")


class UnknownFormat(UsageError):
    """A format that neither we nor an installed package has."""

    def __init__(self, format: str, known: Sequence[str]) -> None:  # noqa: A002 - Spark's own word
        self.format = format
        self.known = tuple(known)
        super().__init__(f"found format {format!r}, expected one of: {', '.join(self.known)}.")


class OtherLimit(UsageError):
    """Two runners of one pipeline, or two users of one pool, do not agree how many may run at once."""

    def __init__(self, pool: str, found: int, wanted: int, holder: str) -> None:
        self.pool = pool
        self.found = found
        self.wanted = wanted
        super().__init__(
            f"{pool}: found a limit of {wanted} here, expected {found} as of {holder}, which runs or waits. "
            "Give both the same (max_active_runs of a pipeline, slots of a pool), or wait until it has ended."
        )


class UnknownPool(UsageError):
    """A pool that is not declared, or has fewer slots than a run wants."""

    def __init__(self, pool: str, found: str, expected: str) -> None:
        self.pool = pool
        super().__init__(f"pool {pool!r}: found {found}, expected {expected}.")


class InvalidRule(UsageError):
    """A rule of how many branches must arrive that no number of branches, or not this one, can meet."""

    def __init__(self, rule: str, found: str, expected: str) -> None:
        self.rule = rule
        super().__init__(f"require {rule}: found {found}, expected {expected}.")


class InvalidCondition(UsageError):
    """A condition of a choice that cannot be asked."""

    def __init__(self, condition: str, found: str, expected: str) -> None:
        self.condition = condition
        self.found = found
        self.expected = expected
        super().__init__(f"{condition}: found {found}, expected {expected}.")


class OtherCheckpoint(UsageError):
    """A stream's name was used with another checkpoint: its batches are numbered anew, and Delta would drop them."""

    def __init__(self, path: str, app_id: str, known: int, batch: int) -> None:
        self.path = path
        self.app_id = app_id
        self.known = known
        self.batch = batch
        super().__init__(
            f"{path} has batch {known} of {app_id!r} from another checkpoint; found batch {batch} of this one, which "
            "Delta would drop without a word. Give the stream a new app_id, or go on from its own checkpoint."
        )


class UnknownJob(UsageError):
    """A job that should be triggered is not there, or is not the one that was meant."""

    def __init__(self, job: str, found: str, expected: str) -> None:
        self.job = job
        self.found = found
        self.expected = expected
        super().__init__(f"job to trigger {job}: found {found}, expected {expected}. Was it moved or renamed?")


@dataclass(frozen=True)
class Conflict:
    """Why runs of several keys cannot go on side by side.

    Attributes:
        paths: The tables or folders that they share.
        nodes: Who reads or writes them.
        keys: Whose runs those are.
        found: What was found, in words.
        fix: What to do.
    """

    paths: tuple[str, ...]
    nodes: tuple[str, ...]
    keys: tuple[str, ...]
    found: str
    fix: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.found}. {self.fix}"


class SharedState(UsageError):
    """Runs of several keys share what one of them writes; ``conflicts`` holds all that was found."""

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        self.conflicts = tuple(conflicts)
        self.paths = tuple(sorted({path for one in self.conflicts for path in one.paths}))
        self.nodes = tuple(sorted({node for one in self.conflicts for node in one.nodes}))
        self.keys = tuple(sorted({key for one in self.conflicts for key in one.keys}))
        most = 10
        lines = "".join(f"  {one}\n" for one in self.conflicts[:most])
        lines += f"  and {len(self.conflicts) - most} more\n" if len(self.conflicts) > most else ""
        super().__init__(
            f"these keys cannot run side by side: {len(self.conflicts)} conflict(s)\n{lines}"
            "Or run them one after another, by the single runner with depends_on_past."
        )


class EnvironmentTooOld(UsageError):
    """Something outside Python's packages is missing or too old."""

    def __init__(self, what: str, found: str, expected: str, fix: str) -> None:
        self.what = what
        self.found = found
        self.expected = expected
        super().__init__(f"{what}: found {found}, expected {expected}. {fix}")


class StateError(SparkFlowError):
    """The state folder cannot be used."""


class StateNotWritable(StateError):
    """Nothing can be recorded, so nothing is run."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"state folder {path} is not writable: {reason}. Point state= at a folder that this user may write."
        )


class StateTooNew(StateError):
    """The state was written by a newer version; reading it by older rules could redo or lose work."""

    def __init__(self, path: str, found: object, supported: int) -> None:
        self.path = path
        self.found = found
        self.supported = supported
        super().__init__(
            f"state folder {path} has format {found}, this version reads up to {supported}. "
            "Upgrade spark-flow, or point state= at another folder."
        )


class StateDamaged(StateError):
    """What stands in the state folder is not what this version writes."""

    def __init__(self, path: str, found: str, expected: str, fix: str) -> None:
        self.path = path
        self.found = found
        super().__init__(f"{path}: found {found}, expected {expected}. {fix}")


class LedgerOld(StateError):
    """A target remembers a newer write than the ledger, which was restored from a backup or has lost its end.

    What is recorded of the key is not used any more: it may be older than what the targets hold.

    Attributes:
        node: Whose target it is.
        known: The highest revision of the node in the ledger.
        remembered: The one that the target remembers.
    """

    def __init__(self, node: str, known: int, remembered: int, fix: str) -> None:
        self.node = node
        self.known = known
        self.remembered = remembered
        super().__init__(f"{old_ledger(node, known, remembered)}. {fix}")


def old_ledger(node: str, known: int, remembered: int) -> str:
    """Why what the ledger has of a key is not used."""
    return (
        f"the ledger is old: the target of {node} remembers revision {remembered}, "
        f"the ledger {f'only {known}' if known else 'none'}; nothing recorded is reused"
    )


class NotNow(SparkFlowError):
    """Nothing is wrong, and it cannot be done yet: run the same command again later."""

    exit_code: ClassVar[int] = 75


class NotAllArrived(NotNow):
    """Branches of an aligned fan-in have not arrived; those that have are recorded, and are not run again.

    Attributes:
        asked: Whether the merge was asked for; otherwise the run was told to do some branches only, and did them.
    """

    def __init__(self, node: str, missing: Sequence[str], expected: int, *, asked: bool = True) -> None:
        self.node = node
        self.missing = tuple(missing)
        self.expected = expected
        self.asked = asked
        super().__init__(
            f"{node}: {expected - len(self.missing)} of {expected} branches have arrived; "
            f"missing: {', '.join(self.missing)}. "
            + ("Run the same command again when they are there." if asked else "Run them too, or all without --only.")
        )


class NotArrived(NotNow):
    """A source whose path is another one for each key is not there yet; ``missing`` names each path."""

    def __init__(self, source: str, missing: Sequence[str]) -> None:
        self.source = source
        self.missing = tuple(missing)
        super().__init__(
            f"source {source!r}: not arrived: {', '.join(self.missing)}. "
            "Run the same command again when it is there, or check the path and the key."
        )


class UpstreamNotReady(NotNow):
    """Readiness markers did not come in time; ``waiting`` tells of each what was found."""

    def __init__(self, node: str, waiting: Mapping[str, str], waited: float) -> None:
        self.node = node
        self.waiting = dict(waiting)
        self.waited = waited
        found = "; ".join(f"{name}: {words}" for name, words in list(self.waiting.items())[:5])
        more = f"; and {len(self.waiting) - 5} more" if len(self.waiting) > 5 else ""  # noqa: PLR2004 - as many as above
        super().__init__(
            f"{node}: not ready after {waited:.0f} s: {found}{more}. "
            "Run the same command again, or raise the timeout; the provider's own status tells what holds it up."
        )


class Busy(NotNow):
    """What is needed to run is held by others; ``holders`` tells who they are."""

    def __init__(self, pool: str, key: str, holders: Sequence[str]) -> None:
        self.pool = pool
        self.key = key
        self.holders = tuple(holders)
        super().__init__(
            f"{pool}: {key} cannot start now, held by {some(self.holders, 5) or 'nobody; others wait before it'}. "
            "Run the same command again later, or let it wait (runner.on_busy: wait); `spark-flow leases` lists them."
        )


class QueueFull(NotNow):
    """As many wait already as may wait."""

    def __init__(self, pool: str, key: str, waiting: int, most: int) -> None:
        self.pool = pool
        self.key = key
        self.waiting = waiting
        self.most = most
        super().__init__(
            f"{pool}: {key} is refused: {waiting} wait already, at most {most} may (runner.queue). "
            "Run the same command again later."
        )


class LeaseLost(NotNow):
    """The lease was not renewed in time, or was released by hand, and others may run now: nothing more is written."""

    def __init__(self, pool: str, key: str, why: str) -> None:
        self.pool = pool
        self.key = key
        self.why = why
        super().__init__(
            f"{pool}: {key} has lost its lease ({why}), so that it writes and records nothing more. "
            "What it recorded before is reused: run the same command again if nobody else does."
        )


class Fenced(NotNow):
    """Another process has taken this one's place, and the ledger takes nothing from it any more."""

    def __init__(self, name: str, token: int, seen: int) -> None:
        self.name = name
        self.token = token
        self.seen = seen
        super().__init__(
            f"{name}: nothing is recorded under fencing token {token}: another run has begun under {seen}. "
            "It has taken over what was recorded here, and this run ends."
        )


class PreviousNotDone(NotNow):
    """A key depends on the one before it, which has not succeeded."""

    def __init__(self, what: str, previous: str, reason: str) -> None:
        self.what = what
        self.previous = previous
        self.reason = reason
        super().__init__(
            f"{what} depends on the previous key {previous}: {reason}. "
            f"Run {previous} first, then the same command again."
        )


class TriggeredWaits(NotNow):
    """A consumer that was triggered ended with exit code 75."""

    def __init__(self, node: str, consumer: str, reason: str) -> None:
        self.node = node
        self.consumer = consumer
        super().__init__(f"{node}: {consumer} has to wait: {reason}. Run the same command again.")


class Interrupted(SparkFlowError):
    """The run was interrupted, by Ctrl-C or by who runs it; in the main thread that is a ``KeyboardInterrupt``."""

    exit_code: ClassVar[int] = 130

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what}: {INTERRUPTED}")


class NothingToDo(SparkFlowError):
    """The key is not to be done: nothing failed, and nothing was written."""

    exit_code: ClassVar[int] = 0


class UpstreamSkipped(NothingToDo):
    """A provider has skipped the key, so its consumer does."""

    def __init__(self, node: str, skipped: Sequence[str]) -> None:
        self.node = node
        self.skipped = tuple(skipped)
        super().__init__(f"{node}: {'; '.join(self.skipped)}. The key is skipped here as well.")


class RunError(SparkFlowError):
    """A run could not do its work."""


class NodeFailed(RunError):
    """A node's action raised; ``cause`` is what it raised."""

    def __init__(self, node: str, cause: BaseException) -> None:
        self.node = node
        self.cause = cause
        super().__init__(f"{node} failed: {describe(cause)}")


class NotRecorded(RunError):
    """A node that a partial backfill keeps would have to run; it was not, and nothing was recorded of it."""

    def __init__(self, node: str, reason: str, remedy: str = "") -> None:
        self.node = node
        self.reason = reason
        super().__init__(
            f"{node} is to be kept, and would have to run: {reason}. "
            f"{remedy or f'Begin at {node} or before it (--from)'}, or do without --from and --only; "
            "--rerun does all of the key anew."
        )


class DamagedFile(RunError):
    """A file that spark_flow wrote is empty, cut or changed, as after a power loss; nothing is taken from it."""

    def __init__(self, path: str, found: str, fix: str = "") -> None:
        self.path = path
        self.found = found
        self.fix = fix or "Restore it from a backup, or remove it and run the same command again."
        super().__init__(f"{path}: found {found}, expected a whole JSON document. {self.fix}")


class MissingInput(RunError):
    """A file, folder or table that a source needs is not there; ``missing`` names each."""

    def __init__(self, source: str, missing: Sequence[str]) -> None:
        self.source = source
        self.missing = tuple(missing)
        super().__init__(
            f"source {source!r}: not found: {', '.join(self.missing)}. "
            "Check the path and the key, or wait until the provider has delivered."
        )


class BadRecords(RunError):
    """A source that was told ``bad_records: fail`` met a record that is not by its schema."""

    def __init__(self, source: str, file: str, reason: str) -> None:
        self.source = source
        self.file = file
        self.reason = reason
        super().__init__(
            f"source {source!r}: bad record in {file or 'its files'}: {reason}. "
            "Mend the file, or set bad_records: quarantine to set such records aside and go on."
        )


class HeaderMismatch(RunError):
    """A CSV file's header is not that of the source: Spark takes columns by position, so they would be mixed up."""

    def __init__(self, source: str, file: str, found: Sequence[str], expected: Sequence[str]) -> None:
        self.source = source
        self.file = file
        self.found = tuple(found)
        self.expected = tuple(expected)
        super().__init__(
            f"source {source!r}: the header of {file} is {', '.join(self.found)}; expected {', '.join(self.expected)}, "
            "in this order. Fix the file, or read files of another header as a source (or branch) of their own."
        )


class NotADataFrame(RunError):
    """A step returned something that is not a DataFrame."""

    def __init__(self, step: str, found: object) -> None:
        self.step = step
        self.found = found
        hint = " (is a return missing?)" if found is None else ""
        super().__init__(f"step {step!r} returned {type(found).__name__}, expected a DataFrame{hint}.")


class FrameMismatch(RunError):
    """Frames that cannot be put together."""


class MissingColumns(FrameMismatch):
    """A frame lacks columns."""

    def __init__(self, branch: str, missing: Sequence[str], found: Sequence[str]) -> None:
        self.branch = branch
        self.missing = tuple(missing)
        self.found = tuple(found)
        super().__init__(
            f"{branch!r} lacks {', '.join(self.missing)}; it has {', '.join(self.found) or 'none'}. "
            "Add what is missing, or pass allow_missing_columns to fill it with nulls where a union is meant."
        )


class TypeConflict(FrameMismatch):
    """A column has two types; ``types`` tells each branch's."""

    def __init__(self, column: str, types: Mapping[str, str]) -> None:
        self.column = column
        self.types = dict(types)
        shown = " and ".join(f"{kind} in {branch!r}" for branch, kind in self.types.items())
        super().__init__(
            f"column {column!r} is {shown}. Cast it, or read both branches by one schema. If a branch of a run was "
            "recorded with data that was wrong and is mended now, --rerun reads it again."
        )


class ColumnClash(FrameMismatch):
    """Columns that stand in more than one frame; ``columns`` tells the frames of each."""

    def __init__(self, columns: Mapping[str, Sequence[str]]) -> None:
        self.columns = {column: tuple(branches) for column, branches in columns.items()}
        shown = "; ".join(f"{column!r} in {', '.join(names)}" for column, names in self.columns.items())
        super().__init__(f"columns of one name: {shown}. Drop or rename them, or join with clash='prefix'.")


class AmbiguousColumns(FrameMismatch):
    """A frame has several columns of one name."""

    def __init__(self, branch: str, columns: Sequence[str]) -> None:
        self.branch = branch
        self.columns = tuple(columns)
        super().__init__(f"{branch!r} has more than one column named {', '.join(self.columns)}. Rename them.")


class DuplicateKeys(RunError):
    """A key stands twice on the right side of a join, which would multiply rows."""

    def __init__(self, branch: str, key: str) -> None:
        self.branch = branch
        self.key = key
        super().__init__(
            f"{branch!r} has more than one row for {key}: joining it would multiply rows. "
            "Make its keys unique first, or pass allow_duplicates."
        )


class BranchesFailed(RunError):
    """Branches of a fan-in or a split failed; ``errors`` holds each one's. The others are recorded, and reused."""

    def __init__(self, node: str, errors: Mapping[str, BaseException], expected: int) -> None:
        self.node = node
        self.errors = dict(errors)
        self.expected = expected
        each = [f"\n  {name}: {reason_of(error)}" for name, error in list(self.errors.items())[:_SHOWN]]
        each += [f"\n  and {len(self.errors) - _SHOWN} more"] if len(self.errors) > _SHOWN else []
        super().__init__(f"{node}: {len(self.errors)} of {expected} branches failed:{''.join(each)}")


class ApplicationFailed(RunError):
    """A branch that is an application of its own did not end well."""

    def __init__(self, node: str, reason: str) -> None:
        self.node = node
        self.reason = reason
        super().__init__(f"{node}: its application failed: {reason}")


class UpstreamFailed(RunError):
    """A provider says that it failed; ``failed`` tells each one's words."""

    def __init__(self, node: str, failed: Sequence[str]) -> None:
        self.node = node
        self.failed = tuple(failed)
        super().__init__(f"{node}: {'; '.join(self.failed)}. Mend the provider, then run the same command again.")


class UpstreamPartial(RunError):
    """A provider's data is approximate, and on_partial is refuse."""

    def __init__(self, node: str, partial: Sequence[str]) -> None:
        self.node = node
        self.partial = tuple(partial)
        super().__init__(
            f"{node}: {'; '.join(self.partial)}; expected it to be complete (on_partial: refuse). "
            "Run again when the provider has completed it, or set on_partial to pass_on, take or wait."
        )


class InvalidMarker(RunError):
    """A readiness marker that cannot be trusted: nothing is read by it.

    Attributes:
        cut_off: Whether it may be one that another tool has not finished writing.
    """

    remedy: ClassVar[str] = "Rerun the provider to mark the key anew."

    def __init__(self, path: str, found: str, expected: str, *, cut_off: bool = False) -> None:
        self.path = path
        self.found = found
        self.expected = expected
        self.cut_off = cut_off
        super().__init__(f"marker {path}: found {found}; expected {expected}. {self.remedy}")


class MarkerTooNew(InvalidMarker):
    """A readiness marker of a newer version of spark_flow; it is neither read nor written over."""

    remedy: ClassVar[str] = "Upgrade spark-flow."


class OutsideRoots(InvalidMarker):
    """A readiness marker names a table outside of the folders that its reader allows."""

    remedy: ClassVar[str] = "Add the table's folder to roots, if you trust it."


class TriggeredFailed(RunError):
    """A consumer that was triggered ended in a state that is not allowed."""

    def __init__(self, node: str, consumer: str, state: str, reason: str, allowed: Sequence[str]) -> None:
        self.node = node
        self.consumer = consumer
        self.state = state
        super().__init__(f"{node}: {consumer} ended {state}, expected {' or '.join(allowed)}: {reason}")


class NotEnoughBranches(RunError):
    """Fewer branches arrived than the rule requires; nothing was merged."""

    def __init__(
        self, node: str, rule: str, arrived: int, failed: Mapping[str, str], absent: Mapping[str, str]
    ) -> None:
        self.node = node
        self.rule = rule
        self.arrived = arrived
        self.failed = dict(failed)
        self.absent = dict(absent)
        expected = arrived + len(self.failed) + len(self.absent)
        why = [f"{name} failed: {error}" for name, error in self.failed.items()]
        why += [f"not arrived: {', '.join(self.absent)}"] if self.absent else []
        super().__init__(
            f"{node}: {arrived} of {expected} branches arrived, expected {rule}; nothing was merged. {'; '.join(why)}"
        )


class NotExclusive(RunError):
    """Of the routes of a choice not exactly one has a condition that holds; ``conditions`` tells what was found."""

    def __init__(self, node: str, holding: Sequence[str], conditions: Mapping[str, str]) -> None:
        self.node = node
        self.holding = tuple(holding)
        self.conditions = dict(conditions)
        found = f"{', '.join(self.holding)} hold" if self.holding else "no condition holds"
        told = "".join(f"\n  {route}: {words}" for route, words in self.conditions.items())
        super().__init__(f"{node}: {found}, expected exactly one; name a default, or mend the conditions:{told}")


class StoppedBySibling(RunError):
    """A branch was stopped because another one failed."""

    def __init__(self, node: str) -> None:
        self.node = node
        super().__init__(f"{node}: stopped, because another branch failed (on_failure: stop).")


class TookFallback(RunError):
    """A fan-in had nothing to merge, and its fallback ran instead: the run must not look like a success."""

    def __init__(self, node: str, what: str) -> None:
        self.node = node
        self.what = what
        super().__init__(
            f"{node}: no branch arrived; the fallback ran instead: {what}. "
            "Run the same command again when there is data."
        )


class NotNotified(RunError):
    """A notification could not be sent. No address is told: it may hold a secret."""

    def __init__(self, variable: str, reason: str) -> None:
        self.variable = variable
        self.reason = reason
        super().__init__(
            f"the services in {variable} were not notified: {reason}. The run goes on; a retry tries again."
        )


class SummaryNotWritten(RunError):
    """The file of ``--summary-json`` could be written before the run, and cannot any more."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"{path}: the summary cannot be written: {reason}; expected a file that can be written, as when the run "
            "began. The run itself has ended as its ledger says: `spark-flow status`."
        )


class OutsideKey(RunError):
    """Rows belong to another key than the one being written."""

    def __init__(self, node: str, key: str, found: Sequence[str]) -> None:
        self.node = node
        self.key = key
        self.found = tuple(found)
        super().__init__(
            f"{node}: the frame holds rows of {', '.join(self.found)}, expected only key {key}. "
            "Filter the frame to its key before it is written."
        )


class OtherTimeZone(RunError):
    """A key's text is another instant now than when its rows were written: replacing it would leave the old rows."""

    def __init__(self, node: str, key: str, written: str, now: str, zone: str) -> None:
        self.node = node
        self.key = key
        self.written = written
        self.now = now
        self.zone = zone
        super().__init__(
            f"{node}: key {key} was written as {written}, and is {now} in this session's time zone {zone}. "
            "Set spark.sql.session.timeZone to the zone that it was written in."
        )


class ConstraintViolated(RunError):
    """A row breaks a constraint of its Delta table; nothing was written.

    Attributes:
        constraint: As ``CHECK pos (id > 0)`` or ``NOT NULL trip.fare``.
        values: The row's values of the columns that it is about, where Delta reports them.
    """

    def __init__(self, node: str, path: str, constraint: str, values: Mapping[str, str]) -> None:
        self.node = node
        self.path = path
        self.constraint = constraint
        self.values = dict(values)
        row = f" by a row with {', '.join(f'{name} = {value}' for name, value in self.values.items())}" * bool(values)
        super().__init__(
            f"{node}: constraint {constraint} of {path} is violated{row}. Nothing was written: fix the data."
        )


class NotRepresentable(RunError):
    """A file format cannot hold a frame's values: what a reader gets is not what was written. Nothing was published."""

    def __init__(self, node: str, format: str, expected: str, found: str, fix: str) -> None:  # noqa: A002
        self.node = node
        self.format = format
        self.expected = expected
        self.found = found
        super().__init__(
            f"{node}: wrote {expected} as {format}, and a reader gets {found}. Nothing was published. {fix}"
        )


class WriteNotProved(RunError):
    """A write returned without error, but the target does not hold it."""

    def __init__(self, path: str, expected: str, found: str) -> None:
        self.path = path
        self.expected = expected
        self.found = found
        super().__init__(
            f"{path}: expected {expected}, found {found}: the write was dropped or undone. "
            "It was not recorded as done; run again."
        )


class SetNotVisible(RunError):
    """A transaction's tables were not all committed, or were changed since."""

    def __init__(self, name: str, key: str, reason: str) -> None:
        self.name = name
        self.key = key
        self.reason = reason
        super().__init__(
            f"transaction {name!r} of key {key}: {reason}. Run the pipeline's job for this key to complete it."
        )


def some(names: Sequence[str], most: int = 10) -> str:
    """Names for a message: the first ones, and how many there are besides."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def describe(error: BaseException, limit: int = LIMIT) -> str:
    """What any exception says, in one line without a stack: type, text, the innermost cause, the user's line of code.

    Of our own the text alone. The same in the terminal, the ledger, lineage, summaries and runners' results.
    """
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else short(message(error, own=SparkFlowError), limit)


def reason_of(error: BaseException, limit: int = BRANCH_LIMIT) -> str:
    """What a node's error says, for a message that names the node itself."""
    return describe(error.cause if isinstance(error, NodeFailed) else error, limit)
