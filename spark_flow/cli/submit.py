"""``spark-flow submit``: a program, or a job's YAML file, under spark-submit with our settings below the user's.

``python -m spark_flow.cli.submit`` is the same.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from spark_flow import jobfile
from spark_flow.cli import run
from spark_flow.errors import InvalidArgument, SparkFlowError
from spark_flow.jobfile.model.fields import texts
from spark_flow.spark import options
from spark_flow.spark.session import LOGGING
from spark_flow.spark.submit import is_yaml
from spark_flow.view import logs
from spark_flow.view.text import say

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = "usage: spark-flow submit [SPARK-SUBMIT'S OPTIONS] JOB.yaml|PROGRAM.py [ITS ARGUMENTS]"


def main(argv: Sequence[str] | None = None) -> int:
    """Replace this process by spark-submit; returns an exit code only if that is impossible.

    Args:
        argv: spark-submit's options, a job's YAML file or a program, and its arguments.
    """
    words = sys.argv[1:] if argv is None else argv
    if not words:
        say(USAGE, err=True)
        return 2
    try:
        given = options.parse(words)
        config = _config(given)
        if config is not None:
            given = options.parse([*_of_file(config, given), *words])
        ours = options.ours(given, schemes=config.schemes if config is not None else ())
    except SparkFlowError as error:
        say(f"spark-flow submit: {error}", err=True)
        return error.exit_code
    program = list(given.program)
    if program and is_yaml(program[0]):
        program = [run.__file__, *program]
    variables = {**os.environ, **ours.variables}
    if "--debug" in program:
        variables |= {logs.LEVEL: "info", logs.ABORTS: "NEUTRAL"}
    client = given.settings.get("spark.submit.deployMode", "client") == "client"
    if client and _uses_spark_flow(program) and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # Ctrl-C reaches the JVM and its child, the job. If the JVM ended by it, the job's output would end as well: so
        # it is left to the job, which records the interrupt and ends both. An ignored signal stays so after exec.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        variables[logs.SIGINT] = "job"
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and a child would
    command = [str(ours.home / "bin" / "spark-submit"), *ours.options, *given.options, *program]
    return os.execvpe(command[0], command, variables)  # noqa: S606 - that is what it is for


def _config(given: options.Given) -> jobfile.JobConfig | None:
    """A job's YAML file; ``None`` for another program, and if it is wrong, which the job reports."""
    if not given.program or not is_yaml(given.program[0]):
        return None
    file, *words = given.program
    overrides = [word for word in words if "=" in word and not word.startswith("-")]
    try:
        return jobfile.load(Path(file), overrides, beside=Path(file).resolve().parent)
    except SparkFlowError:
        return None


def _of_file(config: jobfile.JobConfig, given: options.Given) -> list[str]:
    """The settings ``spark:`` of a job's YAML file as options, unless the user gives them or they hold a secret."""
    own = {name: value for name, value in texts(config.spark).items() if name not in given.settings}
    return [part for name, value in own.items() if "${" not in value for part in ("--conf", f"{name}={value}")]


def shown(words: Sequence[str]) -> str:
    """Return our options, and those given, as one line for ``spark-submit $(...)``: no quotes, no blanks in values.

    Without a master among them, they hold for any: a master of ours would take precedence over one that is given to
    spark-submit before them. The class-data archive needs several Java options in one value, and is left out.

    Raises:
        InvalidArgument: A value has a blank.
        SparkFlowError: As ``options.ours`` does.
    """
    given = options.parse(words)
    printed = [*options.ours(given, default="").options, "--driver-java-options", LOGGING, *given.options]
    blank = next((word for word in printed if any(map(str.isspace, word))), None)
    if blank is not None:
        raise InvalidArgument("spark-options", f"{blank!r}, which has a blank", "no blanks; or use spark-flow submit")
    return " ".join(printed)


def _uses_spark_flow(program: Sequence[str]) -> bool:
    """Whether a program is a Python file that mentions spark_flow, and so handles Ctrl-C."""
    try:
        return bool(program) and program[0].endswith(".py") and b"spark_flow" in Path(program[0]).read_bytes()
    except OSError:
        return False  # spark-submit reports that it is missing


if __name__ == "__main__":
    sys.exit(main())
