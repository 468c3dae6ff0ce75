"""The consumer's side: when it looks, what it takes, what it refuses, and what it remembers."""

import dataclasses
import datetime as dt
import threading

import pytest
from handover import AT_ONCE, KEY, FakeClock, mark, marker, provide, put, waiting, writes

import spark_flow as sf
from spark_flow.errors import (
    InvalidArgument,
    InvalidMarker,
    InvalidName,
    InvalidRule,
    OutsideRoots,
    UpstreamFailed,
    UpstreamNotReady,
    UpstreamPartial,
    UpstreamSkipped,
)
from spark_flow.ledger import MemoryLedger
from spark_flow.sequence.isolated_sequencer.keys import KEY_MAPS, parse_keys
from spark_flow.storage.markers import MarkedTable

HALF = sf.Completeness(node="hours", expected=("05", "06"), arrived=("05",))


def states(run):
    return {outcome.node: outcome.state for outcome in run.outcomes}


def detail(run, node="wait/hours"):
    return next(outcome.detail for outcome in run.outcomes if outcome.node == node)


# --- when it looks


def test_it_waits_until_the_marker_comes(tmp_path):
    time = FakeClock()
    time.at(100, lambda: provide(tmp_path))
    polling = sf.Polling(timeout=600, interval=10, backoff=2, max_interval=60, jitter=0)
    run, found = waiting(tmp_path, polling=polling, clock=time.clock)
    assert time.pauses == [10, 20, 40, 60]
    assert found.markers[f"hours/{KEY}"].state == "ready"
    assert (detail(run)["looks"], detail(run)["waited_s"]) == (5, 130)


@pytest.mark.parametrize(("backoff", "looks", "reaction"), [(1, 362, 9), (1.5, 64, 10), (2, 63, 9)])
def test_how_soon_it_reacts_after_an_hour_and_how_often_it_has_looked(tmp_path, backoff, looks, reaction):
    time = FakeClock()
    time.at(3601, lambda: provide(tmp_path))
    polling = sf.Polling(timeout=7200, interval=10, backoff=backoff, max_interval=60, jitter=0)
    run, _ = waiting(tmp_path, polling=polling, clock=time.clock)
    assert (detail(run)["looks"], int(detail(run)["waited_s"] - 3601)) == (looks, reaction)


def test_how_soon_it_reacts_for_real(tmp_path):
    provider = threading.Timer(0.5, lambda: provide(tmp_path))
    provider.start()
    run, found = waiting(tmp_path, polling=sf.Polling(timeout=30, interval=0.1, backoff=1, jitter=0))
    provider.join()
    reaction = dt.datetime.now(dt.timezone.utc) - found.markers[f"hours/{KEY}"].at
    assert reaction < dt.timedelta(seconds=1)
    assert 4 <= detail(run)["looks"] <= 12


def test_it_gives_up_when_the_time_is_over_and_looks_once_more_at_the_end(tmp_path):
    time = FakeClock()
    polling = sf.Polling(timeout=25, interval=10, backoff=1, jitter=0)
    with pytest.raises(UpstreamNotReady) as told:
        waiting(tmp_path, polling=polling, clock=time.clock)
    assert time.pauses == [10, 10, 5]
    assert told.value.exit_code == 75
    assert told.value.waiting == {f"hours/{KEY}": "no marker yet"}


def test_jitter_spreads_the_looks_and_keeps_to_the_timeout(tmp_path):
    time = FakeClock()
    polling = sf.Polling(timeout=1000, interval=10, backoff=1, jitter=0.5)
    with pytest.raises(UpstreamNotReady):
        waiting(tmp_path, polling=polling, clock=time.clock)
    assert all(10 <= pause <= 15 for pause in time.pauses[:-1])
    assert len({round(pause, 6) for pause in time.pauses}) > 10
    assert sum(time.pauses) == pytest.approx(1000)


@pytest.mark.parametrize("there", [True, False])
def test_a_timeout_of_0_looks_once(tmp_path, there):
    time = FakeClock()
    if there:
        provide(tmp_path)
        assert waiting(tmp_path, clock=time.clock)[1].completeness.ratio == 1
    else:
        with pytest.raises(UpstreamNotReady):
            waiting(tmp_path, clock=time.clock)
    assert time.pauses == []


