"""Text of users, data and errors for a terminal: nothing in it is obeyed, neither by Rich nor by the terminal."""

from __future__ import annotations

import contextlib
import re

import typer
from rich.markup import escape
from rich.text import Text

# Controls but for tab and line break, lone surrogates, and what turns the direction of writing round.
_UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: object) -> str:
    r"""A text in which control characters, and so ANSI escapes, are spelled out; ``None`` is empty.

    >>> plain("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    return "" if text is None else _UNFIT.sub(lambda found: ascii(found[0])[1:-1], str(text))


def markup(text: object) -> str:
    r"""A text to be put into a line of Rich markup: its own brackets are shown as they are.

    >>> markup("see [/etc]")
    'see \\[/etc]'
    """
    return escape(plain(text))


def cell(text: object) -> Text:
    """A text for a table's cell, title or head."""
    return Text(plain(text))


def say(text: object, *, err: bool = False) -> None:
    """Print a line."""
    with contextlib.suppress(BrokenPipeError):  # nobody reads it any more: what we do and record goes on
        typer.echo(plain(text), err=err)
