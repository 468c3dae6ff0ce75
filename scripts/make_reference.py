"""Write the reference pages from the code: the keys of YAML files, the commands, and the public names.

python scripts/make_reference.py
"""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin
from unittest import mock

import typer
from annotated_types import Ge, Gt, Le, Lt
from pydantic_core import PydanticUndefined

import spark_flow
from spark_flow.cli import job, runner, stream
from spark_flow.cli.app import app
from spark_flow.jobfile.entries import ENTRIES
from spark_flow.jobfile.model.base import PATTERN, FlowModel, Model
from spark_flow.jobfile.model.job import JobConfig
from spark_flow.jobfile.model.runner import PoolsModel
from spark_flow.jobfile.model.sink import SinkModel
from spark_flow.jobfile.model.stream import StreamConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pydantic.fields import FieldInfo

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
MADE = "<!-- Made by scripts/make_reference.py; `make docs` makes it again. -->"
WIDTH = 120
HEADS = {"Args": "Arguments", "Attributes": "Attributes", "Returns": "Returns", "Yields": "Yields", "Raises": "Raises"}
_HEAD = re.compile(rf"({'|'.join(HEADS)})(?: (\(.*\)))?:")
_ENTRY = re.compile(r" {4}([*\w]+(?:, [*\w]+)*): (.*)")


def plain(text: str) -> str:
    """Text of a docstring as Markdown."""
    return re.sub(r"``(.+?)``", r"`\1`", text)


def cell(text: str) -> str:
    """Text in a table."""
    return plain(" ".join(text.split())).replace("|", "\\|")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table; nothing without rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return ["", f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines] if lines else []


# The docstrings


def paragraphs(doc: str) -> list[str]:
    """The lines of a docstring before its first section."""
    return list(itertools.takewhile(lambda line: not _HEAD.fullmatch(line), doc.splitlines()))


def entries(doc: str, head: str) -> dict[str, str]:
    """The texts of a section, by name."""
    lines = iter(doc.splitlines())
    for line in lines:
        if line == f"{head}:":
            break
    found, name = dict[str, str](), ""
    for line in itertools.takewhile(lambda one: one.startswith(" ") or not one, lines):
        if entry := _ENTRY.fullmatch(line):
            name, found[entry[1]] = entry[1], entry[2]
        elif name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def markdown(doc: str) -> list[str]:
    """A docstring as Markdown: sections as lists, examples as code."""
    lines, within, example = [""], False, False
    for line in doc.splitlines():
        if example and not line.strip():
            lines, example = [*lines, "```"], False
        if head := _HEAD.fullmatch(line):
            within = True
            lines += [f"**{HEADS[head[1]]}**{' ' + head[2] if head[2] else ''}", ""]
        elif within and line.startswith(" "):
            entry = _ENTRY.fullmatch(line)
            lines.append(f"- `{entry[1]}`: {plain(entry[2])}" if entry else f"  {plain(line.strip())}")
        elif line.startswith(">>>") and not example:
            lines, example = [*lines, "```pycon", line.replace("  # doctest: +SKIP", "")], True
        else:
            within = within and not line.strip()
            lines.append(line.replace("  # doctest: +SKIP", "") if example else plain(line))
    return [*lines, "```"] if example else lines


# The keys of YAML files

WORDS = {
    "argument_names": "mapping",
    "branch_names": "a range, or a list of names",
    "check_name": "name",
    "date_text": "date",
    "from_root": "path",
    "option": "text, number, true or false",
    "references_function": "`module:function`",
    "references_schema": "DDL, or `module:NAME`",
    "rule_text": "rule",
    "sink_format": "format",
    "source_format": "format",
    "source_name": "a source's name",
    "table_name": "a table's name",
    "table_path": "path",
    "valid_name": "name",
    "variable_name": "the name of a variable",
    "version_text": "text, or whole number",
}
"""What a value is, by the function that checks it."""
SHORT = {"_unfold_step": "`module:function`, or ", "_unfold_fallback": "`module:function`, or ", "_pool": "number, or "}
SIMPLE = {str: "text", bool: "true or false", int: "whole number", float: "number", Any: "anything", dict: "mapping"}
BOUNDS = {Ge: ("at least", "ge"), Gt: ("above", "gt"), Le: ("at most", "le"), Lt: ("below", "lt")}