def test_a_real_clock(tmp_path):
    provide(tmp_path)
    run, _ = waiting(tmp_path, polling=sf.Polling(timeout=5, interval=0.05))
    assert (detail(run)["looks"], detail(run)["waited_s"] < 1) == (1, True)
    with pytest.raises(UpstreamNotReady) as told:
        waiting(tmp_path, key="2013-01-03", polling=sf.Polling(timeout=0.5, interval=0.1, backoff=1, jitter=0))
    assert 0.5 <= told.value.waited < 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": -1},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"timeout": "60"},
        {"timeout": True},
        {"timeout": 10**400},
        {"interval": 0},
        {"interval": -5},
        {"backoff": 0.5},
        {"max_interval": 0},
        {"jitter": -0.1},
    ],
)
def test_settings_that_cannot_be_waited_by(tmp_path, wrong):
    with pytest.raises(InvalidArgument):
        waiting(tmp_path, polling=sf.Polling(**wrong))


def test_a_long_wait_does_not_overflow(tmp_path):
    assert sf.Polling(interval=0.001, backoff=10, max_interval=60, jitter=0).pause(10**6) == 60
    assert sf.Polling(interval=100, backoff=2, max_interval=60, jitter=0).pause(10**6) == 60


def test_it_says_what_it_waits_for(tmp_path):
    time, told = FakeClock(), []
    time.at(10, lambda: mark(tmp_path, "failed", reason="no disk"))
    time.at(25, lambda: provide(tmp_path))
    waiting(
        tmp_path,
        polling=sf.Polling(timeout=99, interval=10, backoff=1, jitter=0),
        clock=time.clock,
        on_failed="wait",
        observers=[lambda point, node, outcome: told.append((node, outcome.reason)) if point == "waiting" else None],
    )
    assert [node for node, _ in told] == ["wait/hours"] * 3
    assert [reason.partition(": ")[2] for _, reason in told] == [
        "no marker yet",
        f"hours {KEY} is failed, generation 1: no disk",
        f"hours {KEY} is failed, generation 1: no disk",
    ]


# --- a provider that is not simply ready


@pytest.mark.parametrize(
    ("state", "policy", "error", "code"),
    [
        ("failed", {}, UpstreamFailed, 1),
        ("failed", {"on_failed": "wait"}, UpstreamNotReady, 75),
        ("failed", {"on_failed": "ignore"}, UpstreamNotReady, 75),
        ("skipped", {}, UpstreamSkipped, 0),
        ("skipped", {"on_skipped": "fail"}, UpstreamFailed, 1),
        ("skipped", {"on_skipped": "wait"}, UpstreamNotReady, 75),
    ],
)
def test_failed_and_skipped(tmp_path, state, policy, error, code):
    mark(tmp_path, state, reason="no disk")
    time = FakeClock()
    with pytest.raises(error) as told:
        waiting(tmp_path, clock=time.clock, polling=sf.Polling(timeout=60), **policy)
    assert told.value.exit_code == code
    assert "no disk" in str(told.value)
    assert (len(time.pauses) > 0) == (policy.get("on_failed") == "wait" or policy.get("on_skipped") == "wait")


def test_a_skipped_run_says_so_and_is_no_failure(tmp_path):
    mark(tmp_path, "skipped")
    ledger = MemoryLedger()
    with pytest.raises(UpstreamSkipped), sf.Run.open("c", KEY, state=str(tmp_path / "c"), ledger=ledger) as run:
        sf.wait_for(run, "hours", markers=str(tmp_path / "out" / "markers"), polling=AT_ONCE)
    assert run.summary()["state"] == "skipped"
    assert states(run) == {"wait/hours": "skipped"}
    assert [(e.kind, e.state, e.reason) for e in ledger.read()][-1] == ("run", "skipped", "skipped")


@pytest.mark.parametrize(
    ("policy", "approximate"), [({}, True), ({"on_partial": "pass_on"}, True), ({"on_partial": "take"}, False)]
)
def test_partial_is_passed_on_or_taken(tmp_path, policy, approximate):
    provide(tmp_path, completeness=[HALF])
    _, found = waiting(tmp_path, **policy)
    parts = found.frames["a"].completeness
    assert any(part.is_approximate for part in parts) is approximate
    if approximate:
        assert [part.missing for part in parts] == [("06",), ()]


