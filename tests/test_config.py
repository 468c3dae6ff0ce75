"""A YAML file is read whole, or refused with all that is wrong and where."""

import importlib
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spark_flow.errors import ConfigError, InvalidName
from spark_flow.jobfile import JobConfig, SourceModel, StepModel, load, resolve

MODULE = """
SCHEMA = "carrier STRING, delay INT"
NUMBER = 5
def clean(frame): return frame
def enrich(frame, weather, limit): return frame
class Steps:
    def run(frame): return frame
"""
HEAD = """
pipeline: daily_flights
key: ???
sources:
  flights: {format: json, path: "data/date=${key}/hour={branch}", branches: "05..23"}
  weather: {format: json, path: data/weather}
"""
TAIL = """
  - write: {name: lake, format: delta, path: "${output}/lake"}
"""
FULL = """
pipeline: daily_flights
key: ???
retention_days: 0
vars: {team: air, csv: {header: "true"}}
sources:
  flights: {format: json, path: "data/date=${key}/hour={branch}", branches: "05..07",
            schema: "cfg_flights:SCHEMA", bad_records: quarantine}
  weather: {format: csv, path: data/weather, schema: "a INT NOT NULL, b STRING",
            options: {header: true, maxColumns: 9}}
  other: {format: delta, path: out/x, version: 3}
flow:
  - read: flights
  - step: cfg_flights:clean
  - step: {name: enrich, run: cfg_flights:enrich, with: {weather: weather, limit: 5},
          restart: true, version: 2}
  - step: {name: daily, sql: "SELECT carrier, count(*) AS n FROM {frame} GROUP BY carrier"}
  - transaction:
      - write: {name: lake, format: delta, path: "${output}/${vars.team}", partition_by: [date],
                replace_where: "d = 1"}
      - write: {name: legacy, format: csv, path: "${output}/legacy", partition_by: date,
                options: "${vars.csv}"}
  - write: {name: copy, format: delta, path: "${output}/copy", mode: append}
"""


class Job(NamedTuple):
    load: Callable
    problems: Callable


@pytest.fixture
def job(tmp_path):
    (tmp_path / "cfg_flights.py").write_text(MODULE, encoding="utf-8")

    def read(text, *overrides, key="2013-01-02"):
        file = tmp_path / "job.yaml"
        file.write_text(text, encoding="utf-8")
        return load(file, [*([f"key={key}"] if key is not None else []), *overrides], beside=tmp_path)

    def problems(text, *overrides, key="2013-01-02"):
        with pytest.raises(ConfigError) as error:
            read(text, *overrides, key=key)
        assert error.value.file == str(tmp_path / "job.yaml")
        return {problem.path: problem for problem in error.value.problems}

    return Job(read, problems)


def flow(*entries):
    return HEAD + "flow:\n  - read: flights\n" + "".join(f"  - {entry}\n" for entry in entries) + TAIL


def source(body):
    return f"pipeline: p\nkey: ???\nsources:\n  s: {body}\nflow:\n  - read: s{TAIL}"


# --- a file that is right --------------------


def test_a_whole_file(job):
    config = job.load(FULL)

    read, clean, enrich, daily, publish, copy = config.flow
    lake, legacy = publish.flow
    assert (config.state, config.output, config.retention_days) == ("state", "out", 0)
    assert config.sources["flights"].path == "data/date=2013-01-02/hour={branch}"
    assert config.sources["flights"].branch_names() == ("05", "06", "07")
    assert config.sources["weather"].options == {"header": True, "maxColumns": 9}
    assert (read.source, clean.name, clean.run) == ("flights", "clean", "cfg_flights:clean")
    assert (enrich.restart, enrich.version, daily.run) == (True, "2", None)
    assert (publish.name, publish.nodes()) == ("publish", ("publish", "publish/lake", "publish/legacy"))
    assert (lake.path, lake.mode, legacy.partition_by) == ("out/air", "replace", ("date",))
    assert (legacy.options, copy.mode) == ({"header": "true"}, "append")


def test_a_dumped_config_is_a_file_again(job):
    config = job.load(FULL)

    assert job.load(yaml.safe_dump(config.model_dump(mode="json", by_alias=True)), key=None) == config


def test_with_names_a_source_only_if_there_is_one_of_exactly_that_name():
    step = StepModel(name="s", run="m:f", **{"with": {"weather": "weather", "w": "wether", "limit": 5}})

    assert step.split_with({"weather"}) == ({"weather": "weather"}, {"w": "wether", "limit": 5})


