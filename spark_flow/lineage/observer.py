"""The run observer that emits OpenLineage events for a run and its nodes."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import importlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from spark_flow.errors import Interrupted, InvalidArgument, NothingToDo, NotNow, describe
from spark_flow.ledger.event import now
from spark_flow.lineage.datasets import inputs_of, output_of
from spark_flow.lineage.job_identity import JobIdentity, identity_of
from spark_flow.lineage.transport import Delivery, Target, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run

_ABORTED = (NotNow, NothingToDo, Interrupted)
_STATES = {"succeeded": "COMPLETE", "failed": "FAIL", "skipped": "ABORT"}
_DONE = ("succeeded", "reused")
_APART = "spark.jsonl"


class Lineage:
    """An observer that emits START and COMPLETE, FAIL or ABORT for a run and each node that does work.

    An error here never fails a run: failed events are counted, and a warning is logged when the run ends. Nodes that
    are reused or skipped emit nothing.
    """

    def __init__(self, run: Run, target: Target, delivery: Delivery | None = None) -> None:
        self._run = run
        self._target = target
        self._delivery = delivery or Delivery(target)
        self._job = identity_of(run, target.namespace, os.environ)
        self._begun: dict[str, JobIdentity] = {}
        self._ended: set[str] = set()
        self._apart: Path | None = None
        self._emit(self._job, "START", now())

    def __call__(self, point: str, node: str, outcome: Outcome | None) -> None:
        """Handle a node's event; see ``spark_flow.engine.run.Observer``."""
        self._safely(functools.partial(self._follow, point, node, outcome))

    def finish(self, error: BaseException | None = None) -> None:
        """Emit the end of the run, and wait a few seconds for all events to be delivered.

        Args:
            error: The error with which the run, now closed, has ended.
        """
        for step in (self._abort, functools.partial(self._forward, error), functools.partial(self._end, error)):
            self._safely(step)
        self._delivery.close()
        if self._apart is not None:
            shutil.rmtree(self._apart, ignore_errors=True)

    def spark_settings(self) -> dict[str, str]:
        """Return the settings of OpenLineage's Spark listener with which its events belong to this run.

        The listener writes to a separate file, and its events are sent with ours when the run ends: concurrent writes
        to one file could mix long lines, a slow service would delay the stop of the session, and Spark settings must
        not contain an API key.
        """
        if not self._target.spark_events:
            return {}
        self._apart = self._apart or Path(tempfile.mkdtemp(prefix="spark_flow-lineage-"))
        settings = {
            "transport.type": "file",
            "transport.location": str(self._apart / _APART),
            "namespace": self._job.namespace,
            "appName": f"{self._job.job}_spark",  # Spark's own name has the key: each day would be another job
            **_names("parent", self._job),
            **_names("rootParent", self._job.root or self._job),
        }
        return {f"spark.openlineage.{name}": value for name, value in settings.items()}

    def _safely(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception as error:  # lineage never fails a run
            self._delivery.lost(error)

    def _follow(self, point: str, node: str, outcome: Outcome | None) -> None:
        if point == "before_action" and node not in self._begun:
            self._start(node, now())
        if point != "ended" or outcome is None or node in self._ended:
            return
        if outcome.state in ("succeeded", "failed") or (outcome.state == "skipped" and node in self._begun):
            if node not in self._begun:  # a lazy node: its work was done in another node's action
                self._start(node, now() - dt.timedelta(milliseconds=outcome.duration_ms or 0))
            self._stop(node, outcome)

    def _start(self, node: str, at: dt.datetime) -> None:
        self._begun[node] = self._job.of(node)
        self._emit(self._begun[node], "START", at)

    def _stop(self, node: str, outcome: Outcome) -> None:
        self._ended.add(node)
        # Datasets belong to the nodes that read or write them; a step's frame is not a dataset.
        inputs = inputs_of(self._run, node) if outcome.kind == "sink" or node in self._run.graph.sources else []
        output = output_of(outcome)
        message = outcome.error or (outcome.reason if outcome.state == "skipped" else "")
        how = {"inputs": inputs, "outputs": [output] if output else [], "error": message}
        self._emit(self._begun[node], _STATES[outcome.state], now(), **how)

    def _abort(self) -> None:
        """Emit ABORT for nodes that were interrupted during their action."""
        for node in [node for node in self._begun if node not in self._ended]:
            self._emit(self._begun[node], "ABORT", now())

    def _forward(self, error: BaseException | None) -> None:
        """Queue the events that Spark's listener has written."""
        if self._apart is None:
            return
        file = self._apart / _APART
        if not file.exists() and error is not None:
            return  # there may have been no session
        if not file.exists():
            raise LookupError("Spark's events are missing: the session started before the run, without the listener")
        for line in file.read_text(encoding="utf-8").splitlines():
            self._delivery.put(functools.partial(self._without_secrets, line))

    def _without_secrets(self, line: str) -> Any:
        """Parse an event of Spark's listener, and redact secrets, as its plans and settings may contain URLs."""
        return self._run.secrets.facts(json.loads(line))

    def _end(self, error: BaseException | None) -> None:
        done = [outcome for outcome in self._run.outcomes if outcome.state in _DONE]
        how = {
            "inputs": [data for outcome in done for data in inputs_of(self._run, outcome.node)],
            "outputs": [data for outcome in done if (data := output_of(outcome))],
            "error": self._run.secrets(describe(error)) if error else "",
            "completeness": self._run.completeness,
        }
        self._emit(self._job, _state_of(error), now(), **how)

    def _emit(self, job: JobIdentity, state: str, at: dt.datetime, **how: Any) -> None:
        self._delivery.put(functools.partial(_event, job, state, at, **how))


def follow(run: Run, target: Target) -> Lineage | None:
    """Start to emit events for a run; returns ``None`` for a plan, which has no lineage."""
    if run.plan:
        return None
    lineage = Lineage(run, target)
    run.observe(lineage)
    return lineage


def _event(job: JobIdentity, state: str, at: dt.datetime, **how: Any) -> object:
    events = importlib.import_module("spark_flow.lineage.events")  # here, so that the delivery thread imports it
    return events.event(job, state, at, **how)


def _names(prefix: str, job: JobIdentity) -> Mapping[str, str]:
    return {
        f"{prefix}JobNamespace": job.namespace,
        f"{prefix}JobName": job.job,
        f"{prefix}RunId": job.run,
    }


def _state_of(error: BaseException | None) -> str:
    if error is None:
        return "COMPLETE"
    return "FAIL" if isinstance(error, Exception) and not isinstance(error, _ABORTED) else "ABORT"


@contextlib.contextmanager
def emit_lineage(
    run: Run,
    transport: Transport = "file",
    *,
    path: str = "",
    url: str = "",
    api_key: str = "",
    namespace: str = "spark_flow",
) -> Iterator[Run]:
    """Run with OpenLineage events; use it as context manager in place of the run itself.

    >>> with emit_lineage(Run.open("carriers", key="2013-01-02"), path="lineage.jsonl") as run:  # doctest: +SKIP
    ...     write(run, "lake", frame, delta("out/carriers"))

    Args:
        run: A run from ``Run.open``.
        transport: ``file``, ``http`` or ``console``.
        path: The local file to append to, for ``file``.
        url: The URL of the service, for ``http``; ``/api/v1/lineage`` is added if it has no path.
        api_key: The name of an environment variable with the service's API key.
        namespace: The namespace of the jobs.

    Raises:
        InvalidArgument: The transport is unknown, or its path or URL is missing.
    """
    lineage: Lineage | None = None
    error: BaseException | None = None
    try:
        with run:  # first, so that the run is closed if anything below raises
            lineage = follow(run, _target(transport, path, url, api_key, namespace))
            yield run
    except BaseException as raised:
        error = raised
        raise
    finally:
        if lineage is not None:
            lineage.finish(error)


def _target(transport: Transport, path: str, url: str, api_key: str, namespace: str) -> Target:
    needed = {"file": path, "http": url, "console": "nothing"}
    if transport not in needed:
        raise InvalidArgument("emit_lineage: transport", repr(transport), f"one of: {', '.join(get_args(Transport))}")
    if not needed[transport]:
        raise InvalidArgument("emit_lineage", f"transport {transport}", "path" if transport == "file" else "url")
    return Target(transport=transport, path=path, url=url, api_key=api_key, namespace=namespace)
