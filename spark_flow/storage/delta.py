"""Delta tables as sinks: idempotent by Delta's transaction ids, and proved by the table's own history.

The rules are Delta's: https://docs.delta.io/latest/delta-batch.html (idempotent writes, replaceWhere).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, QueryBuilder, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from tenacity import (
    TryAgain,
    retry,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from spark_flow.core import fingerprint, secrets
from spark_flow.core.names import quote_identifier
from spark_flow.errors import CannotReplace, InvalidArgument, MissingInput, WriteNotProved
from spark_flow.storage import delta_files, files, key_rows, violations
from spark_flow.storage.content import Content, measured, observed
from spark_flow.storage.sink_protocol import ALL, Held, Intent, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import DataFrame, DataFrameWriter, SparkSession

    from spark_flow.storage.key_rows import KeyRows

Mode = Literal["replace", "append", "overwrite"]

_OURS = {name.lower(): name for name in ("txnAppId", "txnVersion", "userMetadata", "replaceWhere")}
RETENTION = "interval 90 days"  # of transaction ids, in tables that a sink makes

_CONCURRENT = re.compile(
    r"(Concurrent\w*|ProtocolChanged|MetadataChanged)Exception|\[DELTA_(CONCURRENT|METADATA_CHANGED|PROTOCOL_CHANGED)"
)


def is_concurrent(error: BaseException) -> bool:
    """Whether Delta refused a commit because another writer was faster: nothing was written."""
    return bool(_CONCURRENT.search(str(error)))


_again = retry(
    retry=retry_if_exception(is_concurrent),
    stop=stop_after_attempt(8),
    wait=wait_random_exponential(multiplier=0.2, max=10),
    reraise=True,
)

_lost = retry(
    retry=retry_if_exception_type(CommitFailedError),
    stop=stop_after_attempt(8),
    wait=wait_random_exponential(multiplier=0.05, max=2),
    reraise=True,
)


@dataclass(frozen=True)
class DeltaSink:
    """A Delta table; make one with ``spark_flow.delta``."""

    path: str
    partition_by: tuple[str, ...] = ()
    replace_where: str | None = None
    mode: Mode = "replace"
    options: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)

    format = "delta"

    @property
    def paths(self) -> tuple[str, ...]:
        """The one place that it writes to."""
        return (self.path,)

    @property
    def fingerprint(self) -> str:
        """A hash of the sink's settings."""
        return fingerprint.of(
            (
                self.format,
                files.absolute(self.path),
                self.partition_by,
                self.replace_where,
                self.mode,
                secrets.shown(self.options),
            )
        )

    def predicate(self, key: str) -> str | None:
        """SQL that names the key's rows, before their types are known; ``None`` where the sink cannot tell them."""
        if self.mode != "replace":
            return None
        if self.replace_where:
            return self.replace_where
        return key_rows.column_is(self.column, key) if self.column else None

    @property
    def column(self) -> str | None:
        """The column that holds the key; ``None`` where the key's rows are told otherwise, or not at all."""
        by_column = self.mode == "replace" and self.partition_by and not self.replace_where
        return self.partition_by[0] if by_column else None

    def replaces(self, key: str) -> Mapping[str, str]:
        """All of the table, the predicate's rows, or none of what is there; see ``port.TellsRows``."""
        return {self.path: ALL if self.mode == "overwrite" else self.predicate(key) or ""}

    def remembered(self, app_id: str, key: str, written: Mapping[str, Any] | None = None) -> int:  # noqa: ARG002 - the port's; an id holds the key
        """The transaction id that the table remembers, 0 for none."""
        return remembered(self.path, app_id)

    def admit(self, intent: Intent) -> None:
        """Refuse to append a key's rows a second time.

        Raises:
            CannotReplace: See ``Sink.admit``.
        """
        if intent.revision > 1 and self.mode != "overwrite" and self.predicate(intent.key) is None:
            raise CannotReplace(intent.node, self.path, intent.revision)

    def write(self, frame: DataFrame, intent: Intent) -> Written:
        """Commit the frame under ``txnVersion = revision`` and prove it. An empty frame uses the id up as well.

        Raises:
            ConstraintViolated: A row breaks a CHECK or NOT NULL of the table.
            OtherTimeZone: The key's text is another instant than the one that it was written as.
            OutsideKey: The frame holds rows of another key.
            WriteNotProved: A newer revision is there, or the table does not hold this one.
        """
        table = _open(self.path)
        known = self.remembered(intent.app_id, intent.key) if table is not None else 0
        if known > intent.revision:
            raise WriteNotProved(self.path, f"no revision above {intent.revision}", f"revision {known}")
        rows = self._rows(frame, intent)
        if table is not None and known == intent.revision:
            return self._written(frame, intent, rows, "already written at version {}", since=0)
        if table is not None and rows is not None and rows.zone:
            rows.check_zone(intent.node, intent.key, _tag_before(table, intent).get("value"))
        before = table.version() + 1 if table else 0
        intent.mark("before_commit")
        measure = self._commit(frame, intent, rows)
        intent.mark("after_commit")
        return self._written(frame, intent, rows, "written at version {}", since=before, measure=measure)

    def _rows(self, frame: DataFrame, intent: Intent) -> KeyRows | None:
        """The key's rows; ``None`` where the sink does not replace a key's rows alone."""
        if self.column:
            return key_rows.of_column(frame, self.column, intent.node, intent.key)
        predicate = self.predicate(intent.key)
        return key_rows.of_predicate(predicate) if predicate else None

    @_again
    def _commit(self, frame: DataFrame, intent: Intent, rows: KeyRows | None) -> Callable[[], Content]:
        watched, content = observed(key_rows.only(frame, rows) if rows is not None else frame)
        try:
            self._writer(watched, intent, rows).save(files.for_spark(self.path))
        except Exception as error:
            known = key_rows.as_outside_key(error, intent.node, intent.key)
            known_ = known or violations.as_violation(error, intent.node, self.path, frame.schema)
            if known_ is None:
                raise
            raise known_ from error
        return content

    def _writer(self, frame: DataFrame, intent: Intent, rows: KeyRows | None) -> DataFrameWriter:
        # Options of the writer only: the session conf of the same name leaks into every other write.
        value = {"value": rows.value} if rows is not None and rows.value else {}
        options = {
            "delta.setTransactionRetentionDuration": RETENTION,
            **self.properties,
            **self.options,
            "txnAppId": intent.app_id,
            "txnVersion": str(intent.revision),
            "userMetadata": intent.tagged(value),
            **({"replaceWhere": rows.predicate} if rows is not None else {}),
        }
        mode = "overwrite" if rows is not None or self.mode == "overwrite" else "append"
        writer = frame.write.format("delta").options(**secrets.resolved(options))
        return writer.mode(mode).partitionBy(*self.partition_by)

    def _written(
        self,
        frame: DataFrame,
        intent: Intent,
        rows: KeyRows | None,
        words: str,
        *,
        since: int,
        measure: Callable[[], Content] | None = None,
    ) -> Written:
        """Find the commit in the table's history by its tag: Delta drops a write of an old id without a word."""
        table = _open(self.path)
        if table is None:
            raise WriteNotProved(self.path, f"a table with revision {intent.revision}", "no table")
        found = table.transaction_version(intent.app_id)
        if found != intent.revision:
            raise WriteNotProved(self.path, f"revision {intent.revision} of {intent.app_id}", f"revision {found}")
        commit = _commit_of(table, intent, since)
        if commit is None and since:
            raise WriteNotProved(self.path, f"a commit of revision {intent.revision} after version {since - 1}", "none")
        version = commit["version"] if commit else table.version()
        metrics = commit.get("operationMetrics", {}) if commit else {}
        # An empty write that replaces nothing is a commit without this figure.
        count = int(metrics.get("numOutputRows", 0)) if commit else None
        content = measure() if measure is not None else None
        if content is not None and count != content.rows:
            raise WriteNotProved(self.path, f"{content.rows} rows in version {version}", f"{count}")
        detail = {
            "format": "delta",
            "path": files.absolute(self.path),
            "version": version,
            "predicate": rows.predicate if rows is not None else None,
            "column": self.column,
            "whole": self.mode == "overwrite",
            "columns": {field.name: field.dataType.simpleString() for field in frame.schema.fields},
            "files": delta_files.recorded(self.path, version) if commit else None,
            **({"value": rows.value} if rows is not None and rows.value else {}),
            **({"hash": content.hash} if content is not None else {}),
        }
        return Written(rows=count, reason=words.format(version), detail=detail)


