"""The runners as their users run them: any job's YAML file, by its command line; and processes that meet."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable

from jobs import ENVIRONMENT
from spark_flow.cli import runner
from spark_flow.ledger import DeltaLedger
from spark_flow.orchestration.leases import Leases

ROOT = Path(__file__).parent.parent
DAYS = [f"2013-01-0{day}" for day in range(1, 6)]
LOADS = """
pipeline: loads
key: ???
runner: {start_date: 2013-01-01, end_date: 2013-01-05}
sources:
  days: {format: json, path: "@/${key}", schema: "date STRING NOT NULL, n INT"}
flow:
  - read: days
  - step: {name: doubled, restart: true, sql: "SELECT date, n * 2 AS n FROM {frame}"}
  - step: {name: half, sql: "SELECT date, n / 2 AS n FROM {frame}"}
  - write: {name: load, format: delta, path: "${output}/load", partition_by: [date]}
"""


@pytest.fixture
def loads(tmp_path, capsys):
    """A file of loads, and a runner's command line over it."""
    (tmp_path / "loads.yaml").write_text(LOADS.replace("@", str(tmp_path / "in")))

    def give(day, n=1, text=None):
        folder = tmp_path / "in" / day
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.json").write_text(text or json.dumps({"date": day, "n": n}))

    def run(kind, *words, config="loads.yaml"):
        places = [f"state={tmp_path}/state", f"output={tmp_path}/out", f"--summary-json={tmp_path}/told.json"]
        path = config if "/" in config else f"{tmp_path}/{config}"
        code = runner.main(["--config", path, *places, *words], job=str(ROOT / "jobs" / f"{kind}_runner.py"), kind=kind)
        said = capsys.readouterr()
        told = tmp_path / "told.json"
        keys = json.loads(told.read_text())["keys"] if told.exists() else []
        told.unlink(missing_ok=True)
        return code, {key["key"]: key["state"] for key in keys}, said.out + said.err

    for day in DAYS:
        give(day)
    run.give = give
    run.root = tmp_path
    run.table = lambda: sorted(
        (row["date"], row["n"]) for row in DeltaTable(f"{tmp_path}/out/load").to_pyarrow_table().to_pylist()
    )
    run.events = lambda day: DeltaLedger(f"{tmp_path}/state", create=False).read("loads", day)
    return run


@pytest.mark.spark
def test_a_failed_day_holds_the_next_one_back_and_mended_both_go_through_in_order(spark, loads):
    loads.give(DAYS[1], text="{")
    days = "2013-01-01..2013-01-03"
    code, told, _ = loads("single", days, "runner.depends_on_past=true", "sources.days.bad_records=fail")
    assert (code, told) == (1, {DAYS[0]: "succeeded", DAYS[1]: "failed", DAYS[2]: "waiting"})
    loads.give(DAYS[1])
    words = ["runner.depends_on_past=true", "sources.days.bad_records=fail", "--show=1"]
    code, told, said = loads("single", days, *words)
    assert (code, told) == (0, {DAYS[0]: "reused", DAYS[1]: "succeeded", DAYS[2]: "succeeded"})
    assert said.index(f"{DAYS[1]} succeeded") < said.index(f"{DAYS[2]} generation 1")
    assert [day for day in DAYS if f" {day}  1.0" in said] == DAYS[:3]  # --show: of the day that was reused as well
    assert [day for day, _ in loads.table()] == DAYS[:3]


@pytest.mark.spark
@pytest.mark.parametrize("kind", [pytest.param("single", marks=pytest.mark.nightly), "concurrent"])
def test_from_load_over_five_past_days_runs_loads_only(spark, loads, kind):
    assert loads(kind)[:2] == (0, dict.fromkeys(DAYS, "succeeded"))
    for day in DAYS:
        loads.give(day, n=100)  # what is processed already is not processed again
    code, told, _ = loads(kind, "2013-01-01..2013-01-05", "--from", "load")
    assert (code, told) == (0, dict.fromkeys(DAYS, "succeeded"))
    assert loads.table() == [(day, 1.0) for day in DAYS]
    for day in DAYS:
        begun = [e.node for e in loads.events(day) if e.generation == 2 and e.state == "started" and e.node]
        assert begun == ["load"]
    assert DeltaTable(f"{loads.root}/out/load").version() == 9


