"""Completeness of a key: which branches were expected and which arrived (the book's section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spark_flow.core import html
from spark_flow.errors import some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, kw_only=True)
class Completeness:
    """The expected and the arrived branches of a fan-in.

    Attributes:
        node: The fan-in's name, for example ``hours``.
        expected: The names of all branches, in order.
        arrived: Branches that succeeded, including those without rows.
        failed: Branches whose data or function is wrong, with the error.
        absent: Branches whose data does not exist, with what was not found.
    """

    node: str
    expected: tuple[str, ...]
    arrived: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """Expected branches that did not arrive, whether failed or absent."""
        arrived = set(self.arrived)
        return tuple(name for name in self.expected if name not in arrived)

    @property
    def ratio(self) -> float:
        """Arrived branches divided by expected ones, 0 to 1."""
        return len(self.arrived) / len(self.expected)

    @property
    def is_approximate(self) -> bool:
        """Whether any expected branch is missing."""
        return bool(self.missing)

    @property
    def facts(self) -> dict[str, Any]:
        """Plain data for tags and records, without error messages, which may be long."""
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
        """Plain data that ``from_record`` reads back, without error messages."""
        return {"node": self.node, "expected": list(self.expected), "arrived": list(self.arrived)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Completeness:
        """Rebuild from ``as_recorded``; why a branch is missing is not restored."""
        return cls(node=record["node"], expected=tuple(record["expected"]), arrived=tuple(record["arrived"]))

    def _repr_html_(self) -> str:
        """Return a bar for notebooks."""
        return html.bar(len(self.arrived), len(self.expected), str(self))

    def __str__(self) -> str:
        """Return for example ``hours: 12 of 24 = 50%, approximate; missing 00, 01``."""
        words = f"{self.node}: {len(self.arrived)} of {len(self.expected)} = {self.ratio:.0%}"
        return f"{words}, approximate; missing {some(self.missing)}" if self.missing else f"{words}, complete"


def together(parts: Iterable[Completeness]) -> tuple[Completeness, ...]:
    """Combine the completeness of several inputs, with each fan-in once."""
    return tuple({part.node: part for part in parts}.values())
