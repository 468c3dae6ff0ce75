"""``expose``: a view for readers, switched when all that belongs together is written."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from spark_flow.core.names import table_uri
from spark_flow.jobfile.model.base import PATTERN, FlowModel, Located, Name, Text, located
from spark_flow.jobfile.model.fields import table_name
from spark_flow.jobfile.model.problems import Finding, nearest, one_of, show
from spark_flow.sequence import expose

if TYPE_CHECKING:
    from spark_flow.engine.lazy_frame import LazyFrame
    from spark_flow.engine.writing import Scope
    from spark_flow.jobfile.interpreter import Flow
    from spark_flow.jobfile.model.job import JobConfig
    from spark_flow.jobfile.model.wiring import Wiring


class ExposeModel(FlowModel):
    """A view for readers; a bare name is that of the view.

    Attributes:
        view: The view's name in Spark's catalog, which must outlive the session.
        table: The node that wrote the Delta table; by default the only one.
        name: The node's name; by default ``expose/<view>``.
    """

    short = ("view", str)
    announces = True
    kind = "marker"
    pattern: Literal["expose"] = Field("expose", alias=PATTERN)
    view: Annotated[Text, AfterValidator(table_name)]
    table: Text | None = None
    name: Name | None = None

    def nodes(self) -> tuple[str, ...]:
        """The view's name."""
        return (self.name or f"expose/{self.view}",)

    @property
    def uses_delta(self) -> bool:
        """A view of a Delta table is one of SQL."""
        return True

    def misplaced(self, before: Sequence[FlowModel | None]) -> Iterator[Finding]:
        """It comes after the write of its table, and is the only one of its view."""
        known = [one for one in before if one]
        if any(isinstance(one, ExposeModel) and table_uri(one.view) == table_uri(self.view) for one in known):
            yield Finding(("view",), f"{self.view!r} again", "each view exposed once")
        if None in before:
            return
        writes = [(each, node) for each in located(known) for node in _tables(each)]
        tables = [node for _, node in writes]
        if self.table and self.table not in tables:
            yield Finding(("table",), show(self.table), one_of(tables), nearest(self.table, tables))
        elif not tables:
            yield Finding((), "no write of a Delta table before it", "one before it", "It shows what was written.")
        elif not self.table and any(not a.excludes(b) for (a, _), (b, _) in itertools.combinations(writes, 2)):
            yield Finding(("table",), "nothing", one_of(tables), "There are several Delta tables.")

    def reports(self, other: Located) -> bool:
        """It shows what was written."""
        return bool(other.entry.written()) and (not self.table or self.table in _tables(other))

    def call(self, flow: "Flow", scope: "Scope", frame: "LazyFrame | None") -> "LazyFrame | None":  # noqa: ARG002
        """Switch the view."""
        expose(scope.run, self.view, self.table or "", name=self.name or "")
        return frame

    def wire(self, wiring: "Wiring", before: tuple[str, ...], prefix: str) -> tuple[str, ...]:  # noqa: ARG002
        """It is about a table that is written."""
        wiring.inputs[self.nodes()[0]] = (self.table,) if self.table else tuple(wiring.written)
        return before

    def described(self, config: "JobConfig") -> Mapping[str, object]:  # noqa: ARG002
        """The view, and the table that it shows."""
        return {"view": self.view, **({"table": self.table} if self.table else {})}


def _tables(each: Located) -> list[str]:
    """The nodes of an entry that write Delta tables."""
    return [node for node, sink in each.sinks.items() if sink.format == "delta"]
