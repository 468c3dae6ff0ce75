"""A project of one's own: created by ``spark-flow init``, run by ``spark-flow run``, from any folder."""

import subprocess
import sys
from pathlib import Path

import pytest
from deltalake import DeltaTable
from typer.testing import CliRunner

from spark_flow.cli import doctor, project, run
from spark_flow.cli.app import app
from spark_flow.errors import ConfigError, InvalidArgument
from spark_flow.jobfile import load
from spark_flow.spark import session
from spark_flow.storage import files


def test_version_names_the_three_packages():
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0
    assert [word for word in ("spark-flow ", "pyspark ", "delta-spark ") if word in done.output] == [
        "spark-flow ",
        "pyspark ",
        "delta-spark ",
    ]


def test_init_creates_a_project_in_a_new_or_empty_folder_only(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        folder = project.create(str(tmp_path / name))
        assert {path.name for path in folder.iterdir()} >= {"job.yaml", "steps.py", "data", "tests", "README.md"}
    (tmp_path / "file").touch()
    for name in ("new", "file", "file/below"):
        with pytest.raises(InvalidArgument):
            project.create(str(tmp_path / name))
    done = CliRunner().invoke(app, ["init", str(tmp_path / "new")])
    assert (done.exit_code, "README.md" in done.output) == (2, True)


def test_the_project_runs_from_any_folder_and_reuses(spark, tmp_path, monkeypatch, capsys):
    folder = project.create(str(tmp_path / "shop"))
    for elsewhere in (tmp_path, folder):
        monkeypatch.chdir(elsewhere)
        assert run.main([str(folder / "job.yaml"), "key=2024-03-01"]) == 0
    assert "reused: 5 reused" in capsys.readouterr().out
    rows = DeltaTable(str(folder / "out" / "sales")).to_pyarrow_table().to_pylist()
    assert sorted((row["product"], row["sold"]) for row in rows) == [("cup", 1), ("pot", 1), ("tea", 3)]
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


@pytest.mark.nightly
@pytest.mark.process
def test_the_projects_own_tests_pass(tmp_path):
    folder = project.create(str(tmp_path / "shop"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.parametrize(("words", "code"), [([], 2), (["key=a"], 2), (["none.yaml", "key=a"], 2), (["--help"], 0)])
def test_run_without_a_file_says_what_to_give(words, code, capsys):
    assert run.main(words) == code
    printed = capsys.readouterr()
    assert "yaml" in (printed.out + printed.err).lower()


ROOTED = """
pipeline: p
key: ???
root: ROOT
sources: {in: {format: json, path: "in/${key}"}, there: {format: parquet, path: /data/there}}
flow:
  - read: in
  - write: {name: out, format: csv, path: "${output}/csv", staging: staging}
  - publish: p
"""


@pytest.mark.parametrize(("root", "expected"), [(".", "FILE"), ("..", "ABOVE"), ("/", "")])
def test_paths_start_at_the_root(tmp_path, monkeypatch, root, expected):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "job.yaml").write_text(ROOTED.replace("ROOT", root))
    monkeypatch.chdir("/")
    start = expected.replace("FILE", str(folder)).replace("ABOVE", str(tmp_path))
    config = load(folder / "job.yaml", ["key=a"])
    write = config.flow[1].written()[()]
    paths = [config.sources["in"].path, write.path, write.staging, config.state, config.markers]
    assert [path.replace("//", "/") for path in paths] == [
        f"{start}/{path}" for path in ("in/a", "out/csv", "staging", "state", "out/markers")
    ]
    assert config.sources["there"].path == "/data/there"


def test_without_a_root_paths_are_those_of_the_working_folder(tmp_path):
    (tmp_path / "job.yaml").write_text(ROOTED.replace("root: ROOT\n", ""))
    assert load(tmp_path / "job.yaml", ["key=a"]).sources["in"].path == "in/a"


MISSPELT = """
pipeline: p
root: .
state: state
output: out
sources:
  in: {format: json, path: data, schema: "n INT"}
  rates: {format: json, path: data, schema: "n INT"}
flow:
  - read: in
  - step: {run: "steps:with_rates", with: {rates: raets}}
  - transaction:
      - write: {name: lake, format: parquet, path: out/lake}
"""


def test_a_root_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "job.yaml").write_text(ROOTED.replace("ROOT", "none"))
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "job.yaml", ["key=a"])
    assert [problem.path for problem in error.value.problems] == ["root"]


def test_doctor_finds_what_is_right(spark, tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "make_archive", lambda: "")
    monkeypatch.setattr(spark, "stop", lambda: None)
    found = {one.name: one.fix for one in doctor.checks(str(tmp_path / "state"))}
    names = ("python", "java", "spark", "delta", "state folder", "clock", "archive", "session", "workers")
    assert found == dict.fromkeys(names, "")
    assert not (tmp_path / "state").exists()


def test_doctor_says_what_to_do_without_java_or_a_state_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    Path(tmp_path, "state").touch()
    found = {one.name: one for one in doctor.checks(str(tmp_path / "state"))}
    assert [name for name, one in found.items() if one.fix] == ["java", "delta", "state folder", "session"]
    done = CliRunner().invoke(app, ["doctor", "--state", str(tmp_path / "state")])
    assert (done.exit_code, done.output.count("JAVA_HOME")) == (1, 1), done.output
    found = {one.name: one for one in doctor.checks("dbfs:/state")}
    assert (found["state folder"].fix != "", "dbfs" in found["state folder"].found) == (True, True)


def test_doctor_removes_no_state_that_a_run_has_begun_meanwhile(tmp_path, monkeypatch):
    state, remove = tmp_path / "state", files.remove
    monkeypatch.setattr(files, "remove", lambda path: (remove(path), (state / "ledger").mkdir()))
    assert {one.name: one.fix for one in doctor._state(str(state))} == {"state folder": "", "clock": ""}
    assert (state / "ledger").is_dir()


@pytest.mark.parametrize("kind", ["single", "concurrent"])
def test_a_runner_takes_a_projects_file_without_a_clone(tmp_path, kind):
    folder = project.create(str(tmp_path / "shop"))
    done = CliRunner().invoke(app, [f"{kind}-runner", str(folder / "job.yaml"), "2024-03-01..2024-03-02", "--plan"])
    assert (done.exit_code, done.output.count("never run")) == (0, 2), done.output
    refused = CliRunner().invoke(app, [f"{kind}-runner", "2024-03-01"])
    assert (refused.exit_code, f"{kind}-runner JOB.yaml" in refused.output) == (2, True)


def test_a_rerun_without_java_begins_no_generation(tmp_path, monkeypatch, capsys):
    folder = project.create(str(tmp_path / "shop"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr(session, "existing", lambda: None)
    assert run.main([str(folder / "job.yaml"), "key=2024-03-01", "--rerun"]) == 2
    assert ("JAVA_HOME" in capsys.readouterr().err, (folder / "state").exists()) == (True, False)


def test_a_misspelt_source_is_no_text_for_a_parameter_that_is_a_frame(tmp_path, capsys):
    folder = project.create(str(tmp_path / "shop"))
    (folder / "steps.py").write_text("def with_rates(frame: 'DataFrame', rates: 'DataFrame'):\n    return frame\n")
    (folder / "job.yaml").write_text(MISSPELT)
    assert run.main([str(folder / "job.yaml"), "key=2024-03-01", "--plan"]) == 2
    assert "with_rates: rates: found 'raets', expected a source or table, one of: in, rates. Did you mean 'rates'?" in (
        " ".join(capsys.readouterr().err.split())
    )
