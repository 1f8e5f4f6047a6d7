"""A run's progress on the terminal, and a clean end after a signal."""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tqdm import tqdm

from apps.common.training.sampling import Lengths

REPEAT_S = 3.0


def make_progress(start_step: int, lengths: Lengths, *, shown: bool = True) -> tqdm:
    """A bar over the steps with speed and remaining time; without a terminal, a line every half minute."""
    interval = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(
        initial=start_step,
        total=lengths.known_steps,
        unit="step",
        mininterval=interval,
        dynamic_ncols=True,
        disable=not shown,
    )


class Meter:
    """Measures training speed and the share of time spent waiting for data, between two readings."""

    def __init__(self, images_a_step: int, *, step: int) -> None:
        self.images_a_step = images_a_step
        self.restart(step)

    def restart(self, step: int) -> None:
        """Restart after `step` steps, to exclude the time of an evaluation."""
        self.start, self.waited, self.step = time.perf_counter(), 0.0, step

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time spent in this block as waiting for data."""
        asked = time.perf_counter()
        yield
        self.waited += time.perf_counter() - asked

    def read(self, step: int) -> dict[str, float]:
        """{"images_per_s", "waiting_for_data" (0 to 1)} since the last reading; `step` steps are done now."""
        spent = time.perf_counter() - self.start
        images_per_s = (step - self.step) * self.images_a_step / spent
        values = {"images_per_s": round(images_per_s, 2), "waiting_for_data": round(self.waited / spent, 4)}
        self.restart(step)
        return values


def read_steps(
    loader: Iterable[Any], *, accumulate: int, meter: Meter, look: Callable[[Any], None]
) -> Iterator[list[Any]]:
    """The `accumulate` batches of each step; `meter` counts the time to read them as waiting.

    Args:
        look: called with the first batch of each step.
    """
    batches = iter(loader)
    while True:
        with meter.waiting():
            group = list(itertools.islice(batches, accumulate))
        if not group:
            return
        look(group[0])
        yield group


def stop_signals() -> list[signal.Signals]:
    """Signals that end a run cleanly: a user's or the system's, a lost terminal, Slurm's warning of the time limit.

    SIGHUP is not among them if it is ignored (nohup).
    """
    there = [getattr(signal, name, None) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")]
    return [one for one in there if one and (one.name != "SIGHUP" or signal.getsignal(one) != signal.SIG_IGN)]


def _is_terminal(stream: str) -> bool:
    try:
        return getattr(sys, stream).isatty()
    except (AttributeError, ValueError, OSError):  # there is none, or it is closed
        return False


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """In this block `stop_signals` are appended to the list instead of ending the process; a second request ends it.

    SIGINT and SIGTERM are requests, and one within `REPEAT_S` of the first is the same: torchrun, `timeout` and
    terminals signal a process, and again with its group. The other signals are warnings, which a SIGTERM may follow.
    """
    received: list[int] = []
    terminals = [name for name in ("stdout", "stderr") if _is_terminal(name)]
    first = 0.0

    def note(signal_number: int, frame: FrameType | None) -> None:
        nonlocal first
        for name in terminals:
            if not _is_terminal(name):  # any more, and whatever is printed there would be an error
                setattr(sys, name, open(os.devnull, "w"))
        if not received:
            received.append(signal_number)
        if signal_number in (signal.SIGINT, signal.SIGTERM):
            now = time.monotonic()
            first = first or now
            if now - first > REPEAT_S:
                raise KeyboardInterrupt

    before = {signal_number: signal.signal(signal_number, note) for signal_number in stop_signals()}
    try:
        yield received
    finally:
        for signal_number, handler in before.items():
            signal.signal(signal_number, handler)
