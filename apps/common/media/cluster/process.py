"""Run a generator in its own process: when Ray dies, it ends the process that uses it, and writes to its terminal."""

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterable
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from backbone.files import sigterm_is_ctrl_c

T = TypeVar("T")
PATIENCE_S = 60  # in which a process that was told to stop does


def in_own_process(function: Callable[..., Iterable[T]], *args: Any) -> Generator[T, None, None]:
    """What a function gives one by one, called with its arguments in a new process; to be closed after use.

    In the loop over it, SIGTERM raises KeyboardInterrupt. What that process prints is dropped, unless
    MOBILENET_APPS_TRACEBACK is set.

    Args:
        function, args: pickled, as is what it gives.

    Raises:
        ValueError: the function's, or the process died.
        RuntimeError: with a traceback, for all else that was raised there.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(function, args, sender))
    with sigterm_is_ctrl_c():
        child.start()
        sender.close()
        try:
            while (message := receiver.recv()) is not None:
                if isinstance(message, BaseException):
                    raise message
                yield message
        except EOFError:
            raise ValueError("Ray ended: no cluster answers, or it was killed, or had no memory left") from None
        finally:
            child.terminate()
            child.join(PATIENCE_S)
            child.kill()
            child.join()


def _run(function: Callable[..., Iterable[Any]], args: tuple[Any, ...], sender: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    last: Exception | None = None
    if not os.environ.get("MOBILENET_APPS_TRACEBACK"):
        for descriptor in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError), sigterm_is_ctrl_c():
        try:
            for one in function(*args):
                sender.send(one)
        except ValueError as error:
            last = ValueError(str(error))
        except Exception:
            last = RuntimeError(traceback.format_exc())
        sender.send(last)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
