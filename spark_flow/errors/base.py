"""The root of the tree of errors, its main branches, and what any exception says in one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from spark_flow.errors.cause import LIMIT, message, short

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = "interrupted; what succeeded is reused when the same command is run again"


class SparkFlowError(Exception):
    """The root; ``exit_code`` is the exit code of a job that ends with it.

    A subclass with fields is a dataclass whose ``_text`` makes the message of them: what was found, what was expected
    and what to do. Sequences are held as tuples, mappings as copies.
    """

    exit_code: ClassVar[int] = 1

    def __post_init__(self) -> None:
        """Fix the fields and the message."""
        for name, value in vars(self).items():
            if isinstance(value, list):
                setattr(self, name, tuple(value))
            elif isinstance(value, Mapping):
                setattr(self, name, dict(value))
        super().__init__(self._text())

    def _text(self) -> str:
        return type(self).__name__


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


def some(names: Sequence[str], most: int = 10) -> str:
    """Names for a message: the first ones, and how many there are besides."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def describe(error: BaseException, limit: int = LIMIT) -> str:
    """What any exception says, in one line without a stack: type, text, the innermost cause, the user's line of code.

    Of our own the text alone. The same in the terminal, the ledger, lineage, summaries and runners' results.
    """
    return INTERRUPTED if isinstance(error, KeyboardInterrupt) else short(message(error, own=SparkFlowError), limit)
