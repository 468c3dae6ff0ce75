"""A run: opened, closed and summarised; its nodes are executed by ``once``."""

from __future__ import annotations

import dataclasses
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from spark_flow.core import html
from spark_flow.core.completeness import together
from spark_flow.core.names import check_name, check_node
from spark_flow.core.secrets import Redactor, scrub
from spark_flow.engine import execute
from spark_flow.engine.graph import Graph
from spark_flow.engine.history import History
from spark_flow.engine.mode import Mode, Permission
from spark_flow.engine.node import NO_TARGET, Node
from spark_flow.engine.outcome import Observer, Outcome, end_of, not_its_own_fault, outcome_of, reason_to_skip, why_not
from spark_flow.engine.trust import Trust
from spark_flow.errors import (
    Interrupted,
    LedgerOld,
    NodeFailed,
    NothingToDo,
    NotNow,
    NotRecorded,
    SparkFlowError,
    describe,
)
from spark_flow.ledger import DeltaLedger, Event, Kind, Ledger
from spark_flow.storage import arrivals, checkpoints

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from pyspark.sql import SparkSession
    from typing_extensions import Self

    from spark_flow.core.completeness import Completeness
    from spark_flow.engine.node import Target
    from spark_flow.ledger.event import State
    from spark_flow.storage.markers import Reference
    from spark_flow.storage.sink_protocol import Intent, Written

T = TypeVar("T")