def test_partial_is_refused_or_waited_for(tmp_path):
    provide(tmp_path, completeness=[HALF])
    with pytest.raises(UpstreamPartial) as told:
        waiting(tmp_path, on_partial="refuse")
    assert told.value.exit_code == 1
    assert "50%" in str(told.value)
    time = FakeClock()
    time.at(50, lambda: provide(tmp_path, 2))
    _, found = waiting(tmp_path, on_partial="wait", clock=time.clock, polling=sf.Polling(timeout=99))
    assert not any(part.is_approximate for part in found.frames["a"].completeness)


@pytest.mark.parametrize("wrong", [{"on_failed": "skip"}, {"on_skipped": "no"}, {"on_partial": "fail"}])
def test_policies_that_there_are_not(tmp_path, wrong):
    with pytest.raises(InvalidArgument):
        waiting(tmp_path, **wrong)


# --- markers that cannot be trusted


def put_marker(root, content):
    path = root / "out" / "markers" / "hours" / f"{KEY}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_a_marker_in_another_tools_hands_is_looked_at_again(tmp_path):
    provide(tmp_path)
    path = tmp_path / "out" / "markers" / "hours" / f"{KEY}.json"
    whole = path.read_text()
    path.write_text(whole[:50])
    time = FakeClock()
    time.at(1, lambda: path.write_text(whole))
    run, _ = waiting(tmp_path, clock=time.clock, polling=sf.Polling(timeout=99))
    assert detail(run)["looks"] == 2


@pytest.mark.parametrize(("timeout", "pauses"), [(0, 0), (99, 1)])
@pytest.mark.parametrize("content", ["", '{"format": 1, "data'])
def test_a_marker_that_stays_cut_off_is_refused(tmp_path, timeout, pauses, content):
    put_marker(tmp_path, content)
    time = FakeClock()
    with pytest.raises(InvalidMarker) as told:
        waiting(tmp_path, clock=time.clock, polling=sf.Polling(timeout=timeout))
    assert told.value.cut_off
    assert len(time.pauses) == pauses


def test_a_marker_that_is_cut_off_twice_but_not_in_a_row_is_in_use(tmp_path):
    path = put_marker(tmp_path, "{")
    time = FakeClock()
    time.at(10, path.unlink)
    time.at(20, lambda: path.write_text("{"))
    time.at(30, lambda: (path.unlink(), provide(tmp_path)))
    polling = sf.Polling(timeout=99, interval=10, backoff=1, jitter=0)
    waiting(tmp_path, clock=time.clock, polling=polling)


def test_tables_elsewhere_are_read_only_if_that_is_allowed(tmp_path):
    put(tmp_path / "elsewhere" / "a", KEY, 1)
    table = MarkedTable(path=str(tmp_path / "elsewhere" / "a"), format="delta", version=0)
    mark(tmp_path, tables={"a": table})
    with pytest.raises(OutsideRoots):
        waiting(tmp_path)
    _, found = waiting(tmp_path, roots=[str(tmp_path / "elsewhere")])
    assert set(found.frames) == {"a"}


@pytest.mark.parametrize("dataset", ["..", "a/../b", "", "a/b"])
def test_a_datasets_name_is_no_path(tmp_path, dataset):
    with pytest.raises(InvalidName):
        waiting(tmp_path, dataset=dataset)


@pytest.mark.parametrize(("ahead", "words"), [(3600, "3600 s ahead of ours"), (-3600, "published 3599")])
def test_a_providers_clock_that_is_off_changes_no_decision(tmp_path, ahead, words):
    provide(tmp_path)
    told = dataclasses.replace(
        marker(tmp_path), at=dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=ahead, milliseconds=300)
    )
    from spark_flow.storage.markers import write

    write(str(tmp_path / "out" / "markers"), told)
    run, _ = waiting(tmp_path)
    assert words in next(o.reason for o in run.outcomes if o.node == "wait/hours")


# --- keys and datasets


def test_a_daily_consumer_waits_for_the_hours_of_its_day(tmp_path):
    for hour in ("05", "06"):
        provide(tmp_path, int(hour), key=f"{KEY}T{hour}")
    time = FakeClock()
    time.at(30, lambda: provide(tmp_path, 7, key=f"{KEY}T07"))
    polling = sf.Polling(timeout=99, interval=10, backoff=1, jitter=0)
    _, found = waiting(tmp_path, keys=sf.hours_of_day(5, 7), clock=time.clock, polling=polling)
    assert found.completeness.arrived == tuple(f"hours/{KEY}T{hour}" for hour in ("05", "06", "07"))
    assert len(time.pauses) == 3


