"""An hour of flights, a run of its own; `flights_of_day` merges the hours of a day (the book's section 3.2).

./spark-submit.sh jobs/flights_by_hour.py --config conf/flights_by_hour.yaml key=2013-01-02T05
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
