"""Sources as frames of a run: Delta versions are pinned, files are checked, bad records are set aside."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from spark_flow.core.names import quote_literal
from spark_flow.engine.lazy_frame import LazyFrame
from spark_flow.engine.node import Node
from spark_flow.engine.writing import SinkTarget
from spark_flow.errors import NotArrived, NotRecorded
from spark_flow.storage import arrivals, files, sources
from spark_flow.storage.delta import delta
from spark_flow.storage.failures import as_missing_input
from spark_flow.storage.sink_protocol import Intent, Written, app_id

if TYPE_CHECKING:
    from pyarrow import fs
    from pyspark.sql import DataFrame

    from spark_flow.engine.run import Run
    from spark_flow.storage.sources import Source


def read(run: Run, name: str, source: Source) -> LazyFrame:
    """Data as a frame of the run.

    A Delta table's version is pinned at the generation's first read, and a retry reads that version again. Files and
    other formats are not pinned. With ``wait``, data that is missing is waited for. Records that do not fit the schema
    fail the run or are set aside (``bad_records``).

    Raises (when the frame is asked for):
        MissingInput: A file, folder or table is missing; all that are missing are named.
        NotArrived: The same, if the source's path depends on the key or the branch (exit code 75).
        SourceNotReadable: A database or another service does not answer, or refuses.
        BadRecords: In the action that reads a bad record.
    """
    node = run.node(name)
    run.graph.sources[node] = source
    run.secrets.learn_from(source.options)
    return LazyFrame(run, node, "source", source.fingerprint, (), lambda: read_now(run, node, source))


def read_now(run: Run, node: str, source: Source, name: str = "") -> DataFrame:
    """The frame of a source, as ``read`` returns it.

    Args:
        run: The run.
        node: The node that records a pinned version, or what was set aside.
        source: The source.
        name: The name of the source in errors; by default the node.
    """
    name = name or node
    if source.format == "delta":
        return _read_delta(run, node, source, name)
    if source.format == sources.TABLE:
        return _read_table(run, node, source, name)
    if not source.has_files:
        _refuse_to_keep(run, node)
        return sources.read_any(run.spark, name, source)
    return _read_files(run, node, source, name)


def _read_delta(run: Run, node: str, source: Source, name: str) -> DataFrame:
    def pin(_: Intent) -> Written:
        _present(run, name, source)
        version = sources.current_version(name, source)
        return Written(reason=f"pinned at version {version}", detail={"version": version, "path": source.path})

    if run.plan and not run.keeps(node):
        return sources.read_delta(run.spark, source, sources.current_version(name, source))
    outcome = run.once(Node(name=node, kind="source", fingerprint=source.fingerprint, writes=False), pin)
    return sources.read_delta(run.spark, source, int(outcome.detail["version"]))


def _read_table(run: Run, node: str, source: Source, name: str) -> DataFrame:
    """A table by its name; a Delta table at its pinned version, any other one as it is."""

    def pin(_: Intent) -> Written:
        version = sources.table_version(run.spark, name, source)
        if version is None:
            return Written(reason="not pinned: no Delta table", detail={"table": source.path})
        return Written(reason=f"pinned at version {version}", detail={"version": version, "table": source.path})

    if run.plan and not run.keeps(node):
        return sources.read_table(run.spark, source, sources.table_version(run.spark, name, source))
    outcome = run.once(Node(name=node, kind="source", fingerprint=source.fingerprint, writes=False), pin)
    return sources.read_table(run.spark, source, outcome.detail.get("version"))


def _present(run: Run, name: str, source: Source) -> list[fs.FileInfo]:
    """The files of a source, waited for if it says so.

    Raises:
        MissingInput, NotArrived: Some are missing, or still change at the end of the wait.
    """
    if source.wait is None or run.plan:
        return sources.check_present(name, source)

    def look() -> tuple[list[fs.FileInfo], list[str]]:
        found, missing = sources.look(source)
        if missing and source.parent and not files.exists(source.parent):
            raise sources.absent(name, source, missing)  # the path is wrong: nothing will arrive there
        return found, missing

    report = functools.partial(run.waiting, name, "source")
    found, missing = arrivals.until_there(look, source.wait, began=run.began, report=report)
    if missing:
        raise NotArrived(name, missing)
    return found


def _refuse_to_keep(run: Run, node: str) -> None:
    """Refuse to read again, within a partial backfill, what may have changed since.

    Raises:
        NotRecorded: The node is taken over.
    """
    if run.keeps(node):
        remedy = "Give a step between it and the nodes that run again restart: true"
        raise NotRecorded(node, "it would be read again, and may have changed", remedy)


def _read_files(run: Run, node: str, source: Source, name: str) -> DataFrame:
    _refuse_to_keep(run, node)
    found = _present(run, name, source)
    if found:
        run.graph.inputs[name] = arrivals.facts(source.paths, found)
    try:
        if source.bad_records == "fail":
            return sources.read_files(run.spark, name, source)
        good, bad = sources.split_bad_records(run.spark, source)
    except Exception as error:  # of a path that is a pattern Spark alone knows what is there
        missing = as_missing_input(name, error)
        if missing is None or missing is error:
            raise
        raise sources.absent(name, source, missing.missing) from error
    if not run.plan:
        _quarantine(run, node, source, bad)
    return good


def _quarantine(run: Run, node: str, source: Source, bad: DataFrame) -> None:
    """Set bad records aside in ``<state>/quarantine/<pipeline>`` before anything is made from the good ones."""
    from pyspark.sql import functions as F

    where = f"`key` = {quote_literal(run.key)} AND `source` = {quote_literal(node)}"
    path = files.join(files.absolute(run.state), "quarantine", run.pipeline)
    # By partitions, so that branches which set records aside at the same time do not conflict.
    sink = delta(path, replace_where=where, partition_by=("key", "source"))
    target = SinkTarget(sink, app_id(run.pipeline, node, run.key), run.key)

    def set_aside(intent: Intent) -> Written:
        if not target.last_revision() and bad.isEmpty():
            return Written(reason="no bad records")
        place = {"pipeline": run.pipeline, "key": run.key, "source": node, "revision": intent.revision}
        rows = bad.select(*[F.lit(value).alias(name) for name, value in place.items()], "*")
        written = sink.write(rows, intent)
        count = {} if written.rows is None else {"quarantined": written.rows}  # as the table counts them
        told = "bad records" if written.rows is None else f"{written.rows} bad record(s)"
        return Written(reason=f"{told} set aside in {path}", detail={**count, **written.detail})

    run.once(Node(name=node, kind="source", fingerprint=source.fingerprint), set_aside, target)
