"""Read a job file: overrides, interpolations, and all problems at once."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import KeyValidationError, OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from spark_flow.core.names import check_name
from spark_flow.errors import ConfigError, Problem
from spark_flow.jobfile.interpolation import as_written, plain
from spark_flow.jobfile.model.flow import PATTERNS, FlowEntry
from spark_flow.jobfile.model.job import JobConfig, OnFailureModel, ParameterModel
from spark_flow.jobfile.model.lineage import LineageModel
from spark_flow.jobfile.model.problems import from_error, locate
from spark_flow.jobfile.model.runner import RunnerModel, StragglerModel
from spark_flow.jobfile.model.source import SourceModel, WaitModel
from spark_flow.jobfile.model.stream import StreamConfig
from spark_flow.jobfile.model.whole import flow_findings
from spark_flow.jobfile.overrides import TEXT_KEYS, override
from spark_flow.jobfile.secret_values import secret_values, without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from spark_flow.jobfile.model.base import FlowModel, Model

_ENTRY: TypeAdapter[FlowModel] = TypeAdapter(FlowEntry)
_SECTIONS: Mapping[str, type[Model]] = {
    "parameters": ParameterModel,
    "on_failure": OnFailureModel,
    "lineage": LineageModel,
}
_ROOTS = ("state", "output")  # what a file may interpolate without giving it
_KEY = re.compile(r"\{key:([^{}]+)\}")  # the key in another form, of strftime's
_OF_A_TIME = re.compile("%[HIMSp]")
_STAND_IN = "missing"  # for a missing key, so that the rest is still checked
_NO_KEY = Problem("key", "nothing", "the key of this run", "Required: give key=…, for example key=2013-01-02")


def load(
    path: str | Path,
    overrides: Sequence[str] = (),
    *,
    beside: Path | None = None,
    any_key: bool = False,
    imports: bool = True,
    cwd: Path | None = None,
) -> JobConfig:
    """The file as a checked ``JobConfig``.

    Args:
        path: The YAML file.
        overrides: ``key=2013-01-02``, ``sources.flights.path=...``, ``flow.3.write.path=...``.
        beside: A folder in which the modules of ``module:function`` are looked for first.
        any_key: The key is a stand-in, as the runners read a file before its keys are known: it need not be one of the
            calendar's.
        imports: Look up ``module:function`` and the jobs of triggers, which imports the user's modules.
        cwd: Where relative paths start in a file without ``root``; by default the working folder.

    Raises:
        ConfigError: With every problem of the file and of the overrides.
        InvalidName: The key cannot be a folder name.
    """
    config = _read(path)
    problems = [problem for item in overrides if (problem := override(config, item))]
    keys = list(dict.fromkeys(item.partition("=")[2] for item in overrides if item.startswith("key=")))
    if len(keys) > 1:
        problems.append(Problem("key", " and ".join(f"key={key}" for key in keys), "one key; the runners take several"))
    written = as_written(config)
    roots = {name: JobConfig.model_fields[name].default for name in _ROOTS} | {"markers": "${output}/markers"}
    config.update({name: value for name, value in roots.items() if name not in written})
    if written.get("key") in (None, "???"):
        problems.append(_NO_KEY)
        config["key"] = _STAND_IN
    raw, unresolved = plain(config)
    problems += unresolved
    if any(problem.path == "key" for problem in unresolved):
        raw["key"] = _STAND_IN
    _mark_per_key(config, raw)  # the last use of config, which has another key afterwards
    check_name("key", raw["key"])
    problems += _paths_of_key(raw, any_key=any_key)
    root, not_a_folder = _root(path, raw)
    root = root or str(cwd or "")
    problems += not_a_folder
    job, wrong = _validate(raw, {"root": root, "beside": beside, "any_key": any_key, "imports": imports})
    places = {problem.path for problem in problems}
    problems += [problem for problem in wrong if problem.path not in places]
    known = secret_values(written, raw)
    if job is None or problems:
        raise ConfigError(str(path), without_secrets(problems, known))
    return job.knowing(known)


def _root(path: str | Path, raw: Mapping[str, Any]) -> tuple[str, list[Problem]]:
    """The folder that relative paths start at, by ``root`` relative to the file; empty for the working folder."""
    given = raw.get("root")
    if not isinstance(given, str) or not given:
        return "", []  # what is no text is reported by the model
    folder = (Path(path).absolute().parent / given).resolve()
    wrong = Problem("root", f"{given!r}, which is {folder}", "a folder, relative to this file", "For example root: .")
    return str(folder), [] if folder.is_dir() else [wrong]


def _mark_per_key(config: DictConfig, raw: dict[str, Any]) -> None:
    """Set for each source whether its path depends on the key, and the folder that all keys have in common."""
    if not isinstance(raw.get("sources"), dict):
        return
    config["key"] = f"{raw['key']}-other"
    for name, source in raw["sources"].items():
        if isinstance(source, dict) and isinstance(source.get("path"), str):
            with contextlib.suppress(OmegaConfBaseException):  # told by `plain`
                path, other = source["path"], _KEY.sub("other", config["sources"][name]["path"])
                source.setdefault("per_key", path != other)
                if path != other or "{branch}" in path:
                    source.setdefault("parent", _common_folder(path, other))


def _paths_of_key(raw: dict[str, Any], *, any_key: bool) -> list[Problem]:
    """Set ``{key:%H}`` in the paths of sources; returns what is wrong if the key is no time, or a day has no hour."""
    wrong, key = [], raw["key"]
    for name, source in raw["sources"].items() if isinstance(raw.get("sources"), dict) else ():
        path = source.get("path") if isinstance(source, dict) else None
        if isinstance(path, str) and _KEY.search(path) and key != _STAND_IN:
            a_day = not any_key and "T" not in key
            try:
                moment = dt.datetime.fromisoformat(key)
            except ValueError:
                moment = None
            if moment is None or (a_day and any(map(_OF_A_TIME.search, _KEY.findall(path)))):
                where = f"sources.{name}.path"
                wrong.append(Problem(where, f"{path!r} with the key {key!r}", "a key that is a time, as 2013-01-02T05"))
            else:
                source["path"] = _KEY.sub(functools.partial(_form, moment), path)
    return wrong


def _form(moment: dt.datetime, found: re.Match[str]) -> str:
    return moment.strftime(found[1])


def _common_folder(*paths: str) -> str | None:
    """The folder of which all paths are below; ``None`` in a storage of objects, which has no folders, or if unknown.

    >>> _common_folder("in/date=2024-03-01/hour={branch}", "in/date=2024-03-02/hour={branch}")
    'in'
    """
    folders = [path.partition("{branch}")[0].rpartition("/")[0] for path in paths]
    if "://" in paths[0] or not all(folders):
        return None
    common = os.path.commonpath(folders)
    return common if common and not any(sign in common for sign in "*?[{") else None


def load_stream(path: str | Path, overrides: Sequence[str] = (), *, beside: Path | None = None) -> StreamConfig:
    """Read and check a stream's file, as ``load`` does.

    Raises:
        ConfigError: With every problem of the file and of the overrides.
    """
    config = _read(path)
    problems = [problem for item in overrides if (problem := override(config, item))]
    written = as_written(config)
    config.update({name: StreamConfig.model_fields[name].default for name in _ROOTS if name not in written})
    raw, unresolved = plain(config)
    root, not_a_folder = _root(path, raw)
    problems += unresolved + not_a_folder
    context: dict[str, Any] = {"beside": beside, "root": root, "sources": [], "parameters": []}
    try:
        stream = StreamConfig.model_validate(raw, context=context)
    except ValidationError as error:
        details = error.errors(include_url=False)
        found = from_error(details, _stream_keys)
        problems += [locate(one, raw) for one in found]
        raise ConfigError(str(path), without_secrets(problems, secret_values(written, raw))) from None
    if problems:
        raise ConfigError(str(path), without_secrets(problems, secret_values(written, raw)))
    return stream


def _stream_keys(loc: tuple[str | int, ...]) -> tuple[str, ...]:
    if len(loc) == 1:
        return StreamConfig.key_names()
    return SourceModel.key_names() if loc[0] == "source" else _keys(loc)


def parameter_names(path: str | Path) -> tuple[str, ...]:
    """The names of a file's parameters; none if the file cannot be read, which ``load`` reports."""
    try:
        parameters = as_written(_read(path)).get("parameters")
    except ConfigError:
        return ()
    return tuple(str(name) for name in parameters) if isinstance(parameters, dict) else ()


