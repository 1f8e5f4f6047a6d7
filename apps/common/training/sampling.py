"""The order of samples: a function of seed and step alone, so that a run can resume in the middle of an epoch."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from apps.common.training.distributed import Processes


class Purpose(IntEnum):
    """Purposes of random numbers; each has its own stream, independent of the others."""

    ORDER = 1  # of the samples of an epoch
    AUGMENT = 2
    MIX = 3  # samples of a batch with one another
    WITHHOLD = 4  # labels


def make_rng(purpose: Purpose, seed: int, *numbers: int) -> np.random.Generator:
    """A generator for a purpose: a function of the seed and these numbers (always the same count for one purpose)."""
    return np.random.default_rng((purpose, seed, *numbers))


class SampleKey(NamedTuple):
    """The index of a training set: an item in an epoch of a run.

    Augmentation uses `rng`, which depends on neither the workers nor the order of loading.

    Attributes:
        turn: number of earlier occurrences of the item in this epoch; above 0 only if items are repeated.
    """

    seed: int
    epoch: int
    item: int
    turn: int = 0

    def rng(self) -> np.random.Generator:
        return make_rng(Purpose.AUGMENT, *self)


@dataclass(frozen=True, eq=False)
class StepSampler:
    """A batch sampler for `torch.utils.data.DataLoader`: the batches of `SampleKey`s for the remaining steps.

    Every epoch is a new permutation of all samples; a batch may span two epochs, so that all batches have the same
    size and no sample is left out.

    Attributes:
        num_samples: size of the data set.
        batch_size: samples of a batch.
        num_steps: optimiser steps of the whole run.
        accumulate: batches of a step.
        start_step: steps already done.
        seed: of the run.
        repeats: (num_samples,) average number of occurrences of each sample in an epoch; 1.3 is once, and twice in
            three epochs of ten. None is 1 for all.
        processes: each batch is divided among these.
        shards: (num_samples,) the shard that each sample is in, -1 for a file of its own; None without shards. With
            shards the order is `streamed_order`'s.
    """

    num_samples: int
    _: KW_ONLY
    batch_size: int
    num_steps: int
    accumulate: int = 1
    start_step: int = 0
    seed: int
    repeats: np.ndarray | None = None
    processes: Processes = Processes()  # noqa: RUF009
    shards: np.ndarray | None = None

    @classmethod
    def of_run(cls, config: Any, dataset: Any, num_steps: int, **others: Any) -> "StepSampler":
        """With --batch-size, --accumulate and --seed of a training script's config."""
        flags = {name: getattr(config, name) for name in ("batch_size", "accumulate", "seed")}
        shards = getattr(dataset, "shard_numbers", None)
        return cls(len(dataset), num_steps=num_steps, shards=shards, **flags, **others)

    def __len__(self) -> int:
        return (self.num_steps - self.start_step) * self.accumulate

    def __iter__(self) -> Iterator[list[SampleKey]]:
        keys = self._keys(self.start_step * self.accumulate * self.batch_size)
        for _ in range(len(self)):
            yield list(self.processes.share(list(itertools.islice(keys, self.batch_size))))

    def batch(self, step: int, index: int = 0) -> list[SampleKey]:
        """The samples of all processes in one of a step's batches, 0 to `accumulate` - 1."""
        start = (step * self.accumulate + index) * self.batch_size
        return list(itertools.islice(self._keys(start), self.batch_size))

    def _keys(self, start: int) -> Iterator[SampleKey]:
        """An endless sequence of the samples of all epochs, from position `start`."""
        for epoch in itertools.count():
            keys = self._epoch(epoch)
            for first in range(start, len(keys), 65_536):  # a list of all would take a hundred bytes for each
                yield from (SampleKey(self.seed, epoch, *row) for row in keys[first : first + 65_536].tolist())
            start = max(0, start - len(keys))

    def _epoch(self, epoch: int) -> np.ndarray:
        """(n, 2): item and turn of each sample of an epoch, in its order."""
        rng = make_rng(Purpose.ORDER, self.seed, epoch)
        times = np.ones(self.num_samples, dtype=np.int64)
        if self.repeats is not None:
            times = np.floor(self.repeats + rng.random(self.num_samples)).astype(np.int64)
        items = np.repeat(np.arange(self.num_samples), times)
        turns = np.arange(len(items)) - np.repeat(np.cumsum(times) - times, times)
        if self.shards is None:
            return np.stack((items, turns), axis=1)[rng.permutation(len(items))]
        return np.stack((items, turns), axis=1)[streamed_order(self.shards, rng, self.processes.count)]


