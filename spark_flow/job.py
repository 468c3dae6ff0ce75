"""The command line of every job: a YAML file, a key, and a run of its flow."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spark_flow import config as files
from spark_flow.errors import SparkFlowError, UsageError
from spark_flow.frames import LazyFrame, Scope, read, write
from spark_flow.run import Run
from spark_flow.sequence import Step, local_sequencer, step, transaction
from spark_flow.session import session
from spark_flow.storage.delta import delta
from spark_flow.storage.folders import FolderSink
from spark_flow.storage.sources import Source, source
from spark_flow.transforms import sql
from spark_flow.view.progress import Progress
from spark_flow.view.tables import print_rows

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from spark_flow.run import Observer
    from spark_flow.storage.port import Sink

Entry = Callable[["Flow", Any, Scope, "LazyFrame | None"], "LazyFrame | None"]


class Flow:
    """A config file on its way through a run: sources by name, and how to find ``module:function``."""

    def __init__(self, config: files.JobConfig, run: Run, beside: Path | None) -> None:
        self.run = run
        self._config = config
        self._beside = beside

    def source(self, name: str) -> Source:
        """The source that a name in the file stands for."""
        model = self._config.sources[name]
        schema = self.resolve(model.schema_) if model.schema_ and files.is_reference(model.schema_) else model.schema_
        options = {"schema": schema, "branches": model.branch_names(), "options": _texts(model.options)}
        policy = model.bad_records or "fail"
        return source(model.format, model.path, bad_records=policy, version=model.version, **options)  # type: ignore[arg-type]

    def step(self, model: files.StepModel) -> Step:
        """The step that an entry of the file stands for."""
        transform = sql(model.sql) if model.sql is not None else self.resolve(str(model.run))
        named, plain = model.split_with(self._config.sources)
        frames = {argument: read(self.run, name, self.source(name)) for argument, name in named.items()}
        settings = {"name": model.name, "restart": model.restart, "version": model.version or ""}
        return step(transform, **settings, **plain, **frames)  # type: ignore[arg-type]

    def resolve(self, reference: str) -> Any:
        """What ``module:name`` stands for."""
        return files.resolve(reference, beside=self._beside)


def execute(config: files.JobConfig, run: Run, *, beside: Path | None = None) -> None:
    """Walk a file's flow: what is lazy is declared, what writes is done, once.

    Raises:
        SparkFlowError: As the entries' patterns do.
    """
    _walk(Flow(config, run, beside), config.flow, run, None)


def _walk(flow: Flow, entries: Sequence[Any], scope: Scope, frame: LazyFrame | None) -> LazyFrame | None:
    for entry in entries:
        frame = ENTRIES[entry.pattern](flow, entry, scope, frame)
    return frame


def _read(flow: Flow, entry: files.ReadModel, scope: Scope, _: LazyFrame | None) -> LazyFrame:
    return read(scope.run, entry.source, flow.source(entry.source))


def _step(flow: Flow, entry: files.StepModel, scope: Scope, frame: LazyFrame | None) -> LazyFrame:
    return local_sequencer(scope.run, _needed(frame), [flow.step(entry)])


def _write(_: Flow, entry: files.WriteModel, scope: Scope, frame: LazyFrame | None) -> LazyFrame:
    write(scope, entry.name, _needed(frame), _sink(entry))
    return _needed(frame)


def _transaction(flow: Flow, entry: files.TransactionModel, scope: Scope, frame: LazyFrame | None) -> LazyFrame | None:
    with transaction(scope.run, entry.name) as within:
        return _walk(flow, entry.flow, within, frame)


ENTRIES: Mapping[str, Entry] = {"read": _read, "step": _step, "write": _write, "transaction": _transaction}
"""What each pattern of a file does; the models that describe them are in ``spark_flow.config``."""


def _sink(model: files.WriteModel) -> Sink:
    options = _texts(model.options)
    if model.format == "delta":
        settings = {"replace_where": model.replace_where, "properties": _texts(model.properties)}
        return delta(model.path, partition_by=model.partition_by, mode=model.mode, options=options, **settings)  # type: ignore[arg-type]
    defaults = {"header": "true"} if model.format == "csv" else {}
    return FolderSink(model.format, model.path, model.partition_by, {**defaults, **options})


def _texts(options: Mapping[str, Any]) -> dict[str, str]:
    """Options as Spark takes them: booleans in lower case."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in options.items()}