def checks(metadata: Iterable[Any]) -> Iterator[str]:
    """The names of the functions that check a value."""
    for one in metadata:
        function = getattr(one, "func", None)
        yield getattr(getattr(function, "func", function), "__name__", "")


def kind(annotation: Any, metadata: Sequence[Any], links: dict[type, str]) -> str:
    """What a value is, in words."""
    found = list(checks(metadata))
    known = [WORDS[name] for name in found if name in WORDS]
    if known:
        return known[0]
    inner = _kind(annotation, links)
    short = next((SHORT[name] for name in found if name in SHORT), "")
    limits = [one for each in metadata for one in (each, *getattr(each, "metadata", ()))]
    bounds = [
        f"{word} {getattr(one, of)}" for one in limits for each, (word, of) in BOUNDS.items() if type(one) is each
    ]
    if "one_or_many" in found and inner.startswith("list of "):
        inner = f"{inner.removeprefix('list of ')}, or a list"
    return ", ".join([short + inner, *bounds])


def _kind(annotation: Any, links: dict[type, str]) -> str:  # noqa: PLR0911 - a case each
    origin, given = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(given[0], given[1:], links)
    if annotation in links:
        return f"[{links[annotation]}](#{slug(links[annotation])})"
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in given)
    if origin is tuple:
        return "list of entries" if _holds_entries(given[0]) else f"list of {_kind(given[0], links)}"
    if origin is dict:
        return f"mapping of {_kind(given[1], links)}" if given[1] is not Any else "mapping"
    if given:
        each = dict.fromkeys(_kind(one, links) for one in given if one is not type(None))
        return "number" if set(each) == {"whole number", "number"} else "; or ".join(each)
    return SIMPLE.get(annotation, "text")


def _models(annotation: Any) -> Iterator[type[Model]]:
    if isinstance(annotation, type) and issubclass(annotation, Model):
        yield annotation
    for one in get_args(annotation):
        yield from _models(one)


def _holds_entries(annotation: Any) -> bool:
    return any(issubclass(one, FlowModel) for one in _models(annotation))


def fields(model: type[Model]) -> dict[str, FieldInfo]:
    """The keys of a model, its name first; those of a sink have a section of their own."""
    found = {name: one for name, one in model.model_fields.items() if one.alias != PATTERN}
    if issubclass(model, SinkModel) and model is not SinkModel:
        found = {name: one for name, one in found.items() if name not in SinkModel.model_fields}
    return dict(sorted(found.items(), key=lambda item: item[0] != "name"))


def described(model: type[Model]) -> dict[str, str]:
    """The description of each key, from the docstrings of the model and its bases."""
    found = dict[str, str]()
    for one in reversed(model.__mro__):
        if issubclass(one, Model):
            found |= entries(inspect.cleandoc(one.__doc__ or ""), "Attributes")
    return found


def default(info: FieldInfo, text: str) -> str:
    """The default of a key; required where it has none, and its description names none."""
    value = info.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "" if "by default" in text else "required"
    if value is None or value in ("", (), {}) or isinstance(value, Model):
        return ""
    words = value if isinstance(value, tuple) else (value,)
    return ", ".join(f"`{_literal(one)}`" for one in words)


