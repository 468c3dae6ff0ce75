"""Keys whose runs would meet are refused before they go on side by side, and no others are."""

import dataclasses
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import dated
from handover import AT_ONCE, provide
from hypothesis import given
from hypothesis import strategies as st

import spark_flow as sf
from spark_flow.engine.mode import Mode
from spark_flow.errors import ConfigError, SharedState, TookFallback, UsageError
from spark_flow.jobfile import load
from spark_flow.jobfile.entries.call import CallModel
from spark_flow.jobfile.entries.expose import ExposeModel
from spark_flow.jobfile.entries.trigger import TriggerModel
from spark_flow.jobfile.footprint import footprint
from spark_flow.jobfile.model.base import FlowModel
from spark_flow.jobfile.model.flow import PATTERNS
from spark_flow.jobfile.model.transform import TransformModel
from spark_flow.ledger import MemoryLedger
from spark_flow.orchestration import shared_state
from spark_flow.orchestration.shared_state import Footprint, Read, Write, check
from spark_flow.storage.files import absolute
from spark_flow.storage.sink_protocol import ALL, UNTOLD, replaces
from spark_flow.storage.staged import staged

ROOT = Path(__file__).parent.parent
DAYS = ("2013-01-01", "2013-01-02", "2013-01-03")
KEY = DAYS[1]
HEAD = """
pipeline: p
key: ???
sources:
  raw: {format: json, path: "data/date=${key}/hour={branch}", branches: "05..06"}
  planes: {format: csv, path: data/planes}
  trend: {format: delta, path: out/trend}
"""
DAILY = '{name: daily, format: delta, path: "${output}/daily", partition_by: [date]}'
JOINED = "{name: s, sql: 'SELECT * FROM {frame}, {t}', with: {t: trend}}"
TREND = "{name: save, format: delta, path: out/trend/, partition_by: date}"


def found(footprints, **how):
    """The conflicts, in short: who and where."""
    try:
        check(footprints, **how)
    except SharedState as error:
        here = f"{absolute('.')}/"
        return [(one.nodes, tuple(path.removeprefix(here) for path in one.paths)) for one in error.conflicts]
    return []


def same(*, writes=(), reads=(), keys=DAYS):
    """Footprints of keys that do the same, the key in place of ``K``."""
    return [
        Footprint(
            key,
            tuple(Write(n, p.replace("K", key), r.replace("K", key)) for n, p, r in writes),
            tuple(Read(n, p.replace("K", key)) for n, p in reads),
        )
        for key in keys
    ]


@pytest.fixture
def of_file(tmp_path, monkeypatch):
    """The footprints of a file's flow for some keys; its folder is the current one."""
    monkeypatch.chdir(tmp_path)

    def make(*entries, keys=DAYS, head=HEAD):
        text = head + "flow:\n" + "".join(f"  - {entry}\n" for entry in entries)
        (tmp_path / "job.yaml").write_text(text)
        return [footprint(load(tmp_path / "job.yaml", [f"key={key}"])) for key in keys]

    return make


def places(footprint, kind="writes"):
    """What a footprint holds, as its file has it."""
    here = f"{absolute('.')}/"
    told = [dataclasses.astuple(one) for one in getattr(footprint, kind)]
    return {(node, path.removeprefix(here), *rows) for node, path, *rows in told}


# --- a: the same rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sink", "refused"),
    [
        ("{format: delta, path: out/t, partition_by: date}", False),
        ("{format: delta, path: out/t}", False),  # appended
        ("{format: delta, path: out/t, mode: append}", False),
        ("{format: delta, path: out/t, mode: append, partition_by: date}", False),
        ("{format: delta, path: out/t, mode: overwrite}", True),
        ("{format: delta, path: out/t, mode: overwrite, partition_by: date}", True),
        ('{format: delta, path: "out/t/${key}", mode: overwrite}', False),
        ('{format: delta, path: out/t, replace_where: "true"}', True),
        ('{format: delta, path: out/t, partition_by: date, replace_where: "month = 1"}', True),
        ("{format: delta, path: out/t, replace_where: \"day = '${key}'\"}", False),
        ("{format: csv, path: out/t}", False),
        ("{format: parquet, path: out/t, partition_by: [date, hour]}", False),
    ],
)
@pytest.mark.parametrize("within", ["write", "split", "transaction", "split in transaction", "route"])
def test_a_table_is_refused_that_two_keys_replace_the_same_rows_of(of_file, sink, refused, within):
    named = "{name: t, " + sink.removeprefix("{")
    entry = {
        "write": f"write: {named}",
        "split": f"parallel_split: {{t: {sink}}}",
        "transaction": f"transaction: [write: {named}]",
        "split in transaction": f"transaction: [parallel_split: {{t: {sink}}}]",
        "route": "exclusive_choice: {name: c, default: d, routes: {"
        f"d: {{flow: [write: {named}]}}, r: {{when: {{by_data: {{}}}}, flow: [write: {DAILY}]}}}}}}",
    }[within]
    node = "publish/t" if "transaction" in within else "t"
    assert found(of_file("read: planes", entry)) == ([((node,), ("out/t",))] if refused else [])


