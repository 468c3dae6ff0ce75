"""Run a job file for a key: alone, or as a pipeline of a runner."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import logging
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spark_flow import jobfile as files
from spark_flow.core.secrets import Redactor, redact, scrub
from spark_flow.engine.mode import Mode
from spark_flow.engine.run import Run, recomputing
from spark_flow.errors import InvalidArgument, PreviousNotDone, SummaryNotWritten, describe
from spark_flow.jobfile.footprint import footprint
from spark_flow.jobfile.interpreter import execute
from spark_flow.ledger import DeltaLedger
from spark_flow.lineage import follow
from spark_flow.orchestration.depends_on_past import DependsOnPast
from spark_flow.orchestration.pipeline import Pipeline, RunRequest
from spark_flow.spark import submit
from spark_flow.spark.session import existing, session
from spark_flow.storage.files import join
from spark_flow.view import logs
from spark_flow.view.summary import write_summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pyspark.sql import SparkSession

    from spark_flow.engine.outcome import Observer
    from spark_flow.lineage import Lineage
    from spark_flow.orchestration.shared_state import Footprint
    from spark_flow.view.progress import Progress

_LOOKED_AT = 20  # runs that are searched for one that recorded its file
_log = logging.getLogger("spark_flow")


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What a command line requests of a job file, for any of its keys.

    Attributes:
        job: The job's Python file; ``module:function`` is looked up in its folder first.
        config: The YAML file.
        overrides: ``name=value`` pairs, with ``key=`` if there is one key.
        rerun: Recompute everything.
        start: Run this node and everything after it again.
        only: Run only these nodes, or branches.
        observers: Called as nodes of each run proceed.
        secrets: Hides secrets in everything that is recorded or shown; it learns them when the file is read.
    """

    job: Path
    config: Path
    overrides: tuple[str, ...] = ()
    rerun: bool = False
    start: str = ""
    only: tuple[str, ...] = ()
    observers: tuple[Observer, ...] = ()
    secrets: Redactor = field(default_factory=Redactor, compare=False, repr=False)

    def of(self, key: str) -> JobRequest:
        """The same for one key."""
        return dataclasses.replace(self, overrides=(*self.overrides, f"key={key}"))

    @property
    def key(self) -> str:
        """The key among the overrides; empty if there is none."""
        return next((word.partition("=")[2] for word in reversed(self.overrides) if word.startswith("key=")), "")

    def load(self, *, any_key: bool = False) -> files.JobConfig:
        """The file, checked, with the files of the jobs that it triggers.

        Args:
            any_key: See ``files.load``.

        Raises:
            ConfigError: With all that is wrong.
            InvalidArgument: Jobs start each other in a circle.
        """
        named = dict(override.partition("=")[::2] for override in self.overrides)
        self.secrets.learn_from(named)
        config = files.load(self.config, self.overrides, beside=self.job.parent, any_key=any_key)
        self.secrets.learn(config.secrets)
        _check_triggers(config, self.job, any_key=any_key)
        return config

    @property
    def command(self) -> dict[str, object]:
        """How to run this again, for ``backfill``.

        Where an override holds a secret there is no command that could be repeated: its name is recorded alone. One
        that is given as ``${oc.env:NAME}`` is recorded as it is.
        """
        place = {"job": str(self.job), "config": str(self.config.absolute()), "cwd": str(Path.cwd())}
        held = [one.partition("=")[0] for one in self.overrides if redact(one) != one or self.secrets.knows(one)]
        return {**place, "withheld": held} if held else {**place, "overrides": list(self.overrides)}


