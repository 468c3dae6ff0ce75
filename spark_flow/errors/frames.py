"""Frames that cannot be used together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_flow.errors.base import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(eq=False, repr=False)
class NotADataFrame(RunError):
    """Something that a step returned, or that was passed as a frame, is not a DataFrame."""

    where: str
    found: object

    def _text(self) -> str:
        hint = " (is a return missing?)" if self.found is None else ""
        return f"{self.where!r}: found {type(self.found).__name__}, expected a DataFrame{hint}."


class FrameMismatch(RunError):
    """Frames that cannot be combined."""


@dataclass(eq=False, repr=False)
class MissingColumns(FrameMismatch):
    """A frame is missing columns."""

    branch: str
    missing: Sequence[str]
    found: Sequence[str]
    fix: str = "Name columns that it has, or add them."

    def _text(self) -> str:
        missing, found = ", ".join(self.missing), ", ".join(self.found) or "none"
        return f"{self.branch!r} is missing {missing}; it has {found}. {self.fix}"


@dataclass(eq=False, repr=False)
class NewColumns(FrameMismatch):
    """A frame has columns that its table does not have."""

    node: str
    new: Sequence[str]
    path: str

    def _text(self) -> str:
        return (
            f"{self.node}: the frame has {', '.join(self.new)}, which {self.path} does not have. Nothing was written: "
            "set schema: evolve to add them, or drop them in a step before."
        )


@dataclass(eq=False, repr=False)
class TypeConflict(FrameMismatch):
    """A column has two types; ``types`` holds the type in each branch."""

    column: str
    types: Mapping[str, str]

    def _text(self) -> str:
        shown = " and ".join(f"{kind} in {branch!r}" for branch, kind in self.types.items())
        return (
            f"column {self.column!r} is {shown}. Cast it, or read both branches by one schema. If a branch of a run "
            "was recorded with data that was wrong and is fixed now, --rerun reads it again."
        )


@dataclass(eq=False, repr=False)
class ColumnClash(FrameMismatch):
    """Columns that are in more than one frame; ``columns`` holds the frames of each."""

    columns: Mapping[str, Sequence[str]]

    def __post_init__(self) -> None:
        """Fix the names of the frames, too."""
        self.columns = {column: tuple(branches) for column, branches in self.columns.items()}
        super().__post_init__()

    def _text(self) -> str:
        shown = "; ".join(f"{column!r} in {', '.join(names)}" for column, names in self.columns.items())
        return f"columns of one name: {shown}. Drop or rename them, or join with clash='prefix'."


@dataclass(eq=False, repr=False)
class AmbiguousColumns(FrameMismatch):
    """A frame has several columns of one name."""

    branch: str
    columns: Sequence[str]

    def _text(self) -> str:
        return f"{self.branch!r} has more than one column named {', '.join(self.columns)}. Rename them."


@dataclass(eq=False, repr=False)
class DuplicateKeys(RunError):
    """A key is on the right side of a join twice, which would multiply rows."""

    branch: str
    key: str

    def _text(self) -> str:
        return (
            f"{self.branch!r} has more than one row for {self.key}: joining it would multiply rows. "
            "Make its keys unique first, or pass allow_duplicates."
        )
