"""The secret values of a job file: those with a secret name, and those from the environment."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import TYPE_CHECKING, Any

from spark_flow.core.secrets import HIDDEN, Redactor, is_secret, named_secrets, variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from spark_flow.errors import Problem

_ADDRESSED = ("api_key", "notify")  # their values are names of environment variables
_PLAIN = re.compile(r"(?:true|false|null|none|[\d.,:+TZ_-]*)", re.IGNORECASE)
_LONG = 8


def secret_values(written: Mapping[str, Any], raw: Mapping[str, Any]) -> list[str]:
    """The values that must not be recorded or shown.

    What comes from the environment into options and arguments is one of them, unless it is plainly none: a number, a
    date, a word, or a part of the file's own names and paths.

    Args:
        written: The file as it is written.
        raw: The same, with what names stand for; references to the environment are left in options and arguments.
    """
    asked = {name for text in _texts(written) for name in variables(text)}
    asked |= {name for key, name in _leaves(written) if key in _ADDRESSED}
    values = {name: os.environ.get(name, "") for name in asked}
    ours = [text for text in _texts({key: raw.get(key) for key in raw if key != "vars"}) if not variables(text)]
    late = {name for text in _texts(raw) for name in variables(text)}
    free = [values[name] for name in late if _may_be_secret(values.get(name, ""), ours)]
    addressed = {name for key, name in _leaves(written) if key in _ADDRESSED}
    named = [value for name, value in values.items() if is_secret(name) or name in addressed]
    by_name = [v for v in named_secrets(raw) if v not in asked]
    return [value for value in {*free, *named, *by_name} if value]


def _may_be_secret(value: str, ours: Sequence[str]) -> bool:
    return len(value) >= _LONG and not _PLAIN.fullmatch(value) and not any(value in text for text in ours)


def without_secrets(problems: Iterable[Problem], known: Iterable[str]) -> list[Problem]:
    """Problems of a file, without its secrets."""
    redactor = Redactor(known)
    return [
        dataclasses.replace(
            one,
            found=HIDDEN if is_secret(one.path) else redactor(one.found),
            expected=redactor(one.expected),
            fix=redactor(one.fix),
            path=redactor(one.path),
        )
        for one in problems
    ]


def _texts(value: Any) -> Iterator[str]:
    yield from (text for _, text in _leaves(value))


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from _leaves(each, str(name))
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each, key)
    elif isinstance(value, str):
        yield key, value
