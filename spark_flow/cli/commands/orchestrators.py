"""Commands for orchestrators: export a job as their files, and run what they ask for."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spark_flow.cli.commands.shared import reported
from spark_flow.errors import InvalidArgument
from spark_flow.export import data_factory, emr, step_functions, token_worker
from spark_flow.export.tasks import Job, Tasks
from spark_flow.jobfile.plan import draw
from spark_flow.storage import files
from spark_flow.view.text import say

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(rich_markup_mode=None)
export = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(export, name="export", help="Write a job as Step Functions, EMR steps or Data Factory JSON.")

File = Annotated[str, typer.Argument(help="The job's YAML file, as its machine will see it.", metavar="JOB.yaml")]
Values = Annotated[list[str] | None, typer.Argument(help="Values of the file.", metavar="[NAME=VALUE]...")]
Split = Annotated[
    Tasks, typer.Option("--tasks", help="One task for the job, or one for each checkpoint, sink, choice and route.")
]
Branches = Annotated[
    list[str] | None,
    typer.Option(
        "--branches",
        help="The file of the pipeline that the job waits for first: run for each of its keys.",
        metavar="FILE",
    ),
]
Out = Annotated[Path | None, typer.Option("--out", help="Write to this file, instead of printing.")]


@export.command("stepfunctions")
def stepfunctions(
    file: File,
    values: Values = None,
    split: Split = "job",
    branches: Branches = None,
    runner: Annotated[
        Literal["worker", "emr"], typer.Option(help="Jobs run at a `spark-flow token-worker`, or as steps of EMR.")
    ] = "worker",
    queue_url: Annotated[str, typer.Option(help="The queue of SQS that the worker listens to.", metavar="URL")] = "",
    retry_seconds: Annotated[int, typer.Option(min=1, help="Seconds before a task is tried again, at first.")] = 60,
    out: Out = None,
) -> None:
    """Write a state machine of AWS Step Functions, whose input is {"key": "2013-01-02"}."""
    with reported():
        if runner == "worker" and not queue_url:
            raise InvalidArgument("--queue-url", "nothing", "the queue's URL, or --runner emr")
        where = step_functions.Worker(queue_url=queue_url) if runner == "worker" else step_functions.Emr()
        job, others = _job(file, values), [_job(each, None) for each in branches or ()]
        made = step_functions.state_machine(job, where, how=split, branches=others, retry_seconds=retry_seconds)
        _write(made, out)


@export.command("emr")
def emr_(
    file: File,
    words: Annotated[
        list[str] | None, typer.Argument(help="Keys and ranges; values of the file.", metavar="[KEYS] [NAME=VALUE]...")
    ] = None,
    split: Split = "job",
    out: Out = None,
) -> None:
    """Write steps of Amazon EMR for several keys, with StepConcurrencyLevel from the file's runner."""
    with reported():
        values = [word for word in words or () if "=" in word]
        keys = ",".join(word for word in words or () if "=" not in word)
        _write(emr.steps(_job(file, values), keys, how=split), out)


@export.command("datafactory")
def datafactory(
    file: File,
    values: Values = None,
    split: Split = "job",
    branches: Branches = None,
    linked_service: Annotated[str, typer.Option(help="The linked service of Azure Batch.")] = "AzureBatch",
    out: Out = None,
) -> None:
    """Write a pipeline of Azure Data Factory, with the parameters key and request_id."""
    with reported():
        job, others = _job(file, values), [_job(each, None) for each in branches or ()]
        _write(data_factory.pipeline(job, how=split, branches=others, linked_service=linked_service), out)


@app.command("token-worker")
def token_worker_(
    queue_url: Annotated[str, typer.Option(help="The queue of SQS.", metavar="URL")],
    most: Annotated[int | None, typer.Option(min=1, help="End after this many tasks.")] = None,
) -> None:
    """Run the tasks that a state machine puts in a queue, one at a time, and report each to its token."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # its job is interrupted as by Ctrl-C
    with reported():
        token_worker.TokenWorker(queue_url, say=say).work(most=most)


def _job(file: str, values: Sequence[str] | None) -> Job:
    return Job(file=file, graph=draw(Path(file), values or []), overrides=values or [])


def _write(made: tuple[dict[str, Any], list[str]], out: Path | None) -> None:
    content, notes = made
    text = json.dumps(content, indent=2, ensure_ascii=False)
    if out is None:
        say(text)
    else:
        files.write_bytes(str(out), f"{text}\n".encode())
        say(f"wrote {out}")
    for note in notes:
        say(f"note: {note}", err=True)
