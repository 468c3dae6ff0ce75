"""Expose a table: readers see it by a name that is switched when all that belongs together is written.

Example 6-1 of the book ends so: the rows are loaded into a table of the job's own, and the one that readers know is
switched last. The name is a view of one version of a Delta table; see
https://docs.delta.io/latest/delta-batch.html#query-an-older-snapshot-of-a-table-time-travel
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable

from spark_flow.core import fingerprint
from spark_flow.core.names import quote_identifier, quote_table, table_uri
from spark_flow.engine.node import Node, Target
from spark_flow.errors import DuplicateNode, InvalidArgument, describe
from spark_flow.ledger import DeltaRegister
from spark_flow.sequence.expect import is_aside
from spark_flow.storage import catalog, files
from spark_flow.storage.sink_protocol import Intent, Written

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import SparkSession

    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run
    from spark_flow.ledger import Event
    from spark_flow.ledger.register import Register


def expose(run: Run, view: str, table: str = "", *, name: str = "") -> Outcome:
    """Switch a view, which readers know, to the version of a Delta table that this run has written.

    Call it after the transaction: until then, and after a crash before it, readers see the version before. The view
    never goes back to an older version: where keys run at the same time, the newest one that was exposed stays. Files
    of the exposed version are current ones of the table until others write to it; ``VACUUM`` then removes them after
    its retention (7 days) like those of any old version.

    >>> with transaction(run, "publish") as tx:  # doctest: +SKIP
    ...     write(tx, "lake", daily, delta("out/daily", partition_by="date"))
    ...     write(tx, "totals", totals, delta("out/totals", partition_by="date"))
    >>> expose(run, "shop.daily", "publish/lake")  # doctest: +SKIP

    Args:
        run: The run.
        view: The view's name in Spark's catalog, of one to three parts; it is created if it does not exist.
        table: The node that has written the Delta table; by default the only one.
        name: The node's name; defaults to ``expose/<view>``.

    Returns:
        The node's outcome; ``detail["exposed"]`` has the view, and the path and version of the table.

    Raises:
        DuplicateNode: Another node exposes the view.
        InvalidArgument: The run has not written such a table, the name is that of a table or of a view that was not
            created by ``expose``, or its catalog lives in the memory of this session.
        InvalidName: The name is no name.
        NodeFailed: The view cannot be created.
    """
    node = run.node(name or f"expose/{view}")
    quote_table(view)
    other = run.targets.setdefault(table_uri(view), node)
    if other != node:
        raise DuplicateNode(node, f"{other} also exposes {view}")
    written = _written(run, node, table)
    run.graph.uses(node, [written.node])
    if run.shortfall is not None:
        return run.skip(node, "marker", f"not exposed: {describe(run.shortfall)}")
    if written.detail.get("staged"):
        return run.skip(node, "marker", f"not exposed: {written.node} is kept in staging")
    catalog.check_lasting(run.spark, view)
    detail = written.detail
    shown = Exposed(view, detail.get("path", ""), detail.get("table", ""), int(detail.get("version", 0)))
    digest = fingerprint.combine("expose", view, shown.path, written.fingerprint, written.revision)

    def switch(intent: Intent) -> Written:
        intent.mark("before_commit")
        version = _switch(run.spark, DeltaRegister(files.join(run.state, "exposed")), shown)
        intent.mark("after_commit")
        newer = f", which is newer than {shown.version}" if version > shown.version else ""
        found = {"view": view, "node": written.node, "path": shown.path, "version": shown.version}
        return Written(reason=f"{view} shows version {version} of {written.node}{newer}", detail={"exposed": found})

    exposed = Node(name=node, kind="marker", fingerprint=digest, writes=False)
    return run.once(exposed, switch, _ViewTarget(run, shown))


@dataclass(frozen=True)
class Exposed:
    """A version of a Delta table under the name of a view.

    Attributes:
        view: The view's name.
        path: The table's path.
        table: The table's name, if it has one.
        version: The version.
    """

    view: str
    path: str
    table: str
    version: int

    def sql(self, version: int) -> str:
        """Return the query of the view."""
        path = files.for_spark(self.path).removeprefix("file://")
        source = quote_table(self.table) if self.table else f"delta.{quote_identifier(path)}"
        return f"SELECT * FROM {source} VERSION AS OF {version}"  # noqa: S608 - quoted


@dataclass(frozen=True, eq=False)
class _ViewTarget(Target):
    """A view that shows the recorded version of its table, or a later one."""

    run: Run
    shown: Exposed

    def why_invalid(self, event: Event) -> str:
        there = catalog.exposed(self.run.spark, self.shown.view)
        recorded = event.detail["exposed"]
        if there is None:
            return f"there is no view {self.shown.view}"
        if there["path"] != recorded["path"] or int(there["version"]) < int(recorded["version"]):
            return f"{self.shown.view} shows version {there['version']} of {there['path']}"
        return ""

    def validate(self, intent: Intent) -> None:  # noqa: ARG002 - the port's
        catalog.exposed(self.run.spark, self.shown.view)  # refuses what was not created here


def _written(run: Run, node: str, table: str) -> Outcome:
    """Return the outcome of the write whose table is exposed."""
    writes = [o for o in run.outcomes if o.kind == "sink" and (run.plan or _is_delta(o.detail))]
    of_delta = {o.node: o for o in writes if not is_aside(run, o.node)}
    expected = f"one of: {', '.join(of_delta)}" if of_delta else "a write of a Delta table before it"
    if table and table not in of_delta:
        raise InvalidArgument(f"{node}: table", repr(table), expected)
    if not table and len(of_delta) != 1:
        found = f"{len(of_delta)} Delta tables, and none named" if of_delta else "no Delta table"
        raise InvalidArgument(f"{node}: table", found, expected)
    return of_delta[table or next(iter(of_delta))]


def _is_delta(detail: Any) -> bool:
    return bool(detail.get("format") == "delta" or detail.get("staged"))


def _switch(spark: SparkSession, register: Register, shown: Exposed) -> int:
    """Show the newest version that was exposed so far, this one included; returns it.

    Catalogs cannot compare and swap. So each writer registers its version, switches the view to the newest one that is
    registered, and switches again if there is a newer one by then: whoever is last shows the newest.
    """
    # A table that was created again at the same path has another id, and begins with version 0.
    created = str(DeltaTable(files.for_deltalake(shown.path)).metadata().id)

    def newest(known: Mapping[str, Any]) -> int:
        entry = known.get(shown.view, {})
        same = (entry.get("path"), entry.get("table")) == (shown.path, created)
        return max(int(entry["version"]), shown.version) if same else shown.version

    while True:
        number, known = register.read()
        version = newest(known)
        entry = {"path": shown.path, "table": created, "version": version}
        if known.get(shown.view) != entry and not register.swap(number, {**known, shown.view: entry}):
            continue
        catalog.expose(spark, shown.view, shown.sql(version), {"path": shown.path, "version": str(version)})
        if newest(register.read()[1]) == version:
            return version
