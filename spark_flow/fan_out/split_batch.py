"""The parallel split of a stream: write each batch to several Delta tables, exactly once to each.

It follows Delta's documentation (idempotent table writes in ``foreachBatch``): ``txnAppId`` identifies stream and
table, ``txnVersion`` is the batch id. A new streaming checkpoint restarts the batch ids, and Delta would silently drop
batches with ids that it has seen. So each commit records the query's id, which is part of the checkpoint, and batches
with another query id are rejected.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, TypeAlias

from spark_flow.core.names import check_name
from spark_flow.errors import DuplicateNode, InvalidArgument, NoBranches, OtherCheckpoint, WriteNotProved
from spark_flow.storage import delta, delta_files, delta_tables, files
from spark_flow.transforms.columns import check_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import DataFrame

_COMMITS = 1000  # how many commits of a table are searched for the stream's last one

Target: TypeAlias = "delta.DeltaSink | tuple[Callable[[DataFrame], DataFrame], delta.DeltaSink]"
BatchWriter: TypeAlias = "Callable[[DataFrame, int], None]"


def split_batch(
    sinks: Mapping[str, Target], app_id: str, *, on_written: Callable[[str, int], None] | None = None
) -> BatchWriter:
    """Create a function for ``writeStream.foreachBatch`` that writes each batch to several Delta tables.

    >>> import spark_flow as sf
    >>> def only_late(flights):
    ...     return flights.where("delay > 15")
    >>> split = split_batch({"lake": sf.delta("out/lake"), "late": (only_late, sf.delta("out/late"))}, "flights-1")
    >>> stream.writeStream.foreachBatch(split).option("checkpointLocation", "checkpoint").start()  # doctest: +SKIP

    A batch is computed once and appended to each table in turn. A query that was killed between two tables repeats the
    batch when it restarts from its checkpoint; tables that already have the batch are skipped. The sink's name is part
    of the transaction id: after a rename, a repeated batch is written again. Do not reset a checkpoint manually: the
    next batch would have an id that the tables already know.

    Args:
        sinks: By name, a Delta table, or a transform and a Delta table; rows are appended.
        app_id: The stream's permanent name, tied to its checkpoint: a new checkpoint location needs a new ``app_id``.
        on_written: Called with each table's name and batch id after the commit.

    Raises:
        NoBranches: There are no sinks.
        DuplicateNode: Two sinks write to the same table.
        InvalidArgument: A sink is not a Delta table, or it overwrites.
        InvalidName: A name cannot be a folder name.

    Raises (when a batch is written):
        OtherCheckpoint: The table has batches of this ``app_id`` from another checkpoint.
        WriteNotProved: The batch is not recorded in the table after the write.
    """
    check_name("app_id", app_id)
    if not sinks:
        raise NoBranches("split_batch")
    targets = {check_name("sink", name): one if isinstance(one, tuple) else (_same, one) for name, one in sinks.items()}
    by_path: dict[str, str] = {}
    for name, (transform, sink) in targets.items():
        if not isinstance(sink, delta.DeltaSink) or not callable(transform):
            raise InvalidArgument(
                f"split_batch: {name}", repr(sinks[name]), "a Delta table, or (function, Delta table)"
            )
        more = {each: getattr(sink, each) for each in ("replace_where", "table", "cluster_by", "schema", "upsert")}
        odd = [sink.mode] if sink.mode in ("overwrite", "merge") else [each for each, value in more.items() if value]
        if odd:
            raise InvalidArgument(f"split_batch: {name}", odd[0], "a table at a path, to which batches are appended")
        other = by_path.setdefault(files.absolute(sink.path), name)
        if other != name:
            raise DuplicateNode(name, f"{other} also writes to {sink.path}")
    return functools.partial(_write_batch, targets, app_id, on_written or (lambda *_: None))


def _same(frame: DataFrame) -> DataFrame:
    return frame


def _write_batch(
    targets: Mapping[str, tuple[Callable[[DataFrame], DataFrame], delta.DeltaSink]],
    app_id: str,
    on_written: Callable[[str, int], None],
    frame: DataFrame,
    batch: int,
) -> None:
    query = _query_of(frame)
    held = frame.persist()
    try:
        for name, (transform, sink) in targets.items():
            if not _has_batch(sink, f"{app_id}/{name}", query, batch):
                rows = transform(held)
                check_frame(name, rows)
                _append(rows, sink, f"{app_id}/{name}", query, batch)
            on_written(name, batch)
    finally:
        held.unpersist()


def _query_of(frame: DataFrame) -> str:
    """Return the query's id, which its checkpoint preserves across restarts; empty if unknown (Spark Connect)."""
    context = getattr(frame.sparkSession, "sparkContext", None)
    return str(context.getLocalProperty("sql.streaming.queryId") or "") if context is not None else ""


def _has_batch(sink: delta.DeltaSink, txn: str, query: str, batch: int) -> bool:
    """Return whether a table already has a batch.

    Raises:
        OtherCheckpoint: The table has batches of this stream from another checkpoint.
    """
    table = delta_tables.open_table(sink.path)
    known = table.transaction_version(txn) if table is not None else None
    if table is None or known is None or known < batch - 1:
        return False
    # Usually the table has the previous batch, so reading the newest commits is enough.
    last = next(
        (tag for commit in table.history(_COMMITS) if (tag := delta_files.tag_of(commit)).get("stream") == txn), {}
    )
    other = query and last.get("query", query) != query
    if other or known > batch:  # a checkpoint resumes at its last batch, never before it
        raise OtherCheckpoint(sink.path, txn, known, batch)
    return known == batch


def _append(rows: DataFrame, sink: delta.DeltaSink, txn: str, query: str, batch: int) -> None:
    tag = {"spark_flow": {"stream": txn, "query": query, "batch": batch}}
    options = {"txnAppId": txn, "txnVersion": str(batch), "userMetadata": json.dumps(tag, sort_keys=True)}
    delta.check_partitions(sink, rows, txn)
    delta.append(rows, sink, options)
    table = delta_tables.open_table(sink.path)
    found = table.transaction_version(txn) if table is not None else None
    if found != batch:
        raise WriteNotProved(sink.path, f"batch {batch} of {txn}", f"batch {found}")
