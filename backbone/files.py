"""The cache of downloads and drawn samples, and writing a file or folder completely or not at all."""

import errno
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARK_LENGTH = 8  # of what `tempfile` puts behind a name
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # a write that meets one says so without a name


def cache_dir() -> Path:
    """The user's cache folder for this project, not created here.

    `$MOBILENET_APPS_CACHE` if set; else `mobilenet-apps` in the system's folder for caches.
    """
    if chosen := os.environ.get("MOBILENET_APPS_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "mobilenet-apps"


def numbered(path: Path) -> Iterator[Path]:
    """A path, and others beside it to fall back on: a.jpg, a-2.jpg, a-3.jpg, ..."""
    yield path
    for number in itertools.count(2):
        yield path.with_stem(f"{path.stem}-{number}")


def mend(folder: Path) -> None:
    """Clean up what a kill in the middle of `written_whole` left in a folder that nobody else writes to.

    A folder that was about to replace another one is put in its place; everything unfinished is removed.
    """
    for room in folder.glob(".*"):
        name, mark = room.name[1:].rpartition(".")[::2]
        if not (name and len(mark) == MARK_LENGTH and room.is_dir()):
            continue
        if (room / "replaced").is_dir() and (room / name).exists() and not (folder / name).exists():
            os.replace(room / name, folder / name)
        shutil.rmtree(room, ignore_errors=True)


@contextmanager
def written_whole(path: Path | str, *, folder: bool = False) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to, and rename it to `path` when the block ends well.

    If the block raises, the temporary file or folder is removed and `path` stays as it was; an error of the disk names
    it. A folder replaces the one that was there.

    Args:
        path: the final name; its parents are created.
        folder: the block fills a folder (created empty) instead of writing one file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix=f".{path.name[:60]}.", dir=path.parent))  # long names leave no place for a mark
    temporary = room / path.name
    try:
        if folder:
            temporary.mkdir()
        yield temporary
        replaced = room / "replaced"
        if folder and path.is_dir():
            os.replace(path, replaced)
        try:
            os.replace(temporary, path)
        except OSError:
            if replaced.is_dir():
                os.replace(replaced, path)
            raise
    except OSError as error:
        if error.errno in DISK_ERRORS and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        shutil.rmtree(room, ignore_errors=True)