def test_models_are_frozen(job):
    with pytest.raises(ValidationError):
        job.load(FULL).key = "other"


def test_reading_files_needs_no_spark():
    code = "import sys, spark_flow.jobfile; sys.exit('pyspark' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- the key, and other text --------------------


KEYS = ["2013-01-02", "20130102", "007", "1e5", "true", "1_000", "0x1F"]


@pytest.mark.parametrize("key", [*KEYS, "null"])
def test_a_key_is_text_as_typed(job, key):
    assert job.load(flow(), key=key).key == key


@pytest.mark.parametrize("key", KEYS)
def test_a_key_in_the_file_is_text_as_typed(job, key):
    assert job.load(flow().replace("???", key), key=None).key == key


def test_a_key_of_digits_is_interpolated_as_typed(job):
    assert job.load(flow(), key="007").sources["flights"].path == "data/date=007/hour={branch}"


@pytest.mark.parametrize("key", ["", "../x", "a/b", "a'b", " 7", "a..b"])
def test_a_key_that_is_no_folder_name(job, key):
    with pytest.raises(InvalidName) as error:
        job.load(flow(), key=key)

    assert (error.value.what, error.value.value) == ("key", key)


@pytest.mark.parametrize("written", ["???", "null", "~", ""])
def test_a_missing_key_is_told_with_everything_else(job, written):
    problems = job.problems(flow("step: {name: s}").replace("???", written), key=None)

    assert (problems["key"].found, set(problems)) == ("nothing", {"key", "flow[1].step.sql"})


@pytest.mark.parametrize("item", ["key=${nope}", "key=${", "key=${key}", "output=${output}", "pipeline=${vars.x}"])
def test_text_that_interpolates_nothing(job, item):
    assert item.partition("=")[0] in job.problems(flow(), item)


def test_no_key_at_all(job):
    assert set(job.problems(flow().replace("key: ???", ""), key=None)) == {"key"}


def test_pipeline_state_and_output_are_text(job):
    config = job.load(flow().replace("daily_flights", "007"), "state=1e5", "output=2013-01-02")

    assert (config.pipeline, config.state, config.output) == ("007", "1e5", "2013-01-02")
    assert config.flow[-1].path == "2013-01-02/lake"


def test_an_empty_state_is_refused(job):
    assert job.problems(flow(), "state=")["state"].found == "''"


@pytest.mark.parametrize("name", ["a/b", "-x", "''", "a..b"])
def test_a_bad_pipeline_name(job, name):
    assert set(job.problems(flow().replace("daily_flights", name))) == {"pipeline"}


# --- overrides --------------------


def test_overrides_reach_sources_flow_and_vars(job):
    config = job.load(
        FULL,
        "sources.weather.path=w/${key}",
        "flow.5.write.path=x=y",
        "flow[4].transaction[0].write.mode=append",
        "flow.4.transaction.0.write.replace_where=null",
        "vars.team=sea",
        "retention_days=3",
        "sources.other.options.a=b",
    )

    assert config.sources["weather"].path == "w/2013-01-02"
    assert config.sources["other"].options == {"a": "b"}
    assert config.flow[5].path == "x=y"
    assert config.flow[4].flow[0].mode == "append"
    assert config.flow[4].flow[0].path == "out/sea"
    assert config.retention_days == 3


@pytest.mark.parametrize(
    ("item", "path", "near"),
    [
        ("stat=x", "stat", "'state'"),
        ("sources.flihgts.path=x", "sources.flihgts.path", "'flights'"),
        ("sources.flights.pth=x", "sources.flights.pth", "'path'"),
        ("vars.taem=x", "vars.taem", "'team'"),
        ("flow.3.stp.name=x", "flow.3.stp.name", "'step'"),
        ("flow.3.step.nam=x", "flow[3].step.nam", "'name'"),
        ("flow.33.step.name=x", "flow.33.step.name", ""),
        ("flow.1.step.name=x", "flow.1.step.name", ""),
        ("pipeline.x=x", "pipeline.x", ""),
        ("nonsense", "nonsense", ""),
        ("=x", "=x", ""),
        ("a..b=x", "a..b=x", ""),
        ("vars.team=[", "vars.team", ""),
        ("vars.team=${", "vars.team", ""),
    ],
)
def test_an_override_that_names_nothing(job, item, path, near):
    problems = job.problems(FULL, item)

    assert set(problems) == {path}
    assert near in problems[path].fix