class Run:
    """One pipeline processing one key: ``(pipeline, key, generation)``. Made by ``Run.open``.

    Use it as a context manager: leaving it records how the run ended.

    Attributes:
        pipeline: The pipeline's name.
        key: The unit of work, usually a date.
        state: The state folder.
        mode: How it treats what is recorded of its key.
        permission: What it asks before it does any work.
        run_id: A random id of this attempt.
        secrets: Keeps secrets out of the ledger, the summary and error texts.
        history: What is recorded of the key.
        trust: Whether that may be used.
        graph: The nodes that were declared, and their inputs.
        targets: The node that writes to a path, by path.
        upstream: The markers that were waited for, by node.
        stopped: Why a node was stopped, by node.
        warnings: What is unusual and is not an error.
        began: When this attempt began, on the monotonic clock.
    """

    def __init__(
        self,
        pipeline: str,
        key: str,
        *,
        state: str,
        spark: SparkSession | Callable[[], SparkSession] | None,
        ledger: Ledger,
        mode: Mode,
        permission: Permission,
        observers: Sequence[Observer],
    ) -> None:
        self.pipeline = check_name("pipeline", pipeline)
        self.key = check_name("key", key)
        self.state = state
        self.mode = mode
        self.permission = permission
        self.run_id = uuid.uuid4().hex[:12]
        self.secrets = mode.secrets or Redactor()
        self.graph = Graph()
        self.targets: dict[str, str] = {}
        self.stopped: dict[str, SparkFlowError] = {}
        self.upstream: dict[str, tuple[Reference, ...]] = {}
        self.warnings: list[str] = []
        self.lock = threading.RLock()
        self.history = History(ledger, pipeline, key, mode=mode, lease=permission.lease, redactor=self.secrets)
        self.trust = Trust(self)
        self._measured: dict[str, Completeness] = {}
        self._spark = spark
        self._session: SparkSession | None = None
        self._observers = tuple(observers)
        self._nodes: dict[str, threading.RLock] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._failures: list[BaseException] = []
        self._ended: str | None = None
        self._error: BaseException | None = None
        self._shortfall: SparkFlowError | None = None
        self._older: int | None = None
        self.began = time.monotonic()

    @classmethod
    def open(
        cls,
        pipeline: str,
        key: str,
        *,
        state: str = "state",
        spark: SparkSession | Callable[[], SparkSession] | None = None,
        rerun: bool = False,
        plan: bool = False,
        ledger: Ledger | None = None,
        mode: Mode | None = None,
        permission: Permission | None = None,
        observers: Sequence[Observer] = (),
    ) -> Run:
        """Open a run: a retry of the key's last generation, or what ``mode`` says.

        Args:
            pipeline: A name of letters, digits, ``.``, ``_``, ``-``.
            key: The unit of work, of the same characters; usually a date as ``2013-01-02``.
            state: The state folder, a path or URI.
            spark: A session, or a function that makes one when it is first needed; by default the active one.
            rerun: Short for ``mode=Mode(rerun=True)``: recompute everything, and replace the key's rows.
            plan: Short for ``mode=Mode(plan=True)``: walk the run without running or writing anything.
            ledger: Where events are recorded; by default the Delta table in the state folder.
            mode: Retry (the default), rerun, partial backfill or plan; see ``Mode``.
            permission: The lease of the key and other conditions; see ``Permission``.
            observers: Called as nodes proceed.

        Raises:
            Adopted: The key was adopted (``spark-flow adopt``): there is nothing to do without ``rerun``.
            Fenced, LeaseLost: The lease is lost already.
            LedgerOld: A target remembers more than the ledger, on which a partial backfill cannot build.
            InvalidName: The pipeline or key cannot be a folder name.
            StateNotWritable: The state folder cannot be written.
            StateTooNew: The state folder was written by a newer version.
        """
        check_name("pipeline", pipeline)
        check_name("key", key)
        mode = mode or Mode()
        mode = dataclasses.replace(mode, rerun=rerun or mode.rerun, plan=plan or mode.plan)
        run = cls(
            pipeline,
            key,
            state=state,
            spark=spark,
            ledger=ledger if ledger is not None else DeltaLedger(state, create=not mode.plan),
            mode=mode,
            permission=permission or Permission(),
            observers=observers,
        )
        run.history.check_open()
        run.trust.ask_targets()
        if not mode.plan:
            run.check()
            run._older = checkpoints.mark_begun(state, pipeline, key, run.generation)
            run.history.begin(run._asked)
        return run

    @property
    def _asked(self) -> dict[str, Any]:
        """What is recorded with the start: by which request, command and lease."""
        lease = self.permission.lease
        known = {"cause": self.mode.request_id, "command": dict(self.mode.command)}
        known |= {"lease": dict(lease.facts) if lease else {}}
        return {name: value for name, value in known.items() if value}

    @property
    def plan(self) -> bool:
        """Whether this is a plan: nothing runs, nothing is written."""
        return self.mode.plan

    @property
    def only(self) -> tuple[str, ...]:
        """The branches of fan-ins that this run is limited to; empty for all."""
        return self.mode.only

    def __enter__(self) -> Self:
        """The run itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Record how the run ended.

        Raises:
            TookFallback: A fan-in had nothing to merge, and its fallback ran instead.
        """
        self.close(error)
        if error is None and self._shortfall is not None:
            raise self._shortfall

    @property
    def run(self) -> Run:
        """The run itself: a run and a transaction are written to in the same way."""
        return self

    def node(self, name: str) -> str:
        """Check a node's name before it is declared, and return it in full; every pattern starts with this.

        Raises:
            Fenced, LeaseLost: See ``check``.
        """
        self.check()
        return check_node(name)

    def wrote(self, outcome: Outcome) -> None:
        """Note a write; a transaction collects them, a run has its outcomes already."""

    @property
    def generation(self) -> int:
        """The generation, from 1; each rerun starts the next one."""
        return self.history.generation

    @property
    def attempt(self) -> int:
        """The attempt within the generation, from 1; each retry is the next one."""
        return self.history.attempt

    @property
    def loading_time(self) -> dt.datetime:
        """When the generation began, in UTC: the same for all of its nodes and attempts; a rerun has its own."""
        return self.history.began

    @property
    def spark(self) -> SparkSession:
        """The run's session, made at its first use."""
        with self.lock:
            if self._session is None:
                self._session = _session_of(self._spark)
            return self._session

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes of the nodes that have ended, in that order."""
        with self.lock:
            return list(self._outcomes.values())

    # --- the primitive -----------------------------------------------------------------------------------

    def once(self, node: Node, action: Callable[[Intent], Written], target: Target = NO_TARGET) -> Outcome:
        """Run a node's action, unless the ledger says that it succeeded and its target still holds the result.

        Args:
            node: The node. If several threads need it, the first one runs it, the others take its outcome.
            action: Does the work, under the revision of the intent that it is given.
            target: What the action writes to.

        Raises:
            NodeFailed: The action raised; it was recorded.
            SparkFlowError: The action raised one of ours; it was recorded, and is raised as it is.
            LedgerOld: The target remembers more than the ledger, and a recorded result was used already.
        """
        self.check()
        self.graph.uses(node.name, (lazy.node for lazy in node.inputs))
        with self.lock:
            alone = self._nodes.setdefault(node.name, threading.RLock())
        with alone:
            return execute.once(self, node, action, target)

    def permit(self, node: str) -> None:
        """Wait until a node may run (``Permission.before_node``).

        Raises:
            Interrupted: The run was asked to stop.
            PreviousNotDone: The node cannot run now.
        """
        if self.permission.interrupted():
            raise Interrupted(node)
        if not self.plan:
            self.permission.before_node(node)

    def keeps(self, node: str) -> bool:
        """Whether a node's recorded result is taken over, by a partial backfill."""
        return self.mode.redo is not None and not self.mode.redo(node)

    def redoes(self, node: str) -> bool:
        """Whether a partial backfill runs a node again."""
        return self.mode.redo is not None and self.mode.redo(node)

    def check_kept(self, node: Node, target: Target = NO_TARGET) -> None:
        """Refuse to run a node that a partial backfill takes over.

        Raises:
            NotRecorded: Its recorded result is missing or invalid.
        """
        if not self.keeps(node.name):
            return
        last = self.history.last(node.name) or self.history.before(node.name)
        why = self.why_run(last, node, target) if last else "it was never recorded"
        if why and last is None and self.attempt > 1:
            why = f"it is not recorded in generation {self.generation}, which did not end and is resumed"
        if why:
            raise NotRecorded(node.name, why)

    def is_valid(self, node: Node, target: Target = NO_TARGET) -> bool:
        """Whether ``once`` would reuse the recorded result of a node."""
        try:
            return not self.why_run(self.history.last(node.name), node, target)
        except Exception:
            return False  # its target cannot be looked at: ``once`` says why

    def why_run(self, last: Event | None, node: Node, target: Target) -> str:
        """Why a node must run; empty when its recorded success is valid."""
        if last is None:
            first = "first time" if self.generation == 1 else f"generation {self.generation}"
            return self.history.doubt or first
        if last.fingerprint != node.fingerprint:
            return "it changed, or something before it did"
        if last.state == "failed":
            return "it failed before"
        if last.state == "started":
            return "it was started and did not end"
        return target.why_invalid(last)

    def mark(self, point: str, node: str) -> None:
        """Report a point within an action; nothing is committed once the lease is lost, or if the ledger is old."""
        self.report(point, node)
        if point == "before_commit":
            self.check()

    def check(self) -> None:
        """Check that the run may continue; every call of a pattern does this first.

        Raises:
            Fenced, LeaseLost: The lease is lost; also in every later call, so catching it once does not help.
            LedgerOld: A result that this attempt used may be older than its target; also in every later call.
        """
        self.history.check()
        self.trust.check()

    def warn(self, words: str) -> None:
        """Add a warning, and report it to observers."""
        self.warnings.append(words)
        self.report("warning", "")

    # --- outcomes of nodes --------------------------------------------------------------------------------

    def observe(self, observer: Observer) -> None:
        """Add an observer."""
        self._observers = (*self._observers, observer)

    def failed(
        self,
        node: str,
        kind: Kind,
        error: BaseException,
        fingerprint: str = "",
        *,
        revision: int = 0,
        duration_ms: int | None = None,
    ) -> BaseException:
        """Record that a node failed, once for each error; returns what to raise: ours, or it in a ``NodeFailed``."""
        with self.lock:
            if any(error is earlier for earlier in self._failures):
                return error
            outside = isinstance(error, Exception) and not isinstance(error, SparkFlowError)
            scrub(error, self.secrets)
            failure = NodeFailed(node, error) if outside else error
            scrub(failure, self.secrets)
            self._failures.append(failure)
        ended = Outcome(
            node=node,
            kind=kind,
            state="failed",
            revision=revision,
            fingerprint=fingerprint,
            duration_ms=duration_ms,
            error=describe(error),
        )
        if not_its_own_fault(kind, error):
            self.end(dataclasses.replace(ended, state="skipped", reason=why_not(error), error=""))
        else:
            self.note_failure(ended)
        return failure

    def note_failure(self, outcome: Outcome) -> None:
        """Record that a node failed, even if its error was recorded for an upstream node before."""
        if not self.plan and not self.keeps(outcome.node):  # what is recorded of a reused node holds
            self.history.record([self.event_of(outcome)])
        self.end(outcome)

    def skip(self, node: str, kind: Kind, reason: str, fingerprint: str = "") -> Outcome:
        """Note that a node has nothing to do, or cannot run now; recorded when the run ends."""
        return self.end(Outcome(node=node, kind=kind, state="skipped", fingerprint=fingerprint, reason=reason))

    def waiting(self, node: str, kind: Kind, reason: str) -> None:
        """Report to observers what a node waits for."""
        if self.permission.interrupted():
            raise Interrupted(node)
        self.report("waiting", node, Outcome(node=node, kind=kind, state="waiting", reason=self.secrets(reason)))

    def plan_to(self, node: str, kind: Kind, reason: str, fingerprint: str = "") -> Outcome:
        """Note in a plan that a node would run."""
        return self.end(Outcome(node=node, kind=kind, state="would run", fingerprint=fingerprint, reason=reason))

    def recorded(self, node: str, fingerprint: str) -> Outcome | None:
        """A node's recorded success with this fingerprint, if any; its target is not checked."""
        last = self.history.last(node)
        if last is None or last.state != "succeeded" or last.fingerprint != fingerprint:
            return None
        return self.reused(last)

    def reused(self, last: Event) -> Outcome:
        """Use a recorded success; returns its outcome in this attempt."""
        self.trust.use()
        kept = self.history.kept.get(last.node, 0) if last.attempt == 1 else 0
        outcome = outcome_of(last, "would reuse" if self.plan else "reused", kept)
        words = arrivals.changed(last.detail["input"]) if self.plan and "input" in last.detail else ""
        return dataclasses.replace(outcome, reason=f"{outcome.reason}; {words}; --rerun reads it") if words else outcome

    def measure(self, completeness: Completeness) -> None:
        """Note the completeness of a fan-in, for the run's summary."""
        with self.lock:
            self._measured[completeness.node] = completeness

    @property
    def completeness(self) -> tuple[Completeness, ...]:
        """The completeness of each fan-in that has ended, in this attempt or an earlier one."""
        ended = ("succeeded", "reused", "would run", "would reuse")
        states = {outcome.node: outcome.state for outcome in self.outcomes}
        done = [lazy for lazy in self.graph.declared.values() if states.get(lazy.node) in ended]
        return together([*(part for lazy in done for part in lazy.completeness), *self._measured.values()])

    def has_ended(self, node: str) -> bool:
        """Whether the outcome of a node is known."""
        return self.outcome(node) is not None

    def outcome(self, node: str) -> Outcome | None:
        """The outcome of a node in this attempt; None until it has ended."""
        with self.lock:
            return self._outcomes.get(node)

    @property
    def shortfall(self) -> SparkFlowError | None:
        """The error that the run will end with, although it continues."""
        return self._shortfall

    def fall_short(self, error: SparkFlowError) -> None:
        """Continue, but end with this error: the run must not look like a success."""
        self._shortfall = self._shortfall or error

    def _settle(self, *, error: BaseException | None) -> list[Outcome]:
        """End the lazy nodes that no action of this attempt has computed."""
        outcomes = []
        for lazy in self.graph.declared.values():
            if lazy.node in self._outcomes:
                continue
            recorded = self.recorded(lazy.node, lazy.fingerprint)
            if lazy.node in self.graph.built and self.plan:
                source = self.graph.sources.get(lazy.node)
                reason = source.pinning if source is not None else ""
                outcome = Outcome(node=lazy.node, kind=lazy.kind, state="would run", reason=reason)
            elif recorded is not None and lazy.node not in self.graph.built:
                outcome = recorded
            else:
                reason = reason_to_skip(error)
                outcome = Outcome(node=lazy.node, kind=lazy.kind, state="skipped", reason=reason)
            outcomes.append(self.end(outcome))
        return outcomes

    # --- the end -----------------------------------------------------------------------------------------

    def close(self, error: BaseException | None = None) -> None:
        """Record how the run ended, and remove checkpoints that are older than the retention.

        Raises:
            Fenced, LeaseLost: The lease is lost, so that nothing is recorded; in place of the error that the run had.
        """
        self._settle(error=error)
        error = error or self._shortfall
        self._ended, self._error = end_of(error), error
        if self.plan:
            return
        try:
            self.history.check()
            if isinstance(error, NotRecorded) and not self.history.begun:
                if self._older is not None:
                    checkpoints.mark_succeeded(self.state, self.pipeline, self.key, self._older)
                return
            self._record_end(error)
        except NotNow as lost:
            self._ended, self._error = end_of(lost), lost
            raise
        if not error:
            checkpoints.mark_succeeded(self.state, self.pipeline, self.key, self.generation)
            checkpoints.sweep(self.state, self.pipeline, older_than=self.mode.retention)
        self.history.maintain()

    def _record_end(self, error: BaseException | None) -> None:
        states = ("reused", "skipped") if self.trust.lost is None else ("skipped",)
        noted = [self.event_of(o) for o in self.outcomes if o.state in states]
        state: Literal["failed", "succeeded", "skipped"] = "succeeded"
        if error is not None:
            state = "skipped" if isinstance(error, NotNow | NothingToDo) else "failed"
        ended = self.history.event(
            "",
            "run",
            state,
            duration_ms=execute.ms_since(self.began),
            reason=self._ended or "",
            error=describe(error) if error else "",
            detail={"completeness": [part.facts for part in self.completeness], "ran": self._ran},
        )
        self.history.record([*noted, ended])

    @property
    def _ran(self) -> int:
        """How many nodes did something in this attempt: the durations of those that only reused are not compared."""
        return sum(outcome.state in ("succeeded", "failed") for outcome in self.outcomes)

    def summary(self) -> dict[str, Any]:
        """The run as ``--summary-json`` has it, nodes in the order in which they were named in the flow.

        Its state is how the run ended: ``succeeded``, ``reused`` (nothing was left to do), ``waiting`` (exit code
        75), ``skipped`` (a provider skipped the key), ``failed``, ``fallback``, ``planned``; ``running`` before that.
        Unless it succeeded, ``reason`` has the error's message.
        """
        order = {name: place for place, name in enumerate(self.graph.declared)}
        outcomes = sorted(self.outcomes, key=lambda o: order.get(o.node, len(order)))
        states = {o.state for o in outcomes}
        state = self._ended or "running"
        if state == "succeeded" and self.plan:
            state = "planned"
        if state == "succeeded" and "reused" in states and states <= {"reused", "skipped"}:
            state = "reused"
        place = {
            "pipeline": self.pipeline,
            "key": self.key,
            "generation": self.generation,
            "attempt": self.attempt,
        }
        parts = self.secrets.facts([part.facts for part in self.completeness])
        completeness = {"completeness": parts} if parts else {}
        unusual = {"warnings": self.secrets.facts(list(self.warnings))} if self.warnings else {}
        why = {"reason": self.secrets(describe(self._error))} if self._error is not None else {}
        nodes = [outcome.summary for outcome in outcomes]
        return {**place, "state": state, **why, **completeness, **unusual, "nodes": nodes}

    def _repr_html_(self) -> str:
        """Return the nodes that have ended for notebooks, and the completeness of fan-ins."""
        title = f"{self.pipeline} {self.key}, generation {self.generation}, attempt {self.attempt}"
        rows = [
            (o.state, o.node, "" if o.rows is None else f"{o.rows:,}", html.seconds(o.duration_ms), o.error or o.reason)
            for o in self.outcomes
        ]
        shown = html.table(
            f"{title}: {self.summary()['state']}", ("", "node", "rows", "time", "reason"), rows, states=0
        )
        return shown + "".join(part._repr_html_() for part in self.completeness)

    def event_of(self, outcome: Outcome) -> Event:
        """The event that records an outcome."""
        return self.history.event(
            outcome.node,
            outcome.kind,
            cast("State", outcome.state),  # a plan's "would run" is never recorded
            revision=outcome.revision,
            fingerprint=outcome.fingerprint,
            rows=outcome.rows,
            duration_ms=outcome.duration_ms,
            reason=outcome.reason,
            error=outcome.error,
            detail={**outcome.detail, **self.graph.position(outcome.node)},
        )

    def end(self, outcome: Outcome) -> Outcome:
        """Note how a node ended, and report it to observers."""
        outcome = dataclasses.replace(outcome, reason=self.secrets(outcome.reason), error=self.secrets(outcome.error))
        with self.lock:
            self._outcomes[outcome.node] = outcome
        self.report("ended", outcome.node, outcome)
        return outcome

    def report(self, point: str, node: str, outcome: Outcome | None = None) -> None:
        """Report a point of a node to all observers."""
        for observer in self._observers:
            observer(point, node, outcome)


def recomputing(do: Callable[[], T]) -> T:
    """Call a function that does a whole run, and again if it raises ``LedgerOld``: then nothing recorded is used."""
    try:
        return do()
    except LedgerOld:
        return do()


def _session_of(spark: SparkSession | Callable[[], SparkSession] | None) -> SparkSession:
    from spark_flow.spark.session import warn_of_hanging_udfs

    if spark is None:
        from pyspark.sql import SparkSession

        spark = SparkSession.builder.getOrCreate()
    made = spark() if callable(spark) else spark
    warn_of_hanging_udfs(made)
    return made
