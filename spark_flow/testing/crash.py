"""Crash a run at the points of its nodes: by ``SIGKILL``, or by an image of the disk that a kill would leave.

In Python: ``Run.open(..., observers=[crash_at("after_commit", "publish/lake")])``. For an unmodified job::

    ./spark-submit.sh spark_flow/testing/crash.py after_commit publish/lake jobs/daily_flights.py key=2013-01-02

``CrashImages`` tries every point of every node in one process, without starting Java again for each.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spark_flow.engine.outcome import Observer, Outcome

POINTS = ("before_action", "during_action", "before_commit", "after_commit", "before_event", "after_event")
"""The points of a node, in order: before its action, ``DURING`` seconds into it, before and after its files are renamed
or its commit is made, before and after its event is recorded."""

DURING = 0.2
NEVER_CAME = 70


def crash_at(point: str, node: str) -> Observer:
    """Return an observer that kills this process when a node reaches a point.

    Raises:
        ValueError: The point is not one of ``POINTS``.
    """
    if point not in POINTS:
        raise ValueError(f"unknown point {point!r}, expected one of: {', '.join(POINTS)}")

    def crash(at: str, where: str, _: Outcome | None) -> None:
        if where == node and point == "during_action" and at == "before_action":
            threading.Timer(DURING, _kill).start()
        elif (at, where) == (point, node):
            _kill()

    return crash


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Image:
    """A copy of a folder, taken when a node reached a point."""

    point: str
    node: str
    folder: Path
    copy: Path

    def restore(self) -> None:
        """Put the folder back as it was; Delta's cached snapshots of this process are dropped, as a kill would."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.copy, self.folder)
        _forget_delta_snapshots()


@dataclass
class CrashImages:
    """An observer that copies a folder at each point of each node: what ``SIGKILL`` there would leave on disk.

    Run one branch at a time (``max_in_flight=1``): a copy that is taken while another thread writes is no state that
    the disk ever had. A point whose disk equals the one before is left out.

    Args:
        folder: Holds all that the run writes: state, tables, files.
        into: A folder for the copies, which need not exist.

    Example::

        images = CrashImages(folder=work, into=tmp_path)
        run_flow(observers=[images])
        for image in images.taken:
            image.restore()
            run_flow()  # the same command again
            assert rows() == expected, image

    See Also:
        crash_at: A real kill, of a process of its own.
    """

    folder: Path
    into: Path
    taken: list[Image] = field(default_factory=list, init=False)
    _seen: object = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __call__(self, point: str, node: str, _: Outcome | None) -> None:
        """Copy the folder, if it has changed since the last point."""
        with self._lock:
            files = {path: path.stat() for path in self.folder.rglob("*") if path.is_file()}
            seen = {path: (found.st_size, found.st_mtime_ns, found.st_ino) for path, found in files.items()}
            if not seen or seen == self._seen:
                return
            self._seen = seen
            copy = self.into / f"{len(self.taken):03d}"
            shutil.copytree(self.folder, copy)
            self.taken.append(Image(point, node, self.folder, copy))


def _forget_delta_snapshots() -> None:
    from py4j.java_gateway import JavaClass

    from spark_flow.spark.session import existing

    java = getattr(existing(), "_jvm", None)  # Spark Connect has none
    if java is not None and isinstance(log := java.org.apache.spark.sql.delta.DeltaLog, JavaClass):
        log.clearCache()  # else a session without Delta's classes


def main(argv: Sequence[str]) -> int:
    """Run a job's file with a crash: ``POINT NODE JOB [ARGUMENT]...``; return 70 if the point was not reached."""
    point, node, job, *arguments = argv
    sys.path.insert(0, str(Path(job).resolve().parent))
    spec = importlib.util.spec_from_file_location("job_to_crash", job)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(job)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    code = module.main(arguments, observers=[crash_at(point, node)])
    print(f"crash.py: {node} never reached {point}; the job ended with exit code {code}", file=sys.stderr)  # noqa: T201
    return NEVER_CAME


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
