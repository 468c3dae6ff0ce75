"""``spark-flow``: start a project, run and submit jobs; inspect runs from the ledger, without starting a JVM."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.table import Table

from spark_flow.cli import adopt as adoptions
from spark_flow.cli import doctor as checks
from spark_flow.cli import project, submit
from spark_flow.cli import run as run_job
from spark_flow.errors import Busy, SparkFlowError, describe, some
from spark_flow.ledger import DeltaLedger, Event
from spark_flow.operations import backfill as backfills
from spark_flow.operations import forget as forgetting
from spark_flow.operations import rollback as rollbacks
from spark_flow.operations.stale import KINDS, StaleKey
from spark_flow.operations.stale import stale as find_stale
from spark_flow.operations.verify import verify as check
from spark_flow.orchestration.leases import Leases, PoolDocument, free, hold
from spark_flow.spark.bundle import bundle
from spark_flow.spark.session import session
from spark_flow.storage import files
from spark_flow.view.tables import attempts, attempts_table, leases_table, run_table, runs, status_table, wide_console
from spark_flow.view.text import cell, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from spark_flow.orchestration.claims import Pool
    from spark_flow.orchestration.leases import Lease

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Run data flows with Spark and Delta Lake, and inspect their runs: run the same command again, and what "
    "succeeded is reused, what failed runs again, nothing is written twice.",
)

State = Annotated[str, typer.Option(help="The state folder, a path or URI.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Pipeline = Annotated[str, typer.Argument(help="The pipeline's name.")]
WORDS = "KEYS [NAME=VALUE]..."
Key = Annotated[str, typer.Argument(help="The unit of work, as 2013-01-02.")]


def _version(wanted: bool) -> None:  # noqa: FBT001 - Typer's callback
    if wanted:
        names = ("spark-flow", "pyspark", "delta-spark")
        ours, *others = (f"{name} {importlib.metadata.version(name)}" for name in names)
        say(f"{ours} ({', '.join(others)})")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")]


@app.callback()
def options(version: Version = False) -> None:
    """Options before any command."""


@app.command()
def init(name: Annotated[str, typer.Argument(help="The project's folder; must be empty or new.")]) -> None:
    """Create a project: a job, its steps, sample data and a test, ready to run."""
    with _reported():
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
    with _reported():
        say(submit.shown(context.args))


@app.command("bundle")
def bundle_(
    out: Annotated[Path, typer.Option(help="The archive, .tar.gz or .zip; one that is there is replaced.")] = Path(
        "environment.tar.gz"
    ),
) -> None:
    """Pack this virtual environment, without Spark's jars, for machines whose Python has no spark_flow."""
    with _reported():
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


