"""The isolated sequencer, provider: load a day's hours and publish a marker (the book's section 2.2).

./spark-submit.sh jobs/isolated_provider.py --config conf/isolated_provider.yaml key=2013-01-02
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
