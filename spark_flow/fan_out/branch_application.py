"""Run a branch of a split as a separate Spark application: its own spark-submit, with its own resources.

Only the parent writes the ledger. It passes the work and the intent to the child, waits, and records the child's
report. If the parent dies after the child has committed, the retry recognises the commit, as for any other write.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import sys
import zlib
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_flow.core import fingerprint
from spark_flow.core.secrets import resolved
from spark_flow.engine.lazy_frame import Checkpoint, LazyFrame
from spark_flow.errors import ApplicationFailed, DamagedFile, describe
from spark_flow.spark import submit
from spark_flow.spark.session import end_with, session
from spark_flow.storage import checkpoints, files
from spark_flow.storage.delta import DeltaSink
from spark_flow.storage.sink_protocol import Intent, Written
from spark_flow.storage.stores import scheme_of, spark_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from spark_flow.engine.run import Run
    from spark_flow.sequence import Step
    from spark_flow.storage.sink_protocol import Sink

WORK, REPORT = "work.pickle", "report.json"
_PASSED_ON = (  # of an application on a cluster to those of its branches: where Delta's classes come from
    "spark.jars",
    "spark.jars.packages",
    "spark.jars.ivySettings",
    "spark.sql.extensions",
    "spark.sql.catalog.spark_catalog",
)


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work of a child application.

    Attributes:
        state: The state folder; ``shared`` and ``frames`` are checkpoints in it.
        shared: The shared frame.
        transform: Applied to the shared frame; None to write it unchanged.
        arguments: The transform's arguments other than frames.
        frames: The transform's arguments that are frames.
        sink: The sink to write the result to.
        intent: The parent's intent, without its observers.
        settings: Names of the branch's Spark settings; the child reports their actual values.
        conf: The SQL settings of the parent's session, so that functions return the same rows in the child.
    """

    state: str
    shared: Mapping[str, Any]
    transform: Callable[..., DataFrame] | None
    arguments: Mapping[str, Any]
    frames: Mapping[str, Mapping[str, Any]]
    sink: Sink
    intent: Intent
    settings: Sequence[str]
    conf: Mapping[str, str]


def run_apart(
    run: Run, intent: Intent, shared: LazyFrame, transform: Step | None, sink: Sink, settings: Mapping[str, str]
) -> Written:
    """Run a branch as a separate application, and wait for it.

    Raises:
        ApplicationFailed: The application failed; the message contains its error.
    """
    from pyspark import cloudpickle

    arguments = transform.arguments if transform else {}
    frames = {name: _checkpoint(run, f"{intent.node}/{name}", f) for name, f in arguments.items() if _is_frame(f)}
    work = Work(
        state=files.absolute(run.state),
        shared=_recorded(run, shared.node),
        transform=transform.transform if transform else None,
        arguments={name: value for name, value in arguments.items() if name not in frames},
        frames=frames,
        sink=sink,
        intent=dataclasses.replace(intent, mark=_unobserved, only_writer=nullcontext),
        settings=tuple(settings),
        conf={key: value for key, value in run.spark.conf.getAll.items() if key.startswith("spark.sql.")},
    )
    folder = files.join(handover(run), intent.node)
    try:
        content = cloudpickle.dumps(work)  # type: ignore[no-untyped-call]
        files.write_bytes(files.join(folder, WORK), zlib.crc32(content).to_bytes(4, "big") + content)
        intent.mark("before_commit")
        schemes = {scheme_of(path) for path in (folder, *sink.paths)}
        is_table = isinstance(sink, DeltaSink) and sink.path
        with intent.only_writer(sink.paths[0]) if is_table else nullcontext():  # held here while it writes there
            ending = _submit(run.spark, folder, f"{run.pipeline} {run.key} {intent.node}", settings, schemes)
        report = _report(folder)
        intent.mark("after_commit")
    finally:
        files.remove(folder)
    if "error" in report or not report:
        raise ApplicationFailed(intent.node, report.get("error") or f"it wrote no report; {ending}")
    return Written(rows=report["rows"], reason=report["reason"], detail=report["detail"])


