"""Two nodes of one name, and two sinks of one path, are refused when a file is loaded: nothing is written before."""

import pytest

from spark_flow.errors import ConfigError
from spark_flow.jobfile import load

HEAD = """
pipeline: p
key: k
sources:
  in: {format: json, path: d, schema: "a INT"}
  more: {format: json, path: e, schema: "a INT"}
  hours: {format: json, path: "h/{branch}", branches: [f1, fallback], schema: "a INT"}
  frame: {format: json, path: g, schema: "a INT"}
flow:
  - read: in
"""
SQL = "sql: 'SELECT * FROM {frame}'"


@pytest.fixture
def problems(tmp_path):
    """What is wrong with a flow, by its place; nothing if it may be run."""

    def read(*entries, head=HEAD):
        (tmp_path / "job.yaml").write_text(head + "".join(f"  - {entry}\n" for entry in entries))
        try:
            load(tmp_path / "job.yaml")
        except ConfigError as error:
            return {problem.path: problem for problem in error.problems}
        return {}

    return read


def sink(name="w", path="x", more=""):
    return f"write: {{name: {name}, format: csv, path: {path}{more}}}"


def split(**sinks):
    return f"parallel_split: {{{', '.join(f'{n}: {{format: csv, path: {p}}}' for n, p in sinks.items())}}}"


def choice(one, other):
    routes = f"{{a: {{when: {{by_date: {{before: 2013-01-03}}}}, flow: [{one}]}}, b: {{flow: [{other}]}}}}"
    return f"exclusive_choice: {{name: c, default: b, routes: {routes}}}"


def within(name, entry):
    return f"transaction: {{name: {name}, flow: [{entry}]}}"


STEP = f"step: {{name: s, with: {{m: more}}, {SQL}}}"
ROUTE = "flow[1].exclusive_choice.routes"


@pytest.mark.parametrize(
    ("entries", "path", "other"),
    [
        ([sink("in")], "flow[1].write", "flow[0].read"),
        ([f"step: {{name: in, {SQL}}}", sink()], "flow[1].step", "flow[0].read"),
        ([STEP, sink("more")], "flow[2].write", "flow[1].step"),
        ([split(a="x", more="y"), STEP], "flow[1].parallel_split", "flow[2].step"),
        ([split(a="x", **{"in": "y"})], "flow[1].parallel_split", "flow[0].read"),
        ([split(a="x"), split(b="y")], "flow[2].parallel_split", "flow[1].parallel_split"),
        ([sink(), "aligned_fan_in: {name: in, sources: [more]}"], "flow[2].aligned_fan_in", "flow[0].read"),
        ([sink("t"), within("t", sink(path="y"))], "flow[2].transaction", "flow[1].write"),
        ([within("t", f"{sink()}, {sink(path='y')}")], "flow[1].transaction.flow[1].write", "flow[0].write"),
        ([choice(sink(), sink("c"))], f"{ROUTE}.b.flow[0].write", "flow[1].exclusive_choice"),
        ([choice(sink("in"), sink("v"))], f"{ROUTE}.a.flow[0].write", "flow[0].read"),
        ([choice(sink(), sink("v")), within("c", sink("a", "y"))], "flow[2].transaction", "exclusive_choice"),
        ([sink(), "publish: {dataset: d, name: w}"], "flow[2].publish", "flow[1].write"),
        ([sink(), "publish: d", within("marker", sink("d", "y"))], "flow[3].transaction.flow[0].write", "publish"),
    ],
)
def test_two_nodes_of_one_name_are_refused_with_both_places(problems, entries, path, other):
    found = problems(*entries)
    assert "again" in found[path].found
    assert found[path].expected.endswith(other)


@pytest.mark.parametrize(
    ("entries", "path"),
    [
        ([sink("a", "x"), sink("b", "x/")], "flow[2].write.path"),
        ([sink("a", "x"), sink("b", "./x")], "flow[2].write.path"),
        ([sink("a", "x/lake"), sink("b", "x")], "flow[2].write.path"),
        ([split(a="x", b="x/new")], "flow[1].parallel_split.b.path"),
        ([sink("a", "x"), f"transaction: [{sink('b', 'x')}]"], "flow[2].transaction[0].write.path"),
        ([sink("a", "x"), sink("b", "y", ", staging: x/parts")], "flow[2].write.staging"),
        ([sink("a", "x", ", staging: x/parts")], "flow[1].write.staging"),
        ([sink("a", "s3://b/x"), sink("b", "s3://b/x/y")], "flow[2].write.path"),
        ([choice(sink("a"), sink("b", "y")), sink("z", "x")], "flow[2].write.path"),
    ],
)
def test_two_sinks_of_one_path_or_one_within_the_other_are_refused(problems, entries, path):
    assert list(problems(*entries)) == [path]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("unaligned_fan_in: {name: f, source: hours, require: all_done, on_all_failed: {error_table: t}}", "fallback"),
        ("aligned_fan_in: {name: f, sources: [frame], join: {using: a}}", "'frame' again"),
    ],
)
def test_a_branch_that_has_a_name_of_the_fan_ins_own(problems, entry, words):
    (problem,) = problems(entry, sink()).values()
    assert words in problem.found


@pytest.mark.parametrize(
    "entries",
    [
        [choice(sink("a"), sink("b"))],  # of two routes one is taken
        [sink("a", "x"), sink("b", "x2")],
        [sink("more")],  # a source that nothing reads
        ["aligned_fan_in: {name: hours, source: hours}", sink()],  # its branches are the nodes: hours/f1
        [f"step: {{name: s, with: {{m: more}}, {SQL}}}", f"step: {{name: t, with: {{m: more}}, {SQL}}}", sink()],
        [sink("w", "x"), f"transaction: [{sink('w', 'y')}]"],  # publish/w
        [f"step: {{name: s, with: {{m: text}}, {SQL}}}", sink("text")],
    ],
)
def test_what_does_not_clash_is_not_refused(problems, entries):
    assert problems(*entries) == {}
