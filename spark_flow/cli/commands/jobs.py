"""Commands about jobs: start a project, run and submit jobs, and check the machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from spark_flow.cli import doctor as checks
from spark_flow.cli import project, submit
from spark_flow.cli import run as run_job
from spark_flow.cli.commands.shared import State, reported
from spark_flow.spark.bundle import bundle
from spark_flow.view.text import say

app = typer.Typer(rich_markup_mode=None)


@app.command()
def init(name: Annotated[str, typer.Argument(help="The project's folder; must be empty or new.")]) -> None:
    """Create a project: a job, its steps, sample data and a test, ready to run."""
    with reported():
        folder = project.create(name)
    say(f"created {folder}: a job (job.yaml), its steps (steps.py), data, and a test\n")
    say(f"  cd {folder}\n  spark-flow run job.yaml key=2024-03-01\n  pytest")


# The rest of the line is the job's, or spark-submit's.
_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


@app.command(context_settings=_PASSED_ON, add_help_option=False, options_metavar="JOB.yaml key=KEY [OPTIONS]")
def run(context: typer.Context) -> None:
    """Run a job's YAML file in this process; `run --help` lists the options."""
    raise typer.Exit(run_job.main(context.args))


@app.command(context_settings=_PASSED_ON, add_help_option=False, options_metavar="JOB.yaml [KEYS] [OPTIONS]")
def single_runner(context: typer.Context) -> None:
    """Run several keys of a job one after another, in order; `single-runner JOB.yaml --help` lists the options."""
    raise typer.Exit(run_job.main(context.args, runner="single"))


@app.command(context_settings=_PASSED_ON, add_help_option=False, options_metavar="JOB.yaml [KEYS] [OPTIONS]")
def concurrent_runner(context: typer.Context) -> None:
    """Run several keys of a job in parallel; `concurrent-runner JOB.yaml --help` lists the options."""
    raise typer.Exit(run_job.main(context.args, runner="concurrent"))


@app.command("submit", context_settings=_PASSED_ON, add_help_option=False, options_metavar="[OPTIONS] FILE [ARGUMENTS]")
def submit_(context: typer.Context) -> None:
    """Run a job's YAML file, or a program, with spark-submit; takes spark-submit's options."""
    raise typer.Exit(submit.main(context.args))


@app.command(context_settings=_PASSED_ON, add_help_option=False, options_metavar="[SPARK-SUBMIT'S OPTIONS]")
def spark_options(context: typer.Context) -> None:
    """Print the options for a spark-submit of your own: spark-submit $(spark-flow spark-options) program.py."""
    with reported():
        say(submit.shown(context.args))


@app.command("bundle")
def bundle_(
    out: Annotated[Path, typer.Option(help="The archive, .tar.gz or .zip; one that is there is replaced.")] = Path(
        "environment.tar.gz"
    ),
) -> None:
    """Pack this virtual environment, without Spark's jars, for machines whose Python has no spark_flow."""
    with reported():
        size = bundle(out)
    say(f"wrote {out} ({size / 1e6:.0f} MB). On a machine with Spark (SPARK_HOME) and Python {sys.version[:4]}:\n")
    say(f"  mkdir environment && tar -xzf {out.name} -C environment && source environment/bin/activate")
    options = f"--archives {out.name}#environment --conf spark.pyspark.python=./environment/bin/python"
    say(f"  spark-flow submit --master spark://host:7077 {options} job.yaml key=2024-03-01")


@app.command()
def doctor(state: State = "state") -> None:
    """Check Java, Spark, Delta, Python workers, the state folder and the clock; exit 1 if anything needs a fix."""
    wrong = 0
    for one in checks.checks(state):
        wrong += bool(one.fix)
        say(f"{'FIX' if one.fix else 'ok':4} {one.name:14} {one.found}" + (f"\n     {one.fix}" if one.fix else ""))
    if wrong:
        raise typer.Exit(1)