def _read(path: str | Path) -> DictConfig:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(node, yaml.MappingNode):
            other = "a list" if isinstance(node, yaml.SequenceNode) else "text"
            found = "an empty file" if node is None else other
            raise _unreadable(path, "", found, "a mapping", "For example pipeline: daily_flights")
        config = DictConfig(OmegaConf.create(text))
    except OSError as error:
        raise _unreadable(path, "", error.strerror or str(error), "a YAML file that can be read") from error
    except UnicodeDecodeError as error:
        raise _unreadable(path, "", f"bytes that are not UTF-8 at {error.start}", "a YAML file in UTF-8") from error
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from error
    except KeyValidationError as error:
        found = str(error).splitlines()[0]
        raise _unreadable(path, "", found, "text as each key", "Quote it, or give the key that is missing.") from error
    except OmegaConfBaseException as error:
        found = str(error).splitlines()[0]
        raise _unreadable(path, error.full_key or "", found, "${name} of this file") from error
    except RecursionError as error:
        raise _unreadable(path, "", "an anchor that holds itself", "YAML without cycles") from error
    config.update(_texts(node))
    return config


def _texts(node: yaml.MappingNode) -> dict[str, str]:
    """Scalars that are text whatever they look like: ``key: 007`` is neither 7 nor octal."""
    return {
        name.value: value.value
        for name, value in node.value
        if name.value in TEXT_KEYS and isinstance(value, yaml.ScalarNode) and not value.tag.endswith(":null")
    }


