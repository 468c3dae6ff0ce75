"""A table is exposed under a name: a view that is switched last, never goes back, and is nobody else's."""

import pyarrow as pa
import pytest
from conftest import Killed, killing, rows
from deltalake import write_deltalake
from runs import new_run
from typer.testing import CliRunner

import spark_flow as sf
from spark_flow.cli.app import app
from spark_flow.engine.outcome import Outcome
from spark_flow.errors import ConfigError, DuplicateNode, InvalidArgument
from spark_flow.jobfile import load
from spark_flow.storage import catalog

KEY = "2013-01-02"


@pytest.fixture
def table(tmp_path):
    """A table whose version N holds the numbers 0 to N."""
    path = str(tmp_path / "a table")
    for number in range(3):
        write_deltalake(path, pa.table({"n": [number]}), mode="append")
    return path


@pytest.fixture
def expose(spark, state, table, memory_ledger):
    """Run a pipeline that has written a version of the table, and exposes it."""

    def run_it(version, key=KEY, view="shop.seen", detail=None, **options):
        with new_run("p", key, **{"state": state, "spark": spark, "ledger": memory_ledger, **options}) as run:
            held = {"format": "delta", "path": table, "version": version, **(detail or {})}
            run.end(Outcome(node="lake", kind="sink", state="succeeded", fingerprint=f"{version}", detail=held))
            return sf.expose(run, view)

    return run_it


@pytest.fixture
def seen(spark):
    return lambda view="shop.seen": [n for (n,) in rows(spark.table(view))]


@pytest.mark.spark
def test_readers_see_the_version_that_was_exposed_last(spark, shop, expose, seen, table):
    assert expose(0).reason == "shop.seen shows version 0 of lake"
    assert seen() == [0]  # the table has two more versions
    assert expose(0).state == "reused"
    outcome = expose(1, rerun=True)
    assert (outcome.state, seen()) == ("succeeded", [0, 1])
    assert outcome.detail["exposed"] == {"view": "shop.seen", "node": "lake", "path": table, "version": 1}
    spark.sql("DROP VIEW shop.seen")
    assert (expose(1).state, seen()) == ("succeeded", [0, 1])


@pytest.mark.spark
def test_a_view_never_goes_back(shop, expose, seen):
    expose(2, key="d2")
    assert expose(1, key="d1").reason == "shop.seen shows version 2 of lake, which is newer than 1"
    assert (seen(), expose(1, key="d1").state) == ([0, 1, 2], "reused")


@pytest.mark.spark
def test_of_two_that_switch_at_the_same_time_the_newer_stays(shop, expose, seen, monkeypatch):
    """The slower one was about to switch to the older version when the other was done."""
    switch, slow = catalog.expose, [True]

    def overtaken(*arguments):
        if slow.pop() if slow else False:
            expose(2, key="d2")
        switch(*arguments)

    monkeypatch.setattr(catalog, "expose", overtaken)
    expose(1, key="d1")
    assert seen() == [0, 1, 2]


@pytest.mark.spark
@pytest.mark.parametrize("point", ["before_commit", "after_commit", "before_event"])
def test_killed_at_each_point_and_repeated(shop, expose, seen, point):
    expose(0, key="d0")
    with pytest.raises(Killed):
        expose(1, observers=[killing(point, "expose/shop.seen")])
    assert seen() == ([0] if point == "before_commit" else [0, 1])
    assert (expose(1).state, seen()) == ("succeeded", [0, 1])


@pytest.mark.spark
def test_a_table_that_was_created_again_is_shown_from_its_first_version_on(shop, expose, seen, table, tmp_path):
    expose(2)
    (tmp_path / "a table").rename(tmp_path / "old")
    write_deltalake(table, pa.table({"n": [7]}))
    assert (expose(0, rerun=True).reason, seen()) == ("shop.seen shows version 0 of lake", [7])


@pytest.mark.spark
def test_a_name_that_belongs_to_others_is_refused_and_left(spark, shop, expose):
    spark.sql("CREATE VIEW shop.theirs AS SELECT 1 AS id")
    spark.sql("CREATE TABLE shop.real USING delta AS SELECT 1 AS id")
    spark.range(1).createOrReplaceTempView("passing")
    for name, words in (("shop.theirs", "somebody else"), ("shop.real", "a table"), ("passing", "temporary")):
        with pytest.raises(InvalidArgument, match=words):
            expose(0, view=name)
    spark.catalog.dropTempView("passing")
    assert rows(spark.table("shop.theirs")) == [(1,)]