def test_enough_of_several_when_the_time_is_over(tmp_path):
    provide(tmp_path, dataset="east")
    mark(tmp_path, "failed", dataset="north")
    time = FakeClock()
    how = {"dataset": ["east", "west", "north"], "on_failed": "ignore", "clock": time.clock}
    _, found = waiting(tmp_path, require=sf.at_least(1), polling=sf.Polling(timeout=60), **how)
    assert sum(time.pauses) == pytest.approx(60)
    assert found.completeness.missing == (f"west/{KEY}", f"north/{KEY}")
    assert any(part.is_approximate for part in found.frames["a"].completeness)
    with pytest.raises(UpstreamNotReady) as told:
        waiting(tmp_path, require=sf.at_least(2), **how)
    assert set(told.value.waiting) == {f"west/{KEY}", f"north/{KEY}"}


def test_all_that_can_come_has_come(tmp_path):
    provide(tmp_path, dataset="east")
    mark(tmp_path, "failed", dataset="north")
    time = FakeClock()
    how = {"on_failed": "ignore", "require": sf.any_succeeded, "polling": sf.Polling(timeout=60)}
    waiting(tmp_path, dataset=["east", "north"], clock=time.clock, **how)
    assert time.pauses == []


def test_more_required_than_there_are(tmp_path):
    with pytest.raises(InvalidRule):
        waiting(tmp_path, require=sf.at_least(2))
    with pytest.raises(InvalidRule):
        waiting(tmp_path, require="all")


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("same", [KEY]),
        ("hours_of_day", [f"{KEY}T{hour:02d}" for hour in range(24)]),
        (" hours_of_day( 05 .. 06 ) ", [f"{KEY}T05", f"{KEY}T06"]),
        ("last_days(3)", ["2012-12-31", "2013-01-01", KEY]),
    ],
)
def test_maps_of_keys(text, keys):
    assert list(parse_keys(text)(KEY)) == keys


@pytest.mark.parametrize(
    "text",
    ["", "yesterday", "hours_of_day(6..5)", "hours_of_day(0..24)", "last_days(0)", "last_days(367)", "last_days"],
)
def test_maps_that_there_are_not(text):
    with pytest.raises(InvalidArgument):
        parse_keys(text)
    assert "last_days" in KEY_MAPS


@pytest.mark.parametrize("keys", [sf.last_days(2), sf.hours_of_day()])
def test_a_map_of_days_needs_a_day(tmp_path, keys):
    with pytest.raises(InvalidArgument):
        waiting(tmp_path, key="load-7", keys=keys)


@pytest.mark.parametrize("keys", ["2013-01-02", [], lambda _: ()])
def test_keys_that_are_none(tmp_path, keys):
    with pytest.raises(InvalidArgument):
        waiting(tmp_path, keys=keys)


# --- what is remembered


def test_a_retry_reads_what_the_first_attempt_read_and_a_rerun_the_newest(tmp_path):
    ledger = MemoryLedger()
    provider = MemoryLedger()
    provide(tmp_path, 1, ledger=provider)
    _, first = waiting(tmp_path, ledger=ledger)
    provide(tmp_path, 2, ledger=provider, rerun=True)
    run, again = waiting(tmp_path, ledger=ledger)
    assert states(run)["wait/hours"] == "reused"
    assert again.markers == first.markers
    assert again.frames["a"].fingerprint == first.frames["a"].fingerprint
    run, anew = waiting(tmp_path, ledger=ledger, rerun=True)
    assert (run.generation, anew.markers[f"hours/{KEY}"].tables["a"].version) == (2, 1)
    assert anew.frames["a"].fingerprint != first.frames["a"].fingerprint


def test_what_was_pinned_and_is_gone_is_pinned_anew(tmp_path):
    from deltalake import DeltaTable

    ledger, provider = MemoryLedger(), MemoryLedger()
    provide(tmp_path, 1, ledger=provider)
    waiting(tmp_path, ledger=ledger)
    provide(tmp_path, 2, ledger=provider, rerun=True)
    table = DeltaTable(str(tmp_path / "out" / "hours" / "a"))
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    run, found = waiting(tmp_path, ledger=ledger)
    assert states(run)["wait/hours"] == "succeeded"
    assert found.markers[f"hours/{KEY}"].tables["a"].version == 1


