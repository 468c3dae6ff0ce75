"""Delta tables as sinks: idempotent by Delta's transaction ids, and verified by the table's own history.

See https://docs.delta.io/latest/delta-batch.html (idempotent writes, replaceWhere).
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from spark_flow.core import fingerprint, secrets
from spark_flow.core.names import quote_table, table_uri
from spark_flow.errors import CannotReplace, InvalidArgument, MissingColumns, NewColumns, WriteNotProved
from spark_flow.storage import catalog, delta_files, delta_tables, files, key_rows, merge, violations
from spark_flow.storage.content import Content, observed
from spark_flow.storage.merge import Merge
from spark_flow.storage.sink_protocol import ALL, Intent, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from deltalake import DeltaTable
    from pyspark.sql import DataFrame, DataFrameWriter, SparkSession

    from spark_flow.storage.key_rows import KeyRows

Mode = Literal["replace", "append", "overwrite", "merge"]
SchemaPolicy = Literal["strict", "evolve"]

_OURS = {name.lower(): name for name in ("txnAppId", "txnVersion", "userMetadata", "replaceWhere")}
RETENTION = "interval 90 days"  # of transaction ids, in tables that a sink creates

_UTC = ("UTC", "Etc/UTC", "GMT", "Z", "+00:00")
_CONCURRENT = re.compile(
    r"(Concurrent\w*|ProtocolChanged|MetadataChanged)Exception|\[DELTA_(CONCURRENT|METADATA_CHANGED|PROTOCOL_CHANGED)"
)


def _version() -> str:
    try:
        return importlib.metadata.version("delta-spark")
    except importlib.metadata.PackageNotFoundError:
        return ""  # a platform's own


def _records_utc() -> bool:
    """Whether Delta records a partition's time in UTC whatever the session's time zone is; seen with 4.4.0."""
    numbers = re.match(r"(\d+)\.(\d+)", _version())
    return numbers is None or (int(numbers[1]), int(numbers[2])) >= (4, 4)


def is_concurrent(error: BaseException) -> bool:
    """Whether Delta rejected a commit because another writer was faster; nothing was written then."""
    return bool(_CONCURRENT.search(str(error)))


_again = retry(
    retry=retry_if_exception(is_concurrent),
    stop=stop_after_attempt(8),
    wait=wait_random_exponential(multiplier=0.2, max=10),
    reraise=True,
)


@dataclass(frozen=True)
class DeltaSink:
    """A Delta table as a sink; create one with ``spark_flow.delta``."""

    path: str
    partition_by: tuple[str, ...] = ()
    replace_where: str | None = None
    mode: Mode = "replace"
    options: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    table: str = ""
    cluster_by: tuple[str, ...] = ()
    comment: str = ""
    schema: SchemaPolicy | None = None
    upsert: Merge | None = None

    format = "delta"

    @property
    def paths(self) -> tuple[str, ...]:
        """The table's path; of one that is known by its name ``table://<name>``."""
        return (table_uri(self.table),) if self.table else (self.path,)

    def located(self, spark: SparkSession) -> DeltaSink:
        """Return the same sink with the path of its table; it has none until the table is created.

        Raises:
            InvalidArgument: The name is that of a view or of another format's table, or is known to this session only.
        """
        catalog.check_lasting(spark, self.table)
        return dataclasses.replace(self, path=catalog.location(spark, self.table))

    @property
    def fingerprint(self) -> str:
        """A hash of the sink's settings."""
        where = self.paths[0] if self.table else files.absolute(self.path)
        given = (self.format, where, self.partition_by, self.replace_where, self.mode, secrets.shown(self.options))
        return fingerprint.of((*given, *filter(None, [self.schema, self.upsert and dataclasses.astuple(self.upsert)])))

    def predicate(self, key: str) -> str | None:
        """Return SQL that selects the key's rows, before types are known; ``None`` if the sink does not select rows."""
        if self.mode != "replace":
            return None
        if self.replace_where:
            return self.replace_where
        return key_rows.column_is(self.column, key) if self.column else None

    @property
    def column(self) -> str | None:
        """The column that holds the key; ``None`` if the key's rows are selected otherwise, or not at all."""
        by_column = self.mode == "replace" and self.partition_by and not self.replace_where
        return self.partition_by[0] if by_column else None

    def replaces(self, key: str) -> Mapping[str, str]:
        """Return what a write replaces: the whole table, the predicate's rows, or nothing; see ``TellsRows``."""
        whole = self.mode in ("overwrite", "merge")
        return dict.fromkeys(self.paths, ALL if whole else self.predicate(key) or "")

    def last_revision(self, app_id: str, key: str, written: Mapping[str, Any] | None = None) -> int:  # noqa: ARG002 - the port's; an id holds the key
        """Return the revision that the table remembers, or 0."""
        return delta_tables.last_revision(self.path, app_id) if self.path else 0

    def validate(self, intent: Intent) -> None:
        """Refuse to append a key's rows a second time.

        Raises:
            CannotReplace: See ``Sink.validate``.
        """
        if intent.revision > 1 and self.mode in ("replace", "append") and self.predicate(intent.key) is None:
            raise CannotReplace(intent.node, self.path, intent.revision)

    def write(self, frame: DataFrame, intent: Intent) -> Written:
        """Commit the frame with ``txnVersion = revision`` and verify it. An empty frame uses up the revision as well.

        Raises:
            ConstraintViolated: A row violates a CHECK or NOT NULL constraint of the table.
            OtherTimeZone: The key now stands for another instant than when its rows were written.
            InvalidMergeKeys: Rows to merge have no key of their own.
            MissingColumns: Columns of the table (``schema="strict"``), or of the merge, are missing.
            OutsideKey: The frame holds rows of another key.
            WriteNotProved: The table has a newer revision, or does not hold this one.
        """
        if self.upsert is not None:
            merge.check_columns(self.upsert, frame, intent.node)
        check_partitions(self, frame, intent.node)
        if self.table and not self.path:
            return dataclasses.replace(self, path=self._create(frame)).write(frame, intent)
        with intent.only_writer(self.path):
            return self._write(frame, intent)

    def _write(self, frame: DataFrame, intent: Intent) -> Written:
        table = delta_tables.open_table(self.path)
        if table is None and (self.cluster_by or self.upsert is not None):
            self._create(frame)
            table = delta_tables.open_table(self.path)
        known = self.last_revision(intent.app_id, intent.key) if table is not None else 0
        if known > intent.revision:
            raise WriteNotProved(self.path, f"no revision above {intent.revision}", f"revision {known}")
        rows = self._rows(frame, intent)
        if table is not None and known == intent.revision:
            return self._written(frame, intent, rows, "already written at version {}", since=0)
        if table is not None and rows is not None and rows.zone:
            rows.check_zone(intent.node, intent.key, delta_tables.tag_before(table, intent).get("value"))
        added = self._check_schema(table, frame, intent.node) if table is not None else ""
        before = table.version() + 1 if table else 0
        if self.upsert is not None:
            return self._merge(self.upsert, before, frame, intent, added)
        intent.mark("before_commit")
        measure = self._commit(frame, intent, rows)
        intent.mark("after_commit")
        return self._written(frame, intent, rows, f"written at version {{}}{added}", since=before, measure=measure)

    def _create(self, frame: DataFrame) -> str:
        """Create the table, empty, unless another process was faster; returns its path."""
        writer = frame.sparkSession.createDataFrame([], frame.schema).write.format("delta")
        writer = writer.options(**{"delta.setTransactionRetentionDuration": RETENTION, **self.properties})
        writer, path = writer.partitionBy(*self.partition_by), self.path
        if self.table:
            path = catalog.create(writer, frame.sparkSession, self.table, comment=self.comment)
        else:
            writer.mode("ignore").save(files.for_spark(path))
        if self.cluster_by:
            catalog.cluster(frame.sparkSession, files.absolute(path), self.cluster_by)
        return path

    def _check_schema(self, table: DeltaTable, frame: DataFrame, node: str) -> str:
        """Compare columns with those of the table; returns what an evolution will add, for the reason.

        Raises:
            MissingColumns: The policy is strict, and a column of the table is missing.
            NewColumns: Columns are new, and the policy is not to add them; a MERGE would ignore them.
        """
        if self.schema is None and self.upsert is None:
            return ""
        mine = {name.lower() for name in frame.columns}
        known = [each.name for each in table.schema().fields]
        missing = [name for name in known if name.lower() not in mine]
        if missing and self.schema == "strict":
            raise MissingColumns(node, missing, frame.columns)
        new = [name for name in frame.columns if name.lower() not in {each.lower() for each in known}]
        if new and self.schema != "evolve":
            raise NewColumns(node, new, self.table or self.path)
        words = f"; added column(s) {', '.join(new)}" if new else ""
        return words + (f"; NULL in {', '.join(missing)}, which the frame does not have" if missing else "")

    def _merge(self, how: Merge, before: int, frame: DataFrame, intent: Intent, added: str) -> Written:
        source = frame.persist()  # the keys are checked before anything is written, and the frame is computed once
        try:
            count = merge.check_keys(how, source, intent.node)
            intent.mark("before_commit")
            _again(merge.run)(how, source, files.for_spark(self.path).removeprefix("file://"), intent)
            intent.mark("after_commit")
        finally:
            source.unpersist()
        written = self._written(frame, intent, None, f"merged at version {{}}{added}", since=before)
        return dataclasses.replace(written, rows=count)

    def _rows(self, frame: DataFrame, intent: Intent) -> KeyRows | None:
        """Return the key's rows; ``None`` if the sink does not replace only a key's rows."""
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
            outside = key_rows.as_outside_key(error, intent.node, intent.key)
            known = outside or violations.as_violation(error, intent.node, self.path, frame.schema)
            if known is None:
                raise
            raise known from error
        return content

    def _writer(self, frame: DataFrame, intent: Intent, rows: KeyRows | None) -> DataFrameWriter:
        # Writer options only: the session conf of the same name leaks into every other write.
        value = {"value": rows.value} if rows is not None and rows.value else {}
        options = {
            "delta.setTransactionRetentionDuration": RETENTION,
            **self.properties,
            **({"mergeSchema": "true"} if self.schema == "evolve" else {}),
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
        """Find the commit in the table's history by its tag, because Delta silently drops a write with an old id."""
        table = delta_tables.open_table(self.path)
        if table is None:
            raise WriteNotProved(self.path, f"a table with revision {intent.revision}", "no table")
        found = table.transaction_version(intent.app_id)
        if found != intent.revision:
            raise WriteNotProved(self.path, f"revision {intent.revision} of {intent.app_id}", f"revision {found}")
        commit = delta_tables.commit_of(table, intent, since)
        if commit is None and since:
            raise WriteNotProved(self.path, f"a commit of revision {intent.revision} after version {since - 1}", "none")
        version = commit["version"] if commit else table.version()
        metrics = commit.get("operationMetrics", {}) if commit else {}
        # An empty write that replaces nothing is a commit without this metric.
        count = int(metrics.get("numOutputRows", 0)) if commit else None
        content = measure() if measure is not None else None
        if content is not None and commit and not count and content.rows:
            count = delta_files.rows_added(self.path, version)  # without statistics, the metric is 0
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
            # A MERGE rewrites files with rows that it did not touch: they do not tell what was written.
            "files": delta_files.recorded(self.path, version) if commit and self.upsert is None else None,
            **({"table": self.table} if self.table else {}),
            **({"value": rows.value} if rows is not None and rows.value else {}),
            **({"hash": content.hash} if content is not None else {}),
        }
        return Written(rows=count, reason=words.format(version), detail=detail)


