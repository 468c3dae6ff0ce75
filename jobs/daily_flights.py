"""The main job: a day's flights, cleaned, enriched and aggregated by carrier and origin, written once.

./spark-submit.sh jobs/daily_flights.py key=2013-01-02

Its flow is on one page, ``conf/daily_flights.yaml``; its transforms are plain functions in ``flights.py``.
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
