"""Private staging: a partial key stays in a private table until it is complete (the book's section 3.2)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_flow.core import fingerprint
from spark_flow.errors import InvalidArgument
from spark_flow.storage import sink_protocol
from spark_flow.storage.delta import DeltaSink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import DataFrame

    from spark_flow.storage.sink_protocol import Intent, Sink, Written


@dataclass(frozen=True)
class StagedSink:
    """A public sink for complete keys and a private one for partial keys; create one with ``spark_flow.staged``."""

    public: Sink
    private: Sink

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of both sinks."""
        return (*self.public.paths, *self.private.paths)

    @property
    def fingerprint(self) -> str:
        """A hash of both sinks' settings."""
        return fingerprint.combine("staged", self.public.fingerprint, self.private.fingerprint)

    def replaces(self, key: str) -> Mapping[str, str]:
        """Return what a write to both sinks replaces; see ``TellsRows``."""
        return {**sink_protocol.replaces(self.public, key), **sink_protocol.replaces(self.private, key)}

    def last_revision(self, app_id: str, key: str, written: Mapping[str, Any] | None = None) -> int:
        """Return the newer revision of both sinks; for a recorded write, that of the sink that it went to."""
        if written is not None:  # a private sink that was emptied remembers the revision as well
            sink = self.private if written.get("staged") else self.public
            return sink.last_revision(app_id, key, written)
        return max(sink.last_revision(app_id, key) for sink in (self.public, self.private))

    def validate(self, intent: Intent) -> None:
        """Refuse sinks that cannot replace a key's rows, from the first revision on: staging is emptied later."""
        later = dataclasses.replace(intent, revision=max(intent.revision, 2))
        self.public.validate(later)
        self.private.validate(later)

    def write(self, frame: DataFrame, intent: Intent) -> Written:
        """Write a partial key to the private sink; a complete one to the public sink, then empty the private one.

        After a kill between the two, the retry finds the public commit and empties the private sink.
        """
        if intent.is_approximate:
            written = self.private.write(frame, intent)
            reason = f"kept in staging until complete; {written.reason}"
            return dataclasses.replace(written, reason=reason, detail={**written.detail, "staged": True})
        written = self.public.write(frame, intent)
        if self.private.last_revision(intent.app_id, intent.key):
            self.private.write(frame.limit(0), intent)
        return written


def staged(public: Sink, private: Sink) -> StagedSink:
    """Return a sink that keeps partial keys private: ``public`` holds a key only once all branches have arrived.

    >>> write(run, "lake", cube, staged(delta("out/cube", partition_by="date"),
    ...                                 delta("private/cube", partition_by="date")))  # doctest: +SKIP

    Args:
        public: The sink for complete keys.
        private: The sink for a key while a branch is missing.

    Raises:
        InvalidArgument: A sink is a table by name, or merges: a partial key could not be removed again.
    """
    for sink in (public, private):
        if isinstance(sink, DeltaSink) and (sink.table or sink.upsert):
            found = "a table by name" if sink.table else "mode merge"
            raise InvalidArgument("staged", found, "sinks at paths whose rows can be replaced")
    return StagedSink(public, private)
