"""The provider's side: a marker after the data, once for each content, whatever happens between."""

import json

import pytest
from conftest import Killed, killing
from handover import KEY, marker, provide, waiting, writes

import spark_flow as sf
from spark_flow.engine.mode import Mode
from spark_flow.engine.node import Node
from spark_flow.errors import (
    DuplicateNode,
    InvalidArgument,
    NotAllArrived,
    RunError,
    TookFallback,
    UpstreamSkipped,
    WriteNotProved,
)
from spark_flow.ledger import MemoryLedger
from spark_flow.storage.sink_protocol import Written

NODE = "marker/hours"


def states(run):
    return {outcome.node: outcome.state for outcome in run.outcomes}


def test_a_repeated_provider_publishes_once(tmp_path):
    ledger = MemoryLedger()
    provide(tmp_path, ledger=ledger)
    first = marker(tmp_path)
    run = provide(tmp_path, ledger=ledger)
    assert states(run) == {"a": "reused", "b": "reused", NODE: "reused"}
    assert marker(tmp_path) == first


@pytest.mark.parametrize("point", ["before_action", "before_commit", "after_commit", "before_event", "after_event"])
def test_killed_at_the_marker_and_repeated(tmp_path, point):
    ledger = MemoryLedger()
    with pytest.raises(Killed):
        provide(tmp_path, ledger=ledger, observers=[killing(point, NODE)])
    run = provide(tmp_path, ledger=ledger)
    assert [states(run)[table] for table in ("a", "b")] == ["reused", "reused"]
    assert (marker(tmp_path).revision, marker(tmp_path).tables["a"].version) == (1, 0)


@pytest.mark.parametrize("node", ["a", "b"])
def test_killed_before_the_marker_nobody_sees_the_key(tmp_path, node):
    with pytest.raises(Killed):
        provide(tmp_path, observers=[killing("after_event", node)])
    with pytest.raises(FileNotFoundError):
        marker(tmp_path)


def test_a_rerun_publishes_the_next_revision(tmp_path):
    ledger = MemoryLedger()
    provide(tmp_path, 1, ledger=ledger)
    provide(tmp_path, 2, ledger=ledger, rerun=True)
    found = marker(tmp_path)
    assert (found.generation, found.revision, found.tables["a"].version) == (2, 2, 1)


def test_a_late_branch_publishes_the_next_revision_of_the_generation(tmp_path):
    ledger = MemoryLedger()
    half = sf.Completeness(node="hours", expected=("05", "06"), arrived=("05",))
    provide(tmp_path, 1, ledger=ledger, completeness=[half])
    told = marker(tmp_path).completeness
    assert (told.ratio, told.is_approximate, told.fan_ins[0].arrived) == (0.5, True, ["05"])
    provide(tmp_path, 2, ledger=ledger)
    found = marker(tmp_path)
    assert (found.generation, found.revision, found.completeness.is_approximate) == (1, 2, False)


def test_a_lost_state_folder_goes_on_above_the_marker_that_is_there(tmp_path):
    provide(tmp_path, 1)
    provide(tmp_path, 2)
    assert (marker(tmp_path).generation, marker(tmp_path).revision) == (1, 2)


@pytest.mark.parametrize("damage", ["remove", "cut", "other"])
def test_a_marker_that_was_lost_is_published_again(tmp_path, damage):
    ledger = MemoryLedger()
    provide(tmp_path, ledger=ledger)
    path = tmp_path / "out" / "markers" / "hours" / f"{KEY}.json"
    if damage == "remove":
        path.unlink()
    else:
        newer = {**json.loads(path.read_text()), "revision": 7, "checksum": ""}
        path.write_text("{" if damage == "cut" else json.dumps(newer))
    run = provide(tmp_path, ledger=ledger)
    tables = "succeeded" if damage == "other" else "reused"  # a marker that is newer proves that the ledger is old
    assert states(run) == {"a": tables, "b": tables, NODE: "succeeded"}
    assert marker(tmp_path).revision == (8 if damage == "other" else 2)


def test_a_run_that_stood_still_does_not_publish_over_a_newer_one(tmp_path):
    ledger = MemoryLedger()

    def meanwhile(point, node, _):
        if (point, node) == ("before_commit", NODE) and not done:
            done.append(1)
            provide(tmp_path, 2, ledger=ledger, request_id="another")
            provide(tmp_path, 3, ledger=ledger, request_id="a third")

    done = []
    with pytest.raises(WriteNotProved):
        provide(tmp_path, 1, ledger=ledger, observers=[meanwhile])
    assert marker(tmp_path).tables["a"].version == 2


def test_success_files(tmp_path):
    ledger = MemoryLedger()
    provide(tmp_path, ledger=ledger, success_file=True)
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("_SUCCESS"))
    assert found == [f"hours/a/date={KEY}/_SUCCESS", f"hours/b/date={KEY}/_SUCCESS"]
    (tmp_path / "out" / found[0]).unlink()
    assert states(provide(tmp_path, ledger=ledger, success_file=True))[NODE] == "succeeded"
    assert (tmp_path / "out" / found[0]).exists()


def test_some_tables_and_names_that_clash(tmp_path):
    with sf.Run.open("p", KEY, state=str(tmp_path / "p"), ledger=MemoryLedger()) as run:
        for node in ("x/a", "y/a", "b"):
            writes(run, node, tmp_path / "out" / node, 1)
        sf.publish(run, "all", markers=str(tmp_path / "out" / "markers"))
        sf.publish(run, "some", markers=str(tmp_path / "out" / "markers"), tables=["b"])
        with pytest.raises(InvalidArgument):
            sf.publish(run, "wrong", markers=str(tmp_path / "out" / "markers"), tables=["c"])
    assert set(marker(tmp_path, "all").tables) == {"x/a", "y/a", "b"}
    assert set(marker(tmp_path, "some").tables) == {"b"}


