"""The command lines of the single and the concurrent runner: run any job's YAML file for several keys."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from spark_flow import jobfile as files
from spark_flow.cli.job import DEBUG, Remote, check_given, command_line, report, use_server, with_parameters
from spark_flow.core.secrets import scrub
from spark_flow.errors import InvalidArgument, SparkFlowError
from spark_flow.jobfile.launch import Application
from spark_flow.jobfile.pipelines import pipeline_of, submitted
from spark_flow.jobfile.request import JobRequest, other_file
from spark_flow.orchestration.concurrent_runner import MAX_ACTIVE_RUNS, ConcurrentRunner
from spark_flow.orchestration.pipeline import RunnerInterrupted
from spark_flow.orchestration.reprocess_request import ReprocessRequest, open_request
from spark_flow.orchestration.single_runner import SingleRunner
from spark_flow.spark.submit import is_yaml, yaml_of
from spark_flow.view.progress import COLOURS, Progress
from spark_flow.view.summary import check_summary, write_refused, write_summary
from spark_flow.view.tables import print_rows, runs, wide_console
from spark_flow.view.text import cell, markup, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spark_flow.core.secrets import Redactor
    from spark_flow.engine.outcome import Observer
    from spark_flow.orchestration.key_plan import Planned, Reprocess
    from spark_flow.orchestration.pipeline import Pipeline, Summary

Kind = Literal["single", "concurrent"]

_STAND_IN = "2013-01-02"  # a placeholder, as the file is read before its keys are known


def main(argv: Sequence[str] | None = None, *, job: str, kind: Kind, observers: Sequence[Observer] = ()) -> int:
    """Run a runner's command line, and return its exit code.

    Args:
        argv: The arguments after the program's name.
        job: The path of the runner's script; the default of ``--config`` is ``conf/<name of the script>.yaml`` next to
            the script's folder.
        kind: Which runner.
        observers: Called with each run's progress (crash injection in tests).

    Returns:
        0 all keys done, 1 a key failed, 2 bad config or usage, 75 a key has to wait or another process is running,
        130 interrupted.
    """
    path = Path(job).resolve()
    way = "one after another, in order" if kind == "single" else "in parallel"
    text = f"Run the keys of a job's file {way}. KEYS are comma-separated keys and ranges, as 2013-01-01..2013-01-04; "
    text += "by default all of runner.calendar. Any value of the file can be set as name=value."
    given = sys.argv[1:] if argv is None else argv
    rewritten, options = with_parameters(given, yaml_of(path))
    name = f"spark-flow {kind}-runner {path.name}" if is_yaml(path.name) else path.name
    return command_line(_command(path, kind, observers), text, rewritten, name, options)


def _command(runner: Path, kind: Kind, observers: Sequence[Observer]) -> Callable[..., int]:
    default = yaml_of(runner)

    def command(
        words: Annotated[
            list[str] | None,
            typer.Argument(metavar="[KEYS] [NAME=VALUE]...", help="Keys; state, output, or any path in the file."),
        ] = None,
        config: Path = typer.Option(default, help="The YAML file of a job.", hidden=is_yaml(runner.name)),  # noqa: B008
        job: Annotated[
            Path | None, typer.Option(help="The script of the file's job; by default the one with the file's name.")
        ] = None,
        plan: Annotated[bool, typer.Option("--plan", help="Show what would be done with each key.")] = False,
        reprocess: Annotated[
            str,
            typer.Option(help="Which keys to run again: none, failed, or all. Default: runner.reprocess."),
        ] = "",
        start: Annotated[
            str | None,
            typer.Option("--from", help="For each key, run this node and all downstream nodes again.", metavar="NODE"),
        ] = None,
        only: Annotated[
            list[str] | None,
            typer.Option(help="For each key, run only this node again. May be repeated.", metavar="NODE"),
        ] = None,
        show: Annotated[int, typer.Option(min=0, help="Print this many rows of each table that was written.")] = 0,
        request_id: Annotated[
            str, typer.Option(help="Request id. A new id runs the keys again; the same id resumes.")
        ] = "",
        summary_json: Annotated[Path | None, typer.Option(help="Write the result of each key to this file.")] = None,
        remote: Remote = "",
        debug: Annotated[bool, typer.Option("--debug", help=DEBUG)] = False,
    ) -> int:
        keys = ",".join(word for word in words or () if "=" not in word)
        request = JobRequest(
            job=(job or _job_of(runner, config)).resolve(),
            config=config,
            overrides=tuple(word for word in words or () if "=" in word),
            start=start or "",
            only=tuple(only or ()),
            observers=tuple(observers),
        )
        if reprocess:
            request = dataclasses.replace(request, overrides=(*request.overrides, f"runner.reprocess={reprocess}"))
        try:
            check_summary(summary_json)
            check_given("--from", start)
            use_server(remote)
            _check_words(words or (), job)
            return _run(_Command(kind, request, keys, request_id, summary_json, show), plan=plan)
        except SparkFlowError as error:
            scrub(error, request.secrets)
            write_refused(summary_json, error, {"keys": []})
            return report(error, debug=debug, secrets=request.secrets)

    return command


def _check_words(words: Sequence[str], job: Path | None) -> None:
    """Check arguments that would otherwise run more, or something else, than intended.

    Raises:
        InvalidArgument: KEYS are empty, as from an unset variable, or the job does not exist.
    """
    if any(not word.strip() for word in words):
        raise InvalidArgument("KEYS", "an empty value", "keys, as 2013-01-01..2013-01-04, or leave them out for all")
    if job is not None and not job.is_file():
        raise InvalidArgument("--job", f"no such file: {job}", "the path of the file's job")


def _job_of(runner: Path, config: Path) -> Path:
    """Return the job of a file: the script with the same name next to the runner, else the runner itself."""
    named = runner.with_name(f"{config.stem}.py")
    return named if named.exists() else runner


@dataclasses.dataclass(frozen=True)
class _Command:
    kind: Kind
    request: JobRequest
    keys: str
    request_id: str
    summary: Path | None
    show: int = 0


def _run(call: _Command, *, plan: bool) -> int:
    request = call.request
    if any(word.startswith("key=") for word in request.overrides):
        raise InvalidArgument("key", "key=…", "the keys by themselves, as 2013-01-01..2013-01-04")
    config = request.of(re.split(r"\.\.|,", call.keys)[0].strip() or _STAND_IN).load(any_key=True)
    redo = files.redo(config, start=request.start, only=request.only)  # validates the options before anything runs
    config.runner.keys_of.keys(call.keys)  # refuse bad keys before a state folder is created
    if warning := other_file(request, config):
        say(warning, err=True)
    application = Application(config.pipeline, shared=True)
    with _request(call, config, rerun=redo is not None, plan=plan) as wanted, contextlib.closing(application):
        runner = _runner(call, config, application, wanted.request_id, rerun=redo is not None)
        if plan:
            _print_plan(runner.plan(call.keys))
            return 0
        try:
            summary = runner.run(call.keys)
        except RunnerInterrupted as stopped:
            _finish(stopped.summary, call.summary, request.secrets)
            raise
        _finish(summary, call.summary, request.secrets)  # first, as the keys are done, and the rest may fail
        wanted.done = summary.exit_code == 0
        if call.show:
            _show(runner.pipeline, summary, call.show)
    return summary.exit_code


def _show(pipeline: Pipeline, summary: Summary, limit: int) -> None:
    """Print rows of the tables that each key's run has written, now or before, like ``--show`` of a job."""
    for result in summary.results:
        if result.state in ("succeeded", "reused"):
            typer.echo(f"{pipeline.name} {result.key}:")
            for view in runs(pipeline.ledger.read(pipeline.name, result.key)):
                print_rows(view.nodes, limit=limit)