@pytest.mark.spark
def test_a_request_to_do_days_anew_is_gone_on_with_where_it_ended(spark, loads):
    days = DAYS[1:4]
    loads("single", f"{days[0]}..{days[-1]}")
    loads.give(DAYS[2], text="{")
    bad = ["sources.days.bad_records=fail", "runner.reprocess=all", f"{days[0]}..{days[-1]}"]
    code, told, _ = loads("single", *bad)
    assert (code, told[DAYS[1]], told[DAYS[2]]) == (1, "succeeded", "failed")
    loads.give(DAYS[2], n=7)
    code, told, _ = loads("single", *bad)
    assert code == 0
    assert (told[DAYS[1]], told[DAYS[2]]) == ("reused", "succeeded")
    code, told, _ = loads("single", *bad)
    assert (code, told) == (0, dict.fromkeys(days, "succeeded"))


@pytest.mark.spark
def test_days_side_by_side_write_what_days_in_order_do(spark, loads):
    code, told, said = loads("concurrent", "runner.max_active_runs=3")
    assert (code, told) == (0, dict.fromkeys(DAYS, "succeeded"))
    assert loads.table() == [(day, 1.0) for day in DAYS]
    assert "loads: 5 succeeded" in said
    assert spark.range(3).count() == 3  # a session of others is used, and not stopped


def test_the_plan_names_each_key_and_writes_nothing(loads):
    code, _, said = loads("single", "--plan", "runner.depends_on_past=true", "2013-01-02..2013-01-03")
    assert code == 0
    assert [line.split()[:2] for line in said.splitlines()[1:]] == [[DAYS[1], "wait"], [DAYS[2], "wait"]]
    assert not Path(loads.root, "out").exists()


def test_the_trend_is_refused_side_by_side_and_its_table_named(loads):
    trend = str(ROOT / "conf" / "single_runner.yaml")
    code, _, said = loads("concurrent", "runner.depends_on_past=false", config=trend)
    assert (code, f"{loads.root}/out/daily_trend" in said, "depends_on_past" in said) == (2, True, True)
    nodes = "runner.depends_on_past=[trend,compared,load]"
    assert loads("concurrent", nodes, "--plan", config=trend)[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["2013-01-03..2013-01-01"], "the earlier one first"),
        (["2013-01-09"], "a key not after end_date"),
        (["yesterday"], "a day as 2013-01-02"),
        (["key=2013-01-01"], "the keys by themselves"),
        (["--reprocess", "some"], "runner.reprocess: found 'some'"),
        (["--from", "laod"], "load"),
        (["runner.pool=etl"], "pools: the file that declares it"),
        (["runner.pools=none.yaml", "runner.pool=etl"], "none.yaml"),
        (["runner.max_active_runs=0"], "1 or more"),
        (["runner.max_active_runs=3"], "1 for the single runner"),
        (["runner.slots=-1"], "1 or more"),
        (["runner.on_busy=shout"], "one of: wait, queue, exit"),
        (["runner.start_date=2014-01-01"], "start_date before end_date"),
        (["runner.start_date=soon"], "a day as 2013-01-02"),
        (["runner.calendar=weekly"], "runner.calendar"),
        (["runner.calendar=[a,a]", "runner.start_date=null", "runner.end_date=null"], "without duplicates"),
        (["runner.start_date=null", "runner.depends_on_past=true"], "the first key, which depends on none"),
        (["runner.depends_on_past=[laod]"], "Did you mean 'load'?"),
        (["runner.straggler.factor=1"], "straggler.factor"),
        (["runner.straggler.notify=json://x"], "the name of an environment variable"),
        (["runner.lease_seconds=0"], "runner.lease_seconds"),
        (["runner.queu=1"], "runner.queu"),
        (["--job", "jobs/gone.py", "runner.launch=submit"], "no such file"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_place(loads, words, said):
    code, _, told = loads("single", *words)
    assert (code, said in told) == (2, True), told
    assert not Path(loads.root, "out").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pools: {etl: 2}", "leases"),
        ("leases: x", "pools"),
        ("leases: x\npools: {}", "pools"),
        ("leases: x\npools: {etl: 0}", "pools.etl"),
        ("leases: x\npools: {etl: -1}", "1 or more"),
        ("leases: x\npools: {etl: {slot: 1}}", "unknown key 'slot'"),
        ("leases: x\npools: {etl: many}", "pools.etl"),
        ("leases: x\npools: {elt: 2}", "no such pool"),
        ("leases: x\npools: {etl: 2}\nrunner: 1", "unknown key 'runner'"),
        ("[1]", "a mapping"),
        ("a: [", "file"),
    ],
)
def test_a_file_of_pools_that_is_none_is_refused_with_its_place(loads, text, said):
    (loads.root / "pools.yaml").write_text(text)
    code, _, told = loads("single", f"runner.pools={loads.root}/pools.yaml", "runner.pool=etl", "runner.slots=2")
    assert (code, said in told, "pools.yaml" in told) == (2, True, True), told


