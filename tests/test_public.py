"""What users may rely on: the public names, and that the README's Python runs."""

import inspect
import re
from pathlib import Path

import pytest

import spark_flow as sf
from spark_flow import errors
from spark_flow.jobfile import load

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


@pytest.mark.spark
def test_the_readmes_python_runs(request, spark, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names = {}
    for block in blocks:
        path = tmp_path / f"block{len(names)}.py"  # a file: a step's fingerprint is made of its source
        path.write_text(block)
        exec(compile(block, str(path), "exec"), names)
    assert "written at version 0" in capsys.readouterr().out
    for name, test in names.items():
        if name.startswith("test_"):
            test(**{each: request.getfixturevalue(each) for each in inspect.signature(test).parameters})


def test_the_readmes_jobs_load(tmp_path, monkeypatch):
    monkeypatch.setenv("PRICES_URL", "jdbc:postgresql://db/shop")
    monkeypatch.syspath_prepend(ROOT / "jobs")
    (tmp_path / "steps.py").write_text("def with_price(frame, prices, rates): ...\n")
    (tmp_path / "billing.py").write_text("def order_report(*, idempotency_key, day): ...\n")
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    jobs = [block for block in blocks if block.startswith("pipeline:")]
    for at, block in enumerate(jobs):
        (tmp_path / f"{at}.yaml").write_text(block)
        assert load(tmp_path / f"{at}.yaml", ["key=2013-01-02"], beside=tmp_path).key == "2013-01-02"
    assert len(jobs) == 2


def test_an_error_copies_collections_and_keeps_objects_as_they_are():
    missing = ["05", "06"]
    late = errors.NotAllArrived("hours", missing, 19)
    missing.append("07")
    assert late.missing == ("05", "06")
    returned = errors.NotADataFrame("clean", [1, 2])
    assert (returned.found, "found list" in str(returned)) == ([1, 2], True)
