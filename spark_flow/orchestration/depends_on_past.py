"""``depends_on_past`` for single nodes: they wait for the previous key, while the rest of the run continues.

A previous key that was skipped counts as done, as with ``depends_on_past: true``. If the previous key succeeded, a node
that its run did not reach, such as one on a route that was not taken, counts as done too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spark_flow.core.clock import Clock
from spark_flow.errors import PreviousNotDone
from spark_flow.orchestration.key_plan import past_of
from spark_flow.orchestration.leases import Leases

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spark_flow.ledger import Event, Ledger
    from spark_flow.orchestration.claims import Claim

_POLL = 0.3  # seconds between two reads of the ledger
PATIENCE = 60.0


@dataclass(kw_only=True)
class DependsOnPast:
    """A before_node hook that lets a key's nodes start once the previous key has finished all of them.

    Attributes:
        pipeline: The pipeline's name.
        previous: The previous key.
        nodes: The nodes that wait; a name includes the nodes under it (``hours`` includes ``hours/07``).
        ledger: The ledger with the events of the previous key.
        leases: The folder of leases; a previous key that is running is waited for.
        request_id: The request id of both runs. If it is set, a success of the previous key for another request does
            not count.
        expected: Whether the previous key, if no run has claimed it yet, is expected to run.
        patience: Seconds to wait for a previous key that is not running yet. The wait is limited, as the previous key
            may itself wait for a slot that this run takes.
        report: Called with a message whenever the reason for waiting changes.
        clock: The source of time; by default the machine's clocks.
    """

    pipeline: str
    previous: str
    nodes: Sequence[str]
    ledger: Ledger
    leases: str
    request_id: str = ""
    expected: bool = True
    patience: float = PATIENCE
    report: Callable[[str], None] = lambda _: None
    clock: Clock = field(default_factory=Clock)
    _open: bool = False

    def __call__(self, node: str) -> None:
        """Wait until a node may start.

        Raises:
            PreviousNotDone: The previous key has ended without finishing the nodes, or did not start in time.
        """
        if self._open or not any(node == name or node.startswith(f"{name}/") for name in self.nodes):
            return
        since, reported = self.clock.monotonic(), ""
        while True:
            events = self.ledger.read(self.pipeline, self.previous)
            missing = self._missing(events)
            if not missing:
                self._open = True
                return
            claims = self._claims()
            if any(claim.token == _begun_by(events) for claim in claims):
                since = self.clock.monotonic()
            elif self.clock.monotonic() - since >= self.patience or not (claims or self._may_come(events)):
                raise PreviousNotDone(node, self.previous, missing)
            if missing != reported:
                reported = missing
                self.report(f"{node} waits for {self.previous}: {missing}")
            self.clock.sleep(_POLL)

    def _claims(self) -> list[Claim]:
        """Return the claims of the previous key, held or waiting."""
        claims = Leases(self.leases).of_pipeline(self.pipeline).read().claims
        return [claim for claim in claims if claim.unit == (self.pipeline, self.previous)]

    def _may_come(self, events: Sequence[Event]) -> bool:
        """Return whether a previous key without a claim can still run: it is expected, and has not ended yet."""
        past = past_of(self.previous, self._of_cause(events))
        return self.expected and past.state not in ("failed", "waiting", "skipped")

    def _of_cause(self, events: Sequence[Event]) -> list[Event]:
        """Return the events of the last generation, if it was started by the same request id."""
        last = max((event.generation for event in events), default=0)
        mine = [event for event in events if event.generation == last]
        if any(event.state == "forgotten" for event in mine):
            return []
        causes = [event.detail.get("cause", "") for event in mine if event.kind == "run"]
        return mine if not self.request_id or self.request_id in causes else []

    def _missing(self, events: Sequence[Event]) -> str:
        """Return a message with the nodes that the previous key has not finished; empty if it has finished all."""
        mine = self._of_cause(events)
        past = past_of(self.previous, mine)
        if past.state == "skipped":
            return ""
        missing = [name for name in self.nodes if not _is_done(name, mine, whole=past.done)]
        return f"{', '.join(missing)} not done" if missing else ""


def _is_done(node: str, events: Sequence[Event], *, whole: bool) -> bool:
    """Return whether nothing is left to do for a node.

    Args:
        node: The node's name.
        events: The events of the key's generation.
        whole: Whether the run has succeeded. A node that it did not reach, such as one on a route that was not taken,
            is then done. The exception is a marker or trigger that is recorded as held back, with its data in staging.
    """
    mine = [event for event in events if event.node == node]
    real = [event for event in mine if event.state in ("started", "succeeded", "failed")]
    if real:
        return real[-1].state == "succeeded"
    return whole and not any(event.kind in ("marker", "trigger") for event in mine)


def _begun_by(events: Sequence[Event]) -> int | None:
    """Return the fencing token of the lease under which a key's last run started."""
    begun = [event for event in events if event.kind == "run" and event.state == "started"]
    return begun[-1].detail.get("lease", {}).get("token") if begun else None