# --- files that are no files --------------------


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "none.yaml", [])

    assert (error.value.file, error.value.problems[0].path) == (str(tmp_path / "none.yaml"), "file")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError):
        load(tmp_path, [])


@pytest.mark.parametrize("text", ["", "# only a comment\n", "- a\n- b\n", "just text", "7", "&a [*a]"])
def test_not_a_mapping(job, text):
    assert set(job.problems(text)) == {"file"}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("pipeline: p\nflow: [a\n", "line 3, column 1"),
        ("pipeline: p\npipeline: q\n", "line 2, column 1"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1"),
        ("pipeline: p\n\tkey: x\n", "line 2, column 1"),
        ("pipeline: !!python/object:os.x {}\n", "line 1, column 11"),
        ("vars: {a: *b}\n", "line 1, column 11"),
    ],
)
def test_broken_yaml_is_told_with_line_and_column(job, text, path):
    assert set(job.problems(text)) == {path}


def test_a_mapping_that_holds_itself(job):
    assert job.problems("a: &x {b: *x}\n")


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "job.yaml").write_bytes(b"pipeline: \xff\xfe\n")

    with pytest.raises(ConfigError):
        load(tmp_path / "job.yaml", [])


# --- interpolation --------------------


@pytest.mark.parametrize(
    "written", ["${outptu}/x", "${vars.x}", "${oc.env:NO_SUCH_VARIABLE}", "${flow.9}", "${no_such:x}"]
)
def test_an_interpolation_to_nothing(job, written):
    text = flow(f'step: {{name: s, sql: "select * from {{frame}} -- {written}"}}')

    assert set(job.problems(text)) == {"flow[1].step.sql"}


def test_a_circle_of_interpolations(job):
    assert set(job.problems(flow() + "vars: {a: '${vars.b}', b: '${vars.a}'}")) == {"vars.a", "vars.b"}
    assert job.problems(flow() + "vars: {a: '${vars}'}")
    assert job.problems(flow() + "vars: {a: {b: '${vars.a}', c: '${vars}'}}")
    assert job.problems(flow() + "vars: {a: {b: '${vars.c}'}, c: {d: '${vars.a}', e: '${vars.a}'}}")


def test_the_nearest_name_is_offered_for_an_interpolation(job):
    text = flow('write: {name: w, format: csv, path: "${outptu}/x"}') + "output: o\n"

    assert "'output'" in job.problems(text)["flow[1].write.path"].fix


def test_a_missing_value_deep_in_the_file(job):
    problems = job.problems(source('{format: csv, path: "???"}'))

    assert problems["sources.s.path"].found == "nothing"


# --- sources --------------------


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ("{path: x}", "sources.s.format"),
        ("{format: jsn, path: x}", "sources.s.format"),
        ("{format: json}", "sources.s.path"),
        ("{format: json, path: 5}", "sources.s.path"),
        ("{format: json, path: ''}", "sources.s.path"),
        ("{format: json, path: x, branches: '05..06'}", "sources.s.branches"),
        ("{format: json, path: 'x/{branch}'}", "flow[0].read"),
        ("{format: json, path: x, schema: SCHEMA}", "sources.s.schema"),
        ("{format: json, path: x, schema: 'cfg_flights:SCHEM'}", "sources.s.schema"),
        ("{format: json, path: x, schema: 'cfg_flights:NUMBER'}", "sources.s.schema"),
        ("{format: json, path: x, bad_records: quarantine}", "sources.s.bad_records"),
        ("{format: json, path: x, schema: 'a INT', bad_records: skip}", "sources.s.bad_records"),
        ("{format: delta, path: x, bad_records: fail}", "sources.s.bad_records"),
        ("{format: delta, path: x, schema: 'a INT'}", "sources.s.schema"),
        ("{format: csv, path: x, options: {header: true, enforceSchema: true}}", "sources.s.options"),
        ("{format: json, path: x, schema: 'a INT', options: {mode: FAILFAST}}", "sources.s.options"),
        ("{format: json, path: x, schema: 'a INT', options: {encoding: cp1252}}", "sources.s.options"),
        ("{format: json, path: x, version: 3}", "sources.s.version"),
        ("{format: delta, path: x, version: -1}", "sources.s.version"),
        ("{format: delta, path: x, version: true}", "sources.s.version"),
        ("{format: delta, path: x, version: '3'}", "sources.s.version"),
        ("{format: json, path: x, options: {a: [1]}}", "sources.s.options.a"),
        ("{format: json, path: x, options: {a: null}}", "sources.s.options.a"),
        ("{format: json, path: x, schema_: 'a INT'}", "sources.s.schema_"),
        ("text", "sources.s"),
    ],
)
def test_a_source_that_is_wrong(job, body, path):
    assert set(job.problems(source(body))) == {path}


