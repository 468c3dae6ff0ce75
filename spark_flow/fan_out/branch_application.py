"""A branch of a split as an application of its own: its own spark-submit, with its own resources.

The parent keeps the ledger: it gives the child what to do under the parent's intent, waits, and records what the
child reports. What a child has committed when the parent dies is recognised by the retry, as for any write.
"""

from __future__ import annotations

import dataclasses
import os
import pickle
import sys
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spark_flow.core import fingerprint
from spark_flow.core.secrets import resolved
from spark_flow.engine.lazy_frame import Bounded, LazyFrame
from spark_flow.errors import ApplicationFailed, DamagedFile, describe
from spark_flow.spark import submit
from spark_flow.spark.session import end_with, session
from spark_flow.storage import boundaries, files
from spark_flow.storage.sink_protocol import Intent, Written

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import DataFrame, SparkSession

    from spark_flow.engine.run import Run
    from spark_flow.sequence import Step
    from spark_flow.storage.sink_protocol import Sink

WORK, REPORT = "work.pickle", "report.json"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a child does.

    Attributes:
        state: The state folder; ``shared`` and ``frames`` are boundaries in it.
        shared: The shared frame.
        transform: Done with the shared frame, if there is anything to do.
        arguments: The transform's plain arguments.
        frames: Its arguments that are frames.
        sink: Where the result goes.
        intent: The parent's, without its observers.
        settings: Spark settings of the branch, to report as the application has them.
        conf: The SQL settings of the parent's session, so that the same functions give the same rows.
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


def settle_apart(
    run: Run, intent: Intent, shared: LazyFrame, transform: Step | None, sink: Sink, settings: Mapping[str, str]
) -> Written:
    """Have a branch done by an application of its own, and wait for it.

    Raises:
        ApplicationFailed: It did not end well; its own error is told.
    """
    from pyspark import cloudpickle

    arguments = transform.arguments if transform else {}
    frames = {name: _boundary(run, f"{intent.node}/{name}", f) for name, f in arguments.items() if _is_frame(f)}
    work = Work(
        state=files.absolute(run.state),
        shared=_recorded(run, shared.node),
        transform=transform.transform if transform else None,
        arguments={name: value for name, value in arguments.items() if name not in frames},
        frames=frames,
        sink=sink,
        intent=dataclasses.replace(intent, mark=_unobserved),
        settings=tuple(settings),
        conf={key: value for key, value in run.spark.conf.getAll.items() if key.startswith("spark.sql.")},
    )
    folder = files.join(handover(run), intent.node)
    try:
        content = cloudpickle.dumps(work)  # type: ignore[no-untyped-call]
        files.write_bytes(files.join(folder, WORK), zlib.crc32(content).to_bytes(4, "big") + content)
        intent.mark("before_commit")
        said = _submit(run.spark, folder, f"{run.pipeline} {run.key} {intent.node}", settings)
        report = _report(folder)
        intent.mark("after_commit")
    finally:
        files.remove(folder)
    if "error" in report or not report:
        raise ApplicationFailed(intent.node, report.get("error") or f"it left no report; {said}")
    return Written(rows=report["rows"], reason=report["reason"], detail=report["detail"])


def handover(run: Run) -> str:
    """Where a run's work for applications lies while they are at it."""
    return files.join(files.absolute(run.state), "handover", run.pipeline, run.key)


def _is_frame(value: object) -> bool:
    return isinstance(value, LazyFrame)


def _boundary(run: Run, node: str, frame: LazyFrame) -> Mapping[str, Any]:
    made_of = fingerprint.combine("handover", frame.fingerprint)
    return Bounded(run, node, "step", made_of, (frame,), lambda: frame.frame).settle().detail


def _recorded(run: Run, node: str) -> Mapping[str, Any]:
    outcome = run.outcome(node)
    if outcome is None:
        raise AssertionError(f"{node} is settled before its branches are")
    return outcome.detail


def _unobserved(_: str) -> None:
    """Observers stay in the parent."""


def _submit(spark: SparkSession, folder: str, name: str, settings: Mapping[str, str]) -> str:
    """Run this module under spark-submit; returns how it ended, in words."""
    master = str(spark.conf.get("spark.master", "local[*]"))
    program = [__file__, folder, str(os.getpid())]
    return submit.last_words(
        submit.run(submit.command(program, name=name, master=master, conf=resolved(dict(settings))))
    )


def _report(folder: str) -> dict[str, Any]:
    try:
        report = files.read_json(files.join(folder, REPORT))
    except FileNotFoundError:
        return {}
    except DamagedFile as damaged:
        return {"error": str(damaged)}
    whole = "error" in report or {"rows", "reason", "detail"} <= set(report)
    return report if whole else {"error": f"{files.join(folder, REPORT)} lacks what was done"}


# --------------------------------------------------------------------------------------------- the child


def main(folder: str, parent: int) -> int:
    """Do the work that a parent left in a folder, and leave a report there; returns the exit code."""
    end_with(parent)
    try:
        report = _perform(_work(folder))
    except (Exception, SystemExit) as error:  # a transform may call sys.exit
        report = {"error": describe(error)}
    files.write_json(files.join(folder, REPORT), report)
    return 1 if "error" in report else 0


def _work(folder: str) -> Work:
    """What the parent has left.

    Raises:
        DamagedFile: It is not what was written.
    """
    path = files.join(folder, WORK)
    content = files.read_bytes(path)
    if zlib.crc32(content[4:]).to_bytes(4, "big") != content[:4] or len(content) <= 4:  # noqa: PLR2004 - the checksum
        raise DamagedFile(path, f"{len(content)} bytes of another content", "Run the same command again.")
    work: Work = pickle.loads(content[4:])  # noqa: S301 - of our own state folder
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
    frame = boundaries.read(spark, work.state, [work.shared])
    if work.transform is not None:
        frames = {name: boundaries.read(spark, work.state, [detail]) for name, detail in work.frames.items()}
        frame = work.transform(frame, **resolved(work.arguments), **frames)
    written = work.sink.write(frame, work.intent)
    application = str(spark.conf.get("spark.app.id"))
    settings = {name: spark.conf.get(name, None) for name in work.settings}
    detail = {**written.detail, "application": application, "settings": settings}
    return {"rows": written.rows, "reason": f"{written.reason} by {application}", "detail": detail}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
