"""Run a job file for one key: open the run, walk the entries, close it."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import logging
import threading
from typing import TYPE_CHECKING, Protocol

from spark_flow import jobfile as files
from spark_flow.core import notify, secrets
from spark_flow.engine.mode import Mode
from spark_flow.engine.run import Run
from spark_flow.errors import Interrupted, NothingToDo, NotNotified, NotNow, SummaryNotWritten, describe
from spark_flow.jobfile.interpreter import execute
from spark_flow.jobfile.model.fields import texts
from spark_flow.lineage import follow
from spark_flow.spark.session import check_formats, existing, session
from spark_flow.view import logs
from spark_flow.view.summary import write_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from pyspark.sql import SparkSession

    from spark_flow.engine.outcome import Observer, Outcome
    from spark_flow.jobfile.request import JobRequest
    from spark_flow.lineage import Lineage
    from spark_flow.orchestration.pipeline import RunRequest


class Display(Protocol):
    """An observer with the start and end of the run as well (``spark_flow.view.progress``)."""

    def begin(self, run: Run) -> None: ...  # noqa: D102
    def __call__(self, point: str, node: str, outcome: Outcome | None) -> None: ...  # noqa: D102
    def finish(self, run: Run) -> None: ...  # noqa: D102


_log = logging.getLogger("spark_flow")


class Application:
    """The Spark session of this process, made when a run first needs it; an existing one is used unchanged.

    Args:
        name: The application's name in Spark.
        shared: Whether several runs use it. Spark's own lineage events, which belong to one run, are then not sent.
    """

    def __init__(self, name: str, *, shared: bool = False) -> None:
        self.shared = shared
        self._name = name
        self._session: SparkSession | None = None
        self._others = existing() is not None
        self._lock = threading.Lock()

    def session(
        self,
        *,
        delta: bool,
        listener: Mapping[str, str],
        settings: Mapping[str, str] | None = None,
        schemes: Collection[str] = (),
    ) -> SparkSession:
        """The session; the first call decides its settings."""
        with self._lock:
            if self._session is None:
                self._session = session(
                    self._name, delta=delta or self.shared, listener=listener, config=settings, schemes=schemes
                )
                if not self._others:
                    logs.quiet()
            return self._session

    def close(self) -> None:
        """Stop the session, if it was made here; a later call of ``session`` makes a new one."""
        made, self._session = self._session, None
        if made is not None and not self._others:
            try:
                made.stop()
            except Exception as error:  # its JVM is gone; what the run ended with says why
                _log.debug("the session was not stopped: %s", describe(error))
            self._session = None  # a run that is done once more makes another


def run_file(
    request: JobRequest,
    config: files.JobConfig,
    run_request: RunRequest,
    application: Application,
    *,
    plan: bool = False,
    summary: Path | None = None,
    progress: Display | None = None,
) -> Run:
    """Run a file's flow for its key; returns the run, which has ended.

    Args:
        request: What the command line requests.
        config: The file of this key.
        run_request: The lease of the key, and the request id.
        application: The Spark application that its jobs run in.
        plan: Plan instead of running.
        summary: Where to write the run's summary.
        progress: Shows the run's progress.

    Raises:
        SparkFlowError: As the flow's patterns do.
    """

    def spark() -> SparkSession:
        not_taken = [o.node for o in run.outcomes if o.kind == "choice" and o.state == "skipped"]
        told = lineage.spark_settings() if lineage is not None and not application.shared else {}
        formats = config.formats(not_taken)
        own = secrets.resolved(texts(config.spark))
        made = application.session(delta="delta" in formats, listener=told, settings=own, schemes=config.schemes)
        check_formats(made, formats)
        return run_request.in_pool(made)

    observers: list[Observer] = [*([progress] if progress else []), *request.observers]
    run = _open(request, config, run_request, spark, plan=plan, observers=observers)
    lineage: Lineage | None = None

    def finish(_: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            secrets.scrub(error, request.secrets)
        if lineage is not None:
            lineage.finish(error)  # after the session's end, which is an event of Spark's as well
        if config.on_failure is not None and not plan and isinstance(error, Exception) and not _is_quiet(error):
            _notify(config, run, config.on_failure.notify, error)

    # Closed in reverse order, each even if an earlier one fails: the run first.
    with contextlib.ExitStack() as ends:
        ends.push(finish)
        if not application.shared:
            ends.callback(application.close)
        if progress is not None:
            ends.callback(progress.finish, run)
        ends.push(functools.partial(_summarise, run, summary))
        ends.enter_context(run)
        lineage = follow(run, config.lineage.target(config.state)) if config.lineage else None
        if progress is not None:
            progress.begin(run)
        execute(config, run, beside=request.job.parent, until=request.until)
    return run


def _open(
    request: JobRequest,
    config: files.JobConfig,
    run_request: RunRequest,
    spark: Callable[[], SparkSession],
    *,
    plan: bool,
    observers: Sequence[Observer],
) -> Run:
    redo = files.redo(config, start=request.start, only=request.only, rerun=request.rerun)
    mode = Mode(
        rerun=request.rerun,
        plan=plan,
        only=() if redo else tuple(request.only),
        redo=redo,
        request_id=run_request.request_id,
        command=request.command,
        retention=dt.timedelta(days=config.retention_days),
        secrets=request.secrets,
    )
    permission = dataclasses.replace(run_request.permission, limits=config.limits())
    return Run.open(
        config.pipeline,
        config.key,
        state=config.state,
        spark=spark,
        mode=mode,
        permission=permission,
        observers=observers,
    )


def _is_quiet(error: Exception) -> bool:
    """Whether nothing failed: the run waits, was skipped or interrupted."""
    return isinstance(error, NotNow | NothingToDo | Interrupted)


def _notify(config: files.JobConfig, run: Run, variable: str, error: Exception) -> None:
    """Report a failed run; that the report cannot be sent is only logged."""
    if not notify.is_set(variable):
        _log.warning("%s is not set: nobody is notified that the run failed", variable)
        return
    body = f"generation {run.generation}, attempt {run.attempt}: {run.secrets(describe(error))}"
    try:
        notify.send(variable, f"{config.pipeline} {config.key} failed", body)
    except NotNotified as wrong:
        _log.warning("%s", wrong)


def _summarise(run: Run, path: Path | None, _: object, error: BaseException | None, __: object) -> None:
    """Write the run's summary; if that fails after an error of the run, only log it."""
    try:
        write_summary(path, run.summary())
    except SummaryNotWritten as wrong:
        if error is None:
            raise
        _log.warning("%s", wrong)