def test_a_dataset_is_published_by_one_node(tmp_path):
    with sf.Run.open("p", KEY, state=str(tmp_path / "p"), ledger=MemoryLedger()) as run:
        writes(run, "a", tmp_path / "out" / "a", 1)
        sf.publish(run, "hours", markers=str(tmp_path / "m"), name="one")
        with pytest.raises(DuplicateNode):
            sf.publish(run, "hours", markers=str(tmp_path / "m"), name="two")


def test_a_table_that_cannot_tell_the_keys_rows_is_not_published(tmp_path):
    """Its reader would get those of other keys, too."""

    def written(detail):
        return lambda _: Written(detail={"format": "delta", "path": str(tmp_path / "t"), "version": 0, **detail})

    for detail, allowed in (
        ({"column": None}, False),
        ({"column": None, "whole": True}, True),
        ({"column": "date"}, True),
    ):
        run = sf.Run.open("p", KEY, state=str(tmp_path / "p"), ledger=MemoryLedger())
        run.once(Node(name="a", kind="sink"), written(detail))
        if allowed:
            sf.publish(run, "hours", markers=str(tmp_path / "m"))
        else:
            with pytest.raises(InvalidArgument, match="other keys"):
                sf.publish(run, "hours", markers=str(tmp_path / "m"))


def test_a_write_of_a_ledger_that_is_older_than_markers_says_so(tmp_path):
    run = sf.Run.open("p", KEY, state=str(tmp_path / "p"), ledger=MemoryLedger())
    run.once(Node(name="a", kind="sink"), lambda _: Written(detail={"format": "delta", "path": "/t", "version": 0}))
    with pytest.raises(InvalidArgument, match="--rerun"):
        sf.publish(run, "hours", markers=str(tmp_path / "m"))


@pytest.mark.parametrize("published", [False, True])
def test_what_a_fallback_gave_is_not_ready(tmp_path, published):
    ledger = MemoryLedger()
    if published:
        provide(tmp_path, ledger=ledger)
    run = sf.Run.open("provider-hours", KEY, state=str(tmp_path / "p"), ledger=ledger)
    run.fall_short(TookFallback("hours", "the last good copy"))
    writes(run, "a", tmp_path / "out" / "hours" / "a", 9)
    sf.publish(run, "hours", markers=str(tmp_path / "out" / "markers"))
    run.close()
    assert marker(tmp_path).state == ("ready" if published else "failed")
    assert states(run)[NODE] == ("skipped" if published else "succeeded")
    assert not published or marker(tmp_path).tables["a"].version == 0


def test_nothing_to_publish(tmp_path):
    with sf.Run.open("p", KEY, state=str(tmp_path / "p"), ledger=MemoryLedger()) as run:
        with pytest.raises(InvalidArgument):
            sf.publish(run, "hours", markers=str(tmp_path / "m"))
        with pytest.raises(InvalidArgument):
            sf.publish(run, "hours", markers=str(tmp_path / "m"), state="done")


def announced(root, error, *, published=False):
    ledger = MemoryLedger()
    if published:
        provide(root, ledger=ledger)
    run = sf.Run.open("p", KEY, state=str(root / "p"), ledger=ledger)
    with pytest.raises(type(error)), run, sf.announcing(run, "hours", markers=str(root / "out" / "markers")):
        raise error
    return run


@pytest.mark.parametrize(
    ("error", "state"), [(RunError("no disk"), "failed"), (UpstreamSkipped("wait", ["holiday"]), "skipped")]
)
def test_what_fails_is_told_to_those_who_wait(tmp_path, error, state):
    announced(tmp_path, error)
    found = marker(tmp_path)
    assert (found.state, found.tables) == (state, {})
    assert found.reason.startswith(type(error).__name__)
    assert "no disk" not in found.reason  # an error's text may hold what is not for other teams


def test_what_only_waits_or_is_killed_says_nothing(tmp_path):
    for error in (NotAllArrived("hours", ["05"], 2), Killed()):
        announced(tmp_path, error)
        with pytest.raises(FileNotFoundError):
            marker(tmp_path)


def test_a_rerun_that_fails_leaves_what_is_published(tmp_path):
    announced(tmp_path, RunError("no disk"), published=True)
    assert marker(tmp_path).state == "ready"


def test_the_runs_own_error_is_raised_though_the_marker_cannot_be_written(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "markers").write_text("a file in the way")
    run = announced(tmp_path, RunError("no disk"))
    assert states(run) == {NODE: "failed"}


def test_failed_then_mended_is_ready(tmp_path):
    announced(tmp_path, RunError("no disk"))
    provide(tmp_path)
    assert (marker(tmp_path).state, marker(tmp_path).revision) == ("ready", 2)


def test_what_was_read_is_told_on(tmp_path):
    provide(tmp_path)

    def then(run, _):
        writes(run, "c", tmp_path / "out" / "c", 1)
        sf.publish(run, "report", markers=str(tmp_path / "out" / "markers"))

    waiting(tmp_path, then=then)
    (read,) = marker(tmp_path, "report").made_of
    assert (read.dataset, read.key, read.generation, read.revision) == ("hours", KEY, 1, 1)


def test_a_plan_publishes_nothing(tmp_path):
    with sf.Run.open("p", KEY, state=str(tmp_path / "p"), mode=Mode(plan=True)) as run:
        writes(run, "a", tmp_path / "out" / "a", 1)
        sf.publish(run, "hours", markers=str(tmp_path / "out" / "markers"))
    assert states(run) == {"a": "would run", NODE: "would run"}
    assert not (tmp_path / "out").exists()
