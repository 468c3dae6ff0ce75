"""Small slips in a file or on a command line: each ends with its exit code and one message, and no work is done."""

import pytest
from typer.testing import CliRunner

from spark_flow.cli import job, runner, stream
from spark_flow.cli.app import app
from spark_flow.errors import ConfigError
from spark_flow.jobfile.model.runner import load_pools

FILE = """
pipeline: p
key: ???
sources:
  in: {format: json, path: in, schema: "id INT"}
flow:
  - read: in
  - write: {name: out, format: csv, path: x}
"""
RUNNER = FILE + "runner: {start_date: 2013-01-01, end_date: 2013-01-03}\n"
STREAM = """
app_id: s
source: {format: json, path: in, schema: "id INT"}
sinks: {a: {format: delta, path: o}, b: {format: delta, path: o/x}}
checkpoint: c
"""


def choice(*conditions):
    """A file with a choice of a route for each condition."""
    sinks = [f"flow: [write: {{name: z{at}, format: csv, path: y{at}}}]" for at in range(len(conditions))]
    routes = [f"r{at}: {{when: {{{one}}}, {sinks[at]}}}" for at, one in enumerate(conditions)]
    return FILE + f"  - exclusive_choice: {{name: c, routes: {{{', '.join(routes)}}}}}\n"


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Run a command line over a file; returns its exit code and what it said."""
    monkeypatch.chdir(tmp_path)

    def main(text, *words, kind="job"):
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / "job.yaml").write_bytes(data)
        argv = ["--config", "job.yaml", *words]
        mains = {"job": job.main, "stream": stream.main}
        how = {} if kind in mains else {"kind": kind}
        code = mains.get(kind, runner.main)(argv, job=str(tmp_path / "job.py"), **how)
        return code, capsys.readouterr().err

    yield main
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "an empty file"),
        ("- a", "a list"),
        (FILE.replace("  - read", "\t- read"), "line 7, column 1"),
        (FILE + "pipeline: q\n", "duplicate key pipeline"),
        (FILE.replace("path: in,", "path: in, path: other,"), "duplicate key path"),
        (FILE.encode("utf-16"), "bytes that are not UTF-8"),
        (FILE.replace("name: out", "name: no"), "flow[1].write.name: found false; expected text. Quote it"),
        (FILE.replace("name: out", "name: 1.5"), "flow[1].write.name: found 1.5; expected text. Quote it"),
        (FILE + "  - ~: {}\n", "text as each key"),
        (FILE + f"retention_days: {10**20}\n", "retention_days: found 100000000000000000000; expected 36500 or less"),
        (FILE + "runner: {lease_seconds: .inf}\n", "runner.lease_seconds: found inf; expected 86400"),
        (FILE + "runner: {straggler: {factor: x}}\n", "runner.straggler.factor: found 'x'; expected a number"),
        (FILE + "runner: {calendar: []}\n", "runner.calendar: found an empty list"),
        (FILE + "runner: {calendar: ~}\n", "runner.calendar: found nothing; expected one of: daily, hourly"),
        (FILE + "runner: {calendar: ['../x']}\n", "runner.calendar: found '../x'"),
        (FILE + "runner: {start_date: 0001-01-01}\n", "runner.start_date: found '0001-01-01'"),
        (FILE + "  - aligned_fan_in: {name: f, sources: [in], join: {using: []}}\n", "join.using: found no column"),
        (choice("by_date: {}"), "by_date: found neither since nor before"),
        (choice("by_schema: {}"), "by_schema: found no criteria"),
        (choice("by_schema: {types: {a: nope}}"), "by_schema: found 'nope'"),
        (choice("by_data: {at_least: 9, within: 1}"), "by_data.within: found 1, with at_least 9"),
        (choice("by_date: {since: 2013-01-01}", "by_date: {since: 2013-01-02}"), "both hold on 2013-01-02"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) or "\n" in value else value[:30],
)
def test_a_slip_in_a_file_is_told_with_its_place(run, text, words):
    code, said = run(text, "key=k")
    assert (code, words in said) == (2, True), said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["key="], "key ''"),
        (["key=a b"], "key 'a b'"),
        (["key=a", "key=b"], "key: found key=a and key=b"),
        (["key=k", "state="], "state: found ''"),
        (["key=k", "--from", ""], "--from: found an empty value"),
        (["key=k", "--only", ""], "--only: found ''"),
        (["key=k", "--from", "out", "--only", "out"], "one of --from, --only and --rerun"),
        (["key=k", "--show", "-1"], "--show"),
        (["key=k", "--config", "."], "Is a directory"),
    ],
)
def test_a_slip_on_a_jobs_command_line_is_told(run, words, said):
    code, told = run(FILE, *words)
    assert (code, said in told) == (2, True), told


@pytest.mark.parametrize("kind", ["single", "concurrent"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([""], "KEYS: found an empty value"),  # "$KEYS" of a variable that is not set: not all keys
        (["2013-01-01.."], "a range without an end"),
        (["2013-01-01", "--from", ""], "--from: found an empty value"),
        (["2013-01-01", "--job", "none.py"], "--job: found no such file"),
        (["2013-01-01", "--summary-json", "."], "--summary-json: found a folder"),
    ],
)
def test_a_slip_on_a_runners_command_line_is_told(run, kind, words, said):
    code, told = run(RUNNER, *words, kind=kind)
    assert (code, said in told) == (2, True), told


@pytest.mark.parametrize("place", ["job.yaml", "job.yaml/x"])
@pytest.mark.parametrize("words", [[], ["--reprocess", "all"], ["--plan"]])
def test_a_state_folder_that_cannot_be_one_is_told(run, place, words):
    for kind in ("single", "concurrent"):
        code, told = run(RUNNER, f"state={place}", *words, kind=kind)
        assert (code, "is not writable" in told) == (1, True), told


@pytest.mark.parametrize("words", [[], ["--reprocess", "all"], ["--plan"]])
def test_a_state_folder_in_no_storage_is_told(run, words):
    for kind in ("single", "concurrent"):
        code, told = run(RUNNER, "state=foo://x/y", *words, kind=kind)
        assert (code, "state: found 'foo://x/y'" in told) == (2, True), told


def test_two_tables_of_a_stream_may_not_lie_within_each_other(run):
    code, told = run(STREAM, kind="stream")
    assert (code, "sinks: found 'o/x' of b" in told) == (2, True), told


def test_two_pools_of_one_name_are_refused(tmp_path):
    (tmp_path / "pools.yaml").write_text("leases: x\npools:\n  etl: 1\n  etl: 20\n")
    with pytest.raises(ConfigError, match="duplicate key etl"):
        load_pools(str(tmp_path / "pools.yaml"))


def test_leases_in_a_storage_that_is_none_are_told():
    told = CliRunner().invoke(app, ["leases", "--leases", "foo://x"])
    assert (told.exit_code, "path 'foo://x" in told.stderr) == (2, True)
