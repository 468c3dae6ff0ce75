"""``spark-flow``: start a project, run and submit jobs; inspect runs from the ledger, without starting a JVM."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

COMMANDS = {
    "jobs": {
        "init": "Create a project: a job, its steps, sample data and a test, ready to run.",
        "run": "Run a job's YAML file in this process; `run --help` lists the options.",
        "single-runner": "Run several keys of a job one after another, in order.",
        "concurrent-runner": "Run several keys of a job in parallel.",
        "submit": "Run a job's YAML file, or a program, with spark-submit.",
        "spark-options": "Print the options for a spark-submit of your own.",
        "bundle": "Pack this virtual environment for machines whose Python has no spark_flow.",
        "doctor": "Check Java, Spark, Delta, Python workers, the state folder and the clock.",
    },
    "runs": {
        "status": "List the keys that ran last, with the state of each.",
        "show": "Show a key's last run as a tree: states, times, reasons, errors.",
        "runs": "List the attempts of a pipeline's runs, oldest first.",
        "graph": "Draw a job's file or a run, in Mermaid or DOT.",
        "completeness": "List the fan-ins of each key: what arrived, what is missing.",
        "report": "Write the runs as one HTML page.",
        "verify": "Compare a key's tables with the ledger.",
        "stale": "List keys that were computed from outdated data of another pipeline.",
        "leases": "List running and waiting claims, and leases that were taken over.",
    },
    "keys": {
        "backfill": "Rerun stale keys, providers before their consumers.",
        "rollback": "Publish an earlier generation's rows of a key again.",
        "forget": "Forget a key, so that its next run reuses nothing.",
        "adopt": "Take over keys whose rows are in the job's targets already.",
        "release": "Release a lease manually.",
        "compact": "Merge the small files of the ledger now.",
    },
    "orchestrators": {
        "export": "Write a job as Step Functions, EMR steps or Data Factory JSON.",
        "token-worker": "Run the tasks that Step Functions puts in a queue.",
    },
}
"""The commands by module, with a line for the list of all; a test compares it with the modules."""


class Commands(TyperGroup):
    """The commands; a module is imported when one of its commands is used, so that ``--help`` is quick.

    Typer has Click under one name or another, depending on its version, so Click's classes are not named.
    See https://click.palletsprojects.com/en/stable/complex/#lazily-loading-subcommands.
    """

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        """Return all names, in the order of the help."""
        return [name for commands in COMMANDS.values() for name in commands]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Import the module of a command, and return the command; ``None`` if there is none of this name."""
        of = next((module for module, commands in COMMANDS.items() if cmd_name in commands), None)
        if of is None:
            return None
        module = importlib.import_module(f"spark_flow.cli.commands.{of}")
        group = typer.main.get_group(module.app)
        return group.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command of a command line; the error for a misspelt one names the nearest."""
        near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
        if near and args[0] not in self.list_commands(ctx):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Print the list of all commands."""
        for module, commands in COMMANDS.items():
            with formatter.section(module.capitalize()):
                formatter.write_dl(list(commands.items()))


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Run data flows with Spark and Delta Lake, and inspect their runs: run the same command again, and what "
    "succeeded is reused, what failed runs again, nothing is written twice.",
)


def _version(wanted: bool) -> None:  # noqa: FBT001 - Typer's callback
    if wanted:
        names = ("spark-flow", "pyspark", "delta-spark")
        ours, *others = (f"{name} {importlib.metadata.version(name)}" for name in names)
        typer.echo(f"{ours} ({', '.join(others)})")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]


@app.callback()
def options(version: Version = False) -> None:
    """Options before any command."""


if __name__ == "__main__":
    app()
