"""What a sink is, and what it is told about the write that it shall do."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import DataFrame

    from spark_flow.core.completeness import Completeness


@dataclass(frozen=True, kw_only=True)
class Intent:
    """The right to do one node's action, and its name for all time.

    Attributes:
        revision: Higher for each new intent of (pipeline, node, key); the same for a retry of one.
        completeness: Of the fan-ins that the frame comes from; a part of the tag.
        mark: Called as ``mark("before_commit")`` and ``mark("after_commit")``, so that tests can end the
            process just there.
    """

    pipeline: str
    key: str
    generation: int
    attempt: int
    node: str
    revision: int
    run_id: str
    mark: Callable[[str], None]
    completeness: tuple[Completeness, ...] = ()

    @property
    def is_approximate(self) -> bool:
        """Whether a branch is missing that the frame should be made of."""
        return any(part.is_approximate for part in self.completeness)

    @property
    def app_id(self) -> str:
        """Delta's ``txnAppId``: one per pipeline, node and key, never the date as version."""
        return app_id(self.pipeline, self.node, self.key)

    @property
    def tag(self) -> str:
        """What proves in a table's history who wrote a commit (Delta's ``userMetadata``), as JSON."""
        return self.tagged({})

    def tagged(self, more: Mapping[str, Any]) -> str:
        """The tag with more facts."""
        return json.dumps({"spark_flow": {**self.facts, **more}}, sort_keys=True)

    @property
    def facts(self) -> dict[str, Any]:
        """Who writes, and how complete it is."""
        names = ("pipeline", "key", "generation", "node", "revision", "attempt", "run_id")
        place = {name: getattr(self, name) for name in names}
        return place | ({"completeness": [part.facts for part in self.completeness]} if self.completeness else {})


def app_id(pipeline: str, node: str, key: str) -> str:
    """Delta's application id of a node and key."""
    return f"{pipeline}/{node}/{key}"


@dataclass(frozen=True, kw_only=True)
class Written:
    """What an action did.

    Attributes:
        rows: Rows written, as the target itself counts them.
        reason: In words, as ``written at version 3``.
        detail: What a later attempt needs to prove or read it.
    """

    rows: int | None = None
    reason: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a target holds now of a recorded write.

    Attributes:
        revision: The one that it remembers, 0 for none.
        rows: The key's rows; ``None`` where they cannot be counted without Spark.
        differs: Why it cannot hold what was written; empty if nothing says so.
        unknown: Why nothing can be said of its rows without reading them by Spark; empty if nothing says so.
        by: The engine that counted the rows by a predicate of Spark's; empty if no predicate was needed.
    """

    revision: int
    rows: int | None
    differs: str = ""
    unknown: str = ""
    by: str = ""


class Sink(Protocol):
    """Where a frame goes, once for each revision."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The places that it writes to: no two nodes of a run may write to one."""

    @property
    def fingerprint(self) -> str:
        """A hash of the sink's settings."""

    def remembered(self, app_id: str, key: str, written: Mapping[str, Any] | None = None) -> int:
        """The last revision that the target itself remembers of this id, 0 for none.

        Args:
            app_id: Of the pipeline, node and key.
            key: The run's key.
            written: A recorded write's detail: where a sink has several places, only the one that it went to is asked.
        """

    def admit(self, intent: Intent) -> None:
        """Refuse a write that could duplicate rows, before any work is done.

        Raises:
            CannotReplace: The revision must replace rows and the sink cannot.
        """

    def write(self, frame: DataFrame, intent: Intent) -> Written:
        """Write the frame under the intent's revision; a revision that is there already is not written again.

        Raises:
            WriteNotProved: The target does not hold what was written.
        """


ALL = "all"
UNTOLD = "all, as far as its sink tells"


@runtime_checkable
class TellsRows(Protocol):
    """A sink that tells which rows it replaces: then runs of several keys are known not to meet in one place."""

    def replaces(self, key: str) -> Mapping[str, str]:
        """What a key's write replaces, by place: ``""`` (nothing), ``"all"``, or words that name the rows."""


def replaces(sink: Sink, key: str) -> Mapping[str, str]:
    """What a key's write to any sink replaces, by place; a sink that does not tell may replace all that is there."""
    return sink.replaces(key) if isinstance(sink, TellsRows) else dict.fromkeys(sink.paths, UNTOLD)
