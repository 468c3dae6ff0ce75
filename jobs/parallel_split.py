"""The parallel split: write a day's flights to two Delta tables and to CSV (the book's section 4.1).

./spark-submit.sh jobs/parallel_split.py --config conf/parallel_split.yaml key=2013-01-02
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
