"""Fan-ins in a YAML file: what may be written, and how a slip is told."""

import pytest

from spark_flow.errors import ConfigError
from spark_flow.jobfile import load

HEAD = """
pipeline: p
key: k
sources:
  hourly: {format: json, path: "d/{branch}"}
  named: {format: json, path: "d/{branch}", branches: ["a", "b"]}
  plain: {format: json, path: d}
  other: {format: json, path: e}
flow:
"""
TAIL = "  - write: {name: w, format: csv, path: x}\n"


@pytest.fixture
def job(tmp_path):
    def read(*entries, tail=TAIL):
        (tmp_path / "job.yaml").write_text(HEAD + "".join(f"  - {entry}\n" for entry in entries) + tail)
        return load(tmp_path / "job.yaml")

    return read


def test_branches_of_a_fan_in_and_of_its_source(job):
    config = job(
        'unaligned_fan_in: {name: a, source: hourly, branches: "05..07", require: at_least(0.5)}',
        "aligned_fan_in: {name: b, source: named}",
        "aligned_fan_in: {name: c, sources: [plain, other], join: {using: id}}",
        "aligned_fan_in: {name: d, sources: [plain, other]}",
    )
    assert config.branch_nodes() == [
        *("a", "a/05", "a/06", "a/07"),
        *("b", "b/a", "b/b"),
        *("c", "c/frame", "c/plain", "c/other"),
        *("d", "d/plain", "d/other"),
    ]


def test_a_join_that_comes_first_takes_its_sources_only(job):
    assert job("aligned_fan_in: {name: c, sources: [plain, other], join: {using: id}}").branch_nodes() == [
        *("c", "c/plain", "c/other")
    ]


def test_a_join_as_join_all_takes_it(job):
    config = job("aligned_fan_in: {name: c, sources: [plain], join: {using: {plain: [a, b]}, how: left}}")
    assert config.flow[0].join.arguments == {
        "on": {"plain": ("a", "b")},
        "how": "left",
        "clash": "refuse",
        "allow_duplicates": False,
    }


@pytest.mark.parametrize("written", ["own:function", "{run: own:function}"])
def test_a_fallback_may_be_written_short(job, tmp_path, written, monkeypatch):
    (tmp_path / "own.py").write_text("def function(completeness):\n    return None\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = f"unaligned_fan_in: {{name: a, source: named, require: all_done, on_all_failed: '{written}'}}"
    config = job(entry.replace("'{", "{").replace("}'", "}"))
    assert config.flow[0].on_all_failed.run == "own:function"


@pytest.mark.parametrize(
    ("entry", "path", "tells"),
    [
        ("aligned_fan_in: {name: a}", "flow[0].aligned_fan_in.sources", "neither"),
        ("aligned_fan_in: {name: a, source: named, sources: [plain]}", "flow[0].aligned_fan_in.sources", "both"),
        ("aligned_fan_in: {source: named}", "flow[0].aligned_fan_in.name", "nothing"),
        ("aligned_fan_in: {name: a/b, source: named}", "flow[0].aligned_fan_in.name", "a/b"),
        ("aligned_fan_in: {name: a, source: hourli}", "flow[0].aligned_fan_in.source", "'hourly'"),
        ("aligned_fan_in: {name: a, source: hourly}", "flow[0].aligned_fan_in.branches", "the branches of"),
        ('aligned_fan_in: {name: a, source: named, branches: "1..2"}', "flow[0].aligned_fan_in.branches", "one place"),
        ('aligned_fan_in: {name: a, source: plain, branches: "1..2"}', "flow[0].aligned_fan_in.branches", "{branch}"),
        ("aligned_fan_in: {name: a, source: hourly, branches: [a/b]}", "flow[0].aligned_fan_in.branches", "a/b"),
        ("aligned_fan_in: {name: a, source: hourly, branches: [..]}", "flow[0].aligned_fan_in.branches", "'..'"),
        ("aligned_fan_in: {name: a, source: hourly, branches: [a, a]}", "flow[0].aligned_fan_in.branches", "twice"),
        ("aligned_fan_in: {name: a, source: hourly, branches: []}", "flow[0].aligned_fan_in.branches", "range"),
        ("aligned_fan_in: {name: a, sources: [hourly, plain]}", "flow[0].aligned_fan_in", "hourly"),
        ("aligned_fan_in: {name: a, sources: [plain, plain]}", "flow[0].aligned_fan_in.sources", "twice"),
        ("aligned_fan_in: {name: a, source: named, max_in_flight: 0}", "flow[0].aligned_fan_in.max_in_flight", "1"),
        ("aligned_fan_in: {name: a, source: named, on_failure: go}", "flow[0].aligned_fan_in.on_failure", "finish"),
        ("aligned_fan_in: {name: a, source: named, join: {using: x}}", "flow[0].aligned_fan_in.join", "sources"),
        ("aligned_fan_in: {name: a, sources: [plain], join: {usng: x}}", "flow[0].aligned_fan_in.join.usng", "using"),
        ("aligned_fan_in: {name: a, source: named, require: all_done}", "flow[0].aligned_fan_in.require", "name"),
        ("unaligned_fan_in: {name: a, source: named}", "flow[0].unaligned_fan_in.require", "a value"),
        ("unaligned_fan_in: {name: a, source: named, require: half}", "flow[0].unaligned_fan_in.require", "at_least"),
        ("unaligned_fan_in: {name: a, source: named, require: at_least(1.5)}", "flow[0].unaligned_fan_in.require", "("),
        (
            "unaligned_fan_in: {name: a, source: named, require: all_done, on_all_failed: {source: plain, run: x:y}}",
            "flow[0].unaligned_fan_in.on_all_failed.run",
            "x",
        ),
        (
            "unaligned_fan_in: {name: a, source: named, require: all_done, on_all_failed: {}}",
            "flow[0].unaligned_fan_in.on_all_failed.error_table",
            "exactly one",
        ),
    ],
)
def test_what_is_wrong_with_a_fan_in(job, entry, path, tells):
    with pytest.raises(ConfigError) as error:
        job(entry)
    problems = {problem.path: str(problem) for problem in error.value.problems}
    assert path in problems
    assert tells in problems[path]


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ("with_completeness: is_approximate", "flow[1].with_completeness"),
        ("report_completeness: {dataset: d, table: t}", "flow[1].report_completeness"),
    ],
)
def test_completeness_needs_a_fan_in_before(job, entry, path):
    with pytest.raises(ConfigError) as error:
        job("read: plain", entry)
    assert [problem.path for problem in error.value.problems] == [path]


def test_an_address_in_the_file_is_refused_and_not_repeated(job):
    fan_in = "unaligned_fan_in: {name: a, source: named, require: all_done}"
    with pytest.raises(ConfigError) as error:
        job(fan_in, "report_completeness: {dataset: d, table: t, notify: 'json://u:secret@h/'}")
    assert "secret" not in str(error.value)
    assert error.value.problems[0].path == "flow[1].report_completeness.notify"


def test_staging_in_the_same_place_is_refused(job):
    with pytest.raises(ConfigError, match="staging"):
        job("read: plain", tail="  - write: {name: w, format: csv, path: x, staging: x/}\n")
