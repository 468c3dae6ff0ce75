"""A job's command line: bad input ends with its exit code and a message, before any work."""

import json
import textwrap
import threading
from pathlib import Path

import pytest
import typer
from conftest import stored

from spark_flow.cli import job, runner, stream
from spark_flow.jobfile import launch
from spark_flow.jobfile.model.job import OPTIONS
from spark_flow.ledger import DeltaLedger
from spark_flow.view.progress import Progress

CONFIG = """
    pipeline: p
    key: ???
    sources:
      in: {format: json, path: FOLDER, schema: "id INT"}
    flow:
      - read: in
      - step: {name: pick, sql: "SELECT id FROM {frame}"}
      - write: {name: out, format: delta, path: OUT, mode: append}
"""


@pytest.fixture
def run(run_file):
    def run_job(*arguments, config=CONFIG):
        return run_file(textwrap.dedent(config), *arguments)

    return run_job


@pytest.mark.parametrize(
    ("arguments", "tells"),
    [
        (["key=../x"], "../x"),
        (["key=a'b"], "a'b"),
        (["key="], "key"),
        ([], "key"),
        (["key=k", "outputs=x"], "output"),
        (["key=k", "--unknown"], "--unknown"),
        (["key=k", "state"], "state"),
    ],
)
def test_bad_usage_ends_with_2_and_says_what(run, arguments, tells):
    code, output = run(*arguments)
    assert (code, tells in output) == (2, True), output


@pytest.mark.parametrize(
    ("old", "new", "tells"),
    [
        ("mode: append", "partition_bye: [d]", "partition_by"),
        ("flow:", "flow: [", "YAML"),
        ('sql: "SELECT id FROM {frame}"', "run: nowhere:step", "nowhere"),
        ("read: in", "read: inn", "in"),
    ],
    ids=["unknown key", "broken YAML", "a step that does not import", "an unknown source"],
)
def test_a_bad_file_ends_with_2_and_names_the_place(run, old, new, tells):
    code, output = run("key=k", config=CONFIG.replace(old, new))
    assert (code, tells in output) == (2, True), output


def test_a_missing_file_ends_with_2(tmp_path):
    assert job.main(["--config", str(tmp_path / "none.yaml"), "key=k"], job=str(tmp_path / "job.py")) == 2


def test_a_state_folder_that_cannot_be_written_ends_with_1(run, tmp_path):
    (tmp_path / "file").write_text("")
    code, output = run("key=k", f"state={tmp_path}/file/state")
    assert (code, "not writable" in output) == (1, True), output


@pytest.mark.spark
def test_missing_input_ends_with_1_and_a_summary_that_says_so(run, spark, tmp_path):
    import json

    code, output = run("key=k", "--summary-json", str(tmp_path / "s" / "s.json"))
    assert (code, str(tmp_path / "in") in output) == (1, True), output
    summary = json.loads((tmp_path / "s" / "s.json").read_text())
    assert summary["state"] == "failed"
    assert {n["node"]: n["state"] for n in summary["nodes"]}["in"] == "failed"


@pytest.mark.spark
def test_a_rerun_of_a_sink_that_cannot_replace_ends_with_2_and_the_fix(run, spark, lines, monkeypatch, tmp_path):
    lines('{"id": 1}')
    monkeypatch.setattr(type(spark), "stop", lambda _: None)  # the job would end the session of all tests
    code, output = run("key=k")
    assert code == 0, output
    code, output = run("key=k", "--rerun")
    assert (code, "replace_where" in output) == (2, True), output
    assert len(stored(str(tmp_path / "out"))) == 1


def test_help_names_every_option(run):
    code, output = run("--help")
    assert code == 0
    assert all(
        option in output for option in ("--config", "--plan", "--rerun", "--from", "--only", "--show", "--summary-json")
    )


def test_a_streams_command_line(capsys):
    path = str(Path(__file__).parent.parent / "jobs" / "stream_split.py")
    assert stream.main(["--help"], job=path) == 0
    assert stream.main(["sinks.flights.format=csv"], job=path) == 2
    assert "format delta" in capsys.readouterr().err


def test_a_parameter_of_the_file_is_an_option_of_the_job(capsys):
    path = str(Path(__file__).parent.parent / "jobs" / "exclusive_choice.py")
    for option in (["--output-type", "orc"], ["--output-type=orc"]):
        assert job.main(["key=2013-01-02", *option], job=path) == 2
        assert "csv, delta" in capsys.readouterr().err
    assert job.main(["key=2013-01-02", "--output-typ", "csv"], job=path) == 2
    assert "--output-typ" in capsys.readouterr().err
    assert job.main(["--help"], job=path) == 0
    assert "--output-type" in capsys.readouterr().out


# --- what is opened is closed ------------------------------------------------------------------------------------


