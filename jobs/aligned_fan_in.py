"""The aligned fan-in: merge hourly flights into a day, then join weather, planes and airlines (the book's section 3.1).

./spark-submit.sh jobs/aligned_fan_in.py --config conf/aligned_fan_in.yaml key=2013-01-02
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
