"""``depends_on_past`` of single nodes: of a key's run only these wait for the key before, the rest goes on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spark_flow.clock import Clock
from spark_flow.errors import PreviousNotDone
from spark_flow.orchestration.leases import Leases
from spark_flow.orchestration.plan import past_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from spark_flow.ledger import Event, Ledger

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
        leases: Where its run claims its key: one that is claimed is waited for.
        cause: What both runs were asked for by; an older success of the key before does not count then.
        patience: Seconds to wait for one that nobody has claimed yet.
    """

    pipeline: str
    previous: str
    nodes: Sequence[str]
    ledger: Ledger
    leases: str
    cause: str = ""
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
            lacking = self._lacking(self.ledger.read(self.pipeline, self.previous))
            if not lacking:
                self._open = True
                return
            if self._is_claimed():
                since = self.clock.monotonic()
            elif self.clock.monotonic() - since >= self.patience or self._has_ended():
                raise PreviousNotDone(node, self.previous, lacking)
            if lacking != told:
                told = lacking
                self.tell(f"{node} waits for {self.previous}: {lacking}")
            self.clock.sleep(_LOOK)

    def _has_ended(self) -> bool:
        """Whether its last attempt said how it ended, and that was not well."""
        events = self.ledger.read(self.pipeline, self.previous)
        return bool(self._of_cause(events)) and past_of(self.previous, events).state in ("failed", "waiting", "skipped")

    def _is_claimed(self) -> bool:
        claims = Leases(self.leases).of_pipeline(self.pipeline).read().claims
        return any(claim.unit == (self.pipeline, self.previous) for claim in claims)

    def _of_cause(self, events: Sequence[Event]) -> list[Event]:
        """Those of its last generation, if that was asked for by the same cause."""
        last = max((event.generation for event in events), default=0)
        mine = [event for event in events if event.generation == last]
        causes = [event.detail.get("cause", "") for event in mine if event.kind == "run"]
        return mine if not self.cause or self.cause in causes else []

    def _lacking(self, events: Sequence[Event]) -> str:
        """What the key before has not done yet, in words; empty when it has done all."""
        real = ("started", "succeeded", "failed")
        last = {event.node: event.state for event in self._of_cause(events) if event.node and event.state in real}
        missing = [name for name in self.nodes if last.get(name) != "succeeded"]
        return f"{', '.join(missing)} not done" if missing else ""
