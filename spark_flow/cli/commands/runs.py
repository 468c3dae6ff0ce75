"""Commands about runs: what ran, why, and whether it still holds; they start no JVM."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spark_flow.cli.commands.shared import (
    Folder,
    Json,
    Key,
    Pipeline,
    State,
    States,
    documents,
    holders,
    known,
    print_json,
    read_all,
    reported,
    unknown,
)
from spark_flow.errors import describe
from spark_flow.ledger import DeltaLedger
from spark_flow.ledger.event import now
from spark_flow.spark.submit import is_yaml
from spark_flow.storage import files
from spark_flow.view.graph import dot, mermaid, nodes_of, of_file, of_run
from spark_flow.view.tables import (
    Rows,
    RunView,
    attempts,
    attempts_table,
    completeness_table,
    leases_table,
    runs,
    status_table,
    wide_console,
)
from spark_flow.view.text import say
from spark_flow.view.tree import run_tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spark_flow.ledger import Event
    from spark_flow.operations.stale import StaleKey

app = typer.Typer(rich_markup_mode=None)
Form = Literal["mermaid", "dot", "json"]
Everything = Annotated[bool, typer.Option("--all", help="All keys.")]
Last = Annotated[int, typer.Option(min=1, help="Only the keys that were run last.")]
Only = Annotated[str | None, typer.Argument(help="Only this pipeline.")]


@app.command()
def status(
    pipeline: Only = None,
    state: State = "state",
    last: Last = 50,
    everything: Everything = False,
    folder: Folder = "",
    as_json: Json = False,
) -> None:
    """List the runs in the ledger: the last generation and attempt of each key, of the 50 that were run last.

    A run without an end is ``running`` while a live process holds its lease, otherwise ``incomplete``: it was killed,
    or has no lease (``Run.open``).
    """
    events, left = _latest(state, pipeline, last=last, everything=everything)
    views = _with_holders(runs(events), state, folder)
    if as_json:
        print_json(
            [{**{k: v for k, v in view.summary.items() if k != "nodes"}, "counts": view.counts} for view in views]
        )
    elif views:
        wide_console().print(status_table(views))
        if left > 0:
            say(f"{left} more key(s) were run before: --last N, or --all")
    else:
        say(f"no runs in {state}")


@app.command()
def show(
    pipeline: Pipeline,
    key: Key,
    state: State = "state",
    everything: Annotated[bool, typer.Option("--all", help="List all branches of fan-ins.")] = False,
    folder: Folder = "",
    as_json: Json = False,
) -> None:
    """Show a key's last generation: its nodes, the whole errors, and what the same command would do again."""
    (view,) = _with_holders(runs(known(state, pipeline, key)), state, folder)
    if as_json:
        print_json(view.summary)
        return
    wide_console().print(run_tree(view, everything=everything))


@app.command()
def graph(
    what: Annotated[str, typer.Argument(help="A job's YAML file, or a pipeline.", metavar="JOB.yaml|PIPELINE")],
    words: Annotated[
        list[str] | None, typer.Argument(help="Values of the file (NAME=VALUE); or the key.", metavar="[KEY]")
    ] = None,
    state: State = "state",
    form: Annotated[Form, typer.Option("--format", help="Mermaid, Graphviz's DOT, or the nodes as JSON.")] = "mermaid",
) -> None:
    """Draw a job's file, or a run: nodes, rules, conditions, untaken routes, states. Starts no Spark."""
    if is_yaml(what):
        from spark_flow.jobfile.plan import draw  # pydantic and all entries: as long as the rest of a command

        with reported():
            found = draw(Path(what), words or [])
        drawn = of_file(found)
    else:
        if len(words or ()) != 1:
            say(f"{what} is no YAML file: give a pipeline and a key", err=True)
            raise typer.Exit(2)
        (view,) = runs(known(state, what, *(words or ())))
        found = {**view.summary, "nodes": nodes_of(view)}
        drawn = of_run(view)
    if form == "json":
        print_json(found)
    else:
        say((mermaid if form == "mermaid" else dot)(drawn))


@app.command()
def completeness(
    pipeline: Only = None,
    state: State = "state",
    last: Last = 50,
    everything: Everything = False,
    as_json: Json = False,
) -> None:
    """List the fan-ins of each key's last run: how many branches arrived, and which are missing."""
    events, _ = _latest(state, pipeline, last=last, everything=everything)
    views = runs(events)
    if as_json:
        print_json([{"pipeline": v.pipeline, "key": v.key, **part} for v in views for part in v.completeness])
    elif any(v.completeness for v in views):
        wide_console().print(completeness_table(views))
    else:
        say(f"no fan-in has ended in {state}")


