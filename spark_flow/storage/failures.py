"""Convert Spark's errors about sources: missing data, bad records, wrong headers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from spark_flow.errors import BadRecords, HeaderMismatch, MissingInput, describe
from spark_flow.storage import files
from spark_flow.storage.records import MARK
from spark_flow.storage.sources import Source, columns_of

if TYPE_CHECKING:
    from collections.abc import Mapping

_LINE = 10_000  # bytes of a header shown in an error


def as_missing_input(name: str, error: BaseException) -> MissingInput | None:
    """Return the missing file, folder or table that an error reports; ``None`` if it reports something else."""
    if isinstance(error, MissingInput):
        return error
    if isinstance(error, FileNotFoundError):
        return MissingInput(name, [str(error.filename or error)])
    found = re.search(r"\[(PATH_NOT_FOUND|DELTA_PATH_DOES_NOT_EXIST|DELTA_TABLE_NOT_FOUND)\]([^\n]*)", str(error))
    if not found:
        return None
    path = re.search(r"[\w+.-]+:/\S+?(?=[.,;]?(?:\s|$))", found[2])
    return MissingInput(name, [path[0] if path else found[2].strip()])


def as_bad_records(
    error: BaseException, sources: Mapping[str, Source], node: str = ""
) -> BadRecords | HeaderMismatch | None:
    """Return the bad record or header that Spark's error reports; ``None`` if it reports something else.

    Args:
        error: The error that the action raised.
        sources: The sources that were read, by name, to find the one that the file belongs to.
        node: The node whose action raised, reported if the file belongs to no source.
    """
    text = str(error)
    ours = re.search(re.escape(MARK) + r" \[(.*?)\] \[(.*?)\] ([^\n]*)", text)
    if ours:
        return BadRecords(ours[1], ours[2], ours[3].split(" SQLSTATE:")[0].strip())
    if "CSV header" in text:
        return _as_header(text, sources, node)
    if "MALFORMED_RECORD_IN_PARSING" not in text and "MALFORMED_CSV_RECORD" not in text:
        return None
    file = re.search(r"(?:file|s3a?|gs|abfss?|hdfs)://?[^\s'\"]+?\.\w+(?=[\s.,'\"]|$)", text)
    path = file[0] if file else ""
    causes = re.findall(r"^Caused by: [\w.$]+: (.*)$", text, re.MULTILINE)
    return BadRecords(_name_of(path, sources, node), path, causes[-1] if causes else describe(error))


def _as_header(text: str, sources: Mapping[str, Source], node: str) -> HeaderMismatch | None:
    """Return how a file's header differs from the schema; Spark reports the names, or only their number."""
    file = re.search(r"^CSV file: (\S.*)$", text, re.MULTILINE)
    if file is None:
        return None
    name = _name_of(file[1], sources, node)
    found = re.search(r"^ Header: (.*)$", text, re.MULTILINE)
    expected = re.search(r"^ Schema: (.*)$", text, re.MULTILINE)
    if found and expected:
        return HeaderMismatch(name, file[1], found[1].split(", "), expected[1].split(", "))
    lengths = re.search(r"^ Header length: (\d+), schema size: (\d+)", text, re.MULTILINE)
    if lengths is None:
        return None
    source = sources.get(name)
    columns = columns_of(source).names if source and source.schema is not None else [f"{lengths[2]} columns"]
    return HeaderMismatch(name, file[1], _first_line(file[1]), columns)


def _first_line(file: str) -> list[str]:
    """Return a file's raw header line for an error message, unparsed."""
    storage, inner = files.of(unquote(file) if file.startswith("file:") else file)
    try:
        with storage.open_input_stream(inner) as stream:
            first = stream.read(_LINE).split(b"\n")[0]
    except OSError:
        return ["another number of columns"]
    return [first.decode("utf-8-sig", "replace").strip()]


def _name_of(file: str, sources: Mapping[str, Source], node: str) -> str:
    inner = file.split(":", 1)[-1].lstrip("/")
    for name, source in sources.items():
        if any(f"{inner}/".startswith(path.split(":", 1)[-1].strip("/") + "/") for path in source.paths):
            return name
    return node if node in sources or not sources else ", ".join(sources)
