"""``${name}`` resolved leaf by leaf, so that every one that leads nowhere is told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from spark_flow.config.problems import nearest
from spark_flow.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

DEEPEST = 40  # a value that interpolates a mapping around itself never ends


def as_written(config: Any) -> Any:
    """Plain values, with ``${name}`` as it stands in the file."""
    return OmegaConf.to_container(config, resolve=False)


def plain(config: DictConfig) -> tuple[dict[str, Any], list[Problem]]:
    """The config as plain values, and what could not be resolved (left as it was written)."""
    problems: list[Problem] = []
    names = [*_names(config)]
    value = _container(config, "", names, problems)
    return value, problems


def _container(node: Any, path: str, names: list[str], problems: list[Problem]) -> Any:
    written = as_written(node)
    if path.count(".") + path.count("[") > DEEPEST:
        problems.append(Problem(path.partition(".")[0], "an interpolation that holds itself", "one that ends"))
        return written
    if isinstance(node, ListConfig):
        return [_leaf(node, at, f"{path}[{at}]", names, problems) for at in range(len(node))]
    return {key: _leaf(node, key, f"{path}.{key}" if path else str(key), names, problems) for key in node}


def _leaf(node: Any, key: Any, path: str, names: list[str], problems: list[Problem]) -> Any:
    if OmegaConf.is_missing(node, key):
        problems.append(Problem(path, "nothing", "a value", f"Required: give {path}=…"))
        return "???"
    try:
        value = node[key]
    except (OmegaConfBaseException, RecursionError) as error:
        raw = as_written(node)[key]
        problems.append(_problem(path, str(raw), error, names))
        return raw
    return _container(value, path, names, problems) if isinstance(value, DictConfig | ListConfig) else value


def _problem(path: str, raw: str, error: Exception, names: list[str]) -> Problem:
    if isinstance(error, InterpolationToMissingValueError):
        return Problem(path, f"{raw!r}, which leads to a missing value", "a value", "Give the value it leads to.")
    wanted = re.search(r"key '([^']+)' not found", str(error))
    if wanted is None:
        return Problem(path, f"{raw!r} ({str(error).splitlines()[0]})", "an interpolation that resolves")
    return Problem(path, f"{raw!r}", f"a name of this file instead of {wanted[1]}", nearest(wanted[1], names))


def _names(config: DictConfig) -> Iterator[str]:
    yield from map(str, config)
    variables = as_written(config).get("vars")
    if isinstance(variables, dict):
        yield from (f"vars.{name}" for name in variables)
