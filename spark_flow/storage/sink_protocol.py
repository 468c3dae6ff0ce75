"""The protocol of sinks, and the intent that describes a write."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import DataFrame

    from spark_flow.core.completeness import Completeness


@dataclass(frozen=True, kw_only=True)
class Intent:
    """One intended write of a node, with its permanent identity.

    Attributes:
        revision: Higher for each new intent of (pipeline, node, key); the same for a retry of one.
        completeness: The fan-ins that the frame is computed from; a part of the tag.
        mark: Called as ``mark("before_commit")`` and ``mark("after_commit")``, so that tests can end the
            process at these points.
        only_writer: Held while a Delta table is written, given its path.
    """

    pipeline: str
    key: str
    generation: int
    attempt: int
    node: str
    revision: int
    run_id: str
    mark: Callable[[str], None]
    only_writer: Callable[[str], AbstractContextManager[object]] = nullcontext
    completeness: tuple[Completeness, ...] = ()

    @property
    def is_approximate(self) -> bool:
        """Whether a branch that the frame is computed from is missing."""
        return any(part.is_approximate for part in self.completeness)

    @property
    def app_id(self) -> str:
        """Delta's ``txnAppId``: one per pipeline, node and key."""
        return app_id(self.pipeline, self.node, self.key)

    @property
    def tag(self) -> str:
        """The tag that identifies a commit's writer in a table's history (Delta's ``userMetadata``), as JSON."""
        return self.tagged({})

    def tagged(self, more: Mapping[str, Any]) -> str:
        """Return the tag with additional facts."""
        return json.dumps({"spark_flow": {**self.facts, **more}}, sort_keys=True)

    @property
    def facts(self) -> dict[str, Any]:
        """The writer's identity, and the completeness of its inputs."""
        names = ("pipeline", "key", "generation", "node", "revision", "attempt", "run_id")
        identity = {name: getattr(self, name) for name in names}
        return identity | ({"completeness": [part.facts for part in self.completeness]} if self.completeness else {})


def app_id(pipeline: str, node: str, key: str) -> str:
    """Return Delta's application id of a node and key."""
    return f"{pipeline}/{node}/{key}"


@dataclass(frozen=True, kw_only=True)
class Written:
    """The result of a write.

    Attributes:
        rows: Rows written, as counted by the target itself.
        reason: A text for people, for example ``written at version 3``.
        detail: What a later attempt needs to verify or read it.
    """

    rows: int | None = None
    reason: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a target holds now of a recorded write.

    Attributes:
        revision: The revision that it remembers, or 0.
        rows: The number of the key's rows; ``None`` if they cannot be counted without Spark.
        differs: Why it cannot hold what was written; empty if there is no sign of that.
        unknown: Why its rows cannot be compared without reading them with Spark; empty if they can.
        by: The engine that counted the rows with one of Spark's predicates; empty if no predicate was needed.
    """

    revision: int
    rows: int | None
    differs: str = ""
    unknown: str = ""
    by: str = ""


class Sink(Protocol):
    """A target that a frame is written to, once for each revision."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that it writes to; two nodes of a run must not write to the same path."""

    @property
    def fingerprint(self) -> str:
        """A hash of the sink's settings."""

    def last_revision(self, app_id: str, key: str, written: Mapping[str, Any] | None = None) -> int:
        """Return the last revision that the target itself remembers for this id, or 0.

        Args:
            app_id: The id of the pipeline, node and key.
            key: The run's key.
            written: A recorded write's detail; a sink with several paths then checks only the one that it went to.
        """

    def validate(self, intent: Intent) -> None:
        """Validate an intent before any work is done: a write that could duplicate rows is refused.

        Raises:
            CannotReplace: The revision must replace rows, and the sink cannot do that.
        """

    def write(self, frame: DataFrame, intent: Intent) -> Written:
        """Write the frame under the intent's revision; a revision that the target already has is not written again.

        Raises:
            WriteNotProved: The target does not hold what was written.
        """


ALL = "all"
UNTOLD = "all, as far as its sink reports"


@runtime_checkable
class TellsRows(Protocol):
    """A sink that declares which rows it replaces, so that runs of several keys are known not to conflict."""

    def replaces(self, key: str) -> Mapping[str, str]:
        """Return what a key's write replaces, by path: ``""`` (nothing), ``"all"``, or a text that identifies rows."""


def replaces(sink: Sink, key: str) -> Mapping[str, str]:
    """Return what a key's write to any sink replaces, by path; a sink that does not declare it may replace all rows."""
    return sink.replaces(key) if isinstance(sink, TellsRows) else dict.fromkeys(sink.paths, UNTOLD)
