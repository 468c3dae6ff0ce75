"""Progress of a run's nodes: live on a terminal, lines with times in a log, a bar in a notebook."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console

from spark_flow.core import html
from spark_flow.errors import SparkFlowError
from spark_flow.orchestration.stragglers import usual
from spark_flow.view.text import markup

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.status import Status

    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run

COLOURS = {"succeeded": "green", "reused": "cyan", "failed": "red", "skipped": "yellow", "waiting": "yellow"}
EVERY = 60.0  # seconds between two lines of a node that still waits for the same reason
LAST = 10  # runs that the usual duration is the median of


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Continue the run when nothing reads its output any more, where Rich would exit."""
        self.quiet = True


class Progress:
    """An observer that prints a line for each node that has ended, and on a terminal shows which are running.

    Lines that do not go to a terminal begin with the time, local and with seconds.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or _Console(soft_wrap=True, highlight=False)
        self._times = console is None and not self._console.is_terminal
        self._asked = False
        self._usually: float | None = None
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
        self._print(f"[bold]{what}{name}[/] generation {run.generation}, attempt {run.attempt}")
        for warning in run.warnings:
            self._warn(warning)

    def __call__(self, point: str, node: str, outcome: Outcome | None) -> None:
        """Handle a node's event; see ``spark_flow.engine.run.Observer``."""
        with self._lock:
            if point == "before_action":
                self._estimate()
                self._running[node] = None
            elif point == "waiting" and outcome is not None:
                self._print_waiting(outcome)
            elif point == "warning" and self._run is not None:
                self._warn(self._run.warnings[-1])
            elif point == "ended" and outcome is not None:
                self._running.pop(node, None)
                self._ended[node] = outcome.state
                self._print(line(outcome) + self._count(outcome))
            else:
                return
            self._show()

    def _estimate(self) -> None:
        """Look up how long a run usually takes, once a node runs: one that only reuses reads nothing more."""
        if self._asked or self._run is None:
            return
        self._asked = True
        # An estimate fails no node: what is wrong with the ledger is reported when the node is recorded.
        with contextlib.suppress(SparkFlowError):
            self._usually = usual(self._run.history.ledger, self._run.pipeline, LAST)
        if self._usually:
            self._print(f"a run usually takes {_span(self._usually)}")

    def _warn(self, warning: str) -> None:
        self._print(f"[yellow]warning[/]: {markup(warning)}")

    def _print(self, words: str) -> None:
        now = f"{dt.datetime.now():%H:%M:%S} " if self._times else ""  # noqa: DTZ005 - as the log's other lines
        self._console.print(now + words)

    def _print_waiting(self, outcome: Outcome) -> None:
        """Print why a node waits when the reason changes, and else once a minute, to keep logs short."""
        reason, printed = self._waiting.get(outcome.node, ("", 0.0))
        if reason != outcome.reason or time.monotonic() - printed >= EVERY:
            self._waiting[outcome.node] = (outcome.reason, time.monotonic())
            self._print(line(outcome))

    def finish(self, run: Run) -> None:
        """Print how the run ended."""
        if self._status is not None:
            self._status.stop()
        states = [o.state for o in run.outcomes]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        state = run.summary()["state"]  # in ``progress`` the run ends after the block
        self._print(f"[bold]{'so far' if state == 'running' else state}[/]: {counts or 'no nodes'}")
        for part in run.completeness:
            if part.is_approximate:
                self._print(f"[yellow]incomplete[/]: {markup(part)}")

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
        running = [*self._fan_ins(), f"running {markup(', '.join(self._running))}"] if self._running else []
        self._status.update("; ".join([*running, *self._left()]))

    def _left(self) -> list[str]:
        """Return about how long the run still takes, by earlier runs of the pipeline."""
        if self._run is None or self._usually is None:
            return []
        left = self._usually - (time.monotonic() - self._run.began)
        return [f"about {_span(left)} left" if left > 0 else f"longer than the usual {_span(self._usually)}"]

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


class NotebookProgress:
    """An observer that updates one bar below a notebook's cell."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._run: Run | None = None
        self._running: dict[str, None] = {}
        self._lock = threading.Lock()

    def begin(self, run: Run) -> None:
        """Show the bar."""
        self._run = run
        self._update()

    def __call__(self, point: str, node: str, outcome: Outcome | None) -> None:  # noqa: ARG002 - an observer
        """Handle a node's event; see ``spark_flow.engine.run.Observer``."""
        with self._lock:
            if point == "before_action":
                self._running[node] = None
            elif point == "ended":
                self._running.pop(node, None)
            else:
                return
        self._update()

    def finish(self, run: Run) -> None:  # noqa: ARG002 - as the other display
        """Show the bar without running nodes."""
        self._running.clear()
        self._update()

    def _update(self) -> None:
        from IPython.display import HTML

        if self._run is None:
            return
        states = [outcome.state for outcome in self._run.outcomes]
        with self._lock:
            running = list(self._running)
        expected = {node for nodes in self._run.graph.fan_ins.values() for node in nodes} | {*running}
        known = len({outcome.node for outcome in self._run.outcomes} | expected | {*self._run.graph.declared})
        counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
        now = [f"running {', '.join(running[:5])}{' ...' if running[5:] else ''}"] if running else []
        words = f"{self._run.pipeline} {self._run.key}: {'; '.join([', '.join(counts), *now]).strip('; ')}"
        self._handle.update(HTML(html.bar(len(states), known, words)))


@contextlib.contextmanager
def progress(run: Run) -> Iterator[None]:
    """Show the progress of a run while the block runs: lines in a terminal or log, a bar in a notebook.

    >>> with Run.open("carriers", key="2013-01-02") as run, progress(run):  # doctest: +SKIP
    ...     write(run, "lake", frame, delta("out/carriers"))
    """
    display = _in_notebook() or Progress()
    run.observe(display)
    display.begin(run)
    try:
        yield
    finally:
        display.finish(run)


def _in_notebook() -> NotebookProgress | None:
    """Return a display of a notebook's cell, or ``None`` elsewhere; IPython in a terminal is no notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import DisplayHandle

    handle = DisplayHandle()
    handle.display("")
    return NotebookProgress(handle)


def _span(seconds: float) -> str:
    """Return a duration in words.

    >>> _span(42.3), _span(200)
    ('42 s', '3 min 20 s')
    """
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{whole} s"  # noqa: PLR2004


def line(outcome: Outcome) -> str:
    """Return a node's outcome as one line of Rich markup."""
    colour = COLOURS.get(outcome.state, "blue")
    rows = f"{outcome.rows:>8,} rows" if outcome.rows is not None else " " * 13
    fresh = outcome.state in ("succeeded", "failed") and outcome.duration_ms is not None
    took = f"{(outcome.duration_ms or 0) / 1000:>7.2f} s" if fresh else " " * 9
    reason = markup(outcome.error or outcome.reason)
    return f"  [{colour}]{outcome.state:<11}[/] {markup(f'{outcome.node:<24}')} {rows} {took}  {reason}".rstrip()