def other_file(request: JobRequest, config: files.JobConfig) -> str:
    """A warning if the pipeline was last run from another file: both files share the recorded results."""
    try:
        begun = DeltaLedger(config.state, create=False).begun(config.pipeline, last=_LOOKED_AT)
    except Exception:
        return ""  # the run says what is wrong with its ledger
    known = [(event.key, event.detail.get("command", {}).get("config")) for event in begun]
    key, last = next(((key, path) for key, path in known if path), ("", ""))
    here = str(request.config.absolute())
    if not last or os.path.realpath(last) == os.path.realpath(here):
        return ""
    return (
        f"warning: pipeline {config.pipeline!r} was last run from {last} (key {key}); this is {here}. Both share "
        "what is recorded in the state folder: if they are two pipelines, give one of them another name (pipeline:)."
    )


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

    def session(self, *, delta: bool, listener: Mapping[str, str]) -> SparkSession:
        """The session; the first call decides its settings."""
        with self._lock:
            if self._session is None:
                self._session = session(self._name, delta=delta or self.shared, listener=listener)
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


def pipeline_of(
    request: JobRequest,
    config: files.JobConfig,
    application: Application,
    *,
    progress: Callable[[], Progress] | None = None,
) -> Pipeline:
    """Make a pipeline from a job file, whose runs share an application.

    Args:
        request: What the command line requests.
        config: The file, of any key.
        application: The Spark application of its runs.
        progress: Makes the display of a run's progress.

    Raises:
        ConfigError: The pools' file is wrong, or does not declare the pool.
        StateError: The state folder cannot be used.
    """

    def perform(run_request: RunRequest) -> Mapping[str, Any]:
        one = request.of(run_request.key)
        shown = progress() if progress is not None else None
        return recomputing(lambda: run_file(one, one.load(), run_request, application, progress=shown)).summary()

    return claims_of(config, perform=perform, footprint=_touched(request))


def _touched(request: JobRequest) -> Callable[[str], Footprint]:
    return lambda key: footprint(request.of(key).load())


def submitted(request: JobRequest, config: files.JobConfig) -> Pipeline:
    """Make a pipeline from a job file, each run a separate spark-submit application that claims its key itself.

    Args:
        request: What the command line requests; its job's file is submitted.
        config: The file, of any key.

    Raises:
        ConfigError: The pools' file is wrong, or does not declare the pool.
        InvalidArgument: There is no job to submit.
        StateError: The state folder cannot be used.
    """
    if request.job.stem.endswith("_runner"):
        raise InvalidArgument("runner.launch", "submit without the file's job", "--job: the file to submit")
    if not request.job.is_file():
        raise InvalidArgument("--job", f"no such file: {request.job}", "the file to submit")
    options = [
        *(["--from", request.start] if request.start else []),
        *(p for node in request.only for p in ("--only", node)),
    ]

    def perform(run_request: RunRequest) -> Mapping[str, Any]:
        log = submit.logs(config.state) / "submits" / config.pipeline / f"{run_request.key}.log"
        again = ["--request-id", run_request.request_id] if run_request.request_id else []
        job = [str(request.job), "--config", str(request.config), f"key={run_request.key}", *request.overrides]
        program = [*job, *options, *again]
        return submit.follow([*submit.launcher(str(request.job)), *program], log, run_request.interrupted)

    return claims_of(config, perform=perform, footprint=_touched(request), claims=False)


def claims_of(
    config: files.JobConfig,
    *,
    perform: Callable[[RunRequest], Mapping[str, Any]],
    footprint: Callable[[str], Footprint] | None = None,
    claims: bool = True,
) -> Pipeline:
    """Make a pipeline with the leases and slots of a job file; the other arguments are fields of ``Pipeline``."""
    return Pipeline(
        name=config.pipeline,
        perform=perform,
        state=config.state,
        ledger=DeltaLedger(config.state),
        leases=config.runner.leases or join(config.state, "leases"),
        slots=config.runner.share(),
        ttl=config.runner.lease_seconds,
        footprint=footprint,
        claims=claims,
    )


