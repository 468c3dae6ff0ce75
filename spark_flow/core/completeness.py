"""Completeness as data: which branches of a key were expected, and which arrived (the book's section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spark_flow.errors import some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, kw_only=True)
class Completeness:
    """What a fan-in waited for, and what it got.

    Attributes:
        node: The fan-in's name, as ``hours``.
        expected: The names of all branches, in order.
        arrived: Those that succeeded, with no rows as well.
        failed: Those whose data or function is wrong, with the error.
        absent: Those whose data is not there, with what was not found.
    """

    node: str
    expected: tuple[str, ...]
    arrived: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """Expected branches that did not arrive, failed or absent."""
        return tuple(name for name in self.expected if name not in self.arrived)

    @property
    def ratio(self) -> float:
        """Arrived of expected, 0 to 1."""
        return len(self.arrived) / len(self.expected)

    @property
    def is_approximate(self) -> bool:
        """Whether anything is missing; false exactly when every expected branch has arrived."""
        return bool(self.missing)

    @property
    def facts(self) -> dict[str, Any]:
        """As plain data, for tags and records; without the errors' texts, which may be long."""
        return {
            "node": self.node,
            "expected": len(self.expected),
            "arrived": len(self.arrived),
            "ratio": round(self.ratio, 4),
            "missing": list(self.missing),
            "is_approximate": self.is_approximate,
        }

    @property
    def as_recorded(self) -> dict[str, Any]:
        """As plain data that ``from_record`` reads back; without the errors' texts."""
        return {"node": self.node, "expected": list(self.expected), "arrived": list(self.arrived)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Completeness:
        """What ``as_recorded`` gave; why a branch is missing is not known any more."""
        return cls(node=record["node"], expected=tuple(record["expected"]), arrived=tuple(record["arrived"]))

    def __str__(self) -> str:
        """As ``hours: 12 of 24 = 50%, approximate; missing 00, 01``."""
        words = f"{self.node}: {len(self.arrived)} of {len(self.expected)} = {self.ratio:.0%}"
        return f"{words}, approximate; missing {some(self.missing)}" if self.missing else f"{words}, complete"


def together(parts: Iterable[Completeness]) -> tuple[Completeness, ...]:
    """The completeness of what is made of several parts, each fan-in once."""
    return tuple({part.node: part for part in parts}.values())