def broken(*_):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("owner", "name"), [(launch, "follow"), (Progress, "begin"), (Progress, "finish"), (launch, "write_summary")]
)
def test_a_run_is_closed_whatever_fails_after_it_was_opened(run, monkeypatch, tmp_path, owner, name):
    """Without Spark: the source is missing, so that the run ends before it needs a session."""
    ended = []
    monkeypatch.setattr(launch.Application, "close", lambda _: ended.append(True))
    monkeypatch.setattr(owner, name, broken)
    code, said = run(
        "key=k",
        "lineage.transport=console",
        f"--summary-json={tmp_path}/told.json",
        config=CONFIG + "    lineage: {}",
    )
    assert (code, "No space left" in said) == (1, True)
    states = [event.state for event in DeltaLedger(f"{tmp_path}/state").read("p", "k") if event.kind == "run"]
    assert (states, len(ended)) == (["started", "failed"], 1)


@pytest.mark.parametrize("words", [["key=k"], ["key=k", "sources.in.formt=x"], ["key=k", "state=FILE/x"]])
def test_a_summary_is_written_however_the_run_ends(run, tmp_path, words):
    (tmp_path / "file").touch()
    told = tmp_path / "new" / "told.json"
    words = [word.replace("FILE", str(tmp_path / "file")) for word in words]
    code, _ = run(*words, f"--summary-json={told}")
    facts = json.loads(told.read_text())
    assert (code > 0, facts["key"], facts["state"]) == (True, "k", "failed")


@pytest.mark.parametrize("place", ["FOLDER", "FILE/told.json", "s3://bucket/told.json", "/proc/none/told.json"])
def test_a_summary_that_cannot_be_written_is_refused_before_any_work(run, tmp_path, place):
    (tmp_path / "file").touch()
    place = place.replace("FOLDER", str(tmp_path)).replace("FILE", str(tmp_path / "file"))
    code, output = run("key=k", f"--summary-json={place}")
    assert (code, "--summary-json" in output, (tmp_path / "state").exists()) == (2, True, False), output


def test_a_summary_of_an_earlier_run_is_not_taken_for_this_ones(run, tmp_path):
    told = tmp_path / "told.json"
    told.write_text('{"state": "succeeded"}')
    run("key=k", "outputs=x", f"--summary-json={told}")
    assert json.loads(told.read_text())["state"] == "failed"


STREAM = """
    app_id: s
    source: {format: json, path: FOLDER, schema: "id INT"}
    sinks: {a: {format: delta, path: OUT, step: {name: picked, sql: "SELECT id, 1 / (id - 2) AS x FROM {frame}"}}}
    checkpoint: CHECKPOINT
"""


@pytest.mark.spark
def test_a_stream_leaves_a_session_that_it_did_not_make_and_nothing_running_in_it(spark, lines, tmp_path, capsys):
    lines('{"id": 1}')
    text = STREAM.replace("FOLDER", f"{tmp_path}/in").replace("OUT", f"{tmp_path}/out")
    (tmp_path / "s.yaml").write_text(textwrap.dedent(text.replace("CHECKPOINT", f"{tmp_path}/checkpoint")))
    words = ["--config", str(tmp_path / "s.yaml")]
    assert stream.main(words, job=str(tmp_path / "s.py")) == 0
    lines('{"id": 2}', file="b.json")  # divides by zero
    codes = []
    beside = threading.Thread(target=lambda: codes.append(stream.main(words, job=str(tmp_path / "s.py"))))
    beside.start()  # a thread in which no session is active
    beside.join()
    assert (codes, spark.streams.active, spark.range(3).count()) == ([1], [], 3), capsys.readouterr().err


def test_a_pipeline_that_was_last_run_from_another_file_says_so_once(run, tmp_path, capsys):
    run("key=k")
    assert "was last run from" not in run("key=k2")[1]
    (tmp_path / "conf").mkdir()
    other = tmp_path / "conf" / "copy.yaml"
    other.write_text((tmp_path / "job.yaml").read_text())
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "job.yaml")

    def warned(path, *words):
        main, where = (runner.main, {"kind": "single"}) if "--from-runner" in words else (job.main, {})
        keys = ["2013-01-02..2013-01-04"] if where else ["key=k3", *words]
        main(["--config", str(path), f"state={tmp_path}/state", *keys], job=str(tmp_path / "job.py"), **where)
        told = [line for line in capsys.readouterr().err.splitlines() if "was last run from" in line]
        return [str(other) in line and (str(link) in line or f"{tmp_path}/job.yaml" in line) for line in told]

    assert warned(link) == []
    assert warned(other, "--plan") == [True]
    assert warned(other) == [True]
    assert warned(other) == []
    assert warned(tmp_path / "job.yaml", "--from-runner") == [True]  # once, not of each key


HOURLY, DAILY, LISTED = "{calendar: hourly}", "{start_date: 2013-01-01}", "{calendar: [2024-3-1, b]}"


