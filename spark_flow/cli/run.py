"""``spark-flow run``: a job's YAML file as the job, without a script; also what is submitted for such a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from spark_flow.cli import job
from spark_flow.cli import runner as runners
from spark_flow.spark.session import ensure_archive
from spark_flow.spark.submit import is_yaml
from spark_flow.view.text import say

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "usage: spark-flow run JOB.yaml key=2013-01-02 [NAME=VALUE]... [OPTIONS]; --help lists the options"
USAGE_OF_KEYS = "usage: spark-flow {}-runner JOB.yaml [2013-01-01..2013-01-04] [NAME=VALUE]... [OPTIONS]"


def main(argv: Sequence[str] | None = None, *, runner: Literal["single", "concurrent"] | None = None) -> int:
    """Run a job's file for one key, or by a runner for several; returns the exit code, as ``job.main`` does.

    Args:
        argv: The YAML file, and the arguments of a job: ``key=2013-01-02``, ``--plan``, ...
        runner: The runner, whose arguments are keys and ranges: ``2013-01-01..2013-01-04``.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["--help"]:
        words = ["JOB.yaml", "--help"]
    if not words or not is_yaml(words[0]):
        say(USAGE if runner is None else USAGE_OF_KEYS.format(runner), err=True)
        return 2
    served = os.environ.get("SPARK_REMOTE") or any(word.startswith("--remote") for word in words)
    if Path(words[0]).is_file() and not served:  # a missing file is an error at once, a server has a JVM of its own
        ensure_archive()
    if runner is not None:
        return runners.main(words[1:], job=words[0], kind=runner)
    return job.main(words[1:], job=words[0])


if __name__ == "__main__":
    sys.exit(main())