def test_a_retry_takes_what_has_come_since_and_keeps_the_rest(tmp_path):
    ledger, east = MemoryLedger(), MemoryLedger()
    how = {"dataset": ["east", "west"], "require": sf.any_succeeded, "ledger": ledger}
    provide(tmp_path, 1, dataset="east", ledger=east)
    waiting(tmp_path, **how)
    assert states(waiting(tmp_path, **how)[0])["wait/east-west"] == "reused"
    provide(tmp_path, 2, dataset="east", ledger=east, rerun=True)
    provide(tmp_path, 3, dataset="west")
    time = FakeClock()
    run, found = waiting(tmp_path, clock=time.clock, polling=sf.Polling(timeout=99), **how)
    assert states(run)["wait/east-west"] == "succeeded"
    assert {name: m.tables["a"].version for name, m in found.markers.items()} == {f"east/{KEY}": 0, f"west/{KEY}": 0}
    assert (found.completeness.missing, time.pauses) == ((), [])


def test_storage_that_does_not_answer_keeps_what_was_pinned(tmp_path, monkeypatch):
    ledger, provider = MemoryLedger(), MemoryLedger()
    provide(tmp_path, 1, ledger=provider)
    waiting(tmp_path, ledger=ledger)
    provide(tmp_path, 2, ledger=provider, rerun=True)

    def away(*_):
        raise OSError("503 slow down")

    monkeypatch.setattr("spark_flow.storage.markers.open_table", away)
    run, found = waiting(tmp_path, ledger=ledger)
    assert states(run)["wait/hours"] == "reused"
    assert found.markers[f"hours/{KEY}"].tables["a"].version == 0
    with pytest.raises(UpstreamNotReady, match="503"):
        waiting(tmp_path)


def test_a_marker_without_a_needed_table_is_not_remembered(tmp_path):
    ledger = MemoryLedger()
    provide(tmp_path, tables=["a"])
    with pytest.raises(InvalidMarker, match="including b"):
        waiting(tmp_path, ledger=ledger, tables=["b"])
    provide(tmp_path, 2)
    assert set(waiting(tmp_path, ledger=ledger, tables=["b"])[1].frames) == {"a", "b"}


def test_another_tools_approximate_marker_is_passed_on(tmp_path):
    from spark_flow.storage.markers import Told

    mark(tmp_path, completeness=Told(ratio=0.5, is_approximate=True), tables={})
    provide(tmp_path, dataset="other")
    _, found = waiting(tmp_path, dataset=["hours", "other"])
    assert any(part.is_approximate for part in found.frames["a"].completeness)
    with pytest.raises(UpstreamPartial):
        waiting(tmp_path, on_partial="refuse")


def test_a_marker_that_contradicts_itself_is_approximate(tmp_path):
    from spark_flow.storage.markers import Part, Told

    half = Part(node="hours", expected=["05", "06"], arrived=["05"])
    mark(tmp_path, completeness=Told(is_approximate=False, fan_ins=[half]))
    with pytest.raises(UpstreamPartial):
        waiting(tmp_path, on_partial="refuse")


def test_what_is_passed_on_does_not_grow_from_hop_to_hop(tmp_path):
    provide(tmp_path, dataset="d0", completeness=[HALF])
    for hop in range(1, 6):

        def then(run, found, hop=hop):
            writes(run, "a", tmp_path / "out" / f"d{hop}" / "a", 1, found.frames["a"].completeness)
            sf.publish(run, f"d{hop}", markers=str(tmp_path / "out" / "markers"))

        before = [f"d{hop - 1}"] + ([f"d{hop - 2}"] if hop > 1 else [])
        waiting(tmp_path, dataset=before, pipeline=f"p{hop}", then=then)
    told = marker(tmp_path, "d5").partial
    assert [part.node for part in told] == [f"d0 {KEY}: hours"]


@pytest.mark.parametrize(
    ("roots", "allowed"),
    [(["/"], True), (["{root}/out/"], True), (["{root}/ou"], False), (["{root}/out/hours/a"], False)],
)
def test_roots(tmp_path, roots, allowed):
    provide(tmp_path)
    given = [root.format(root=tmp_path) for root in roots]
    if allowed:
        waiting(tmp_path, roots=given)
    else:
        with pytest.raises(OutsideRoots):
            waiting(tmp_path, roots=given)


