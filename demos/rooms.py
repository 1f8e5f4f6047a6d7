"""The folder of a page's uploads and results: nobody else may read it, and it goes when its process ends or, killed, \
when the next page starts."""

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PREFIX = "mobilenet-apps-demo-"
LOCK = ".lock"
KEEP_SECONDS = 600  # uploads and results, so that a result can be downloaded
SWEEP_SECONDS = 30  # between two looks for old files
_locks: list[Any] = []  # open files, so that the rooms of this process are known to be in use


def private_room() -> Path:
    """A new room for uploads and results; rooms of processes that are gone are removed.

    Called before a page is built: Gradio's components ask for it then.
    """
    _sweep(Path(tempfile.gettempdir()))
    new = Path(tempfile.mkdtemp(prefix="mobilenet-apps-new-"))
    file = (new / LOCK).open("w")
    _locked(file)
    _locks.append(file)
    room = new.rename(new.with_name(PREFIX + new.name.removeprefix("mobilenet-apps-new-")))  # locked when it is found
    atexit.register(shutil.rmtree, room, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(room)
    return room


def _locked(file: Any) -> bool:
    """Take the lock that the system frees with its process; False if another one has it, or where there is none."""
    try:
        import fcntl  # not on Windows, where rooms of killed processes stay

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _sweep(parent: Path) -> None:
    """Remove this user's rooms whose lock nobody holds."""
    for room in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, AttributeError):  # someone else's, or just removed; no getuid on Windows
            about = room.lstat()
            if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid():
                with (room / LOCK).open("r+") as file:
                    if _locked(file):
                        shutil.rmtree(room, ignore_errors=True)


def new_result(suffix: str) -> Path:
    """A name for a file that a visitor may download; files older than `KEEP_SECONDS` are removed."""
    room = Path(os.environ["GRADIO_TEMP_DIR"])
    results = room / "results"
    results.mkdir(exist_ok=True)
    for old in results.iterdir():
        with contextlib.suppress(OSError):
            if old.stat().st_mtime < time.time() - KEEP_SECONDS:
                old.unlink() if old.is_file() else shutil.rmtree(old, ignore_errors=True)
    folder = results / secrets.token_hex(16)
    folder.mkdir(mode=0o700)
    return folder / f"result{suffix}"


@contextlib.contextmanager
def kept_if_done(result: Path) -> Iterator[None]:
    """Remove a result of `new_result`, and what lies beside it, if making it fails."""
    try:
        yield
    except BaseException:
        shutil.rmtree(result.parent, ignore_errors=True)
        raise


def kept_file(data: bytes, suffix: str) -> Path:
    """A file that stays as long as the page runs."""
    folder = Path(os.environ["GRADIO_TEMP_DIR"]) / "kept" / secrets.token_hex(16)
    folder.mkdir(mode=0o700, parents=True)
    path = folder / f"result{suffix}"
    path.write_bytes(data)
    return path


def end_when_told() -> None:
    """Let SIGTERM and SIGHUP end this process as Ctrl-C does; what is ignored (nohup) stays so."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        if (number := getattr(signal, name, None)) and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def wait_for_the_end() -> None:
    """Wait until the process is told to end, and end it at once: threads that still compute are not waited for."""
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        for name in ("SIGTERM", "SIGHUP", "SIGINT"):
            if number := getattr(signal, name, None):
                signal.signal(number, signal.SIG_IGN)
    from gradio.tunneling import CURRENT_TUNNELS

    for tunnel in CURRENT_TUNNELS:
        tunnel.kill()
    remove_room()
    sys.stdout.flush()
    os._exit(0)


def remove_room() -> None:
    """Remove the room while threads may still write to it: they do not find it any more."""
    room = Path(os.environ["GRADIO_TEMP_DIR"])
    gone = room.with_name(f"{PREFIX}{secrets.token_hex(8)}-gone")
    with contextlib.suppress(OSError):
        room.rename(gone)
    for left in (gone, room):
        shutil.rmtree(left, ignore_errors=True)