def test_what_is_kept_in_staging_is_a_table_as_well(of_file):
    sink = '{name: t, format: delta, path: "out/t/${key}", staging: out/part, mode: overwrite}'
    assert found(of_file("read: planes", f"write: {sink}")) == [(("t",), ("out/part",))]


def test_an_overwrite_and_an_append_of_another_key_meet():
    keys = [Footprint("a", (Write("n", "t", "all"),)), Footprint("b", (Write("m", "t", ""),))]
    assert found(keys) == [(("m", "n"), ("t",))]


@pytest.mark.parametrize(
    ("ones", "others", "refused"),
    [
        (Write("n", "t", ""), Write("m", "t", ""), False),
        (Write("n", "t", "p"), Write("m", "t", ""), False),
        (Write("n", "t", "p"), Write("m", "t", "q"), False),
        (Write("n", "t", "p"), Write("m", "t", "p"), True),
        (Write("n", "t", "p"), Write("m", "t", ALL), True),
        (Write("n", "t", "p"), Write("m", "t", UNTOLD), True),
        (Write("n", "t", ALL), Write("m", "t2", ALL), False),
        (Write("n", "t", ""), Write("m", "t/x", ""), True),
        (Write("n", "t/x", ALL), Write("m", "t", "p"), True),
        (Write("n", "t/k=a", ALL), Write("m", "t/k=b", ALL), False),
    ],
)
def test_two_writes(ones, others, refused):
    assert bool(found([Footprint("a", (ones,)), Footprint("b", (others,))])) is refused
    assert not found([Footprint("a", (ones, others))])  # of one key: the run's own affair
    assert not found([Footprint("a", (ones, others)), Footprint("a", (ones, others))])


def test_a_write_within_that_of_another_key_tells_both():
    keys = [*same(writes=[("n", "out/K", ALL)]), Footprint("other", (Write("m", f"out/{KEY}/x", ""),))]
    assert found(keys) == [(("m", "n"), (f"out/{KEY}", f"out/{KEY}/x"))]


def test_a_sink_that_does_not_tell_its_rows_may_replace_all():
    sink = SimpleNamespace(paths=("out/x", "out/y"))  # of another package, by the port as it was
    assert replaces(sink, KEY) == {"out/x": UNTOLD, "out/y": UNTOLD}
    assert replaces(staged(sf.csv("/out/c"), sink), KEY) == {
        f"/out/c/key={KEY}": ALL,
        "out/x": UNTOLD,
        "out/y": UNTOLD,
    }
    told = [Footprint(key, (Write("n", "out/x", UNTOLD),)) for key in DAYS]
    with pytest.raises(SharedState, match="as far as its sink reports"):
        check(told)
    assert not found(same(writes=[("n", "out/K", UNTOLD)]))


# --- b: what another key writes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "written", "refused"),
    [
        ("out/trend", "out/trend", True),
        ("out/trend", "out/trend/", True),
        ("./out//trend/", "out/trend", True),
        ("out/trend/date=K", "out/trend", True),
        ("out", "out/trend", True),
        ("out/trend", "out/trend2", False),
        ("out/trend2", "out/trend", False),
        ("out/tren", "out/trend", False),
        ("out/trend", "out/trend/date=K", True),
        ("out/trend/date=K", "out/trend/date=K", False),
        ("out/trend/date=K/a.csv", "out/trend/date=K", False),
        ("out/trend/date=2013-01-02", "out/trend/date=K", True),
        ("out/*/date=K", "out/trend/date=K", False),
        ("out/*/date=*", "out/trend/date=K", True),
        ("out/*/date=2013-01-0[12]", "out/trend/date=K", True),
        ("out/*/date=2013-01-0[^123]", "out/trend/date=K", False),
        ("out/*/date=2012-*", "out/trend/date=K", False),
        ("out/*", "out/trend", True),
        ("out/*/*/a.csv", "out/trend", True),
        ("out/[t]", "out/[t]", True),
        ("out/{trend,x}", "out/trend", True),
        ("{data,out/trend}", "out/trend", True),
        ("outside/*", "out/trend", False),
        ("s3://b/out/trend", "s3://b/out/trend/", True),
        ("s3a://b/out/trend", "s3://b/out/trend", True),
        ("s3://b/out/trend", "s3://c/out/trend", False),
        ("s3://out/trend", "out/trend", False),
        ("s3://b/out/trend2", "s3://b/out/trend", False),
        ("s3://b", "s3://b/out/trend", True),
        ("/data/x", "file:///data/x", True),
        ("file:/data/x/y", "/data/x", True),
    ],
)
def test_a_read_of_what_another_key_writes_is_refused(read, written, refused):
    assert bool(found(same(reads=[("r", read)], writes=[("w", written, "")]))) is refused


