"""Rules for how many branches of an unaligned fan-in, or markers of a consumer, must arrive."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from spark_flow.errors import InvalidRule

_AT_LEAST = re.compile(r"at_least\(\s*([0-9]+|[0-9]*\.[0-9]+|[0-9]+\.)\s*\)")
RULES = "all_succeeded, any_succeeded, all_done, at_least(n) or at_least(share), like at_least(12) or at_least(0.5)"


@dataclass(frozen=True)
class Require:
    """A rule: ``all_succeeded``, ``any_succeeded``, ``all_done``, or the result of ``at_least``.

    Attributes:
        least: A number of branches (int), or a share of all branches (float, above 0 and up to 1).
        name: The rule as written.
    """

    least: float
    name: str

    def needed(self, expected: int) -> int:
        """Return the number of branches that must arrive.

        Raises:
            InvalidRule: The rule needs more branches than there are.
        """
        if isinstance(self.least, float):
            return math.ceil(Fraction(str(self.least)) * expected)
        if self.least > expected:
            raise InvalidRule(self.name, f"{expected} branches", f"at most {expected}, or a share like at_least(0.5)")
        return self.least

    def __str__(self) -> str:
        """Return the rule as written."""
        return self.name


def at_least(least: float) -> Require:
    """Require at least a number of branches, ``at_least(12)``, or a share of them, ``at_least(0.5)``.

    Note that ``at_least(1)`` is one branch and ``at_least(1.0)`` is all of them.

    Raises:
        InvalidRule: No number of branches can satisfy it.
    """
    name = f"at_least({least})"
    if isinstance(least, bool) or not isinstance(least, int | float):
        raise InvalidRule(name, f"{least!r}", "a whole number, or a share like 0.5")
    if isinstance(least, float) and not 0 < least <= 1:
        raise InvalidRule(name, f"a share of {least}", "a share above 0 and up to 1, or a whole number of branches")
    if least < 1 and isinstance(least, int):
        raise InvalidRule(name, str(least), "1 branch or more")
    return Require(least, name)


all_succeeded = Require(1.0, "all_succeeded")
"""Every branch must arrive."""
any_succeeded = Require(1, "any_succeeded")
"""One branch is enough."""
all_done = Require(1, "all_done")
"""All branches must have ended, with any outcome; at least one must have arrived to be merged."""

_NAMED = {rule.name: rule for rule in (all_succeeded, any_succeeded, all_done)}


def parse(text: str) -> Require:
    """Parse a rule as written in a YAML file.

    >>> parse("at_least(0.5)").least
    0.5

    Raises:
        InvalidRule: The text is not a rule.
    """
    text = text.strip()
    if text in _NAMED:
        return _NAMED[text]
    found = _AT_LEAST.fullmatch(text)
    if found is None:
        raise InvalidRule(text, repr(text), RULES)
    return at_least(float(found[1]) if "." in found[1] else int(found[1]))