@pytest.mark.parametrize(
    ("folder", "around"),
    [
        ("/data/markers", "/data"),
        ("/markers", "/"),
        ("/", "/"),
        ("s3://bucket/m", "s3://bucket"),
        ("s3://bucket", "s3://bucket"),
    ],
)
def test_the_folder_that_markers_lie_in(folder, around):
    from spark_flow.sequence.isolated_sequencer.consumer import _parent

    assert _parent(folder) == around


def test_a_provider_that_is_mended_while_others_are_waited_for(tmp_path):
    mark(tmp_path, "failed", dataset="east")
    time = FakeClock()
    time.at(10, lambda: provide(tmp_path, dataset="east"))
    time.at(20, lambda: provide(tmp_path, dataset="west"))
    how = {"on_failed": "ignore", "require": sf.any_succeeded, "polling": sf.Polling(timeout=99, backoff=1, jitter=0)}
    _, found = waiting(tmp_path, dataset=["east", "west"], clock=time.clock, **how)
    assert found.completeness.missing == ()


def test_a_wait_that_failed_is_not_remembered(tmp_path):
    ledger = MemoryLedger()
    mark(tmp_path, "failed")
    with pytest.raises(UpstreamFailed):
        waiting(tmp_path, ledger=ledger)
    provide(tmp_path)
    run, _ = waiting(tmp_path, ledger=ledger)
    assert states(run)["wait/hours"] == "succeeded"


def test_a_plan_looks_once_and_records_nothing(tmp_path):
    ledger, time = MemoryLedger(), FakeClock()
    with pytest.raises(UpstreamNotReady):
        waiting(tmp_path, ledger=ledger, plan=True, clock=time.clock, polling=sf.Polling(timeout=99))
    provide(tmp_path)
    run, found = waiting(tmp_path, ledger=ledger, plan=True)
    assert states(run)["wait/hours"] == "would run"
    assert set(found.frames) == {"a", "b"}
    assert (time.pauses, ledger.read()) == ([], [])
    waiting(tmp_path, ledger=ledger)
    run, _ = waiting(tmp_path, ledger=ledger, plan=True)
    assert states(run)["wait/hours"] == "would reuse"


def test_one_table_or_its_name(tmp_path):
    provide(tmp_path)
    _, found = waiting(tmp_path)
    with pytest.raises(InvalidArgument, match="2 tables"):
        _ = found.frame
    with pytest.raises(InvalidArgument, match="one of: a, b"):
        found.table("c")
    provide(tmp_path, dataset="days", tables=["a"])
    _, found = waiting(tmp_path, dataset="days")
    assert found.frame is found.table("a")


def test_a_table_that_one_of_several_markers_lacks(tmp_path):
    provide(tmp_path, dataset="east")
    provide(tmp_path, dataset="west", tables=["a"])
    _, found = waiting(tmp_path, dataset=["east", "west"])
    with pytest.raises(InvalidMarker, match="including 'b'"):
        _ = found.frames["b"].frame


def test_storage_that_does_not_answer_is_asked_again(tmp_path):
    path = tmp_path / "out" / "markers" / "hours"
    path.parent.mkdir(parents=True)
    path.write_text("a file in the way")
    time = FakeClock()
    time.at(10, lambda: (path.unlink(), provide(tmp_path)))
    waiting(tmp_path, clock=time.clock, polling=sf.Polling(timeout=99))
    assert len(time.pauses) == 1


def test_a_node_made_from_a_hand_over_knows_which_tables_it_reads(tmp_path):
    for dataset in ("east", "west"):
        for key in ("2013-01-01", KEY):
            provide(tmp_path, dataset=dataset, key=key)

    def then(run, found):
        frame = sf.local_sequencer(run, found.frames["a"], [lambda_free])
        assert {run.graph.sources[name].paths for name in run.graph.reads(frame.node)} == {
            (str(tmp_path / "out" / dataset / "a"),) for dataset in ("east", "west")
        }

    waiting(tmp_path, dataset=["east", "west"], keys=sf.last_days(2), then=then)


def lambda_free(frame):
    return frame
