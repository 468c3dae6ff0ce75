"""Tight coupling, by task: the provider starts its consumer and reports its outcome."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from spark_flow.core import fingerprint
from spark_flow.core.secrets import redact
from spark_flow.engine.node import Node
from spark_flow.errors import InvalidArgument, TriggeredFailed, TriggeredWaits, UnknownJob, describe
from spark_flow.spark import submit
from spark_flow.storage.sink_protocol import Intent, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run

ALLOWED = ("succeeded", "reused", "skipped")
PATIENCE = 10.0  # seconds from SIGTERM until SIGKILL
STATES = (*ALLOWED, "failed", "waiting", "fallback")


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """A job that a provider starts; create one with ``consumer``, before the provider's work.

    Attributes:
        job: Absolute path of the job's file.
        config: Absolute path of its YAML file; empty for a job without one.
        pipeline: The name of its pipeline, if known.
        overrides: ``name=value`` arguments in addition to the key.
    """

    job: str
    config: str = ""
    pipeline: str = ""
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The pipeline's name, else the file's name."""
        return self.pipeline or Path(self.job).stem


def consumer(
    job: str | Path,
    *,
    config: str | Path | None = None,
    pipeline: str = "",
    overrides: Sequence[str] = (),
    beside: Path | None = None,
) -> Consumer:
    """Look up a job to trigger, so that a missing or renamed job is an error before any work starts.

    Args:
        job: The job's script or its YAML file, relative to the current folder or to ``beside``.
        config: Its YAML file; defaults to ``../conf/<job>.yaml`` relative to the script's folder, if that exists.
        pipeline: The expected ``pipeline`` in its YAML file; detects that the file now belongs to another job.
        overrides: ``name=value`` arguments for its command line, in addition to the key.
        beside: A second folder to search.

    Raises:
        InvalidArgument: An override is the key, an option, or not ``name=value``.
        UnknownJob: The job or its YAML file is missing, or the YAML file belongs to another pipeline.
    """
    candidates = [Path(job), *([beside / job] if beside else [])]
    found = next((each.resolve() for each in candidates if each.is_file()), None)
    if found is None:
        raise UnknownJob(str(job), "no such file", "a job's file")
    default = submit.yaml_of(found)
    for override in overrides:
        if override.startswith(("-", "key=")) or "=" not in override:
            raise InvalidArgument(f"{job}: overrides", repr(override), "name=value; the key is always the run's")
    given = [Path(config), *([beside / config] if beside else [])] if config else [default]
    path = next((each.resolve() for each in given if each.is_file()), given[0])
    if not path.is_file():
        if config or pipeline:
            raise UnknownJob(str(job), f"no {path}", "its YAML file")
        return Consumer(job=str(found), overrides=tuple(overrides))
    named = _pipeline_of(path)
    if pipeline and named != pipeline:
        raise UnknownJob(str(job), f"pipeline {named!r} in {path}", f"pipeline {pipeline!r}")
    return Consumer(job=str(found), config=str(path), pipeline=named, overrides=tuple(overrides))


def _pipeline_of(path: Path) -> str:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UnknownJob(str(path), f"an unreadable file ({error})", "a YAML file") from error
    return str(raw.get("pipeline", "")) if isinstance(raw, dict) else ""