def streamed_order(shards: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """An order of N samples that reads shards one after the other; each sample occurs once.

    Shards come in random order, samples in no shard anywhere between. This row is cut into a part for each process, in
    which samples move by up to `SHUFFLE` places, as in a shuffle buffer of that size. In the result, each of `count`
    processes has every `count`-th sample, which are those of its part.

    Args:
        shards: (N,) number of each sample's shard, -1 for none.
    """
    inside, outside = np.flatnonzero(shards >= 0), np.flatnonzero(shards < 0)
    places = rng.permutation(shards.max(initial=-1) + 1)
    row, is_outside = np.empty(len(shards), np.int64), np.zeros(len(shards), bool)
    is_outside[rng.choice(len(shards), len(outside), replace=False)] = True
    row[is_outside] = rng.permutation(outside)
    row[~is_outside] = inside[np.argsort(places[shards[inside]], kind="stable")]
    order = np.empty_like(row)
    for number, part in enumerate(np.array_split(row, count)):
        order[number::count] = part[np.argsort(np.arange(len(part)) + rng.random(len(part)) * SHUFFLE, kind="stable")]
    return order


def repeat_factors(labels: Sequence[np.ndarray], threshold: float) -> np.ndarray:
    """Repeat-factor sampling: how often to show each image, so that rare classes are seen more often.

    Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation", arXiv 1908.03195, section 4.1. With f(c)
    the share of images that hold class c, r(c) = max(1, sqrt(threshold / f(c))); an image has the largest r of its
    classes, and 1 without any.

    Args:
        labels: the classes of each image's objects.
        threshold: classes in a smaller share of the images are repeated; above 0, at most 1.

    Raises:
        ValueError: `threshold` is out of range.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"repeat_threshold must be above 0 (0 is off) and at most 1, got {threshold}")
    classes = [np.unique(found) for found in labels]
    present, counts = np.unique(np.concatenate(classes), return_counts=True)
    by_class = np.maximum(1.0, np.sqrt(threshold * len(labels) / counts))
    return np.array([by_class[np.searchsorted(present, own)].max(initial=1.0) for own in classes])


QAT_EPOCHS = 3.0  # of --qat
SHUFFLE = 4096  # samples
UNKNOWN_STEPS = 10**9  # of a run whose steps are not known yet
A_YEAR = 365 * 24 * 60  # minutes


@dataclass
class Lengths:
    """Lengths of a run in optimiser steps, and the images of a step and of an epoch.

    With --minutes they are provisional until `budget.Budget` sets them.
    """

    num_steps: int
    warmup_steps: int
    eval_every: int
    images_a_step: int
    num_samples: int
    head_steps: int = 0  # at the start, that train the last layer alone

    @property
    def known_steps(self) -> int | None:
        """`num_steps`; None while provisional."""
        return None if self.num_steps == UNKNOWN_STEPS else self.num_steps

    def set_steps(self, num_steps: int, config: Any) -> None:
        """Set the number of steps and what depends on it: warm-up and evaluations, with the flags of a config."""
        self.num_steps = num_steps
        self.warmup_steps = min(500, num_steps // 10) if config.warmup_steps is None else config.warmup_steps
        self.eval_every = config.eval_every or min(5000, max(1, -(-num_steps // 5)))

    def describe(self, what: str) -> str:
        """The lengths in words; `what` is the plural of an image."""
        if self.known_steps is None:
            return f"as many steps of {self.images_a_step} {what} as fit into the time"
        epochs = self.num_steps * self.images_a_step / self.num_samples
        return f"{self.num_steps:,} steps of {self.images_a_step} {what}, {epochs:.1f} epochs"


def run_lengths(config: Any, num_samples: int, *, default_epochs: float) -> Lengths:
    """The lengths from --steps, --epochs or --minutes, --qat, --batch-size, --accumulate, --warmup-steps, --eval-every.

    Args:
        config: has these fields; None is the default.
        num_samples: of an epoch.
        default_epochs: used without --steps, --epochs and --minutes.

    Raises:
        ValueError: two of these are given, the run would have no step, or a number (or --clip-norm) is out of range.
    """
    given = [name for name in ("steps", "epochs", "minutes") if getattr(config, name) is not None]
    if len(given) > 1:
        raise ValueError(f"give --{given[0]} or --{given[1]}, not both")
    for name in ("warmup_steps", "clip_norm"):
        value = getattr(config, name)
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"--{name.replace('_', '-')} must be 0 (off) or more, got {value}")
    if config.epochs is not None and not math.isfinite(config.epochs):
        raise ValueError(f"--epochs must be a number, got {config.epochs}")
    if config.minutes is not None and not 0 < config.minutes <= A_YEAR:
        raise ValueError(f"--minutes must be above 0 and at most {A_YEAR:,}, a year; got {config.minutes:g}")
    images_a_step = config.batch_size * config.accumulate
    if config.minutes is not None:
        return Lengths(UNKNOWN_STEPS, config.warmup_steps or 100, UNKNOWN_STEPS, images_a_step, num_samples)
    num_steps = config.steps
    if num_steps is None:
        usual = min(QAT_EPOCHS, default_epochs) if config.qat else default_epochs
        epochs = usual if config.epochs is None else config.epochs
        num_steps = math.ceil(epochs * num_samples / images_a_step)
    if not 1 <= num_steps < UNKNOWN_STEPS:
        raise ValueError(f"the run must have at least one step and at most {UNKNOWN_STEPS - 1:,}, got {num_steps}")
    lengths = Lengths(0, 0, 0, images_a_step, num_samples)
    lengths.set_steps(num_steps, config)
    return lengths
