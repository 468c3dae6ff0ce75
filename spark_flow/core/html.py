"""Small pieces of HTML for notebooks (``_repr_html_``); all text of users is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Readable on a white and on a dark page: the text of a state has a background of its own.
_STATES = {
    "succeeded": "#1a7f37",
    "reused": "#0969da",
    "failed": "#cf222e",
    "skipped": "#6e7781",
    "waiting": "#9a6700",
    "would run": "#8250df",
    "would reuse": "#0969da",
}
_CELL = '<td style="text-align:left;vertical-align:top;white-space:pre-wrap">'


def state(name: str) -> str:
    """Return a state as a coloured word.

    >>> state("a<b")
    '<span style="background:#6e7781;color:#fff;border-radius:3px;padding:0 .4em">a&lt;b</span>'
    """
    colour = _STATES.get(name, "#6e7781")
    return f'<span style="background:{colour};color:#fff;border-radius:3px;padding:0 .4em">{escape(name)}</span>'


def text(value: object) -> str:
    """Return any value as escaped text; ``None`` is empty."""
    return "" if value is None else escape(str(value))


def seconds(milliseconds: float | None) -> str:
    """Return a duration.

    >>> seconds(1234), seconds(None)
    ('1.23 s', '')
    """
    return "" if milliseconds is None else f"{milliseconds / 1000:.2f} s"


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], *, states: int | None = None) -> str:
    """Return a table.

    Args:
        title: Its caption.
        columns: The names of its columns.
        rows: Values, which are escaped.
        states: The column that holds states.
    """
    head = "".join(f'<th style="text-align:left">{text(name)}</th>' for name in columns)
    shown = ((state(str(value)) if at == states else text(value) for at, value in enumerate(row)) for row in rows)
    body = "".join("<tr>" + "".join(f"{_CELL}{cell}</td>" for cell in row) + "</tr>" for row in shown)
    caption = f'<caption style="text-align:left;font-weight:bold">{text(title)}</caption>'
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def bar(done: int, of: int, words: str) -> str:
    """Return a bar with its words."""
    return f'<div><progress value="{done}" max="{max(of, 1)}"></progress> {text(words)}</div>'
