"""The single runner: run the keys of a pipeline in order, one at a time (the book's section 5.1).

./spark-submit.sh jobs/single_runner.py 2013-01-01..2013-01-04

The default file, ``conf/single_runner.yaml``, computes a daily trend: each day is compared with the day before, which
must have succeeded. Any other job file works too: ``--config conf/daily_flights.yaml``.
"""

import sys
from collections.abc import Sequence

from spark_flow.cli import runner
from spark_flow.engine.outcome import Observer


def main(argv: Sequence[str] | None = None, *, observers: Sequence[Observer] = ()) -> int:
    """Run the keys; returns the exit code."""
    return runner.main(argv, job=__file__, kind="single", observers=observers)


if __name__ == "__main__":
    sys.exit(main())
