"""What is drawn when: accumulated batches, repeated images, and the lengths of a run."""

from itertools import chain
from types import SimpleNamespace

import numpy as np
import pytest

from apps.common.training.distributed import Processes
from apps.common.training.sampling import (
    Lengths,
    Purpose,
    SampleKey,
    StepSampler,
    make_rng,
    repeat_factors,
    run_lengths,
)

REPEATS = np.array([1.0, 2.4, 1.0, 1.25, 1.0])


def batches(**changes) -> list[list[SampleKey]]:
    return list(StepSampler(5, **{"batch_size": 4, "num_steps": 6, "seed": 3, **changes}))


def test_accumulated_batches_are_one_large_batch_in_parts():
    large = batches(batch_size=6, num_steps=4)
    small = batches(batch_size=2, num_steps=4, accumulate=3)
    assert len(small) == 12
    assert [list(chain(*small[3 * step : 3 * step + 3])) for step in range(4)] == large


@pytest.mark.parametrize("repeats", [None, REPEATS], ids=["once", "repeated"])
def test_the_rest_of_a_run_is_the_same_from_any_step(repeats):
    settings = {"batch_size": 3, "num_steps": 8, "accumulate": 2, "repeats": repeats}
    whole = batches(**settings)
    for step in range(9):
        assert batches(**settings, start_step=step) == whole[2 * step :]
    sampler = StepSampler(5, seed=3, **settings, start_step=5)
    assert sampler.batch(6, 1) == whole[13]
    assert len(sampler) == 6


def test_two_processes_share_repeated_images_out():
    whole = batches(repeats=REPEATS)
    parts = [batches(repeats=REPEATS, processes=Processes(rank, 2)) for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in whole]


def test_every_image_is_drawn_once_an_epoch_in_an_order_of_its_own():
    drawn = list(chain(*batches(batch_size=5, num_steps=4)))
    orders = [[key.item for key in drawn[5 * epoch : 5 * epoch + 5]] for epoch in range(4)]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders)
    assert len(set(map(tuple, orders))) > 1
    assert {key.turn for key in drawn} == {0}


def test_purposes_share_no_random_numbers():
    """Numpy takes (seed, epoch) and (seed, epoch, 0) for the same; a step's (seed, step, 1) was an epoch's item 1."""
    makers = {
        "order": lambda i: make_rng(Purpose.ORDER, 3, i),
        "augment": lambda i: SampleKey(3, i // 4, i % 4).rng(),
        "augment again": lambda i: SampleKey(3, i // 4, i % 4, turn=1).rng(),
        "mix": lambda i: make_rng(Purpose.MIX, 3, i),
        "withhold": lambda i: make_rng(Purpose.WITHHOLD, 3 + i),
    }
    streams = {
        (purpose, i): tuple(make(i).integers(2**32, size=4)) for purpose, make in makers.items() for i in range(16)
    }
    assert len(set(streams.values())) == len(streams)
    sampler = StepSampler(50, batch_size=50, num_steps=1, seed=3)
    order = [key.item for key in sampler.batch(0)]
    assert order != SampleKey(3, 0, 0).rng().permutation(50).tolist()


def test_images_are_repeated_as_often_as_their_factor_says():
    epochs = 400
    sampler = StepSampler(5, batch_size=1, num_steps=10**6, seed=0, repeats=REPEATS)
    times = np.zeros((epochs, 5), dtype=int)
    turns = set()
    for (key,) in sampler:
        if key.epoch == epochs:
            break
        turns.add((key.item, key.turn))
        times[key.epoch, key.item] += 1
    assert (times[:, [0, 2, 4]] == 1).all()
    assert set(times[:, 1]) == {2, 3}
    assert set(times[:, 3]) == {1, 2}
    assert times.mean(0) == pytest.approx(REPEATS, abs=0.08)  # three standard deviations
    assert turns == {(0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (3, 0), (3, 1), (4, 0)}


def test_a_repeated_image_is_augmented_anew():
    first, second = SampleKey(0, 1, 2), SampleKey(0, 1, 2, turn=1)
    assert first.rng().random() != second.rng().random()


def test_repeat_factors_are_the_papers():
    """LVIS, section 4.1, by hand: class 1 is in 3 of 4 images, class 2 in 1, class 3 in 2."""
    labels = [np.array([1, 1, 1]), np.array([1, 3]), np.array([3, 2, 1]), np.array([], dtype=np.int64)]
    expected = [1.0, 1.0954, 1.5492, 1.0]  # sqrt(0.6 / 0.75) < 1, sqrt(0.6 / 0.5), sqrt(0.6 / 0.25)
    assert repeat_factors(labels, 0.6) == pytest.approx(expected, abs=1e-4)
    assert repeat_factors(labels, 0.25).tolist() == [1.0] * 4
    assert repeat_factors(labels[3:], 0.5).tolist() == [1.0]
    for threshold in (-0.1, 1.5):
        with pytest.raises(ValueError, match=r"repeat_threshold must be above 0 \(0 is off\) and at most 1"):
            repeat_factors(labels, threshold)


def lengths(epochs_by_default: float = 2.0, **changes) -> Lengths:
    settings = {"steps": None, "epochs": None, "minutes": None, "batch_size": 4, "accumulate": 1, "warmup_steps": None}
    settings |= {"eval_every": None, "checkpoint_every": 500, "clip_norm": 5.0, "seed": 0, "num_workers": 2}
    settings |= {"qat": False}
    return run_lengths(SimpleNamespace(**{**settings, **changes}), 100, default_epochs=epochs_by_default)


def test_lengths_count_optimiser_steps():
    assert lengths() == Lengths(50, 5, 10, 4, 100)
    assert lengths(accumulate=5) == Lengths(10, 1, 2, 20, 100)
    assert lengths(epochs=100.0, accumulate=2, warmup_steps=3, eval_every=7) == Lengths(1250, 3, 7, 8, 100)
    assert lengths(30.0, qat=True).num_steps == lengths(3.0).num_steps == lengths(30.0, epochs=3.0).num_steps
    assert lengths(steps=90_000) == Lengths(90_000, 500, 5000, 4, 100)
    assert lengths(steps=30).describe("photos") == "30 steps of 4 photos, 1.2 epochs"
    assert lengths(minutes=3.0).known_steps is None
    assert lengths(minutes=3.0).describe("photos") == "as many steps of 4 photos as fit into the time"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 3, "epochs": 1.0}, "give --steps or --epochs, not both"),
        ({"steps": 3, "minutes": 1.0}, "give --steps or --minutes, not both"),
        ({"epochs": 3.0, "minutes": 1.0}, "give --epochs or --minutes, not both"),
        *(({"minutes": n}, f"--minutes must be above 0 and at most 525,600.*; got {n:g}$") for n in (0.0, -2.0, 6e5)),
        *(({"minutes": float(n)}, f"--minutes must be above 0 .*; got {n}$") for n in ("nan", "inf")),
        ({"warmup_steps": -50}, r"--warmup-steps must be 0 \(off\) or more, got -50"),
        ({"clip_norm": -1.0}, r"--clip-norm must be 0 \(off\) or more, got -1"),
        ({"clip_norm": float("nan")}, r"--clip-norm must be 0 \(off\) or more, got nan"),
        ({"epochs": float("inf")}, "--epochs must be a number, got inf"),
        ({"epochs": 0.0}, "at least one step and at most 999,999,999, got 0"),
        ({"epochs": 1e300}, "at most 999,999,999, got 2"),
    ],
    ids=str,
)
def test_wrong_lengths(changes, message):
    with pytest.raises(ValueError, match=message):
        lengths(**changes)