@pytest.mark.parametrize(
    ("settings", "key", "form"),
    [
        ("{}", "2024-02-30", "a day as 2013-01-02"),
        ("{}", "2024-3-1", "2024-03-01"),
        ("{}", "2024-03-01T5", "2024-03-01T05"),
        ("{}", "2024-02-30T05", "an hour as 2013-01-02T05"),
        ("{}", "2024-03-01T24", "an hour as"),
        (DAILY, "2024-02-30", "a day as"),
        (DAILY, "2024-3-1", "2024-03-01"),
        (DAILY, "2024-03-01T05", "a day as"),
        (DAILY, "yesterday", "a day as"),
        (HOURLY, "2024-03-01", "an hour as"),
        (HOURLY, "2024-03-01T5", "2024-03-01T05"),
    ],
)
def test_a_key_that_is_no_date_of_the_calendar_is_refused_with_its_form(run, tmp_path, settings, key, form):
    code, output = run(f"key={key}", config=CONFIG + f"    runner: {settings}\n")
    assert (code, f"key: found '{key}'; expected" in output, form in output) == (2, True, True), output
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        *(("{}", key) for key in ("2024-02-29", "k-2024-3-1", "2024-03-01T05-30", "202402")),
        (LISTED, "2024-3-1"),
        (DAILY, "2024-02-29"),
        (HOURLY, "2024-02-29T05"),
    ],
)
def test_a_key_that_is_a_date_or_does_not_look_like_one_is_taken(run, settings, key):
    assert run(f"key={key}", config=CONFIG + f"    runner: {settings}\n")[0] == 1  # its source is missing


@pytest.mark.parametrize(
    ("settings", "keys", "form"), [(HOURLY, "2024-03-01T5", "T05"), (DAILY, "2024-02-28..2024-02-30", "a day")]
)
def test_a_runner_refuses_such_keys_too_and_reads_the_file_without_one(run, tmp_path, capsys, settings, keys, form):
    run("key=../x", config=CONFIG + f"    runner: {settings}\n")
    words = ["--config", f"{tmp_path}/job.yaml", f"state={tmp_path}/state"]
    how = {"job": str(tmp_path / "job.py"), "kind": "single"}
    assert runner.main([*words, keys], **how) == 2
    assert form in capsys.readouterr().err
    start = "2024-03-01T05" if settings == HOURLY else "2024-03-01"
    code = runner.main([*words, f"runner.start_date={start}", f"runner.end_date={start}", "--plan"], **how)
    assert (code, f"{start}  run" in capsys.readouterr().out) == (0, True)


# --- options -----------------------------------------------------------------------------------------------------

PARAMETERS = (
    CONFIG + "    parameters: {output_type: {values: [csv, delta], value: csv}, day: {values: [a], value: a}}\n"
)


@pytest.mark.parametrize("option", ["--output_type=orc", "--output-type=orc", "--output_type orc", "--output-type orc"])
@pytest.mark.parametrize("kind", ["job", "single", "concurrent"])
def test_a_parameter_is_an_option_with_dashes_or_as_it_is_written(run, tmp_path, capsys, option, kind):
    if kind == "job":
        code, output = run("key=k", *option.split(), config=PARAMETERS)
    else:
        run("key=../x", config=PARAMETERS)
        words = ["--config", f"{tmp_path}/job.yaml", "2013-01-02", *option.split()]
        code, output = runner.main(words, job=str(tmp_path / "job.py"), kind=kind), capsys.readouterr().err
    assert (code, "parameters.output_type.value: found 'orc'" in output) == (2, True), output


@pytest.mark.parametrize(
    ("option", "near"),
    [
        ("--summary_jsn=x", "--summary-json"),
        ("--output_typ=csv", "--output-type"),
        ("--output-type", "--output-type"),  # without a value
        ("--reruns", "--rerun"),
        ("--plam", "--plan"),
    ],
)
def test_an_unknown_option_gets_the_nearest_valid_one(run, option, near):
    code, output = run("key=k", option, config=PARAMETERS)
    assert (code, near in output.replace(option, "", 1)) == (2, True), output


def test_our_own_options_may_be_written_with_underscores_too(run, tmp_path):
    run("key=k", f"--summary_json={tmp_path}/told.json")
    assert (tmp_path / "told.json").exists()


@pytest.mark.parametrize(
    "name", ["plan", "summary_json", "from", "reprocess", "a.b", "a_b: {values: [a], value: a}, a-b"]
)
def test_a_parameter_that_could_not_be_given_is_refused(run, name):
    code, output = run("key=k", config=CONFIG + f"    parameters: {{{name}: {{values: [a], value: a}}}}\n")
    assert (code, f"parameters.{name.split()[-1]}" in output) == (2, True), output


def test_the_names_that_no_parameter_may_have_are_those_of_the_options():
    found = set()
    for command in (job._command(Path("j.py"), ()), runner._command(Path("j.py"), "single", ())):
        app = typer.Typer()
        app.command()(command)
        found |= {name.lstrip("-") for each in typer.main.get_command(app).params for name in each.opts if "--" in name}
    assert found - {"install-completion", "show-completion"} <= OPTIONS
