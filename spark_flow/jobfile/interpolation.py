"""Resolve ``${name}`` value by value, so that every unknown name is reported."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from spark_flow.core.secrets import escaped, variables
from spark_flow.errors import Problem
from spark_flow.jobfile.model.problems import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_FREE = ("options", "overrides", "properties", "spark", "vars", "with")  # the values of these are passed on unchanged


def as_written(config: Any) -> Any:
    """Plain values, with ``${name}`` as it stands in the file."""
    return OmegaConf.to_container(config, resolve=False)


def plain(config: DictConfig) -> tuple[dict[str, Any], list[Problem]]:
    """The config as plain values, and what could not be resolved (left as it was written).

    In options and arguments ``${oc.env:NAME}`` stays as it is (``secrets.resolved``), also where another name leads to
    it; that the variable is set is looked at.
    """
    written = as_written(config)
    walk = _Walk(names=tuple(_names(written)))
    value: dict[str, Any] = walk.container(config, "", ())
    escaped_ = _escaped(written)
    if escaped_ == written:
        return value, walk.problems
    late = _Walk(names=walk.names)
    return _late(value, late.container(DictConfig(escaped_), "", ()), free=False), walk.problems


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _escaped(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    return escaped(value) if isinstance(value, str) else value


def _late(value: Any, unresolved: Any, *, free: bool) -> Any:
    """The values, and in places that are free to hold anything those with references to the environment."""
    if isinstance(value, dict) and isinstance(unresolved, dict):
        return {key: _late(each, unresolved.get(key), free=free or key in _FREE) for key, each in value.items()}
    if isinstance(value, list) and isinstance(unresolved, list):
        return [_late(each, other, free=free) for each, other in zip(value, unresolved, strict=True)]
    return unresolved if free and isinstance(unresolved, str) and variables(unresolved) else value


@dataclass(frozen=True)
class _Walk:
    names: tuple[str, ...]
    problems: list[Problem] = field(default_factory=list)

    def container(self, node: Any, path: str, around: tuple[Any, ...]) -> Any:
        inside = (*around, node)
        if isinstance(node, ListConfig):
            return [self.leaf(at, f"{path}[{at}]", inside) for at in range(len(node))]
        return {key: self.leaf(key, f"{path}.{key}" if path else str(key), inside) for key in node}

    def leaf(self, key: Any, path: str, around: tuple[Any, ...]) -> Any:
        node = around[-1]
        if OmegaConf.is_missing(node, key):
            self.problems.append(Problem(path, "nothing", "a value", f"Required: give {path}=…"))
            return "???"
        try:
            value = node[key]
        except (OmegaConfBaseException, RecursionError) as error:
            raw = as_written(node)[key]
            self.problems.append(_problem(path, str(raw), error, self.names))
            return raw
        if any(value is one for one in around):
            raw = as_written(node)[key]
            self.problems.append(Problem(path, f"{raw!r}, which holds itself", "an interpolation that ends"))
            return raw
        return self.container(value, path, around) if isinstance(value, DictConfig | ListConfig) else value


def _problem(path: str, raw: str, error: Exception, names: Sequence[str]) -> Problem:
    if isinstance(error, InterpolationToMissingValueError):
        return Problem(path, f"{raw!r}, which leads to a missing value", "a value", "Give the value it leads to.")
    wanted = re.search(r"key '([^']+)' not found", str(error))
    if wanted is None:
        return Problem(path, f"{raw!r} ({str(error).splitlines()[0]})", "an interpolation that resolves")
    return Problem(path, f"{raw!r}", f"a name of this file instead of {wanted[1]}", nearest(wanted[1], names))


def _names(written: dict[str, Any]) -> Iterator[str]:
    yield from map(str, written)
    variables = written.get("vars")
    if isinstance(variables, dict):
        yield from (f"vars.{name}" for name in variables)
