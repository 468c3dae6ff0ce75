"""Single runner (the book's section 5.1): at most one run of a pipeline at any time, its keys in order."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING

from spark_flow.core.clock import Clock
from spark_flow.errors import InvalidArgument, PreviousNotDone, UsageError
from spark_flow.orchestration import key_plan as plans
from spark_flow.orchestration.leases import QUEUE, Leases, OnBusy, Rights
from spark_flow.orchestration.pipeline import (
    KeyResult,
    Order,
    Pipeline,
    RunnerInterrupted,
    Summary,
    attempted,
    ended_with,
    not_begun,
    one,
    settled,
)
from spark_flow.orchestration.stragglers import Straggler, usual, watched
from spark_flow.storage import markers
from spark_flow.storage.markers import MARKERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spark_flow.orchestration.calendar import Calendar
    from spark_flow.orchestration.key_plan import Planned, Reprocess
    from spark_flow.storage.markers import Marker

_LOOK = 1.0  # seconds between two looks at a marker


@dataclass(frozen=True)
class SingleRunner:
    """Runs the keys of a pipeline one after another, and never beside another run of it, of whatever process.

    >>> runner = SingleRunner(trend, daily("2013-01-01"), depends_on_past=True)  # doctest: +SKIP
    >>> runner.run("2013-01-01..2013-01-04").counts  # doctest: +SKIP
    Counter({'succeeded': 4})

    Attributes:
        pipeline: What is run.
        calendar: Its keys.
        depends_on_past: A key starts only when the one before it has succeeded; the calendar's first is exempt.
        after_marker: A dataset that the pipeline publishes: in place of the lease, whose storage may not be there for
            all who run it, a key starts only when the key before has marked it ready.
        markers: The folder of those markers.
        on_busy: When another run of the pipeline is at work: ``wait`` for it; ``queue``: wait, but only if fewer than
            ``queue`` do; ``exit``: end at once.
        queue: See there.
        reprocess: Which keys that were run before are run again: ``none``, those that ``failed`` or were incomplete,
            or ``all``.
        cause: What asks for it (see ``Run.open``).
        straggler: When a run that takes long is told of.
        tell: Told what goes on.
    """

    pipeline: Pipeline
    calendar: Calendar
    _: KW_ONLY
    depends_on_past: bool = False
    after_marker: str = ""
    markers: str = MARKERS
    on_busy: OnBusy = "wait"
    queue: int = QUEUE
    reprocess: Reprocess = "failed"
    cause: str = ""
    straggler: Straggler = field(default_factory=Straggler)
    tell: Callable[[str], None] = lambda _: None
    clock: Clock = field(default_factory=Clock)

    def plan(self, keys: str = "") -> list[Planned]:
        """What would be done with each key.

        Args:
            keys: Keys and ranges, as ``2013-01-01..2013-01-04``; by default all of the calendar.

        Raises:
            InvalidArgument: A key is none of the calendar's.
        """
        self._check()
        past = plans.pasts(self.pipeline.ledger, self.pipeline.name)
        return self._plan(self.calendar.keys(keys, now=self.clock.now()), past)

    def run(self, keys: str = "") -> Summary:
        """Run the keys in order; what became of each is reported, not raised, and stops no other.

        A key that others are at work on is reported as waiting, and one whose ledger or lease cannot be read or written
        as failed; the next one is judged by itself.

        Args:
            keys: See ``plan``.

        Raises:
            InvalidArgument: A key is none of the calendar's.
            OtherLimit: A concurrent runner runs the same pipeline.
            RunnerInterrupted: By Ctrl-C.
        """
        results: list[KeyResult] = []
        try:
            planned = self.plan(keys)
        except UsageError:
            raise
        except Exception as error:  # what became of the keys before is not known of any
            wanted = self.calendar.keys(keys, now=self.clock.now())
            return Summary(pipeline=self.pipeline.name, results=tuple(ended_with(key, error) for key in wanted))
        begun = False
        for place, each in enumerate(planned):
            if each.what in ("reuse", "leave"):
                result = settled(each)
            else:
                behind = sum(later.what == "run" for later in planned[place + 1 :])
                do = functools.partial(self._one, each.key, behind)
                try:
                    result = attempted(each.key, do, refuse=not begun)
                except KeyboardInterrupt as error:
                    results += [ended_with(each.key, error), *(not_begun(later.key) for later in planned[place + 1 :])]
                    raise RunnerInterrupted(Summary(pipeline=self.pipeline.name, results=tuple(results))) from error
                begun = True
            self.tell(f"{result.key} {result.state}: {result.reason}")
            results.append(result)
        return Summary(pipeline=self.pipeline.name, results=tuple(results))

    def _plan(self, keys: tuple[str, ...], past: Callable[[str], plans.Past]) -> list[Planned]:
        how = {"reprocess": self.reprocess, "depends_on_past": self.depends_on_past}
        return plans.plan(keys, past, self.calendar.previous, **how)  # type: ignore[arg-type]

    def _check(self) -> None:
        if self.on_busy not in ("wait", "queue", "exit"):
            raise InvalidArgument("on_busy", repr(self.on_busy), "wait, queue or exit")
        if self.queue < 0:
            raise InvalidArgument("queue", str(self.queue), "0 or more")
        if (self.depends_on_past or self.after_marker) and self.calendar.every and self.calendar.start is None:
            raise InvalidArgument("depends_on_past", "no start_date", "the first key, which depends on none")

    def _one(self, key: str, behind: int) -> KeyResult:
        with self._alone(key) as lease:
            # Whatever was planned: it may have waited for one who did it, or who failed at the key before.
            (now,) = self._plan((key,), self.pipeline.past)
            if now.what != "run":
                return settled(now)
            usually = usual(self.pipeline.ledger.read(self.pipeline.name), self.straggler.last)
            name = f"{self.pipeline.name} {key}"
            with watched(self.straggler, name, usually, lambda: behind + self._queued(), self.tell):
                return one(self.pipeline, Order(key=key, lease=lease, cause=self.cause))

    @contextlib.contextmanager
    def _alone(self, key: str) -> Iterator[Rights | None]:
        if self.after_marker:
            self._wait_for_marker(key)
            yield None
            return
        with self.pipeline.claimed(key, limit=1, busy=self.on_busy, queue=self.queue, tell=self.tell) as lease:
            yield lease

    def _queued(self) -> int:
        """Runs of other processes that wait for this one."""
        if self.after_marker or not self.pipeline.claims:
            return 0
        return len(Leases(self.pipeline.leases).of_pipeline(self.pipeline.name).read().waiting)

    def _wait_for_marker(self, key: str) -> None:
        before = self.calendar.previous(key)
        told = ""
        while before is not None:
            marker = self._marker(before)
            if marker is not None and marker.state in ("ready", "skipped"):
                return
            found = "no marker yet" if marker is None else f"{marker.state}: {marker.reason}"
            if self.on_busy == "exit" or (marker is not None and marker.state == "failed"):
                raise PreviousNotDone(key, before, f"{self.after_marker}: {found}")
            if found != told:
                told = found
                self.tell(f"{key} waits for {self.after_marker} {before}: {found}")
            self.clock.sleep(_LOOK)

    def _marker(self, key: str) -> Marker | None:
        try:
            return markers.read(markers.path_of(self.markers, self.after_marker, key))
        except FileNotFoundError:
            return None
