"""Stragglers: runs that take longer than usual are reported while they still run, as runs behind them are late."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from spark_flow.core import notify
from spark_flow.errors import InvalidArgument, NotNotified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spark_flow.ledger import Ledger

FEWEST = 3  # the smallest number of earlier runs for a usual duration
LOOKED_AT = 3  # runs for each one of the median: some did no work
LEAST = 0.1  # seconds; shorter durations vary too much to compare


@dataclass(frozen=True, kw_only=True)
class Straggler:
    """Settings that decide when a run is a straggler.

    Attributes:
        factor: A run is a straggler when it takes longer than this many times the median of the last runs.
        last: The number of runs for the median.
        notify: The name of an environment variable with Apprise addresses to notify; if empty, stragglers are only
            printed.
    """

    factor: float = 2.0
    last: int = 10
    notify: str = ""

    def __post_init__(self) -> None:
        """Validate the values.

        Raises:
            InvalidArgument: The factor is not above 1, or there are too few runs to have a median.
        """
        if not self.factor > 1:
            raise InvalidArgument("straggler.factor", str(self.factor), "a number above 1")
        if self.last < FEWEST:
            raise InvalidArgument("straggler.last", str(self.last), f"{FEWEST} or more runs")


def usual(ledger: Ledger, pipeline: str, last: int) -> float | None:
    """Return the median seconds of the last successful runs that did work; ``None`` if there are fewer than three.

    Only the last runs are looked at.
    """
    ended = ledger.runs(pipeline, "succeeded", last=LOOKED_AT * last)
    # Earlier versions did not record how many nodes ran; at least their first attempts of a key ran some.
    worked = [event for event in ended if event.detail.get("ran", event.attempt == 1)]
    took = [event.duration_ms / 1000 for event in worked[:last] if event.duration_ms is not None]
    return max(median(took), LEAST) if len(took) >= FEWEST else None


@contextlib.contextmanager
def watched(
    straggler: Straggler, name: str, usually: float | None, behind: Callable[[], int], report: Callable[[str], None]
) -> Iterator[None]:
    """Report the run in the block when it takes too long, and again each time its duration has doubled.

    Args:
        straggler: The settings.
        name: The run's display name.
        usually: The usual duration in seconds; ``None`` means unknown, and nothing is reported.
        behind: Returns how many runs wait for this one.
        report: Called with each alert, and with the error of one that could not be sent.
    """
    if usually is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        began, limit = time.monotonic(), straggler.factor * usually
        while not over.wait(max(0.0, began + limit - time.monotonic())):
            _alert(straggler, name, time.monotonic() - began, usually, behind(), report)
            limit *= 2

    thread = threading.Thread(target=watch, name="spark_flow-straggler", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _alert(
    straggler: Straggler, name: str, took: float, usually: float, behind: int, report: Callable[[str], None]
) -> None:
    late = took - usually
    queue = f"{behind} run(s) wait behind it, each {late:.1f} s late by now" if behind else "no run waits behind it"
    message = f"{name} has run for {took:.1f} s, {took / usually:.1f} times its usual {usually:.1f} s: {queue}"
    report(message)
    if straggler.notify and notify.is_set(straggler.notify):
        try:
            notify.send(straggler.notify, f"straggler: {name}", message)
        except NotNotified as error:
            report(str(error))  # a failed notification does not fail the run
