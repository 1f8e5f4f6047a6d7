"""A file or folder is written whole or not at all, and nothing is left beside it."""

import errno
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import backbone.files
from backbone.files import cache_dir, failure, mend, written_whole


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


@pytest.mark.parametrize("renamed", [1, 2])
def test_ctrl_c_between_two_renames_leaves_a_folder(monkeypatch, tmp_path, renamed):
    """The old one, or the new one if it has its name already."""
    path, replace, done = tmp_path / "folder", os.replace, []
    path.mkdir()
    (path / "old").touch()

    def stopped(source, target) -> None:
        replace(source, target)
        done.append(target)
        if len(done) == renamed:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt), written_whole(path, folder=True) as temporary:
        (temporary / "new").touch()
    assert [p.name for p in path.iterdir()] == [{1: "old", 2: "new"}[renamed]]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


TERMINATED = """
import os, runpy, signal, sys
with runpy.run_path(sys.argv[1])["written_whole"](sys.argv[2], folder=True) as temporary:
    (temporary / "half").touch()
    os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_sigterm_leaves_nothing(tmp_path):
    command = [sys.executable, "-c", TERMINATED, backbone.files.__file__, str(tmp_path / "folder")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr.endswith("KeyboardInterrupt\n")  # of which run_command makes one line
    assert not list(tmp_path.iterdir())


def test_a_library_that_fails_on_a_full_disk_does_not_say_so(monkeypatch, tmp_path):
    assert str(failure(tmp_path, "it fails")) == "it fails"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4096))
    with pytest.raises(OSError) as stop, written_whole(tmp_path / "a.xml") as temporary:
        raise failure(temporary.parent, "it fails")
    assert (stop.value.errno, stop.value.filename) == (errno.ENOSPC, str(tmp_path / "a.xml"))


def flushed_by(monkeypatch, block) -> list[str]:
    """What `block` flushes to the disk and renames, in order, by name."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noting_fsync(descriptor: int) -> None:
        done.append(f"flush {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def noting_replace(source, target) -> None:
        done.append(f"rename {Path(target).name}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "replace", noting_replace)
    block()
    return done


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs names of open files")
def test_everything_is_on_the_disk_before_it_gets_its_name(monkeypatch, tmp_path):
    """A power cut leaves the old file or the new one, never an empty one, as `rename` without `fsync` may."""

    def write_file() -> None:
        with written_whole(tmp_path / "last.pt") as temporary:
            temporary.write_bytes(b"state")

    def write_folder() -> None:
        with written_whole(tmp_path / "best", folder=True) as temporary:
            (temporary / "sub").mkdir()
            (temporary / "sub" / "a.bin").write_bytes(b"a")
            (temporary / "b.bin").write_bytes(b"b")

    assert flushed_by(monkeypatch, write_file) == ["flush last.pt", "rename last.pt", f"flush {tmp_path.name}"]
    done = flushed_by(monkeypatch, write_folder)
    assert sorted(done[:4]) == ["flush a.bin", "flush b.bin", "flush best", "flush sub"]
    assert done[4:] == ["rename best", f"flush {tmp_path.name}"]


def killed_while_replacing(path: Path, monkeypatch) -> None:
    """Leave what a kill leaves that comes between the two renames by which a folder replaces another one."""
    replace, number = os.replace, []

    def stop_at_the_second(source, target) -> None:
        number.append(source)
        if len(number) > 1:
            raise SystemExit
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stop_at_the_second)
        patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        with pytest.raises(SystemExit), written_whole(path, folder=True) as temporary:
            (temporary / "new.txt").write_text("new")


@pytest.mark.parametrize("name", ["best", "best of " + "many " * 20])
def test_mend_finishes_what_a_kill_interrupted(monkeypatch, tmp_path, name):
    (tmp_path / name).mkdir()
    killed_while_replacing(tmp_path / name, monkeypatch)
    assert not (tmp_path / name).exists() and len(os.listdir(tmp_path)) == 1
    mend(tmp_path)
    assert os.listdir(tmp_path) == [name] and (tmp_path / name / "new.txt").read_text() == "new"


def test_mend_leaves_the_users_own_hidden_folders(monkeypatch, tmp_path):
    """Whatever they are called; only unfinished writes of `written_whole` go."""
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *args, **kwargs: None)
        with pytest.raises(RuntimeError), written_whole(tmp_path / "last.pt") as temporary:
            temporary.write_bytes(b"half")
            raise RuntimeError
    (left,) = os.listdir(tmp_path)
    theirs = [".my.settings", ".git", ".x.abcdefgh", ".last.pt.12345678", f"{left}.bak", left[1:]]
    for name in theirs:
        (tmp_path / name).mkdir()
        (tmp_path / name / "kept.txt").write_text("kept")
    (tmp_path / f"{left[:-8]}abcdefgh").mkdir()  # as ours are called, but with something in it that is not ours
    (tmp_path / f"{left[:-8]}abcdefgh" / "kept.txt").write_text("kept")
    mend(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*theirs, f"{left[:-8]}abcdefgh"])
    assert all((tmp_path / name / "kept.txt").read_text() == "kept" for name in theirs)


@pytest.mark.parametrize("chosen", [None, "~/mine", "~nobody-of-that-name/mine"])
def test_no_home_folder_is_one_line_that_names_the_variable(monkeypatch, chosen):
    """A user id without a name, as `docker run --user 12345` gives, and HOME unset."""
    for name in ("MOBILENET_APPS_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    if chosen:
        monkeypatch.setenv("MOBILENET_APPS_CACHE", chosen)
    with pytest.raises(ValueError, match=r"^no home folder .*: set MOBILENET_APPS_CACHE to a folder .*$"):
        cache_dir()
    monkeypatch.setenv("MOBILENET_APPS_CACHE", "/tmp/mine")
    assert cache_dir() == Path("/tmp/mine")
