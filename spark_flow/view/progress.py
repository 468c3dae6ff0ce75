"""A run's nodes as they go: live on a terminal, plain lines in a log."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from rich.status import Status

    from spark_flow.run import Outcome, Run

COLOURS = {"succeeded": "green", "reused": "cyan", "failed": "red", "skipped": "yellow"}


class Progress:
    """An observer that prints a line for each node that ended, and on a terminal shows what is running."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(soft_wrap=True, highlight=False)
        self._running: dict[str, None] = {}
        self._status: Status | None = None
        self._lock = threading.Lock()

    def begin(self, run: Run) -> None:
        """Say which run this is."""
        what = "plan of " if run.plan else ""
        self._console.print(
            f"[bold]{what}{run.pipeline} {run.key}[/] generation {run.generation}, attempt {run.attempt}"
        )

    def __call__(self, point: str, node: str, outcome: Outcome | None) -> None:
        """Follow a node; see ``spark_flow.run.Observer``."""
        with self._lock:
            if point == "before_action":
                self._running[node] = None
            elif point == "ended" and outcome is not None:
                self._running.pop(node, None)
                self._console.print(line(outcome))
            else:
                return
            self._show()

    def finish(self, run: Run) -> None:
        """Say how the run ended."""
        if self._status is not None:
            self._status.stop()
        states = [o.state for o in run.outcomes]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        self._console.print(f"[bold]{run.summary()['state']}[/]: {counts or 'no nodes'}")

    def _show(self) -> None:
        if not self._console.is_terminal:
            return
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._status.update(f"running {', '.join(self._running)}" if self._running else "")


def line(outcome: Outcome) -> str:
    """A node's outcome in one line of Rich markup."""
    colour = COLOURS.get(outcome.state, "blue")
    rows = f"{outcome.rows:>8,} rows" if outcome.rows is not None else " " * 13
    fresh = outcome.state in ("succeeded", "failed") and outcome.duration_ms is not None
    took = f"{(outcome.duration_ms or 0) / 1000:>7.2f} s" if fresh else " " * 9
    words = escape(outcome.error or outcome.reason)
    return f"  [{colour}]{outcome.state:<11}[/] {outcome.node:<24} {rows} {took}  {words}".rstrip()