def append(frame: DataFrame, sink: DeltaSink, options: Mapping[str, str]) -> None:
    """Append a frame to a sink's table under options of the caller's own, its transaction id among them."""
    kept = {
        "delta.setTransactionRetentionDuration": RETENTION,
        **options,
        **secrets.resolved({**sink.properties, **sink.options}),
    }
    writer = frame.write.format("delta").options(**kept).mode("append").partitionBy(*sink.partition_by)
    _again(writer.save)(files.for_spark(sink.path))


def remembered(path: str, app_id: str) -> int:
    """The transaction id that a table remembers, 0 for none."""
    table = _open(path)
    return (table.transaction_version(app_id) or 0) if table else 0


def lacks(path: str, app_id: str, revision: int) -> str:
    """Why a recorded write to a table does not stand any more; empty when the table remembers its revision."""
    known = remembered(path, app_id)
    return "" if known == revision else f"{path} remembers revision {known}, not {revision}"


@_lost
def replace_rows(path: str, rows: pa.Table, predicate: str, intent: Intent) -> int:
    """Replace the rows that a predicate takes, in one commit under the intent's id, without Spark; returns the version.

    A revision that is there already is not written again. Each try reads the id again: a commit of the same id that
    came since is a conflict, never overwritten.

    Args:
        path: The table, made when it is not there.
        rows: What shall be there; its columns are the table's.
        predicate: Of rows to replace, in ``deltalake``'s SQL.
        intent: Whose id and tag the commit carries.

    Raises:
        Fenced, LeaseLost: The lease is lost: nothing is committed.
        WriteNotProved: The table holds a newer revision.
    """
    place = files.for_deltalake(path)
    table = _open(place)
    known = (table.transaction_version(intent.app_id) or 0) if table is not None else 0
    if known > intent.revision:
        found = f"revision {known}, which another run has written since"
        raise WriteNotProved(path, f"no revision above {intent.revision} of {intent.app_id}", found)
    if table is not None and known == intent.revision:
        commit = _commit_of(table, intent, 0)
        return int(commit["version"]) if commit else table.version()
    intent.mark("before_commit")
    version = _replace(table, place, rows, predicate, intent)
    intent.mark("after_commit")
    return version


