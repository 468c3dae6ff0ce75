"""What is said of any exception; the texts in ``error_texts`` are Spark 4.2's and deltalake's own, their stacks cut."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spark_flow.errors import BranchesFailed, ConfigError, NodeFailed, Problem, describe
from spark_flow.errors.trace import Line, users

TEXTS = Path(__file__).parent / "error_texts"


def captured(name: str) -> Exception:
    """An exception of the class and text that were captured."""
    kind, _, text = (TEXTS / f"{name}.txt").read_text().partition("\n")
    module, _, leaf = kind.rpartition(".")
    return type(leaf, (Exception,), {"__module__": module})(text)


SAID = {
    "udf_collect": ["ZeroDivisionError: integer division or modulo by zero (steps.py, line 7, in convert)"],
    "udf_delta": ["ZeroDivisionError: integer division or modulo by zero (steps.py, line 7, in convert)"],
    "udf_key": ["KeyError: 'EUR' (steps.py, line 5, in rate)"],
    "udf_multi": ["ValueError: first line | second line | third [id] line (steps.py, line 13, in multi)"],
    "notexted": ["ValueError (steps.py, line 34, in notext)"],
    "grouped": ["ExceptionGroup: two rows", "ValueError: bad a", "KeyError: 'EUR'", "line 30, in group"],
    "outed": ["Python worker exited unexpectedly"],
    "dfdiv": ["ArithmeticException: [DIVIDE_BY_ZERO]", "(steps.py, line 43)"],
    "oom": ["OutOfMemoryError: Java heap space", "spark.driver.memory"],
    "parquet_type": ["passenger_count", "INT64", "DOUBLE", "/data/in/month=01/part-00000"],
    "gzip_json": ["EOFException: Unexpected end of input stream", "file:///data/gz/a.json.gz", "deliver it again"],
    "cut_parquet_infer": ["is not a Parquet file", "/data/pq/part-00000", "deliver it again"],
    "checksum": ["ChecksumException: Checksum error: file:/data/pq/part-00000", ".crc"],
    "full_disk_delta": ["IOException: No space left on device", "writing to file:/data/tiny/y", "Free space"],
    "full_disk_deltalake": ["DeltaError", "No space left on device", "Free space"],
    "vacuumed": ["FileNotFoundException", "/data/vac/part-00000", "--rerun"],
    "delta_new_column": ["'extra' (integer)", "'other col' (string)", "schema: evolve"],
    "delta_type_nested": ["'s.a' is integer in the Delta table and string in the frame"],
    "unknown_column_sql": ["AnalysisException: [UNRESOLVED_COLUMN.WITH_SUGGESTION]", "`idd`", "Did you mean", "[`id`]"],
    "parse": ["ParseException: [PARSE_SYNTAX_ERROR] Syntax error at or near 'selekt'"],
    "cast_overflow": ["NumberFormatException: [CAST_INVALID_INPUT]", "cast('abc' as int))"],
    "check": ["DeltaInvariantViolationException", "CHECK constraint pos (p > 0)", "p : -1.0"],
    "dl_garbage": ["DeltaError: Kernel error: Json error: Encountered unexpected 'g' whilst parsing object"],
}


@pytest.mark.parametrize("name", SAID)
def test_the_cause_is_said(name):
    said = describe(captured(name))
    assert [part for part in SAID[name] if part not in said] == []


@pytest.mark.parametrize("name", sorted(path.stem for path in TEXTS.glob("*.txt")))
def test_nothing_of_a_stack_is_said(name):
    said = describe(captured(name))
    noise = ("calling o", "\tat ", ".scala:", "SQLSTATE", "Traceback", "<unknown>", "+- ", "worker.py", "\n")
    assert ([part for part in noise if part in said], len(said) <= 700) == ([], True)


def raised(function) -> BaseException:
    with pytest.raises(BaseException) as caught:
        function()
    return caught.value


def rate(code):
    return {"USD": 1.0}[code]


def test_an_error_of_the_driver_has_its_type_and_the_users_line():
    line = rate.__code__.co_firstlineno + 1
    assert describe(raised(lambda: rate("EUR"))) == f"KeyError: 'EUR' (test_cause.py, line {line}, in rate)"


def test_the_users_line_is_said_though_the_error_is_of_a_library():
    said = describe(raised(lambda: subprocess.run(["no-such-program"], check=True)))
    assert said.startswith("FileNotFoundError: [Errno 2] No such file or directory: 'no-such-program' (test_cause.py, ")


def test_the_cause_of_a_python_error_is_said():
    def chained():
        try:
            rate("EUR")
        except KeyError as error:
            raise RuntimeError("no rate") from error

    said = describe(raised(chained))
    assert (said.startswith("RuntimeError: no rate (test_cause.py"), "caused by KeyError: 'EUR'" in said) == (
        True,
        True,
    )


@pytest.mark.skipif(sys.version_info < (3, 11), reason="ExceptionGroup")
def test_each_of_a_group_is_said():
    said = describe(ExceptionGroup("rows", [ValueError("a"), KeyError("b")]))  # noqa: F821 - of 3.11
    assert said == "ExceptionGroup: rows (2 sub-exceptions): ValueError: a; KeyError: 'b'"


class _NoText(Exception):
    def __str__(self) -> str:
        raise ConnectionRefusedError  # as a Py4JJavaError whose JVM is gone


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError(), "ValueError"),
        (ValueError("my.pkg.Thing: bad"), "ValueError: my.pkg.Thing: bad"),
        (ValueError("a\n\n  b\n"), "ValueError: a | b"),
        (_NoText("An error"), "_NoText: An error"),
        (_NoText(), "_NoText"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_odd_texts(error, said):
    assert describe(error) == said


def test_the_error_of_another_process_is_said_without_its_stack():
    text = 'child failed\nTraceback (most recent call last):\n  File "/a/b.py", line 7, in f\n    x\nKeyError: 1'
    assert describe(RuntimeError(text)) == "RuntimeError: child failed KeyError: 1 (b.py, line 7, in f)"


def test_a_trace_of_spark_connect():
    text = "(org.apache.spark.SparkException) Job aborted due to stage failure: Task 0 in stage 1.0 failed\n\n"
    trace = (TEXTS / "gzip_json.txt").read_text().split("\n: ", 1)[1]
    error = type("SparkConnectGrpcException", (Exception,), {"__module__": "pyspark.errors.exceptions.connect"})
    said = describe(error(f"{text}JVM stacktrace:\n{trace}"))
    assert ("a.json.gz" in said, "EOFException" in said, "stacktrace" in said) == (True, True, False)


def test_an_error_of_spark_connect_whose_trace_has_no_message():
    text = "[UNRESOLVED_COLUMN] no column `nope`. SQLSTATE: 42703;\n'Project ['nope]\n+- LocalRelation [id#39]\n\n"
    trace = "org.apache.spark.sql.catalyst.ExtendedAnalysisException\n\tat org.apache.spark.X.y(X.scala:432)\n"
    fields = {"__module__": "pyspark.errors.exceptions.connect", "_stacktrace": trace}
    error = type("AnalysisException", (Exception,), fields)
    assert describe(error(f"{text}\nJVM stacktrace:\n{trace}")) == (
        "AnalysisException: [UNRESOLVED_COLUMN] no column `nope`."
    )


def test_a_lost_executor_is_said():
    text = (
        "An error occurred while calling o9.save.\n: org.apache.spark.SparkException: Job aborted due to stage "
        "failure: Task 3 in stage 1.0 failed 4 times, most recent failure: Lost task 3.3 in stage 1.0 (TID 9) "
        "(10.0.0.1 executor 2): ExecutorLostFailure (executor 2 exited caused by one of the running tasks) "
        "Reason: Container killed by YARN"
        "\nDriver stacktrace:\n\tat org.apache.spark.scheduler.DAGScheduler.x(DAGScheduler.scala:1)\n"
    )
    said = describe(type("Py4JJavaError", (Exception,), {"__module__": "py4j.protocol"})(text))
    assert ("ExecutorLostFailure" in said, "Container killed" in said, "spark.executor.memory" in said) == (True,) * 3


def test_our_own_errors_are_said_as_they_are():
    error = ConfigError("a.yaml", [Problem("flow[0]", "x", "y"), Problem("key", "z", "a date")])
    assert describe(error) == "a.yaml: 2 problem(s) | flow[0]: found x; expected y | key: found z; expected a date"


def test_a_line_for_each_branch_that_failed():
    failed = {f"{n:02}": NodeFailed(f"hours/{n:02}", captured("gzip_json")) for n in range(19)}
    lines = str(BranchesFailed("hours", failed, 19)).splitlines()
    assert (len(lines), all(len(line) < 320 for line in lines), lines[-1]) == (10, True, "  and 11 more")
    assert lines[1].startswith("  00: EOFException: ")


def test_the_line_is_the_innermost_of_the_users():
    library = Line("/env/lib/python3.11/site-packages/pyspark/sql/dataframe.py", 1, "f")
    standard = Line("/usr/lib/python3.11/json/decoder.py", 2, "g")
    installed = Line("/env/lib/python3.11/site-packages/team_steps/rates.py", 3, "h")
    own = Line("/home/spark_flow_jobs/rates.py", 4, "i")
    assert users([own, installed, library]) == own
    assert users([installed, library, standard]) == installed
    assert users([library, standard]) is None


@given(st.text())
def test_any_text_is_one_line_of_bounded_length(text):
    said = describe(ValueError(text * 100))
    assert (len(said.splitlines()), said.startswith("ValueError"), len(said) <= 2000) == (1, True, True)