def _literal(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def nested(name: str, model: type[Model]) -> Iterator[tuple[str, type[Model]]]:
    """A model, and those within it, by the place in the file."""
    yield name, model
    for key, info in fields(model).items():
        for one in _models(info.annotation):
            if not issubclass(one, (FlowModel, SinkModel)) or one.__name__ == "SplitSinkModel":
                yield from nested(f"{info.alias or key}{'.NAME' if get_origin(info.annotation) is dict else ''}", one)


def places() -> dict[str, list[tuple[str, type[Model]]]]:
    """All models by their place, in the order of the page, below their chapter."""
    chapters: dict[str, list[tuple[str, type[Model]]]] = {
        "A job's file": [*nested("A job's file", JobConfig)],
        "The entries of a flow": [
            found for one in ENTRIES for found in nested(one.model_fields["pattern"].default, one)
        ],
        "A sink": [("A sink", SinkModel)],
        "A stream's file": [*nested("A stream's file", StreamConfig)],
        "A file of pools": [*nested("A file of pools", PoolsModel)],
    }
    shown = set[type[Model]]()
    for chapter, found in chapters.items():
        new = {model: name for name, model in reversed(found) if model not in shown}
        chapters[chapter] = [(name, model) for model, name in reversed(new.items())]
        shown |= set(new)
    return chapters


def yaml_page() -> str:
    """The keys of YAML files."""
    chapters = places()
    links = {model: name for found in chapters.values() for name, model in found}
    lines = [MADE, "# YAML reference", "", "Every key of a job's file. [Job files](../job-files.md) shows whole files."]
    lines += ["An unknown key is an error that suggests the nearest valid one."]
    for chapter, found in chapters.items():
        lines += ["", f"## {chapter}"] if found[0][0] != chapter else []
        for name, model in found:
            lines += ["", f"{'##' if name == chapter else '###'} {name}", *_section(model, links)]
    return "\n".join(lines) + "\n"


def _section(model: type[Model], links: dict[type, str]) -> list[str]:
    words = described(model)
    rows = [
        (
            f"`{info.alias or name}`",
            kind(info.annotation, info.metadata, links),
            default(info, words.get(name, "")),
            cell(words.get(name, "")),
        )
        for name, info in fields(model).items()
    ]
    about = [plain(line) for line in paragraphs(inspect.cleandoc(model.__doc__ or ""))]
    sink = issubclass(model, SinkModel) and model is not SinkModel
    more = ["", f"Also the keys of [a sink](#{slug('A sink')})."] if sink else []
    more += ["", "May be used in a `transaction`."] if issubclass(model, FlowModel) and model.in_transaction else []
    return ["", *"\n".join(about).strip().splitlines(), *table(("key", "value", "default", "meaning"), rows), *more]


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MkDocs make it."""
    return re.sub(r"[^\w\s-]", "", heading.lower()).strip().replace(" ", "-")


# The commands


def commands_page() -> str:
    """The commands and their options."""
    program: Any = typer.main.get_command(app)
    lines = [MADE, "# Commands", "", *textwrap.wrap(program.help, WIDTH), *_options(program, "`spark-flow`")]
    for name, command in _commands(program):
        if not command.hidden:
            words = [name, command.options_metavar, *(_word(one) for one in command.params if _is_word(one))]
            lines += ["", f"## spark-flow {name}", "", "```text", f"spark-flow {' '.join(words)}", "```", ""]
            lines += [*plain(command.help or "").splitlines(), *_options(command, f"`spark-flow {name}`")]
    for heading, main, given in (
        ("The options of jobs", job.main, {"job": "job.yaml"}),
        ("The options of runners", runner.main, {"job": "job.yaml", "kind": "concurrent"}),
        ("The options of streams", stream.main, {"job": "jobs/stream.py"}),
    ):
        lines += ["", f"## {heading}", *_options(_command_of(main, given), heading)]
    return "\n".join(lines) + "\n"


def _commands(program: Any) -> Iterator[tuple[str, Any]]:
    """All commands, those of a group by their whole names."""
    context = program.make_context("spark-flow", [], resilient_parsing=True)
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        inner = getattr(command, "commands", None)
        yield from ((f"{name} {one}", each) for one, each in inner.items()) if inner else [(name, command)]


def _command_of(main: Callable[..., int], given: dict[str, str]) -> Any:
    """The command line that a function parses, without running it."""
    module = inspect.getmodule(main)
    with mock.patch.object(module, "command_line", return_value=0) as called:
        main([], **given)
    one = typer.Typer(add_completion=False, rich_markup_mode=None)
    one.command()(called.call_args.args[0])
    return typer.main.get_command(one)


def _is_word(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _word(parameter: Any) -> str:
    name = parameter.metavar or str(parameter.name).upper()
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _options(command: Any, where: str) -> list[str]:
    rows = []
    for one in command.params:
        if one.hidden or one.name == "help":
            continue
        if not (one.help or "").strip():
            raise ValueError(f"{where}: {one.name} has no help")
        flag = _is_word(one) or one.is_flag
        name = _word(one) if _is_word(one) else ", ".join(one.opts) + ("" if flag else f" {one.metavar or 'VALUE'}")
        value = ", ".join(one.default) if isinstance(one.default, list) else one.default
        known = not isinstance(value, bool) and value not in ("", 0, None) and not Path(str(value)).is_absolute()
        rows.append((f"`{name}`", f"`{value}`" if known else "", cell(one.help)))
    return table(("", "default", ""), rows)


# The public names

CHAPTERS = {
    "transforms": "Transforms",
    "engine": "Runs",
    "storage": "Sources and sinks",
    "sequence": "Sequence",
    "fan_in": "Fan-in",
    "fan_out": "Fan-out",
    "orchestration": "Orchestration",
    "core": "Completeness and arrival rules",
    "lineage": "Lineage",
    "view": "Views",
}
"""The packages that public names come from, in the order of the page."""


def api_page() -> str:
    """The public names, by the package that they come from."""
    named = {name: getattr(spark_flow, name) for name in spark_flow.__all__}
    by = {name: _module(one).split(".")[1] for name, one in named.items()}
    lines = [MADE, "# API", "", "`import spark_flow as sf`. Errors are in `spark_flow.errors`."]
    for package in [*CHAPTERS, *sorted(set(by.values()) - set(CHAPTERS))]:
        names = sorted((name for name in named if by[name] == package), key=str.lower)
        lines += ["", f"## {CHAPTERS.get(package, package)}"] if names else []
        for name in names:
            lines += ["", f"### {name}", *_documented(name, named[name])]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)) + "\n"


def _module(one: Any) -> str:
    return str(getattr(one, "__module__", "") or type(one).__module__)


def _documented(name: str, one: Any) -> list[str]:
    if not callable(one):
        return ["", f"An instance of `{type(one).__name__}`.", *markdown(inspect.getdoc(one) or "")]
    lines = ["", "```py", signature(name, one), "```", *markdown(inspect.getdoc(one) or "")]
    if inspect.isclass(one):
        kinds = (property, functools.cached_property, classmethod, staticmethod, type)
        own = {each: of for each, of in vars(one).items() if inspect.isroutine(of) or isinstance(of, kinds)}
        members = {each: of for each, of in own.items() if not each.startswith("_") and inspect.getdoc(of)}
        makers = {each: getattr(one, each) for each, of in members.items() if isinstance(of, classmethod)}
        for method, maker in makers.items():
            called = f"{name}.{method}"
            lines += ["", "```py", signature(called, maker), "```", *markdown(inspect.getdoc(maker) or "")]
        listed = [_member(each, of) for each, of in members.items() if each not in makers and not isinstance(of, type)]
        lines += ["", *sorted(listed)]
    return lines


def _member(name: str, one: Any) -> str:
    summary = " ".join((inspect.getdoc(one) or "").split("\n\n")[0].split())
    return f"- `{signature(name, one, 1000) if inspect.isroutine(one) else name}`: {plain(summary)}"


def signature(name: str, one: Any, width: int = 100) -> str:
    """A signature, on one line if it fits."""
    of = inspect.signature(one)
    if inspect.isclass(one) and (not _made_by_users(one) or any(each.startswith("_") for each in of.parameters)):
        return f"class {name}"
    words, only = list[str](), False
    for parameter in of.parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not only:
            words.append("*")
        only = only or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        words.append(_parameter(parameter))
    returns = f" -> {_annotation(of.return_annotation)}" if of.return_annotation is not of.empty else ""
    head = f"class {name}" if inspect.isclass(one) else name
    line = f"{head}({', '.join(words)}){'' if inspect.isclass(one) else returns}"
    if len(line) <= width:
        return line
    inner = "".join(f"    {word},\n" for word in words)
    return f"{head}(\n{inner}){'' if inspect.isclass(one) else returns}"


def _made_by_users(one: type) -> bool:
    """Whether its docstring does not name the function that makes it."""
    return not re.search(r"[Cc]reate one with|[Mm]ade by|created from", (inspect.getdoc(one) or "").split("\n\n")[0])


def _parameter(parameter: inspect.Parameter) -> str:
    stars = "*" * (parameter.kind is parameter.VAR_POSITIONAL) + "**" * (parameter.kind is parameter.VAR_KEYWORD)
    text = f"{stars}{parameter.name}"
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        value = parameter.default
        named = inspect.isroutine(value) or inspect.isclass(value)
        shown = value.__name__ if named else json.dumps(value) if isinstance(value, str) else repr(value)
        text += f" = {'...' if ' object at ' in shown or shown.startswith('<') else shown}"
    return text


def _annotation(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])", "", text).replace("NoneType", "None")


PAGES: dict[str, Callable[[], str]] = {"yaml.md": yaml_page, "commands.md": commands_page, "api.md": api_page}


def main() -> int:
    """Write the pages."""
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