def test_only_other_keys_are_asked():
    assert not found(same(reads=[("r", "t")], writes=[("w", "t", "")], keys=DAYS[:1]))
    one = [Footprint("a", (Write("w", "t"),), (Read("r", "t"),)), Footprint("b", (Write("w", "u"),))]
    assert not found(one)
    assert found([*one, Footprint("c", (), (Read("r", "t"),))])
    assert found([*one, Footprint("c", (Write("w", "t"),))])


def test_links_are_followed(tmp_path):
    (tmp_path / "real" / "t").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    keys = same(reads=[("r", f"{tmp_path}/link/t/x")], writes=[("w", f"{tmp_path}/real/t", "")])
    assert [nodes for nodes, _ in found(keys)] == [("r", "w")]
    assert not found(same(reads=[("r", f"{tmp_path}/link/t2")], writes=[("w", f"{tmp_path}/real/t", "")]))


@pytest.mark.parametrize(
    ("node", "entries"),
    [
        ("trend", ["read: trend"]),
        ("trend", ["read: planes", f"step: {JOINED}"]),
        (
            "trend",
            [
                "read: planes",
                f"parallel_split: {{x: {{step: {JOINED}, format: csv, path: out/x}}}}",
            ],
        ),
        ("f", ["aligned_fan_in: {name: f, sources: [planes, trend]}"]),
        ("f", ["unaligned_fan_in: {name: f, source: raw, require: any_succeeded, on_all_failed: {source: trend}}"]),
        ("f", ["unaligned_fan_in: {name: f, sources: [planes, trend], require: any_succeeded}"]),
        (
            "c",
            [
                "read: planes",
                "exclusive_choice: {name: c, default: d, routes: {d: {flow: [write: " + DAILY + "]}, "
                "r: {when: {by_schema: {source: trend, has: x}}, flow: [write: {name: e, format: csv, path: out/e}]}}}",
            ],
        ),
        (
            "trend",
            [
                "read: planes",
                "exclusive_choice: {name: c, default: d, routes: {d: {flow: [write: " + DAILY + "]}, "
                "r: {when: {by_data: {}}, flow: [read: trend, write: {name: e, format: csv, path: out/e}]}}}",
            ],
        ),
    ],
)
def test_a_source_is_found_wherever_the_file_names_it(of_file, node, entries):
    assert found(of_file(*entries, f"write: {TREND}")) == [((node, "save"), ("out/trend",))]
    assert not found(of_file(*entries, f"write: {TREND.replace('out/trend/', 'out/trend2')}"))


def test_the_branches_of_a_fan_in_are_read(of_file):
    branches = "aligned_fan_in: {name: hours, source: raw}"
    (first, *_) = of_file(branches, f"write: {DAILY}")
    assert places(first, "reads") == {("hours", f"data/date={DAYS[0]}/hour={hour}") for hour in ("05", "06")}
    other = HEAD.replace('path: "data/date=${key}/hour={branch}", branches: "05..06"', 'path: "out/{branch}"')
    there = of_file("aligned_fan_in: {name: hours, source: raw, branches: [daily]}", f"write: {DAILY}", head=other)
    assert found(there) == [(("hours", "daily"), ("out/daily",))]


def test_a_source_that_is_declared_and_not_read_is_no_read(of_file):
    assert not found(of_file("read: planes", f"write: {TREND}"))


def test_a_version_that_is_given_stays_as_it_is(of_file):
    head = HEAD.replace("path: out/trend", "path: out/trend, version: 3")
    assert not found(of_file("read: trend", f"write: {TREND}", head=head))


