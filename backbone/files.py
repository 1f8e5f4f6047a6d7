"""The cache of downloads and drawn samples, and writing a file or folder completely or not at all."""

import errno
import itertools
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# A folder of `written_whole`; `tempfile` adds eight letters. Earlier versions had nothing before them.
UNFINISHED = re.compile(r"\.(.+)\.(unfinished-)?\w{8}")
NAME_LENGTH = 50  # of the final name that are kept: a character takes up to four bytes, and a name up to 255
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # their errors name no file
FULL = 1 << 16  # bytes: a disk with less is full


def cache_dir() -> Path:
    """The user's cache folder for this project, not created here.

    `$MOBILENET_APPS_CACHE` if set; else `mobilenet-apps` in the system's folder for caches.

    Raises:
        ValueError: the user has no home folder.
    """
    if chosen := os.environ.get("MOBILENET_APPS_CACHE"):
        return _expand_home(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _expand_home(base) / "mobilenet-apps"


def _expand_home(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"no home folder to put {path} in: set MOBILENET_APPS_CACHE to a folder that may be written"
        ) from error


def open_plain(path: Path) -> BinaryIO:
    """A file, open for reading bytes.

    Raises:
        OSError: it does not exist or must not be read; it is a pipe or a device, which may never end; or no file can
            have such a name.
    """
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise OSError(errno.EINVAL, "it is a pipe or a device", str(path))
    try:
        return open(path, "rb")
    except ValueError:  # a null character, or one that cannot be encoded
        raise OSError(errno.EINVAL, "no file has such a name", str(path)) from None


def numbered(path: Path) -> Iterator[Path]:
    """A path and its alternatives in the same folder: a.jpg, a-2.jpg, a-3.jpg, ..."""
    yield path
    for i in itertools.count(2):
        yield path.with_stem(f"{path.stem}-{i}")


def mend(folder: Path) -> None:
    """Clean up after a kill in the middle of `written_whole`, in a folder that no other process writes to.

    A finished folder that was about to replace another one replaces it; everything unfinished is removed.
    """
    for room in folder.glob(".*"):
        called = UNFINISHED.fullmatch(room.name)
        if not called or room.is_symlink() or not room.is_dir():
            continue
        inside = {path.name: path for path in room.iterdir()}
        replaced = inside.pop("replaced", None)
        ours = len(inside) == 1 or called[2] or replaced
        if not ours or any(name[:NAME_LENGTH] != called[1] for name in inside):
            continue
        for name, path in inside.items():
            if replaced and not (folder / name).exists():
                os.replace(path, folder / name)
        shutil.rmtree(room, ignore_errors=True)


def _flush(path: Path) -> None:
    """Flush a file, or a folder with all its content, to the disk, so that a power cut does not undo it."""
    for inside in path.iterdir() if path.is_dir() and not path.is_symlink() else ():
        _flush(inside)
    _flush_one(path)


def _flush_one(path: Path) -> None:
    """The content of a file; of a folder, the names in it."""
    if sys.platform == "win32":  # Windows: it opens no folders, and files only for writing
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in DISK_ERRORS or isinstance(error, FileNotFoundError):
            raise
        # others: a file system without fsync


def failure(folder: Path, message: str) -> OSError | ValueError:
    """What to raise where a library failed to write into a folder and does not say why: a full disk, or the message."""
    is_full = shutil.disk_usage(folder).free < FULL
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if is_full else ValueError(message)


@contextmanager
def sigterm_is_ctrl_c() -> Iterator[None]:
    """In the block, SIGTERM and SIGINT raise KeyboardInterrupt, once: what comes later does not disturb the end.

    Not in a thread other than the first, nor where SIGTERM has a handler already.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signals[1]) != signal.SIG_DFL:
        yield
        return

    def stop(number: int, frame: object) -> None:
        for one in signals:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = [signal.signal(one, stop) for one in signals]
    try:
        yield
    finally:
        for one, handler in zip(signals, before, strict=True):
            signal.signal(one, handler)


@contextmanager
def written_whole(path: Path | str, *, folder: bool = False, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary name beside `path` to write to, and rename it to `path` when the block ends without an error.

    If the block raises, or SIGTERM ends it, the temporary file or folder is removed and `path` stays as it was; an
    error of the disk names `path`. A folder replaces an existing one.

    Args:
        path: the final name; its parents are created.
        folder: the block fills a folder (created empty) instead of writing one file.
        flush: flush to the disk before renaming (some milliseconds), so that a power cut damages neither version.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with sigterm_is_ctrl_c():
        room = Path(tempfile.mkdtemp(prefix=f".{path.name[:NAME_LENGTH]}.unfinished-", dir=path.parent))
        temporary = room / path.name
        try:
            if folder:
                temporary.mkdir()
            yield temporary
            if flush:
                _flush(temporary)
            replaced = room / "replaced"
            try:
                if folder and path.is_dir():
                    os.replace(path, replaced)
                os.replace(temporary, path)
            except BaseException:
                if replaced.is_dir() and not path.exists():
                    os.replace(replaced, path)
                raise
            if flush:
                _flush_one(path.parent)
        except OSError as error:
            if error.errno in DISK_ERRORS and error.filename is None:
                error.filename = str(path)
            raise
        finally:
            shutil.rmtree(room, ignore_errors=True)
