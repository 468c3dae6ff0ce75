"""Progress of a run's nodes: live on a terminal, plain lines in a log."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from rich.console import Console

from spark_flow.view.text import markup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.status import Status

    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run

COLOURS = {"succeeded": "green", "reused": "cyan", "failed": "red", "skipped": "yellow", "waiting": "yellow"}
EVERY = 60.0  # seconds between two lines of a node that still waits for the same reason


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Continue the run when nothing reads its output any more, where Rich would exit."""
        self.quiet = True


class Progress:
    """An observer that prints a line for each node that has ended, and on a terminal shows which are running."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or _Console(soft_wrap=True, highlight=False)
        self._running: dict[str, None] = {}
        self._ended: dict[str, str] = {}
        self._waiting: dict[str, tuple[str, float]] = {}
        self._status: Status | None = None
        self._run: Run | None = None
        self._lock = threading.Lock()

    def begin(self, run: Run) -> None:
        """Print the run's name, generation and attempt."""
        self._run = run
        what = "plan of " if run.plan else ""
        name = markup(f"{run.pipeline} {run.key}")
        self._console.print(f"[bold]{what}{name}[/] generation {run.generation}, attempt {run.attempt}")
        for warning in run.warnings:
            self._warn(warning)

    def __call__(self, point: str, node: str, outcome: Outcome | None) -> None:
        """Handle a node's event; see ``spark_flow.engine.run.Observer``."""
        with self._lock:
            if point == "before_action":
                self._running[node] = None
            elif point == "waiting" and outcome is not None:
                self._print_waiting(outcome)
            elif point == "warning" and self._run is not None:
                self._warn(self._run.warnings[-1])
            elif point == "ended" and outcome is not None:
                self._running.pop(node, None)
                self._ended[node] = outcome.state
                self._console.print(line(outcome) + self._count(outcome))
            else:
                return
            self._show()

    def _warn(self, warning: str) -> None:
        self._console.print(f"[yellow]warning[/]: {markup(warning)}")

    def _print_waiting(self, outcome: Outcome) -> None:
        """Print why a node waits when the reason changes, and else once a minute, to keep logs short."""
        reason, printed = self._waiting.get(outcome.node, ("", 0.0))
        if reason != outcome.reason or time.monotonic() - printed >= EVERY:
            self._waiting[outcome.node] = (outcome.reason, time.monotonic())
            self._console.print(line(outcome))

    def finish(self, run: Run) -> None:
        """Print how the run ended."""
        if self._status is not None:
            self._status.stop()
        states = [o.state for o in run.outcomes]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        self._console.print(f"[bold]{run.summary()['state']}[/]: {counts or 'no nodes'}")
        for part in run.completeness:
            if part.is_approximate:
                self._console.print(f"[yellow]incomplete[/]: {markup(part)}")

    def _count(self, outcome: Outcome) -> str:
        """Return how many branches of the node's fan-in have ended, including failed ones."""
        if self._run is None or outcome.kind != "branch":
            return ""
        for nodes in self._run.graph.fan_ins.values():
            if outcome.node in nodes:
                return f" ({self._done(nodes)})"
        return ""

    def _show(self) -> None:
        if not self._console.is_terminal:
            return
        if self._status is None:
            self._status = self._console.status("")
            self._status.start()
        self._status.update(
            "; ".join([*self._fan_ins(), f"running {markup(', '.join(self._running))}"] if self._running else [])
        )

    def _fan_ins(self) -> list[str]:
        """Return each running fan-in, such as ``hours: 7 of 19, 1 failed, 4 running``."""
        parts = []
        for name, nodes in self._run.graph.fan_ins.items() if self._run else ():
            running = sum(node in self._running for node in nodes)
            if running:
                parts.append(f"{markup(name)}: {self._done(nodes)}, {running} running")
        return parts

    def _done(self, nodes: Sequence[str]) -> str:
        """Return the count of ended branches, such as ``7 of 19, 1 failed``."""
        states = [self._ended[node] for node in nodes if node in self._ended]
        failed = states.count("failed")
        return f"{len(states)} of {len(nodes)}" + (f", {failed} failed" if failed else "")


def line(outcome: Outcome) -> str:
    """Return a node's outcome as one line of Rich markup."""
    colour = COLOURS.get(outcome.state, "blue")
    rows = f"{outcome.rows:>8,} rows" if outcome.rows is not None else " " * 13
    fresh = outcome.state in ("succeeded", "failed") and outcome.duration_ms is not None
    took = f"{(outcome.duration_ms or 0) / 1000:>7.2f} s" if fresh else " " * 9
    reason = markup(outcome.error or outcome.reason)
    return f"  [{colour}]{outcome.state:<11}[/] {markup(f'{outcome.node:<24}')} {rows} {took}  {reason}".rstrip()