def _needed(frame: LazyFrame | None) -> LazyFrame:
    if frame is None:
        raise ValueError("a flow starts with a read; the config's checks refuse others")
    return frame


def main(argv: Sequence[str] | None = None, *, job: str, observers: Sequence[Observer] = ()) -> int:
    """Run a job's command line; returns its exit code.

    Args:
        argv: The arguments after the program's name.
        job: The job's own file: its folder is where ``module:function`` is looked up, and
            ``conf/<its name>.yaml`` beside that folder is the default of ``--config``.
        observers: Told of the run's progress (crash injection in tests).

    Returns:
        0 done (also when all was reused), 1 failed, 2 bad config or usage.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=_help(job))(_command(Path(job).resolve(), observers))
    try:
        code = app(list(argv) if argv is not None else None, prog_name=Path(job).name, standalone_mode=False)
    except typer.Exit as leave:
        code = leave.exit_code
    except Exception as error:
        show = getattr(error, "show", None)  # the parser's own errors: an unknown option, a missing value
        if show is None:
            raise
        show()
        return 2
    return int(code or 0)


def _help(job: str) -> str:
    return f"Run {Path(job).stem}. Give the key as key=2013-01-02; any value of the file can be set as name=value."


def _command(job: Path, observers: Sequence[Observer]) -> Callable[..., int]:
    default = job.parent.parent / "conf" / f"{job.stem}.yaml"

    def command(
        overrides: Annotated[
            list[str] | None,
            typer.Argument(metavar="[NAME=VALUE]...", help="key, state, output, or any path into the file."),
        ] = None,
        config: Annotated[Path, typer.Option(help="The job's YAML file.")] = default,
        plan: Annotated[bool, typer.Option("--plan", help="Show what would run or be reused; run no action.")] = False,
        rerun: Annotated[bool, typer.Option("--rerun", help="Do all of it anew and replace the key's rows.")] = False,
        show: Annotated[int, typer.Option(help="Print this many rows of each table written.")] = 0,
        summary_json: Annotated[Path | None, typer.Option(help="Write the run's summary to this file.")] = None,
    ) -> int:
        try:
            return _run(
                job,
                config,
                overrides or [],
                observers,
                plan=plan,
                rerun=rerun,
                show=show,
                summary=summary_json,
            )
        except SparkFlowError as error:
            typer.echo(f"{'usage' if isinstance(error, UsageError) else 'failed'}: {error}", err=True)
            return error.exit_code

    return command


def _run(
    job: Path,
    path: Path,
    overrides: Sequence[str],
    observers: Sequence[Observer],
    *,
    plan: bool,
    rerun: bool,
    show: int,
    summary: Path | None,
) -> int:
    config = files.load(path, overrides, beside=job.parent)
    holder: list[SparkSession] = []

    def spark() -> SparkSession:
        holder.append(session(f"{config.pipeline} {config.key}"))
        return holder[0]

    progress = Progress()
    run = Run.open(
        config.pipeline,
        config.key,
        state=config.state,
        spark=spark,
        rerun=rerun,
        plan=plan,
        observers=[progress, *observers],
        retention=dt.timedelta(days=config.retention_days),
    )
    progress.begin(run)
    try:
        with run:
            execute(config, run, beside=job.parent)
    finally:
        if summary is not None:
            summary.parent.mkdir(parents=True, exist_ok=True)
            summary.write_text(json.dumps(run.summary(), indent=1) + "\n")
        progress.finish(run)
        for started in holder:
            started.stop()
    if show:
        print_rows(run.outcomes, limit=show)
    return 0
