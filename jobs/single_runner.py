"""The single runner: the keys of a pipeline one after another, never two at once (the book's section 5.1).

./spark-submit.sh jobs/single_runner.py 2013-01-01..2013-01-04

Its own file, ``conf/single_runner.yaml``, is a daily trend: each day against the day before, which must be there. Any
job's file can be run so: ``--config conf/daily_flights.yaml``.
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
