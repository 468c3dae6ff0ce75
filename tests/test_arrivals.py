"""What a source of files held: missing at a key's path it may come yet; empty it has arrived; changed it is told."""

import os
from pathlib import Path

import pytest
from conftest import states
from runs import new_run

import spark_flow as sf
from spark_flow import jobfile
from spark_flow.errors import ConfigError, MissingInput, NotArrived, NotNow
from spark_flow.operations.verify import verify
from spark_flow.storage import arrivals, sources

SCHEMA = "id INT NOT NULL"
JOB = """
pipeline: p
vars: {day: "day=${key}", root: ROOT}
sources:
  fixed: {format: json, path: "${vars.root}/fixed"}
  direct: {format: json, path: "${vars.root}/${key}"}
  by_vars: {format: delta, path: "${vars.root}/${vars.day}"}
  told: {format: json, path: "${vars.root}/${key}", per_key: false}
flow: [read: fixed, write: {name: out, format: parquet, path: out}]
"""


def test_whether_a_path_depends_on_the_key_is_known_through_all_interpolations(tmp_path):
    file = tmp_path / "job.yaml"
    file.write_text(JOB)
    job = jobfile.load(file, ["key=2013-01-02"])
    assert {name: one.per_key for name, one in job.sources.items()} == {
        "fixed": False,
        "direct": True,
        "by_vars": True,
        "told": False,
    }
    given = jobfile.load(file, ["key=2013-01-02", "sources.direct.path=x/2013-01-02"])
    assert given.sources["direct"].per_key is False


@pytest.mark.parametrize("kind", ["json", "delta"])
def test_what_is_missing_at_a_path_of_the_key_or_a_branch_has_not_arrived(tmp_path, kind):
    path = str(tmp_path / "none")
    with pytest.raises(MissingInput) as fault:
        sources.check_present("in", sf.source(kind, path))
    assert fault.value.exit_code == 1
    branched = sf.source(kind, f"{path}/{{branch}}", branches=["05", "06"])
    for source, missing in ((sf.source(kind, path, per_key=True), (path,)), (branched, (f"{path}/05", f"{path}/06"))):
        with pytest.raises(NotArrived) as waits:
            sources.check_present("in", source)
        assert (waits.value.exit_code, waits.value.missing) == (75, missing)


@pytest.mark.parametrize(
    ("path", "parent"),
    [
        ("in/${key}", "in"),
        ("in/day=${key}/a.json", "in"),
        ("in/day=${key}/hour={branch}", "in"),
        ("in/hour={branch}", "in"),
        ("/data/in/${key}/x", "/data/in"),
        ("${key}", None),
        ("{branch}", None),
        ("in", None),
        ("s3a://bucket/in/${key}", None),
        ("in/*/${key}", None),
    ],
)
def test_the_folder_that_all_keys_share_is_known(tmp_path, path, parent):
    file = tmp_path / "job.yaml"
    branches = ", branches: ['05']" if "{branch}" in path else ""
    file.write_text(JOB.replace('json, path: "${vars.root}/fixed"', f"json, path: '{path}'{branches}"))
    assert jobfile.load(file, ["key=2013-01-02"]).sources["fixed"].parent == parent


def test_a_path_whose_parent_is_missing_is_wrong_and_not_late(tmp_path):
    late = sf.source("json", f"{tmp_path}/in/k", per_key=True, parent=f"{tmp_path}/in")
    with pytest.raises(MissingInput) as wrong:
        sources.check_present("in", late)
    assert (wrong.value.exit_code, wrong.value.missing) == (1, (f"{tmp_path}/in",))
    (tmp_path / "in").mkdir()
    with pytest.raises(NotArrived):
        sources.check_present("in", late)


TIMES = """
pipeline: p
key: ???
sources:
  hour: {format: json, path: "in/date={key:%Y-%m-%d}/hour={key:%H}/{branch}", branches: [a, b], schema: "id INT"}
flow:
  - read: hour
  - write: {name: w, format: parquet, path: out/w}
"""


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("2013-01-02T05", "in/date=2013-01-02/hour=05/{branch}"),
        ("2013-12-31T23", "in/date=2013-12-31/hour=23/{branch}"),
    ],
)
def test_a_key_that_is_a_time_has_other_forms_in_a_path(tmp_path, key, path):
    (tmp_path / "f.yaml").write_text(TIMES)
    hour = jobfile.load(tmp_path / "f.yaml", [f"key={key}"]).sources["hour"]
    assert (hour.path, hour.per_key, hour.parent) == (path, True, "in")


