"""What users may rely on: the public names, and the tree of errors."""

import inspect
import re
from pathlib import Path

import spark_flow as sf
from spark_flow import errors

ROOT = Path(__file__).parent.parent


def test_the_public_names():
    assert sorted(sf.__all__) == [
        "Calendar",
        "Choice",
        "Completeness",
        "ConcurrentRunner",
        "Condition",
        "Consumer",
        "FanIn",
        "Handover",
        "LazyFrame",
        "Limits",
        "Mode",
        "Outcome",
        "Permission",
        "Pipeline",
        "Polling",
        "Rule",
        "Run",
        "SingleRunner",
        "Slots",
        "Source",
        "Step",
        "Transaction",
        "Wait",
        "aligned_fan_in",
        "all_done",
        "all_succeeded",
        "announcing",
        "any_succeeded",
        "at_least",
        "by_data",
        "by_date",
        "by_parameter",
        "by_schema",
        "by_share",
        "call",
        "consumer",
        "csv",
        "daily",
        "delta",
        "emit_lineage",
        "error_table",
        "exclusive_choice",
        "expect",
        "expose",
        "holds",
        "hourly",
        "hours_of_day",
        "join_all",
        "json",
        "last_days",
        "listed",
        "local_sequencer",
        "parallel_split",
        "parquet",
        "pipe",
        "pipeline",
        "progress",
        "publish",
        "read",
        "read_transaction",
        "report_completeness",
        "row_count",
        "same_key",
        "sink",
        "source",
        "split_batch",
        "sql",
        "staged",
        "step",
        "transaction",
        "trigger",
        "unaligned_fan_in",
        "union_by_name",
        "unique",
        "wait_for",
        "with_completeness",
        "write",
    ]


def test_every_public_name_is_documented():
    assert [name for name in sf.__all__ if not inspect.getdoc(getattr(sf, name))] == []


def test_the_tree_of_errors_is_drawn_whole():
    classes = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, errors.SparkFlowError)]
    assert [c.__name__ for c in classes if c.__name__ not in (errors.__doc__ or "")] == []


def test_public_dataframe_api_only():
    """No JVM objects, RDDs or SparkContext: all of it works on Spark Connect."""
    text = "\n".join(p.read_text() for folder in ("spark_flow", "jobs") for p in (ROOT / folder).rglob("*.py"))
    assert re.findall(r"\._jvm|\._jdf|\.sparkContext|\.rdd\b|DeltaTable\.forPath", text) == []


def test_no_read_that_aborts_a_process_at_its_exit():
    """See ``storage.delta_tables.query``: ``spark-flow status`` ended with 134, two times of 25."""
    text = "\n".join(p.read_text() for p in (ROOT / "spark_flow").rglob("*.py"))
    assert re.findall(r"\.to_pyarrow_(?:table|dataset)\(", text) == []


def test_an_error_copies_collections_and_keeps_objects_as_they_are():
    missing = ["05", "06"]
    late = errors.NotAllArrived("hours", missing, 19)
    missing.append("07")
    assert late.missing == ("05", "06")
    returned = errors.NotADataFrame("clean", [1, 2])
    assert (returned.found, "found list" in str(returned)) == ([1, 2], True)
