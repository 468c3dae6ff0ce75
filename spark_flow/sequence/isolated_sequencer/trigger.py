"""Tight hand-over, by task: the provider starts its consumer, and takes over its outcome."""

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

from spark_flow.engine.node import Node
from spark_flow.core import fingerprint
from spark_flow.core.secrets import redact
from spark_flow.errors import InvalidArgument, TriggeredFailed, TriggeredWaits, UnknownJob, describe
from spark_flow.spark import submit
from spark_flow.storage.sink_protocol import Intent, Written

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run

ALLOWED = ("succeeded", "reused", "skipped")
PATIENCE = 10.0  # seconds that a consumer has to end in, when it is told to
STATES = (*ALLOWED, "failed", "waiting", "fallback")


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """A job that a provider starts; make one with ``consumer``, before the provider's work.

    Attributes:
        job: Its file, absolute.
        config: Its YAML file, absolute; empty for a job without one.
        pipeline: Its pipeline's name, where it is known.
        overrides: ``name=value``, besides the key.
    """

    job: str
    config: str = ""
    pipeline: str = ""
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its pipeline's, else its file's."""
        return self.pipeline or Path(self.job).stem


def consumer(
    job: str | Path,
    *,
    config: str | Path | None = None,
    pipeline: str = "",
    overrides: Sequence[str] = (),
    beside: Path | None = None,
) -> Consumer:
    """A job to trigger, looked up now: one that is missing or renamed is an error before any work is done.

    Args:
        job: Its file, from the current folder or from ``beside``.
        config: Its YAML file; by default ``conf/<its name>.yaml`` beside its folder, if that is there.
        pipeline: The name that its YAML file must have as ``pipeline``: notices that another job took its place.
        overrides: ``name=value`` for its command line, besides the key.
        beside: Where to look, too.

    Raises:
        InvalidArgument: An override is the key, an option, or none.
        UnknownJob: It is not there, its YAML file is not, or that is of another pipeline.
    """
    places = [Path(job), *([beside / job] if beside else [])]
    found = next((place.resolve() for place in places if place.is_file()), None)
    if found is None:
        raise UnknownJob(str(job), "no such file", "a job's file")
    default = found.parent.parent / "conf" / f"{found.stem}.yaml"
    for override in overrides:
        if override.startswith(("-", "key=")) or "=" not in override:
            raise InvalidArgument(
                f"{job}: overrides", repr(override), "name=value, and not the key, which is the run's"
            )
    given = [Path(config), *([beside / config] if beside else [])] if config else [default]
    path = next((place.resolve() for place in given if place.is_file()), given[0])
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
        raise UnknownJob(str(path), f"what cannot be read ({error})", "a YAML file") from error
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
    """Start a consumer by spark-submit for the run's key, once for what the run has written.

    A retry does not start it again if it ended as allowed. When the run has written something new since (a rerun, a
    late branch), the consumer does its key anew, too: the backfill reaches it at once.

    >>> report = consumer("jobs/isolated_consumer.py", pipeline="flights_by_carrier")  # doctest: +SKIP
    >>> with Run.open("hourly_flights", key) as run:  # doctest: +SKIP
    ...     write(run, "lake", hours, delta("out/hours", partition_by="date"))
    ...     trigger(run, report)

    Args:
        run: The run.
        to_start: The consumer.
        wait: Wait for its end and take over its outcome; else only start it.
        allow: The states of its summary that are well: of ``succeeded``, ``reused``, ``skipped``, ``failed``,
            ``waiting``, ``fallback``.
        name: The node's name; by default ``trigger/<the job's name>``.
        launcher: The command that its file is put after; by default ``spark-submit.sh`` beside the job's folder, else
            spark-submit.

    Raises:
        InvalidArgument: A state is none.
        TriggeredFailed: It ended in another state, or did not start.
        TriggeredWaits: It has to wait itself (exit code 75).
    """
    node = run.node(name or f"trigger/{to_start.name}")
    unknown = [state for state in allow if state not in STATES]
    if unknown or isinstance(allow, str):
        raise InvalidArgument(f"{node}: allow", repr(unknown or allow), f"some of: {', '.join(STATES)}")
    staged = [outcome.node for outcome in run.outcomes if outcome.detail.get("staged")]
    if staged:
        return run.skip(node, "trigger", f"not started: {', '.join(staged)} is kept in staging")
    wrote = sorted([o.node, o.revision] for o in run.outcomes if o.kind in ("sink", "marker"))
    cause = fingerprint.combine(run.generation, wrote)[:12]  # not how it is started: a folder that moved is no new data
    told = [redact(override) for override in to_start.overrides]
    made_of = fingerprint.combine(wrote, to_start.job, to_start.config, told, wait, list(allow))
    child = _Child(run, node, to_start, tuple(allow))

    def start(intent: Intent) -> Written:
        words = [
            *submit.launcher(to_start.job, launcher),
            *_program(to_start, run.key, f"{run.pipeline}/{node}@{cause}"),
        ]
        if wait:
            return child.follow(words)
        process = child.start(words)
        threading.Thread(target=process.wait, daemon=True).start()  # no zombie while this process lives
        intent.mark("after_commit")
        detail = {"process": process.pid}
        return Written(reason=f"started as process {process.pid}; its output goes to {child.log}", detail=detail)

    return run.once(Node(name=node, kind="trigger", fingerprint=made_of), start)


def _program(to_start: Consumer, key: str, cause: str) -> list[str]:
    config = ["--config", to_start.config] if to_start.config else []
    return [to_start.job, *config, f"key={key}", *to_start.overrides, "--cause", cause]


@dataclass(frozen=True)
class _Child:
    """A consumer as a process of its own."""

    run: Run
    node: str
    consumer: Consumer
    allow: tuple[str, ...]

    @property
    def log(self) -> Path:
        """Where its output goes: into the state folder, where that is a local one."""
        return (
            submit.logs(self.run.state)
            / "triggers"
            / self.run.pipeline
            / self.run.key
            / f"{self.node.replace('/', '-')}.log"
        )

    def start(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start it in a group of its own, so that it can be ended with what it starts itself.

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
        """Start it, wait for its end, and judge how it ended.

        Raises:
            TriggeredFailed, TriggeredWaits: As ``trigger`` does.
        """
        summary = self.log.with_suffix(".json")
        summary.unlink(missing_ok=True)
        began = time.monotonic()
        process = self.start([*words, "--summary-json", str(summary)])
        try:
            with _told_to_end():
                while process.poll() is None:
                    self.run.waiting(self.node, "trigger", f"{self.consumer.name} runs; its output goes to {self.log}")
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(timeout=1)
        except BaseException:
            _end(process)  # what waits for it is gone
            raise
        told = submit.read_summary(summary)
        state = str(told.get("state", "failed"))
        if (process.returncode == 0) != (state in ALLOWED):
            state = "failed"  # what it said of itself is not how it ended
        reason = self._reason(told, process.returncode)
        if state not in self.allow:
            if state == "waiting":
                raise TriggeredWaits(self.node, f"{self.consumer.name} {self.run.key}", reason)
            raise self._failed(state, reason)
        detail = {"state": state, "exit_code": process.returncode, "generation": told.get("generation")}
        took = f"in {time.monotonic() - began:.1f} s"
        return Written(reason=f"{self.consumer.name} {self.run.key} {state} {took}", detail=detail)

    def _failed(self, state: str, reason: str) -> TriggeredFailed:
        return TriggeredFailed(self.node, f"{self.consumer.name} {self.run.key}", state, reason, self.allow)

    def _reason(self, told: Mapping[str, Any], code: int) -> str:
        """Why it ended so: the first error of its nodes, else its last line."""
        nodes = [node for node in told.get("nodes", []) if isinstance(node, dict) and node.get("state") == "failed"]
        wrong = [f"{node.get('node')}: {node.get('error') or node.get('reason')}" for node in nodes]
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"{how}; {(wrong or lines[-1:] or ['no output'])[0]}; its output is in {self.log}"


@contextlib.contextmanager
def _told_to_end() -> Iterator[None]:
    """SIGTERM as an exception, so that the consumer ends with us; only the main thread can take it."""
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
