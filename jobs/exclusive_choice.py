"""The exclusive choice: write CSV or Delta, by date, by argument, or by schema (the book's section 4.2).

./spark-submit.sh jobs/exclusive_choice.py --config conf/exclusive_choice.yaml key=2013-01-02 --output-type delta
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
