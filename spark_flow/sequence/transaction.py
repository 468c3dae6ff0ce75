"""Transactions (the book's section 2.1): writes that become visible to readers together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spark_flow.core import fingerprint
from spark_flow.engine.node import Node
from spark_flow.errors import SetNotVisible
from spark_flow.ledger import DeltaLedger, Ledger
from spark_flow.storage import files, key_folder
from spark_flow.storage.sink_protocol import Intent, Written

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from pyspark.sql import DataFrame, SparkSession
    from typing_extensions import Self

    from spark_flow.engine.outcome import Outcome
    from spark_flow.engine.run import Run


@dataclass
class Transaction:
    """Writes of a run that become visible together; create one with ``transaction``."""

    run: Run
    name: str
    writes: list[Outcome] = field(default_factory=list)

    def node(self, name: str) -> str:
        """Return a node's full name: ``<transaction>/<name>``."""
        return self.run.node(f"{self.name}/{name}")

    def wrote(self, outcome: Outcome) -> None:
        """Add a write to the transaction."""
        self.writes.append(outcome)

    def __enter__(self) -> Self:
        """Return the transaction; pass it to ``write`` in place of the run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make the writes visible if all of them succeeded."""
        if error is None:
            self._make_visible()

    def _make_visible(self) -> None:
        self.run.check()
        self.writes.sort(key=lambda outcome: outcome.node)  # branches of a split finish in any order
        staged = [o.node for o in self.writes if o.detail.get("staged")]
        if staged:
            self.run.skip(self.name, "marker", f"not visible yet: {', '.join(staged)} is kept in staging")
            return
        tables = {o.node.removeprefix(f"{self.name}/"): dict(o.detail) for o in self.writes}

        def record(_: Intent) -> Written:
            return Written(reason=f"{len(tables)} table(s) visible together", detail={"tables": tables})

        digest = fingerprint.combine([[o.node, o.fingerprint, o.revision] for o in self.writes])
        self.run.graph.uses(self.name, [o.node for o in self.writes])
        self.run.once(Node(name=self.name, kind="marker", fingerprint=digest, writes=False), record)


def transaction(run: Run, name: str = "publish") -> Transaction:
    """Group writes that readers must see together.

    Every table is committed and verified. Then one record in the ledger makes them visible, with each table's version.
    After a crash between two tables, ``read_transaction`` does not see the new versions; the retry writes the
    remaining tables, and none of them twice.

    >>> with transaction(run, "publish") as tx:  # doctest: +SKIP
    ...     write(tx, "lake", daily, delta("out/daily", partition_by="date"))
    ...     write(tx, "legacy", daily, csv("out/legacy", partition_by="date"))
    """
    return Transaction(run, run.node(name))


def read_transaction(
    spark: SparkSession,
    pipeline: str,
    key: str,
    name: str = "publish",
    *,
    state: str = "state",
    ledger: Ledger | None = None,
) -> dict[str, DataFrame]:
    """Read the tables of a key's last complete transaction, at the versions that it recorded.

    Returns:
        A frame per write name: the whole Delta table at the recorded version, or the key's rows of a folder.

    Raises:
        SetNotVisible: The key has no complete transaction, or one of its folders was replaced afterwards.
    """
    ledger = ledger if ledger is not None else DeltaLedger(state, create=False)
    records = [e for e in ledger.read(pipeline, key) if e.node == name and e.state == "succeeded"]
    if not records:
        raise SetNotVisible(name, key, "no complete transaction is recorded")
    return {table: _read(spark, name, key, detail) for table, detail in records[-1].detail["tables"].items()}


def _read(spark: SparkSession, name: str, key: str, detail: Mapping[str, Any]) -> DataFrame:
    if detail["format"] == "delta":
        path = files.for_spark(detail["path"])
        return spark.read.format("delta").option("versionAsOf", detail["version"]).load(path)
    manifest = key_folder.read_manifest(detail["path"])
    if manifest.get("revision") != detail["revision"]:
        found = manifest.get("revision", "no")
        raise SetNotVisible(
            name, key, f"{detail['path']} has revision {found}, but revision {detail['revision']} was recorded"
        )
    return key_folder.read(spark, detail["path"])
