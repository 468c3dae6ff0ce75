"""Tight hand-over, by task: the provider starts its consumer, and takes over its outcome."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from spark_flow import fingerprint, submit
from spark_flow.errors import InvalidArgument, TriggeredFailed, TriggeredWaits, UnknownJob
from spark_flow.storage import files
from spark_flow.storage.port import Intent, Written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spark_flow.outcome import Outcome
    from spark_flow.run import Run

ALLOWED = ("succeeded", "reused", "skipped")
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
        UnknownJob: It is not there, its YAML file is not, or that is of another pipeline.
    """
    places = [Path(job), *([beside / job] if beside else [])]
    found = next((place.resolve() for place in places if place.is_file()), None)
    if found is None:
        raise UnknownJob(str(job), "no such file", "a job's file")
    default = found.parent.parent / "conf" / f"{found.stem}.yaml"
    path = Path(config).resolve() if config else default
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
    node = run.node(name or f"trigger/{to_start.pipeline or Path(to_start.job).stem}")
    unknown = [state for state in allow if state not in STATES]
    if unknown or isinstance(allow, str):
        raise InvalidArgument(f"{node}: allow", repr(unknown or allow), f"some of: {', '.join(STATES)}")
    wrote = [[o.node, o.revision] for o in run.outcomes if o.kind in ("sink", "marker") and o.node != node]
    made_of = fingerprint.combine(
        to_start.job, to_start.config, to_start.overrides, wait, run.generation, sorted(wrote)
    )
    cause = f"{run.pipeline}/{node}@{made_of[:12]}"

    def start(intent: Intent) -> Written:
        words = [*submit.launcher(to_start.job, launcher), *_program(to_start, run.key, cause)]
        log = _log(run, node)
        if wait:
            return _follow(run, node, to_start, words, log, allow)
        child = _start(words, log)
        threading.Thread(target=child.wait, daemon=True).start()  # no zombie while this process lives
        intent.mark("after_commit")
        return Written(
            reason=f"started as process {child.pid}; its output goes to {log}", detail={"process": child.pid}
        )

    return run.once(node, start, kind="trigger", fingerprint=fingerprint.combine(made_of, list(allow)))


def _program(to_start: Consumer, key: str, cause: str) -> list[str]:
    config = ["--config", to_start.config] if to_start.config else []
    return [to_start.job, *config, f"key={key}", *to_start.overrides, "--cause", cause]


def _log(run: Run, node: str) -> Path:
    """Where the consumer's output goes: into the state folder, where that is a local one."""
    root = Path(tempfile.gettempdir(), "spark_flow") if files.is_uri(run.state) else Path(files.absolute(run.state))
    log = root / "triggers" / run.pipeline / run.key / f"{node.replace('/', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    return log


def _start(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - the user's own job
            words, env=submit.environment(), stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )


def _follow(run: Run, node: str, to_start: Consumer, words: Sequence[str], log: Path, allow: Sequence[str]) -> Written:
    """Start it, wait for its end, and judge how it ended."""
    summary = log.with_suffix(".json")
    summary.unlink(missing_ok=True)
    began = time.monotonic()
    child = _start([*words, "--summary-json", str(summary)], log)
    try:
        while child.poll() is None:
            run.waiting(node, "trigger", f"{Path(to_start.job).name} runs; its output goes to {log}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=1)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)  # what waits for it is gone
        child.wait()
        raise
    told = _summary(summary)
    state = str(told.get("state", "failed"))
    who = f"{told.get('pipeline') or to_start.pipeline or Path(to_start.job).name} {run.key}"
    reason = _reason(told, child.returncode, log)
    if state not in allow:
        if state == "waiting":
            raise TriggeredWaits(node, who, reason)
        raise TriggeredFailed(node, who, state, reason, allow)
    detail = {"state": state, "exit_code": child.returncode, "generation": told.get("generation")}
    return Written(reason=f"{who} {state} in {time.monotonic() - began:.1f} s", detail=detail)


def _summary(path: Path) -> dict[str, Any]:
    try:
        return dict(files.read_json(str(path)))
    except (FileNotFoundError, ValueError):
        return {}  # it ended before it could say more than its exit code


def _reason(told: dict[str, Any], code: int, log: Path) -> str:
    """Why it ended so: the first error of its nodes, else its last line."""
    wrong = [f"{n['node']}: {n['error'] or n['reason']}" for n in told.get("nodes", []) if n["state"] == "failed"]
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{how}; {(wrong or lines[-1:] or ['no output'])[0]}; its output is in {log}"