def check_partitions(sink: DeltaSink, frame: DataFrame, node: str) -> None:
    """Refuse times as partitions where Delta would record the local time as UTC (4.0.1 does).

    Raises:
        InvalidArgument: It would.
    """
    times = {f.name.lower() for f in frame.schema.fields if f.dataType.typeName() == "timestamp"}
    mine = [name for name in sink.partition_by if name.lower() in times]
    if not mine or _records_utc():
        return
    zone = str(frame.sparkSession.conf.get("spark.sql.session.timeZone"))
    if zone not in _UTC:
        found = f"{mine[0]}, a time, with the session's time zone {zone} and Delta {_version()}"
        fix = "This Delta records the local time as UTC: set spark.sql.session.timeZone=UTC, or use Delta 4.4."
        raise InvalidArgument(f"{node}: partition_by", found, "UTC, or another column", fix)


def append(frame: DataFrame, sink: DeltaSink, options: Mapping[str, str]) -> None:
    """Append a frame to a sink's table with the caller's own writer options, including the transaction id."""
    merged = {
        "delta.setTransactionRetentionDuration": RETENTION,
        **options,
        **secrets.resolved({**sink.properties, **sink.options}),
    }
    writer = frame.write.format("delta").options(**merged).mode("append").partitionBy(*sink.partition_by)
    _again(writer.save)(files.for_spark(sink.path))


