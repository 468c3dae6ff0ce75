"""Every error of spark_flow, in one tree.

::

    SparkFlowError
    ├── UsageError                  exit code 2: what was asked cannot be done as asked
    │   ├── ConfigError             a YAML file is wrong; all its problems at once
    │   ├── InvalidName             a pipeline, key or node name that cannot be a folder name
    │   ├── InvalidStep             a step that is no function, or has no stable fingerprint
    │   ├── DuplicateNode           two nodes of one name, or two writes to one place
    │   ├── CannotReplace           a sink that cannot replace a key's rows was asked to
    │   ├── NoBranches              a fan-in without branches
    │   └── EnvironmentTooOld       Java, Python or Delta's library missing or too old
    ├── StateError                  exit code 1: the state folder
    │   ├── StateNotWritable
    │   └── StateTooNew             written by a newer version of spark_flow
    ├── NotNow                      exit code 75: nothing is wrong, and it cannot be done yet
    └── RunError                    exit code 1: the run itself
        ├── NodeFailed              a node's action raised; holds node and cause
        ├── MissingInput            a file, folder or table that a source needs is not there
        ├── BadRecords              corrupt lines, missing or mistyped required columns
        ├── NotADataFrame           a step or branch returned something else
        ├── FrameMismatch           frames that cannot be put together
        │   ├── MissingColumns      one lacks a column
        │   ├── TypeConflict        a column has two types
        │   ├── ColumnClash         a name stands for a column of each
        │   └── AmbiguousColumns    a name stands for two columns of one frame
        ├── OutsideKey              rows that do not belong to the key being written
        ├── WriteNotProved          the table does not hold what was just written
        └── SetNotVisible           a transaction's tables were not all committed

A message says what was found, what was expected and what to do; the fields hold the objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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


class InvalidStep(UsageError):
    """A step that is not a function, or whose arguments have no stable fingerprint."""

    def __init__(self, step: str, found: str, fix: str) -> None:
        self.step = step
        self.found = found
        super().__init__(f"step {step!r}: found {found}. {fix}")


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


class RunError(SparkFlowError):
    """A run could not do its work."""


class NodeFailed(RunError):
    """A node's action raised; ``cause`` is what it raised."""

    def __init__(self, node: str, cause: BaseException) -> None:
        self.node = node
        self.cause = cause
        super().__init__(f"{node} failed: {describe(cause)}")


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
        super().__init__(f"column {column!r} is {shown}. Cast it, or read both branches by one schema.")


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


def describe(error: BaseException, fields: Mapping[str, str] | None = None) -> str:
    """One readable line for any exception: its first line, without a JVM stack."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0] if fields is None else f"{text} {dict(fields)}"
