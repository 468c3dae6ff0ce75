"""What both runners share: a pipeline's work on one key under its lease, and what became of the keys."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from spark_flow.core.names import check_name
from spark_flow.engine.mode import RETENTION, Mode, Permission
from spark_flow.engine.parallel import interrupt_jobs, tag_jobs
from spark_flow.engine.run import Run, recomputing
from spark_flow.errors import INTERRUPTED, Interrupted, NothingToDo, NotNow, UsageError, describe
from spark_flow.ledger import DeltaLedger
from spark_flow.orchestration import shared_state
from spark_flow.orchestration.claims import check_slots
from spark_flow.orchestration.key_plan import past_of
from spark_flow.orchestration.leases import QUEUE, TTL, Leases, OnBusy, Rights, hold
from spark_flow.storage import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pyspark.sql import SparkSession

    from spark_flow.engine.outcome import Observer
    from spark_flow.ledger import Ledger
    from spark_flow.orchestration.key_plan import Past, Planned
    from spark_flow.orchestration.shared_state import Footprint

State = Literal["succeeded", "reused", "failed", "waiting", "skipped", "fallback", "left", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Slots:
    """A part of a workload pool that many pipelines share.

    Attributes:
        pool: Its name.
        pools: All pools that are declared, with their slots.
        leases: Where they are claimed: one folder for all who share them, a path or URI.
        slots: How many one run takes.
    """

    pool: str
    pools: Mapping[str, int]
    leases: str
    slots: int = 1

    @property
    def limit(self) -> int:
        """The pool's slots.

        Raises:
            InvalidArgument: A pool has none, or the run wants none.
            UnknownPool: It is not declared, or has fewer.
        """
        return check_slots(self.pools, self.pool, self.slots)


class Stop:
    """Ends runs that are in other threads: they begin nothing more, and their Spark jobs are cancelled."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._followed: dict[str, SparkSession] = {}

    @property
    def wanted(self) -> bool:
        """Whether the runs are to end."""
        return self._wanted.is_set()

    def follow(self, session: SparkSession, tag: str) -> None:
        """Mark the jobs that this thread will start."""
        tag_jobs(session, tag)
        self._followed[tag] = session

    def end(self) -> None:
        """Ask for the end; again and again, for a run may be between two of its jobs."""
        self._wanted.set()
        for tag, session in list(self._followed.items()):
            interrupt_jobs(session, tag)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked of one run.

    Attributes:
        key: The unit of work.
        lease: The right to do it; ``None`` if whoever does it claims it by itself.
        cause: What asks for it (see ``Run.open``).
        fair_pool: The pool of Spark's FAIR scheduler that its jobs belong in; empty for the default one.
        gate: Called with a node before it is done: waits, or raises, until the node may be done.
        stop: How who runs it ends it from another thread; none where that is the main thread, which is interrupted.
    """

    key: str
    lease: Rights | None = None
    cause: str = ""
    fair_pool: str = ""
    gate: Callable[[str], None] = lambda _: None
    stop: Stop | None = None

    def interrupted(self) -> bool:
        """Whether who runs it wants it to end."""
        return self.stop is not None and self.stop.wanted

    @property
    def permission(self) -> Permission:
        """What the run asks before it does any work."""
        return Permission(lease=self.lease, before_node=self.gate, interrupted=self.interrupted)

    def in_pool(self, session: SparkSession) -> SparkSession:
        """A session, once the jobs that this thread starts in it belong in the fair pool.

        So do those of threads that it starts by ``inheritable_thread_target``
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
    """What is run for each key; made by ``pipeline`` from a function.

    Attributes:
        name: As in ``Run.open``.
        perform: Does one key and returns its run's summary, or raises; of a process that did not end well the
            summary has a ``reason``.
        state: The state folder.
        ledger: Where its events are.
        leases: Where its keys are claimed, a path or URI; every process that shall not disturb the others, the same.
        slots: The part of a workload pool that each run takes.
        ttl: Seconds after which a run whose process was stopped or cut off may be taken over.
        footprint: What a key's run writes and reads; ``None``: it is not known, and not compared.
        claims: Whether the runner claims the keys; false where ``perform`` starts processes that do.
    """

    name: str
    perform: Callable[[Order], Mapping[str, Any]]
    state: str
    ledger: Ledger
    leases: str
    slots: Slots | None = None
    ttl: float = TTL
    footprint: Callable[[str], Footprint] | None = None
    claims: bool = True

    def past(self, key: str) -> Past:
        """What the ledger knows of a key now."""
        return past_of(key, self.ledger.read(self.name, key))

    @contextlib.contextmanager
    def claimed(
        self,
        key: str,
        *,
        limit: int | None = None,
        busy: OnBusy = "wait",
        queue: int = QUEUE,
        tell: Callable[[str], None] = lambda _: None,
    ) -> Iterator[Rights | None]:
        """Hold the lease of a key, and its slots of the pool, while the block runs.

        Args:
            key: The unit of work.
            limit: How many runs of the pipeline may be at work at once; ``None``: as many as others say.
            busy: See ``leases.hold``, as ``queue`` and ``tell``.
            queue: See there.
            tell: See there.

        Raises:
            SparkFlowError: As ``leases.hold`` does.
        """
        if not self.claims:
            yield None
            return
        how: dict[str, Any] = {"busy": busy, "queue": queue, "tell": tell, "ttl": self.ttl}
        with contextlib.ExitStack() as stack:
            place = Leases(self.leases).of_pipeline(self.name)
            # Always the pipeline's first: in one order, so that no two wait for each other.
            above = self.ledger.token(f"{self.name}/{key}")
            leases = [stack.enter_context(hold(place, self.name, key, limit=limit, above=above, **how))]
            if self.slots is not None:
                pool, more = Leases(self.slots.leases).of_pool(self.slots.pool), self.slots.slots
                how["slots"] = more
                leases.append(stack.enter_context(hold(pool, self.name, key, limit=self.slots.limit, **how)))
            yield Rights(tuple(leases))


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
    """A function of a run as a pipeline.

    >>> def load(run):
    ...     day = sf.source("json", f"data/date={run.key}")
    ...     sf.write(run, "lake", sf.read(run, "flights", day), sf.delta("out/flights", partition_by="date"))
    >>> flights = pipeline("flights", load)  # doctest: +SKIP

    Args:
        name: As in ``Run.open``.
        body: Does the work of ``run.key``.
        state: The state folder.
        spark: A session, or a function that makes one; by default the active one.
        ledger: By default the Delta table in the state folder.
        leases: Where keys are claimed; by default ``<state>/leases``.
        slots: The part of a workload pool that each run takes.
        ttl: Seconds after which a run whose process was stopped or cut off may be taken over.
        observers: As in ``Run.open``.
        retention: How long the checkpoints of a succeeded run are kept.

    Raises:
        InvalidArgument, UnknownPool: The slots cannot be had.
        InvalidName: The name cannot be a folder name.
    """
    check_name("pipeline", name)
    if slots is not None:
        _ = slots.limit
    where = ledger if ledger is not None else DeltaLedger(state)

    def perform(order: Order) -> Mapping[str, Any]:
        return recomputing(lambda: once(order))

    def once(order: Order) -> Mapping[str, Any]:
        def session() -> SparkSession:
            from pyspark.sql import SparkSession

            return order.in_pool(spark() if callable(spark) else spark or SparkSession.builder.getOrCreate())

        return opened(order.key, session, Mode(request_id=order.cause, retention=retention), order.permission).summary()

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

    place = leases or files.join(state, "leases")
    how: dict[str, Any] = {"leases": place, "slots": slots, "ttl": ttl, "footprint": walked}
    return Pipeline(name=name, perform=perform, state=state, ledger=where, **how)


