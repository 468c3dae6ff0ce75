"""How many of several must arrive: branches of an unaligned fan-in, markers that a consumer waits for."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from spark_flow.errors import InvalidRule

_AT_LEAST = re.compile(r"at_least\(\s*([0-9]+|[0-9]*\.[0-9]+|[0-9]+\.)\s*\)")
RULES = "all_succeeded, any_succeeded, all_done, at_least(n) or at_least(share), as at_least(12) or at_least(0.5)"


@dataclass(frozen=True)
class Require:
    """A rule; one of ``all_succeeded``, ``any_succeeded``, ``all_done``, or made by ``at_least``.

    Attributes:
        least: A number of branches (int), or their share of all (float, above 0 and up to 1).
        name: How the rule is written.
    """

    least: float
    name: str

    def needed(self, expected: int) -> int:
        """The number of branches that must arrive.

        Raises:
            InvalidRule: It is more than there are.
        """
        if isinstance(self.least, float):
            return math.ceil(Fraction(str(self.least)) * expected)
        if self.least > expected:
            raise InvalidRule(self.name, f"{expected} branches", f"at most {expected}, or a share as at_least(0.5)")
        return self.least

    def __str__(self) -> str:
        """As it is written."""
        return self.name


def at_least(least: float) -> Require:
    """At least so many branches must arrive: ``at_least(12)``, or of all this share: ``at_least(0.5)``.

    Mind that ``at_least(1)`` is one branch, and ``at_least(1.0)`` all of them.

    Raises:
        InvalidRule: No number of branches can meet it.
    """
    name = f"at_least({least})"
    if isinstance(least, bool) or not isinstance(least, int | float):
        raise InvalidRule(name, f"{least!r}", "a whole number, or a share as 0.5")
    if isinstance(least, float) and not 0 < least <= 1:
        raise InvalidRule(name, f"a share of {least}", "a share above 0 and up to 1, or a whole number of branches")
    if least < 1 and isinstance(least, int):
        raise InvalidRule(name, str(least), "1 branch or more")
    return Require(least, name)


all_succeeded = Require(1.0, "all_succeeded")
"""Every branch must arrive."""
any_succeeded = Require(1, "any_succeeded")
"""One is enough."""
all_done = Require(1, "all_done")
"""Whatever became of each, once all have ended; at least one must be there to be merged."""

_NAMED = {rule.name: rule for rule in (all_succeeded, any_succeeded, all_done)}


def parse(text: str) -> Require:
    """A rule as it is written in a file.

    >>> parse("at_least(0.5)").least
    0.5

    Raises:
        InvalidRule: It is none.
    """
    text = text.strip()
    if text in _NAMED:
        return _NAMED[text]
    found = _AT_LEAST.fullmatch(text)
    if found is None:
        raise InvalidRule(text, repr(text), RULES)
    return at_least(float(found[1]) if "." in found[1] else int(found[1]))
