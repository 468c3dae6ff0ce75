"""The fan-in jobs as a user runs them: files that are corrupt, missing or late, and readers meanwhile."""

import json
import shutil
import signal
import threading

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from jobs import KEY, ROOT, Jobs, table

ALIGNED, UNALIGNED = "aligned_fan_in", "unaligned_fan_in"
LATE = ("05", "09", "13", "17", "22")
FOUR = ("07", "08", "13", "22")


@pytest.fixture
def data(tmp_path):
    """The day's hours, to be damaged, taken away and brought back."""
    folder = tmp_path / "data"
    shutil.copytree(ROOT / "data" / "flights" / f"date={KEY}", folder)
    return folder


@pytest.fixture
def source(data):
    """The override that reads these hours."""
    return f"sources.hourly.path={data}/hour={{branch}}"


@pytest.fixture
def away(data, tmp_path):
    def move(*hours, back=False):
        for hour in hours:
            here, there = data / f"hour={hour}", tmp_path / f"away-{hour}"
            (there if back else here).rename(here if back else there)

    return move


@pytest.fixture
def four(data, source):
    """The overrides that read four of the hours."""
    return [source, f"flow.0.aligned_fan_in.branches={list(FOUR)}"]


def test_a_corrupt_hour_fails_alone_and_mended_is_run_alone(submit, four, data, tmp_path):
    code, output = submit(ALIGNED, *four, f"state={tmp_path}/state0", f"output={tmp_path}/out0")
    assert code == 0, output
    file = next((data / "hour=13").iterdir())
    good = file.read_text()
    file.write_text(good[:-30])
    code, output = submit(ALIGNED, *four)
    assert (code, submit.states(), submit.summary["state"]) == (1, {"failed": 1, "succeeded": 3}, "failed"), output
    assert "hours/13" in output
    assert file.name in output
    assert not (tmp_path / "out" / "flights").exists()
    file.write_text(good)
    code, output = submit(ALIGNED, *four)
    branches = [n for n in submit.summary["nodes"] if n["node"].startswith("hours/")]
    ran = [n["node"] for n in branches if n["state"] == "succeeded"]
    assert (code, ran, len(branches)) == (0, ["hours/13"], 4), output
    for name in ("flights", "flights_wide"):
        assert table(tmp_path / "out" / name) == table(tmp_path / "out0" / name)


def test_branches_run_as_they_come_and_the_merge_waits_for_all(submit, four, away, data, tmp_path):
    code, output = submit(ALIGNED, *four, "--only", "hours/07", "--only", "hours/08")
    assert (code, submit.states()["succeeded"], submit.summary["state"]) == (0, 2, "waiting"), output
    away("22")
    code, output = submit(ALIGNED, *four)
    assert (code, submit.summary["completeness"][0]["missing"]) == (75, ["22"]), output
    assert "22" in output.splitlines()[-1]
    assert not (tmp_path / "out" / "flights").exists()
    away("22", back=True)
    code, output = submit(ALIGNED, *four, "--only", "hours/22")
    rows = sum(len(f.read_text().splitlines()) for hour in FOUR for f in (data / f"hour={hour}").iterdir())
    assert (code, submit.summary["state"], len(table(tmp_path / "out" / "flights"))) == (0, "succeeded", rows), output
    code, output = submit(ALIGNED, *four, "--only", "hours/24")
    assert code == 2, output


class Reader(threading.Thread):
    """Polls a table and keeps each state of the key that it saw."""

    def __init__(self, path):
        super().__init__()
        self.path, self.seen, self.stop = str(path), set(), threading.Event()

    def run(self):
        while not self.stop.is_set():
            try:
                rows = DeltaTable(self.path).to_pyarrow_table()
            except TableNotFoundError:
                continue
            whole = [row["flights"] for row in rows.to_pylist() if row["carrier"] is None and row["origin"] is None]
            self.seen.add((tuple(whole), tuple(sorted(set(rows["is_approximate"].to_pylist())))))


