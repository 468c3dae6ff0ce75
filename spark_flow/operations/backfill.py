"""Making anew the keys that are out of date, each by the command that it was last made by."""

from __future__ import annotations

import shlex
import subprocess
from typing import TYPE_CHECKING, Literal

from spark_flow.core import fingerprint
from spark_flow.errors import describe
from spark_flow.spark import submit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from spark_flow.operations.stale import StaleKey

Result = Literal["succeeded", "failed", "left alone"]
NO_COMMAND = "its command is not known, as it was not run by a job: rerun it yourself"


def words(one: StaleKey, launcher: str = "") -> list[str]:
    """The command that makes a key anew; empty when it was not run by a job.

    It names as its cause what is newer: the same backfill again is a retry, and what has come meanwhile another cause.
    """
    command = one.command
    if _unknown(one):
        return []
    cause = f"backfill@{fingerprint.combine([read.reason for read in one.reads])[:12]}"
    program = [command["job"], "--config", command["config"], *command["overrides"], "--cause", cause]
    return [*submit.launcher(command["job"], launcher), *program]


def _unknown(one: StaleKey) -> str:
    """Why a key's command cannot be repeated; empty when it can."""
    if not one.command:
        return NO_COMMAND
    held = ", ".join(one.command.get("withheld", ()))
    fix = "rerun it yourself; given as ${oc.env:NAME} it is recorded, and what the variable holds is not"
    return f"its command is not recorded, as {held} holds a secret: {fix}" if held else ""


def shown(one: StaleKey, launcher: str = "") -> str:
    """The command as it may be typed."""
    given = words(one, launcher)
    return f"cd {shlex.quote(one.command['cwd'])} && {shlex.join(given)}" if given else _unknown(one)


def backfill(
    keys: Sequence[StaleKey],
    again: Callable[[], Sequence[StaleKey]],
    *,
    launcher: str = "",
    tell: Callable[[str], None],
) -> Mapping[tuple[str, str, str], Result]:
    """Make keys anew in order, one after another; a key whose provider could not be made anew is left alone.

    What goes wrong with one key, storage that does not answer as well, is reported and stops no other.

    Killed and repeated it goes on: what was made anew is not stale any more, and what was begun is gone on with.

    Args:
        keys: What is stale, those with the fewest hops first.
        again: Looks again what is stale: asked before and after each key.
        launcher: See ``spark_flow.spark.submit.launcher``.
        tell: Told what goes on.

    Returns:
        What became of each, by its ``place``.
    """
    results: dict[tuple[str, str, str], Result] = {}
    for one in keys:
        results[one.place] = _guarded(one, again, launcher, tell)
    return results


def _guarded(
    one: StaleKey, again: Callable[[], Sequence[StaleKey]], launcher: str, tell: Callable[[str], None]
) -> Result:
    try:
        return _anew(one, again, launcher, tell)
    except Exception as error:
        tell(f"{one.pipeline} {one.key}: failed: {describe(error)}")
        return "failed"


def _anew(one: StaleKey, again: Callable[[], Sequence[StaleKey]], launcher: str, tell: Callable[[str], None]) -> Result:
    name = f"{one.pipeline} {one.key}"
    now = _find(one, again())
    if now is None:
        return "succeeded"  # by another's backfill meanwhile
    if now.hops > 1 or _unknown(now):
        tell(f"{name}: left alone, {_unknown(now) or 'its provider was not made anew'}")
        return "left alone"
    tell(f"{name}: {now.reason}")
    wrong = _run(now, launcher) or ("it is stale still" if _find(one, again()) else "")
    tell(f"{name}: {wrong or 'made anew'}")
    return "failed" if wrong else "succeeded"


def _find(one: StaleKey, among: Sequence[StaleKey]) -> StaleKey | None:
    return next((each for each in among if each.place == one.place), None)


def _run(one: StaleKey, launcher: str) -> str:
    """Run a key's command; returns what went wrong, in words."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's own job
            words(one, launcher), env=submit.environment(), cwd=one.command["cwd"], check=False
        )
    except OSError as error:
        return f"it could not be started: {describe(error)}"
    return f"exit code {done.returncode}" if done.returncode else ""