def trigger(
    run: Run,
    to_start: Consumer,
    *,
    wait: bool = True,
    allow: Sequence[str] = ALLOWED,
    name: str = "",
    launcher: str = "",
) -> Outcome:
    """Start a consumer with spark-submit for the run's key, once per set of writes of the run.

    A retry does not start it again if it ended in an allowed state. After new writes (a rerun, a late branch) the
    consumer starts a new generation of its key, so a backfill propagates immediately.

    >>> report = consumer("jobs/isolated_consumer.py", pipeline="flights_by_carrier")  # doctest: +SKIP
    >>> with Run.open("hourly_flights", key) as run:  # doctest: +SKIP
    ...     write(run, "lake", hours, delta("out/hours", partition_by="date"))
    ...     trigger(run, report)

    Args:
        run: The run.
        to_start: The consumer.
        wait: Wait until it ends and report its outcome; else only start it.
        allow: The states that count as success, from ``succeeded``, ``reused``, ``skipped``, ``failed``, ``waiting``,
            ``fallback``.
        name: The node's name; defaults to ``trigger/<consumer's name>``.
        launcher: The command that starts the job's file; defaults to ``spark-flow submit``.

    Raises:
        InvalidArgument: A state is unknown.
        TriggeredFailed: It ended in another state, or did not start.
        TriggeredWaits: It has to be retried later (exit code 75).
    """
    node = run.node(name or f"trigger/{to_start.name}")
    unknown = [state for state in allow if state not in STATES]
    if unknown or isinstance(allow, str):
        raise InvalidArgument(f"{node}: allow", repr(unknown or allow), f"some of: {', '.join(STATES)}")
    run.graph.uses(node, [outcome.node for outcome in run.outcomes if outcome.kind == "sink"])
    staged = [outcome.node for outcome in run.outcomes if outcome.detail.get("staged")]
    if staged:
        return run.skip(node, "trigger", f"not started: {', '.join(staged)} is kept in staging")
    wrote = sorted([o.node, o.revision] for o in run.outcomes if o.kind in ("sink", "marker"))
    request_id = fingerprint.combine(run.generation, wrote)[:12]  # without paths: a moved folder is not new data
    overrides = [redact(override) for override in to_start.overrides]
    digest = fingerprint.combine(wrote, to_start.job, to_start.config, overrides, wait, list(allow))
    child = _Child(run, node, to_start, tuple(allow))

    def start(intent: Intent) -> Written:
        words = [
            *submit.launcher(launcher),
            *_program(to_start, run.key, f"{run.pipeline}/{node}@{request_id}"),
        ]
        if wait:
            return child.follow(words)
        process = child.start(words)
        threading.Thread(target=process.wait, daemon=True).start()  # no zombie
        intent.mark("after_commit")
        detail = {"process": process.pid}
        return Written(reason=f"started as process {process.pid}; output in {child.log}", detail=detail)

    return run.once(Node(name=node, kind="trigger", fingerprint=digest), start)


def _program(to_start: Consumer, key: str, request_id: str) -> list[str]:
    config = ["--config", to_start.config] if to_start.config else []
    return [to_start.job, *config, f"key={key}", *to_start.overrides, "--request-id", request_id]


@dataclass(frozen=True)
class _Child:
    """A consumer that runs as a child process."""

    run: Run
    node: str
    consumer: Consumer
    allow: tuple[str, ...]

    @property
    def log(self) -> Path:
        """The file for its output: in the state folder if that is local."""
        return (
            submit.logs(self.run.state)
            / "triggers"
            / self.run.pipeline
            / self.run.key
            / f"{self.node.replace('/', '-')}.log"
        )

    def start(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start it in its own process group, so that it can be ended together with its children.

        Raises:
            TriggeredFailed: The command cannot be started.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.log.open("wb") as output:
                return subprocess.Popen(  # noqa: S603 - the user's own job
                    words, env=submit.environment(), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
                )
        except OSError as error:
            raise self._failed("failed", f"not started: {describe(error)}") from error

    def follow(self, words: Sequence[str]) -> Written:
        """Start it, wait until it ends, and check the state in which it ended.

        Raises:
            TriggeredFailed, TriggeredWaits: As for ``trigger``.
        """
        summary = self.log.with_suffix(".json")
        summary.unlink(missing_ok=True)
        began = time.monotonic()
        process = self.start([*words, "--summary-json", str(summary)])
        try:
            with _sigterm_as_interrupt():
                while process.poll() is None:
                    self.run.waiting(self.node, "trigger", f"{self.consumer.name} is running; output in {self.log}")
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=1)
        except BaseException:
            _end(process)  # nothing waits for it any more
            raise
        found = submit.read_summary(summary)
        state = str(found.get("state", "failed"))
        if (process.returncode == 0) != (state in ALLOWED):
            state = "failed"  # its summary contradicts its exit code
        reason = self._reason(found, process.returncode)
        if state not in self.allow:
            if state == "waiting":
                raise TriggeredWaits(self.node, f"{self.consumer.name} {self.run.key}", reason)
            raise self._failed(state, reason)
        detail = {"state": state, "exit_code": process.returncode, "generation": found.get("generation")}
        took = f"in {time.monotonic() - began:.1f} s"
        return Written(reason=f"{self.consumer.name} {self.run.key} {state} {took}", detail=detail)

    def _failed(self, state: str, reason: str) -> TriggeredFailed:
        return TriggeredFailed(self.node, f"{self.consumer.name} {self.run.key}", state, reason, self.allow)

    def _reason(self, summary: Mapping[str, Any], code: int) -> str:
        """Return why it ended: the first error of its nodes, else the last line of its output."""
        nodes = [node for node in summary.get("nodes", []) if isinstance(node, dict) and node.get("state") == "failed"]
        wrong = [f"{node.get('node')}: {node.get('error') or node.get('reason')}" for node in nodes]
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"{how}; {(wrong or lines[-1:] or ['no output'])[0]}; output in {self.log}"


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, so that the consumer is ended too; works only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen[bytes]) -> None:
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=PATIENCE)
            return