def test_a_partial_day_says_so_and_its_gap_is_filled_in_one_commit(submit, source, away, webhook, tmp_path):
    address, told = webhook
    environment = {"SPARK_FLOW_NOTIFY": address}
    away(*LATE)
    code, output = submit(UNALIGNED, source, environment=environment)
    assert (code, submit.states()) == (0, {"skipped": 5, "succeeded": 14}), output
    assert "14 of 19 = 74%" in output
    (row,) = DeltaTable(str(tmp_path / "out" / "completeness")).to_pyarrow_table().to_pylist()
    assert (row["arrived"], row["missing"], row["is_approximate"]) == (14, list(LATE), True)
    assert row["ratio"] == pytest.approx(14 / 19, abs=1e-4)
    cube = tmp_path / "out" / "flights_cube"
    tag = json.loads(DeltaTable(str(cube)).history()[0]["userMetadata"])["spark_flow"]
    assert tag["completeness"][0]["missing"] == list(LATE)
    assert [told["title"] for told in told] == [f"flights_cube {KEY} is approximate"]
    assert "secret" not in output
    partial = table(cube)

    away(*LATE, back=True)
    reader = Reader(cube)
    reader.start()
    code, output = submit(UNALIGNED, source, environment=environment)
    reader.stop.set()
    reader.join()
    assert (code, submit.states()) == (0, {"reused": 14, "succeeded": 5}), output
    assert len(told) == 1
    whole = ((943,), (False,))
    assert whole in reader.seen
    ((flights, flag),) = reader.seen - {whole}  # one other state, the partial day
    assert (len(flights), flights[0] < 943, flag) == (1, True, (True,))
    assert (len(table(cube)), len(partial), DeltaTable(str(cube)).version()) == (49, len(partial), 1)
    (row,) = DeltaTable(str(tmp_path / "out" / "completeness")).to_pyarrow_table().to_pylist()
    assert (row["arrived"], row["missing"], row["is_approximate"]) == (19, [], False)


def test_too_few_hours_publish_nothing_and_none_takes_the_fallback(submit, source, away, data, tmp_path):
    hours = sorted(p.name.removeprefix("hour=") for p in data.iterdir())
    away(*hours[::2])
    code, output = submit(UNALIGNED, source, "flow.0.unaligned_fan_in.require=at_least(0.9)")
    assert (code, submit.summary["state"]) == (1, "failed"), output
    assert "9 of 19" in output
    assert not (tmp_path / "out").exists()
    shutil.rmtree(tmp_path / "state")
    away(*hours[1::2])
    code, output = submit(UNALIGNED, source, "flow.0.unaligned_fan_in.require=at_least(0.9)")
    assert (code, submit.summary["state"]) == (1, "fallback"), output
    assert [(n["node"], n["state"]) for n in submit.summary["nodes"] if n["kind"] == "fallback"] == [
        ("hours/fallback", "succeeded")
    ]
    assert len(table(tmp_path / "out" / "errors")) == 19


@pytest.mark.nightly
@pytest.mark.parametrize(("point", "node"), [("after_event", "lake"), ("before_event", "completeness")])
def test_a_partial_day_killed_and_repeated_equals_never_killed(source, away, tmp_path, point, node):
    submit = Jobs(tmp_path)
    away(*LATE)
    code, output = submit(UNALIGNED, source, f"state={tmp_path}/state0", f"output={tmp_path}/out0")
    assert code == 0, output
    code, output = submit.killed(UNALIGNED, point, node, source)
    assert code == -signal.SIGKILL, output
    code, output = submit(UNALIGNED, source)
    assert code == 0, output
    assert table(tmp_path / "out" / "flights_cube") == table(tmp_path / "out0" / "flights_cube")
    assert [row[:8] for row in table(tmp_path / "out" / "completeness")] == [
        row[:8] for row in table(tmp_path / "out0" / "completeness")
    ]


@pytest.mark.nightly
def test_private_staging_until_the_day_is_complete(submit, source, away, tmp_path):
    staging = f"flow.3.write.staging={tmp_path}/private"
    away("13")
    code, output = submit(UNALIGNED, source, staging)
    assert code == 0, output
    assert not (tmp_path / "out" / "flights_cube").exists()
    assert len(table(tmp_path / "private")) == 49
    away("13", back=True)
    code, output = submit(UNALIGNED, source, staging)
    assert (code, len(table(tmp_path / "out" / "flights_cube")), table(tmp_path / "private")) == (0, 49, []), output
