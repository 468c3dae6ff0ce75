"""The concurrent runner: run several keys of a pipeline in parallel (the book's section 5.2).

./spark-submit.sh jobs/concurrent_runner.py 2013-01-01..2013-01-04

The default file, ``conf/concurrent_runner.yaml``, loads days that do not depend on each other. Any other job file works
too if its runs are independent: ``--config conf/daily_flights.yaml``.
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
