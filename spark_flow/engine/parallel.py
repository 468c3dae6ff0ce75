"""Run nodes in parallel: in threads of one Spark application, each node with its own job tag."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from spark_flow.errors import (
    Interrupted,
    InvalidArgument,
    MissingInput,
    NotNow,
    NotRecorded,
    SparkFlowError,
    StateError,
    StoppedBySibling,
    describe,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import SparkSession

    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run
    from spark_flow.ledger import Kind

OnFailure = Literal["finish", "stop"]

_log = logging.getLogger("spark_flow")

AT_ONCE = 4  # where a session does not tell what it can run at once
_AGAIN = 0.5  # seconds between two attempts to interrupt the nodes that have to stop
_NO_FAILURE = (MissingInput, NotNow, StoppedBySibling)


@dataclass(frozen=True)
class Task:
    """A node that can run in a thread.

    Attributes:
        ensure: Runs the node unless it is done, and returns its outcome; raises the node's error.
    """

    node: str
    kind: Kind
    fingerprint: str
    ensure: Callable[[], Outcome]


@dataclass(frozen=True)
class Ended:
    """The result of a task, with its start and end in seconds of the monotonic clock."""

    result: Outcome | SparkFlowError
    began: float
    ended: float


def run_parallel(
    run: Run, tasks: Sequence[Task], *, max_in_flight: int | None = None, on_failure: OnFailure = "finish"
) -> dict[str, Ended]:
    """Run nodes in threads; errors of nodes are returned, not raised.

    Args:
        run: The run of the nodes.
        tasks: The nodes; each runs under the job tag ``spark_flow/<run>/<node>``.
        max_in_flight: How many nodes run at the same time; by default what the session can run at once.
        on_failure: When a node fails, ``finish`` the others, or ``stop`` them: nodes that run are interrupted, nodes
            that have not started do not start.

    Returns:
        The result of each node, by name.

    Raises:
        InvalidArgument: ``max_in_flight`` or ``on_failure`` is invalid.
        StateError: Nothing can be recorded.
        NotRecorded: A node is not part of this partial backfill, and has no valid result.
        BaseException: Any error that is not a node's, such as an interrupt; the other nodes are stopped first.
    """
    if not tasks:
        return {}
    check_settings(max_in_flight, on_failure)
    return _SideBySide(run, on_failure).do(tasks, max_in_flight or at_once(run.spark))


def check_settings(max_in_flight: int | None, on_failure: str = "finish") -> None:
    """Check settings before anything runs.

    Raises:
        InvalidArgument: One of them is invalid.
    """
    if max_in_flight is not None and max_in_flight < 1:
        raise InvalidArgument("max_in_flight", str(max_in_flight), "1 or more")
    if on_failure not in ("finish", "stop"):
        raise InvalidArgument("on_failure", repr(on_failure), "finish or stop")


def at_once(spark: SparkSession) -> int:
    """How many tasks a session runs at once, at least two: of more nodes in flight, a kill would lose more."""
    context = getattr(spark, "sparkContext", None)  # Connect's session has none
    return max(2, int(context.defaultParallelism)) if context is not None else AT_ONCE


class _SideBySide:
    def __init__(self, run: Run, on_failure: OnFailure) -> None:
        self._run = run
        self._on_failure = on_failure
        self._stop = threading.Event()

    def do(self, tasks: Sequence[Task], max_in_flight: int) -> dict[str, Ended]:
        from pyspark import inheritable_thread_target

        # The decorator gives each thread the local properties of this one: pool, job group, tags.
        work = inheritable_thread_target(self._run.spark)(self._work)
        with ThreadPoolExecutor(max_in_flight, thread_name_prefix=f"spark_flow/{self._run.run_id}") as pool:
            futures: dict[Future[Ended], Task] = {}
            try:
                for task in tasks:
                    futures[pool.submit(work, task)] = task  # the first ones run already: an interrupt must stop them
                return self._gather(futures)
            except BaseException as error:
                self._stop_all(futures, Interrupted if isinstance(error, KeyboardInterrupt) else StoppedBySibling)
                while left := [future for future in futures if not future.done()]:
                    wait(left, timeout=_AGAIN)
                    self._interrupt(futures)
                raise

    def _work(self, task: Task) -> Ended:
        began = time.monotonic()
        if self._stop.is_set():
            return Ended(self._stopped(task), began, began)
        tag = self._tag(task)
        tag_jobs(self._run.spark, tag)
        result: Outcome | SparkFlowError
        try:
            result = task.ensure()
        except (StateError, NotRecorded):
            raise
        except SparkFlowError as error:
            result = error
        finally:
            untag_jobs(self._run.spark, tag)  # a pool's thread does more than one task
        return Ended(result, began, time.monotonic())

    def _gather(self, futures: Mapping[Future[Ended], Task]) -> dict[str, Ended]:
        ended: dict[str, Ended] = {}
        done: queue.SimpleQueue[Future[Ended]] = queue.SimpleQueue()
        for future in futures:
            future.add_done_callback(done.put)
        while len(ended) < len(futures):
            with contextlib.suppress(queue.Empty):
                # With an end: a signal just before a wait would not end it.
                future = done.get(timeout=_AGAIN)
                one = ended[futures[future].node] = future.result()
                failed = isinstance(one.result, Exception) and not isinstance(one.result, _NO_FAILURE)
                if failed and self._on_failure == "stop":
                    self._stop_all(futures)
            if self._stop.is_set():
                self._interrupt(futures)
        return ended

    def _stop_all(
        self, futures: Mapping[Future[Ended], Task], why: type[Interrupted | StoppedBySibling] = StoppedBySibling
    ) -> None:
        """Keep tasks that have not started from starting, and interrupt the others."""
        if not self._stop.is_set():
            self._run.stopped.update(
                {task.node: why(task.node) for future, task in futures.items() if not future.done()}
            )
            self._stop.set()

    def _interrupt(self, futures: Mapping[Future[Ended], Task]) -> None:
        """Cancel the jobs of running tasks; called repeatedly, because a branch may be between two of its jobs."""
        for future, task in futures.items():
            if future.running():
                interrupt_jobs(self._run.spark, self._tag(task))

    def _stopped(self, task: Task) -> SparkFlowError:
        """The error of a task that did not start."""
        stopped = self._run.stopped.get(task.node) or StoppedBySibling(task.node)
        if isinstance(stopped, Interrupted):
            self._run.skip(task.node, task.kind, "not begun: the run was interrupted", task.fingerprint)
        else:
            self._run.failed(task.node, task.kind, stopped, task.fingerprint)
        return stopped

    def _tag(self, task: Task) -> str:
        return f"spark_flow/{self._run.run_id}/{task.node}"


# By the context where there is one: ``interruptTag`` of a classic session finds no running job (Spark 4.2.0).
# Spark Connect has none.


def tag_jobs(spark: SparkSession, tag: str) -> None:
    """Tag the jobs that this thread will start."""
    context = getattr(spark, "sparkContext", None)
    if context is not None:
        context.addJobTag(tag)
    else:
        spark.addTag(tag)


def untag_jobs(spark: SparkSession, tag: str) -> None:
    """Remove a tag from the jobs that this thread will start."""
    context = getattr(spark, "sparkContext", None)
    if context is not None:
        context.removeJobTag(tag)
    else:
        spark.removeTag(tag)


def interrupt_jobs(spark: SparkSession, tag: str) -> None:
    """Cancel the jobs of a tag. An interrupt of the terminal may have ended the JVM, and the jobs with it."""
    context = getattr(spark, "sparkContext", None)
    try:
        if context is not None:
            context.cancelJobsWithTag(tag)
        else:
            spark.interruptTag(tag)
    except Exception as error:  # Py4J's, or a broken socket
        _log.debug("the jobs of %s could not be cancelled: %s", tag, describe(error))
