"""Concurrent runner (the book's section 5.2): runs of independent keys in parallel."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Literal

from spark_flow.core.clock import Clock
from spark_flow.errors import InvalidArgument, UsageError, describe
from spark_flow.orchestration import key_plan as plans
from spark_flow.orchestration import shared_state
from spark_flow.orchestration.depends_on_past import PATIENCE, DependsOnPast
from spark_flow.orchestration.leases import QUEUE, OnBusy
from spark_flow.orchestration.pipeline import (
    KeyResult,
    Pipeline,
    RunnerInterrupted,
    RunRequest,
    Stop,
    Summary,
    attempted,
    ended_with,
    in_order,
    not_begun,
    one,
    settled,
)
from spark_flow.orchestration.stragglers import Straggler, usual, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from spark_flow.orchestration.calendar import Calendar
    from spark_flow.orchestration.key_plan import Planned, Reprocess
    from spark_flow.orchestration.leases import HeldLeases
    from spark_flow.orchestration.shared_state import Footprint

First = Literal["oldest", "newest"]

MAX_ACTIVE_RUNS = 5
_POLL = 0.5  # seconds between two checks for an interrupt, and between two requests to end
COMPARED = 16  # the largest number of keys whose reads and writes are compared before the first one starts


@dataclass(frozen=True)
class ConcurrentRunner:
    """Runs keys of a pipeline in parallel, with a limit on active runs that holds across all processes.

    >>> runner = ConcurrentRunner(loads, daily("2013-01-01"), max_active_runs=3)  # doctest: +SKIP
    >>> runner.run("2013-01-01..2013-01-14").counts  # doctest: +SKIP
    Counter({'succeeded': 14})

    Each run is a thread with its own pool in Spark's FAIR scheduler, or a process (``Pipeline.claims``).

    Attributes:
        pipeline: The pipeline to run.
        calendar: The pipeline's keys.
        max_active_runs: The largest number of runs that are active at once, including those of other processes.
        depends_on_past: Nodes that a key starts only when the previous key has finished all of them. Other nodes do
            not wait.
        shared_state: Tables and folders that no two parallel runs may write.
        first: Start with the ``oldest`` or the ``newest`` key.
        on_busy: See ``SingleRunner``, which also describes ``queue``, ``reprocess``, ``request_id``, ``straggler``,
            ``report`` and ``clock``.
        patience: Seconds that a node waits for a previous key that is not running.
    """

    pipeline: Pipeline
    calendar: Calendar
    _: KW_ONLY
    max_active_runs: int = MAX_ACTIVE_RUNS
    depends_on_past: Sequence[str] = ()
    shared_state: Sequence[str] = ()
    first: First = "oldest"
    on_busy: OnBusy = "wait"
    queue: int = QUEUE
    reprocess: Reprocess = "failed"
    request_id: str = ""
    straggler: Straggler = field(default_factory=Straggler)
    report: Callable[[str], None] = lambda _: None
    patience: float = PATIENCE
    clock: Clock = field(default_factory=Clock)

    def plan(self, keys: str = "") -> list[Planned]:
        """Return what ``run`` would do with each key, in the calendar's order; see ``SingleRunner.plan``.

        Raises:
            InvalidArgument: A key is not in the calendar.
            SharedState: The runs would conflict.
        """
        self._check()
        past = plans.pasts(self.pipeline.ledger, self.pipeline.name)
        planned = plans.plan(
            self.calendar.keys(keys, now=self.clock.now()), past, self.calendar.previous, reprocess=self.reprocess
        )
        self._refuse_shared_state([each.key for each in planned if each.what == "run"])
        return planned

    def run(self, keys: str = "") -> Summary:
        """Run the keys in parallel and return the result of each; a failed key does not raise and does not stop others.

        A key that another process is running is reported as waiting. A key whose ledger or lease cannot be read or
        written is reported as failed. Both do not affect the other keys.

        Raises:
            InvalidArgument: A key is not in the calendar.
            OtherLimit: Another runner of the pipeline has a different ``max_active_runs``.
            SharedState: The runs would conflict.
            RunnerInterrupted: The runner was interrupted with Ctrl-C; its runs have ended.
            UnknownPool: A run needs more slots than the pool has.
        """
        try:
            planned = self.plan(keys)
            side = _Side(self, [each.key for each in planned if each.what == "run"])
        except UsageError:
            raise
        except Exception as error:  # without the ledger, the past of the keys is unknown
            wanted = self.calendar.keys(keys, now=self.clock.now())
            return Summary(pipeline=self.pipeline.name, results=tuple(ended_with(key, error) for key in wanted))
        results = {each.key: settled(each) for each in planned if each.what != "run"}
        for result in results.values():
            self._report(result)
        results |= side.run()
        summary = Summary(pipeline=self.pipeline.name, results=in_order([each.key for each in planned], results))
        if side.interrupted:
            raise RunnerInterrupted(summary)
        return summary

    def _report(self, result: KeyResult) -> None:
        self.report(f"{result.key} {result.state}: {result.reason}")

    def _check(self) -> None:
        if self.max_active_runs < 1:
            raise InvalidArgument("max_active_runs", str(self.max_active_runs), "1 or more")
        if self.first not in ("oldest", "newest"):
            raise InvalidArgument("first", repr(self.first), "oldest or newest")
        if self.on_busy not in ("wait", "queue", "exit"):
            raise InvalidArgument("on_busy", repr(self.on_busy), "wait, queue or exit")
        if isinstance(self.depends_on_past, str | bool):
            raise InvalidArgument("depends_on_past", repr(self.depends_on_past), "names of nodes, or SingleRunner")
        if self.depends_on_past and self.first == "newest":
            raise InvalidArgument("first", "newest with depends_on_past", "oldest: each key waits for the previous one")

    def _refuse_shared_state(self, keys: Sequence[str]) -> None:
        """Refuse keys whose runs would conflict in what they write and read."""
        if self.pipeline.footprint is None or self.max_active_runs == 1 or len(keys) <= 1:
            return
        # Keys differ only in their names, so the first ones, which are neighbours, and the last stand for all.
        some = [*keys[: COMPARED - 1], keys[-1]] if len(keys) > COMPARED else keys
        prints = [found for key in some if (found := self._footprint(key)) is not None]
        shared_state.check(prints, shared_state=self.shared_state, in_order=self.depends_on_past)

    def _footprint(self, key: str) -> Footprint | None:
        """Return what a key's run would write and read; ``None`` if it cannot be planned, as it fails when it runs."""
        try:
            return self.pipeline.footprint(key) if self.pipeline.footprint is not None else None
        except UsageError:
            raise
        except Exception as error:
            self.report(f"{key} cannot be checked for conflicts with other keys: {describe(error)}")
            return None


