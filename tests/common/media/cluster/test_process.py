import multiprocessing
import os
import signal
import threading
import time
from contextlib import closing

import pytest

from apps.common.media.cluster.process import in_own_process


def numbers(most: int, then: str):
    yield from ((i, os.getpid()) for i in range(most))
    if then == "die":
        os._exit(1)
    if then == "wait":
        time.sleep(600)
    if then:
        raise {"ValueError": ValueError, "KeyError": KeyError}[then]("what was wrong")


def test_what_it_gives_comes_from_another_process(capfd):
    found = list(in_own_process(numbers, 3, ""))
    assert [i for i, _ in found] == [0, 1, 2]
    assert {pid for _, pid in found}.isdisjoint({os.getpid()})


@pytest.mark.parametrize(
    ("then", "kind", "said"),
    [
        ("die", ValueError, "^Ray ended: "),
        ("ValueError", ValueError, "^what was wrong$"),
        ("KeyError", RuntimeError, "(?s)Traceback.*KeyError"),
    ],
)
def test_its_end_is_said_after_what_it_gave(then, kind, said):
    found = []
    with pytest.raises(kind, match=said):
        for one in in_own_process(numbers, 2, then):
            found.append(one)
    assert len(found) == 2
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_both(number):
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), closing(in_own_process(numbers, 1, "wait")) as results:
        for _, pid in results:
            child = pid
            threading.Timer(0.1, os.kill, (os.getpid(), number)).start()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert signal.getsignal(number) is before
