"""Kill the process with ``SIGKILL`` at a chosen point of a chosen node.

In Python: ``Run.open(..., observers=[crash_at("after_commit", "publish/lake")])``. For an unmodified job::

    ./spark-submit.sh spark_flow/testing/crash.py after_commit publish/lake jobs/daily_flights.py key=2013-01-02
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import threading
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
