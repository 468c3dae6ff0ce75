"""Single values of a YAML file: read, checked, or refused with the reason."""

from __future__ import annotations

import datetime as dt
import keyword
import re
import string
from collections import Counter
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from spark_flow.core.arrival_rules import RULES, parse
from spark_flow.core.names import check_name, quote_table
from spark_flow.errors import ConfigError, InvalidName, InvalidPath, InvalidRule
from spark_flow.jobfile.model.problems import nearest, one_of, refuse, show
from spark_flow.jobfile.model.references import is_reference, resolve
from spark_flow.storage.files import absolute, for_deltalake, is_uri
from spark_flow.storage.sinks import FORMATS, sink_formats
from spark_flow.storage.sources import WITH_PATH
from spark_flow.storage.stores import SCHEMES

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pydantic import ValidationInfo

MOST_BRANCHES = 10_000  # a range is written in a few characters; a slip of them should not fill the memory
_RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")
_NAME_RULE = "1 to 128 letters, digits, '.', '_' or '-', the first a letter or digit, no '..'"


def valid_name(value: str) -> str:
    """A name that may be a folder name."""
    try:
        return check_name("name", value)
    except InvalidName as error:
        raise refuse(show(value), _NAME_RULE) from error


def source_name(value: str, info: ValidationInfo) -> str:
    """The name of one of the file's sources."""
    sources = (info.context or {}).get("sources")
    if sources is not None and value not in sources:
        raise refuse(show(value), one_of(sources) if sources else "a name under sources", nearest(value, sources))
    return value


def table_name(value: str) -> str:
    """The name of a table in Spark's catalog."""
    try:
        quote_table(value)
    except InvalidName as error:
        raise refuse(show(value), "a table's name of one to three parts", "For example shop.orders.") from error
    return value


def sink_format(value: str) -> str:
    """The name of a format that can be written: ours, or one of an installed package's."""
    if value and value not in FORMATS and value not in (known := sink_formats()):
        raise refuse(show(value), one_of(known), nearest(value, known))
    return value


def source_format(value: str) -> str:
    """The name of a format that Spark reads, or of an installed data source; one that is nearly a usual one is not."""
    near = get_close_matches(value, [*WITH_PATH, "jdbc"], n=1, cutoff=0.7)
    if near and near[0] != value:
        fix = "Any other name is taken for one of Spark's data sources."
        raise refuse(show(value), f"{', '.join(WITH_PATH)}, jdbc", f"{nearest(value, near)} {fix}")
    return value


def rule_text(value: str) -> str:
    """A rule of how many branches must arrive, as ``at_least(0.5)``."""
    try:
        parse(value)
    except InvalidRule as error:
        raise refuse(show(value), RULES) from error
    return value


def from_root(value: str, info: ValidationInfo) -> str:
    """A path of the file: relative to its ``root``, or else to the working folder."""
    root = (info.context or {}).get("root")
    try:
        uri = is_uri(value)
    except InvalidPath as error:
        raise refuse(show(value), f"a local path, or a URI of one of: {', '.join(SCHEMES)}") from error
    relative = root and value and not uri and not value.startswith(("/", "file:"))
    return f"{root}/{value}" if relative else value


def date_text(value: object) -> str:
    """A day; YAML reads a bare 2013-01-03 as a date."""
    text = value.isoformat() if isinstance(value, dt.date) else value
    try:
        dt.date.fromisoformat(str(text))
    except ValueError as error:
        raise refuse(show(value), "a date as 2013-01-03") from error
    return str(text)


def variable_name(value: str) -> str:
    """The name of an environment variable; an address itself would stand in the file with its secret."""
    if not value.isidentifier():
        raise refuse("something else", "the name of an environment variable that holds the addresses")
    return value


def name_of(reference: str) -> str:
    """The function's own name in ``module:function``."""
    return re.split(r"[:.]", reference)[-1]


def named_by_run(body: Any) -> Any:
    """An entry's body, its name by default that of the function in ``run``."""
    if isinstance(body, dict) and "name" not in body and isinstance(body.get("run"), str):
        return {**body, "name": name_of(body["run"])}
    return body


def branch_names(value: object) -> tuple[str, ...] | None:
    """``"05..23"``, or a list of names.

    >>> branch_names("08..11")
    ('08', '09', '10', '11')
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _range(value)
    if not isinstance(value, list | tuple) or not value:
        raise refuse(show(value), 'a range such as "05..23", or a list of names')
    times = Counter(name for name in value if isinstance(name, str))
    for name in value:
        if not isinstance(name, str):
            raise refuse(
                f"{show(name)} in a list",
                "names",
                'Quote each, as in ["05", "06"]: YAML reads 05 as a number.',
            )
        if valid_name(name) and times[name] > 1:
            raise refuse(f"{name!r} twice", "each name once")
    return tuple(value)


def _range(text: str) -> tuple[str, ...]:
    match = _RANGE.fullmatch(text)
    if match is None:
        raise refuse(show(text), 'a range of whole numbers such as "05..23"', f'For one branch: ["{text}"].')
    first, last = match.groups()
    if int(first) > int(last):
        raise refuse(show(text), "the smaller number first", f'Write "{last}..{first}".')
    if last.startswith("0") and len(last) != len(first):
        raise refuse(show(text), "both ends equally wide", f'Write "{first.zfill(len(last))}..{last}".')
    if int(last) - int(first) >= MOST_BRANCHES:
        raise refuse(f"{int(last) - int(first) + 1} branches", f"at most {MOST_BRANCHES}")
    width = len(first) if first.startswith("0") else 0
    return tuple(str(number).zfill(width) for number in range(int(first), int(last) + 1))


def option(value: object) -> str | int | bool:
    """A reader's, writer's or table's option, as it is written."""
    if isinstance(value, str | int):
        return value
    raise refuse(show(value), "text, a whole number, true or false", "Quote it to give it as text.")


