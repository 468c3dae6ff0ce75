"""The message of any exception: its type and text, the innermost cause of Spark's, the line of the user's code."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

from spark_flow.errors.spark import cause, with_remedy
from spark_flow.errors.trace import Line, Thrown, python_error, thrown, users

LIMIT = 2000
BRANCH_LIMIT = 300
_MOST = 5  # exceptions of a group that are shown


def message(error: BaseException, own: type[BaseException]) -> str:
    """One line that holds an exception's whole cause, at most ``LIMIT`` characters, never a stack trace.

    >>> message(KeyError("EUR"), own=OSError)
    "KeyError: 'EUR'"

    Args:
        error: Any exception.
        own: The class of those whose text is complete as it is.
    """
    return short(_message(error, own))


def one_line(text: str) -> str:
    """A text's lines as one, ``|`` between them."""
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())


def short(text: str, limit: int = LIMIT) -> str:
    """A text as one line of at most so many characters."""
    line = one_line(text)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def text_of(error: BaseException) -> str:
    """An exception's text; empty where even that cannot be had: the text of Java's is in the JVM, which may be gone."""
    try:
        return str(error).strip()
    except Exception:
        return str(error.args[0]).strip() if error.args else ""


def _message(error: BaseException, own: type[BaseException]) -> str:
    if isinstance(error, own):
        return text_of(error) or type(error).__name__
    words, line = _of_java(error) or _of_python(error, own)
    line = line or users(_lines(error))
    place = f" ({line})" if line else ""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    after = f"; caused by {_message(_root(before), own)}" if before is not None else ""
    return f"{words}{place}{after}"


def _of_java(error: BaseException) -> tuple[str, Line | None] | None:
    """Of an error that came from a JVM, by Py4J, PySpark's own classes or Spark Connect."""
    text, name = text_of(error), type(error).__name__
    package = type(error).__module__.partition(".")[0]
    if package not in ("py4j", "pyspark") and not re.search(r"^\s+at [\w.$]+\(|^Caused by: ", text, re.MULTILINE):
        return None  # a text that only looks like Java's
    trace = getattr(error, "_stackTrace", None) or getattr(error, "_stacktrace", None)
    found = thrown(trace) if isinstance(trace, str) else ()
    found = found or thrown(text) or (Thrown(name, text),)
    if not any(one.message for one in found):  # Spark Connect's trace has none: its text is before the trace
        found = (Thrown(name, text.partition("JVM stacktrace:")[0].strip()),)
    words, line = cause(found)
    one = found[0]
    if name != "Py4JJavaError" and words.startswith(f"{one.type}: "):
        words = f"{name}{words.removeprefix(one.type)}"  # as the user would catch it
    return words, line


def _of_python(error: BaseException, own: type[BaseException]) -> tuple[str, Line | None]:
    name = type(error).__name__
    group = getattr(error, "exceptions", None)
    if isinstance(group, tuple):
        shown = [_message(one, own) for one in group[:_MOST]] + ["…"] * (len(group) > _MOST)
        return f"{name}: {text_of(error)}: {'; '.join(shown)}", None
    text = text_of(error)
    raised = python_error(text)  # of another process
    if raised is not None:
        return f"{name}: {text.partition('Traceback (most')[0].strip()} {raised[0]}", raised[1]
    text = _readable(text)
    return with_remedy(f"{name}: {text}" if text else name), None


def _readable(text: str) -> str:
    """Without the stack of a Rust library, and without links to a library's manual."""
    text = re.split(r"\n\s*(?:0: |stack backtrace:|JVM stacktrace:)", text)[0]
    return re.sub(r"\n\s*For further information visit \S*", "", text)


def _root(error: BaseException) -> BaseException:
    """The first cause of a chain of causes."""
    seen = {id(error)}
    while error.__cause__ is not None and id(error.__cause__) not in seen:
        error = error.__cause__
        seen.add(id(error))
    return error


def _lines(error: BaseException) -> list[Line]:
    """The lines that a live traceback goes through."""
    frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)
    return [
        Line(str(Path(f.filename).absolute()), f.lineno or 0, f.name) for f in frames if not f.filename.startswith("<")
    ]
