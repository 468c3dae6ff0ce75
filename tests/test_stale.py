"""What was made from what is out of date, through any number of hops, and its backfill."""

import json
import random
import subprocess
import sys
from collections import defaultdict

import pytest
from conftest import Killed, killing
from handover import KEY, mark, marker, provide, waiting, writes
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import spark_flow as sf
from spark_flow.cli.app import app
from spark_flow.ledger import DeltaLedger, MemoryLedger
from spark_flow.operations.backfill import backfill, shown, words
from spark_flow.operations.stale import stale
from spark_flow.storage.markers import Reference, path_of, read


class Teams:
    """Providers and consumers, each with a ledger of its own: they share nothing but the markers."""

    def __init__(self, root):
        self.root = root
        self.ledgers = defaultdict(MemoryLedger)
        self.made = []

    def land(self, number=1, *, key=KEY, dataset="hours", **how):
        provide(self.root, number, key=key, dataset=dataset, ledger=self.ledgers[dataset], **how)

    def consume(self, dataset, report, *, key=KEY, **how):
        def then(run, _):
            writes(run, "r", self.root / "out" / report / "r", 1)
            sf.publish(run, report, markers=str(self.root / "out" / "markers"))

        self.made.append((report, key))
        return waiting(
            self.root, key=key, dataset=dataset, pipeline=report, ledger=self.ledgers[report], then=then, **how
        )

    def stale(self):
        return stale({name: ledger.read() for name, ledger in self.ledgers.items()})

    def names(self):
        return [(one.pipeline, one.key, one.hops) for one in self.stale()]


@pytest.fixture
def teams(tmp_path):
    return Teams(tmp_path)


def test_nothing_is_stale_where_nothing_has_changed(teams):
    teams.land()
    teams.consume("hours", "days")
    teams.land()
    assert teams.stale() == []


def test_a_rerun_reaches_all_that_was_made_from_it_and_nothing_else(teams):
    for key in (KEY, "2013-01-03"):
        teams.land(key=key)
        teams.consume("hours", "days", key=key)
        teams.consume("days", "months", key=key)
    teams.land(2, rerun=True)
    assert teams.names() == [("days", KEY, 1), ("months", KEY, 2)]
    (days, months) = teams.stale()
    assert "generation 1 (revision 1) was read, generation 2 (revision 2) is there" in days.reason
    assert "days 2013-01-02 is itself made from hours" in months.reason
    teams.consume("hours", "days", rerun=True)
    assert teams.names() == [("months", KEY, 1)]
    teams.consume("days", "months", rerun=True)
    assert teams.stale() == []


def test_a_late_branch_reaches_its_consumers_without_a_rerun(teams):
    teams.land(1)
    teams.consume("hours", "days")
    teams.land(2)
    assert teams.names() == [("days", KEY, 1)]


def test_a_retry_reads_the_old_and_stays_stale(teams):
    teams.land()
    teams.consume("hours", "days")
    teams.land(2, rerun=True)
    teams.consume("hours", "days")
    assert teams.names() == [("days", KEY, 1)]


@pytest.mark.parametrize("point", ["before_action", "after_commit", "after_event"])
def test_a_rerun_that_was_killed_does_not_count(teams, point):
    teams.land()
    teams.consume("hours", "days")
    teams.land(2, rerun=True)
    with pytest.raises(Killed):
        teams.consume("hours", "days", rerun=True, observers=[killing(point, "marker/days")])
    assert teams.names() == [("days", KEY, 1)]
    teams.consume("hours", "days", rerun=True)
    assert teams.stale() == []


def test_a_provider_that_failed_or_is_gone_offers_nothing_newer(teams):
    teams.land()
    teams.consume("hours", "days")
    mark(teams.root, "failed", revision=2, generation=2)
    assert teams.stale() == []
    (teams.root / "out" / "markers" / "hours" / f"{KEY}.json").unlink()
    assert teams.stale() == []