@app.command()
def report(
    pipeline: Only = None,
    state: State = "state",
    out: Annotated[Path, typer.Option(help="The page; one that is there is replaced.")] = Path("report.html"),
    last: Last = 1000,
    everything: Everything = False,
    folder: Folder = "",
) -> None:
    """Write the runs as one HTML page, which needs no network: keys by nodes, times, errors, completeness, trends."""
    from spark_flow.view.report import report as page

    events, _ = _latest(state, pipeline, last=last, everything=everything)
    running = holders(state, folder, _unended(runs(events)))
    text = page(events, title=f"Runs in {state}", made=now(), holders=running)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        say(f"failed: {out}: {describe(error)}", err=True)
        raise typer.Exit(1) from error
    say(f"wrote {out} ({len(text) / 1e6:.1f} MB)")


@app.command("runs")
def runs_(
    pipeline: Pipeline,
    key: Annotated[str | None, typer.Argument(help="Only this key.")] = None,
    state: State = "state",
    last: Annotated[int, typer.Option(min=1, help="Only the latest attempts.")] = 50,
    as_json: Json = False,
) -> None:
    """List the attempts of a pipeline's runs, oldest first: when each began, how it ended, and why."""
    with reported():
        ledger = DeltaLedger(state, create=False)
        events = ledger.read(pipeline, key) if key else ledger.latest(pipeline, last=last)
    if not events:
        unknown(ledger, state, pipeline, key)
    views = attempts(events)[-last:]
    if as_json:
        print_json([{**view.summary, "counts": view.counts} for view in views])
    else:
        wide_console().print(attempts_table(views))


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
    from spark_flow.operations.verify import verify as check
    from spark_flow.spark.session import session

    findings = check(known(state, pipeline, key), deep=session("spark_flow verify") if deep else None)
    if as_json:
        print_json([dataclasses.asdict(f) for f in findings])
    else:
        columns = ("node", "state", "recorded", "found", "path", "reason")
        rows = [(f.node, f.state, f.recorded, f.found, f.path, f.reason) for f in findings]
        wide_console().print(Rows(columns, rows))
    if any(f.state not in ("ok", "changed") for f in findings):
        raise typer.Exit(1)


@app.command()
def stale(state: States = ["state"], as_json: Json = False) -> None:  # noqa: B006 - Typer needs a list as default
    """List stale keys: consumers' keys that were computed from outdated content of a readiness marker."""
    from spark_flow.operations.stale import stale as find_stale

    found = find_stale(read_all(state))
    if as_json:
        print_json([{**dataclasses.asdict(one), "hops": one.hops, "reason": one.reason} for one in found])
    elif found:
        _print_stale(found)
    else:
        say(f"nothing is stale in {', '.join(state)}")


@app.command()
def leases(state: State = "state", folder: Folder = "", as_json: Json = False) -> None:
    """List running and waiting claims in queue order, and leases that were taken over."""
    with reported():
        pools = {place.name: place.read() for place in documents(state, folder)}
    if as_json:
        print_json({name: pool.as_content() for name, pool in pools.items()})
    elif any(pool.claims or pool.taken for pool in pools.values()):
        wide_console().print(leases_table(pools))
    else:
        say(f"no leases in {folder or files.join(state, 'leases')}")


def _latest(state: str, pipeline: str | None, *, last: int, everything: bool) -> tuple[list[Event], int]:
    """The events of the keys that ran last, and how many more keys there are."""
    with reported():
        ledger = DeltaLedger(state, create=False)
        events = ledger.read(pipeline) if everything else ledger.latest(pipeline, last=last)
        left = 0 if everything else len(ledger.recorded_keys(pipeline)) - last
    if pipeline and not events:
        unknown(ledger, state, pipeline)
    return events, left


def _unended(views: Sequence[RunView]) -> set[str]:
    """The pipelines with a run that has no end, whose leases say whether it goes on."""
    return {view.pipeline for view in views if view.state == "incomplete"}


def _with_holders(views: Sequence[RunView], state: str, folder: str) -> list[RunView]:
    """Distinguish runs in progress from killed ones: a process holds their lease."""
    held = holders(state, folder, _unended(views))
    found = []
    for view in views:
        holder = held.get((view.pipeline, view.key), "") if view.state == "incomplete" else ""
        found.append(dataclasses.replace(view, state="running", holder=holder) if holder else view)
    return found


def _print_stale(found: Sequence[StaleKey]) -> None:
    columns = ("pipeline", "key", "generation", "hops", "reason")
    wide_console().print(
        Rows(columns, [(one.pipeline, one.key, one.generation, one.hops, one.reason) for one in found])
    )