@pytest.mark.parametrize("keys", ["same", "last_days(1)", "last_days(3)"])
def test_a_wait_for_its_own_key_of_what_it_publishes_is_no_file_at_all(of_file, keys):
    wait = f"wait_for: {{dataset: [others, days], keys: {keys}}}"
    with pytest.raises(ConfigError):
        of_file(wait, f"write: {DAILY}", "publish: days")
    assert not found(of_file(wait, f"write: {DAILY}", "publish: hours"))
    assert not found(of_file(wait.replace("}", ", markers: elsewhere}"), f"write: {DAILY}", "publish: days"))


def test_a_wait_for_the_marker_of_another_key_is_refused():
    marks = [f"/m/days/{key}.json" for key in DAYS[:2]]
    prints = [Footprint(key, (Write("marker/days", mark, "all"),)) for key, mark in zip(DAYS, marks, strict=False)]
    later = Footprint(DAYS[2], (), (Read("wait/days", marks[1]),))
    assert not found([prints[0], later])
    assert found([*prints, later]) == [(("wait/days", "marker/days"), (marks[1],))]


# --- what is safe by design ------------------------------------------------------------------------------------


def test_completeness_errors_and_markers_have_rows_and_files_for_each_key(of_file):
    days = of_file(
        "unaligned_fan_in: {name: f, source: raw, require: any_succeeded, on_all_failed: {error_table: out/errors}}",
        f"write: {DAILY}",
        "report_completeness: {dataset: days, table: out/completeness}",
        "publish: {dataset: days, success_file: true}",
    )
    assert not found(days)
    assert places(days[0]) == {
        ("f/fallback", "out/errors", "key = '2013-01-01'"),
        ("daily", "out/daily", "`date` = '2013-01-01'"),
        ("completeness", "out/completeness", "key = '2013-01-01'"),
        ("marker/days", "out/markers/days/2013-01-01.json", ALL),
    }


def test_who_reads_the_completeness_of_all_keys_is_refused(of_file):
    head = HEAD.replace("path: out/trend", "path: out/completeness")
    days = of_file(
        "aligned_fan_in: {name: f, source: raw}",
        f"step: {JOINED}",
        f"write: {DAILY}",
        "report_completeness: {dataset: days, table: out/completeness}",
        head=head,
    )
    assert found(days) == [(("trend", "completeness"), ("out/completeness",))]


NOT_SO = ("stream_split", "pools", "single_runner")  # a stream, no job, and the trend, which is to be refused
JOBS = sorted(path.name for path in (ROOT / "conf").glob("*.yaml") if path.stem not in NOT_SO)


@pytest.mark.parametrize("job", JOBS)
def test_the_jobs_that_come_with_it_may_run_side_by_side(job, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    keys = [f"{day}T05" for day in DAYS] if job == "flights_by_hour.yaml" else DAYS
    configs = [load(ROOT / "conf" / job, [f"key={key}", f"output={tmp_path}"], beside=ROOT / "jobs") for key in keys]
    footprints = [footprint(config) for config in configs]
    assert all(one.writes for one in footprints)
    assert not found(footprints)


def test_each_pattern_of_a_file_has_a_footprint_but_those_that_touch_nothing():
    without = [model for model in PATTERNS.values() if model.footprint is FlowModel.footprint]
    transforms = [model for model in without if issubclass(model, TransformModel)]
    # A triggered job has a footprint of its own; a view goes with its table, and may be switched by several keys.
    assert set(without) == {*transforms, TriggerModel, CallModel, ExposeModel}


# --- c: declared -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "refused"),
    [("out/t", True), ("out/t/", True), ("out", True), ("out/t/x", True), ("out/t2", False), ("out/T", False)],
)
def test_what_is_declared_shared_is_refused_where_two_keys_write(declared, refused):
    days = same(writes=[("w", "out/t", "date = K")])
    assert bool(found(days, shared_state=[declared])) is refused
    assert not found(days[:1], shared_state=[declared])
    assert not found(same(reads=[("w", "out/t")]), shared_state=[declared])


# --- in order --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("in_order", "refused"), [(("r", "w"), False), (("r",), True), (("w",), True), ((), True)])
def test_a_read_is_in_order_if_who_writes_is_as_well(in_order, refused):
    days = same(reads=[("r", "t")], writes=[("w", "t", "date = K")])
    assert bool(found(days, in_order=in_order)) is refused