def _not_yaml(path: str | Path, error: yaml.YAMLError) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    found = (getattr(error, "problem", None) or str(error).splitlines()[0]).removeprefix("found ")
    return _unreadable(path, where, found, "YAML", "Mind quotes, indentation and unique keys.")


def _unreadable(path: str | Path, where: str, found: str, expected: str, fix: str = "") -> ConfigError:
    return ConfigError(str(path), (Problem(where or "file", found, expected, fix),))


def _validate(raw: dict[str, Any], how: Mapping[str, Any]) -> tuple[JobConfig | None, list[Problem]]:
    names = {part: raw.get(part) for part in ("sources", "parameters")}
    known = {part: [str(name) for name in found] if isinstance(found, dict) else [] for part, found in names.items()}
    context = {**how, **known}
    try:
        return JobConfig.model_validate(raw, context=context), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    found = from_error(details, _keys)
    if isinstance(raw.get("flow"), list):
        found += flow_findings([_entry(entry) for entry in raw["flow"]], known["sources"])
    return None, list(dict.fromkeys(locate(one, raw) for one in found))


def _entry(raw: object) -> FlowModel | None:
    """An entry that is valid by itself, so that the flow is checked even if other entries are wrong."""
    try:
        return _ENTRY.validate_python(raw)
    except ValidationError:
        return None


def _keys(loc: tuple[str | int, ...]) -> tuple[str, ...]:
    """The keys that are allowed next to the one at ``loc``."""
    if len(loc) == 1:
        return JobConfig.key_names()
    if loc[:1] == ("sources",):
        return WaitModel.key_names() if "wait" in loc[2:-1] else SourceModel.key_names()
    if loc and loc[0] in _SECTIONS:
        return _SECTIONS[str(loc[0])].key_names()
    if loc[:1] == ("runner",):
        return StragglerModel.key_names() if loc[1] == "straggler" and len(loc) > 2 else RunnerModel.key_names()  # noqa: PLR2004
    above, parent = ("", "", "", *map(str, loc))[-3:-1]
    nested = {key: model for entry in PATTERNS.values() for key, model in entry.nested.items()}
    named = {key: model for entry in PATTERNS.values() for key, model in entry.named.items()}
    model = {**PATTERNS, **nested}.get(parent) or named.get(above)
    return model.key_names() if model else ()
