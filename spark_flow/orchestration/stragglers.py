"""A run that takes longer than it used to, told while it still runs: what waits behind it is late already."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from spark_flow.core import notify
from spark_flow.errors import InvalidArgument, NotNotified

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from spark_flow.ledger import Event

FEWEST = 3  # earlier runs, below which nothing is usual
LEAST = 0.1  # seconds: what is shorter differs by chance


@dataclass(frozen=True, kw_only=True)
class Straggler:
    """When a run is one.

    Attributes:
        factor: It takes longer than so many times the median of the last runs.
        last: How many of these.
        notify: The name of an environment variable with addresses for Apprise; empty: it is only printed.
    """

    factor: float = 2.0
    last: int = 10
    notify: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no measure.

        Raises:
            InvalidArgument: The factor is not above 1, or there are too few runs to have a median.
        """
        if not self.factor > 1:
            raise InvalidArgument("straggler.factor", str(self.factor), "a number above 1")
        if self.last < FEWEST:
            raise InvalidArgument("straggler.last", str(self.last), f"{FEWEST} or more runs")


def usual(events: Iterable[Event], last: int) -> float | None:
    """The median seconds of the last runs that succeeded with something to do; ``None`` of fewer than three."""
    worked: dict[tuple[str, int, int], bool] = defaultdict(bool)
    ended = []
    for event in events:
        place = (event.key, event.generation, event.attempt)
        if event.kind != "run":
            worked[place] |= event.state in ("started", "succeeded", "failed")
        elif event.state == "succeeded" and event.duration_ms is not None:
            ended.append((event.at, place, event.duration_ms / 1000))
    took = [seconds for _, place, seconds in sorted(ended) if worked[place]][-last:]
    return max(median(took), LEAST) if len(took) >= FEWEST else None


@contextlib.contextmanager
def watched(
    straggler: Straggler, name: str, usually: float | None, behind: Callable[[], int], tell: Callable[[str], None]
) -> Iterator[None]:
    """Tell of the run in the block when it takes too long, and again each time that it has taken twice as long.

    Args:
        straggler: When that is.
        name: The run's, for people.
        usually: What such a run takes, in seconds; ``None``: nobody knows, and nothing is told.
        behind: How many runs wait for it.
        tell: Told what is sent; also what could not be sent.
    """
    if usually is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        began, limit = time.monotonic(), straggler.factor * usually
        while not over.wait(max(0.0, began + limit - time.monotonic())):
            _alert(straggler, name, time.monotonic() - began, usually, behind(), tell)
            limit *= 2

    thread = threading.Thread(target=watch, name="spark_flow-straggler", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _alert(
    straggler: Straggler, name: str, took: float, usually: float, behind: int, tell: Callable[[str], None]
) -> None:
    late = took - usually
    queue = f"{behind} run(s) wait behind it, each {late:.1f} s late by now" if behind else "no run waits behind it"
    words = f"{name} runs for {took:.1f} s, {took / usually:.1f} times its usual {usually:.1f} s: {queue}"
    tell(words)
    if straggler.notify and notify.is_set(straggler.notify):
        try:
            notify.send(straggler.notify, f"straggler: {name}", words)
        except NotNotified as error:
            tell(str(error))  # the run is none the worse for it
