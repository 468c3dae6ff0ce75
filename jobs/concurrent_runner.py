"""The concurrent runner: keys of a pipeline side by side (the book's section 5.2).

./spark-submit.sh jobs/concurrent_runner.py 2013-01-01..2013-01-04

Its own file, ``conf/concurrent_runner.yaml``, loads days that do not depend on each other. Any job's file can be run
so, if its runs share nothing: ``--config conf/daily_flights.yaml``.
"""

import sys
from collections.abc import Sequence

from spark_flow.cli import runner
from spark_flow.engine.outcome import Observer


def main(argv: Sequence[str] | None = None, *, observers: Sequence[Observer] = ()) -> int:
    """Run the keys; returns the exit code."""
    return runner.main(argv, job=__file__, kind="concurrent", observers=observers)


if __name__ == "__main__":
    sys.exit(main())
