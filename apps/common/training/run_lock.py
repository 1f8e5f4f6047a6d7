"""A lock on a folder, so that only one process writes to it; it is released when the process ends."""

import errno
import os
import socket
import sys
import weakref
from pathlib import Path
from typing import TextIO

LOCK = "run.lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # of some network file systems


class RunLock:
    """Holds the lock of a folder while it is referenced; see `lock_run`."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file


_held: weakref.WeakValueDictionary[Path, RunLock] = weakref.WeakValueDictionary()


def lock_run(folder: Path, *, flag: str, name: str = LOCK, what: str = "trains in") -> RunLock:
    """The lock of a folder, usually a run's, by a record lock of the system: data processes do not inherit it.

    It is shared within a process, which may therefore resume a run that it interrupted.

    Args:
        folder: exists and can be written.
        flag: the flag with the folder, for the message.
        name: of the lock's file.
        what: another process does in it, for the message.

    Raises:
        ValueError: another process has it.
        OSError: the folder cannot be written.
    """
    key = folder.resolve()
    lock = _held.get(key)
    if lock is None:
        lock = _held[key] = RunLock(_locked(folder / name, f"{flag} {folder}: another process {what} it"))
    return lock


def _locked(path: Path, refusal: str) -> TextIO | None:
    if sys.platform == "win32":  # which has no record locks
        return None
    import fcntl

    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip() or "its number is unknown"
        file.close()
        if error.errno in NO_LOCKS:
            print(
                f"{path.parent}: no lock can be had on its file system ({error.strerror}): start no second in it",
                file=sys.stderr,
            )
            return None
        raise ValueError(f"{refusal} ({holder}); wait for its end, or stop it first") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file
