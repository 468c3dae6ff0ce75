"""Delta tables opened, read and, with small content, written by ``deltalake``: all but ``content`` need no Spark.

The same guards as those of the Spark sink: a write has its transaction id and tag, and never goes back.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from tenacity import TryAgain, retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from spark_flow.core.names import quote_identifier
from spark_flow.errors import MissingInput, WriteNotProved
from spark_flow.storage import delta_files, files
from spark_flow.storage.content import measured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyspark.sql import SparkSession

    from spark_flow.storage.content import Content
    from spark_flow.storage.sink_protocol import Held, Intent

_lost = retry(
    retry=retry_if_exception_type(CommitFailedError),
    stop=stop_after_attempt(8),
    wait=wait_random_exponential(multiplier=0.05, max=2),
    reraise=True,
)


def open_table(path: str) -> DeltaTable | None:
    """Open the Delta table at a path; ``None`` if there is none."""
    try:
        return DeltaTable(files.for_deltalake(path))
    except TableNotFoundError:
        return None


def last_revision(path: str, app_id: str) -> int:
    """Return the revision that a table remembers for an id, or 0."""
    table = open_table(path)
    return (table.transaction_version(app_id) or 0) if table else 0


def why_invalid(path: str, app_id: str, revision: int) -> str:
    """Return why a recorded write to a table is invalid; empty if the table remembers its revision."""
    known = last_revision(path, app_id)
    return "" if known == revision else f"{path} remembers revision {known}, not {revision}"


def held(detail: Mapping[str, Any], app_id: str) -> Held:
    """Return what a table holds now of a recorded write, from its log and files; without Spark.

    Raises:
        MissingInput: The table or some of its files are missing.
    """
    table = open_table(detail["path"])
    if table is None:
        raise MissingInput(app_id, [detail["path"]])
    found = delta_files.held(table, detail, app_id.rpartition("/")[2], functools.partial(count_rows, table))
    return dataclasses.replace(found, revision=table.transaction_version(app_id) or 0)


def content(spark: SparkSession, detail: Mapping[str, Any]) -> tuple[str, Content]:
    """Return the hash of a recorded write (empty if it has none), and what its table holds now, read by Spark."""
    from pyspark.sql import functions as F

    frame = spark.read.format("delta").load(files.for_spark(detail["path"]))
    rows = frame.where(detail["predicate"]) if detail.get("predicate") else frame
    kinds = detail.get("columns", {})
    columns = [F.col(quote_identifier(name)).cast(kind) for name, kind in kinds.items()]  # as they were written
    return str(detail.get("hash", "")), measured(rows.select(*columns) if kinds else rows)


def count_rows(table: DeltaTable, predicate: str | None) -> int:
    """Count the rows of a table that match a SQL predicate (``None``: all), with ``deltalake``."""
    return int(query(table, "count(*) AS n", predicate)["n"][0].as_py())


def read_rows(detail: Mapping[str, Any], *, limit: int) -> pa.Table:
    """Return up to ``limit`` rows of a recorded write at its version, sorted by all columns; without Spark."""
    table = DeltaTable(files.for_deltalake(detail["path"]), version=detail["version"])
    tail = f"ORDER BY {', '.join(str(n + 1) for n in range(len(table.schema().fields)))} LIMIT {int(limit)}"
    return query(table, "*", detail.get("predicate"), tail)


def query(table: DeltaTable, what: str, predicate: str | None, tail: str = "") -> pa.Table:
    """Select from the rows of a table that match a SQL predicate (``None``: all), with ``deltalake``'s engine.

    ``to_pyarrow_table`` is not used: one in ten processes that end soon after it aborts at exit (deltalake 1.6), and a
    successful job would end with exit code 134.
    """
    # Spark quotes names by backticks, deltalake's engine by double quotes.
    where = f"WHERE {predicate.replace('`', chr(34))}" if predicate else ""
    query = f"SELECT {what} FROM t {where} {tail}"  # noqa: S608 - the predicate is the sink's own
    return pa.table(QueryBuilder().register("t", table).execute(query).read_all())


@_lost
def replace_rows(path: str, rows: pa.Table, predicate: str, intent: Intent) -> int:
    """Replace the rows that match a predicate, in one commit with the intent's id; without Spark.

    A revision that the table already has is not written again. Each attempt reads the id again: a later commit with
    the same id is a conflict and is never overwritten.

    Args:
        path: The table's path; the table is created if missing.
        rows: The new rows; they have the table's columns.
        predicate: Selects the rows to replace, in ``deltalake``'s SQL.
        intent: The intended write, whose id and tag the commit gets.

    Returns:
        The version that was written.

    Raises:
        Fenced, LeaseLost: The lease is lost: nothing is committed.
        WriteNotProved: The table holds a newer revision.
    """
    uri = files.for_deltalake(path)
    table = open_table(uri)
    known = (table.transaction_version(intent.app_id) or 0) if table is not None else 0
    if known > intent.revision:
        found = f"revision {known}, which another run has written"
        raise WriteNotProved(path, f"no revision above {intent.revision} of {intent.app_id}", found)
    if table is not None and known == intent.revision:
        commit = commit_of(table, intent, 0)
        return int(commit["version"]) if commit else table.version()
    intent.mark("before_commit")
    version = _replace(table, uri, rows, predicate, intent)
    intent.mark("after_commit")
    return version


def _replace(table: DeltaTable | None, uri: str, rows: pa.Table, predicate: str, intent: Intent) -> int:
    how: dict[str, Any] = {
        "custom_metadata": {"userMetadata": intent.tag},
        "app_transactions": [Transaction(intent.app_id, intent.revision)],
    }
    if table is not None:  # at the version that was checked, so that a later commit is a conflict
        write_deltalake(table, rows, mode="overwrite", predicate=predicate, commit_properties=CommitProperties(**how))
        return int(table.version())
    try:
        # If deltalake retried it, a creation that lost the race would be committed on top of the winner's.
        once = CommitProperties(**how, max_commit_retries=0)
        write_deltalake(uri, rows, mode="error", commit_properties=once)
    except DeltaError as error:
        if open_table(uri) is None:
            raise
        raise TryAgain from error
    return 0


def commit_of(table: DeltaTable, intent: Intent, since: int) -> dict[str, Any] | None:
    """Return the newest commit from version ``since`` on with the intent's node, key and revision in its tag."""
    history = table.history(limit=None if not since else table.version() - since + 1)
    tagged = ((commit, delta_files.tag_of(commit)) for commit in history)
    return next((commit for commit, tag in tagged if _is_of(tag, intent, revision=intent.revision)), None)


def tag_before(table: DeltaTable, intent: Intent) -> Mapping[str, Any]:
    """Return the tag of the newest commit of the intent's node and key; empty if the log no longer has one."""
    tags = (delta_files.tag_of(commit) for commit in table.history())
    return next((tag for tag in tags if _is_of(tag, intent)), {})


def _is_of(tag: Mapping[str, Any], intent: Intent, **more: object) -> bool:
    wanted = {"pipeline": intent.pipeline, "node": intent.node, "key": intent.key, **more}
    return all(tag.get(name) == value for name, value in wanted.items())