@contextlib.contextmanager
def alone(config: files.JobConfig, report: Callable[[str], None]) -> Iterator[RunRequest]:
    """Claim a file's key: its lease, its slots of a pool, and the previous key done if the file says so.

    Raises:
        NotNow: It cannot be run now.
        UsageError: The file's limits are not those of others that run the pipeline.
    """
    runner = config.runner
    pipeline = claims_of(config, perform=lambda _: {})
    previous = runner.keys_of.previous(config.key) if runner.depends_on_past else None
    limit, busy, queue = runner.max_active_runs, runner.on_busy, runner.queue
    with pipeline.claimed(config.key, limit=limit, busy=busy, queue=queue, report=report) as lease:
        before_node: Callable[[str], None] = lambda _: None  # noqa: E731
        if previous is not None and runner.depends_on_past is True:
            past = pipeline.past(previous)
            if not past.done:
                raise PreviousNotDone(config.key, previous, past.reason)
        elif previous is not None and not isinstance(runner.depends_on_past, bool):
            before_node = DependsOnPast(
                pipeline=pipeline.name,
                previous=previous,
                nodes=runner.depends_on_past,
                ledger=pipeline.ledger,
                leases=pipeline.leases,
                report=report,
            )
        yield RunRequest(key=config.key, lease=lease, before_node=before_node)


def run_file(
    request: JobRequest,
    config: files.JobConfig,
    run_request: RunRequest,
    application: Application,
    *,
    plan: bool = False,
    summary: Path | None = None,
    progress: Progress | None = None,
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
    redo = files.redo(config, start=request.start, only=request.only, rerun=request.rerun)

    def spark() -> SparkSession:
        not_taken = [o.node for o in run.outcomes if o.kind == "choice" and o.state == "skipped"]
        told = lineage.spark_settings() if lineage is not None and not application.shared else {}
        made = application.session(delta=config.needs_delta(not_taken), listener=told)
        return run_request.in_pool(made)

    run = Run.open(
        config.pipeline,
        config.key,
        state=config.state,
        spark=spark,
        mode=Mode(
            rerun=request.rerun,
            plan=plan,
            only=() if redo else tuple(request.only),
            redo=redo,
            request_id=run_request.request_id,
            command=request.command,
            retention=dt.timedelta(days=config.retention_days),
            secrets=request.secrets,
        ),
        permission=run_request.permission,
        observers=[*([progress] if progress else []), *request.observers],
    )
    lineage: Lineage | None = None

    def finish(_: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            scrub(error, request.secrets)
        if lineage is not None:
            lineage.finish(error)  # after the session's end, which is an event of Spark's as well

    # Closed in reverse run_request, each even if an earlier one fails: the run first.
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
        execute(config, run, beside=request.job.parent)
    return run


def _summarise(run: Run, path: Path | None, _: object, error: BaseException | None, __: object) -> None:
    """Write the run's summary; if that fails after an error of the run, only log it."""
    try:
        write_summary(path, run.summary())
    except SummaryNotWritten as wrong:
        if error is None:
            raise
        _log.warning("%s", wrong)


def _check_triggers(
    config: files.JobConfig, job: Path, above: Sequence[tuple[str, str]] = (), *, any_key: bool = False
) -> None:
    """Read the files of the jobs that will be triggered, to report their problems before any work is done.

    Raises:
        ConfigError: Of a consumer's file.
        InvalidArgument: Jobs start each other in a circle.
    """
    chain = [*above, (str(job), config.pipeline)]
    for entry in files.walk(config.flow):
        if not isinstance(entry, files.TriggerModel):
            continue
        to_start = entry.consumer(job.parent)
        place = (to_start.job, to_start.pipeline)
        if place in chain:
            circle = " -> ".join(name for _, name in [*chain[chain.index(place) :], place])
            raise InvalidArgument(f"trigger of {entry.job}", f"a circle: {circle}", "jobs that do not start each other")
        if to_start.pipeline:  # a stream's file, or another tool's, has none
            overrides = [f"key={config.key}", *to_start.overrides]
            loaded = files.load(to_start.config, overrides, beside=Path(to_start.job).parent, any_key=any_key)
            _check_triggers(loaded, Path(to_start.job), chain, any_key=any_key)
