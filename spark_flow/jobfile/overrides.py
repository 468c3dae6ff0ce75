"""``key=2013-01-02`` and ``sources.flights.path=...`` from the command line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from spark_flow.errors import Problem
from spark_flow.jobfile.interpolation import as_written
from spark_flow.jobfile.model.job import JobConfig
from spark_flow.jobfile.model.problems import nearest, one_of, show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omegaconf import DictConfig

TEXT_KEYS = frozenset({"pipeline", "key", "state", "output", "markers"})
"""Keys whose value is text as typed: YAML would read ``007`` and ``1e5`` as numbers, and nothing as null."""


def override(config: DictConfig, item: str) -> Problem | None:
    """Set ``name=value`` in ``config``, or return why not."""
    name, equals, text = item.partition("=")
    parts = re.sub(r"\[(\d+)\]", r".\1", name).split(".")
    if not equals or not all(parts):
        return Problem(item, show(item), "name=value", "For example key=2013-01-02")
    problem = _unknown(as_written(config), name, parts)
    if problem is not None:
        return problem
    try:
        value = text if name in TEXT_KEYS else as_written(OmegaConf.from_dotlist([f"value={text}"]))["value"]
        OmegaConf.update(config, ".".join(parts), value, merge=True)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        return Problem(name, f"{show(text)} ({str(error).splitlines()[0]})", "a value as in YAML", "Quote it.")
    return None


def _unknown(node: Any, name: str, parts: Sequence[str]) -> Problem | None:
    """The first part of a name that is unknown to the file and the models; deeper keys are checked by the models."""
    for depth, part in enumerate(parts):
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                return Problem(name, f"{part!r}", f"a place from 0 to {len(node) - 1}")
            node = node[int(part)]
        elif not isinstance(node, dict):
            return Problem(
                name,
                f"{show(node)} before {part!r}",
                "a mapping or a list",
                "Write it out in the file first.",
            )
        elif part in node:
            node = node[part]
        else:
            valid = _valid(node, parts[:depth])
            known = valid is None or part in valid
            return (
                None
                if known
                else Problem(name, f"unknown key {part!r}", one_of(valid or ()), nearest(part, valid or ()))
            )
    return None


def _valid(node: dict[str, Any], above: Sequence[str]) -> list[str] | None:
    """The keys that may be set under ``above``; ``None`` if the models know better."""
    if not above:
        return [*JobConfig.key_names()]
    if above[0] in {"sources", "vars"} and len(above) == 1:
        return [str(key) for key in node]
    if above[-1].isdecimal() and "flow" in above:
        return [str(key) for key in node]
    return None
