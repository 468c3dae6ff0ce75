"""The main job: clean, enrich and aggregate a day's flights by carrier and origin.

./spark-submit.sh jobs/daily_flights.py key=2013-01-02

The flow is in ``conf/daily_flights.yaml``; the transforms are plain functions in ``flights.py``.
"""

import sys
from collections.abc import Sequence

from spark_flow.cli import job
from spark_flow.engine.outcome import Observer


def main(argv: Sequence[str] | None = None, *, observers: Sequence[Observer] = ()) -> int:
    """Run the job; returns its exit code."""
    return job.main(argv, job=__file__, observers=observers)


if __name__ == "__main__":
    sys.exit(main())
