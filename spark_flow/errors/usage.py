"""Errors of usage: the request is invalid. Exit code 2."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar

from spark_flow.errors.base import Unexpected, UsageError, some

if TYPE_CHECKING:
    from collections.abc import Sequence


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


@dataclass(eq=False, repr=False)
class ConfigError(UsageError):
    """A config file is wrong. ``problems`` holds all that was found, not only the first."""

    file: str
    problems: Sequence[Problem]

    def _text(self) -> str:
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        return f"{self.file}: {len(self.problems)} problem(s)\n{lines}"


@dataclass(eq=False, repr=False)
class InvalidName(UsageError):
    """A name that is used as a folder name and in SQL has characters that are not allowed."""

    what: str
    value: object

    def _text(self) -> str:
        return (
            f"{self.what} {self.value!r} cannot be a folder name. Expected 1 to 128 letters, digits, '.', '_' or '-', "
            f"the first a letter or digit (for example 2013-01-02)."
        )


@dataclass(eq=False, repr=False)
class InvalidPath(UsageError):
    """A path that means different folders to the libraries that use it."""

    path: str
    found: str
    why: str

    def _text(self) -> str:
        return f"path {self.path!r}: found {self.found!r}, which cannot be part of it: {self.why}. Choose another name."


@dataclass(eq=False, repr=False)
class InvalidStep(UsageError):
    """A step that is not a function, or whose arguments have no stable fingerprint."""

    step: str
    found: str
    fix: str

    def _text(self) -> str:
        return f"step {self.step!r}: found {self.found}. {self.fix}"


class InvalidArgument(Unexpected):
    """An argument is not valid."""


@dataclass(eq=False, repr=False)
class DuplicateNode(UsageError):
    """Two different nodes of a run have the same name, or write to the same path."""

    node: str
    what: str

    def _text(self) -> str:
        return f"{self.node}: {self.what}. The ledger could not distinguish them; give each its own."


@dataclass(eq=False, repr=False)
class CannotReplace(UsageError):
    """A sink has to replace a key's rows and has no way to distinguish them from others."""

    node: str
    path: str
    revision: int

    def _text(self) -> str:
        return (
            f"{self.node}: revision {self.revision} must replace the key's rows in {self.path}, but the sink can only "
            "append; writing would duplicate them. Give it partition_by (first column = the key), replace_where "
            "(a SQL predicate of the key's rows), or mode: overwrite."
        )


@dataclass(eq=False, repr=False)
class CannotRollBack(UsageError):
    """A key has no earlier generation whose rows can be published again."""

    key: str
    found: str
    fix: str

    def _text(self) -> str:
        return f"{self.key}: found {self.found}, expected an earlier generation whose rows are still there. {self.fix}"


@dataclass(eq=False, repr=False)
class CannotAdopt(UsageError):
    """A key's rows are not in place, so that it cannot be adopted."""

    key: str
    found: str
    fix: str

    def _text(self) -> str:
        return f"{self.key}: found {self.found}, expected the key's rows in all targets, and no run. {self.fix}"


@dataclass(eq=False, repr=False)
class NoBranches(UsageError):
    """A fan-in has no branches."""

    where: str

    def _text(self) -> str:
        return f"{self.where}: found no branch, expected at least one. Check the list or range of branches."


@dataclass(eq=False, repr=False)
class UnknownBranch(UsageError):
    """A branch was named that the fan-in does not have."""

    node: str
    known: Sequence[str]

    def _text(self) -> str:
        expected = some(self.known) or "none: the branches of a fan-in without checkpoints cannot be run alone"
        return f"no branch {self.node!r} that can be run alone; expected {expected}."


@dataclass(eq=False, repr=False)
class UnknownNode(UsageError):
    """An option names a node that the flow does not have."""

    option: str
    node: str
    known: Sequence[str]

    @property
    def nearest(self) -> str:
        """The known name that is most like it; empty if none is."""
        return "".join(get_close_matches(self.node, self.known, n=1))

    def _text(self) -> str:
        hint = f" Did you mean {self.nearest!r}?" if self.nearest else ""
        return f"{self.option}: found {self.node!r}, expected one of: {some(self.known)}.{hint}"


@dataclass(eq=False, repr=False)
class UnknownFormat(UsageError):
    """A format that neither we nor an installed package has."""

    format: str
    known: Sequence[str]

    def _text(self) -> str:
        return f"found format {self.format!r}, expected one of: {', '.join(self.known)}."


@dataclass(eq=False, repr=False)
class OtherLimit(UsageError):
    """Two runners of one pipeline, or two users of one pool, do not agree how many may run at once."""

    pool: str
    found: int
    wanted: int
    holder: str

    def _text(self) -> str:
        return (
            f"{self.pool}: found a limit of {self.wanted} here, expected {self.found} as of {self.holder}, which runs "
            "or waits. Give both the same (max_active_runs of a pipeline, slots of a pool), or wait until it has ended."
        )


class UnknownPool(Unexpected):
    """A pool is not declared, or has fewer slots than a run needs."""

    subject: ClassVar[str] = "pool"


class InvalidRule(Unexpected):
    """A rule of how many branches must arrive is invalid, or cannot be met by these branches."""

    subject: ClassVar[str] = "require"


class InvalidCondition(Unexpected):
    """A condition of a choice is invalid."""


@dataclass(eq=False, repr=False)
class OtherCheckpoint(UsageError):
    """A stream's name was used with another checkpoint: its batches start at 0 again, and Delta would drop them."""

    path: str
    app_id: str
    known: int
    batch: int

    def _text(self) -> str:
        return (
            f"{self.path} has batch {self.known} of {self.app_id!r} from another checkpoint; found batch {self.batch} "
            "of this one, which Delta would drop silently. Give the stream a new app_id, or continue from its own "
            "checkpoint."
        )


@dataclass(eq=False, repr=False)
class UnknownJob(Unexpected):
    """A job that should be triggered is missing, or is another one."""

    subject: ClassVar[str] = "job to trigger"
    fix: str = "Was it moved or renamed?"


@dataclass(frozen=True)
class Conflict:
    """Why runs of several keys cannot run at the same time.

    Attributes:
        paths: The tables or folders that they share.
        nodes: The nodes that read or write them.
        keys: The keys of those runs.
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


@dataclass(eq=False, repr=False)
class SharedState(UsageError):
    """Runs of several keys share what one of them writes; ``conflicts`` holds all that was found."""

    conflicts: Sequence[Conflict]

    @property
    def paths(self) -> tuple[str, ...]:
        """The tables or folders that they share."""
        return tuple(sorted({path for one in self.conflicts for path in one.paths}))

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that read or write them."""
        return tuple(sorted({node for one in self.conflicts for node in one.nodes}))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of those runs."""
        return tuple(sorted({key for one in self.conflicts for key in one.keys}))

    def _text(self) -> str:
        most = 10
        lines = "".join(f"  {one}\n" for one in self.conflicts[:most])
        lines += f"  and {len(self.conflicts) - most} more\n" if len(self.conflicts) > most else ""
        return (
            f"these keys cannot run side by side: {len(self.conflicts)} conflict(s)\n{lines}"
            "Or run them one after another, by the single runner with depends_on_past."
        )


class EnvironmentTooOld(Unexpected):
    """Java, Python or a library outside of Python's packages is missing or too old."""