def _replace(table: DeltaTable | None, place: str, rows: pa.Table, predicate: str, intent: Intent) -> int:
    how: dict[str, Any] = {
        "custom_metadata": {"userMetadata": intent.tag},
        "app_transactions": [Transaction(intent.app_id, intent.revision)],
    }
    if table is not None:  # at the version that was looked at, so that what came since is seen as a conflict
        write_deltalake(table, rows, mode="overwrite", predicate=predicate, commit_properties=CommitProperties(**how))
        return int(table.version())
    try:
        # Tried again by deltalake, a creation that lost the race would be committed on top of the one that won.
        once = CommitProperties(**how, max_commit_retries=0)
        write_deltalake(place, rows, mode="error", commit_properties=once)
    except DeltaError as error:
        if _open(place) is None:
            raise
        raise TryAgain from error
    return 0


def held(detail: Mapping[str, Any], app_id: str) -> Held:
    """What a table holds now of a recorded write, by its log and files; without Spark.

    Raises:
        MissingInput: The table or some of its files are gone.
    """
    table = _open(detail["path"])
    if table is None:
        raise MissingInput(app_id, [detail["path"]])
    found = delta_files.held(table, detail, app_id.rpartition("/")[2], functools.partial(count_rows, table))
    return dataclasses.replace(found, revision=table.transaction_version(app_id) or 0)


def content(spark: SparkSession, detail: Mapping[str, Any]) -> tuple[str, Content]:
    """The hash of a recorded write, empty where none was recorded, and what its table holds now, read by Spark."""
    from pyspark.sql import functions as F

    frame = spark.read.format("delta").load(files.for_spark(detail["path"]))
    rows = frame.where(detail["predicate"]) if detail.get("predicate") else frame
    kinds = detail.get("columns", {})
    columns = [F.col(quote_identifier(name)).cast(kind) for name, kind in kinds.items()]  # as they were written
    return str(detail.get("hash", "")), measured(rows.select(*columns) if kinds else rows)