@pytest.mark.parametrize("node", ["w", "x"])
@pytest.mark.parametrize("how", [{}, {"shared_state": ["t"]}])
def test_a_write_is_in_order_if_its_node_is(node, how):
    days = same(writes=[("w", "t", "date = K" if how else ALL)])
    assert bool(found(days, in_order=[node], **how)) is (node != "w")


def test_two_nodes_that_write_one_place_must_both_be_in_order():
    days = [Footprint("a", (Write("n", "t", ALL),)), Footprint("b", (Write("m", "t/x", ALL),))]
    assert found(days, in_order=["n"])
    assert not found(days, in_order=["n", "m"])


# --- what is told ----------------------------------------------------------------------------------------------


def test_all_is_told_at_once_with_its_remedy(of_file):
    whole = "write: {name: all, format: delta, path: out/all, mode: overwrite}"
    days = of_file("read: trend", f"write: {TREND}", whole)
    with pytest.raises(SharedState) as refused:
        check(days, shared_state=["out/trend"])
    error = refused.value
    assert isinstance(error, UsageError)
    assert error.exit_code == 2
    assert error.nodes == ("all", "save", "trend")
    assert error.keys == DAYS
    assert error.paths == (absolute("out/all"), absolute("out/trend"))
    assert str(error) == (
        "these keys cannot run side by side: 3 conflict(s)\n"
        "  save of key 2013-01-01 and of 2013-01-02 write to out/trend, which is declared shared state."
        " Name save in depends_on_past.\n"
        "  trend of key 2013-01-02 reads out/trend, which save of key 2013-01-01 writes."
        " Name trend and save in depends_on_past.\n"
        "  all of key 2013-01-01 and of 2013-01-02 replace the same rows of out/all (all). Partition the table by the"
        " key (partition_by), put the key in its path or in replace_where, or name all in depends_on_past.\n"
        "Or run them one after another, by the single runner with depends_on_past."
    )


def test_many_keys_and_places_are_one_line():
    days = same(reads=[("r", "x/*")], writes=[("w", "x/K", ALL), ("v", "t", ALL)])
    with pytest.raises(SharedState) as refused:
        check(days)
    assert [one.nodes for one in refused.value.conflicts] == [("r", "w"), ("v",)]
    assert set(refused.value.conflicts[0].paths) == {"x/*", *(f"x/{key}" for key in DAYS)}


def test_a_year_is_checked_at_once():
    keys = [f"2013-{month:02d}-{day:02d}" for month in range(1, 13) for day in range(1, 31)]
    year = same(
        keys=keys,
        reads=[*(("hours", f"data/date=K/hour={hour:02d}") for hour in range(19)), ("trend", "out/trend")],
        writes=[
            ("daily", "out/daily", "date = K"),
            ("trend_table", "out/trend", "date = K"),
            ("legacy", "out/legacy/date=K", ALL),
            ("marker", "out/markers/K.json", ALL),
        ],
    )
    began = time.process_time()
    assert found(year, shared_state=["out/legacy"]) != []
    assert time.process_time() - began < 2  # a tenth of it is used


_PATHS = st.sampled_from(["t", "./t", "t/a", "t/b", "t/b/x", "u"])
_WRITES = st.builds(Write, st.sampled_from("wv"), _PATHS, st.sampled_from(["", "p", ALL]))
_READS = st.builds(Read, st.sampled_from("rw"), st.sampled_from(["t", "./t/a", "t/b", "t*", "u/*"]))
_FOOTPRINTS = st.builds(Footprint, st.sampled_from("abc"), st.lists(_WRITES).map(tuple), st.lists(_READS).map(tuple))


def _refused(footprints, in_order):
    try:
        check(footprints, shared_state=["t/a"], in_order=in_order)
    except SharedState as error:
        return error.conflicts, str(error)
    return None


@given(st.data(), st.lists(_FOOTPRINTS, max_size=5), st.sets(st.sampled_from("rwv")))
def test_the_order_of_keys_does_not_matter(data, footprints, in_order):
    other = data.draw(st.permutations(footprints))
    assert _refused(footprints, in_order) == _refused(other, in_order)


@given(st.lists(_FOOTPRINTS, max_size=5), st.sets(st.sampled_from("rwv")))
def test_what_is_refused_is_a_pair_of_keys(footprints, in_order):
    pairs = [(one, other) for one in footprints for other in footprints if one.key < other.key]
    assert bool(_refused(footprints, in_order)) == any(_refused(pair, in_order) for pair in pairs)


# --- the plan of a run in Python -------------------------------------------------------------------------------