def test_several_keys_and_datasets_read_by_one(teams):
    for key in ("2013-01-01", KEY):
        teams.land(key=key)
        teams.land(key=key, dataset="weather")
    teams.consume(["hours", "weather"], "week", keys=sf.last_days(2))
    teams.land(2, key="2013-01-01", dataset="weather", rerun=True)
    (found,) = teams.stale()
    assert [(one.read.dataset, one.read.key) for one in found.reads] == [("weather", "2013-01-01")]


def test_a_circle_of_markers_ends(teams):
    paths = {name: path_of(str(teams.root / "out" / "markers"), name, KEY) for name in "ab"}
    for name, other in (("a", "b"), ("b", "a")):
        read_it = Reference(dataset=other, key=KEY, generation=1, revision=1, path=paths[other])
        mark(teams.root, dataset=name, made_of=[read_it])
    teams.consume("a", "c")
    assert teams.stale() == []


def test_a_long_chain_and_many_diamonds_are_followed_once(teams, monkeypatch):
    """A dataset made from itself of the two days before, for four years: more than Python would recurse into."""
    folder = str(teams.root / "out" / "markers")
    days = [f"d{number}" for number in range(1500)]
    for at, day in enumerate(days):
        made_of = [
            Reference(dataset="x", key=before, generation=1, revision=1, path=path_of(folder, "x", before))
            for before in days[max(at - 2, 0) : at]
        ]
        mark(teams.root, dataset="x", key=day, made_of=made_of)
    teams.consume("x", "y", keys=[days[-1]])
    assert teams.stale() == []
    mark(teams.root, dataset="x", key=days[0], revision=2, generation=2)
    reads = []
    monkeypatch.setattr(
        "spark_flow.operations.stale.markers.read", lambda path, read=read: reads.append(path) or read(path)
    )
    assert teams.names() == [("y", KEY, 1500)]
    assert len(teams.stale()[0].reason) < 500
    reads.clear()
    teams.stale()
    assert len(reads) == len(set(reads)) == 1500


@pytest.mark.parametrize("path", ["foo://x", "\0", "s3:", "/no/such/file"])
def test_a_marker_that_names_nonsense_stops_nobody(teams, path):
    teams.land()
    teams.consume("hours", "days")
    mark(teams.root, dataset="bad", made_of=[Reference(dataset="q", key=KEY, generation=1, revision=1, path=path)])
    teams.consume("bad", "worse")
    teams.land(2, rerun=True)
    assert teams.names() == [("days", KEY, 1)]


def test_a_provider_that_lost_its_state_and_its_markers_is_noticed(teams):
    teams.land()
    teams.consume("hours", "days")
    teams.ledgers["hours"] = MemoryLedger()
    (teams.root / "out" / "markers" / "hours" / f"{KEY}.json").unlink()
    teams.land(2)
    assert marker(teams.root).revision == 1
    assert teams.names() == [("days", KEY, 1)]


def test_what_was_missing_and_has_come_makes_stale(teams):
    teams.land(dataset="east")
    teams.consume(["east", "west"], "both", require=sf.any_succeeded)
    assert teams.stale() == []
    teams.land(dataset="west")
    (found,) = teams.stale()
    assert "it was missing, and has come since" in found.reason
    teams.consume(["east", "west"], "both", require=sf.any_succeeded)
    assert teams.stale() == []


def test_the_command_is_that_of_the_success(teams):
    def told(name):
        return {"job": name, "config": "c", "overrides": [], "cwd": "."}

    teams.land()
    teams.consume("hours", "days", command=told("good"))
    with pytest.raises(Killed):
        teams.consume("hours", "days", command=told("a try"), rerun=True, observers=[killing("before_action", "r")])
    teams.land(2, rerun=True)
    (found,) = teams.stale()
    assert found.command["job"] == "good"


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["retry", "rerun"])), max_size=12),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=4, max_size=4),
)
def test_law_making_what_is_stale_anew_in_order_leaves_nothing_stale(tmp_path_factory, changes, reads):
    teams = Teams(tmp_path_factory.mktemp("law"))
    teams.land(dataset="d0", tables=["r"])
    sources = {n + 1: sorted({f"d{min(one, n)}" for one in pair}) for n, pair in enumerate(reads)}
    for number, datasets in sources.items():
        teams.consume(datasets, f"d{number}")
    for number, how in changes:
        if number == 0:
            teams.land(2, dataset="d0", tables=["r"], rerun=how == "rerun")
        else:
            teams.consume(sources[number], f"d{number}", rerun=how == "rerun")
    for one in teams.stale():
        teams.consume(sources[int(one.pipeline[1:])], one.pipeline, rerun=True)
    assert teams.stale() == []


