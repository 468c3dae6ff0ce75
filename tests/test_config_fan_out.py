"""Splits, choices, parameters and streams in a YAML file: what may be written, and how a slip is told."""

import pytest

from spark_flow.errors import ConfigError
from spark_flow.jobfile import load, load_stream

HEAD = """
pipeline: p
key: k
parameters:
  kind: {values: [csv, delta], value: csv}
sources:
  plain: {format: json, path: d, schema: "a INT, b STRING"}
flow:
  - read: plain
"""


@pytest.fixture
def job(tmp_path):
    def read(*entries, overrides=()):
        (tmp_path / "job.yaml").write_text(HEAD + "".join(f"  - {entry}\n" for entry in entries))
        return load(tmp_path / "job.yaml", overrides)

    return read


SINKS = "{a: {format: csv, path: x}, b: {format: delta, path: y, partition_by: c}}"


def test_a_split_is_written_short_or_with_its_settings(job):
    short = job(f"parallel_split: {SINKS}").flow[1]
    long = job(f"parallel_split: {{sinks: {SINKS}}}").flow[1]
    assert short == long
    assert (short.nodes(), short.share, short.sinks["b"].partition_by) == (
        ("split", "a", "b"),
        "MEMORY_AND_DISK",
        ("c",),
    )


def test_a_split_may_stand_in_a_transaction(job):
    assert job(f"transaction: [parallel_split: {SINKS}]").flow[1].nodes()[2:] == ("publish/a", "publish/b")


def test_only_a_flow_with_delta_needs_its_jars(job):
    assert "delta" in job(f"parallel_split: {SINKS}").formats()
    assert "delta" not in job("parallel_split: {a: {format: csv, path: x}}").formats()


def test_a_road_to_csv_needs_no_jars_of_the_other_road(job):
    old = f"when: {{by_date: {{before: 2013-01-03}}}}, {W}"
    new = "when: {by_date: {since: 2013-01-03}}, flow: [write: {name: v, format: delta, path: y}]"
    both = f"{{old: {{{old}}}, new: {{{new}}}}}"
    config = job(choice(both))
    assert "delta" in config.formats()
    assert "delta" not in config.formats(["road/new"])


BY_DATE = "{old: {when: {by_date: {before: 2013-01-03}}, flow: [write: {name: w, format: csv, path: x}]}}"


def test_a_choice_and_the_date_that_yaml_reads(job):
    entry = job(f"exclusive_choice: {{name: road, routes: {BY_DATE}}}").flow[1]
    assert entry.routes["old"].when.by_date.before == "2013-01-03"
    assert entry.nodes() == ("road", "road/old", "w")


def choice(routes, **others):
    more = "".join(f", {name}: {value}" for name, value in others.items())
    return f"exclusive_choice: {{name: road, routes: {routes}{more}}}"


W = "flow: [write: {name: w, format: csv, path: x}]"


@pytest.mark.parametrize(
    ("entry", "path", "tells"),
    [
        ("parallel_split: {}", "flow[1].parallel_split.sinks", "at least one"),
        ("parallel_split: {a: {path: x}}", "flow[1].parallel_split.a.format", "one of"),
        ("parallel_split: {a: {format: csb, path: x}}", "flow[1].parallel_split.a.format", "'csv'"),
        ("parallel_split: {a: {format: csv, pth: x}}", "flow[1].parallel_split.a.pth", "'path'"),
        ("parallel_split: {sinks: {a: {format: csv, pth: x}}}", "flow[1].parallel_split.sinks.a.pth", "'path'"),
        ("parallel_split: {a/b: {format: csv, path: x}}", "flow[1].parallel_split.a/b", "letters"),
        (
            "parallel_split: {a: {format: csv, path: x, step: {sql: 'SELECT 1', name: s}}}",
            "flow[1].parallel_split.a.step.sql",
            "{frame}",
        ),
        (f"parallel_split: {{sinks: {SINKS}, share: RAM}}", "flow[1].parallel_split.share", "MEMORY_ONLY"),
        (f"parallel_split: {{sinks: {SINKS}, max_in_flight: 0}}", "flow[1].parallel_split.max_in_flight", "1 or more"),
        (
            "parallel_split: {sinks: {a: {format: csv, path: x, spark: {spark.driver.memory: 1g}}}}",
            "flow[1].parallel_split.mode",
            "intermediary",
        ),
        (choice("{}"), "flow[1].exclusive_choice.default", "no route"),
        (choice(f"{{a: {{{W}}}}}"), "flow[1].exclusive_choice.default", "without a condition"),
        (choice(f"{{a: {{{W}}}}}", default="b"), "flow[1].exclusive_choice.default", "'b'"),
        (choice("{a: {flow: []}}", default="a"), "flow[1].exclusive_choice.routes.a.flow", "at least one"),
        (choice(f"{{a: {{when: {{}}, {W}}}}}"), "flow[1].exclusive_choice.routes.a.when.by_data", "exactly one of"),
        (
            choice(f"{{a: {{when: {{by_date: {{before: soon}}}}, {W}}}}}"),
            "flow[1].exclusive_choice.routes.a.when.by_date.before",
            "2013-01-03",
        ),
        (
            choice(f"{{a: {{when: {{by_day: 1}}, {W}}}}}"),
            "flow[1].exclusive_choice.routes.a.when.by_day",
            "by_date",
        ),
        (
            choice(f"{{a: {{when: {{by_parameter: {{name: kinds, equals: csv}}}}, {W}}}}}"),
            "flow[1].exclusive_choice.routes.a.when.by_parameter.name",
            "'kind'",
        ),
        (
            choice(f"{{a: {{when: {{by_share: {{share: 2}}}}, {W}}}}}"),
            "flow[1].exclusive_choice.routes.a.when.by_share.share",
            "1",
        ),
    ],
)
def test_what_is_wrong_with_a_split_or_choice(job, entry, path, tells):
    with pytest.raises(ConfigError) as error:
        job(entry)
    problems = {problem.path: str(problem) for problem in error.value.problems}
    assert path in problems
    assert tells in problems[path]


def test_a_parameters_value_is_one_of_those_allowed(job):
    with pytest.raises(ConfigError, match="csv, delta"):
        job(f"parallel_split: {SINKS}", overrides=["parameters.kind.value=orc"])


STREAM = """
app_id: s
source: {format: json, path: d, schema: "a INT, b STRING"}
checkpoint: c
sinks: {a: {format: delta, path: x}}
"""


@pytest.fixture
def stream(tmp_path):
    def read(text):
        (tmp_path / "stream.yaml").write_text(text)
        return load_stream(tmp_path / "stream.yaml")

    return read


def test_a_stream(stream):
    assert (stream(STREAM).trigger, list(stream(STREAM).sinks)) == ("available_now", ["a"])


@pytest.mark.parametrize(
    ("old", "new", "path", "tells"),
    [
        ("format: delta", "format: csv", "sinks", "format delta"),
        (', schema: "a INT, b STRING"', "", "source", "a schema"),
        ("checkpoint", "chekpoint", "chekpoint", "'checkpoint'"),
        ("app_id: s", "app_id: a/b", "app_id", "letters"),
        ("{a: {format: delta, path: x}}", "{}", "sinks", "at least one"),
    ],
)
def test_what_is_wrong_with_a_stream(stream, old, new, path, tells):
    with pytest.raises(ConfigError) as error:
        stream(STREAM.replace(old, new))
    problems = {problem.path: str(problem) for problem in error.value.problems}
    assert path in problems
    assert tells in problems[path]
