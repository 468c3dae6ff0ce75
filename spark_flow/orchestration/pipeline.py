"""Code shared by both runners: pipelines, the run of one key under its lease, and the results of keys."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from spark_flow.core import html
from spark_flow.core.names import check_name
from spark_flow.engine.mode import RETENTION, Mode, Permission
from spark_flow.engine.parallel import interrupt_jobs, tag_jobs
from spark_flow.engine.run import Run, recomputing
from spark_flow.errors import INTERRUPTED, Interrupted, NothingToDo, NotNow, UsageError, describe
from spark_flow.ledger import DeltaLedger
from spark_flow.orchestration import shared_state
from spark_flow.orchestration.claims import check_slots
from spark_flow.orchestration.key_plan import past_of
from spark_flow.orchestration.leases import QUEUE, TTL, HeldLeases, Leases, OnBusy, hold, only_writer
from spark_flow.storage import files

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pyspark.sql import SparkSession

    from spark_flow.engine.outcome import Observer
    from spark_flow.ledger import Ledger
    from spark_flow.orchestration.key_plan import Past, Planned
    from spark_flow.orchestration.shared_state import Footprint

State = Literal["succeeded", "reused", "failed", "waiting", "skipped", "fallback", "left", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Slots:
    """Slots of a workload pool that several pipelines share.

    Attributes:
        pool: The pool's name.
        pools: All declared pools, with their numbers of slots.
        leases: The folder in which slots are claimed, a path or URI; the same for all pipelines that share the pool.
        slots: The number of slots that one run takes.
    """

    pool: str
    pools: Mapping[str, int]
    leases: str
    slots: int = 1

    @property
    def limit(self) -> int:
        """Number of slots of the pool.

        Raises:
            InvalidArgument: A pool is declared with less than one slot, or a run takes less than one.
            UnknownPool: The pool is not declared, or has fewer slots than a run takes.
        """
        return check_slots(self.pools, self.pool, self.slots)


class Stop:
    """Ends runs in other threads: they start no further node, and their Spark jobs are cancelled."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._followed: dict[str, SparkSession] = {}

    @property
    def wanted(self) -> bool:
        """Whether the runs should end."""
        return self._wanted.is_set()

    def follow(self, session: SparkSession, tag: str) -> None:
        """Tag the Spark jobs that this thread will start, so that ``end`` can cancel them."""
        tag_jobs(session, tag)
        self._followed[tag] = session

    def end(self) -> None:
        """Request the end and cancel active Spark jobs; call it repeatedly, as a run may be between two jobs."""
        self._wanted.set()
        for tag, session in list(self._followed.items()):
            interrupt_jobs(session, tag)


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A request to run one key.

    Attributes:
        key: The unit of work.
        lease: The lease of the key; ``None`` if the process that runs it claims it itself.
        request_id: Request id (see ``Run.open``). A new id starts a new generation; the same id retries it.
        fair_pool: The pool of Spark's FAIR scheduler for the run's jobs; empty for the default pool.
        before_node: Called with each node before it runs. It waits until the node may run, or raises.
        stop: Ends the run from another thread; ``None`` for a run in the main thread, which is interrupted directly.
    """

    key: str
    lease: HeldLeases | None = None
    request_id: str = ""
    fair_pool: str = ""
    before_node: Callable[[str], None] = lambda _: None
    stop: Stop | None = None

    def interrupted(self) -> bool:
        """Return whether the runner has requested the end of the run."""
        return self.stop is not None and self.stop.wanted

    @property
    def permission(self) -> Permission:
        """Return what the run asks before it does any work."""
        return Permission(
            lease=self.lease, only_writer=only_writer, before_node=self.before_node, interrupted=self.interrupted
        )

    def in_pool(self, session: SparkSession) -> SparkSession:
        """Assign the Spark jobs of this thread to the fair pool, and return the session.

        Threads started through ``inheritable_thread_target`` inherit the pool
        (https://spark.apache.org/docs/latest/job-scheduling.html#fair-scheduler-pools). Spark Connect has no pools.
        """
        context = getattr(session, "sparkContext", None)
        if self.fair_pool and context is not None:
            context.setLocalProperty("spark.scheduler.pool", self.fair_pool)
        if self.stop is not None:
            self.stop.follow(session, f"spark_flow/{self.fair_pool}/{self.key}")
        return session


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The work that a runner does for each key; created from a function by ``pipeline``.

    Attributes:
        name: The pipeline's name, as in ``Run.open``.
        perform: Runs one key and returns the run's summary, or raises. The summary of a process that failed has a
            ``reason``.
        state: The state folder.
        ledger: The ledger with the pipeline's events.
        leases: The folder in which keys are claimed, a path or URI; the same for all processes that must coordinate.
        slots: The slots of a workload pool that each run takes.
        ttl: Seconds without a renewal after which another process may take over a run's lease.
        footprint: Returns what a key's run writes and reads; ``None`` means unknown, and runs are not compared.
        claims: Whether the runner claims the keys; false where ``perform`` starts processes that claim them.
    """

    name: str
    perform: Callable[[RunRequest], Mapping[str, Any]]
    state: str
    ledger: Ledger
    leases: str
    slots: Slots | None = None
    ttl: float = TTL
    footprint: Callable[[str], Footprint] | None = None
    claims: bool = True

    def past(self, key: str) -> Past:
        """Read the history of a key from the ledger."""
        return past_of(key, self.ledger.read(self.name, key))

    @contextlib.contextmanager
    def claimed(
        self,
        key: str,
        *,
        limit: int | None = None,
        busy: OnBusy = "wait",
        queue: int = QUEUE,
        report: Callable[[str], None] = lambda _: None,
    ) -> Iterator[HeldLeases | None]:
        """Hold the lease of a key, and its slots of the workload pool, while the block runs.

        Args:
            key: The unit of work.
            limit: The largest number of active runs of the pipeline; ``None`` accepts the limit of other claims.
            busy: As for ``leases.hold``.
            queue: As for ``leases.hold``.
            report: As for ``leases.hold``.

        Raises:
            SparkFlowError: The errors of ``leases.hold``.
        """
        if not self.claims:
            yield None
            return
        claim = functools.partial(
            hold, pipeline=self.name, key=key, busy=busy, queue=queue, report=report, ttl=self.ttl
        )
        with contextlib.ExitStack() as stack:
            # Always claim the pipeline's lease first: one order for all runs, so that there is no deadlock.
            own = Leases(self.leases).of_pipeline(self.name)
            leases = [stack.enter_context(claim(own, limit=limit, above=self.ledger.token(f"{self.name}/{key}")))]
            if self.slots is not None:
                pool = Leases(self.slots.leases).of_pool(self.slots.pool)
                leases.append(stack.enter_context(claim(pool, limit=self.slots.limit, slots=self.slots.slots)))
            yield HeldLeases(tuple(leases))


def pipeline(
    name: str,
    body: Callable[[Run], None],
    *,
    state: str = "state",
    spark: SparkSession | Callable[[], SparkSession] | None = None,
    ledger: Ledger | None = None,
    leases: str = "",
    slots: Slots | None = None,
    ttl: float = TTL,
    observers: Sequence[Observer] = (),
    retention: dt.timedelta = RETENTION,
) -> Pipeline:
    """Create a pipeline from a function of a run.

    >>> def load(run):
    ...     day = sf.source("json", f"data/date={run.key}")
    ...     sf.write(run, "lake", sf.read(run, "flights", day), sf.delta("out/flights", partition_by="date"))
    >>> flights = pipeline("flights", load)  # doctest: +SKIP

    Args:
        name: The pipeline's name, as in ``Run.open``.
        body: Does the work for ``run.key``.
        state: The state folder.
        spark: A session, or a function that creates one; by default the active session.
        ledger: The ledger; by default the Delta table in the state folder.
        leases: The folder in which keys are claimed; by default ``<state>/leases``.
        slots: The slots of a workload pool that each run takes.
        ttl: Seconds without a renewal after which another process may take over a run's lease.
        observers: Called as nodes proceed.
        retention: How long the checkpoints of a succeeded run are kept.

    Raises:
        InvalidArgument, UnknownPool: The slots are invalid for their pool.
        InvalidName: The name cannot be used as a folder name.
    """
    check_name("pipeline", name)
    if slots is not None:
        _ = slots.limit
    where = ledger if ledger is not None else DeltaLedger(state)

    def perform(request: RunRequest) -> Mapping[str, Any]:
        return recomputing(lambda: once(request))

    def once(request: RunRequest) -> Mapping[str, Any]:
        def session() -> SparkSession:
            from pyspark.sql import SparkSession

            return request.in_pool(spark() if callable(spark) else spark or SparkSession.builder.getOrCreate())

        return opened(
            request.key, session, Mode(request_id=request.request_id, retention=retention), request.permission
        ).summary()

    def walked(key: str) -> Footprint:
        return shared_state.footprint(opened(key, spark, Mode(plan=True), Permission()))

    def opened(
        key: str,
        session: SparkSession | Callable[[], SparkSession] | None,
        mode: Mode,
        permission: Permission,
    ) -> Run:
        with Run.open(
            name,
            key,
            state=state,
            spark=session,
            ledger=where,
            mode=mode,
            permission=permission,
            observers=observers,
        ) as run:
            body(run)
        return run

    folder = leases or files.join(state, "leases")
    return Pipeline(
        name=name,
        perform=perform,
        state=state,
        ledger=where,
        leases=folder,
        slots=slots,
        ttl=ttl,
        footprint=walked,
    )


@dataclass(frozen=True, kw_only=True)
class KeyResult:
    """The result of a key.

    Attributes:
        key: The key.
        state: The state, as in a run's summary; ``left`` means that ``reprocess`` excluded a failed key.
        reason: The reason as a message.
        seconds: The duration in seconds, without the wait for the lease.
        error: The exception that ended the run, if any.
    """

    key: str
    state: State
    reason: str = ""
    seconds: float = 0.0
    error: BaseException | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The result of each requested key, in the calendar's order."""

    pipeline: str
    results: tuple[KeyResult, ...]

    def _repr_html_(self) -> str:
        """Return the keys for notebooks."""
        rows = [(each.state, each.key, html.seconds(1000 * each.seconds), each.reason) for each in self.results]
        return html.table(self.pipeline, ("", "key", "time", "reason"), rows, states=0)

    @property
    def exit_code(self) -> int:
        """130 if interrupted; 1 if a key failed, now or before; 75 if keys have to wait and none failed; else 0."""
        states = {result.state for result in self.results}
        if "interrupted" in states:
            return Interrupted.exit_code
        if states & {"failed", "fallback", "left"}:
            return 1
        return NotNow.exit_code if "waiting" in states else 0

    @property
    def counts(self) -> Mapping[str, int]:
        """Number of keys by state."""
        return Counter(result.state for result in self.results)

    @property
    def facts(self) -> dict[str, Any]:
        """The summary as JSON-compatible values."""
        names = ("key", "state", "reason", "seconds")
        keys = [{name: getattr(result, name) for name in names} for result in self.results]
        return {"pipeline": self.pipeline, "keys": keys}


class RunnerInterrupted(KeyboardInterrupt):
    """Raised when a runner is interrupted with Ctrl-C; ``summary`` has the result of each key."""

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        super().__init__(INTERRUPTED)


def not_begun(key: str) -> KeyResult:
    """Return the result of a key that had not started when the runner was interrupted."""
    return KeyResult(key=key, state="interrupted", reason="not started: the runner was interrupted")


def one(pipeline: Pipeline, request: RunRequest) -> KeyResult:
    """Run one key; an error is returned in the result, not raised."""
    began = time.monotonic()

    def perform() -> KeyResult:
        summary = pipeline.perform(request)
        attempt = f"generation {summary.get('generation')}, attempt {summary.get('attempt')}"
        took, reason = _since(began), str(summary.get("reason") or attempt)
        return KeyResult(key=request.key, state=summary.get("state", "failed"), reason=reason, seconds=took)

    return attempted(request.key, perform)


def attempted(key: str, do: Callable[[], KeyResult], *, refuse: bool = False) -> KeyResult:
    """Return a key's result, also if running it raises, so that the other keys continue.

    Args:
        key: The key.
        do: Claims the key, reads its history and runs it.
        refuse: Raise usage errors, which concern all keys.

    Raises:
        UsageError: ``refuse`` is set, and the usage is wrong.
    """
    began = time.monotonic()
    try:
        return do()
    except (Exception, SystemExit) as error:  # the user's function may call sys.exit
        if refuse and isinstance(error, UsageError):
            raise
        return ended_with(key, error, _since(began))


def ended_with(key: str, error: BaseException, seconds: float = 0.0) -> KeyResult:
    """Return the result of a key that ended with an error."""
    kinds: dict[type[BaseException], State] = {NotNow: "waiting", NothingToDo: "skipped"}
    kinds |= {KeyboardInterrupt: "interrupted", Interrupted: "interrupted"}
    state: State = next((state for kind, state in kinds.items() if isinstance(error, kind)), "failed")
    return KeyResult(key=key, state=state, reason=describe(error), seconds=seconds, error=error)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)


def settled(planned: Planned) -> KeyResult:
    """Return the result of a key that is not run."""
    states: Mapping[str, State] = {"reuse": "reused", "leave": "left", "wait": "waiting"}
    return KeyResult(key=planned.key, state=states[planned.what], reason=planned.reason)


def in_order(keys: Sequence[str], results: Mapping[str, KeyResult]) -> tuple[KeyResult, ...]:
    """Return the results in the order of ``keys``."""
    return tuple(results[key] for key in keys)
