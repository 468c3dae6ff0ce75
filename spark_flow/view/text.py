"""Escapes text of users, data and errors, so that neither Rich nor the terminal interprets it."""

from __future__ import annotations

import contextlib
import re

import typer
from rich.markup import escape
from rich.text import Text

# Control characters except tab and line break, lone surrogates, and characters that change the writing direction.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Rich takes a backslash before any bracket away, and its escape adds one only before what could be a tag.
_BEFORE_BRACKET = re.compile(r"\\+(?=\[(?![a-z#/@][^\[]*?\]))")


def plain(text: object) -> str:
    r"""Escape control characters, and so ANSI sequences; ``None`` becomes the empty string.

    >>> plain("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return "" if text is None else _UNFIT.sub(lambda found: ascii(found[0])[1:-1], str(text))


def markup(text: object) -> str:
    r"""Escape a text for Rich markup, so that its brackets are printed as they are.

    >>> markup("see [/etc]")
    'see \\[/etc]'
    """
    return escape(_BEFORE_BRACKET.sub(lambda found: found[0] + "\\", plain(text)))


def cell(text: object) -> Text:
    """Return an escaped text for a table's cell, title or header."""
    return Text(plain(text))


def say(text: object, *, err: bool = False) -> None:
    """Print an escaped line."""
    with contextlib.suppress(BrokenPipeError):  # nothing reads the output any more; the work continues
        typer.echo(plain(text), err=err)
