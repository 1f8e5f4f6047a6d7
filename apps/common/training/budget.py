"""--minutes: after its first steps and one evaluation are timed, a run is set to the number of steps that fits."""

import bisect
import importlib
from collections.abc import Iterator
from typing import Any

from tqdm import tqdm

from apps.common.training import distributed
from apps.common.training.distributed import Processes
from apps.common.training.run_log import RunLog
from apps.common.training.run_state import RunState
from apps.common.training.sampling import Lengths

WARM_UP, FEWEST = 5, 10  # steps that are not timed, since they start workers and fill caches; and steps that are
TIMED, MOST_TIMED = 0.05, 0.25  # shares of the time: for the timed steps, and the limit after which fewer are timed
REPORT = 2  # evaluations that take as long as the report at the end
HEAD = 0.2  # largest share of the time for steps that train the last layer alone


class Budget:
    """Sets the lengths of a run with --minutes while it runs; without that flag it does nothing.

    Args:
        config: has `minutes`, and the flags of `Lengths.set_steps`.
        lengths: the run's lengths, which are changed.
        began: the start of the run, by `distributed.now`.
    """

    def __init__(self, config: Any, lengths: Lengths, *, began: float, processes: Processes) -> None:
        self.config, self.lengths, self.began, self.processes = config, lengths, began, processes
        self.seconds = 60 * (config.minutes or 0)
        self.starts: list[float] = []  # of the steps that train the whole network
        self.step_s = 0.0
        if config.minutes:  # four seconds, which are not of every evaluation
            importlib.import_module("torchmetrics.functional.classification")

    def steps(self, state: RunState, log: RunLog, progress: tqdm) -> Iterator[int]:
        """The next step, until the run is finished."""
        while not state.why_finished(self.lengths.num_steps):
            if self.lengths.known_steps is None:
                self.time_step(state, log)
                progress.total = self.lengths.known_steps
            if not state.why_finished(self.lengths.num_steps):
                yield state.done

    def time_step(self, state: RunState, log: RunLog) -> None:
        """Record the start of a step; set the lengths if enough is known."""
        lengths, now = self.lengths, self.now()
        if state.done < lengths.head_steps and now < HEAD * self.seconds:
            return
        lengths.head_steps = min(lengths.head_steps, state.done)
        self.starts.append(now)
        if self.step_s:
            self.set_steps(state, log, max(0.0, now - self.starts[-2] - self.step_s))
            return
        first = min(WARM_UP, len(self.starts) // 2)
        timed, spent = len(self.starts) - 1 - first, now - self.starts[first]
        if timed and (
            (timed >= FEWEST and spent >= TIMED * self.seconds) or now - self.starts[0] > MOST_TIMED * self.seconds
        ):
            self.step_s = spent / timed
            lengths.eval_every = state.done + 1  # this step ends with an evaluation, which is timed with it

    def now(self) -> float:
        """Seconds since the run started, the same in all processes."""
        return self.processes.from_first(distributed.now() - self.began)

    def set_steps(self, state: RunState, log: RunLog, evaluation_s: float) -> None:
        """Set the lengths to what fits into the remaining time, and record them."""
        lengths, config, done = self.lengths, self.config, state.done
        before = self.now()
        if self.processes.is_first:
            state.save(log.folder)
        now = self.now()

        def left(num_steps: int) -> float:
            """Of the time, less than 0 if so many steps do not fit."""
            lengths.set_steps(num_steps, config)
            evaluations = -(-num_steps // lengths.eval_every) - done // lengths.eval_every
            saves = num_steps // config.checkpoint_every - done // config.checkpoint_every + 1
            needed = (num_steps - done) * self.step_s + (evaluations + REPORT) * evaluation_s
            return self.seconds - now - needed - saves * (now - before)

        most = done + max(0, int((self.seconds - now) / self.step_s))
        fitting = bisect.bisect_left(range(done + 1, most + 1), True, key=lambda steps: left(steps) < 0)
        lengths.set_steps(done + fitting, config)
        more: dict[str, Any] = {}
        if lengths.head_steps:
            more["head_epochs"] = lengths.head_steps * lengths.images_a_step / lengths.num_samples
        log.set_steps(lengths.num_steps, **more)
        head = f", the first {lengths.head_steps:,} for the last layer alone" if lengths.head_steps else ""
        tqdm.write(
            f"--minutes {config.minutes:g}: {lengths.describe('photos')}{head}; a step takes {self.step_s:.3g} s, an "
            f"evaluation {evaluation_s:.3g} s"
        )
