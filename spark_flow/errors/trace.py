"""The texts of Java's and Python's stack traces, taken apart; no exception is needed, only its text."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_OURS = f"{Path(__file__).parent.parent}{os.sep}"
_PACKAGES = (
    "pyspark|py4j|spark_flow|delta|deltalake|pyarrow|pandas|numpy|pydantic\\w*|cloudpickle|tenacity|omegaconf|yaml|typer"
    "|click|rich|apprise|openlineage|fsspec"
)
_LIBRARY = re.compile(
    rf"/(site|dist)-packages/({_PACKAGES})/"
    r"|/pyspark\.zip/|/py4j-[^/]*\.zip/|/lib/python3[^/]*/(?!site-packages/|dist-packages/)|^<|\.pxi$|\.pyx$"
)
_CELL = re.compile(r"/ipykernel_\d+/|^<ipython-input-")
_INSTALLED = re.compile(r"/(site|dist)-packages/")
_FRAME = re.compile(r'^\s*File "(?P<file>[^"]*)", line (?P<line>\d+), in (?P<function>.*)$')
_CLASS = re.compile(r"^\(?(?P<type>(?:[A-Za-z_][\w$]*\.)+[A-Z][\w$]*)\)?(?:: ?| (?=\[)|$)(?P<rest>.*)$")
_CALLED = re.compile(r"\AAn error occurred while calling [^\n]*\n(?:: |Trace:\n)?")
_TASK = re.compile(r"most recent failure: (?:Lost task [^\n]*?\)\s*\([^)\n]*\): )?(?P<rest>.*)\Z", re.DOTALL)
_STACK_LINE = re.compile(r"^\s+at |^\s*\.\.\. \d+ (more|common)|^Driver stacktrace:")
_BEGINS = "Traceback (most recent call last):"


@dataclass(frozen=True)
class Thrown:
    """One exception of a trace.

    Attributes:
        type: Its class, without the package.
        message: Its text, without stack lines.
    """

    type: str
    message: str


@dataclass(frozen=True)
class Line:
    """A line of code; ``function`` may be unknown."""

    file: str
    number: int
    function: str = ""

    def __str__(self) -> str:
        """As Python writes it, with the file's name alone; a notebook's cell has none that a user knows."""
        name = "cell" if _CELL.search(self.file) else Path(self.file).name
        return f"{name}, line {self.number}" + (f", in {self.function}" if self.function else "")


def thrown(text: str) -> tuple[Thrown, ...]:
    r"""The exceptions that a Java trace holds, the outermost first; none where the text is no trace.

    >>> [one.type for one in thrown("a.b.SparkException: Job aborted.\n\tat x.y\nCaused by: java.io.EOFException")]
    ['SparkException', 'EOFException']
    """
    text = _CALLED.sub("", text.strip())
    head, mark, trace = text.partition("JVM stacktrace:\n")
    blocks = _blocks(trace if mark and _CLASS.match(trace.strip().split("\n", 1)[0]) else head)
    found = [one for block in blocks for one in _of(block)]
    return tuple(found)


def _blocks(text: str) -> list[str]:
    """The text of each exception: up to its first stack line."""
    blocks: list[list[str]] = [[]]
    within = True
    for line in text.split("\n"):
        if line.startswith("Caused by: "):
            blocks.append([line.removeprefix("Caused by: ")])
            within = True
        elif _STACK_LINE.match(line) or line.startswith("\tSuppressed: "):
            within = False
        elif within:
            blocks[-1].append(line)
    return ["\n".join(block).strip() for block in blocks]


def _of(block: str) -> list[Thrown]:
    first, _, more = block.partition("\n")
    found = _CLASS.match(first)
    if found is None:
        return []
    message = f"{found['rest']}\n{more}".strip()
    task = _TASK.search(message) if message.startswith("Job aborted due to stage failure") else None
    if task is None:
        return [Thrown(found["type"].rsplit(".", 1)[-1], message)]
    return _of(task["rest"]) or [Thrown(found["type"].rsplit(".", 1)[-1], task["rest"])]


def python_error(text: str) -> tuple[str, Line | None] | None:
    r"""The exception that a Python traceback within a text ends with, and the line of the user's code.

    >>> python_error('Traceback (most recent call last):\n  File "a.py", line 7, in f\nKeyError: 1')
    ('KeyError: 1', Line(file='a.py', number=7, function='f'))
    """
    if _BEGINS not in text:
        return None
    lines = [re.sub(r"^\s*(\+-?\+?[-+]*|\|) ?", "", line) for line in text.rpartition(_BEGINS)[2].split("\n")]
    frames = [at for at, line in enumerate(lines) if _FRAME.match(line)]
    after = lines[frames[-1] + 1 :] if frames else lines
    start = next((at for at, line in enumerate(after) if line and not line[0].isspace()), None)
    if start is None:
        return None
    words = "\n".join(_until_java(after[start:])).strip()
    found = [match for at in frames if (match := _FRAME.match(lines[at]))]
    return words, users([Line(match["file"], int(match["line"]), match["function"]) for match in found])


def _until_java(lines: list[str]) -> Iterable[str]:
    """The lines before Spark's own stack, without the rulers of an exception group."""
    for line in lines:
        if _STACK_LINE.match(line) or line.startswith("Caused by: ") or line.strip().startswith("SQLSTATE:"):
            return
        if not re.fullmatch(r"[-\s\d+]*", line):
            yield re.sub(r"^-+ \d+ -+$", "", line)


def users(lines: Iterable[Line]) -> Line | None:
    """The innermost line that is the user's: neither ours nor a library's."""
    mine = [line for line in lines if not line.file.startswith(_OURS) and not _LIBRARY.search(line.file)]
    own = [line for line in mine if not _INSTALLED.search(line.file)]
    return next(reversed(own or mine), None)