# --- the commands


@pytest.fixture
def commanded(tmp_path):
    """A chain in real ledgers whose consumers were run by a job: a script that makes them anew."""
    script = tmp_path / "job.py"
    script.write_text(
        "import pathlib, sys\n"
        f"sys.path.insert(0, {str(__file__.rpartition('/')[0])!r})\n"
        "from handover import provide, waiting, writes\n"
        "from spark_flow.ledger import DeltaLedger\n"
        "import spark_flow as sf\n"
        f"root = pathlib.Path({str(tmp_path)!r})\n"
        "given = dict(a.split('=', 1) for a in sys.argv[1:] if '=' in a)\n"
        "given_id = sys.argv[sys.argv.index('--request-id') + 1] if '--request-id' in sys.argv else ''\n"
        "def then(run, _):\n"
        "    writes(run, 'r', root / 'out' / given['report'] / 'r', 1)\n"
        "    sf.publish(run, given['report'], markers=str(root / 'out' / 'markers'))\n"
        "command = {'job': __file__, 'config': 'c', 'overrides': [a for a in sys.argv[3:] if '=' in a], 'cwd': '.'}\n"
        "waiting(root, dataset=given['dataset'], pipeline=given['report'], ledger=DeltaLedger(str(root / 'c')),\n"
        "        then=then, request_id=given_id, command=command)\n"
    )

    def chain():
        provider = DeltaLedger(str(tmp_path / "p"))
        provide(tmp_path, 1, ledger=provider)
        for dataset, report in (("hours", "days"), ("days", "months")):
            words = [f"dataset={dataset}", f"report={report}"]
            subprocess.run([sys.executable, script, "--config", "c", *words], check=True)
        provide(tmp_path, 2, ledger=provider, rerun=True)

    chain.state = f"--state={tmp_path / 'c'}"
    return chain


def spark_flow(*words):
    return CliRunner().invoke(app, list(words))


@pytest.mark.process
def test_stale_lists_backfill_plans_and_does(commanded):
    commanded()
    state = commanded.state
    listed = json.loads(spark_flow("stale", state, "--json").stdout)
    assert [(one["pipeline"], one["key"], one["hops"]) for one in listed] == [("days", KEY, 1), ("months", KEY, 2)]
    planned = spark_flow("backfill", "--stale", "--plan", state, f"--launcher={sys.executable}")
    assert planned.exit_code == 0
    assert "would rerun 2 key(s)" in planned.stdout
    assert planned.stdout.count("--request-id backfill@") == 2
    assert json.loads(spark_flow("stale", state, "--json").stdout) == listed
    done = spark_flow("backfill", "--stale", state, f"--launcher={sys.executable}")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "2 succeeded")
    assert "nothing is stale" in spark_flow("stale", state).stdout
    again = spark_flow("backfill", "--stale", state)
    assert (again.exit_code, again.stdout.strip()) == (0, "nothing is stale")


@pytest.mark.process
def test_backfill_says_by_its_exit_code_that_a_key_was_not_made_anew(commanded):
    commanded()
    failed = spark_flow("backfill", "--stale", commanded.state, commanded.state, "--launcher=false")
    assert (failed.exit_code, failed.stdout.splitlines()[-1]) == (1, "1 failed, 1 left alone")


def test_backfill_wants_to_be_told_which_keys(tmp_path):
    assert spark_flow("backfill", f"--state={tmp_path}").exit_code == 2


