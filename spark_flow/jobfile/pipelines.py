"""A job file as a pipeline of the runners, and the claim of its key for a job that runs alone."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from spark_flow.engine.run import recomputing
from spark_flow.errors import InvalidArgument, PreviousNotDone
from spark_flow.jobfile.footprint import footprint
from spark_flow.jobfile.launch import run_file
from spark_flow.ledger import DeltaLedger
from spark_flow.orchestration.depends_on_past import DependsOnPast
from spark_flow.orchestration.pipeline import Pipeline, RunRequest
from spark_flow.spark import submit
from spark_flow.storage.files import join

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from spark_flow import jobfile as files
    from spark_flow.jobfile.launch import Application
    from spark_flow.jobfile.request import JobRequest
    from spark_flow.orchestration.shared_state import Footprint
    from spark_flow.view.progress import Progress


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
        return submit.follow([*submit.launcher(), *program], log, run_request.interrupted)

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


def _touched(request: JobRequest) -> Callable[[str], Footprint]:
    return lambda key: footprint(request.of(key).load())
