"""``spark-flow``: what happened, from the ledger alone. It starts no JVM."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from spark_flow.errors import SparkFlowError, describe
from spark_flow.ledger import DeltaLedger, Event
from spark_flow.operations import backfill as backfills
from spark_flow.operations.stale import StaleKey
from spark_flow.operations.stale import stale as find_stale
from spark_flow.operations.verify import verify as check
from spark_flow.orchestration.leases import Leases, Place, free
from spark_flow.spark.session import session
from spark_flow.storage import files
from spark_flow.view.tables import leases_table, run_table, runs, status_table, wide_console
from spark_flow.view.text import cell, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spark_flow.orchestration.claims import Pool

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="What spark_flow's ledger knows: its runs, what became of their nodes, whether it still stands.",
)

State = Annotated[str, typer.Option(help="The state folder, a path or URI.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Pipeline = Annotated[str, typer.Argument(help="The pipeline's name.")]
Key = Annotated[str, typer.Argument(help="The unit of work, as 2013-01-02.")]


@app.command()
def status(
    pipeline: Annotated[str | None, typer.Argument(help="Only this pipeline.")] = None,
    state: State = "state",
    as_json: Json = False,
) -> None:
    """The runs in the ledger: the last generation and attempt of each key."""
    views = runs(_events(state, pipeline))
    if as_json:
        _print_json(
            [{**{k: v for k, v in view.summary.items() if k != "nodes"}, "counts": view.counts} for view in views]
        )
    elif views:
        wide_console().print(status_table(views))
    else:
        say(f"no runs in {state}")


@app.command()
def show(pipeline: Pipeline, key: Key, state: State = "state", as_json: Json = False) -> None:
    """The nodes of a key's last generation."""
    (view,) = runs(_known(state, pipeline, key))
    if as_json:
        _print_json(view.summary)
        return
    console = wide_console()
    console.print(cell(f"{pipeline} {key} generation {view.generation}, attempt {view.attempt}: {view.state}"))
    console.print(run_table(view))


@app.command()
def verify(
    pipeline: Pipeline,
    key: Key,
    state: State = "state",
    deep: Annotated[bool, typer.Option("--deep", help="Read all rows by Spark, and compare their hash.")] = False,
    as_json: Json = False,
) -> None:
    """Compare a key's tables with what was recorded; exit 1 unless all is as it was written.

    Files that a node was made from and that are others by now are ``changed``, which is no difference of the tables.

    By default files, sizes and Parquet's footers are compared, without Spark; --deep reads the rows.
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
    list[str], typer.Option("--state", help="A state folder; may be repeated, for other teams' consumers.")
]


@app.command()
def stale(state: States = ["state"], as_json: Json = False) -> None:  # noqa: B006 - Typer's way of a default
    """The consumers' keys that were made from an older content of a readiness marker than there is now."""
    found = _stale(state)
    if as_json:
        _print_json([{**dataclasses.asdict(one), "hops": one.hops, "reason": one.reason} for one in found])
    elif found:
        _print_stale(found)
    else:
        say(f"nothing is stale in {', '.join(state)}")


@app.command()
def backfill(
    only_stale: Annotated[bool, typer.Option("--stale", help="The keys that `spark-flow stale` lists.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Print what would be run; run nothing.")] = False,
    launcher: Annotated[
        str, typer.Option(help="The command to put each job after; by default spark-submit.sh beside the jobs.")
    ] = "",
    state: States = ["state"],  # noqa: B006
) -> None:
    """Make keys that are out of date anew, providers before their consumers; exit 1 when one was not."""
    if not only_stale:
        say("say which keys: --stale, those that `spark-flow stale` lists", err=True)
        raise typer.Exit(2)
    found = _stale(state)
    if plan:
        for one in found:
            say(f"{one.pipeline} {one.key}: {one.reason}\n  {backfills.shown(one, launcher)}")
        say(f"would make {len(found)} key(s) anew")
        return
    results = backfills.backfill(found, lambda: find_stale(_read(state)), launcher=launcher, tell=say)
    counts = Counter(results.values())
    say(", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing is stale")
    if set(results.values()) - {"succeeded"}:
        raise typer.Exit(1)


Folder = Annotated[
    str, typer.Option("--leases", help="The folder of leases, where it is not <state>/leases: of shared pools, say.")
]


@app.command()
def leases(state: State = "state", folder: Folder = "", as_json: Json = False) -> None:
    """Who runs and who waits, in the order of service, and what was taken over."""
    pools = _pools(_places(state, folder))
    if as_json:
        _print_json({name: pool.as_content() for name, pool in pools.items()})
    elif any(pool.claims or pool.taken for pool in pools.values()):
        wide_console().print(leases_table(pools))
    else:
        say(f"no leases in {folder or files.join(state, 'leases')}")


@app.command()
def release(
    pool: Annotated[str, typer.Argument(help="As `leases` shows it: pipelines/daily_flights, or pools/etl.")],
    claim: Annotated[str, typer.Argument(help="A key, or the id of one claim.")],
    state: State = "state",
    folder: Folder = "",
) -> None:
    """Free a lease by hand: its holder, if it lives, can write and record nothing more. Exit 1 when there is none."""
    places = {place.name: place for place in _places(state, folder)}
    if pool not in places:
        say(f"no {pool} there; found: {', '.join(places) or 'none'}", err=True)
        raise typer.Exit(2)
    freed = free(places[pool], claim)
    for each in freed:
        say(f"released {each}, {'held' if each.token else 'waiting'}")
    if not freed:
        say(f"nobody holds or waits for {claim} in {pool}", err=True)
        raise typer.Exit(1)


def _pools(places: Sequence[Place]) -> dict[str, Pool]:
    try:
        return {place.name: place.read() for place in places}
    except SparkFlowError as error:
        say(f"failed: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


def _places(state: str, folder: str) -> list[Place]:
    try:
        return Leases(folder or files.join(state, "leases")).all()
    except (SparkFlowError, OSError, ValueError) as error:  # a URI of no storage that is known is a ValueError
        say(f"failed: {describe(error)}", err=True)
        raise typer.Exit(getattr(error, "exit_code", 1)) from error


def _stale(states: Sequence[str]) -> list[StaleKey]:
    return find_stale({state: _events(state) for state in states})


def _read(states: Sequence[str]) -> dict[str, list[Event]]:
    return {state: DeltaLedger(state, create=False).read() for state in states}


def _print_stale(found: Sequence[StaleKey]) -> None:
    table = Table("pipeline", "key", "generation", "hops", "reason", box=None)
    for one in found:
        table.add_row(*map(cell, (one.pipeline, one.key, one.generation, one.hops, one.reason)))
    wide_console().print(table)


def _events(state: str, pipeline: str | None = None, key: str | None = None) -> list[Event]:
    try:
        return DeltaLedger(state, create=False).read(pipeline, key)
    except SparkFlowError as error:
        say(f"failed: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


def _known(state: str, pipeline: str, key: str) -> Sequence[Event]:
    events = _events(state, pipeline, key)
    if not events:
        known = sorted({f"{e.pipeline} {e.key}" for e in _events(state)})
        say(f"no run of {pipeline} {key} in {state}; found: {', '.join(known) or 'none'}", err=True)
        raise typer.Exit(2)
    return events


def _print_json(content: Any) -> None:
    say(json.dumps(content, indent=1, default=str))
