"""The isolated sequencer as its users run it: jobs of their own processes, that share a folder of markers only."""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable
from handover import KEY, mark, marker

from jobs import ENVIRONMENT

ROOT = Path(__file__).parent.parent
CRASH = "spark_flow/testing/crash.py"
MONTHLY = """
pipeline: carriers_by_size
key: ???
flow:
  - wait_for: {dataset: flights_by_carrier, timeout: 0}
  - step: {name: big, sql: "SELECT date, carrier FROM {frame} WHERE flights > 50"}
  - write: {name: big_carriers, format: delta, path: "${output}/big", partition_by: [date]}
  - publish: {dataset: big_carriers}
"""


class Team:
    """The folders of a test, and the commands in them; a pipeline has a state folder of its own."""

    def __init__(self, root):
        self.root = root
        self.environment = ENVIRONMENT

    def words(self, name, *more, program=("./spark-submit.sh",), job=None):
        places = [f"key={KEY}", f"state={self.root}/{name}", f"output={self.root}/out"]
        few = [] if job or name == "isolated_consumer" else ["flow.0.unaligned_fan_in.branches=05..08"]
        program = [*program, f"jobs/{job or name}.py", *places, *few]
        return [*program, "--summary-json", f"{self.root}/{name}.json", *more]

    def submit(self, name, *more, **how):
        done = subprocess.run(
            self.words(name, *more, **how), cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def here(self, name, *more):
        """Run a job in this process; what it triggers has a process of its own."""
        return importlib.import_module(name).main(self.words(name, *more, program=())[1:])

    def start(self, name, *more):
        with (self.root / f"{name}.log").open("w") as output:
            return subprocess.Popen(
                self.words(name, *more), cwd=ROOT, env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )

    def states(self, name):
        summary = json.loads((self.root / f"{name}.json").read_text())
        return summary["state"], {node["node"]: node["state"] for node in summary["nodes"]}

    def spark_flow(self, *words):
        states = [f"--state={self.root}/{name}" for name in ("isolated_provider", "isolated_consumer", "monthly")]
        command = [str(Path(sys.executable).with_name("spark-flow")), *words, *states]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    def version(self, table):
        return DeltaTable(str(self.root / "out" / table)).version()


@pytest.fixture
def team(tmp_path):
    return Team(tmp_path)


@pytest.mark.nightly
def test_a_consumer_started_first_waits_and_a_rerun_reaches_all_that_follow(team):
    consumer = team.start("isolated_consumer", "flow.0.wait_for.interval=0.5")
    log = team.root / "isolated_consumer.log"
    while "no marker yet" not in log.read_text():
        assert consumer.poll() is None, log.read_text()
        time.sleep(0.2)
    code, output = team.submit("isolated_provider")
    assert code == 0, output
    assert consumer.wait(120) == 0, log.read_text()
    assert team.states("isolated_consumer")[0] == "succeeded"
    assert marker(team.root, "flights_by_carrier").made_of[0].dataset == "hourly_flights"

    (team.root / "monthly.yaml").write_text(MONTHLY)
    config = ["--config", f"{team.root}/monthly.yaml"]
    assert team.submit("monthly", *config, job="isolated_consumer")[0] == 0
    assert json.loads(team.spark_flow("stale", "--json")[1]) == []

    assert team.submit("isolated_provider", "--rerun")[0] == 0
    listed = json.loads(team.spark_flow("stale", "--json")[1])
    assert [(one["pipeline"], one["key"]) for one in listed] == [
        ("flights_by_carrier", KEY),
        ("carriers_by_size", KEY),
    ]
    code, output = team.spark_flow("backfill", "--stale", "--plan")
    assert (code, output.count("--request-id backfill@"), team.version("flights_by_carrier")) == (0, 2, 0)
    code, output = team.spark_flow("backfill", "--stale")
    assert (code, output.splitlines()[-1]) == (0, "2 succeeded")
    assert (team.version("flights_by_carrier"), team.version("big")) == (1, 1)
    assert json.loads(team.spark_flow("stale", "--json")[1]) == []


@pytest.mark.nightly
def test_a_provider_killed_between_data_and_marker(team):
    before_the_marker = (sys.executable, CRASH, "before_action", "marker/hourly_flights")
    assert team.submit("isolated_provider", program=before_the_marker)[0] == -9
    assert team.version("hourly/flights") == 0
    code, output = team.submit("isolated_consumer", "flow.0.wait_for.timeout=1", program=(sys.executable,))
    assert (code, "no marker yet" in output) == (75, True)
    assert team.states("isolated_consumer")[0] == "waiting"
    assert not (team.root / "out" / "flights_by_carrier").exists()
    code, output = team.submit("isolated_provider", program=(sys.executable,))
    assert code == 0, output
    states = team.states("isolated_provider")[1]
    assert [states[node] for node in ("flights", "totals", "marker/hourly_flights")] == [
        "reused",
        "reused",
        "succeeded",
    ]
    assert (team.version("hourly/flights"), marker(team.root, "hourly_flights").revision) == (0, 1)


@pytest.mark.nightly
@pytest.mark.process
def test_a_provider_that_starts_its_consumer(spark, team, capfd):
    places = f"'state={team.root}/c','output={team.root}/out'"
    broken = f"flow.3.trigger.overrides=[{places},'flow.1.step.sql=SELECT x FROM {{frame}}']"
    code = team.here("trigger_consumer", broken)
    printed = capfd.readouterr()
    assert (code, "flights_by_carrier 2013-01-02 ended failed" in printed.err) == (1, True), printed
    state, nodes = team.states("trigger_consumer")
    assert (state, nodes["flights"], nodes["trigger/flights_by_carrier"]) == ("failed", "succeeded", "failed")
    code = team.here("trigger_consumer")
    printed = capfd.readouterr()
    assert (code, "flights_by_carrier 2013-01-02 succeeded" in printed.out) == (0, True), printed
    assert team.states("trigger_consumer")[1]["flights"] == "reused"
    assert marker(team.root, "flights_by_carrier").state == "ready"
    code = team.here("trigger_consumer")
    assert (code, team.states("trigger_consumer")[0]) == (0, "reused")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("flow.3.trigger.job=jobs/gone.py", "no such file"),
        ("flow.3.trigger.pipeline=flights_by_airline", "pipeline 'flights_by_carrier'"),
        ("flow.3.trigger.overrides=[no.such.thing=1]", "no.such.thing"),
    ],
)
def test_a_consumer_that_is_not_there_is_told_before_any_work(tmp_path, capsys, override, words):
    code = run("trigger_consumer", tmp_path, override)
    assert (code, words in capsys.readouterr().err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def run(job, root, *more):
    main = importlib.import_module(job).main
    key = [] if any(word.startswith("key=") for word in more) else [f"key={KEY}"]
    return main([*key, f"state={root}/c", f"output={root}/out", *more])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["flow.0.wait_for.markers=elsewhere"], "hourly_flights/2013-01-02: no marker yet"),
        (["markers=elsewhere"], "hourly_flights/2013-01-02: no marker yet"),
        (["key=2013-01-03", "flow.0.wait_for.keys=last_days(3)"], "hourly_flights/2013-01-01: no marker yet"),
        (["key=2013-01-04", "flow.0.wait_for.dataset=[hourly_flights,other]"], "other/2013-01-04: no marker yet"),
        (["flow.0.wait_for.table=planes"], "tables including planes, totals"),
        ([], "tables including flights, totals"),
    ],
)
def test_each_setting_of_a_wait_is_heeded(tmp_path, capsys, settings, words):
    if not settings or "key=" not in settings[0]:
        mark(tmp_path, dataset="hourly_flights")
    assert run("isolated_consumer", tmp_path, "flow.0.wait_for.timeout=0", *settings) in (1, 75)
    assert words in capsys.readouterr().err