def test_a_bad_source_name(job):
    assert set(job.problems(HEAD + "  a/b: {format: csv, path: x}\nflow:\n  - read: flights" + TAIL)) == {"sources.a/b"}


@pytest.mark.parametrize(
    "branches",
    [
        "05",
        "a..b",
        "5..",
        "23..05",
        "5..023",
        "0..99999",
        "",
        [],
        ["a", "a"],
        [5],
        ["a/b"],
        5,
        {"a": 1},
        "٣..٤",
        "5..6\n",
    ],
)
def test_branches_that_are_none(branches):
    with pytest.raises(ValidationError):
        SourceModel.model_validate({"format": "json", "path": "{branch}", "branches": branches})


@given(st.integers(0, 2000), st.integers(0, 50), st.integers(0, 6))
def test_a_range_counts_up_and_keeps_its_width(first, more, width):
    width = max(width, len(str(first)))
    text = f"{first:0{width}}..{first + more:0{width}}"

    names = SourceModel(format="json", path="{branch}", branches=text).branch_names()

    assert [int(name) for name in names] == list(range(first, first + more + 1))
    assert text in {f"{names[0]}..{names[-1]}", f"{names[0]}..{int(names[-1]):0{width}}"}
    assert all(len(name) >= len(names[0]) for name in names)


@given(st.lists(st.from_regex(r"\A[a-z0-9]{1,8}\Z"), min_size=1, unique=True))
def test_a_list_of_branches_is_kept_as_it_is(names):
    assert SourceModel(format="json", path="{branch}", branches=names).branch_names() == tuple(names)


# --- the flow --------------------


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ("raed: flights", "flow[1]"),
        ("read: flihgts", "flow[1].read"),
        ("read: {source: flihgts}", "flow[1].read.source"),
        ("read: 5", "flow[1].read"),
        ("just text", "flow[1]"),
        ("{step: 'cfg_flights:clean', name: x}", "flow[1]"),
        ("step:", "flow[1].step"),
        ("step: {name: s}", "flow[1].step.sql"),
        ("step: {name: s, run: 'cfg_flights:clean', sql: 'select * from {frame}'}", "flow[1].step.sql"),
        ("step: {sql: 'select * from {frame}'}", "flow[1].step.name"),
        ("step: {name: s, sql: 'select 1'}", "flow[1].step.sql"),
        ("step: {name: s, sql: 'select 1 from {fram}'}", "flow[1].step.sql"),
        ("step: {name: s, sql: 'select * from {frame} join {w}'}", "flow[1].step.sql"),
        ("step: {name: s, sql: 'select { from {frame}'}", "flow[1].step.sql"),
        ("step: {name: a/b, run: 'cfg_flights:clean'}", "flow[1].step.name"),
        ("step: {run: 'cfg_flights:clean', wiht: {}}", "flow[1].step.wiht"),
        ("step: {run: 'cfg_flights:clean', with_: {}}", "flow[1].step.with_"),
        ("step: {run: 'cfg_flights:clean', pattern: read}", "flow[1].step.pattern"),
        ("step: {run: 'cfg_flights:clean', with: {a-b: 1}}", "flow[1].step.with"),
        ("step: {run: 'cfg_flights:clean', with: {frame: 1}}", "flow[1].step.with"),
        ("step: {run: 'cfg_flights:clean', with: [a]}", "flow[1].step.with"),
        ("step: {run: 'cfg_flights:clean', restart: 5}", "flow[1].step.restart"),
        ("step: {run: 'cfg_flights:clean', version: 1.10}", "flow[1].step.version"),
        ("step: clean", "flow[1].step"),
        ("step: cfg_flights.clean", "flow[1].step"),
        ("step: cfg_flights:cleen", "flow[1].step"),
        ("step: cfg_flights:SCHEMA", "flow[1].step"),
        ("step: cfg_flight:clean", "flow[1].step"),
        ("write: text", "flow[1].write"),
        ("write: {name: w, format: csv}", "flow[1].write.path"),
        ("write: {name: w, format: csv, path: x, partition: d}", "flow[1].write.partition"),
        ("write: {name: w, format: csv, path: x, partition_by: 5}", "flow[1].write.partition_by"),
        ("write: {name: w, format: csv, path: x, partition_by: [a, a]}", "flow[1].write.partition_by"),
        ("write: {name: w, format: csv, path: x, partition_by: [5]}", "flow[1].write.partition_by[0]"),
        ("write: {name: w, format: csv, path: x, replace_where: a}", "flow[1].write.replace_where"),
        ("write: {name: w, format: csv, path: x, properties: {a: b}}", "flow[1].write.properties"),
        (
            "write: {name: w, format: delta, path: x, mode: append, replace_where: a}",
            "flow[1].write.replace_where",
        ),
        ("write: {name: w, format: delta, path: x, mode: upsert}", "flow[1].write.mode"),
        ("write: {name: lake, format: csv, path: x}", "flow[2].write"),
        ("transaction: []", "flow[1].transaction"),
        ("transaction: {flow: []}", "flow[1].transaction.flow"),
        ("transaction: [{step: 'cfg_flights:clean'}]", "flow[1].transaction[0].step"),
        ("transaction: {flow: [{read: flights}]}", "flow[1].transaction.flow[0].read"),
        ("transaction: [{write: {name: w, format: csv, path: ''}}]", "flow[1].transaction[0].write.path"),
    ],
)
def test_an_entry_that_is_wrong(job, entry, path):
    assert set(job.problems(flow(entry))) == {path}


