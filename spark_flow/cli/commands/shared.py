"""What commands share: their options, and how they report errors and read the ledger."""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from spark_flow.errors import SparkFlowError, describe, some
from spark_flow.ledger import DeltaLedger, Event
from spark_flow.orchestration.leases import Leases, PoolDocument, has_gone
from spark_flow.storage import files
from spark_flow.view.text import say

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

State = Annotated[str, typer.Option(help="The state folder, a path or URI.")]
States = Annotated[
    list[str], typer.Option("--state", help="A state folder. May be repeated, for other teams' consumers.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Pipeline = Annotated[str, typer.Argument(help="The pipeline's name.")]
Key = Annotated[str, typer.Argument(help="The unit of work, as 2013-01-02.")]
Folder = Annotated[
    str, typer.Option("--leases", help="The folder of leases, if it is not <state>/leases, e.g. for shared pools.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Report an error of ours, and exit with its code."""
    try:
        yield
    except SparkFlowError as error:
        say(f"failed: {error}", err=True)
        raise typer.Exit(error.exit_code) from error


def documents(state: str, folder: str, only: Collection[str] | None = None) -> list[PoolDocument]:
    """The pools of a folder of leases, or those of some pipelines; exit if they cannot be read."""
    try:
        return Leases(folder or files.join(state, "leases")).all(only=only)
    except (SparkFlowError, OSError, ValueError) as error:  # a URI that pyarrow refuses raises ValueError
        say(f"failed: {describe(error)}", err=True)
        raise typer.Exit(getattr(error, "exit_code", 1)) from error


def read_all(states: Sequence[str]) -> dict[str, list[Event]]:
    """What ``stale`` needs of the ledger of each state folder."""
    from spark_flow.operations.stale import KINDS

    with reported():
        return {state: DeltaLedger(state, create=False).read(kinds=KINDS) for state in states}


def known(state: str, pipeline: str, key: str | None = None) -> Sequence[Event]:
    """The events of a pipeline, or of one key; exit with the known names if there are none."""
    with reported():
        ledger = DeltaLedger(state, create=False)
        events = ledger.read(pipeline, key)
    if not events:
        unknown(ledger, state, pipeline, key)
    return events


def unknown(ledger: DeltaLedger, state: str, pipeline: str, key: str | None = None) -> NoReturn:
    """Exit with the names that are known."""
    names = {f"{name} {each}" if key else name for name, each in ledger.recorded_keys()}
    wanted = f"{pipeline} {key}" if key else pipeline
    say(f"no run of {wanted} in {state}; found: {some(sorted(names), 20) or 'none'}", err=True)
    raise typer.Exit(2)


def holders(state: str, folder: str, pipelines: Collection[str]) -> dict[tuple[str, str], str]:
    """The process that holds the lease of each pipeline and key, as ``host:pid``, if it can still be alive.

    One that was killed holds its lease until another process takes it over: on this host it is looked for, and of
    another host its lease has expired.
    """
    pools = documents(state, folder, pipelines) if pipelines else []
    with reported():
        claims = [claim for place in pools for claim in place.read().held]
    alive = [claim for claim in claims if claim.expires > time.time() and not has_gone(claim.holder)]
    return {claim.unit: str(claim.holder) for claim in alive}


def print_json(content: Any) -> None:
    """Print JSON, control characters escaped."""
    say(json.dumps(content, indent=1, default=str))
