"""The transaction boundary (the book's section 2.1): writes that readers must see together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from spark_flow.engine.node import Node
from spark_flow.core import fingerprint
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
    """Writes of a run that become visible together; make one with ``transaction``."""

    run: Run
    name: str
    writes: list[Outcome] = field(default_factory=list)

    def node(self, name: str) -> str:
        """A node's full name: ``<transaction>/<name>``."""
        return self.run.node(f"{self.name}/{name}")

    def wrote(self, outcome: Outcome) -> None:
        """Note a write that belongs to the set."""
        self.writes.append(outcome)

    def __enter__(self) -> Self:
        """The transaction, to be written to as to a run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Make the set visible, if every write of it succeeded."""
        if error is None:
            self._make_visible()

    def _make_visible(self) -> None:
        self.run.check()
        self.writes.sort(key=lambda outcome: outcome.node)  # those of a split end in any order
        staged = [o.node for o in self.writes if o.detail.get("staged")]
        if staged:
            self.run.skip(self.name, "marker", f"not visible yet: {', '.join(staged)} is kept in staging")
            return
        tables = {o.node.removeprefix(f"{self.name}/"): dict(o.detail) for o in self.writes}

        def record(_: Intent) -> Written:
            return Written(reason=f"{len(tables)} table(s) visible together", detail={"tables": tables})

        made_of = fingerprint.combine([[o.node, o.fingerprint, o.revision] for o in self.writes])
        self.run.once(Node(name=self.name, kind="marker", fingerprint=made_of, writes=False), record)


def transaction(run: Run, name: str = "publish") -> Transaction:
    """Group writes that readers must see together.

    Every table is committed and proved; then one record in the ledger makes the set visible, with each table's
    version. A crash between two of them leaves the new set invisible to ``read_transaction``; the retry completes
    it and writes no table twice.

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
    """The tables of a key's last complete set, each as the set's record has it.

    Returns:
        A frame for each write's name: a Delta table whole, at the version recorded; a folder's key.

    Raises:
        SetNotVisible: There is no complete set, or a folder of it was replaced since.
    """
    ledger = ledger if ledger is not None else DeltaLedger(state, create=False)
    records = [e for e in ledger.read(pipeline, key) if e.node == name and e.state == "succeeded"]
    if not records:
        raise SetNotVisible(name, key, "no complete set was recorded")
    return {table: _read(spark, name, key, detail) for table, detail in records[-1].detail["tables"].items()}


def _read(spark: SparkSession, name: str, key: str, detail: Mapping[str, Any]) -> DataFrame:
    if detail["format"] == "delta":
        place = files.for_spark(detail["path"])
        return spark.read.format("delta").option("versionAsOf", detail["version"]).load(place)
    manifest = key_folder.read_manifest(detail["path"])
    if manifest.get("revision") != detail["revision"]:
        found = manifest.get("revision", "no")
        raise SetNotVisible(name, key, f"{detail['path']} holds revision {found}, the set has {detail['revision']}")
    return key_folder.read(spark, detail["path"])
