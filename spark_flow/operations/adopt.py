"""Adopt keys: their rows are in the targets already, written by another tool, and are not computed again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spark_flow.engine.history import History
from spark_flow.engine.mode import Mode
from spark_flow.errors import CannotAdopt
from spark_flow.storage import files
from spark_flow.storage.delta import DeltaSink
from spark_flow.storage.folders import FolderSink
from spark_flow.storage.staged import StagedSink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import SparkSession

    from spark_flow.engine.mode import Lease
    from spark_flow.ledger import Ledger
    from spark_flow.storage.sink_protocol import Sink


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a target holds of a key.

    Attributes:
        node: The node that would write it.
        path: The target.
        rows: The key's rows; ``None`` if they are not counted, or cannot be distinguished from those of other keys.
        there: Whether there is anything of the key; ``None`` if that is unknown.
        words: What was found, as a text.
    """

    node: str
    path: str
    rows: int | None
    there: bool | None
    words: str


def look(node: str, sink: Sink, key: str, spark: Callable[[], SparkSession]) -> Found:
    """Look for a key's rows in a node's target; Delta tables are read by Spark, folders are not read."""
    if isinstance(sink, StagedSink):
        return look(node, sink.public, key, spark)
    if isinstance(sink, FolderSink):
        folder = sink.folder(key)
        there = bool(files.exists(folder) and files.listing(folder))
        return Found(node=node, path=folder, rows=None, there=there, words="files" if there else "no folder of the key")
    if not isinstance(sink, DeltaSink):
        return Found(node=node, path=sink.paths[0], rows=None, there=None, words=f"{type(sink).__name__} cannot tell")
    if sink.table:
        sink = sink.located(spark())
    predicate = sink.predicate(key)
    if predicate is None and sink.mode != "overwrite":
        words = f"mode {sink.mode}: rows of the key cannot be distinguished from others"
        return Found(node=node, path=sink.paths[0], rows=None, there=None, words=words)
    rows = _count(sink, predicate, spark)
    return Found(node=node, path=sink.paths[0], rows=rows, there=bool(rows), words=f"{rows} row(s)")


def _count(sink: DeltaSink, predicate: str | None, spark: Callable[[], SparkSession]) -> int:
    if not sink.path or not files.exists(files.join(files.absolute(sink.path), "_delta_log")):
        return 0
    frame = spark().read.format("delta").load(files.for_spark(sink.path))
    return (frame.where(predicate) if predicate else frame).count()


def check_new(pipeline: str, key: str, ledger: Ledger) -> None:
    """Check that a key has never been run, or was forgotten.

    Raises:
        CannotAdopt: It has been run.
    """
    if History(ledger, pipeline, key, mode=Mode()).attempt > 1:
        fix = "Run it, or forget it first: spark-flow forget."
        raise CannotAdopt(f"{pipeline} {key}", "recorded runs of the key", fix)


def check_there(pipeline: str, key: str, found: Sequence[Found]) -> None:
    """Check that the targets hold a key.

    Raises:
        CannotAdopt: A target does not, or none of them can tell.
    """
    name = f"{pipeline} {key}"
    missing = [f"{one.node} ({one.words})" for one in found if one.there is False]
    if missing:
        raise CannotAdopt(name, f"nothing of the key in {', '.join(missing)}", "Run it instead.")
    if not any(one.there for one in found):
        doubts = "; ".join(f"{one.node} ({one.words})" for one in found) or "no sink"
        raise CannotAdopt(name, f"no target whose rows have a key: {doubts}", "Run it instead.")


def adopt(
    ledger: Ledger, pipeline: str, key: str, found: Sequence[Found], command: Mapping[str, object], lease: Lease
) -> None:
    """Record a key as done: every later run of it ends at once, until it is rerun or forgotten.

    Args:
        ledger: The ledger of the state folder.
        pipeline: The pipeline.
        key: The key.
        found: What its targets hold.
        command: How the key is run, for a later ``backfill``.
        lease: The lease of the key.

    Raises:
        CannotAdopt: See ``check_new`` and ``check_there``.
        Fenced, LeaseLost: The lease is lost: nothing is recorded.
    """
    check_new(pipeline, key, ledger)
    check_there(pipeline, key, found)
    lease.check()
    history = History(ledger, pipeline, key, mode=Mode(), lease=lease)
    targets = {one.node: {"path": one.path, "rows": one.rows} for one in found}
    detail = {"adopted": targets, "command": dict(command)}
    history.record([history.event("", "run", "succeeded", reason="adopted", detail=detail)])
