"""The command line of streams: writes each batch of a YAML file's source to several Delta tables."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spark_flow import jobfile as files
from spark_flow.cli.job import DEBUG, command_line, report
from spark_flow.core.secrets import resolved
from spark_flow.errors import NodeFailed, SparkFlowError
from spark_flow.fan_out import split_batch
from spark_flow.jobfile.launch import Application
from spark_flow.jobfile.model.fields import texts
from spark_flow.storage.delta import DeltaSink
from spark_flow.storage.files import for_spark
from spark_flow.storage.reading import defaults
from spark_flow.storage.sources import parse_schema
from spark_flow.transforms import sql
from spark_flow.view.text import say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyspark.sql import DataFrame, SparkSession


WHERE = "Overrides of values: state, output, or any path in the file."


def main(argv: Sequence[str] | None = None, *, job: str) -> int:
    """Run a stream's command line until its trigger is done or it is stopped, and return its exit code.

    Args:
        argv: The arguments after the program's name.
        job: The path of the job's script. ``module:function`` is looked up in its folder, and the default of
            ``--config`` is ``conf/<name of the script>.yaml`` next to that folder.

    Returns:
        0 done, 1 failed, 2 bad config or usage, 130 interrupted.
    """
    path = Path(job).resolve()
    default = path.parent.parent / "conf" / f"{path.stem}.yaml"

    def command(
        overrides: Annotated[list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help=WHERE)] = None,
        config: Annotated[Path, typer.Option(help="The stream's YAML file.")] = default,
        debug: Annotated[bool, typer.Option("--debug", help=DEBUG)] = False,
    ) -> int:
        try:
            _run(files.load_stream(config, overrides or [], beside=path.parent), path.parent)
        except SparkFlowError as error:
            return report(error, debug=debug)
        return 0

    help_text = f"Run {path.stem}: write each batch to several tables, each row exactly once per table."
    return command_line(command, help_text, argv, path.name)


def _run(config: files.StreamConfig, beside: Path) -> None:
    application = Application(config.app_id)  # a session that existed before is not stopped
    raised: list[SparkFlowError] = []  # an error of a batch comes back through Java as text; this keeps the original
    with contextlib.closing(application), contextlib.ExitStack() as started:
        try:
            query = _start(application.session(delta=True, listener={}), config, beside, raised)
            started.callback(query.stop)
            query.awaitTermination()
        except SparkFlowError:
            raise
        except Exception as error:
            raise (raised[0] if raised else NodeFailed(config.app_id, error)) from error


def _start(spark: SparkSession, config: files.StreamConfig, beside: Path, raised: list[SparkFlowError]) -> Any:
    sinks = {name: (_transform(model.step, beside), _table(model)) for name, model in config.sinks.items()}
    split = split_batch(sinks, config.app_id, on_written=_report)

    def write(batch: DataFrame, number: int) -> None:
        try:
            split(batch, number)
        except SparkFlowError as error:
            raised.append(error)
            raise

    frame = _source(spark, config.source, beside)
    if config.each is not None:
        frame = files.resolve(config.each, beside=beside)(frame)  # type: ignore[operator]
    now = config.trigger == "available_now"
    trigger: dict[str, Any] = {"availableNow": True} if now else {"processingTime": config.trigger}
    writer = frame.writeStream.foreachBatch(write).queryName(config.app_id).trigger(**trigger)
    return writer.option("checkpointLocation", for_spark(config.checkpoint)).start()


def _source(spark: SparkSession, model: files.SourceModel, beside: Path) -> DataFrame:
    options = texts(model.options)
    reader = spark.readStream.format(model.format).options(**{**defaults(model.format, options), **resolved(options)})
    if model.schema_ is not None:
        schema = files.resolve(model.schema_, beside=beside) if files.is_reference(model.schema_) else model.schema_
        reader = reader.schema(parse_schema(schema, model.path))  # type: ignore[arg-type] # a reference may be anything
    return reader.load(for_spark(model.path))


def _transform(model: files.StepModel | None, beside: Path) -> Callable[[DataFrame], DataFrame]:
    if model is None:
        return lambda frame: frame
    if model.sql is not None:
        return sql(model.sql)
    return files.resolve(str(model.run), beside=beside)  # type: ignore[return-value]


def _table(model: files.SplitSinkModel) -> DeltaSink:
    sink = model.sink()
    if not isinstance(sink, DeltaSink):
        raise TypeError("a stream's sink must be a Delta table; the validation of the file rejects others")
    return sink


def _report(name: str, batch: int) -> None:
    say(f"batch {batch} written to {name}")
