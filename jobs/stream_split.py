"""The parallel split of a stream: write new files to two Delta tables, each row exactly once per table.

./spark-submit.sh jobs/stream_split.py --config conf/stream_split.yaml
"""

import sys
from collections.abc import Sequence

from spark_flow.cli import stream


def main(argv: Sequence[str] | None = None) -> int:
    """Run the stream; returns its exit code."""
    return stream.main(argv, job=__file__)


if __name__ == "__main__":
    sys.exit(main())