@dataclass(frozen=True, kw_only=True)
class KeyResult:
    """What became of a key.

    Attributes:
        state: As in a run's summary; ``left``: not run, by ``reprocess``.
        reason: In words.
        seconds: How long it took, waiting for its lease left out.
        error: The exception that it ended with.
    """

    key: str
    state: State
    reason: str = ""
    seconds: float = 0.0
    error: BaseException | None = field(default=None, compare=False)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a runner did, a result for each key that was asked for, in the calendar's order."""

    pipeline: str
    results: tuple[KeyResult, ...]

    @property
    def exit_code(self) -> int:
        """130 interrupted; 1 a key failed, or was left as it had failed; 75 none did, and some have to wait; else 0."""
        states = {result.state for result in self.results}
        if "interrupted" in states:
            return Interrupted.exit_code
        if states & {"failed", "fallback", "left"}:
            return 1
        return NotNow.exit_code if "waiting" in states else 0

    @property
    def counts(self) -> Mapping[str, int]:
        """How many keys are in which state."""
        return Counter(result.state for result in self.results)

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON has it."""
        names = ("key", "state", "reason", "seconds")
        keys = [{name: getattr(result, name) for name in names} for result in self.results]
        return {"pipeline": self.pipeline, "keys": keys}


class RunnerInterrupted(KeyboardInterrupt):
    """Ctrl-C while a runner was at work; ``summary`` says what became of each key."""

    def __init__(self, summary: Summary) -> None:
        self.summary = summary
        super().__init__(INTERRUPTED)


def not_begun(key: str) -> KeyResult:
    """The result of a key that a runner did not come to before it was interrupted."""
    return KeyResult(key=key, state="interrupted", reason="not started: the runner was interrupted before")


def one(pipeline: Pipeline, order: Order) -> KeyResult:
    """Do one key; what goes wrong with it is reported, not raised."""
    began = time.monotonic()

    def perform() -> KeyResult:
        told = pipeline.perform(order)
        place = f"generation {told.get('generation')}, attempt {told.get('attempt')}"
        took, reason = _since(began), str(told.get("reason") or place)
        return KeyResult(key=order.key, state=told.get("state", "failed"), reason=reason, seconds=took)

    return attempted(order.key, perform)


def attempted(key: str, do: Callable[[], KeyResult], *, refuse: bool = False) -> KeyResult:
    """A key's result, also where doing it raises: the other keys are none the worse for it.

    Args:
        key: The key.
        do: Claims it, looks at what became of it before, runs it.
        refuse: Raise what is wrong with the usage, as it is of no single key.

    Raises:
        UsageError: See ``refuse``.
    """
    began = time.monotonic()
    try:
        return do()
    except (Exception, SystemExit) as error:  # of the user's own function as well, which may call sys.exit
        if refuse and isinstance(error, UsageError):
            raise
        return ended_with(key, error, _since(began))


def ended_with(key: str, error: BaseException, seconds: float = 0.0) -> KeyResult:
    """The result of a key that ended with an error."""
    kinds: dict[type[BaseException], State] = {NotNow: "waiting", NothingToDo: "skipped"}
    kinds |= {KeyboardInterrupt: "interrupted", Interrupted: "interrupted"}
    state: State = next((state for kind, state in kinds.items() if isinstance(error, kind)), "failed")
    return KeyResult(key=key, state=state, reason=describe(error), seconds=seconds, error=error)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 3)


def settled(planned: Planned) -> KeyResult:
    """The result of a key that is not run."""
    states: Mapping[str, State] = {"reuse": "reused", "leave": "left", "wait": "waiting"}
    return KeyResult(key=planned.key, state=states[planned.what], reason=planned.reason)


def in_order(keys: Sequence[str], results: Mapping[str, KeyResult]) -> tuple[KeyResult, ...]:
    """The results of keys, in the keys' order."""
    return tuple(results[key] for key in keys)
