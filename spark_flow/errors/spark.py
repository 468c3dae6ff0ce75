"""What an error of Spark's, of Delta's or of a file system says: the cause, where it is, and what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from spark_flow.errors.trace import Line, Thrown, python_error

if TYPE_CHECKING:
    from collections.abc import Sequence

_AGAIN = "run the same command again"
_DAMAGED = "The file is cut off or damaged: deliver it again, then run the same command again."
_PINNED = (
    "It was removed, by VACUUM or by another writer. A retry reads the version that the first attempt has read; "
    "--rerun reads the latest."
)
_MEMORY = "Give it more memory (spark.driver.memory, spark.executor.memory), or fewer rows to each task."

_REMEDIES: tuple[tuple[str, str], ...] = (
    ("No space left on device", f"Free space there, or in Spark's spark.local.dir, then {_AGAIN}."),
    ("Disk quota exceeded", f"Free space there, then {_AGAIN}."),
    ("Checksum error", "The file is not what its .crc file says: it is damaged, or was changed by hand. Restore it."),
    ("Unexpected end of input stream|not a gzip file|not in gzip format|incorrect (data|header) check", _DAMAGED),
    ("is not a Parquet file|CANNOT_READ_FILE_FOOTER|can not read class org.apache.parquet", _DAMAGED),
    (r"FAILED_READ_FILE\.FILE_NOT_EXIST|DELTA_FILE_NOT_FOUND", _PINNED),
    ("DELTA_VERSION_NOT_FOUND|DELTA_TRUNCATED_TRANSACTION_LOG|DELTA_CANNOT_RECONSTRUCT", _PINNED),
    ("OutOfMemoryError|ExecutorLostFailure|Container killed|exit code 137", _MEMORY),
    ("Python worker exited unexpectedly", "A UDF's process was ended, often for want of memory."),
    ("Mkdirs failed|Permission denied|AccessDenied", "Check what this user may read and write there."),
    ("^ModuleNotFoundError", "Give a UDF's module to Spark's Python workers as well: spark-submit --py-files."),
    ("Answer from Java side is empty|Error while sending or receiving|Py4JNetworkError", "Spark's JVM has ended."),
)

_WHERE: tuple[tuple[str, str], ...] = (
    (r"while reading file (.+?)\.(?=\s|$)", "reading"),
    (r"Checksum error: (.+?) at \d+", "reading"),
    (r"while writing rows to (.+?)\.(?=\s|$)", "writing to"),
)

_PARQUET = re.compile(
    r"reading file (?P<file>.+?)\. Data type mismatches when reading Parquet column \[(?P<column>.*?)\]\. "
    r"Expected Spark type (?P<wanted>.+?), actual Parquet type (?P<found>\S+?)\.?(?:\s|$)"
)
_MERGE = re.compile(r"Failed to merge fields '(.*?)' and '")
_TYPES = re.compile(r"Failed to merge incompatible data types (?P<table>.+?) and (?P<frame>.+?)\s*$", re.MULTILINE)
_FIELD = re.compile(r"^ (?P<depth>(?:\|    |     )*)\|-- (?P<name>.*?): (?P<type>.*?) \(")


def is_of_plan(error: BaseException) -> bool:
    """Whether Spark refused a plan before it read anything; the text may quote the plan, our own checks included."""
    return any(kind.__name__ == "AnalysisException" for kind in type(error).__mro__)


def cause(found: Sequence[Thrown]) -> tuple[str, Line | None]:
    """The cause in a Java stack trace, with what to do, and the line of the user's code.

    Args:
        found: Its exceptions, the outermost first; at least one.
    """
    for one in reversed(found):
        raised = python_error(one.message)
        if raised is not None:
            return with_remedy(raised[0]), raised[1]
    whole = "\n".join(one.message for one in found)
    known = _parquet(whole) or _new_columns(whole) or _two_types(whole)
    if known:
        return f"{found[-1].type}: {known}", None
    root = next((one for one in reversed(found) if one.message), found[-1])
    words, line = clean(root.message)
    words = f"{root.type}: {words}" if words else root.type
    where = next((f"{how} {at}" for how, at in _places(whole) if re.sub(r"^\w+:/+", "/", at) not in words), "")
    return with_remedy(f"{words}, {where}" if where else words, whole), line


def with_remedy(words: str, whole: str = "") -> str:
    """A message, and what to do where that is known."""
    text = f"{words}\n{whole}"
    remedy = next((remedy for pattern, remedy in _REMEDIES if re.search(pattern, text)), "")
    return f"{words.rstrip('.')}. {remedy}" if remedy and remedy not in words else words


def _places(whole: str) -> list[tuple[str, str]]:
    return [(how, match[1]) for pattern, how in _WHERE for match in re.finditer(pattern, whole)]


def _parquet(whole: str) -> str:
    match = _PARQUET.search(whole)
    if match is None:
        return ""
    return (
        f"column {match['column']!r} is {match['found']} in the Parquet file {match['file']}, expected "
        f"{match['wanted'].upper()}. Declare the type that the file has in the source's schema, and cast it in a step."
    )


def _two_types(whole: str) -> str:
    match = _TYPES.search(whole)
    if match is None:
        return ""
    column = ".".join(dict.fromkeys(_MERGE.findall(whole)))
    return (
        f"[DELTA_FAILED_TO_MERGE_FIELDS] column {column!r} is {_type(match['table'])} in the Delta "
        f"table and {_type(match['frame'])} in the frame. "
        "Cast it to the table's type, or rewrite the table with the new one."
    )


def _type(name: str) -> str:
    """Spark's name of a type in SQL, where it is a simple one."""
    return name.removesuffix("Type").lower() if re.fullmatch(r"\w+Type", name) else name