@pytest.mark.spark
def test_a_catalog_in_memory_is_refused(expose):
    with pytest.raises(InvalidArgument, match="memory"):
        expose(0, view="seen")


def test_what_was_not_written_cannot_be_exposed(memory_ledger, tmp_path):
    with new_run("p", KEY, ledger=memory_ledger, state=str(tmp_path)) as run:
        with pytest.raises(InvalidArgument, match="no Delta table"):
            sf.expose(run, "shop.seen")
        for name in ("a", "b"):
            run.end(Outcome(node=name, kind="sink", state="succeeded", detail={"format": "delta"}))
        with pytest.raises(InvalidArgument, match="2 Delta tables"):
            sf.expose(run, "shop.seen")
        with pytest.raises(InvalidArgument, match="one of: a, b"):
            sf.expose(run, "shop.seen", "c")
        with pytest.raises(DuplicateNode):
            sf.expose(run, "Shop.Seen", "a")
        run.end(Outcome(node="a", kind="sink", state="succeeded", detail={"staged": True}))
        assert sf.expose(run, "shop.of_a", "a").reason == "not exposed: a is kept in staging"


JOB = """
pipeline: shop
key: ???
state: STATE
spark:
  spark.sql.catalogImplementation: hive
sources: {in: {format: json, path: FOLDER, schema: "id STRING, n INT"}}
flow:
  - read: in
  - transaction:
      - write: {name: lake, format: delta, path: OUT/lake, mode: overwrite}
      - write: {name: legacy, format: csv, path: OUT/legacy, mode: replace}
"""


@pytest.mark.spark
def test_a_file_exposes_its_table_and_a_rollback_the_one_before(spark, run_file, lines, shop, seen, tmp_path):
    state = str(tmp_path / "state")
    job = JOB.replace("STATE", state) + "  - expose: shop.seen\n"
    job = job.replace("      - write: {name: legacy, format: csv, path: OUT/legacy, mode: replace}\n", "")
    lines('{"id": "a", "n": 1}')
    assert run_file(job, "key=d1")[0] == 0
    lines('{"id": "a", "n": 5}')
    code, printed = run_file(job, "key=d1", "--rerun")
    assert (code, "shop.seen shows version 1 of publish/lake" in " ".join(printed.split())) == (0, True)
    assert rows(spark.table("shop.seen")) == [("a", 5)]
    done = CliRunner().invoke(app, ["rollback", "shop", "d1", f"--state={state}", "--yes"])
    assert (done.exit_code, rows(spark.table("shop.seen"))) == (0, [("a", 1)])
    listed = CliRunner().invoke(app, ["forget", "shop", "d1", f"--state={state}"], input="n\n")
    assert "view    expose/shop.seen: shop.seen" in listed.output


@pytest.mark.parametrize(
    ("entry", "where", "found"),
    [
        ("expose: {view: a.b.c.d}", "view", "'a.b.c.d'"),
        ("expose: {view: shop.seen, table: publish/legacy}", "table", "'publish/legacy'"),
        ("expose: {view: shop.seen, table: lake}", "table", "'lake'"),
        ("expose: shop.seen\n  - expose: {view: Shop.seen, name: again}", "view", "'Shop.seen' again"),
        ("write: {name: more, format: delta, path: /x, mode: overwrite}\n  - expose: shop.seen", "expose", "nothing"),
    ],
)
def test_what_is_wrong_in_the_file(tmp_path, entry, where, found):
    text = JOB.replace("mode: replace", "").replace("legacy, }", "legacy}")
    (tmp_path / "job.yaml").write_text(f"{text}  - {entry}\n")
    with pytest.raises(ConfigError) as fault:
        load(tmp_path / "job.yaml", overrides=["key=d1"])
    assert (where, found) in [(problem.path.split(".")[-1], problem.found) for problem in fault.value.problems]


def test_nothing_to_expose(tmp_path):
    (tmp_path / "job.yaml").write_text(JOB.split("  - transaction", maxsplit=1)[0] + "  - expose: shop.seen\n")
    with pytest.raises(ConfigError, match="no write of a Delta table before it"):
        load(tmp_path / "job.yaml", overrides=["key=d1"])
