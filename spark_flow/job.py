"""The command line of every job: a YAML file, a key, and a run of its flow."""

from __future__ import annotations

import datetime as dt
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spark_flow import config as files
from spark_flow.errors import (
    InvalidArgument,
    NotAllArrived,
    NothingToDo,
    NotNow,
    SparkFlowError,
    UsageError,
)
from spark_flow.flow import execute
from spark_flow.lineage import follow
from spark_flow.run import Run
from spark_flow.session import session
from spark_flow.view.progress import Progress
from spark_flow.view.tables import print_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import SparkSession

    from spark_flow.outcome import Observer


def main(argv: Sequence[str] | None = None, *, job: str, observers: Sequence[Observer] = ()) -> int:
    """Run a job's command line; returns its exit code.

    Args:
        argv: The arguments after the program's name.
        job: The job's own file: its folder is where ``module:function`` is looked up, and
            ``conf/<its name>.yaml`` beside that folder is the default of ``--config``.
        observers: Told of the run's progress (crash injection in tests).

    Returns:
        0 done (also when all was reused, or a provider skipped the key), 1 failed, 2 bad config or usage, 75 not now:
        branches or a provider's marker have not arrived.
    """
    given = sys.argv[1:] if argv is None else argv
    path = Path(job).resolve()
    rewritten = _with_parameters(given, _default(path))
    return command_line(_command(path, observers), _help(job), rewritten, path.name)