def count_rows(table: DeltaTable, predicate: str | None) -> int:
    """The rows of a table that a SQL predicate takes (``None``: all), read by ``deltalake``."""
    return int(query(table, "count(*) AS n", predicate)["n"][0].as_py())


def read_rows(detail: Mapping[str, Any], *, limit: int) -> pa.Table:
    """Rows of a recorded write, at the version recorded, in the order of their columns; without Spark."""
    table = DeltaTable(files.for_deltalake(detail["path"]), version=detail["version"])
    tail = f"ORDER BY {', '.join(str(n + 1) for n in range(len(table.schema().fields)))} LIMIT {int(limit)}"
    return query(table, "*", detail.get("predicate"), tail)


def query(table: DeltaTable, what: str, predicate: str | None, tail: str = "") -> pa.Table:
    """What a table holds where a SQL predicate (``None``: everywhere) is true, read by ``deltalake``'s engine.

    Not by ``to_pyarrow_table``: of processes that end soon after it, one in ten is aborted at its exit (deltalake 1.6),
    and a job that was done would end with 134.
    """
    # Spark quotes names by backticks, deltalake's engine by double quotes.
    where = f"WHERE {predicate.replace('`', chr(34))}" if predicate else ""
    query = f"SELECT {what} FROM t {where} {tail}"  # noqa: S608 - the predicate is the sink's own
    return pa.table(QueryBuilder().register("t", table).execute(query).read_all())


def open_table(path: str) -> DeltaTable | None:
    """The Delta table at a path, ``None`` when there is none."""
    try:
        return DeltaTable(files.for_deltalake(path))
    except TableNotFoundError:
        return None


_open = open_table


def _commit_of(table: DeltaTable, intent: Intent, since: int) -> dict[str, Any] | None:
    """The newest commit from version ``since`` on that carries the intent's node, key and revision."""
    history = table.history(limit=None if not since else table.version() - since + 1)
    tagged = ((commit, delta_files.tag_of(commit)) for commit in history)
    return next((commit for commit, tag in tagged if _is_of(tag, intent, revision=intent.revision)), None)


def _tag_before(table: DeltaTable, intent: Intent) -> Mapping[str, Any]:
    """The tag of the newest commit of the intent's node and key; empty when the log has none any more."""
    tags = (delta_files.tag_of(commit) for commit in table.history())
    return next((tag for tag in tags if _is_of(tag, intent)), {})


def _is_of(tag: Mapping[str, Any], intent: Intent, **more: object) -> bool:
    wanted = {"pipeline": intent.pipeline, "node": intent.node, "key": intent.key, **more}
    return all(tag.get(name) == value for name, value in wanted.items())


def delta(
    path: str,
    *,
    partition_by: str | Sequence[str] = (),
    replace_where: str | None = None,
    mode: Mode = "replace",
    options: Mapping[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
) -> DeltaSink:
    """A Delta table as a sink: each revision of a key replaces the key's rows in one commit, exactly once.

    Args:
        path: The table's folder, a path or URI.
        partition_by: Partition columns; the first one holds the key.
        replace_where: A SQL predicate of the key's rows, where that is not ``<first partition column> = key``.
        mode: ``replace`` the key's rows; ``append``, which refuses a second revision; or ``overwrite`` the table.
        options: More options of Delta's writer, as ``{"mergeSchema": "true"}``.
        properties: Table properties to set when the table is made, as ``{"delta.enableChangeDataFeed": "true"}``.

    Raises:
        InvalidArgument: An option that is the sink's own, or ``replace_where`` with another mode.

    Raises (by ``write``, before anything is written):
        InvalidPath: The path holds ``#``, ``?``, a bracket, a backslash, or ``%`` and two hexadecimal digits.
    """
    columns = (partition_by,) if isinstance(partition_by, str) else tuple(partition_by)
    if mode != "replace" and replace_where:
        raise InvalidArgument(
            "delta: mode", f"{mode!r} with replace_where", "one of them: replace_where is mode replace"
        )
    ours = [name for name in {**(options or {}), **(properties or {})} if name.lower() in _OURS]
    if ours:
        raise InvalidArgument("delta: options", ours[0], f"others: the sink sets {', '.join(sorted(_OURS.values()))}")
    return DeltaSink(path, columns, replace_where, mode, dict(options or {}), dict(properties or {}))