def version_text(value: object) -> object:
    """A step's version: text, or a whole number; 1.10 would be read as 1.1."""
    if isinstance(value, bool | float):
        raise refuse(show(value), "text or a whole number", "Quote it.")
    return str(value) if isinstance(value, int) else value


def one_or_many(value: object) -> object:
    """A single column is a list of one."""
    columns = [value] if isinstance(value, str) else value
    if isinstance(columns, list | tuple):
        twice = [column for column in columns if columns.count(column) > 1]
        if twice:
            raise refuse(f"{show(twice[0])} twice", "each column once")
    return columns


def overlap(one: str, other: str) -> bool:
    """Whether two paths are one, or one lies within the other.

    >>> overlap("out/lake", "out/lake/"), overlap("out/lake", "out/lake/new"), overlap("out/lake", "out/lakes")
    (True, True, False)
    """
    first, second = (f"{absolute(path).rstrip('/')}/" for path in (one, other))
    return first.startswith(second) or second.startswith(first)


def argument_names(arguments: dict[str, Any]) -> dict[str, Any]:
    """The names under ``with`` are those of parameters; ``frame`` is the frame so far."""
    for name in arguments:
        if name == "frame" or not name.isidentifier() or keyword.iskeyword(name):
            raise refuse(
                f"the name {name!r}",
                "the name of a parameter",
                "frame is the frame so far." * (name == "frame"),
            )
    return arguments


def imports(info: ValidationInfo) -> bool:
    """Whether what a file refers to is looked up: only while it is loaded to be run, which gives the context."""
    return info.context is not None and bool(info.context.get("imports", True))


def references_function(reference: str | None, info: ValidationInfo) -> str | None:
    """``module:function``; looked up only while a file is loaded, which gives the context."""
    if reference is None:
        return None
    found = _look_up(reference, info)
    if imports(info) and not callable(found):
        raise refuse(f"{reference!r}, which is of type {type(found).__name__}", "a function")
    return reference


def references_schema(schema: str | None, info: ValidationInfo) -> str | None:
    """``module:NAME`` of a StructType or DDL text, or DDL itself, which writes ``a INT`` with a space."""
    if schema is None or not is_reference(schema):
        return _ddl(schema)
    found = _look_up(schema, info)
    # Not by isinstance: pyspark is not imported to read a file.
    if imports(info) and not isinstance(found, str) and type(found).__name__ != "StructType":
        raise refuse(f"{schema!r}, which is of type {type(found).__name__}", "a StructType or DDL text")
    return schema


def _ddl(schema: str | None) -> str | None:
    if schema is not None and len(schema.split()) < 2:  # noqa: PLR2004  # a column is a name and a type
        raise refuse(show(schema), "module:NAME or DDL", "For example flights:SCHEMA, or carrier STRING, delay INT.")
    return schema


def _look_up(reference: str, info: ValidationInfo) -> object:
    if not imports(info):
        if not is_reference(reference):
            raise refuse(show(reference), "module:function")
        return None
    try:
        return resolve(reference, beside=(info.context or {}).get("beside"))
    except ConfigError as error:
        (problem,) = error.problems
        raise refuse(problem.found, problem.expected, problem.fix) from error


def placeholders(sql: str, given: Collection[str] | None) -> None:
    """``{frame}`` is there, and every other ``{name}`` is given by ``with`` (``None``: not known)."""
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(sql) if field is not None]
    except ValueError as error:
        raise refuse(
            f"{show(sql)} ({error})", "balanced braces", "Write {{ and }} for a brace of SQL itself."
        ) from error
    names = {re.split(r"[.\[]", field)[0] for field in fields}
    if "frame" not in names:
        raise refuse(show(sql), "{frame}, the frame so far", "For example SELECT * FROM {frame}.")
    if given is not None:
        _known(sorted(names), ["frame", *given])


def _known(names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise refuse(f"{{{name}}}", one_of(known), nearest(name, known) or "Give it in with.")


def texts(options: Mapping[str, Any]) -> dict[str, str]:
    """Options as Spark takes them: booleans in lower case."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in options.items()}


def table_path(value: str) -> str:
    """The path of a Delta table, which ``deltalake`` opens, too."""
    try:
        for_deltalake(value)
    except InvalidPath as error:
        raise refuse(show(value), f"no {error.found!r} in it", error.why) from error
    return value