def command_line(command: Callable[..., int], help: str, argv: Sequence[str] | None, name: str) -> int:  # noqa: A002
    """Run one command; returns its exit code, 2 for what the parser refuses.

    Args:
        command: A function whose parameters are the command line's, in Typer's way.
        help: What it does.
        argv: The arguments after the program's name.
        name: The program's.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=help)(command)
    try:
        code = app(list(argv) if argv is not None else None, prog_name=name, standalone_mode=False)
    except typer.Exit as leave:
        code = leave.exit_code
    except Exception as error:
        show = getattr(error, "show", None)  # the parser's own errors: an unknown option, a missing value
        if show is None:
            raise
        show()
        return 2
    return int(code or 0)


def _default(job: Path) -> Path:
    return job.resolve().parent.parent / "conf" / f"{job.stem}.yaml"


def _with_parameters(argv: Sequence[str], config: Path) -> list[str]:
    """The arguments, with ``--output-type csv`` of a parameter of the file as the override that it is short for."""
    left = list(argv)
    for at, argument in enumerate(left):
        if argument.startswith("--config"):
            config = Path(argument.partition("=")[2] or (left[at + 1] if at + 1 < len(left) else config))
    names = {f"--{name.replace('_', '-')}": name for name in files.parameter_names(config)}
    rewritten = []
    while left:
        option, sign, value = left.pop(0).partition("=")
        if option in names and (sign or left):
            rewritten.append(f"parameters.{names[option]}.value={value if sign else left.pop(0)}")
        else:
            rewritten.append(f"{option}{sign}{value}")
    return rewritten


def _help(job: str) -> str:
    names = files.parameter_names(_default(Path(job)))
    options = ", ".join(f"--{name.replace('_', '-')} VALUE" for name in names)
    words = f"Run {Path(job).stem}. Give the key as key=2013-01-02; any value of the file can be set as name=value."
    return f"{words} Its file takes {options}." if options else words


def _command(job: Path, observers: Sequence[Observer]) -> Callable[..., int]:
    default = _default(job)

    def command(
        overrides: Annotated[
            list[str] | None,
            typer.Argument(metavar="[NAME=VALUE]...", help="key, state, output, or any path into the file."),
        ] = None,
        config: Annotated[Path, typer.Option(help="The job's YAML file.")] = default,
        plan: Annotated[bool, typer.Option("--plan", help="Show what would run or be reused; run no action.")] = False,
        rerun: Annotated[bool, typer.Option("--rerun", help="Do all of it anew and replace the key's rows.")] = False,
        start: Annotated[
            str,
            typer.Option("--from", help="Do this node and all after it anew; keep what is before it.", metavar="NODE"),
        ] = "",
        only: Annotated[
            list[str] | None,
            typer.Option(
                help="Of its fan-in run this branch alone, as hours/07; do another node anew, and keep all others. "
                "May be repeated.",
                metavar="NODE",
            ),
        ] = None,
        show: Annotated[int, typer.Option(help="Print this many rows of each table written.")] = 0,
        summary_json: Annotated[Path | None, typer.Option(help="Write the run's summary to this file.")] = None,
        cause: Annotated[
            str, typer.Option(help="What asks for this run: a key that was done for another cause is done anew.")
        ] = "",
    ) -> int:
        try:
            return _run(
                job,
                config,
                overrides or [],
                observers,
                plan=plan,
                rerun=rerun,
                start=start,
                only=only or [],
                show=show,
                summary=summary_json,
                cause=cause,
            )
        except SparkFlowError as error:
            typer.echo(f"{_said(error)}: {error}", err=True)
            done = isinstance(error, NotAllArrived) and not error.asked
            return 0 if done else error.exit_code

    return command


def _said(error: SparkFlowError) -> str:
    words = {UsageError: "usage", NotNow: "waiting", NothingToDo: "skipped"}
    return next((word for kind, word in words.items() if isinstance(error, kind)), "failed")


def _check_triggers(config: files.JobConfig, job: Path, above: Sequence[tuple[str, str]] = ()) -> None:
    """Read the files of the jobs that will be triggered: what is wrong with them is said before any work is done.

    Raises:
        ConfigError: Of a consumer's file.
        InvalidArgument: Jobs start each other in a circle.
    """
    chain = [*above, (str(job), config.pipeline)]
    for entry in files.walk(config.flow):
        if not isinstance(entry, files.TriggerModel):
            continue
        to_start = entry.consumer(job.parent)
        place = (to_start.job, to_start.pipeline)
        if place in chain:
            circle = " -> ".join(name for _, name in [*chain[chain.index(place) :], place])
            raise InvalidArgument(f"trigger of {entry.job}", f"a circle: {circle}", "jobs that do not start each other")
        if to_start.pipeline:  # a stream's file, or another tool's, has none
            overrides = [f"key={config.key}", *to_start.overrides]
            loaded = files.load(to_start.config, overrides, beside=Path(to_start.job).parent)
            _check_triggers(loaded, Path(to_start.job), chain)


_SECRET = re.compile(r"[^=]*(passw|secret|token|credential|api_?key|access_?key)|.*://[^/@]+:[^/@]+@", re.IGNORECASE)


def _recorded(job: Path, config: Path, overrides: Sequence[str]) -> dict[str, object]:
    """How to run this again, for ``backfill``; nothing where it seems to hold a secret, which no ledger should."""
    if any(_SECRET.match(override) for override in overrides):
        return {}
    place = {"job": str(job), "config": str(config.absolute()), "cwd": str(Path.cwd())}
    return {**place, "overrides": list(overrides)}


def _run(
    job: Path,
    path: Path,
    overrides: Sequence[str],
    observers: Sequence[Observer],
    *,
    plan: bool,
    rerun: bool,
    start: str,
    only: Sequence[str],
    show: int,
    summary: Path | None,
    cause: str,
) -> int:
    config = files.load(path, overrides, beside=job.parent)
    _check_triggers(config, job)
    redo = files.redo(config, start=start, only=only, rerun=rerun)
    holder: list[SparkSession] = []

    def spark() -> SparkSession:
        not_taken = [o.node for o in run.outcomes if o.kind == "choice" and o.state == "skipped"]
        told = lineage.spark_settings() if lineage is not None else {}
        holder.append(session(f"{config.pipeline} {config.key}", delta=config.needs_delta(not_taken), listener=told))
        return holder[0]

    progress = Progress()
    run = Run.open(
        config.pipeline,
        config.key,
        state=config.state,
        spark=spark,
        rerun=rerun,
        plan=plan,
        only=() if redo else only,
        cause=cause,
        redo=redo,
        command=_recorded(job, path, overrides),
        observers=[progress, *observers],
        retention=dt.timedelta(days=config.retention_days),
    )
    lineage = follow(run, config.lineage.target(config.state)) if config.lineage else None
    progress.begin(run)
    ended_with: BaseException | None = None
    try:
        with run:
            execute(config, run, beside=job.parent)
    except BaseException as error:
        ended_with = error
        raise
    finally:
        if summary is not None:
            summary.parent.mkdir(parents=True, exist_ok=True)
            summary.write_text(json.dumps(run.summary(), indent=1) + "\n")
        progress.finish(run)
        for started in holder:
            started.stop()
        if lineage is not None:
            lineage.finish(ended_with)  # after the session's end, which is an event of Spark's as well
    if show:
        print_rows(run.outcomes, limit=show)
    return 0
