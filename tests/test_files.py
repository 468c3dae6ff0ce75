"""Swapping a folder in, with a rename and without."""

import errno
import os
import stat

import pytest

from spark_flow.errors import DamagedFile
from spark_flow.storage import files, folders, key_folder


def make(folder, revision, **content):
    folder.mkdir(parents=True)
    for name, text in content.items():
        (folder / f"{name}.csv").write_text(text)
    sizes = {f"{name}.csv": len(text) for name, text in content.items()}
    files.write_json(
        str(folder / key_folder.MANIFEST), {"revision": revision, "files": sizes, "rows": 1, "app_id": "a"}
    )


def swap(tmp_path, staged, folder):
    """The points at which it is asked whether the folder may still be replaced."""
    (tmp_path / "beside").mkdir()
    asked = []
    folders.swap(staged, folder, work=str(tmp_path / "beside"), check=lambda: asked.append(dict(read(folder))))
    return asked


def read(folder):
    return key_folder.read_manifest(folder)


@pytest.mark.parametrize("rename", [True, False], ids=["rename", "object store"])
def test_the_new_folder_stands_in_the_place_of_the_old(tmp_path, monkeypatch, rename):
    monkeypatch.setattr(files, "can_rename", lambda _: rename)
    make(tmp_path / "t" / "key=a", 1, old="1")
    make(tmp_path / "t" / ".staging" / "key=a", 2, new="22")
    asked = swap(tmp_path, str(tmp_path / "t" / ".staging" / "key=a"), str(tmp_path / "t" / "key=a"))
    assert [one.get("revision") for one in asked] == (
        [1] if rename else [1, None]
    )  # before it is gone, before it is there
    found = {p.name for p in (tmp_path / "t" / "key=a").iterdir()}
    assert found == {"new.csv", key_folder.MANIFEST}
    assert key_folder.read_manifest(str(tmp_path / "t" / "key=a"))["revision"] == 2


def test_without_a_rename_the_manifest_is_written_last(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "can_rename", lambda _: False)
    make(tmp_path / "t" / "key=a", 1, old="1")
    make(tmp_path / "s" / "key=a", 2, new="22", other="3")
    (tmp_path / "s" / "key=a" / key_folder.MANIFEST).unlink()  # the copy ends here, as by a kill
    with pytest.raises(FileNotFoundError):
        swap(tmp_path, str(tmp_path / "s" / "key=a"), str(tmp_path / "t" / "key=a"))
    assert key_folder.read_manifest(str(tmp_path / "t" / "key=a")) == {}


@pytest.mark.parametrize("path", ["a/b", "/a/b", "file:/a/b"])
def test_local_paths_are_given_to_spark_with_their_scheme(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files.for_spark(path) == (f"file://{tmp_path}/a/b" if path == "a/b" else "file:///a/b")


def test_a_uri_stays_as_it_is():
    assert files.for_spark("s3a://bucket/x") == "s3a://bucket/x"


# --- small files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b'{"a": 1', b"\xff\xfe{}", b"[1]", b"null", b'{"a": 1}x'])
def test_a_damaged_file_is_named_with_a_remedy(tmp_path, content):
    path = str(tmp_path / "x.json")
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(DamagedFile) as damaged:
        files.read_json(path, fix="Do this.")
    assert (damaged.value.path, damaged.value.fix) == (path, "Do this.")


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Else a power loss can leave an empty file under it; after the rename, its folder is written, too."""
    done = []
    sync, rename = os.fsync, os.replace

    def synced(number):
        done.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        sync(number)

    def renamed(one, other):
        done.append("rename")
        rename(one, other)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    files.write_bytes(str(tmp_path / "a" / "x"), b"1")
    assert (done, (tmp_path / "a" / "x").read_bytes()) == (["file", "rename", "folder"], b"1")


def test_what_could_not_be_written_leaves_the_old_file_and_nothing_beside(tmp_path, monkeypatch):
    files.write_bytes(str(tmp_path / "x"), b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        files.write_bytes(str(tmp_path / "x"), b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"x": b"old"}