@pytest.mark.parametrize(
    ("entry", "path", "near"),
    [
        ("wirte: {}", "flow[1]", "'write'"),
        ("read: flihgts", "flow[1].read", "'flights'"),
        ("step: {run: 'cfg_flights:clean', wth: {}}", "flow[1].step.wth", "'with'"),
        (
            "write: {name: w, format: csv, path: x, partitionby: d}",
            "flow[1].write.partitionby",
            "'partition_by'",
        ),
        ("write: {name: w, format: parqet, path: x}", "flow[1].write.format", "'parquet'"),
        ("step: cfg_flights:cleen", "flow[1].step", "'clean'"),
        ("step: cfg_flight:clean", "flow[1].step", "'cfg_flights'"),
    ],
)
def test_the_nearest_valid_name_is_offered(job, entry, path, near):
    assert near in job.problems(flow(entry))[path].fix


def test_names_are_unique_and_told_where_they_are_used_again(job):
    step = "step: {name: s, sql: 'select * from {frame}'}"

    assert set(job.problems(flow(step, step, step))) == {"flow[2].step", "flow[3].step"}


def test_the_same_name_within_a_transaction_and_outside_is_two_names(job):
    assert job.load(flow("transaction: [{write: {name: lake, format: csv, path: x}}]"))


def test_a_flow_starts_with_read_and_has_a_write(job):
    assert set(job.problems(HEAD + "flow:" + TAIL)) == {"flow[0]"}
    assert set(job.problems(HEAD + "flow: [{read: flights}]")) == {"flow"}
    assert set(job.problems(HEAD + "flow: []")) == {"flow"}
    assert set(job.problems(HEAD + "flow: {read: flights}")) == {"flow"}
    assert set(job.problems(HEAD)) == {"flow"}


def test_all_problems_are_told_at_once(job):
    text = """
pipeline: a/b
key: ???
kye: 1
retention_days: -1
sources:
  flights: {formt: json, path: "${kee}", schema: "cfg_flights:SCHEM"}
flow:
  - step: cfg_flights:cleen
  - raed: x
  - step: {name: s, sql: "select * from {frame}"}
  - step: {name: s, sql: "select * from {frame}"}
"""

    assert set(job.problems(text, "stat=x", key=None)) == {
        "stat", "key", "kye", "pipeline", "retention_days", "sources.flights.formt", "sources.flights.format",
        "sources.flights.path", "sources.flights.schema", "flow[0]", "flow[0].step", "flow[1]",
        "flow[3].step",
    }  # fmt: skip


def test_a_config_built_in_python_is_checked_as_a_whole_too():
    with pytest.raises(ValidationError):
        JobConfig.model_validate({"pipeline": "p", "key": "k", "sources": {}, "flow": []})


# --- references --------------------