def test_a_consumer_whose_provider_was_not_made_anew_is_left_alone(teams):
    teams.land()
    broken = {"job": "gone.py", "config": "c", "overrides": [], "cwd": "."}
    teams.consume("hours", "days", command=broken)
    teams.consume("days", "months", command=broken)
    teams.consume("hours", "other")
    teams.land(2, rerun=True)
    told = []
    results = backfill(teams.stale(), teams.stale, launcher=f"{sys.executable} -c exit(1)", report=told.append)
    assert results == {
        ("days", "days", KEY): "failed",
        ("other", "other", KEY): "left alone",
        ("months", "months", KEY): "left alone",
    }
    assert any("its provider was not rerun" in words for words in told)


def test_a_rerun_that_reads_the_old_once_more_is_no_success(teams):
    """As a job that does not pass on its cause would: the key is stale still."""
    teams.land()
    teams.consume("hours", "days", command={"job": "true", "config": "c", "overrides": [], "cwd": "."})
    teams.land(2, rerun=True)
    told = []
    assert set(backfill(teams.stale(), teams.stale, launcher="true", report=told.append).values()) == {"failed"}
    assert told[-1].endswith("it is still stale")


@pytest.mark.parametrize(("launcher", "cwd"), [("no-such-command", "."), ("true", "/no/such/folder")])
def test_a_command_that_cannot_be_started_does_not_stop_the_others(teams, launcher, cwd):
    command = {"job": "j", "config": "c", "overrides": [], "cwd": cwd}
    teams.land()
    for report in ("a", "b"):
        teams.consume("hours", report, command=command)
    teams.land(2, rerun=True)
    assert list(backfill(teams.stale(), teams.stale, launcher=launcher, report=print).values()) == ["failed"] * 2


@pytest.mark.parametrize("launcher", ["true", "a 'quote that does not end"])
def test_what_goes_wrong_with_one_key_of_a_backfill_stops_no_other(teams, launcher):
    command = {"job": "j", "config": "c", "overrides": [], "cwd": "."}
    teams.land()
    for report in ("a", "b", "c"):
        teams.consume("hours", report, command=command)
    teams.land(2, rerun=True)
    looks, told = [], []

    def again():
        looks.append(1)
        if len(looks) == 1:  # of the first key alone
            raise OSError("Input/output error")
        return teams.stale()

    results = backfill(teams.stale(), again, launcher=launcher, report=told.append)
    assert (list(results.values()), "Input/output error" in told[0]) == (["failed"] * 3, True)


def test_the_same_backfill_is_a_retry_and_newer_data_another_cause(teams):
    teams.land()
    teams.consume("hours", "days", command={"job": "j", "config": "c", "overrides": ["a b=c"], "cwd": "/x y"})
    teams.land(2, rerun=True)
    first, again = (words(teams.stale()[0], "run")[-1] for _ in range(2))
    teams.land(3, rerun=True)
    assert first == again != words(teams.stale()[0], "run")[-1]
    assert shown(teams.stale()[0], "run").startswith("cd '/x y' && run j --config c 'a b=c' --request-id backfill@")


def test_what_another_has_made_anew_meanwhile_is_not_made_again(teams):
    teams.land()
    teams.consume("hours", "days")
    teams.consume("days", "months")
    teams.land(2, rerun=True)
    (months,) = [one for one in teams.stale() if one.pipeline == "months"]
    teams.consume("hours", "days", rerun=True)
    teams.consume("days", "months", rerun=True)
    assert backfill([months], teams.stale, report=print) == {("months", "months", KEY): "succeeded"}


def test_the_order_does_not_depend_on_the_order_of_ledgers(teams):
    teams.land()
    for report, dataset in (("z", "hours"), ("a", "z"), ("m", "a")):
        teams.consume(dataset, report)
    teams.land(2, rerun=True)
    ledgers = [(name, ledger.read()) for name, ledger in teams.ledgers.items()]
    for seed in range(5):
        random.Random(seed).shuffle(ledgers)
        assert [one.pipeline for one in stale(dict(ledgers))] == ["z", "a", "m"]