def _request(
    call: _Command, config: files.JobConfig, *, rerun: bool, plan: bool
) -> contextlib.AbstractContextManager[ReprocessRequest]:
    """Return the request of this call: repeated, it runs each key again only once."""
    if plan or call.request_id or not (rerun or config.runner.reprocess == "all"):
        return contextlib.nullcontext(ReprocessRequest(call.request_id))
    request = call.request
    return open_request(config.state, config.pipeline, "reprocess", call.keys, request.start, *request.only)


def _runner(
    call: _Command, config: files.JobConfig, application: Application, request_id: str, *, rerun: bool
) -> SingleRunner | ConcurrentRunner:
    model = config.runner
    depends, active = model.depends_on_past, model.max_active_runs
    reprocess: Reprocess = "all" if rerun else model.reprocess

    def report(words: str) -> None:
        say(call.request.secrets(words))

    if call.kind == "single":
        if active not in (None, 1):
            raise InvalidArgument("runner.max_active_runs", str(active), "1 for the single runner")
        return SingleRunner(
            _pipeline(call, config, application, Progress),
            model.keys_of,
            depends_on_past=depends is not False,  # names of nodes: running whole keys in order implies it
            after_marker=model.after_marker or "",
            markers=config.markers,
            on_busy=model.on_busy,
            queue=model.queue,
            reprocess=reprocess,
            straggler=model.straggler.straggler,
            request_id=request_id,
            report=report,
        )
    if depends is True:
        raise InvalidArgument(
            "runner.depends_on_past", "true", "names of nodes, or use the single runner (jobs/single_runner.py)"
        )
    return ConcurrentRunner(
        _pipeline(call, config, application, None),
        model.keys_of,
        max_active_runs=active or MAX_ACTIVE_RUNS,
        depends_on_past=depends or (),
        shared_state=model.shared_state,
        first=model.first,
        on_busy=model.on_busy,
        queue=model.queue,
        reprocess=reprocess,
        straggler=model.straggler.straggler,
        request_id=request_id,
        report=report,
    )


def _pipeline(
    call: _Command, config: files.JobConfig, application: Application, progress: Callable[[], Progress] | None
) -> Pipeline:
    if config.runner.launch == "submit":
        return submitted(call.request, config)
    return pipeline_of(call.request, config, application, progress=progress)


def _print_plan(planned: Sequence[Planned]) -> None:
    table = Table("key", "what", "why", box=None)
    for each in planned:
        table.add_row(*map(cell, (each.key, each.what, each.reason)))
    wide_console().print(table)


def _finish(summary: Summary, path: Path | None, secrets: Redactor) -> None:
    """Write the summary to its file, and print the results."""
    try:
        write_summary(path, secrets.facts(summary.facts))
    finally:
        _print_results(summary, secrets)


def _print_results(summary: Summary, secrets: Redactor) -> None:
    table = Table("key", "state", "seconds", "reason", box=None)
    for result in summary.results:
        took = f"{result.seconds:.1f}" if result.seconds else ""
        colour = COLOURS.get(result.state, "blue")
        table.add_row(cell(result.key), Text(result.state, colour), took, cell(secrets(result.reason)))
    console = wide_console()
    console.print(table)
    counts = ", ".join(f"{count} {state}" for state, count in summary.counts.items())
    console.print(f"[bold]{markup(summary.pipeline)}[/]: {counts}")
