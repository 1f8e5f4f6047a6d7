"""A file or folder is written whole or not at all, and nothing is left beside it."""

import os
import sys
from pathlib import Path

import pytest

from backbone.files import cache_dir, written_whole


def test_new_file_and_its_parents(tmp_path):
    path = tmp_path / "runs" / "first" / "net.bin"
    with written_whole(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists()
        assert temporary.suffix == path.suffix  # writers choose the format by it
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["net.bin"]


def test_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "net.bin"
    path.write_bytes(b"old")
    with written_whole(str(path)) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["net.bin"]


@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt])
def test_exception_leaves_the_old_file(tmp_path, exception):
    path = tmp_path / "net.bin"
    path.write_bytes(b"old")
    with pytest.raises(exception), written_whole(path) as temporary:
        temporary.write_bytes(b"half")
        raise exception
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["net.bin"]


def test_exception_leaves_no_file_where_there_was_none(tmp_path):
    with pytest.raises(RuntimeError), written_whole(tmp_path / "net.bin") as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    path = tmp_path / "net.bin"
    path.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), written_whole(path):
        pass
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["net.bin"]


def test_new_folder(tmp_path):
    with written_whole(tmp_path / "data", folder=True) as temporary:
        (temporary / "a.txt").write_text("new")
        (temporary / "sub").mkdir()
    assert sorted(os.listdir(tmp_path / "data")) == ["a.txt", "sub"]
    assert os.listdir(tmp_path) == ["data"]


def test_folder_replaces_the_old_one(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    (path / "old.txt").write_text("old")
    with written_whole(path, folder=True) as temporary:
        assert os.listdir(temporary) == []
        (temporary / "new.txt").write_text("new")
        assert os.listdir(path) == ["old.txt"]
    assert os.listdir(path) == ["new.txt"]
    assert os.listdir(tmp_path) == ["data"]


def test_exception_leaves_the_old_folder(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    (path / "old.txt").write_text("old")
    with pytest.raises(RuntimeError), written_whole(path, folder=True) as temporary:
        (temporary / "new.txt").write_text("half")
        raise RuntimeError
    assert (path / "old.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["data"]


@pytest.mark.parametrize("folder", [False, True])
def test_the_other_kind_is_never_overwritten(tmp_path, folder):
    """A file does not replace a folder, nor a folder a file."""
    path = tmp_path / "thing"
    if folder:
        path.write_text("old")
    else:
        path.mkdir()
        (path / "old.txt").write_text("old")
    with pytest.raises(OSError), written_whole(path, folder=folder) as temporary:
        if not folder:
            temporary.write_text("new")
    assert (path if folder else path / "old.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["thing"]


def test_cache_dir_is_the_users_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
    assert not cache_dir().exists()
    monkeypatch.setenv("MOBILENET_APPS_CACHE", "~/mine")
    assert cache_dir() == Path.home() / "mine"


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "~/.cache/mobilenet-apps"),
        ("linux", {"XDG_CACHE_HOME": "/elsewhere"}, "/elsewhere/mobilenet-apps"),
        ("darwin", {}, "~/Library/Caches/mobilenet-apps"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/mobilenet-apps"),
    ],
)
def test_cache_dir_by_system(monkeypatch, platform, variables, expected):
    for name in ("MOBILENET_APPS_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_dir() == Path(expected).expanduser()


def test_a_failed_rename_leaves_the_old_folder(tmp_path):
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").write_text("kept")
    with pytest.raises(OSError), written_whole(path, folder=True) as temporary:
        temporary.rmdir()
    assert (path / "old").read_text() == "kept"
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
