"""Which sample is drawn when: a function of seed and step alone, so that a run resumes in the middle of an epoch."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from apps.common.distributed import Processes


class Draw(NamedTuple):
    """One sample of a batch. Augmentation draws from `rng`, which no worker or order of loading can change."""

    seed: int
    epoch: int
    item: int

    def rng(self) -> np.random.Generator:
        return np.random.default_rng(tuple(self))


class StepSampler:
    """A batch sampler for `torch.utils.data.DataLoader`: one batch of `Draw`s for each step that is left.

    Every epoch is a fresh permutation of all samples; batches run across the border of two epochs, so that all have
    the same size and no sample is left out.

    Args:
        num_samples: size of the data set.
        batch_size: samples of a step.
        num_steps: steps of the whole run.
        start_step: steps already done.
        seed: of the run.
        processes: among which each batch is shared out.
    """

    def __init__(
        self,
        num_samples: int,
        *,
        batch_size: int,
        num_steps: int,
        start_step: int = 0,
        seed: int,
        processes: Processes = Processes(),  # noqa: B008
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.num_steps = num_steps
        self.start_step = start_step
        self.seed = seed
        self.processes = processes

    def __len__(self) -> int:
        return self.num_steps - self.start_step

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch, order = -1, np.empty(0, dtype=np.int64)
        for step in range(self.start_step, self.num_steps):
            batch = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                if position // self.num_samples != epoch:
                    epoch = position // self.num_samples
                    order = np.random.default_rng((self.seed, epoch)).permutation(self.num_samples)
                batch.append(Draw(self.seed, epoch, int(order[position % self.num_samples])))
            yield list(self.processes.share(batch))


def count_steps(steps: int | None, epochs: float | None, num_samples: int, *, batch_size: int, default: float) -> int:
    """Length of a run from its flags --steps or --epochs; with neither, `default` epochs.

    Raises:
        ValueError: both are given, or the run would have no step.
    """
    if steps is not None and epochs is not None:
        raise ValueError("give --steps or --epochs, not both")
    if batch_size < 1:
        raise ValueError(f"--batch-size must be 1 or more, got {batch_size}")
    if steps is None:
        steps = math.ceil((default if epochs is None else epochs) * num_samples / batch_size)
    if steps < 1:
        raise ValueError(f"the run must have at least one step, got {steps}")
    return steps
