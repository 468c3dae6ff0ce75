"""A run, and its one primitive: ``once``."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from spark_flow.core.completeness import together
from spark_flow.core.names import check_name, check_node
from spark_flow.core.secrets import Redactor, scrub
from spark_flow.engine.graph import Graph, Lazy
from spark_flow.engine.history import Journal, Right
from spark_flow.engine.outcome import Observer, Outcome, end_of, not_its_own_fault, outcome_of, reason_to_skip, why_not
from spark_flow.errors import (
    DuplicateNode,
    Interrupted,
    InvalidArgument,
    LedgerOld,
    NodeFailed,
    NothingToDo,
    NotNow,
    NotRecorded,
    SparkFlowError,
    describe,
    old_ledger,
)
from spark_flow.ledger import DeltaLedger, Event, Kind, Ledger
from spark_flow.storage import arrivals, boundaries, targets
from spark_flow.storage.failures import as_bad_records
from spark_flow.storage.sink_protocol import Intent, Written
from spark_flow.transforms.join import as_duplicate_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from pyspark.sql import SparkSession
    from typing_extensions import Self

    from spark_flow.core.completeness import Completeness
    from spark_flow.storage.markers import Reference

T = TypeVar("T")

RETENTION = dt.timedelta(days=7)


class Run:
    """One pipeline doing one unit of work: ``(pipeline, key, generation)``. Made by ``Run.open``.

    Use it as a context manager: leaving it records how the run ended.
    """

    def __init__(
        self,
        pipeline: str,
        key: str,
        *,
        ledger: Ledger,
        state: str,
        spark: SparkSession | Callable[[], SparkSession] | None,
        rerun: bool,
        plan: bool,
        only: Sequence[str] = (),
        cause: str = "",
        right: Right | None = None,
        gate: Callable[[str], None] = lambda _: None,
        redo: Callable[[str], bool] | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        observers: Sequence[Observer],
        retention: dt.timedelta,
        secrets: Redactor | None = None,
    ) -> None:
        self.pipeline = check_name("pipeline", pipeline)
        self.key = check_name("key", key)
        self.state = state
        self.plan = plan
        self.only = tuple(only)
        self.run_id = uuid.uuid4().hex[:12]
        self.targets: dict[str, str] = {}
        self.graph = Graph()
        self.stopped: dict[str, SparkFlowError] = {}
        self._interrupted = interrupted
        self.upstream: dict[str, tuple[Reference, ...]] = {}
        self._measured: dict[str, Completeness] = {}
        self._redo = redo
        self.secrets = secrets or Redactor()
        how: dict[str, Any] = {"rerun": rerun, "cause": cause, "redo": redo, "right": right}
        self._journal = Journal(ledger, pipeline, key, redactor=self.secrets, **how)
        self._spark = spark
        self._session: SparkSession | None = None
        self._gate = gate
        self._observers = tuple(observers)
        self._retention = retention
        self._lock = threading.RLock()
        self._nodes: dict[str, threading.RLock] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._failures: list[BaseException] = []
        self._ended: str | None = None
        self._shortfall: SparkFlowError | None = None
        self._took = False  # whether anything that was recorded before is used in this attempt
        self._old: LedgerOld | None = None
        self.warnings: list[str] = []
        self._older: int | None = None
        self._began = time.monotonic()

    @classmethod
    def open(
        cls,
        pipeline: str,
        key: str,
        *,
        state: str = "state",
        spark: SparkSession | Callable[[], SparkSession] | None = None,
        ledger: Ledger | None = None,
        rerun: bool = False,
        plan: bool = False,
        only: Sequence[str] = (),
        cause: str = "",
        redo: Callable[[str], bool] | None = None,
        command: Mapping[str, Any] | None = None,
        lease: Right | None = None,
        gate: Callable[[str], None] = lambda _: None,
        interrupted: Callable[[], bool] = lambda: False,
        observers: Sequence[Observer] = (),
        retention: dt.timedelta = RETENTION,
        secrets: Redactor | Sequence[str] = (),
    ) -> Run:
        """Open a run: a retry of the key's generation, or with ``rerun`` the next one.

        Args:
            pipeline: A name of letters, digits, ``.``, ``_``, ``-``.
            key: The unit of work, of the same letters; usually a date as ``2013-01-02``.
            state: The state folder, a path or URI.
            spark: A session, or a function that makes one when it is first needed; by default the active one.
            ledger: Where events go; by default the Delta table in the state folder.
            rerun: Do all of it anew and replace what is there. A rerun that did not end is gone on with.
            plan: Walk the run without an action: no boundary, no sink, no event.
            only: Branches of fan-ins, as ``hours/07``: of those fan-ins no other branch is run; what follows is
                done if that completes them.
            cause: What asks for this run, in any words. A generation that was done for another cause, or for none, is
                followed by the next one, as with ``rerun``; the same cause again is a retry.
            redo: Of a partial backfill, whether a node is done anew, by its full name. The run is one of the next
                generation, as with ``rerun``; all other nodes are kept: what is recorded of them is taken over, and
                none is run (``NotRecorded``).
            command: How to run this again: ``job``, ``config``, ``overrides`` and ``cwd``; recorded for ``backfill``.
            lease: Keeps others from the same key while it is held (``spark_flow.orchestration.leases.hold``); once it
                is lost, nothing more is begun, committed or recorded.
            gate: Called with a node before it is done, not if it is reused: waits, or raises, until it may be done.
            interrupted: Whether who runs it wants it to end: then it begins, and waits for, nothing more.
            observers: Called as nodes go on.
            retention: How long the boundaries of a succeeded run are kept.
            secrets: Values that are not to be recorded or shown, besides those that have the name or the look of one.

        Raises:
            Fenced, LeaseLost: The lease is lost already.
            LedgerOld: A target remembers more than the ledger, on which a partial backfill cannot build.
            InvalidArgument: Both ``rerun`` and ``redo`` are given.
            InvalidName: The pipeline or key cannot be a folder name.
            StateNotWritable: The state folder cannot be written.
            StateTooNew: The state folder was written by a newer version.
        """
        check_name("pipeline", pipeline)
        check_name("key", key)
        if rerun and redo is not None:
            raise InvalidArgument("Run.open", "rerun with redo", "one of them")
        ledger = ledger if ledger is not None else DeltaLedger(state, create=not plan)
        options: dict[str, Any] = {"state": state, "spark": spark, "rerun": rerun, "plan": plan, "only": only}
        options |= {"cause": cause, "redo": redo, "right": lease, "gate": gate, "interrupted": interrupted}
        options["secrets"] = secrets if isinstance(secrets, Redactor) else Redactor(secrets)
        run = cls(pipeline, key, ledger=ledger, observers=observers, retention=retention, **options)
        run._ask_targets()
        if not plan:
            run.check()
            run._older = boundaries.mark_begun(state, pipeline, key, run.generation)
            known = {"cause": cause, "command": dict(command or {}), "lease": dict(lease.facts) if lease else {}}
            run._journal.begin({name: value for name, value in known.items() if value})
        return run

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
        """A node's full name, for one that is about to be declared: every pattern begins with this.

        Raises:
            Fenced, LeaseLost: See ``check``.
        """
        self.check()
        return check_node(name)

    def wrote(self, outcome: Outcome) -> None:
        """A transaction notes its writes; a run has its outcomes already."""

    @property
    def generation(self) -> int:
        """1, and one more for each deliberate rerun."""
        return self._journal.generation

    @property
    def attempt(self) -> int:
        """1, and one more for each retry of the generation."""
        return self._journal.attempt

    @property
    def loading_time(self) -> dt.datetime:
        """When the generation began, in UTC: the same for all of its nodes and attempts; a rerun has its own."""
        return self._journal.began

    @property
    def spark(self) -> SparkSession:
        """The run's session, made when it is first asked for."""
        with self._lock:
            if self._session is None:
                self._session = _session_of(self._spark)
            return self._session

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of each node so far, in the order of their ends."""
        with self._lock:
            return list(self._outcomes.values())

    # --- the primitive -----------------------------------------------------------------------------------

    def once(
        self,
        node: str,
        action: Callable[[Intent], Written],
        *,
        kind: Kind = "step",
        fingerprint: str = "",
        inputs: Sequence[Lazy] = (),
        writes: bool = True,
        remembered: Callable[[], int] = lambda: 0,
        lack: Callable[[Event], str] = lambda _: "",
        proves: Callable[[], int] | None = None,
        admit: Callable[[Intent], None] = lambda _: None,
    ) -> Outcome:
        """Do a node's action, unless the ledger says that it was done with this fingerprint.

        Args:
            node: The node's name, as ``publish/lake``.
            action: Does the work; it is told the revision that it does it under.
            kind: What the node is.
            fingerprint: What the node is made of: another one makes an earlier success stale.
            inputs: Frames that the action uses; computed only when the action is needed.
            writes: Record the intent first, under a revision.
            remembered: The last revision that the target itself knows of, should the ledger be lost.
            lack: Why a recorded success does not stand any more; empty when it does.
            proves: As ``remembered``, of writes of this pipeline alone; by default they are the same.
            admit: Raises when the action must not be done under the intent's revision.

        Raises:
            NodeFailed: The action raised; it was recorded.
            SparkFlowError: The action raised one of ours; it was recorded, and is raised as it is.
            LedgerOld: The target remembers more than the ledger, and something recorded was used already.
        """
        self.check()
        self.graph.uses(node, (lazy.node for lazy in inputs))
        with self._lock:
            alone = self._nodes.setdefault(node, threading.RLock())
        with alone:  # one node that several threads need is done by the first, the others take its outcome
            how = {"proves": proves or remembered, "writes": writes}
            return self._once(node, action, kind, fingerprint, inputs, remembered, lack, admit, **how)  # type: ignore[arg-type]

    def _once(
        self,
        node: str,
        action: Callable[[Intent], Written],
        kind: Kind,
        fingerprint: str,
        inputs: Sequence[Lazy],
        remembered: Callable[[], int],
        lack: Callable[[Event], str],
        admit: Callable[[Intent], None],
        *,
        proves: Callable[[], int],
        writes: bool,
    ) -> Outcome:
        done = self.outcome(node)
        if done is not None and done.state in ("succeeded", "reused", "would run", "would reuse"):
            if done.fingerprint != fingerprint:
                raise DuplicateNode(node, "two different nodes have this name")
            return done
        last = self._journal.last(node)
        try:
            why = self._why(last, fingerprint, lack)
            if not why and last is not None:
                return self._end(self._reused(last))
            self.check_kept(node, fingerprint, lack)
            self.admit(node)
            why = (self._doubt({node: proves()}) if writes else "") or why
            there = remembered() if writes else 0
            intent = self._intent(node, self._journal.revision(node, fingerprint, there) if writes else 0)
            self._took = self._took or bool(there and there == intent.revision)  # written before, and not again
            admit(intent)
        except Exception as error:  # the target refuses, or cannot even be looked at
            failure = self.failed(node, kind, error, fingerprint=fingerprint)
            raise failure from (error if failure is not error else error.__cause__)
        for needed in inputs:
            _ = needed.frame
        if self.plan:
            return self._end(Outcome(node=node, kind=kind, state="would run", fingerprint=fingerprint, reason=why))
        return self._do(node, action, kind, fingerprint, inputs, intent)

    def _do(
        self,
        node: str,
        action: Callable[[Intent], Written],
        kind: Kind,
        fingerprint: str,
        inputs: Sequence[Lazy],
        intent: Intent,
    ) -> Outcome:
        if intent.revision:
            self._journal.record(
                [self._journal.event(node, kind, "started", revision=intent.revision, fingerprint=fingerprint)]
            )
        began = time.monotonic()
        try:
            self.check()
            self._tell("before_action", node)
            written = action(intent)
            self._check_trust()
        except BaseException as error:
            own: BaseException
            if isinstance(error, KeyboardInterrupt):
                own = error
            elif node in self.stopped:
                own = self.stopped[node]
            elif self._interrupted():
                own = Interrupted(node)
            else:
                own = as_bad_records(error, self.graph.sources, node) or as_duplicate_keys(error) or error
            known = {"fingerprint": fingerprint, "revision": intent.revision, "duration_ms": _ms(began)}
            failure = self.failed(node, kind, own, **known)
            raise failure from (error if failure is not error else error.__cause__)
        outcome = Outcome(
            node=node,
            kind=kind,
            state="succeeded",
            revision=intent.revision,
            fingerprint=fingerprint,
            rows=written.rows,
            duration_ms=_ms(began),
            reason=written.reason,
            detail=written.detail,
        )
        self._tell("before_event", node)
        carried = [self._carried(lazy, node) for lazy in self.graph.claim(inputs, self._outcomes)]
        self._journal.record([self._event_of(o) for o in [*carried, outcome]])
        self._tell("after_event", node)
        for settled in carried:
            self._end(settled)
        return self._end(outcome)

    def admit(self, node: str) -> None:
        """Wait until a node may be done, where something says that it has to.

        Raises:
            PreviousNotDone: It cannot be done now.
        """
        if self._interrupted():
            raise Interrupted(node)
        if not self.plan:
            self._gate(node)

    def keeps(self, node: str) -> bool:
        """Whether a node is not to be done in this run, a partial backfill."""
        return self._redo is not None and not self._redo(node)

    def redoes(self, node: str) -> bool:
        """Whether a partial backfill does a node anew."""
        return self._redo is not None and self._redo(node)

    def check_kept(self, node: str, fingerprint: str, lack: Callable[[Event], str] = lambda _: "") -> None:
        """Refuse to do what is to be kept.

        Raises:
            NotRecorded: The node is to be kept, and what is recorded of it does not stand.
        """
        if not self.keeps(node):
            return
        last = self._journal.last(node) or self._journal.before(node)
        why = self._why(last, fingerprint, lack) if last else "it was never recorded"
        if why and last is None and self.attempt > 1:
            why = f"it is not recorded in generation {self.generation}, which did not end and is gone on with"
        if why:
            raise NotRecorded(node, why)

    def stands(self, node: str, fingerprint: str, lack: Callable[[Event], str] = lambda _: "") -> bool:
        """Whether ``once`` would reuse what is recorded of a node."""
        try:
            return not self._why(self._journal.last(node), fingerprint, lack)
        except Exception:
            return False  # its target cannot be looked at: ``once`` says why

    def _why(self, last: Event | None, fingerprint: str, lack: Callable[[Event], str]) -> str:
        """Why a node must run; empty when its recorded success stands."""
        if last is None:
            first = "first time" if self.generation == 1 else f"generation {self.generation}"
            return self._journal.doubt or first
        if last.fingerprint != fingerprint:
            return "it changed, or something before it did"
        if last.state == "failed":
            return "it failed before"
        if last.state == "started":
            return "it was begun and did not end"
        return lack(last)

    def _intent(self, node: str, revision: int) -> Intent:
        return Intent(
            pipeline=self.pipeline,
            key=self.key,
            generation=self.generation,
            attempt=self.attempt,
            node=node,
            revision=revision,
            run_id=self.run_id,
            mark=lambda point: self._mark(point, node),
        )

    def _mark(self, point: str, node: str) -> None:
        """A point within an action; nothing is committed once the lease is lost, or of a ledger that proved old."""
        self._tell(point, node)
        if point == "before_commit":
            self.check()

    def check(self) -> None:
        """Whether the run may go on; every call of a pattern asks this first.

        Raises:
            Fenced, LeaseLost: The lease is lost, now or since an earlier call: catching it once does not help.
            LedgerOld: What this attempt has used may be older than what the targets hold; since then, too.
        """
        self._journal.check()
        self._check_trust()

    # --- a ledger that is older than a target ---------------------------------------------------------------

    def _ask_targets(self) -> None:
        """Where something recorded may be reused, look first whether the targets remember more than the ledger."""
        if self._journal.reuses:
            self._doubt(dict(targets.newer(self.pipeline, self.key, self._journal.written())))

    def _doubt(self, remembered: Mapping[str, int]) -> str:
        """Why nothing recorded is used any more, if what targets remember proves that the ledger is old; else empty.

        The attempt becomes the first one of the next generation, which recomputes the key from its sources.

        Args:
            remembered: Revisions by node.

        Raises:
            LedgerOld: This attempt has used something recorded already, or is to keep it.
        """
        with self._lock:
            if not self._journal.reuses or not self._journal.less_than(remembered):
                return ""
            self._journal.refresh()  # another run may have recorded it meanwhile
            newer = self._journal.less_than(remembered)
            if not newer:
                return ""
            node, there = next(iter(newer.items()))
            known = self._journal.known(node)
            if self._redo is not None:
                raise LedgerOld(node, known, there, "A partial backfill keeps what is recorded: use --rerun.")
            words = old_ledger(node, known, there)
            self._start_over(words, newer)
            if self._took and not self.plan:
                self._old = LedgerOld(node, known, there, "Run the same command again: it recomputes the key.")
                self.fall_short(self._old)
                raise self._old
            return words

    def _start_over(self, words: str, remembered: Mapping[str, int]) -> None:
        opened = self._journal.begun_with is not None
        self._journal.start_over(words, remembered)
        if opened and not self.plan:
            boundaries.mark_begun(self.state, self.pipeline, self.key, self.generation)
            self._journal.begin(self._journal.begun_with or {})
        self.warn(words)
        for outcome in [each for each in self.outcomes if each.state == "would reuse"]:
            self.plan_to(outcome.node, outcome.kind, words, outcome.fingerprint)

    def _check_trust(self) -> None:
        if self._old is not None:
            raise self._old

    def warn(self, words: str) -> None:
        """Note what is unusual and is not an error, and tell observers."""
        self.warnings.append(words)
        self._tell("warning", "")

    # --- what became of nodes ----------------------------------------------------------------------------

    def observe(self, observer: Observer) -> None:
        """Tell one more observer from now on."""
        self._observers = (*self._observers, observer)

    def failed(self, node: str, kind: Kind, error: BaseException, **known: Any) -> BaseException:
        """Record that a node failed, once for each error; returns what to raise: ours, or it in a ``NodeFailed``."""
        with self._lock:
            if any(error is earlier for earlier in self._failures):
                return error
            outside = isinstance(error, Exception) and not isinstance(error, SparkFlowError)
            scrub(error, self.secrets)
            failure = NodeFailed(node, error) if outside else error
            scrub(failure, self.secrets)
            self._failures.append(failure)
        if not_its_own_fault(kind, error):
            outcome = Outcome(node=node, kind=kind, state="skipped", reason=why_not(error), **known)
        else:
            self.note_failure(node, kind, error, **known)
            return failure
        self._end(outcome)
        return failure

    def note_failure(self, node: str, kind: Kind, error: BaseException, **known: Any) -> None:
        """Record that a node failed; also by an error that what it reads has recorded before."""
        outcome = Outcome(node=node, kind=kind, state="failed", error=describe(error), **known)
        if not self.plan and not self.keeps(node):  # what is recorded of a kept node holds
            self._journal.record([self._event_of(outcome)])
        self._end(outcome)

    def skip(self, node: str, kind: Kind, reason: str, fingerprint: str = "") -> Outcome:
        """Note that a node has nothing to do, or cannot do it now; recorded when the run ends."""
        return self._end(Outcome(node=node, kind=kind, state="skipped", fingerprint=fingerprint, reason=reason))

    def waiting(self, node: str, kind: Kind, reason: str) -> None:
        """Tell observers what a node waits for."""
        if self._interrupted():
            raise Interrupted(node)
        self._tell("waiting", node, Outcome(node=node, kind=kind, state="waiting", reason=self.secrets(reason)))

    def plan_to(self, node: str, kind: Kind, reason: str, fingerprint: str = "") -> Outcome:
        """Note in a plan that a node would run."""
        return self._end(Outcome(node=node, kind=kind, state="would run", fingerprint=fingerprint, reason=reason))

    def recorded(self, node: str, fingerprint: str) -> Outcome | None:
        """A node's recorded success, if it was made of the same; whether its target still holds it is not asked."""
        last = self._journal.last(node)
        if last is None or last.state != "succeeded" or last.fingerprint != fingerprint:
            return None
        return self._reused(last)

    def _reused(self, last: Event) -> Outcome:
        self._took = True
        kept = self._journal.kept.get(last.node, 0) if last.attempt == 1 else 0
        outcome = outcome_of(last, "would reuse" if self.plan else "reused", kept)
        words = arrivals.changed(last.detail["input"]) if self.plan and "input" in last.detail else ""
        return dataclasses.replace(outcome, reason=f"{outcome.reason}; {words}; --rerun reads it") if words else outcome

    def measure(self, completeness: Completeness) -> None:
        """Note what a fan-in waited for and what it got, for the run's summary."""
        with self._lock:
            self._measured[completeness.node] = completeness

    @property
    def completeness(self) -> tuple[Completeness, ...]:
        """Of each fan-in that has ended in this attempt or before."""
        ended = ("succeeded", "reused", "would run", "would reuse")
        states = {outcome.node: outcome.state for outcome in self.outcomes}
        done = [lazy for lazy in self.graph.declared.values() if states.get(lazy.node) in ended]
        return together([*(part for lazy in done for part in lazy.completeness), *self._measured.values()])

    def outcome(self, node: str) -> Outcome | None:
        """What became of a node in this attempt, if it has ended."""
        with self._lock:
            return self._outcomes.get(node)

    @property
    def shortfall(self) -> SparkFlowError | None:
        """What the run will end with although it goes on."""
        return self._shortfall

    def fall_short(self, error: SparkFlowError) -> None:
        """Go on, but end with this error: what was done must not look like a success."""
        self._shortfall = self._shortfall or error

    def _carried(self, lazy: Lazy, node: str) -> Outcome:
        held = self.graph.inputs.get(lazy.node)
        within = f"{arrivals.EMPTY}, within {node}" if arrivals.is_empty(held) else f"within {node}"
        return Outcome(
            node=lazy.node,
            kind=lazy.kind,
            state="succeeded",
            fingerprint=lazy.fingerprint,
            duration_ms=self.graph.built.get(lazy.node),
            reason=within,
            detail={"input": held} if held else {},
        )

    def _settle(self, *, error: BaseException | None) -> list[Outcome]:
        """What became of the lazy nodes that no action of this attempt has computed."""
        outcomes = []
        for lazy in self.graph.declared.values():
            if lazy.node in self._outcomes:
                continue
            recorded = self.recorded(lazy.node, lazy.fingerprint)
            if lazy.node in self.graph.built and self.plan:
                outcome = Outcome(node=lazy.node, kind=lazy.kind, state="would run")
            elif recorded is not None and lazy.node not in self.graph.built:
                outcome = recorded
            else:
                reason = reason_to_skip(error)
                outcome = Outcome(node=lazy.node, kind=lazy.kind, state="skipped", reason=reason)
            outcomes.append(self._end(outcome))
        return outcomes

    # --- the end -----------------------------------------------------------------------------------------

    def close(self, error: BaseException | None = None) -> None:
        """Record how the run ended, and remove boundaries that are older than the retention.

        Raises:
            Fenced, LeaseLost: The lease is lost, so that nothing is recorded; in place of the error that the run had.
        """
        self._settle(error=error)
        error = error or self._shortfall
        self._ended = end_of(error)
        if self.plan:
            return
        try:
            self._journal.check()
            if isinstance(error, NotRecorded) and not self._journal.begun:
                if self._older is not None:
                    boundaries.mark_succeeded(self.state, self.pipeline, self.key, self._older)
                return
            self._record_end(error)
        except NotNow as lost:
            self._ended = end_of(lost)
            raise
        if not error:
            boundaries.mark_succeeded(self.state, self.pipeline, self.key, self.generation)
            boundaries.sweep(self.state, self.pipeline, older_than=self._retention)
        self._journal.maintain()

    def _record_end(self, error: BaseException | None) -> None:
        states = ("reused", "skipped") if self._old is None else ("skipped",)
        noted = [self._event_of(o) for o in self.outcomes if o.state in states]
        state: Literal["failed", "succeeded", "skipped"] = "succeeded"
        if error is not None:
            state = "skipped" if isinstance(error, NotNow | NothingToDo) else "failed"
        message = describe(error) if error else ""
        how = {"reason": self._ended, "detail": {"completeness": [part.facts for part in self.completeness]}}
        ended = self._journal.event("", "run", state, error=message, duration_ms=_ms(self._began), **how)
        self._journal.record([*noted, ended])

    def summary(self) -> dict[str, Any]:
        """The run as ``--summary-json`` has it, nodes in the order in which they were named in the flow.

        Its state is how the run ended: ``succeeded``, ``reused`` (nothing was left to do), ``waiting`` (exit code
        75), ``skipped`` (a provider skipped the key), ``failed``, ``fallback``, ``planned``; ``running`` before that.
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
        return {**place, "state": state, **completeness, **unusual, "nodes": [o.summary for o in outcomes]}

    def _event_of(self, outcome: Outcome) -> Event:
        names = ("revision", "fingerprint", "rows", "duration_ms", "reason", "error", "detail")
        fields = {name: getattr(outcome, name) for name in names}
        return self._journal.event(outcome.node, outcome.kind, outcome.state, **fields)

    def _end(self, outcome: Outcome) -> Outcome:
        outcome = dataclasses.replace(outcome, reason=self.secrets(outcome.reason), error=self.secrets(outcome.error))
        with self._lock:
            self._outcomes[outcome.node] = outcome
        self._tell("ended", outcome.node, outcome)
        return outcome

    def _tell(self, point: str, node: str, outcome: Outcome | None = None) -> None:
        for observer in self._observers:
            observer(point, node, outcome)


def recomputing(do: Callable[[], T]) -> T:
    """Do a whole run, and once more if it ended with ``LedgerOld``: the second time nothing recorded is used."""
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


def _ms(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