def test_a_reference_is_what_it_names(job, tmp_path):
    assert resolve("cfg_flights:clean", beside=tmp_path).__name__ == "clean"
    assert resolve("cfg_flights:Steps.run", beside=tmp_path).__name__ == "run"
    assert resolve("os.path:join") is __import__("os").path.join


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("def f(:\n", "SyntaxError"),
        ("import no_such_package_at_all\n", "ModuleNotFoundError"),
        ("from os import no_such_name\n", "ImportError"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("raise SystemExit(3)\n", "SystemExit"),
    ],
)
def test_a_module_that_does_not_import_is_told_with_its_cause(job, tmp_path, code, cause):
    (tmp_path / "cfg_broken.py").write_text(code, encoding="utf-8")

    assert cause in job.problems(flow("step: cfg_broken:f"))["flow[1].step"].found


@pytest.mark.parametrize(
    "reference", ["os", "os:", ":join", "os:path:join", "os path:join", "os:1", "", "os..path:join"]
)
def test_a_reference_that_is_none(reference):
    with pytest.raises(ConfigError) as error:
        resolve(reference)

    assert error.value.problems[0].path == reference


def test_references_are_resolved_by_many_threads_at_once(tmp_path):
    """As runs side by side do: the caches of Python's imports are one for all, and each clears what is stale.

    Each thread has a module of its own: one that takes another's away while it is imported fails by itself.
    """
    names = [f"of_thread_{number}" for number in range(8)]
    for name in names:
        (tmp_path / f"{name}.py").write_text("HERE = True\n")

    def work(name):
        for n in range(150):
            sys.path_importer_cache[f"/no/such/{n % 7}.zip"] = None
            sys.modules.pop(name, None)
            assert resolve(f"{name}:HERE", beside=tmp_path) is True

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, names))
    finally:
        sys.setswitchinterval(interval)


def test_a_module_that_another_thread_still_imports_is_waited_for(tmp_path, monkeypatch):
    (tmp_path / "slow_to_import.py").write_text("import time\ntime.sleep(0.5)\nHERE = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(importlib.import_module, "slow_to_import")
        while "slow_to_import" not in sys.modules:
            assert not first.done()
        assert resolve("slow_to_import:HERE") is True
        assert first.result().HERE is True


@pytest.mark.parametrize("name", ["twice", "json", "of_package"])
def test_a_module_of_the_same_name_from_elsewhere_is_refused_not_used(tmp_path, name):
    for folder in ("one", "two"):
        home = tmp_path / folder / ("of_package" if name == "of_package" else ".")
        home.mkdir(parents=True)
        (home / ("__init__.py" if name == "of_package" else f"{name}.py")).write_text(f"HERE = {folder!r}\n")
    if name != "json":
        assert resolve(f"{name}:HERE", beside=tmp_path / "one") == "one"
        assert resolve(f"{name}:HERE", beside=tmp_path / "one") == "one"
    with pytest.raises(ConfigError) as error:
        resolve(f"{name}:HERE", beside=tmp_path / "two")
    assert str(tmp_path / "two") in error.value.problems[0].expected
    assert sys.modules[name].__file__ in error.value.problems[0].found


NEEDS_SPARK = """
from pyspark.sql import functions as F

@F.udf("double")
def f(x):
    return x

def go(frame):
    return frame
"""
READS_IT = (
    "import sys; from pathlib import Path; from spark_flow import jobfile; jobfile.load(sys.argv[1], beside=Path('.'))"
)


def test_a_module_that_needs_spark_when_it_is_imported_says_what_to_do(tmp_path):
    """In a process of its own: another test's session would be there."""
    (tmp_path / "needs_spark.py").write_text(NEEDS_SPARK)
    (tmp_path / "job.yaml").write_text(
        "pipeline: p\nkey: k\nsources: {in: {format: json, path: x}}\nflow: [read: in, step: needs_spark:go]\n"
    )
    command = [sys.executable, "-c", READS_IT, "job.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "use Spark in functions only; for a UDF, udf(DoubleType())" in done.stderr


def test_a_misspelt_key_is_one_problem_and_not_a_missing_one_besides(tmp_path):
    (tmp_path / "job.yaml").write_text(
        "pipeline: p\nkey: k\nsources: {in: {format: json, path: in}}\n"
        "flow: [{read: in}, {write: {nmae: lake, format: delta, path: out, mode: overwrite}}]\n"
    )
    with pytest.raises(ConfigError) as wrong:
        load(tmp_path / "job.yaml")
    (problem,) = wrong.value.problems
    assert (problem.found, problem.fix) == ("unknown key 'nmae'", "Did you mean 'name'?")