def test_a_run_that_wants_more_than_its_pool_is_refused(loads):
    (loads.root / "pools.yaml").write_text("leases: x\npools: {etl: 2}")
    code, _, told = loads("single", f"runner.pools={loads.root}/pools.yaml", "runner.pool=etl", "runner.slots=3")
    assert (code, "at most its 2" in told) == (2, True)


def test_a_run_that_waits_for_what_it_publishes_itself_is_refused(loads):
    text = LOADS.replace("  - read: days", "  - wait_for: {dataset: loads, keys: last_days(2)}")
    (loads.root / "cycle.yaml").write_text(text + "  - publish: {dataset: loads}\n")
    code, _, told = loads("single", config="cycle.yaml")
    assert (code, "which it publishes itself" in told) == (2, True)


# --- processes that meet ----------------------------------------------------------------------------------------

SLOW = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, "ROOT/jobs")
from spark_flow.cli import runner

def until(frame, flag):
    Path(flag + ".reached").touch()
    while not Path(flag).exists():
        time.sleep(0.05)
    return frame

def stop(point, node, _):
    if (point, node) == ("before_commit", "load") and os.environ.get("STOP"):
        os.kill(os.getpid(), signal.SIGSTOP)
        os.environ.pop("STOP")

def kill(point, node, _):
    if (point, node) == ("after_commit", "load") and os.environ.get("KILL"):
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    sys.exit(runner.main(job="ROOT/jobs/single_runner.py", kind="single", observers=[stop, kill]))
"""


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


class Terminals:
    """Several processes over one state folder."""

    def __init__(self, root):
        self.root, self.started = root, []
        (root / "jobs").mkdir()
        (root / "jobs" / "slow.py").write_text(textwrap.dedent(SLOW).replace("ROOT", str(ROOT)))

    def words(self, *more, program):
        config = ["--config", f"{self.root}/loads.yaml", "--job", f"{self.root}/jobs/slow.py"]
        places = [f"state={self.root}/state", f"output={self.root}/out", "2013-01-01"]
        return [*program, f"{self.root}/jobs/slow.py", *config, *places, *more]

    def start(self, name, *more, program=(sys.executable,), **environment):
        with (self.root / f"{name}.log").open("w") as output:
            process = subprocess.Popen(
                self.words(*more, program=program),
                cwd=ROOT,
                env={**ENVIRONMENT, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)
        return process

    def said(self, name):
        return (self.root / f"{name}.log").read_text()

    def until(self, name, words, process):
        until = time.monotonic() + 120
        while words not in self.said(name):
            assert process.poll() is None, self.said(name)
            assert time.monotonic() < until, self.said(name)
            time.sleep(0.1)


@pytest.fixture
def terminals(loads):
    made = Terminals(loads.root)
    yield made
    for process in made.started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        process.kill()
        process.wait()


@pytest.mark.process
def test_of_two_terminals_one_runs_and_the_other_waits_or_queues_or_exits(terminals, loads):
    flag = loads.root / "flag"
    waiting = "{run: slow:until, with: {flag: FLAG}, name: half}".replace("FLAG", str(flag))
    text = (loads.root / "loads.yaml").read_text()
    (loads.root / "loads.yaml").write_text(
        text.replace('{name: half, sql: "SELECT date, n / 2 AS n FROM {frame}"}', waiting)
    )
    first = terminals.start("first", program=(str(ROOT / "spark-submit.sh"),))
    while not Path(f"{flag}.reached").exists():
        assert first.poll() is None, terminals.said("first")
        time.sleep(0.1)
    assert terminals.start("exits", "runner.on_busy=exit").wait(60) == 75
    assert "cannot start now, held by loads 2013-01-01" in terminals.said("exits")
    assert terminals.start("refused", "runner.on_busy=queue", "runner.queue=0").wait(60) == 75
    assert "is refused: 0 wait already" in terminals.said("refused")
    waits = terminals.start("waits")
    terminals.until("waits", "2013-01-01 waits for pipelines/loads: held by", waits)
    listed = [str(Path(sys.executable).with_name("spark-flow")), "leases", "--json", f"--state={loads.root}/state"]
    pools = json.loads(subprocess.run(listed, capture_output=True, text=True, check=True).stdout)
    assert [claim["token"] > 0 for claim in pools["pipelines/loads"]["claims"]] == [True, False]
    flag.touch()
    assert (first.wait(120), waits.wait(60)) == (0, 0), terminals.said("waits")
    assert "2013-01-01 reused: succeeded in generation 1, attempt 1" in terminals.said("waits")
    assert DeltaTable(f"{loads.root}/out/load").version() == 0


@pytest.mark.process
def test_a_holder_that_is_killed_is_followed_by_the_next_which_goes_on_at_the_boundary(terminals, loads):
    assert terminals.start("killed", KILL="yes").wait(120) == -signal.SIGKILL
    following = terminals.start("next")
    assert following.wait(120) == 0, terminals.said("next")
    said = terminals.said("next")
    assert "reused      doubled" in said
    assert "already written at version 0" in said
    assert (loads.table(), DeltaTable(f"{loads.root}/out/load").version()) == ([(DAYS[0], 1.0)], 0)
    begun = [e for e in loads.events(DAYS[0]) if e.kind == "run" and e.state == "started"]
    assert "has ended" in begun[1].detail["lease"]["took_over"][0]


@pytest.mark.nightly
@pytest.mark.process
def test_a_holder_that_is_stopped_past_its_expiry_writes_nothing_when_it_wakes(terminals, loads):
    stopped = terminals.start("stopped", "runner.lease_seconds=2", STOP="yes")
    place = Leases(f"{loads.root}/state/leases").of_pipeline("loads")
    until = time.monotonic() + 120
    while state_of(stopped.pid) != "T":
        assert stopped.poll() is None, terminals.said("stopped")
        assert time.monotonic() < until, terminals.said("stopped")
        time.sleep(0.1)
    following = terminals.start("next", "runner.lease_seconds=2")
    assert following.wait(120) == 0, terminals.said("next")
    assert "not renewed for" in place.read().taken[0].why
    versions, events = DeltaTable(f"{loads.root}/out/load").version(), len(loads.events(DAYS[0]))
    os.kill(stopped.pid, signal.SIGCONT)
    assert stopped.wait(60) == 75, terminals.said("stopped")
    assert "has lost its lease" in terminals.said("stopped")
    assert (DeltaTable(f"{loads.root}/out/load").version(), len(loads.events(DAYS[0]))) == (versions, events)
    assert (loads.table(), versions) == ([(DAYS[0], 1.0)], 0)


@pytest.mark.nightly
@pytest.mark.process
def test_a_day_as_an_application_of_its_own(loads):
    how = ["2013-01-01..2013-01-01", "runner.launch=submit", "--job"]
    code, told, said = loads("concurrent", *how, str(ROOT / "jobs/local_sequencer.py"))
    assert (code, told) == (0, {DAYS[0]: "succeeded"}), said
    assert [day for day, _ in loads.table()] == DAYS[:1]
    assert (loads.root / "state/submits/loads/2013-01-01.log").read_text().endswith("succeeded: 4 succeeded\n")
    assert loads("concurrent", *how, "jobs/local_sequencer.py")[:2] == (0, {DAYS[0]: "reused"})