def handover(run: Run) -> str:
    """Return the folder that holds the work of a run's child applications while they run."""
    return files.join(files.absolute(run.state), "handover", run.pipeline, run.key)


def _is_frame(value: object) -> bool:
    return isinstance(value, LazyFrame)


def _checkpoint(run: Run, node: str, frame: LazyFrame) -> Mapping[str, Any]:
    digest = fingerprint.combine("handover", frame.fingerprint)
    return Checkpoint(run, node, "step", digest, (frame,), lambda: frame.frame).ensure().detail


def _recorded(run: Run, node: str) -> Mapping[str, Any]:
    outcome = run.outcome(node)
    if outcome is None:
        raise AssertionError(f"{node} must have a checkpoint before its branches run")
    return outcome.detail


def _unobserved(_: str) -> None:
    """Do nothing: observers are called in the parent only."""


def _submit(spark: SparkSession, folder: str, name: str, settings: Mapping[str, str], schemes: Collection[str]) -> str:
    """Run this module with spark-submit; return a description of how it ended.

    Under a local master it gets our local settings; elsewhere the libraries of this application.
    """
    master = str(spark.conf.get("spark.master", "local[*]"))
    program = [__file__, folder, str(os.getpid())]
    on_cluster = {} if master.startswith("local") else {n: v for n, v in spark.conf.getAll.items() if n in _PASSED_ON}
    conf = {**on_cluster, **spark_settings(schemes), **resolved(dict(settings))}
    return submit.last_words(submit.run(submit.command(program, name=name, master=master, conf=conf, schemes=schemes)))


def _report(folder: str) -> dict[str, Any]:
    try:
        report = files.read_json(files.join(folder, REPORT))
    except FileNotFoundError:
        return {}
    except DamagedFile as damaged:
        return {"error": str(damaged)}
    whole = "error" in report or {"rows", "reason", "detail"} <= set(report)
    return report if whole else {"error": f"{files.join(folder, REPORT)} has no rows, reason or detail"}


# --------------------------------------------------------------------------------------------- the child


def main(folder: str, parent: int) -> int:
    """Read the work from a folder, do it, and write a report to the folder; return the exit code."""
    end_with(parent)
    try:
        report = _perform(_work(folder))
    except (Exception, SystemExit) as error:  # a transform may call sys.exit
        report = {"error": describe(error)}
    files.write_json(files.join(folder, REPORT), report)
    return 1 if "error" in report else 0


def _work(folder: str) -> Work:
    """Read the work that the parent has written.

    Raises:
        DamagedFile: Its checksum does not match.
    """
    path = files.join(folder, WORK)
    content = files.read_bytes(path)
    if zlib.crc32(content[4:]).to_bytes(4, "big") != content[:4] or len(content) <= 4:  # noqa: PLR2004 - the checksum
        raise DamagedFile(path, f"{len(content)} bytes with a wrong checksum", "Run the same command again.")
    work: Work = pickle.loads(content[4:])  # noqa: S301 - from our own state folder
    return work


def _perform(work: Work) -> dict[str, Any]:
    spark = session(work.intent.node)
    try:
        for key, value in work.conf.items():
            if key not in work.settings and spark.conf.isModifiable(key):
                spark.conf.set(key, value)
        return _do(spark, work)
    finally:
        spark.stop()


def _do(spark: SparkSession, work: Work) -> dict[str, Any]:
    frame = checkpoints.read(spark, work.state, [work.shared])
    if work.transform is not None:
        frames = {name: checkpoints.read(spark, work.state, [detail]) for name, detail in work.frames.items()}
        frame = work.transform(frame, **resolved(work.arguments), **frames)
    written = work.sink.write(frame, work.intent)
    application = str(spark.conf.get("spark.app.id"))
    settings = {name: spark.conf.get(name, None) for name in work.settings}
    detail = {**written.detail, "application": application, "settings": settings}
    return {"rows": written.rows, "reason": f"{written.reason} by {application}", "detail": detail}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