def test_a_table_elsewhere_needs_its_folder_among_the_roots(tmp_path, capsys):
    from spark_flow.storage.markers import MarkedTable

    tables = {name: MarkedTable(path="/no/such/table", format="delta", version=0) for name in ("flights", "totals")}
    mark(tmp_path, dataset="hourly_flights", tables=tables)
    assert run("isolated_consumer", tmp_path) == 1
    assert "Add the table's folder to roots" in capsys.readouterr().err
    assert run("isolated_consumer", tmp_path, "flow.0.wait_for.roots=[/no/such]") == 1
    assert "it is missing" in capsys.readouterr().err


def test_jobs_that_start_each_other_are_refused(tmp_path, capsys):
    itself = ["flow.3.trigger.job=jobs/trigger_consumer.py", "flow.3.trigger.pipeline=hourly_flights"]
    code = run("trigger_consumer", tmp_path, *itself)
    assert (code, "a circle: hourly_flights -> hourly_flights" in capsys.readouterr().err) == (2, True)


@pytest.mark.parametrize(
    ("given", "kept"),
    [("vars.limit=3", True), ("vars.password=hunter2", False), ("vars.url=jdbc:x://me:hunter2@host/db", False)],
)
def test_a_command_with_a_secret_is_not_recorded(tmp_path, given, kept):
    from spark_flow.ledger import DeltaLedger

    run("isolated_consumer", tmp_path, "flow.0.wait_for.timeout=0", given)
    detail = DeltaLedger(str(tmp_path / "c"), create=False).read()[0].detail
    assert ("overrides" in detail["command"], "hunter2" in str(detail)) == (kept, False)
    name = given.partition("=")[0]
    assert given in detail["command"]["overrides"] if kept else detail["command"]["withheld"] == [name]


HALF = {"ratio": 0.5, "is_approximate": True}


@pytest.mark.parametrize(
    ("state", "policy", "code", "words"),
    [
        ("failed", "", 1, "failed: wait/hourly_flights: hourly_flights 2013-01-02 is failed, generation 1: no disk"),
        ("failed", "on_failed=wait", 75, "waiting: wait/hourly_flights: not ready after 0 s"),
        ("skipped", "", 0, "skipped: wait/hourly_flights: hourly_flights 2013-01-02 is skipped"),
        ("skipped", "on_skipped=fail", 1, "failed: wait/hourly_flights: hourly_flights 2013-01-02 is skipped"),
        ("", "", 75, "no marker yet"),
        ("ready", "on_partial=refuse", 1, "approximate (50%); expected it to be complete"),
        ("ready", "on_partial=wait", 75, "approximate (50%)"),
    ],
)
def test_each_policys_exit_code_and_message(tmp_path, capsys, state, policy, code, words):
    from spark_flow.storage.markers import Told

    if state:
        reason = {"reason": "no disk"} if state == "failed" else {}
        mark(
            tmp_path, state, dataset="hourly_flights", completeness=Told(**(HALF if state == "ready" else {})), **reason
        )
    more = [f"flow.0.wait_for.{policy}"] if policy else []
    assert run("isolated_consumer", tmp_path, "flow.0.wait_for.timeout=0", *more) == code
    assert words in capsys.readouterr().err
    told = marker(tmp_path, "flights_by_carrier").state if code != 75 else None
    assert told == {1: "failed", 0: "skipped", 75: None}[code]
