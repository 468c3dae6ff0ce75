"""Options of Spark's readers: how to look them up, and which ones conflict with a schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyspark.sql import DataFrame

OWN_SCHEMA = ("schema with format delta", "no schema", "Leave it out: a Delta table has its own.")

_OURS = ("mode", "columnNameOfCorruptRecord", "singleVariantColumn")
_WIDE = ("UTF-16", "UTF-16BE", "UTF-16LE", "UTF-32")
_ENCODINGS = ("UTF-8", "US-ASCII", "ISO-8859-1", *_WIDE)  # what Spark's function decode knows


def given(options: Mapping[str, str], *names: str) -> str:
    """Return an option's value under any of its names, which are case-insensitive; empty if it is not set."""
    known = {name.lower(): str(value) for name, value in options.items()}
    return next((known[name.lower()] for name in names if name.lower() in known), "")


def is_true(options: Mapping[str, str], name: str) -> bool:
    """Whether an option is set to true."""
    return given(options, name).lower() == "true"


def defaults(kind: str, options: Mapping[str, str]) -> dict[str, str]:
    """Return what we set where the user does not: CSV doubles a quote within quotes (RFC 4180), as our sink does.

    Spark's own default is a backslash: it reads ``"27"" screen"`` with its quotes doubled, and splits it at a comma.

    >>> defaults("csv", {}), defaults("csv", {"quote": "'"}), defaults("csv", {"ESCAPE": "~"}), defaults("json", {})
    ({'escape': '"'}, {'escape': "'"}, {}, {})
    """
    names = {name.lower() for name in options}
    if kind != "csv" or "escape" in names:
        return {}
    quote = given(options, "quote") if "quote" in names else '"'
    return {"escape": quote} if quote else {}


def encoding(options: Mapping[str, str]) -> str:
    """Return the encoding of text files as Java spells it; ``UTF-8`` by default."""
    return given(options, "encoding", "charset").upper() or "UTF-8"


def refused(
    kind: str, *, has_schema: bool, quarantine: bool, options: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Yield what is wrong with a source's settings: found, expected, what to do; all but ``OWN_SCHEMA``.

    >>> list(refused("csv", has_schema=False, quarantine=True, options={}))
    [('bad_records without schema', 'a schema', 'Records are checked by the schema: set schema.')]
    """
    if quarantine and kind not in {"json", "csv"}:
        yield f"bad_records with format {kind}", "format json or csv", "Leave it out."
    if quarantine and not has_schema and kind in {"json", "csv"}:
        yield "bad_records without schema", "a schema", "Records are checked by the schema: set schema."
    if kind == "csv" and is_true(options, "header") and is_true(options, "enforceSchema"):
        fix = "Leave it out: it takes the columns by position and ignores the header."
        yield "option enforceSchema: true with a header", "columns that are matched with the header", fix
    if kind in {"json", "csv"} and has_schema:
        yield from _judged(kind, options)


def _judged(kind: str, options: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name in _OURS:
        if given(options, name):
            fix = "Leave it out: bad_records decides about records that do not match the schema."
            yield f"option {name} with a schema", f"no option {name}", fix
    if kind != "json":
        return
    found = encoding(options)
    if found not in _ENCODINGS:
        fix = "Convert the files, or leave schema out: then Spark reads them without a check."
        yield f"option encoding: {found} with a schema", f"one of: {', '.join(_ENCODINGS)}", fix
    if found in _WIDE and not (given(options, "lineSep") or is_true(options, "multiLine")):
        yield f"option encoding: {found} without lineSep", "lineSep, or multiLine: true", "Set lineSep to the line end."


def analysed(frame: DataFrame) -> DataFrame:
    """Return a frame after Spark has resolved its columns and paths, which Spark Connect puts off until it must.

    An error is then raised where the frame is made, as in a classic session.
    """
    if type(frame).__module__.startswith("pyspark.sql.connect."):
        _ = frame.isStreaming  # asks the server; of some plans the client knows the schema by itself
    return frame
