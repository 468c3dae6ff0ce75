"""Commands that change what is recorded of keys: rerun, forget, roll back, adopt, release, compact."""

from __future__ import annotations

from collections import Counter
from pathlib import Path  # noqa: TC003 - Typer reads it
from typing import TYPE_CHECKING, Annotated

import typer

from spark_flow.cli import adopt as adoptions
from spark_flow.cli.commands.shared import (
    Folder,
    Key,
    Pipeline,
    State,
    States,
    Yes,
    documents,
    known,
    read_all,
    reported,
)
from spark_flow.errors import Busy
from spark_flow.ledger import DeltaLedger
from spark_flow.operations import backfill as backfills
from spark_flow.operations import forget as forgetting
from spark_flow.operations import rollback as rollbacks
from spark_flow.operations.stale import stale as find_stale
from spark_flow.orchestration.leases import Leases, free, hold
from spark_flow.spark.session import session
from spark_flow.storage import files
from spark_flow.view.text import say

if TYPE_CHECKING:
    import contextlib

    from spark_flow.orchestration.leases import Lease

app = typer.Typer(rich_markup_mode=None)
WORDS = "KEYS [NAME=VALUE]..."


@app.command()
def forget(
    pipeline: Pipeline,
    key: Key,
    state: State = "state",
    folder: Folder = "",
    yes: Yes = False,
) -> None:
    """Forget a key, so that its next run reuses nothing; delete its checkpoints, and list what it has written.

    Its rows and markers stay until the next run replaces them. Refused while the key runs.
    """
    events = known(state, pipeline, key)
    left = forgetting.left_behind(events)
    for one in left:
        say(f"{one.what:7} {one.node}: {one.path}" + (f", {one.rows} row(s)" if one.rows is not None else ""))
    if not yes and not typer.confirm(f"forget {pipeline} {key}? What is listed above stays; checkpoints are deleted"):
        raise typer.Exit(1)
    with reported(), _alone(state, folder, pipeline, key) as lease:
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
    yes: Yes = False,
) -> None:
    """Publish an earlier generation's rows of a key again, as the next generation; `stale` then lists its consumers.

    Refused while the key runs, and where the rows of a table are gone (VACUUM) or cannot be replaced.
    """
    events = known(state, pipeline, key)
    with reported():
        planned = rollbacks.plan(events, to=to or 0)
    for event in planned.events:
        say(f"{event.kind:7} {event.node}" + (f", {event.rows} row(s)" if event.rows is not None else ""))
    question = f"publish generation {planned.to} of {pipeline} {key} again, in place of generation {planned.current}?"
    if not yes and not typer.confirm(question):
        raise typer.Exit(1)
    with reported(), _alone(state, folder, pipeline, key) as lease:
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
    yes: Yes = False,
) -> None:
    """Take over keys whose rows are in the job's targets already: they count as done, and nothing is computed.

    Refused for keys that were run, and unless all targets hold rows of the key. No marker is published.
    """
    with reported():
        adopted = adoptions.prepare(job, words)
    for key, found in adopted.keys.items():
        for one in found:
            say(f"{key}  {one.node}: {one.words} in {one.path}")
    if not yes and not typer.confirm(f"adopt {len(adopted.keys)} key(s) of {adopted.pipeline}?"):
        raise typer.Exit(1)
    with reported():
        adoptions.record(adopted)
    say(f"adopted {len(adopted.keys)} key(s) of {adopted.pipeline}: --rerun computes one, forget makes it new")


@app.command()
def compact(state: State = "state") -> None:
    """Merge the small files of the ledger now; runs do it by themselves every 50 commits."""
    with reported():
        before, after = DeltaLedger(state, create=False).compact()
    say(f"{before} file(s) became {after}" if before else f"no ledger in {state}")


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
    found = find_stale(read_all(state))
    if plan:
        for one in found:
            say(f"{one.pipeline} {one.key}: {one.reason}\n  {backfills.shown(one, launcher)}")
        say(f"would rerun {len(found)} key(s)")
        return
    results = backfills.backfill(found, lambda: find_stale(read_all(state)), launcher=launcher, report=say)
    counts = Counter(results.values())
    say(", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing is stale")
    if set(results.values()) - {"succeeded"}:
        raise typer.Exit(1)


@app.command()
def release(
    pool: Annotated[str, typer.Argument(help="The pool, as in `leases`: pipelines/daily_flights, or pools/etl.")],
    claim: Annotated[str, typer.Argument(help="A key, or the id of a claim.")],
    state: State = "state",
    folder: Folder = "",
) -> None:
    """Release a lease manually: its holder, if still running, can no longer write. Exit 1 if there is no lease."""
    places = {place.name: place for place in documents(state, folder)}
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
