"""The command line of jobs: runs the flow of a YAML file for one key."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import traceback
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spark_flow import jobfile as files
from spark_flow.core.secrets import redact, scrub
from spark_flow.engine.run import recomputing
from spark_flow.errors import (
    INTERRUPTED,
    EndedAfter,
    Interrupted,
    InvalidArgument,
    NotAllArrived,
    NothingToDo,
    NotNow,
    SparkFlowError,
    UsageError,
    describe,
)
from spark_flow.jobfile.launch import Application, run_file
from spark_flow.jobfile.pipelines import alone
from spark_flow.jobfile.plan import PlanAsJson
from spark_flow.jobfile.request import JobRequest, other_file
from spark_flow.orchestration.pipeline import RunRequest
from spark_flow.spark.session import check_machine
from spark_flow.spark.submit import is_yaml, yaml_of
from spark_flow.view import logs
from spark_flow.view.progress import Progress
from spark_flow.view.summary import check_summary, write_refused
from spark_flow.view.tables import print_rows
from spark_flow.view.text import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spark_flow.engine.outcome import Observer
    from spark_flow.engine.run import Run

DEBUG = "Print the full traceback of an error, and everything that Spark logs."
Remote = Annotated[
    str,
    typer.Option(help="Run on this Spark Connect server, as SPARK_REMOTE names one: sc://host:15002.", metavar="URL"),
]
EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 bad config or usage, 75 try again later, 130 interrupted (Ctrl-C)."


def main(argv: Sequence[str] | None = None, *, job: str, observers: Sequence[Observer] = ()) -> int:
    """Run a job's command line, and return its exit code.

    Args:
        argv: The arguments after the program's name.
        job: The path of the job's script or of its YAML file. ``module:function`` is looked up in its folder. The
            default of ``--config`` is the YAML file, for a script ``conf/<its name>.yaml`` next to its folder.
        observers: Called with the run's progress (crash injection in tests).

    Returns:
        0 done (also if everything was reused, or a provider skipped the key), 1 failed, 2 bad config or usage, 75 try
        again later (branches or a provider's marker have not arrived), 130 interrupted.
    """
    given = sys.argv[1:] if argv is None else argv
    path = Path(job).resolve()
    rewritten, options = with_parameters(given, yaml_of(path))
    name = f"spark-flow run {path.name}" if is_yaml(path.name) else path.name
    return command_line(_command(path, observers), _help(job), rewritten, name, options)


def command_line(
    command: Callable[..., int],
    help: str,  # noqa: A002
    argv: Sequence[str] | None,
    name: str,
    options: Sequence[str] = (),
) -> int:
    """Run one command, and return its exit code: that of the command, 2 for a parser error, 130 if interrupted.

    Args:
        command: A function whose parameters define the command line, as in Typer.
        help: The help text.
        argv: The arguments after the program's name.
        name: The program's name.
        options: Further options, from the file's parameters, to suggest for an unknown one.
    """
    given = sys.argv[1:] if argv is None else argv
    debug = "--debug" in given
    logs.begin(debug=debug)

    @functools.wraps(command)  # here, as the parser would handle an interrupt differently
    def ended(*words: Any, **values: Any) -> int:
        try:
            return command(*words, **values)
        except KeyboardInterrupt as error:
            return report(error, debug=debug)

    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=f"{help} {EXIT_CODES}", context_settings={"token_normalize_func": _dashed})(ended)
    try:
        code = app(list(given), prog_name=name, standalone_mode=False)
    except typer.Exit as leave:
        code = leave.exit_code
    except Exception as error:
        show = getattr(error, "show", None)  # the parser's own errors: an unknown option, a missing value
        if show is None:
            return report(error, debug=debug)
        if hasattr(error, "possibilities"):
            near = get_close_matches(str(getattr(error, "option_name", "")), options)
            error.possibilities = sorted({*(error.possibilities or ()), *near})
        show()
        return 2
    return int(code or 0)


def report(error: BaseException, *, debug: bool, secrets: Callable[[str], str] = redact) -> int:
    """Print an error without secrets, and with ``debug`` the full traceback; return the exit code."""
    if debug:
        say(secrets("".join(traceback.format_exception(error))), err=True)
    if isinstance(error, KeyboardInterrupt):
        say(INTERRUPTED, err=True)
        return Interrupted.exit_code
    ours = isinstance(error, SparkFlowError)
    text = str(error) if ours else describe(error)
    say(secrets(f"{said(error)}: {text}") + ("" if ours or debug else " (--debug prints the traceback)"), err=True)
    return error.exit_code if isinstance(error, SparkFlowError) else 1


def _dashed(option: str) -> str:
    """Return an option with dashes: ``--output-type`` for ``--output_type``."""
    return option.replace("_", "-")


def with_parameters(argv: Sequence[str], config: Path) -> tuple[list[str], list[str]]:
    """Rewrite options of the file's parameters, such as ``--output-type csv``, as overrides.

    Returns:
        The rewritten arguments, and the options of all parameters of the file.
    """
    left = list(argv)
    for at, argument in enumerate(left):
        if argument.startswith("--config"):
            config = Path(argument.partition("=")[2] or (left[at + 1] if at + 1 < len(left) else config))
    names = {f"--{_dashed(name)}": name for name in files.parameter_names(config)}
    rewritten = []
    while left:
        option, sign, value = left.pop(0).partition("=")
        name = names.get(_dashed(option))
        if name is not None and (sign or left):
            rewritten.append(f"parameters.{name}.value={value if sign else left.pop(0)}")
        else:
            rewritten.append(f"{option}{sign}{value}")
    return rewritten, list(names)


def _help(job: str) -> str:
    names = files.parameter_names(yaml_of(Path(job).resolve()))
    options = ", ".join(f"--{name.replace('_', '-')} VALUE" for name in names)
    text = f"Run {Path(job).stem}. Give the key as key=2013-01-02; any value of the file can be set as name=value."
    return f"{text} Options of the file's parameters: {options}." if options else text


def _command(job: Path, observers: Sequence[Observer]) -> Callable[..., int]:
    default = yaml_of(job)

    def command(
        overrides: Annotated[
            list[str] | None,
            typer.Argument(metavar="[NAME=VALUE]...", help="Override key, state, output, or any path in the file."),
        ] = None,
        config: Path = typer.Option(default, help="The job's YAML file.", hidden=is_yaml(job.name)),  # noqa: B008
        plan: Annotated[bool, typer.Option("--plan", help="Show what would run or be reused; run no action.")] = False,
        rerun: Annotated[bool, typer.Option("--rerun", help="Run all nodes again and replace the key's rows.")] = False,
        start: Annotated[
            str | None,
            typer.Option("--from", help="Run this node and all downstream nodes again; reuse others.", metavar="NODE"),
        ] = None,
        only: Annotated[
            list[str] | None,
            typer.Option(
                help="Run only this branch of its fan-in, such as hours/07; or only this other node again, and "
                "reuse the rest. May be repeated.",
                metavar="NODE",
            ),
        ] = None,
        until: Annotated[
            str | None,
            typer.Option(
                help="End after this node, exit code 0; the same command without it does the rest.", metavar="NODE"
            ),
        ] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="With --plan: print the graph of nodes as JSON instead.")
        ] = False,
        show: Annotated[int, typer.Option(min=0, help="Print this many rows of each table that was written.")] = 0,
        summary_json: Annotated[Path | None, typer.Option(help="Write the run's summary to this file.")] = None,
        request_id: Annotated[
            str, typer.Option(help="Request id. A new id starts a new generation; the same id retries it.")
        ] = "",
        remote: Remote = "",
        debug: Annotated[bool, typer.Option("--debug", help=DEBUG)] = False,
    ) -> int:
        request = JobRequest(
            job=job,
            config=config,
            overrides=tuple(overrides or ()),
            rerun=rerun,
            start=start or "",
            only=tuple(only or ()),
            until=until or "",
            observers=tuple(observers),
        )
        try:
            check_summary(summary_json)
            check_given("--from", start)
            check_given("--until", until)
            use_server(remote)
            if as_json and not plan:
                raise InvalidArgument("--json", "it without --plan", "--plan --json; of a run --summary-json FILE")
            run = _run(request, plan=plan, as_json=as_json, request_id=request_id, summary=summary_json)
        except SparkFlowError as error:
            scrub(error, request.secrets)
            write_refused(summary_json, error, {"key": request.key, "nodes": []})
            code = report(error, debug=debug, secrets=request.secrets)
            return 0 if isinstance(error, NotAllArrived) and not error.requested else code
        if show:
            print_rows(run.outcomes, limit=show)
        return 0

    return command


def _run(request: JobRequest, *, plan: bool, as_json: bool, request_id: str, summary: Path | None) -> Run:
    config = request.load()
    if request.until:
        if request.only:
            raise InvalidArgument("--until", "--only beside it", "one of both")
        files.until(config, request.until)
    files.redo(config, start=request.start, only=request.only, rerun=request.rerun)  # validate before claiming anything
    if request.rerun and not plan:
        check_machine(delta="delta" in config.formats())  # before a new generation begins, which needs a session
    if warning := other_file(request, config):
        say(warning, err=True)
    application = Application(f"{config.pipeline} {config.key}")
    progress = PlanAsJson(config, say) if as_json else Progress()
    run = functools.partial(run_file, request, config, application=application, summary=summary, progress=progress)
    if plan:
        return run(RunRequest(key=config.key, request_id=request_id), plan=True)
    with alone(config, lambda words: say(f"waiting: {words}")) as claimed:
        mine = dataclasses.replace(claimed, request_id=request_id)
        return recomputing(lambda: run(mine))


def use_server(remote: str) -> None:
    """Use a Spark Connect server in this process and in the jobs that it starts.

    Raises:
        InvalidArgument: It is no address, or the process has Spark already.
    """
    if not remote:
        return
    if not remote.startswith("sc://"):
        raise InvalidArgument("--remote", remote, "an address as sc://host:15002")
    if os.environ.get("PYSPARK_GATEWAY_PORT"):
        raise InvalidArgument("--remote", "it under spark-submit", "spark-flow run, which starts no Spark of its own")
    os.environ["SPARK_REMOTE"] = remote
    os.environ.pop("MASTER", None)  # PySpark refuses both


def check_given(option: str, node: str | None) -> None:
    """Check that an option is not given with an empty value, which would run everything instead of a part.

    Raises:
        InvalidArgument: The value is empty.
    """
    if node == "":
        raise InvalidArgument(option, "an empty value", "a node's name, or leave the option out")


def said(error: BaseException) -> str:
    """Return a one-word category of an error."""
    words = {
        UsageError: "usage",
        EndedAfter: "ended",
        NotNow: "waiting",
        NothingToDo: "skipped",
        Interrupted: "interrupted",
    }
    return next((word for kind, word in words.items() if isinstance(error, kind)), "failed")
