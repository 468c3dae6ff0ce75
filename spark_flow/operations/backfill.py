"""Backfill: rerun stale keys, each with the command of its last successful run."""

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
NO_COMMAND = "its command is unknown because it was not run by a job; rerun it yourself"


def words(one: StaleKey, launcher: str = "") -> list[str]:
    """Return the command that reruns a key; empty if its command was not recorded.

    The request id is derived from the newer inputs, so the same backfill again is a retry, and a backfill after
    another change of the inputs is a new request.
    """
    command = one.command
    if _unknown(one):
        return []
    request_id = f"backfill@{fingerprint.combine([read.reason for read in one.reads])[:12]}"
    program = [command["job"], "--config", command["config"], *command["overrides"], "--request-id", request_id]
    return [*submit.launcher(launcher), *program]


def _unknown(one: StaleKey) -> str:
    """Return why a key's command cannot be repeated; empty if it can."""
    if not one.command:
        return NO_COMMAND
    names = ", ".join(one.command.get("withheld", ()))
    fix = "rerun it yourself; a value given as ${oc.env:NAME} is recorded by name, without the variable's content"
    return f"its command is not recorded because {names} holds a secret: {fix}" if names else ""


def shown(one: StaleKey, launcher: str = "") -> str:
    """Return the command as a shell line, or why there is none."""
    command = words(one, launcher)
    return f"cd {shlex.quote(one.command['cwd'])} && {shlex.join(command)}" if command else _unknown(one)


def backfill(
    keys: Sequence[StaleKey],
    again: Callable[[], Sequence[StaleKey]],
    *,
    launcher: str = "",
    report: Callable[[str], None],
) -> Mapping[tuple[str, str, str], Result]:
    """Rerun stale keys in order, one after another; a key whose provider could not be rerun is left alone.

    An error of one key, such as unavailable storage, is reported and does not stop the others.

    After a kill, the same call resumes: keys that were rerun are not stale any more, and unfinished runs are resumed.

    Args:
        keys: The stale keys, those with the fewest hops first.
        again: Returns the current stale keys; called before and after each key.
        launcher: See ``spark_flow.spark.submit.launcher``.
        report: Called with progress messages.

    Returns:
        The result of each key, by its ``place``.
    """
    results: dict[tuple[str, str, str], Result] = {}
    for one in keys:
        results[one.place] = _guarded(one, again, launcher, report)
    return results


def _guarded(
    one: StaleKey, again: Callable[[], Sequence[StaleKey]], launcher: str, report: Callable[[str], None]
) -> Result:
    try:
        return _rerun(one, again, launcher, report)
    except Exception as error:
        report(f"{one.pipeline} {one.key}: failed: {describe(error)}")
        return "failed"


def _rerun(
    one: StaleKey, again: Callable[[], Sequence[StaleKey]], launcher: str, report: Callable[[str], None]
) -> Result:
    name = f"{one.pipeline} {one.key}"
    now = _find(one, again())
    if now is None:
        return "succeeded"  # by another backfill meanwhile
    if now.hops > 1 or _unknown(now):
        report(f"{name}: left alone, {_unknown(now) or 'its provider was not rerun'}")
        return "left alone"
    report(f"{name}: {now.reason}")
    wrong = _run(now, launcher) or ("it is still stale" if _find(one, again()) else "")
    report(f"{name}: {wrong or 'rerun'}")
    return "failed" if wrong else "succeeded"


def _find(one: StaleKey, among: Sequence[StaleKey]) -> StaleKey | None:
    return next((each for each in among if each.place == one.place), None)


def _run(one: StaleKey, launcher: str) -> str:
    """Run a key's command, and return the error as a message; empty if it succeeded."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's own job
            words(one, launcher), env=submit.environment(), cwd=one.command["cwd"], check=False
        )
    except OSError as error:
        return f"it could not be started: {describe(error)}"
    return f"exit code {done.returncode}" if done.returncode else ""
