"""Limits of a node's action: how long one try may take, and how often it is tried."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from spark_flow.engine.parallel import interrupt_jobs, tag_jobs, untag_jobs
from spark_flow.errors import Interrupted, InvalidArgument, NodeTimedOut, SparkFlowError, describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from spark_flow.engine.node import Node
    from spark_flow.engine.run import Run

T = TypeVar("T")

_AGAIN = 0.5  # seconds between two looks at whether to stop, and between two attempts to cancel jobs
_LONGEST_PAUSE = 600.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long a node may take, and how often it is tried again within one attempt of the run.

    Attributes:
        timeout: Seconds of one try; then its Spark jobs are cancelled and the node fails. ``None`` for no limit.
        retries: How often it is tried again after it failed or timed out. An error that spark_flow itself raises, or
            that Spark finds while it analyses a plan, is final: the next try would find the same.
        backoff: Seconds before the second try; doubled before each further one, up to ten minutes.

    Raises:
        InvalidArgument: A value is not positive.
    """

    timeout: float | None = None
    retries: int = 0
    backoff: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what limits nothing."""
        if self.timeout is not None and self.timeout <= 0:
            raise InvalidArgument("Limits: timeout", f"{self.timeout}", "seconds, above 0")
        if self.retries < 0:
            raise InvalidArgument("Limits: retries", f"{self.retries}", "0 or more")
        if self.backoff < 0:
            raise InvalidArgument("Limits: backoff", f"{self.backoff}", "seconds, 0 or more")


def within(run: Run, node: Node, action: Callable[[], T], cause: Callable[[BaseException], BaseException]) -> T:
    """Run a node's action within its limits (``Permission.limits``).

    Args:
        run: The run.
        node: The node; its own limits, or those of the node that it is below, as ``hours`` for ``hours/07``.
        action: The action; called again if it failed and may be tried again.
        cause: The error that the node fails with, for what the action raised.

    Raises:
        NodeTimedOut: The last try took too long.
        BaseException: What the last try raised.
    """
    limits = run.permission.limits_of(node.name)
    if limits is None:
        return action()

    def is_worth_a_retry(error: BaseException) -> bool:
        own = cause(error)
        return isinstance(own, NodeTimedOut) or (
            isinstance(own, Exception) and not isinstance(own, SparkFlowError) and not _is_final(own)
        )

    def before_sleep(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        why = describe(cause(error)) if error is not None else ""
        run.warn(f"{node.name}: try {state.attempt_number} of {limits.retries + 1} failed: {why}")

    def pause(seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            run.waiting(node.name, node.kind, f"tried again after {seconds:.0f} s")
            _check_not_stopped(run, node.name)
            time.sleep(min(left, _AGAIN))
        run.check()

    retrying = Retrying(
        retry=retry_if_exception(is_worth_a_retry),
        stop=stop_after_attempt(limits.retries + 1),
        wait=wait_exponential(multiplier=limits.backoff, max=_LONGEST_PAUSE),
        sleep=pause,
        before_sleep=before_sleep,
        reraise=True,
    )
    return retrying(lambda: _timed(run, node.name, action, limits.timeout))


def _check_not_stopped(run: Run, node: str) -> None:
    if node in run.stopped:
        raise run.stopped[node]
    if run.permission.interrupted():
        raise Interrupted(node)


def _is_final(error: BaseException) -> bool:
    """Whether the same would be raised again: Spark refuses the plan itself."""
    from pyspark.errors import AnalysisException, ParseException

    return isinstance(error, AnalysisException | ParseException)


def _timed(run: Run, node: str, action: Callable[[], T], timeout: float | None) -> T:
    """Run an action; when its time is over, cancel the Spark jobs that its thread has started, again and again.

    Only Spark's jobs can be cancelled: a function that blocks in Python is not ended.
    """
    if timeout is None:
        return action()
    spark, tag = run.spark, f"spark_flow/{run.run_id}/{node}/timeout"
    done, late = threading.Event(), threading.Event()

    def watch() -> None:
        if done.wait(timeout):
            return
        late.set()
        while not done.is_set():
            interrupt_jobs(spark, tag)
            done.wait(_AGAIN)

    watcher = threading.Thread(target=watch, name=tag, daemon=True)
    tag_jobs(spark, tag)
    watcher.start()
    try:
        return action()
    except Exception as error:
        if late.is_set() and node not in run.stopped and not run.permission.interrupted():
            raise NodeTimedOut(node, timeout) from error
        raise
    finally:
        done.set()
        watcher.join()
        untag_jobs(spark, tag)
