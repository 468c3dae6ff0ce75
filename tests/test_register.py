"""The register's contract, on both adapters, and what is Delta's alone."""

import json
import multiprocessing as mp
import os
import threading
from pathlib import Path

import pytest
from deltalake import CommitProperties, DeltaTable

from spark_flow.errors import StateDamaged, StateNotWritable, StateTooNew
from spark_flow.ledger import DeltaRegister, MemoryRegister
from spark_flow.ledger.register import FIELD, FORMAT


@pytest.fixture(params=["memory", "delta"])
def register(request, tmp_path):
    return MemoryRegister() if request.param == "memory" else DeltaRegister(str(tmp_path / "r"))


def test_a_new_one_is_empty(register):
    assert register.read() == (0, {})


def test_a_document_comes_back_as_it_was(register):
    content = {"a": [1, {"b": None}], "c": "x' \" ü"}
    assert register.swap(0, content)
    assert register.read() == (1, content)


def test_only_what_was_read_can_be_replaced(register):
    assert register.swap(0, {"n": 1})
    assert not register.swap(0, {"n": 2})
    assert register.read() == (1, {"n": 1})
    assert not register.swap(2, {"n": 2})


def test_of_threads_that_have_read_the_same_one_wins(register):
    won = []
    barrier = threading.Barrier(8)

    def work(number):
        version, _ = register.read()
        barrier.wait()
        if register.swap(version, {"n": number}):
            won.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert register.read() == (1, {"n": won[0]})
    assert len(won) == 1


def _count(path, times):
    register = DeltaRegister(path)
    for _ in range(times):
        while True:
            version, content = register.read()
            if register.swap(version, {"n": content.get("n", 0) + 1}):
                break


def test_several_processes_lose_no_swap_even_when_they_create_it(tmp_path):
    spawn = mp.get_context("spawn")  # deltalake's runtime does not survive a fork
    workers = [spawn.Process(target=_count, args=(str(tmp_path / "r"), 20)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    version, content = DeltaRegister(str(tmp_path / "r")).read()
    assert content == {"n": 60}
    assert version - 60 in range(3), "a creation that came late is a version as well"


def test_creations_at_once_lose_nothing(tmp_path):
    """The second one's creation is a commit after the first one's changes."""
    for n in range(12):
        path = str(tmp_path / f"r{n}")
        barrier, wrong = threading.Barrier(4), []

        def work(path=path, barrier=barrier, wrong=wrong):
            barrier.wait()
            try:
                _count(path, 1)
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (wrong, DeltaRegister(path).read()[1]) == ([], {"n": 4})


def test_it_is_read_through_checkpoints_and_by_another_reader_at_each_swap(tmp_path):
    writer, reader = DeltaRegister(str(tmp_path / "r")), DeltaRegister(str(tmp_path / "r"))
    for n in range(45):
        assert writer.swap(writer.read()[0], {"n": n})
        if n % 7 == 0:
            assert reader.read() == (n + 1, {"n": n})
    assert reader.read() == (45, {"n": 44})
    assert list(tmp_path.glob("r/_delta_log/*.checkpoint.parquet"))


def test_one_that_is_not_there_reads_as_empty_and_is_not_made(tmp_path):
    register = DeltaRegister(str(tmp_path / "r"), create=False)
    assert (register.read(), list(tmp_path.iterdir())) == ((0, {}), [])
    with pytest.raises(StateNotWritable):
        register.swap(0, {})


def foreign(path, told):
    properties = CommitProperties(custom_metadata=told)
    table = DeltaTable(path)
    table.create_write_transaction([], "append", table.schema(), commit_properties=properties)


@pytest.mark.parametrize("told", [None, {FIELD: "{"}, {FIELD: "[]"}, {FIELD: "{}"}, {FIELD: '{"format": 1}'}])
def test_a_commit_that_is_none_of_ours_is_told_as_damage(tmp_path, told):
    path = str(tmp_path / "r")
    DeltaRegister(path).swap(0, {})
    foreign(path, told)
    with pytest.raises(StateDamaged) as refused:
        DeltaRegister(path).read()
    assert refused.value.path == path


def test_a_newer_version_is_refused(tmp_path):
    path = str(tmp_path / "r")
    DeltaRegister(path).swap(0, {})
    foreign(path, {FIELD: json.dumps({"format": FORMAT + 1, "content": {}})})
    with pytest.raises(StateTooNew) as refused:
        DeltaRegister(path).read()
    assert refused.value.found == FORMAT + 1


def test_a_log_that_cannot_be_read_is_told_as_damage(tmp_path):
    path = str(tmp_path / "r")
    DeltaRegister(path).swap(0, {})
    Path(path, "_delta_log", f"{0:020}.json").write_text("not json")
    with pytest.raises(StateDamaged):
        DeltaRegister(path).read()


def test_a_last_commit_that_is_gone_is_told_as_damage_and_not_taken_for_an_empty_register(tmp_path):
    path = str(tmp_path / "r")
    register = DeltaRegister(path)
    for n in range(25):
        assert register.swap(n, {"n": n})
        register.read()
    for commit in Path(path, "_delta_log").glob("*.json"):
        commit.unlink()
    assert DeltaTable(path).version() > 0  # by its checkpoint
    with pytest.raises(StateDamaged) as refused:
        DeltaRegister(path).read()
    assert "without the commit" in refused.value.found


def test_one_that_stood_still_while_the_log_was_cleaned_up_reads_and_swaps_the_newest(tmp_path):
    path = str(tmp_path / "r")
    slept, other = DeltaRegister(path), DeltaRegister(path)
    for n in range(70):
        assert other.swap(other.read()[0], {"n": n})
        for file in Path(path, "_delta_log").iterdir():
            os.utime(file, (1, 1))
    assert not Path(path, "_delta_log", f"{1:020}.json").exists()
    assert not slept.swap(0, {"n": "old"})
    assert slept.read() == (70, {"n": 69})
    assert slept.swap(70, {"n": 70})
    assert DeltaRegister(path).read() == (71, {"n": 70})


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateNotWritable) as refused:
        DeltaRegister(str(tmp_path / "file" / "r"))
    assert str(tmp_path / "file" / "r") in refused.value.path