class _Side:
    """One call of ``ConcurrentRunner.run``: its threads, leases and results."""

    def __init__(self, runner: ConcurrentRunner, keys: Sequence[str]) -> None:
        self._runner = runner
        self._pipeline = runner.pipeline
        self._keys = keys
        self._behind = len(keys)
        self._stop = Stop()
        self._begun: set[str] = set()
        self._done: dict[str, KeyResult] = {}
        self._usually = usual(runner.pipeline.ledger, runner.pipeline.name, runner.straggler.last)

    def run(self) -> dict[str, KeyResult]:
        runner = self._runner
        order = self._keys if runner.first == "oldest" else list(reversed(self._keys))
        free = threading.Semaphore(runner.max_active_runs)
        futures: dict[str, Future[KeyResult]] = {}
        results: dict[str, KeyResult] = {}
        claimed: dict[str, contextlib.ExitStack] = {}
        with ThreadPoolExecutor(runner.max_active_runs, thread_name_prefix=f"spark_flow/{self._pipeline.name}") as pool:
            try:
                for key in order:
                    while not free.acquire(timeout=_POLL):  # a signal just before an endless wait would be missed
                        pass
                    self._behind -= 1
                    # Claim in this thread, one after another, so that the queue has the order of the keys.
                    stack = claimed[key] = contextlib.ExitStack()
                    try:
                        lease = stack.enter_context(self._claimed(key))
                    except Exception as error:  # concerns this key only
                        free.release()
                        if isinstance(error, UsageError) and not futures and not results:
                            raise
                        results[key] = ended_with(key, error)
                        runner._report(results[key])  # noqa: SLF001 - of this module
                        continue
                    futures[key] = pool.submit(self._work, key, lease, stack, free)
                while wait(futures.values(), timeout=_POLL).not_done:
                    pass
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                self._end()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        if not self.interrupted:
            return results | {key: future.result() for key, future in futures.items()}
        for key in claimed.keys() - self._done.keys():  # interrupted before its thread took it over
            claimed[key].close()
        return {key: results.get(key) or self._done.get(key) or not_begun(key) for key in order}

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._stop.wanted

    def _end(self) -> None:
        """End active runs. The threads record which ones are, as an interrupt may come between any two steps here."""
        self._stop.end()
        while self._begun - self._done.keys():
            time.sleep(_POLL)
            self._stop.end()

    def _claimed(self, key: str) -> contextlib.AbstractContextManager[HeldLeases | None]:
        runner, limit = self._runner, self._runner.max_active_runs
        return self._pipeline.claimed(key, limit=limit, busy=runner.on_busy, queue=runner.queue, report=runner.report)

    def _work(
        self, key: str, lease: HeldLeases | None, stack: contextlib.ExitStack, free: threading.Semaphore
    ) -> KeyResult:
        def under_lease() -> KeyResult:
            with stack:
                return self._one(key, lease)

        self._begun.add(key)
        try:
            result = self._done[key] = attempted(key, under_lease)
        finally:
            free.release()
        self._runner._report(result)  # noqa: SLF001 - of this module
        return result

    def _one(self, key: str, lease: HeldLeases | None) -> KeyResult:
        runner = self._runner
        # Plan again: another process may have run the key while this one waited.
        (now,) = plans.plan((key,), self._pipeline.past, runner.calendar.previous, reprocess=runner.reprocess)
        if now.what != "run":
            return settled(now)
        runner.report(f"{key} starts: {now.reason}")
        name = f"{self._pipeline.name} {key}"
        with watched(runner.straggler, name, self._usually, lambda: self._behind, runner.report):
            return one(self._pipeline, self._order(key, lease))

    def _order(self, key: str, lease: HeldLeases | None) -> RunRequest:
        return RunRequest(
            key=key,
            lease=lease,
            request_id=self._runner.request_id,
            fair_pool=f"{self._pipeline.name}/{key}",
            before_node=self._before_node(key) or (lambda _: None),
            stop=self._stop,
        )

    def _before_node(self, key: str) -> DependsOnPast | None:
        runner, pipeline = self._runner, self._pipeline
        previous = runner.calendar.previous(key) if runner.depends_on_past else None
        if previous is None:
            return None
        return DependsOnPast(
            pipeline=pipeline.name,
            previous=previous,
            nodes=tuple(runner.depends_on_past),
            ledger=pipeline.ledger,
            leases=pipeline.leases,
            request_id=runner.request_id if previous in self._keys else "",
            expected=previous in self._keys,
            patience=runner.patience,
            report=runner.report,
        )
