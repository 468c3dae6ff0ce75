"""``depends_on_past`` of single nodes: of a key's run only these wait for the key before, the rest goes on.

A key before that was skipped counts as done, as it does for ``depends_on_past: true``; so does, of one that succeeded,
a node that its run did not come to, as on a route that was not taken.
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

_LOOK = 0.3  # seconds between two looks at the ledger
PATIENCE = 60.0


@dataclass(kw_only=True)
class Gate:
    """Lets a key's nodes begin when the key before has done all of them: as one, in the order of the keys.

    Attributes:
        pipeline: The pipeline's name.
        previous: The key before.
        nodes: Those that wait; a name stands for the nodes under it as well (``hours`` for ``hours/07``).
        ledger: What tells of the key before.
        leases: Where its run claims its key: one that is at work is waited for.
        cause: What both runs were asked for by; an older success of the key before does not count then.
        expected: Whether one that nobody has claimed yet is about to be.
        patience: Seconds to wait for one that is not at work yet. Not for ever: it may itself wait for a slot that
            this run takes.
    """

    pipeline: str
    previous: str
    nodes: Sequence[str]
    ledger: Ledger
    leases: str
    cause: str = ""
    expected: bool = True
    patience: float = PATIENCE
    tell: Callable[[str], None] = lambda _: None
    clock: Clock = field(default_factory=Clock)
    _open: bool = False

    def __call__(self, node: str) -> None:
        """Wait until a node may begin.

        Raises:
            PreviousNotDone: The key before has ended, or was not begun, without them.
        """
        if self._open or not any(node == name or node.startswith(f"{name}/") for name in self.nodes):
            return
        since, told = self.clock.monotonic(), ""
        while True:
            events = self.ledger.read(self.pipeline, self.previous)
            lacking = self._lacking(events)
            if not lacking:
                self._open = True
                return
            claims = self._claims()
            if any(claim.token == _begun_by(events) for claim in claims):
                since = self.clock.monotonic()
            elif self.clock.monotonic() - since >= self.patience or not (claims or self._may_come(events)):
                raise PreviousNotDone(node, self.previous, lacking)
            if lacking != told:
                told = lacking
                self.tell(f"{node} waits for {self.previous}: {lacking}")
            self.clock.sleep(_LOOK)

    def _claims(self) -> list[Claim]:
        """Who holds the key before, or waits for it."""
        claims = Leases(self.leases).of_pipeline(self.pipeline).read().claims
        return [claim for claim in claims if claim.unit == (self.pipeline, self.previous)]

    def _may_come(self, events: Sequence[Event]) -> bool:
        """Whether one that nobody has claimed is expected, and has not told that it ended without them."""
        past = past_of(self.previous, self._of_cause(events))
        return self.expected and past.state not in ("failed", "waiting", "skipped")

    def _of_cause(self, events: Sequence[Event]) -> list[Event]:
        """Those of its last generation, if that was asked for by the same cause."""
        last = max((event.generation for event in events), default=0)
        mine = [event for event in events if event.generation == last]
        causes = [event.detail.get("cause", "") for event in mine if event.kind == "run"]
        return mine if not self.cause or self.cause in causes else []

    def _lacking(self, events: Sequence[Event]) -> str:
        """What the key before has not done yet, in words; empty when it has done all."""
        mine = self._of_cause(events)
        past = past_of(self.previous, mine)
        if past.state == "skipped":
            return ""
        missing = [name for name in self.nodes if not _is_done(name, mine, whole=past.done)]
        return f"{', '.join(missing)} not done" if missing else ""


def _is_done(node: str, events: Sequence[Event], *, whole: bool) -> bool:
    """Whether nothing is left to do of a node.

    Args:
        node: Its name.
        events: Those of the key's generation.
        whole: Whether its run has succeeded: what this did not come to, as on a route that was not taken, is then none
            that is still to come. A marker or a trigger is, of which it says that data is kept in staging.
    """
    mine = [event for event in events if event.node == node]
    real = [event for event in mine if event.state in ("started", "succeeded", "failed")]
    if real:
        return real[-1].state == "succeeded"
    return whole and not any(event.kind in ("marker", "trigger") for event in mine)


def _begun_by(events: Sequence[Event]) -> int | None:
    """The token of the lease by which a key's last run began."""
    begun = [event for event in events if event.kind == "run" and event.state == "started"]
    return begun[-1].detail.get("lease", {}).get("token") if begun else None
