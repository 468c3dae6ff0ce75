"""``transaction``: writes that become visible together."""

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from spark_flow.jobfile.model.base import PATTERN, FlowModel, Located, Name, located
from spark_flow.jobfile.model.problems import Finding, Location, findings, one_of, refuse
from spark_flow.sequence import transaction

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.base import Touched
    from spark_flow.jobfile.model.flow import FlowEntry
    from spark_flow.jobfile.model.job import JobConfig
    from spark_flow.jobfile.model.wiring import Wiring


class TransactionModel(FlowModel):
    """Writes that become visible together; a bare list is short for ``{flow: [...]}``.

    Attributes:
        name: The node's name; its entries' nodes are below it: ``publish/lake``.
        flow: Writes and splits.
    """

    short = ("flow", list)
    kind = "marker"
    pattern: Literal["transaction"] = Field("transaction", alias=PATTERN)
    name: Name = "publish"
    flow: tuple["FlowEntry", ...]

    @property
    def boundary(self) -> bool:
        """After all that it writes."""
        return True

    def nodes(self) -> tuple[str, ...]:
        """Its own name, and those of its entries under it."""
        return (self.name, *(f"{self.name}/{node}" for entry in self.flow for node in entry.nodes()))

    def within(self, skipped: Collection[str] = ()) -> tuple[FlowModel, ...]:  # noqa: ARG002 - of choices
        """Those that become visible together."""
        return self.flow

    def located(self, loc: Location, prefix: str, around: tuple[str, ...]) -> Iterator[Located]:  # noqa: ARG002
        """Its record comes after what it holds."""
        yield from located(self.flow, (*loc, "flow"), f"{self.name}/", (*around, self.name))
        yield Located(loc, self, (self.name,), around)

    @field_validator("flow")
    @classmethod
    def _entries_may_stand_here(cls, flow: tuple[FlowModel, ...]) -> tuple[FlowModel, ...]:
        if not flow:
            raise refuse("an empty list", "at least one entry")
        from spark_flow.jobfile.model.flow import PATTERNS  # the list of all patterns, this one included

        allowed = one_of(name for name, model in PATTERNS.items() if model.in_transaction)
        wrong = [
            Finding(
                (at, entry.pattern),
                f"{entry.pattern} in a transaction",
                allowed,
                "Move it out of the transaction.",
            )
            for at, entry in enumerate(flow)
            if not entry.in_transaction
        ]
        if wrong:
            raise findings(*wrong)
        return flow

    def wire(self, wiring: "Wiring", before: tuple[str, ...], prefix: str) -> tuple[str, ...]:  # noqa: ARG002
        """Its record comes after the writes in it."""
        known = len(wiring.written)
        after = wiring.along(self.flow, before, f"{self.name}/")
        wiring.inputs[self.name] = tuple(wiring.written[known:])
        return after

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame | None":
        """Walk its entries within one transaction."""
        with transaction(scope.run, self.name) as within:
            return flow.walk(self.flow, within, frame)

    def footprint(self, config: "JobConfig", above: str) -> "Touched":
        """That of its entries."""
        for entry in self.flow:
            yield from entry.footprint(config, f"{above}{self.name}/")
