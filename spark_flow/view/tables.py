"""Tables for the terminal: runs and nodes of the ledger, leases, and rows that a run wrote."""

from __future__ import annotations

import datetime as dt
import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from spark_flow.errors import some
from spark_flow.storage.delta_tables import read_rows
from spark_flow.view.text import cell, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import ConsoleOptions, RenderResult

    from spark_flow.engine.outcome import Outcome
    from spark_flow.ledger import Event
    from spark_flow.orchestration.claims import Pool

_WIDE = 240  # columns of an output that is no terminal


@dataclass(frozen=True, kw_only=True)
class RunView:
    """A run as recorded in the ledger.

    Attributes:
        pipeline: The pipeline.
        key: The key.
        generation: The last generation.
        attempt: The last attempt of that generation.
        state: ``succeeded``, ``failed``, ``waiting``, ``fallback``, or ``incomplete`` if no end is recorded: the run
            was killed, or is still running; ``running`` if it is known that a process holds its lease.
        began: When the attempt started.
        ended: When the attempt ended, if recorded.
        error: The error that ended the attempt; empty if there was none.
        completeness: The completeness of each fan-in, as in ``--summary-json``.
        nodes: Each node's last event, of the attempt if it has ended, else of the generation.
        positions: Of each node ``upstream``, its inputs, and ``within``, its route, as far as any event has them.
        holder: The process that runs it, as ``host:pid``, if known.
    """

    pipeline: str
    key: str
    generation: int
    attempt: int
    state: str
    began: dt.datetime
    ended: dt.datetime | None
    error: str
    completeness: Sequence[Mapping[str, Any]]
    nodes: Sequence[Event]
    positions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    holder: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """Number of nodes by state."""
        return dict(Counter(node.state for node in self.nodes))

    @property
    def summary(self) -> dict[str, Any]:
        """The run as JSON-compatible values, with nodes as in ``--summary-json``."""
        names = ("node", "kind", "state", "rows", "duration_ms", "reason", "error")
        nodes = [{name: getattr(node, name) for name in names} for node in self.nodes]
        identity = {
            "pipeline": self.pipeline,
            "key": self.key,
            "generation": self.generation,
            "attempt": self.attempt,
        }
        times = {"began": self.began.isoformat(), "ended": self.ended.isoformat() if self.ended else None}
        result = {"error": self.error, "completeness": list(self.completeness)}
        running = {"holder": self.holder} if self.holder else {}
        return {**identity, "state": self.state, **running, **times, **result, "nodes": nodes}

    @property
    def when(self) -> str:
        """When it began, in UTC."""
        return self.began.strftime("%Y-%m-%d %H:%M:%S")

    @property
    def took(self) -> str:
        """How long it took; empty if no end is recorded."""
        return f"{(self.ended - self.began).total_seconds():.1f} s" if self.ended else ""

    @property
    def complete(self) -> str:
        """Number of arrived branches of each fan-in, such as ``18 of 19``."""
        return ", ".join(f"{part['arrived']} of {part['expected']}" for part in self.completeness)


def runs(events: Iterable[Event]) -> list[RunView]:
    """Return the last generation of each key in a ledger's events, which are sorted by pipeline and key."""
    by_key = groupby(events, key=lambda e: (e.pipeline, e.key))
    return [_view(list(group)) for _, group in by_key]


def attempts(events: Iterable[Event]) -> list[RunView]:
    """Return each attempt of each key in a ledger's events, in the order in which they began."""
    by_attempt = groupby(events, key=lambda e: (e.pipeline, e.key, e.generation, e.attempt))
    return sorted((_view(list(group)) for _, group in by_attempt), key=lambda view: view.began)


def attempts_table(views: Iterable[RunView]) -> Rows:
    """Return one row per attempt."""
    columns = ("key", "state", "generation", "attempt", "began", "took", "nodes", "error")
    rows = [
        (v.key, v.state, v.generation, v.attempt, v.when, v.took, _counts(v), v.error.partition("\n")[0]) for v in views
    ]
    return Rows(columns, rows)