def _new_columns(whole: str) -> str:
    if "DELTA_METADATA_MISMATCH" not in whole or "Data schema:" not in whole:
        return ""
    before, _, after = whole.partition("Data schema:")
    table = {name.lower(): kind for name, kind in _fields(before.partition("Table schema:")[2])}
    new = [(name, kind) for name, kind in _fields(after) if name.lower() not in table]
    if not new:
        return ""
    names = ", ".join(f"{name!r} ({kind})" for name, kind in new)
    return (
        f"[DELTA_METADATA_MISMATCH] the frame has {names}, which the Delta table does not have. To add "
        f"{'it' if len(new) == 1 else 'them'}, set schema: evolve at the sink; "
        "or drop it in a step before."
    )


def _fields(tree: str) -> list[tuple[str, str]]:
    """The columns of a schema as ``printSchema`` draws it, those within structs as ``a.b``."""
    path: list[str] = []
    found = []
    for line in tree.split("\n"):
        match = _FIELD.match(line)
        if match is not None:
            path[len(match["depth"]) // 5 :] = [match["name"]]
            found.append((".".join(path), match["type"]))
    return found


def clean(text: str) -> tuple[str, Line | None]:
    r"""A message of Spark's without its plan, state and query context, and the line of Python that the context names.

    >>> clean("[X] no column `a`. SQLSTATE: 42703;\n'Project ['a]\n+- Range (0, 3)")
    ('[X] no column `a`.', None)
    """
    text, line = _without_context(text)
    text = re.sub(r"\s*SQLSTATE: \w{5};?", "", text)
    lines = text.split("\n")
    begins = re.compile(r"'[A-Z]\w+\b(?!')|[:+]- ")
    plan = next((at for at, words in enumerate(lines) if at and begins.match(words)), len(lines))
    if plan < len(lines) and not lines[plan].startswith("'") and plan:
        plan -= 1  # the plan's first line looks like any other
    kept = [words for words in lines[:plan] if not words.startswith("Driver stacktrace")]
    return "\n".join(kept).strip().removesuffix(";"), line


def _without_context(text: str) -> tuple[str, Line | None]:
    head, mark, context = text.partition("\n== ")
    if not mark:
        return text, None
    called = re.search(r'^".*?" was called from\s+(?P<file>.+):(?P<line>\d+)', context, re.MULTILINE)
    if called is not None:
        return head, Line(called["file"], int(called["line"]))
    where = re.match(r"SQL(?: of (?P<object>.*?))? \(line (?P<line>\d+), position (?P<at>\d+)\)", context)
    _, row, marks, *_ = [*context.split("\n"), "", ""]
    if where is None or "^" not in marks:
        return head, None
    fragment = row[marks.index("^") : marks.rindex("^") + 1]
    return f"{head} (SQL line {where['line']}, position {where['at']}: {fragment})", None