def test_a_plan_tells_what_it_would_write_without_a_session(tmp_path):
    def of_plan(key, sink):
        with sf.Run.open("p", key, ledger=MemoryLedger(), mode=Mode(plan=True)) as run:
            sf.publish(run, "d", markers=f"{tmp_path}/markers", state="skipped")
            run.graph.writes["w"] = replaces(sink, key)
        return shared_state.footprint(run)

    days = [of_plan(key, sf.delta("out/t", partition_by="date")) for key in DAYS]
    assert places(days[0]) == {
        ("marker/d", f"{tmp_path}/markers/d/2013-01-01.json", ALL),
        ("w", "out/t", "`date` = '2013-01-01'"),
    }
    assert not found(days)
    assert found([of_plan(key, sf.delta("out/t", mode="overwrite")) for key in DAYS])


def test_a_plan_tells_what_it_would_read_without_a_session(tmp_path):
    provide(tmp_path, dataset="days")
    markers = f"{tmp_path}/out/markers"
    with sf.Run.open("p", KEY, ledger=MemoryLedger(), mode=Mode(plan=True)) as run:
        sf.read(run, "planes", sf.source("csv", "/data/planes"))
        sf.read(run, "pinned", sf.source("delta", "/data/pinned", version=3))
        sf.aligned_fan_in(run, "hours", sf.source("json", "/data/{branch}", branches=("05", "06")))
        sf.wait_for(run, "days", keys=sf.last_days(2), require=sf.any_succeeded, markers=markers, polling=AT_ONCE)
    assert places(shared_state.footprint(run), "reads") == {
        ("planes", "/data/planes"),
        ("hours", "/data/05"),
        ("hours", "/data/06"),
        *(("wait/days", f"{markers}/days/{key}.json") for key in DAYS[:2]),
    }


def test_a_plan_tells_of_the_fallback_that_it_would_take(tmp_path):
    absent = sf.source("json", f"{tmp_path}/{{branch}}", branches=("05", "06"))
    errors = sf.error_table("/out/errors")
    run = sf.Run.open("p", KEY, ledger=MemoryLedger(), mode=Mode(plan=True))
    with pytest.raises(TookFallback), run:
        sf.unaligned_fan_in(run, "hours", absent, require=sf.any_succeeded, on_all_failed=errors)
    told = shared_state.footprint(run)
    assert places(told) == {("hours/fallback", "/out/errors", f"key = '{KEY}'")}
    assert {read.node for read in told.reads} == {"hours"}


@pytest.mark.spark
def test_a_plan_of_a_body_is_checked_as_its_file_would_be(spark, tmp_path, lines):
    folder = lines('{"id": "a", "n": 1}')
    out = tmp_path / "out"
    spark.range(1).selectExpr("'a' AS id", "date'2013-01-01' AS date").write.format("delta").save(f"{out}/trend")

    def of_plan(key):
        with sf.Run.open(
            "p", key, ledger=MemoryLedger(), state=str(tmp_path / "s"), spark=spark, mode=Mode(plan=True)
        ) as run:
            branches = {"05": sf.source("json", folder, schema="id STRING, n INT")}
            hours = sf.unaligned_fan_in(run, "hours", branches, require=sf.all_done)
            daily = sf.local_sequencer(run, hours.frame, [sf.step(dated, key=key)])
            past = sf.read(run, "trend", sf.source("delta", f"{out}/trend"))
            with sf.transaction(run, "publish") as tx:
                sf.parallel_split(
                    tx,
                    daily,
                    {
                        "lake": sf.delta(f"{out}/lake", partition_by="date"),
                        "legacy": sf.csv(f"{out}/legacy", partition_by="date"),
                        "trend": sf.delta(f"{out}/trend", partition_by="date"),
                    },
                )
            sf.write(run, "copy", past, sf.delta(f"{out}/copy", mode="overwrite"))
            sf.report_completeness(run, "d", hours, table=f"{out}/completeness")
        return shared_state.footprint(run)

    days = [of_plan(key) for key in DAYS[:2]]
    assert {read.node for read in days[0].reads} == {"hours", "trend"}
    assert {(one.node, one.path.removeprefix(f"{out}/")) for one in days[0].writes} == {
        ("publish/lake", "lake"),
        ("publish/legacy", "legacy/date=2013-01-01"),
        ("publish/trend", "trend"),
        ("copy", "copy"),
        ("completeness", "completeness"),
    }
    assert [nodes for nodes, _ in found(days)] == [("trend", "publish/trend"), ("copy",)]
    assert not found(days, in_order=["trend", "publish/trend", "copy"])
