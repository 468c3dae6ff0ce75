"""Single runner (the book's section 5.1): at most one run of a pipeline at a time, with its keys in order."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING

from spark_flow.core.clock import Clock
from spark_flow.errors import InvalidArgument, PreviousNotDone, UsageError
from spark_flow.orchestration import key_plan as plans
from spark_flow.orchestration.leases import QUEUE, HeldLeases, Leases, OnBusy
from spark_flow.orchestration.pipeline import (
    KeyResult,
    Pipeline,
    RunnerInterrupted,
    RunRequest,
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

_POLL = 1.0  # seconds between two reads of a marker


@dataclass(frozen=True)
class SingleRunner:
    """Runs the keys of a pipeline one after another, and never while another process runs the same pipeline.

    >>> runner = SingleRunner(trend, daily("2013-01-01"), depends_on_past=True)  # doctest: +SKIP
    >>> runner.run("2013-01-01..2013-01-04").counts  # doctest: +SKIP
    Counter({'succeeded': 4})

    Attributes:
        pipeline: The pipeline to run.
        calendar: The pipeline's keys.
        depends_on_past: Start a key only when the previous one has succeeded; the calendar's first key is exempt.
        after_marker: A dataset that the pipeline publishes. A key starts only when the previous key's marker of this
            dataset is ready. This replaces the lease, for runners that do not share the storage of leases.
        markers: The folder of readiness markers.
        on_busy: What to do while another run of the pipeline is active: ``wait`` for it; ``queue``: wait, but only if
            fewer than ``queue`` runs wait; ``exit``: report the key as waiting at once.
        queue: The largest number of waiting runs for ``on_busy="queue"``.
        reprocess: Which keys that were run before are run again: ``none``, those that ``failed`` or were incomplete,
            or ``all``.
        request_id: Request id (see ``Run.open``). A new id starts a new generation; the same id retries it.
        straggler: When to report a run that takes unusually long.
        report: Called with progress messages.
        clock: The source of time; by default the machine's clocks.
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
    request_id: str = ""
    straggler: Straggler = field(default_factory=Straggler)
    report: Callable[[str], None] = lambda _: None
    clock: Clock = field(default_factory=Clock)

    def plan(self, keys: str = "") -> list[Planned]:
        """Return what ``run`` would do with each key.

        Args:
            keys: Keys and ranges, such as ``2013-01-01..2013-01-04``; by default all keys of the calendar.

        Raises:
            InvalidArgument: A key is not in the calendar.
        """
        self._check()
        past = plans.pasts(self.pipeline.ledger, self.pipeline.name)
        return self._plan(self.calendar.keys(keys, now=self.clock.now()), past)

    def run(self, keys: str = "") -> Summary:
        """Run the keys in order and return the result of each; a failed key does not raise and does not stop the rest.

        A key that another process is running is reported as waiting. A key whose ledger or lease cannot be read or
        written is reported as failed. Both do not affect the next key.

        Args:
            keys: Keys and ranges, as for ``plan``.

        Raises:
            InvalidArgument: A key is not in the calendar.
            OtherLimit: A concurrent runner runs the same pipeline.
            RunnerInterrupted: The runner was interrupted with Ctrl-C.
        """
        results: list[KeyResult] = []
        try:
            planned = self.plan(keys)
        except UsageError:
            raise
        except Exception as error:  # without the ledger, the past of the keys is unknown
            wanted = self.calendar.keys(keys, now=self.clock.now())
            return Summary(pipeline=self.pipeline.name, results=tuple(ended_with(key, error) for key in wanted))
        begun = False
        for position, each in enumerate(planned):
            if each.what in ("reuse", "leave"):
                result = settled(each)
            else:
                behind = sum(later.what == "run" for later in planned[position + 1 :])
                do = functools.partial(self._one, each.key, behind)
                try:
                    result = attempted(each.key, do, refuse=not begun)
                except KeyboardInterrupt as error:
                    rest = planned[position + 1 :]
                    results += [ended_with(each.key, error), *(not_begun(later.key) for later in rest)]
                    raise RunnerInterrupted(Summary(pipeline=self.pipeline.name, results=tuple(results))) from error
                begun = True
            self.report(f"{result.key} {result.state}: {result.reason}")
            results.append(result)
        return Summary(pipeline=self.pipeline.name, results=tuple(results))

    def _plan(self, keys: tuple[str, ...], past: Callable[[str], plans.Past]) -> list[Planned]:
        previous, reprocess = self.calendar.previous, self.reprocess
        return plans.plan(keys, past, previous, reprocess=reprocess, depends_on_past=self.depends_on_past)

    def _check(self) -> None:
        if self.on_busy not in ("wait", "queue", "exit"):
            raise InvalidArgument("on_busy", repr(self.on_busy), "wait, queue or exit")
        if self.queue < 0:
            raise InvalidArgument("queue", str(self.queue), "0 or more")
        if (self.depends_on_past or self.after_marker) and self.calendar.every and self.calendar.start is None:
            expected = "a start_date, the first key, which does not depend on another one"
            raise InvalidArgument("depends_on_past", "no start_date", expected)

    def _one(self, key: str, behind: int) -> KeyResult:
        with self._alone(key) as lease:
            # Plan again: while this process waited, another one may have run the key, or failed at the previous one.
            (now,) = self._plan((key,), self.pipeline.past)
            if now.what != "run":
                return settled(now)
            usually = usual(self.pipeline.ledger, self.pipeline.name, self.straggler.last)
            name = f"{self.pipeline.name} {key}"
            with watched(self.straggler, name, usually, lambda: behind + self._queued(), self.report):
                return one(self.pipeline, RunRequest(key=key, lease=lease, request_id=self.request_id))

    @contextlib.contextmanager
    def _alone(self, key: str) -> Iterator[HeldLeases | None]:
        if self.after_marker:
            self._wait_for_marker(key)
            yield None
            return
        with self.pipeline.claimed(key, limit=1, busy=self.on_busy, queue=self.queue, report=self.report) as lease:
            yield lease

    def _queued(self) -> int:
        """Return the number of other processes' runs that wait for this one."""
        if self.after_marker or not self.pipeline.claims:
            return 0
        return len(Leases(self.pipeline.leases).of_pipeline(self.pipeline.name).read().waiting)

    def _wait_for_marker(self, key: str) -> None:
        before = self.calendar.previous(key)
        reported = ""
        while before is not None:
            marker = self._marker(before)
            if marker is not None and marker.state in ("ready", "skipped"):
                return
            found = "no marker yet" if marker is None else f"{marker.state}: {marker.reason}"
            if self.on_busy == "exit" or (marker is not None and marker.state == "failed"):
                raise PreviousNotDone(key, before, f"{self.after_marker}: {found}")
            if found != reported:
                reported = found
                self.report(f"{key} waits for {self.after_marker} {before}: {found}")
            self.clock.sleep(_POLL)

    def _marker(self, key: str) -> Marker | None:
        try:
            return markers.read(markers.path_of(self.markers, self.after_marker, key))
        except FileNotFoundError:
            return None