def _view(events: Sequence[Event]) -> RunView:
    generation = events[-1].generation
    mine = [e for e in events if e.generation == generation]
    attempt = [e for e in mine if e.attempt == mine[-1].attempt]
    ends = [e for e in attempt if e.kind == "run" and e.state != "started"]
    last: dict[str, Event] = {}
    for event in attempt if ends else mine:  # an attempt that ended has an event of every node
        if event.kind != "run":
            last[event.node] = event
    return RunView(
        pipeline=mine[-1].pipeline,
        key=mine[-1].key,
        generation=generation,
        attempt=mine[-1].attempt,
        state=ends[-1].reason or ends[-1].state if ends else "incomplete",
        began=attempt[0].at,
        ended=ends[-1].at if ends else None,
        error=ends[-1].error if ends else "",
        completeness=ends[-1].detail.get("completeness", []) if ends else [],
        nodes=list(last.values()),
        positions={e.node: e.detail for e in events if "upstream" in e.detail or "within" in e.detail},
    )


@dataclass(frozen=True)
class Rows:
    """Rows for the terminal: a table where it fits, and else some lines for each row."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Return the table or the lines (https://rich.readthedocs.io/en/stable/protocol.html)."""
        table = Table(*self.columns, box=None)
        for row in self.rows:
            table.add_row(*(value if isinstance(value, Text) else cell(value) for value in row))
        if Measurement.get(console, options.update(width=_WIDE), table).maximum <= options.max_width:
            yield table
            return
        for row in self.rows:
            named = zip(self.columns[2:], map(plain, row[2:]), strict=True)
            yield Text(" ".join(map(plain, row[:2])), "bold")
            yield Padding(Text(", ".join(f"{name} {value}" for name, value in named if value)), (0, 0, 0, 2))


def wide_console() -> Console:
    """Return a console that is wide enough for whole tables if the output is not a terminal."""
    return Console(width=None if sys.stdout.isatty() else _WIDE)


def status_table(views: Iterable[RunView]) -> Rows:
    """Return one row per run."""
    columns = ("pipeline", "key", "state", "holder", "generation", "attempt", "complete", "began", "took", "nodes")
    rows = [
        (v.pipeline, v.key, v.state, v.holder, v.generation, v.attempt, v.complete, v.when, v.took, _counts(v))
        for v in views
    ]
    return Rows(columns, rows)


def _counts(view: RunView) -> str:
    return ", ".join(f"{count} {state}" for state, count in view.counts.items())


def completeness_table(views: Iterable[RunView]) -> Rows:
    """Return one row per fan-in of each run."""
    columns = ("pipeline", "key", "generation", "fan-in", "arrived", "ratio", "missing")
    rows = [(v.pipeline, v.key, v.generation, *_arrived(part)) for v in views for part in v.completeness]
    return Rows(columns, rows)


def print_rows(outcomes: Iterable[Outcome | Event], *, limit: int, console: Console | None = None) -> None:
    """Print the key's rows of each Delta table that a run wrote or reused, read without Spark."""
    console = console or wide_console()
    for outcome in outcomes:
        if outcome.kind != "sink" or outcome.detail.get("format") != "delta":
            continue
        rows = read_rows(outcome.detail, limit=limit)
        title = f"{outcome.detail['path']} at version {outcome.detail['version']}: {outcome.rows} rows"
        table = Table(box=None, title=cell(title), title_justify="left")
        for column in rows.schema:
            number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
            table.add_column(cell(column.name), justify="right" if number else "left", no_wrap=True)
        for row in rows.to_pylist():
            table.add_row(*map(cell, row.values()))
        console.print(table)


def _arrived(part: Mapping[str, Any]) -> tuple[str, ...]:
    arrived = f"{part['arrived']} of {part['expected']}"
    return str(part["node"]), arrived, f"{part['ratio']:.0%}", some(part["missing"], 20)


def leases_table(pools: Mapping[str, Pool]) -> Rows:
    """Return the claims of all pools in queue order, each pool followed by its last takeovers."""
    columns = ("pipeline", "key", "pool", "slots", "state", "takes", "holder", "token", "since", "expires", "id")
    rows: list[tuple[object, ...]] = []
    for name, pool in pools.items():
        for claim in pool.claims:
            state = Text("held", "green") if claim.token else Text("waits", "yellow")
            used = f"{pool.used} of {'any' if pool.limit is None else pool.limit}"
            times = (_moment(claim.held or claim.asked), _moment(claim.expires), claim.id)
            who = (claim.slots, claim.holder, claim.token or "", *times)
            rows.append((claim.pipeline, claim.key, name, used, state, *who))
        for taken in pool.taken:
            one = taken.claim
            who = (one.slots, one.holder, one.token or "", _moment(taken.at), taken.why, one.id)
            rows.append((one.pipeline, one.key, name, "", Text("taken", "red"), *who))
    return Rows(columns, rows)


def _moment(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
