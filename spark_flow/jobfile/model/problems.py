"""What is wrong with a file, in the words of the person who wrote it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import PydanticCustomError

from spark_flow.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LONGEST = 80
Location = tuple[str | int, ...]

_EXPECTED = {
    "missing": "a value",
    "string_type": "text",
    "string_too_short": "text that is not empty",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a number that is finite",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "invalid_key": "text as a key",
}
_LIMITS = {
    "greater_than_equal": "{ge} or more",
    "greater_than": "more than {gt}",
    "less_than_equal": "{le} or less",
    "less_than": "less than {lt}",
    "too_short": "at least {min_length}",
}


class Finding(NamedTuple):
    """A problem before its place is written as the file's author sees it."""

    loc: Location
    found: str
    expected: str
    fix: str = ""


def findings(*found: Finding) -> PydanticCustomError:
    """An error for a validator to raise; each finding's place is relative to what is validated."""
    message = "; ".join(f"found {one.found}; expected {one.expected}" for one in found)
    return PydanticCustomError("spark_flow", "{message}", {"message": message, "findings": found})


def refuse(found: str, expected: str, fix: str = "") -> PydanticCustomError:
    """An error for a validator to raise about the very value that it validates."""
    return findings(Finding((), found, expected, fix))


def nearest(name: object, valid: Iterable[str], *, cutoff: float = 0.6) -> str:
    """``Did you mean 'partition_by'?``, or nothing."""
    close = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=cutoff)
    return f"Did you mean {close[0]!r}?" if close else ""


def one_of(valid: Iterable[str]) -> str:
    """``one of: a, b``."""
    return f"one of: {', '.join(valid)}"


def show(value: object) -> str:
    """A value as its author would recognise it, and short."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"a mapping of {', '.join(map(str, value))}" if value else "an empty mapping"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]}...{text[-1]}"


def from_error(details: Sequence[Mapping[str, Any]], valid: Callable[[Location], Sequence[str]]) -> list[Finding]:
    """The findings of one of pydantic's errors; a key that is missing because it is misspelt is one finding, not two.

    Args:
        details: The error's details.
        valid: Returns the keys that are allowed at a place.
    """
    missing = [detail["loc"] for detail in details if detail["type"] == "missing"]
    misspelt = set()
    for detail in details:
        if detail["type"] == "extra_forbidden":
            *above, name = detail["loc"]
            beside = [loc[-1] for loc in missing if list(loc[:-1]) == above]
            misspelt |= {(*above, meant) for meant in difflib.get_close_matches(str(name), beside, n=1)}
    kept = [d for d in details if d["type"] != "missing" or d["loc"] not in misspelt]
    return [one for detail in kept for one in from_pydantic(detail, valid(detail["loc"]))]


def from_pydantic(detail: Mapping[str, Any], valid: Sequence[str]) -> list[Finding]:
    """The findings of one of pydantic's error details; ``valid`` are the keys allowed at its place."""
    kind, context = detail["type"], detail.get("ctx", {})
    loc = tuple(part for part in detail["loc"] if not _is_pydantics(part))
    if kind == "spark_flow":
        return [one._replace(loc=loc + one.loc) for one in context["findings"]]
    if kind == "extra_forbidden":
        return [Finding(loc, f"unknown key {loc[-1]!r}", one_of(valid), nearest(loc[-1], valid))]
    found = show(None if kind == "missing" else detail["input"])
    if kind == "literal_error":
        choices = [choice.strip("'") for choice in context["expected"].replace(" or ", ", ").split(", ")]
        return [Finding(loc, found, one_of(choices), nearest(detail["input"], choices))]
    if kind in _LIMITS:
        return [Finding(loc, found, _LIMITS[kind].format(**context))]
    return [Finding(loc, found, _EXPECTED.get(kind, detail["msg"]), _quote(kind, detail["input"]))]


def _is_pydantics(part: str | int) -> bool:
    """Whether a part of a place is no part of the file: a key as such, or one of several types that are tried."""
    return isinstance(part, str) and (part == "[key]" or re.match(r"[a-z-]+\[.*\]$", part) is not None)


def _quote(kind: str, value: object) -> str:
    """What to do about a text that YAML takes for another thing."""
    if kind not in ("string_type", "invalid_key") or not isinstance(value, bool | int | float):
        return ""
    also = ": YAML reads a bare yes, no, on and off so" if isinstance(value, bool) else ""
    return f"Quote it{also}."


def place(loc: Location) -> str:
    """A place in the file, as ``flow[2].write``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return "".join(parts).removeprefix(".")


def locate(one: Finding, raw: object) -> Problem:
    """Write a finding's place as the file does, ``flow[2].step.sql``.

    Where the author wrote the short form (``step: flights:clean``, ``parallel_split: {lake: ...}``), the model has one
    level more.
    """
    path, node = "", raw
    for part, following in zip(one.loc, (*one.loc[1:], None), strict=True):
        if isinstance(part, int):
            path, node = f"{path}[{part}]", _at(node, part)
        elif isinstance(node, Mapping) and part not in node and following in node:
            continue  # the mapping is written without this key
        elif node is None or isinstance(node, Mapping):
            path, node = f"{path}.{part}" if path else part, _at(node, part)
    return Problem(path, one.found, one.expected, one.fix)


def _at(node: Any, part: str | int) -> object:
    try:
        return node[part]
    except (KeyError, IndexError, TypeError):
        return None
