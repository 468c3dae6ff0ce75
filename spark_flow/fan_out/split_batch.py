"""The parallel split of a stream: each batch to several Delta tables, each row once in each.

The rules are those of Delta's documentation (idempotent table writes in ``foreachBatch``): ``txnAppId`` names stream
and table, ``txnVersion`` is the batch id. Another checkpoint numbers batches anew, and Delta would drop those of
numbers that it has seen; here the query's id, which lives in the checkpoint, is kept with each commit, and another one
is refused.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, TypeAlias

from spark_flow.core.names import check_name
from spark_flow.errors import DuplicateNode, InvalidArgument, NoBranches, OtherCheckpoint, WriteNotProved
from spark_flow.storage import delta, delta_files, files
from spark_flow.transforms.columns import check_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import DataFrame

_COMMITS = 1000  # how far back a table's own commits are looked through for the stream's last one

Target: TypeAlias = "delta.DeltaSink | tuple[Callable[[DataFrame], DataFrame], delta.DeltaSink]"
BatchWriter: TypeAlias = "Callable[[DataFrame, int], None]"


def split_batch(
    sinks: Mapping[str, Target], app_id: str, *, on_written: Callable[[str, int], None] | None = None
) -> BatchWriter:
    """A function for ``writeStream.foreachBatch`` that writes each batch to several Delta tables.

    >>> split = split_batch({"lake": delta("out/lake"), "late": (only_late, delta("out/late"))}, "flights-1")
    >>> stream.writeStream.foreachBatch(split).option("checkpointLocation", "checkpoint").start()  # doctest: +SKIP

    A batch is read once and appended to each table in turn. A query that was killed between two tables and started
    again from its checkpoint repeats the batch: where it stands already it is not written again. A table's name here is
    part of its id: under another name a repeated batch is written again. A checkpoint must not be set back by hand:
    the batch that follows would have a number that the tables know.

    Args:
        sinks: By name, a Delta table, or a transform and a Delta table; rows are appended.
        app_id: The stream's name for all time, together with its checkpoint: a new checkpoint location needs a new one.
        on_written: Told of each table's name and batch once it is committed.

    Raises:
        NoBranches: There is no sink.
        DuplicateNode: Two sinks are one table.
        InvalidArgument: A sink is no Delta table, or one that overwrites.
        InvalidName: A name cannot be a folder name.

    Raises (when a batch is written):
        OtherCheckpoint: The table has batches of this ``app_id`` from another checkpoint.
        WriteNotProved: The table does not remember the batch.
    """
    check_name("app_id", app_id)
    if not sinks:
        raise NoBranches("split_batch")
    targets = {check_name("sink", name): one if isinstance(one, tuple) else (_same, one) for name, one in sinks.items()}
    places: dict[str, str] = {}
    for name, (transform, sink) in targets.items():
        if not isinstance(sink, delta.DeltaSink) or not callable(transform):
            raise InvalidArgument(
                f"split_batch: {name}", repr(sinks[name]), "a Delta table, or (function, Delta table)"
            )
        if sink.mode == "overwrite" or sink.replace_where:
            raise InvalidArgument(f"split_batch: {name}", "overwrite or replace_where", "neither: batches are appended")
        other = places.setdefault(files.absolute(sink.path), name)
        if other != name:
            raise DuplicateNode(name, f"{other} writes to {sink.path} too")
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
            if not _stands(sink, f"{app_id}/{name}", query, batch):
                rows = transform(held)
                check_frame(name, rows)
                _append(rows, sink, f"{app_id}/{name}", query, batch)
            on_written(name, batch)
    finally:
        held.unpersist()


def _query_of(frame: DataFrame) -> str:
    """The query's id, which its checkpoint keeps over restarts; empty where the session does not tell (Connect)."""
    context = getattr(frame.sparkSession, "sparkContext", None)
    return str(context.getLocalProperty("sql.streaming.queryId") or "") if context is not None else ""


def _stands(sink: delta.DeltaSink, txn: str, query: str, batch: int) -> bool:
    """Whether a table has a batch already.

    Raises:
        OtherCheckpoint: See ``split_batch``.
    """
    table = delta.open_table(sink.path)
    known = table.transaction_version(txn) if table is not None else None
    if table is None or known is None or known < batch - 1:
        return False
    # The last batch but one is the usual case: only the newest commits need a look.
    last = next(
        (tag for commit in table.history(_COMMITS) if (tag := delta_files.tag_of(commit)).get("stream") == txn), {}
    )
    other = query and last.get("query", query) != query
    if other or known > batch:  # a checkpoint goes on from its last batch, never from one before
        raise OtherCheckpoint(sink.path, txn, known, batch)
    return known == batch


def _append(rows: DataFrame, sink: delta.DeltaSink, txn: str, query: str, batch: int) -> None:
    tag = {"spark_flow": {"stream": txn, "query": query, "batch": batch}}
    options = {"txnAppId": txn, "txnVersion": str(batch), "userMetadata": json.dumps(tag, sort_keys=True)}
    delta.append(rows, sink, options)
    table = delta.open_table(sink.path)
    found = table.transaction_version(txn) if table is not None else None
    if found != batch:
        raise WriteNotProved(sink.path, f"batch {batch} of {txn}", f"batch {found}")
