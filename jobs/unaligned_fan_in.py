"""The unaligned fan-in: a day's cube from the hours that arrived, and what is missing (the book's section 3.2).

./spark-submit.sh jobs/unaligned_fan_in.py --config conf/unaligned_fan_in.yaml key=2013-01-02
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