def delta(
    path: str = "",
    *,
    table: str = "",
    partition_by: str | Sequence[str] = (),
    cluster_by: str | Sequence[str] = (),
    replace_where: str | None = None,
    mode: Mode = "replace",
    on: str | Sequence[str] = (),
    sequence_by: str = "",
    delete_when: str = "",
    schema: SchemaPolicy | None = None,
    options: Mapping[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
    comment: str = "",
) -> DeltaSink:
    """Return a Delta table as a sink: each revision of a key replaces the key's rows in one commit, exactly once.

    >>> lake = delta("out/lake", partition_by="date")
    >>> customers = delta(table="shop.customers", mode="merge", on="id", sequence_by="changed_at")

    Args:
        path: The table's folder, a path or URI; or else
        table: its name in Spark's catalog, of one to three parts. It is created if it does not exist.
        partition_by: Partition columns; the first one holds the key.
        cluster_by: Columns of liquid clustering, instead of partitions; the key's rows then need ``replace_where``.
        replace_where: A SQL predicate that selects the key's rows, if not ``<first partition column> = key``.
        mode: ``replace`` the key's rows; ``append``, which refuses a second revision; ``overwrite`` the table; or
            ``merge``: update and insert rows by the columns ``on``. A merge does not remove rows that a rerun no
            longer produces.
        on: The columns that identify a row. Keys that occur twice or hold NULL are refused before anything is written.
        sequence_by: A column: a row is updated only by one whose value is greater or equal, so that rows that arrive
            late do not undo newer ones.
        delete_when: SQL over the alias ``source``, as ``source.deleted``: its row is deleted, or not inserted.
        schema: ``strict``: the frame must have all columns of the table. ``evolve``: new columns are added to the
            table. By default as Delta does: a column that is missing is NULL, a new one is refused.
        options: More options of Delta's writer, for example ``{"maxRecordsPerFile": "1000000"}``.
        properties: Table properties to set when the table is created: ``{"delta.enableChangeDataFeed": "true"}``.
        comment: The comment of a table by name, when it is created.

    Raises:
        InvalidArgument: An option is reserved for the sink, or settings conflict.
        InvalidName: The table's name is no name.

    Raises (by ``write``, before anything is written):
        InvalidPath: The path contains ``#``, ``?``, a bracket, a backslash, or ``%`` and two hexadecimal digits.
    """
    partitions, clusters, keys = _names(partition_by), _names(cluster_by), _names(on)
    for where, found, expected in _conflicts(path, table, partitions, clusters, replace_where, mode, comment):
        raise InvalidArgument(f"delta: {where}", found, expected)
    for where, found, expected in _merge_conflicts(mode, keys, sequence_by, delete_when):
        raise InvalidArgument(f"delta: {where}", found, expected)
    ours = [name for name in {**(options or {}), **(properties or {})} if name.lower() in _OURS]
    if ours:
        reserved = ", ".join(sorted(_OURS.values()))
        raise InvalidArgument("delta: options", ours[0], f"other options: the sink itself sets {reserved}")
    if table:
        quote_table(table)
    how = None
    if mode == "merge":
        evolve = schema == "evolve"
        how = Merge(on=keys, sequence_by=sequence_by, delete_when=delete_when, evolve=evolve)
    return DeltaSink(
        path=path,
        partition_by=partitions,
        replace_where=replace_where,
        mode=mode,
        options=dict(options or {}),
        properties=dict(properties or {}),
        table=table,
        cluster_by=clusters,
        comment=comment,
        schema=schema,
        upsert=how,
    )


def _names(columns: str | Sequence[str]) -> tuple[str, ...]:
    return (columns,) if isinstance(columns, str) else tuple(columns)


def _conflicts(
    path: str,
    table: str,
    partitions: Sequence[str],
    clusters: Sequence[str],
    replace_where: str | None,
    mode: Mode,
    comment: str,
) -> Iterator[tuple[str, str, str]]:
    if bool(path) == bool(table):
        yield "table", "path and table" if path else "neither path nor table", "exactly one of them"
    if mode != "replace" and replace_where:
        yield "mode", f"{mode!r} with replace_where", "one of them: replace_where implies mode replace"
    if partitions and clusters:
        yield "cluster_by", "partition_by beside it", "one of them: Delta clusters or partitions a table"
    if comment and not table:
        yield "comment", "a comment of a path", "table: a table by name has a comment"
    if clusters and mode == "replace" and not replace_where:
        yield "cluster_by", "no replace_where", "replace_where: a predicate of the key's rows"


def _merge_conflicts(
    mode: Mode, on: Sequence[str], sequence_by: str, delete_when: str
) -> Iterator[tuple[str, str, str]]:
    given = {"on": on, "sequence_by": sequence_by, "delete_when": delete_when}
    if mode != "merge":
        yield from ((name, f"{name} with mode {mode!r}", "mode merge") for name, value in given.items() if value)
    elif not on:
        yield "on", "no column", "the columns that identify a row"
    elif sequence_by and delete_when:
        # A deleted row leaves no value to compare with: an older row that arrives later would insert it again.
        yield "delete_when", "sequence_by beside it", "one of them: a deleted row is inserted again by an older one"
    elif sequence_by in on:
        yield "sequence_by", f"{sequence_by!r}, which is one of on", "another column"
