"""The root of the tree of errors, its main branches, and what any exception says in one line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

from spark_flow.errors.cause import LIMIT, message, short

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = "interrupted; what succeeded is reused when the same command is run again"


class SparkFlowError(Exception):
    """The root; ``exit_code`` is the exit code of a job that ends with it.

    A subclass with fields is a dataclass whose ``_text`` is the message: what was found, what was expected and what to
    do. Fields that are declared as a sequence are held as tuples, mappings as copies.
    """

    exit_code: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Copy the collections, and set the message."""
        for each in fields(self):  # type: ignore[arg-type]  # only dataclasses call this
            if str(each.type).startswith("Sequence["):
                setattr(self, each.name, tuple(getattr(self, each.name)))
            elif str(each.type).startswith("Mapping["):
                setattr(self, each.name, dict(getattr(self, each.name)))
        super().__init__(self._text())

    def _text(self) -> str:
        raise NotImplementedError

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows of a failed cell: the message, which has the cause and the user's line.

        IPython calls this. The stack that is left out is that of ``error.__cause__``; most of it is Spark's and ours.
        """
        return [f"{type(self).__name__}: {self}"]


class UsageError(SparkFlowError):
    """The request is invalid."""

    exit_code: ClassVar[int] = 2


class StateError(SparkFlowError):
    """The state folder cannot be used."""


class NotNow(SparkFlowError):
    """Nothing failed: run the same command again later."""

    exit_code: ClassVar[int] = 75


class NothingToDo(SparkFlowError):
    """The key is skipped: nothing failed, and nothing was written."""

    exit_code: ClassVar[int] = 0


class RunError(SparkFlowError):
    """A run could not do its work."""


@dataclass(eq=False, repr=False)
class Unexpected(UsageError):
    """Something else was given than expected.

    Attributes:
        where: The argument, option, file or program.
        found: What was given.
        expected: What is valid.
        fix: What to do; empty if ``expected`` says it.
    """

    subject: ClassVar[str] = ""  # a word before ``where``
    where: str
    found: str
    expected: str
    fix: str = ""

    def _text(self) -> str:
        words = f"{self.subject} {self.where}: found {self.found}, expected {self.expected}. {self.fix}"
        return words.strip()


def some(names: Sequence[str], most: int = 10) -> str:
    """Names for a message: the first ones, and how many there are besides."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def describe(error: BaseException, limit: int = LIMIT) -> str:
    """What any exception says, in one line without a stack: type, text, the innermost cause, the user's line of code.

    Of our own the text alone. The same in the terminal, the ledger, lineage, summaries and runners' results.
    """
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else short(message(error, own=SparkFlowError), limit)
