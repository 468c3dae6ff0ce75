"""Checkpoints that have served: swept when old, found without looking into each key."""

import datetime as dt

import pytest

from spark_flow.storage import checkpoints, files

WEEK = dt.timedelta(days=7)
LATER = dt.datetime.now(dt.timezone.utc) + WEEK + dt.timedelta(days=1)


@pytest.fixture
def checkpoint(state):
    def write(key, *, succeeded=True):
        files.write_bytes(f"{state}/boundaries/p/{key}/g1/n/1-x/part.parquet", b"x")
        if succeeded:
            checkpoints.mark_succeeded(state, "p", key, 1)
        return f"{state}/boundaries/p/{key}"

    return write


def test_old_ones_go_and_those_of_unfinished_and_begun_generations_stay(checkpoint, state):
    old, unfinished, begun = checkpoint("old"), checkpoint("unfinished", succeeded=False), checkpoint("v1.2")
    assert checkpoints.mark_begun(state, "p", "v1.2", 2) == 1
    assert checkpoints.sweep(state, "p", older_than=WEEK) == []
    assert checkpoints.sweep(state, "p", older_than=WEEK, now=LATER) == ["old"]
    assert [files.exists(folder) for folder in (old, unfinished, begun)] == [False, True, True]
    checkpoints.mark_succeeded(state, "p", "v1.2", 2)
    assert checkpoints.sweep(state, "p", older_than=WEEK, now=LATER) == ["v1.2"]
    assert checkpoints.sweep(state, "p", older_than=WEEK, now=LATER) == []


def test_a_key_without_checkpoints_is_not_noted_and_other_pipelines_are_left_alone(checkpoint, state):
    other = checkpoint("k")
    checkpoints.mark_succeeded(state, "p", "none", 1)
    assert checkpoints.sweep(state, "q", older_than=WEEK, now=LATER) == []
    assert checkpoints.sweep(state, "p", older_than=WEEK, now=LATER) == ["k"]
    assert not files.exists(other)


def test_a_sweep_interrupted_between_folder_and_note_is_ended_by_the_next(checkpoint, state):
    files.remove(checkpoint("k"))
    assert checkpoints.sweep(state, "p", older_than=WEEK, now=LATER) == ["k"]
    assert checkpoints.sweep(state, "p", older_than=WEEK, now=LATER) == []


def test_many_keys_cost_one_listing(checkpoint, state, monkeypatch):
    for n in range(100):
        checkpoint(f"k{n}")
    listed = []
    real = files.listing
    monkeypatch.setattr(files, "listing", lambda path, **more: listed.append(path) or real(path, **more))
    assert checkpoints.sweep(state, "p", older_than=WEEK) == []
    assert len(listed) == 1