@app.command()
def status(
    pipeline: Annotated[str | None, typer.Argument(help="Only this pipeline.")] = None,
    state: State = "state",
    last: Annotated[int, typer.Option(min=1, help="Only the keys that were run last.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="All keys.")] = False,
    as_json: Json = False,
) -> None:
    """List the runs in the ledger: the last generation and attempt of each key, of the 50 that were run last."""
    with _reported():
        ledger = DeltaLedger(state, create=False)
        events = ledger.read(pipeline) if everything else ledger.latest(pipeline, last=last)
        left = 0 if everything else len(ledger.recorded_keys(pipeline)) - last
    if pipeline and not events:
        _unknown(ledger, state, pipeline)
    views = runs(events)
    if as_json:
        _print_json(
            [{**{k: v for k, v in view.summary.items() if k != "nodes"}, "counts": view.counts} for view in views]
        )
    elif views:
        wide_console().print(status_table(views))
        if left > 0:
            say(f"{left} more key(s) were run before: --last N, or --all")
    else:
        say(f"no runs in {state}")


@app.command()
def show(pipeline: Pipeline, key: Key, state: State = "state", as_json: Json = False) -> None:
    """Show the nodes of a key's last generation."""
    (view,) = runs(_known(state, pipeline, key))
    if as_json:
        _print_json(view.summary)
        return
    console = wide_console()
    console.print(cell(f"{pipeline} {key} generation {view.generation}, attempt {view.attempt}: {view.state}"))
    console.print(run_table(view))


@app.command("runs")
def runs_(
    pipeline: Pipeline,
    key: Annotated[str | None, typer.Argument(help="Only this key.")] = None,
    state: State = "state",
    last: Annotated[int, typer.Option(min=1, help="Only the latest attempts.")] = 50,
    as_json: Json = False,
) -> None:
    """List the attempts of a pipeline's runs, oldest first: when each began, how it ended, and why."""
    with _reported():
        ledger = DeltaLedger(state, create=False)
        events = ledger.read(pipeline, key) if key else ledger.latest(pipeline, last=last)
    if not events:
        _unknown(ledger, state, pipeline, key)
    views = attempts(events)[-last:]
    if as_json:
        _print_json([{**view.summary, "counts": view.counts} for view in views])
    else:
        wide_console().print(attempts_table(views))


Folder = Annotated[
    str, typer.Option("--leases", help="The folder of leases, if it is not <state>/leases, e.g. for shared pools.")
]


@app.command()
def forget(
    pipeline: Pipeline,
    key: Key,
    state: State = "state",
    folder: Folder = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Forget a key, so that its next run reuses nothing; delete its checkpoints, and list what it has written.

    Its rows and markers stay until the next run replaces them. Refused while the key runs.
    """
    events = _known(state, pipeline, key)
    left = forgetting.left_behind(events)
    for one in left:
        say(f"{one.what:7} {one.node}: {one.path}" + (f", {one.rows} row(s)" if one.rows is not None else ""))
    if not yes and not typer.confirm(f"forget {pipeline} {key}? What is listed above stays; checkpoints are deleted"):
        raise typer.Exit(1)
    with _reported(), _alone(state, folder, pipeline, key) as lease:
        ledger = DeltaLedger(state)
        forgetting.forget(ledger, state, ledger.read(pipeline, key), lease)
    say(f"forgot {pipeline} {key}: its next run is a new generation that reuses nothing")


@app.command()
def rollback(
    pipeline: Pipeline,
    key: Key,
    to: Annotated[
        int | None, typer.Option(min=1, help="The generation; by default the last that succeeded before.")
    ] = None,
    state: State = "state",
    folder: Folder = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Publish an earlier generation's rows of a key again, as the next generation; `stale` then lists its consumers.

    Refused while the key runs, and where the rows of a table are gone (VACUUM) or cannot be replaced.
    """
    events = _known(state, pipeline, key)
    with _reported():
        planned = rollbacks.plan(events, to=to or 0)
    for event in planned.events:
        say(f"{event.kind:7} {event.node}" + (f", {event.rows} row(s)" if event.rows is not None else ""))
    question = f"publish generation {planned.to} of {pipeline} {key} again, in place of generation {planned.current}?"
    if not yes and not typer.confirm(question):
        raise typer.Exit(1)
    with _reported(), _alone(state, folder, pipeline, key) as lease:
        ledger = DeltaLedger(state)
        if rollbacks.plan(ledger.read(pipeline, key), to=to or 0) != planned:
            raise Busy(f"pipelines/{pipeline}", key, ["a run that ended meanwhile"])
        done = rollbacks.rollback(session("spark_flow rollback"), ledger, state, planned, lease)
    say(f"{pipeline} {key} generation {done.generation} has the rows of generation {planned.to}")


@app.command("adopt")
def adopt_(
    job: Annotated[Path, typer.Argument(help="The job's YAML file.", metavar="JOB.yaml")],
    words: Annotated[
        list[str], typer.Argument(help="Keys and ranges, as 2013-01-01..2013-01-31; values of the file.", metavar=WORDS)
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take over keys whose rows are in the job's targets already: they count as done, and nothing is computed.

    Refused for keys that were run, and unless all targets hold rows of the key. No marker is published.
    """
    with _reported():
        adopted = adoptions.prepare(job, words)
    for key, found in adopted.keys.items():
        for one in found:
            say(f"{key}  {one.node}: {one.words} in {one.path}")
    if not yes and not typer.confirm(f"adopt {len(adopted.keys)} key(s) of {adopted.pipeline}?"):
        raise typer.Exit(1)
    with _reported():
        adoptions.record(adopted)
    say(f"adopted {len(adopted.keys)} key(s) of {adopted.pipeline}: --rerun computes one, forget makes it new")


@app.command()
def compact(state: State = "state") -> None:
    """Merge the small files of the ledger now; runs do it by themselves every 100 commits."""
    with _reported():
        before, after = DeltaLedger(state, create=False).compact()
    say(f"{before} file(s) became {after}" if before else f"no ledger in {state}")


@app.command()
def verify(
    pipeline: Pipeline,
    key: Key,
    state: State = "state",
    deep: Annotated[bool, typer.Option("--deep", help="Read all rows with Spark, and compare their hash.")] = False,
    as_json: Json = False,
) -> None:
    """Compare a key's tables with the ledger; exit 1 unless all of them are as they were written.

    Nodes whose input files have changed since are listed as ``changed``, which is not an error.

    By default files, sizes and Parquet footers are compared, without Spark; --deep reads the rows.
    """
    findings = check(_known(state, pipeline, key), deep=session("spark_flow verify") if deep else None)
    if as_json:
        _print_json([dataclasses.asdict(f) for f in findings])
    else:
        table = Table("node", "state", "recorded", "found", "path", "reason", box=None)
        for f in findings:
            table.add_row(*map(cell, (f.node, f.state, f.recorded, f.found, f.path, f.reason)))
        wide_console().print(table)
    if any(f.state not in ("ok", "changed") for f in findings):
        raise typer.Exit(1)


States = Annotated[
    list[str], typer.Option("--state", help="A state folder. May be repeated, for other teams' consumers.")
]


@app.command()
def stale(state: States = ["state"], as_json: Json = False) -> None:  # noqa: B006 - Typer needs a list as default
    """List stale keys: consumers' keys that were computed from outdated content of a readiness marker."""
    found = find_stale(_read(state))
    if as_json:
        _print_json([{**dataclasses.asdict(one), "hops": one.hops, "reason": one.reason} for one in found])
    elif found:
        _print_stale(found)
    else:
        say(f"nothing is stale in {', '.join(state)}")


@app.command()
def backfill(
    only_stale: Annotated[bool, typer.Option("--stale", help="Rerun the keys that `spark-flow stale` lists.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Print the commands; run nothing.")] = False,
    launcher: Annotated[str, typer.Option(help="The command that starts a job; by default spark-flow submit.")] = "",
    state: States = ["state"],  # noqa: B006
) -> None:
    """Rerun stale keys, providers before their consumers; exit 1 unless all of them succeeded."""
    if not only_stale:
        say("no keys given: use --stale for those that `spark-flow stale` lists", err=True)
        raise typer.Exit(2)
    found = find_stale(_read(state))
    if plan:
        for one in found:
            say(f"{one.pipeline} {one.key}: {one.reason}\n  {backfills.shown(one, launcher)}")
        say(f"would rerun {len(found)} key(s)")
        return
    results = backfills.backfill(found, lambda: find_stale(_read(state)), launcher=launcher, report=say)
    counts = Counter(results.values())
    say(", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing is stale")
    if set(results.values()) - {"succeeded"}:
        raise typer.Exit(1)


@app.command()
def leases(state: State = "state", folder: Folder = "", as_json: Json = False) -> None:
    """List running and waiting claims in queue order, and leases that were taken over."""
    pools = _pools(_documents(state, folder))
    if as_json:
        _print_json({name: pool.as_content() for name, pool in pools.items()})
    elif any(pool.claims or pool.taken for pool in pools.values()):
        wide_console().print(leases_table(pools))
    else:
        say(f"no leases in {folder or files.join(state, 'leases')}")


@app.command()
def release(
    pool: Annotated[str, typer.Argument(help="The pool, as in `leases`: pipelines/daily_flights, or pools/etl.")],
    claim: Annotated[str, typer.Argument(help="A key, or the id of a claim.")],
    state: State = "state",
    folder: Folder = "",
) -> None:
    """Release a lease manually: its holder, if still running, can no longer write. Exit 1 if there is no lease."""
    places = {place.name: place for place in _documents(state, folder)}
    if pool not in places:
        say(f"no pool {pool}; found: {', '.join(places) or 'none'}", err=True)
        raise typer.Exit(2)
    freed = free(places[pool], claim)
    for each in freed:
        say(f"released {each}, {'held' if each.token else 'waiting'}")
    if not freed:
        say(f"no claim of {claim} in {pool}", err=True)
        raise typer.Exit(1)


def _alone(state: str, folder: str, pipeline: str, key: str) -> contextlib.AbstractContextManager[Lease]:
    """The lease of a key; refused at once while a process runs it."""
    place = Leases(folder or files.join(state, "leases")).of_pipeline(pipeline)
    return hold(place, pipeline, key, busy="exit")


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """Report an error of ours, and exit with its code."""
    try:
        yield
    except SparkFlowError as error:
        say(f"failed: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


def _pools(documents: Sequence[PoolDocument]) -> dict[str, Pool]:
    with _reported():
        return {document.name: document.read() for document in documents}


def _documents(state: str, folder: str) -> list[PoolDocument]:
    try:
        return Leases(folder or files.join(state, "leases")).all()
    except (SparkFlowError, OSError, ValueError) as error:  # a URI that pyarrow refuses raises ValueError
        say(f"failed: {describe(error)}", err=True)
        raise typer.Exit(getattr(error, "exit_code", 1)) from error


def _read(states: Sequence[str]) -> dict[str, list[Event]]:
    with _reported():
        return {state: DeltaLedger(state, create=False).read(kinds=KINDS) for state in states}


def _print_stale(found: Sequence[StaleKey]) -> None:
    table = Table("pipeline", "key", "generation", "hops", "reason", box=None)
    for one in found:
        table.add_row(*map(cell, (one.pipeline, one.key, one.generation, one.hops, one.reason)))
    wide_console().print(table)


def _known(state: str, pipeline: str, key: str | None = None) -> Sequence[Event]:
    with _reported():
        ledger = DeltaLedger(state, create=False)
        events = ledger.read(pipeline, key)
    if not events:
        _unknown(ledger, state, pipeline, key)
    return events


def _unknown(ledger: DeltaLedger, state: str, pipeline: str, key: str | None = None) -> NoReturn:
    known = {f"{name} {each}" if key else name for name, each in ledger.recorded_keys()}
    wanted = f"{pipeline} {key}" if key else pipeline
    say(f"no run of {wanted} in {state}; found: {some(sorted(known), 20) or 'none'}", err=True)
    raise typer.Exit(2)


def _print_json(content: Any) -> None:
    say(json.dumps(content, indent=1, default=str))
