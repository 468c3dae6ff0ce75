"""Rerunning keys that are out of date, each by the command that its last run was started with."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Literal

from spark_flow import submit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from spark_flow.stale import StaleKey

Result = Literal["succeeded", "failed", "left alone"]


def words(one: StaleKey, launcher: str = "") -> list[str]:
    """The command that reruns a key; empty when it was not run by a job."""
    command = one.command
    if not command:
        return []
    program = [command["job"], "--config", command["config"], *command["overrides"], "--rerun"]
    return [*submit.launcher(command["job"], launcher), *program]


def backfill(
    keys: Sequence[StaleKey],
    again: Callable[[], Sequence[StaleKey]],
    *,
    launcher: str = "",
    tell: Callable[[str], None],
) -> Mapping[tuple[str, str], Result]:
    """Rerun keys in order, one after another; a key whose provider could not be made anew is left alone.

    Killed and repeated it goes on: what was made anew is not stale any more, a rerun that was begun is gone on with.

    Args:
        keys: What is stale, those with the fewest hops first.
        again: Looks again what is stale: asked before each key that has a provider among the others.
        launcher: See ``spark_flow.submit.launcher``.
        tell: Told what goes on.
    """
    results: dict[tuple[str, str], Result] = {}
    for one in keys:
        place = (one.pipeline, one.key)
        now = one if one.hops == 1 else next((k for k in again() if (k.pipeline, k.key) == place), None)
        if now is None:
            results[place] = "succeeded"  # by another's backfill meanwhile
        elif now.hops > 1 or not now.command:
            why = "its provider was not made anew" if now.hops > 1 else "its command is not known: rerun it yourself"
            tell(f"{one.pipeline} {one.key}: left alone, {why}")
            results[place] = "left alone"
        else:
            results[place] = _rerun(now, launcher, tell)
    return results


def _rerun(one: StaleKey, launcher: str, tell: Callable[[str], None]) -> Result:
    tell(f"{one.pipeline} {one.key}: {one.reason}")
    done = subprocess.run(  # noqa: S603 - the user's own job
        words(one, launcher), env=submit.environment(), cwd=one.command["cwd"], check=False
    )
    tell(f"{one.pipeline} {one.key}: {'made anew' if done.returncode == 0 else f'exit code {done.returncode}'}")
    return "succeeded" if done.returncode == 0 else "failed"