def test_a_key_that_is_no_time_has_no_other_form(tmp_path):
    (tmp_path / "f.yaml").write_text(TIMES)
    for key in ("k1", "2013-01-02"):  # a day has no hour
        with pytest.raises(ConfigError, match=rf"sources.hour.path: .* with the key '{key}'; expected a key"):
            jobfile.load(tmp_path / "f.yaml", [f"key={key}"])
    with pytest.raises(ConfigError) as wrong:
        jobfile.load(tmp_path / "f.yaml", [])
    assert [problem.path for problem in wrong.value.problems] == ["key"]  # nothing is said of the paths without one


def test_whether_a_source_is_per_key_is_no_part_of_its_fingerprint():
    assert sf.source("json", "x", per_key=True).fingerprint == sf.source("json", "x").fingerprint


@pytest.fixture
def copied(spark, state, tmp_path, memory_ledger):
    def run(source, **options):
        opened = new_run("p", "k", state=state, spark=spark, ledger=memory_ledger, **options)
        with opened, sf.announcing(opened, "data", markers=str(tmp_path / "markers")):
            sf.write(opened, "copy", sf.read(opened, "in", source), sf.parquet(str(tmp_path / "copy")))
        return opened

    return run


@pytest.mark.spark
@pytest.mark.parametrize("pattern", ["", "/*.json"])
def test_a_key_whose_source_is_missing_waits_and_publishes_nothing(copied, memory_ledger, tmp_path, pattern):
    source = sf.source("json", f"{tmp_path}/in{pattern}", schema=SCHEMA, per_key=True)
    with pytest.raises(NotNow):
        copied(source)
    assert not (tmp_path / "markers").exists()
    assert {event.state for event in memory_ledger.read() if event.node} == {"skipped"}


@pytest.mark.spark
def test_a_missing_source_of_a_fixed_path_fails_and_says_so_to_others(copied, tmp_path):
    with pytest.raises(MissingInput):
        copied(sf.source("json", f"{tmp_path}/in/*.json", schema=SCHEMA))
    assert (tmp_path / "markers").exists()


@pytest.mark.spark
@pytest.mark.parametrize("restart", [True, False])
def test_an_hour_without_a_byte_has_arrived_empty(spark, state, tmp_path, restart):
    for hour, text in (("05", '{"id": 1}\n'), ("06", "")):
        (tmp_path / hour).mkdir()
        (tmp_path / hour / "a.json").write_text(text)
    hours = sf.source("json", f"{tmp_path}/{{branch}}", schema=SCHEMA, branches=["05", "06"])
    run = sf.Run.open("p", "k", state=state, spark=spark)
    with run:
        frame = sf.aligned_fan_in(run, "hours", hours, restart=restart).frame
        sf.write(run, "out", frame, sf.parquet(str(tmp_path / "out")))
    assert run.outcome("hours/06").reason.startswith(arrivals.EMPTY)
    assert not run.outcome("hours/05").reason.startswith(arrivals.EMPTY)
    assert run.outcome("hours/05").detail["input"]["bytes"] == 10


@pytest.mark.spark
@pytest.mark.parametrize("how", ["grown", "newer", "more", "gone"])
def test_a_changed_input_is_told_by_a_plan_and_by_verify_and_not_read_again(copied, memory_ledger, lines, how):
    folder = lines('{"id": 1}', '{"id": 2}')
    source = sf.source("json", folder, schema=SCHEMA)
    copied(source)
    assert [finding.state for finding in verify(memory_ledger.read())] == ["ok"]
    if how == "newer":
        os.utime(f"{folder}/a.json", (0, 0))
    elif how == "gone":
        Path(folder, "a.json").unlink()
    else:
        lines('{"id": 3}', *['{"id": 4}'] * 5, file="a.json" if how == "grown" else "b.json")
    plan = copied(source, plan=True)
    assert (states(plan)["in"], "input changed" in plan.outcome("in").reason) == ("would reuse", True)
    assert "input changed" not in plan.outcome("copy").reason
    assert [(finding.node, finding.state) for finding in verify(memory_ledger.read())] == [
        ("copy", "ok"),
        ("in", "changed"),
    ]
    assert states(copied(source))["in"] == "reused"


def test_many_files_are_recorded_as_a_few_facts(tmp_path):
    for at in range(30):
        (tmp_path / f"{at}.json").write_text("x")
    (tmp_path / "_SUCCESS").write_text("")
    known = arrivals.facts([str(tmp_path)], arrivals.data_files(str(tmp_path)))
    assert (known["files"], known["bytes"], len(known["names"])) == (30, 30, 20)
    assert arrivals.changed(known) == ""
