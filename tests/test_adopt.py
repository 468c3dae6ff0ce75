"""Keys are adopted: another tool has written their rows, and nothing is computed until that is asked for."""

import json
from pathlib import Path

import pyarrow as pa
import pytest
from conftest import stored
from deltalake import DeltaTable, write_deltalake
from typer.testing import CliRunner

import spark_flow as sf
from spark_flow.cli import adopt
from spark_flow.cli.app import app
from spark_flow.engine.mode import Mode
from spark_flow.errors import Adopted, CannotAdopt
from spark_flow.ledger import DeltaLedger
from spark_flow.operations import adopt as adoptions
from spark_flow.operations.adopt import Found
from spark_flow.orchestration.key_plan import past_of
from spark_flow.orchestration.leases import Leases, hold

JOB = """
pipeline: shop
key: ???
state: {state}
sources: {{in: {{format: json, path: "{tmp}/in/${{key}}", schema: "id STRING, n INT"}}}}
flow:
  - read: in
  - step: {{name: dated, sql: "SELECT *, DATE '${{key}}' AS day FROM {{frame}}"}}
  - transaction:
      - write: {{name: lake, format: delta, path: "{tmp}/lake", partition_by: day}}
      - write: {{name: legacy, format: csv, path: "{tmp}/legacy", partition_by: day}}
"""


def cli(*words, answer=None):
    done = CliRunner().invoke(app, [str(word) for word in words], input=answer)
    return done.exit_code, done.output


@pytest.fixture
def shop(tmp_path, state):
    """A job, and what another tool has written of two days."""
    import datetime as dt

    (tmp_path / "job.yaml").write_text(JOB.format(state=state, tmp=tmp_path))
    days = [dt.date(2024, 3, 1), dt.date(2024, 3, 2), dt.date(2024, 3, 2)]
    table = pa.table({"id": ["a", "b", "c"], "n": pa.array([1, 2, 3], pa.int32()), "day": days})
    write_deltalake(str(tmp_path / "lake"), table, partition_by=["day"])
    for day in ("2024-03-01", "2024-03-02"):
        (tmp_path / "legacy" / f"day={day}").mkdir(parents=True)
        (tmp_path / "legacy" / f"day={day}" / "part.csv").write_text("id,n\na,1\n")
        (tmp_path / "in" / day).mkdir(parents=True)
        (tmp_path / "in" / day / "a.json").write_text('{"id": "new", "n": 9}\n')
    return tmp_path / "job.yaml"


@pytest.mark.spark
def test_an_adopted_key_is_done_until_it_is_rerun_or_forgotten(spark, shop, state, run_file, tmp_path):
    code, said = cli("adopt", shop, "2024-03-01..2024-03-02", answer="n\n")
    assert (code, "2024-03-02  publish/lake: 2 row(s)" in said, Path(state).exists()) == (1, True, False), said
    code, said = cli("adopt", shop, "2024-03-01..2024-03-02", "--yes")
    assert (code, "adopted 2 key(s) of shop" in said) == (0, True), said
    code, said = cli("verify", "shop", "2024-03-02", f"--state={state}", "--json")
    findings = [(one["node"], one["state"], one["recorded"]) for one in json.loads(said)]
    assert (code, findings) == (1, [("publish/lake", "unknown", 2), ("publish/legacy", "unknown", None)])
    before = DeltaTable(str(tmp_path / "lake")).version()
    assert past_of("2024-03-01", DeltaLedger(state).read("shop", "2024-03-01")).done
    text = shop.read_text()
    for options in ((), ("--plan",)):
        code, said = run_file(text, "key=2024-03-01", *options)
        assert (code, "its rows are in place" in " ".join(said.split())) == (0, True), said
    assert DeltaTable(str(tmp_path / "lake")).version() == before
    code, said = cli("adopt", shop, "2024-03-01", "--yes")
    assert (code, "forget it first" in said) == (2, True), said
    assert run_file(text, "key=2024-03-01", "--rerun")[0] == 0
    assert cli("forget", "shop", "2024-03-02", f"--state={state}", "--yes")[0] == 0
    assert run_file(text, "key=2024-03-02")[0] == 0
    written = [(id_, n, str(day)) for id_, n, day in stored(tmp_path / "lake", "id", "n", "day")]
    assert written == [("new", 9, "2024-03-01"), ("new", 9, "2024-03-02")]
    assert run_file(text, "key=2024-03-01")[0] == 0  # and is a usual key again
    assert cli("status", f"--state={state}")[1].count("reused") == 1


@pytest.mark.spark
def test_what_is_not_there_is_refused_before_anything_is_recorded(spark, shop, state, tmp_path):
    code, said = cli("adopt", shop, "2024-03-01", "2024-03-05", "--yes")
    assert code == 2
    assert "publish/lake (0 row(s)), publish/legacy (no folder of the key)" in " ".join(said.split())
    assert not Path(state).exists()


@pytest.mark.spark
def test_a_key_that_runs_is_refused(spark, shop, state):
    pool = Leases(f"{state}/leases").of_pipeline("shop")
    with hold(pool, "shop", "2024-03-01", busy="exit"):
        code, said = cli("adopt", shop, "2024-03-01", "--yes")
    assert (code, DeltaLedger(state).read("shop")) == (75, []), said


def test_a_run_of_an_adopted_key_does_not_begin(memory_ledger, tmp_path):
    with hold(Leases(str(tmp_path)).of_pipeline("p"), "p", "k") as lease:
        found = [Found(node="lake", path="/lake", rows=2, there=True, words="2 row(s)")]
        adoptions.adopt(memory_ledger, "p", "k", found, {}, lease)
    with pytest.raises(Adopted):
        sf.Run.open("p", "k", ledger=memory_ledger, state=str(tmp_path))
    assert len(memory_ledger.read("p", "k")) == 1
    assert sf.Run.open("p", "k", ledger=memory_ledger, state=str(tmp_path), mode=Mode(rerun=True)).generation == 2


def test_targets_that_cannot_tell_are_not_enough(tmp_path):
    def look(sink):
        return adoptions.look("lake", sink, "k", lambda: None)

    merged = look(sf.delta(str(tmp_path / "t"), mode="merge", on="id"))
    assert (merged.there, "cannot be distinguished" in merged.words) == (None, True)
    with pytest.raises(CannotAdopt, match="no target whose rows have a key"):
        adoptions.check_there("p", "k", [merged])
    assert look(sf.delta(str(tmp_path / "t"), partition_by="day")).there is False
    there = Found(node="a", path="/a", rows=1, there=True, words="1 row(s)")
    adoptions.check_there("p", "k", [merged, there])


def test_a_key_that_was_run_is_refused_before_spark_starts(shop, state, monkeypatch):
    with hold(Leases(f"{state}/leases").of_pipeline("shop"), "shop", "2024-03-02", busy="exit") as lease:
        found = [Found(node="lake", path="/lake", rows=2, there=True, words="2 row(s)")]
        adoptions.adopt(DeltaLedger(state), "shop", "2024-03-02", found, {}, lease)
    monkeypatch.setattr(adopt, "session", lambda *_, **__: pytest.fail("a session"))
    code, said = cli("adopt", shop, "2024-03-01", "2024-03-02", "--yes")
    assert (code, "forget it first" in " ".join(said.split())) == (2, True), said


@pytest.mark.parametrize("words", [(), ("state=x",)])
def test_no_key_is_refused(shop, words):
    assert cli("adopt", shop, *words, "--yes")[0] == 2
