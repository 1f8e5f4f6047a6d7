"""Calibration of probabilities: fitting a temperature, and the bins of a reliability diagram.

Letters in shapes: n photos.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
NUM_BINS = 15  # of the calibration error, as Guo et al., arXiv 1706.04599


class Bin(NamedTuple):
    """Photos of similar confidence: their number, mean confidence and accuracy."""

    num_photos: int
    confidence: float
    accuracy: float


def fit_temperature(loss_at: Callable[[float], float], num_photos: int, *, tolerance: float) -> float:
    """The temperature, from 0.05 to 20, with the least mean loss of the logits divided by it.

    Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, section 4.2. A weak prior, log T normal
    with deviation 1 (the weight of one photo), keeps it near 1 where there are few photos: without it, a set without
    errors would give the lowest temperature.

    Args:
        loss_at: the mean negative log-likelihood of `num_photos` photos at a temperature.
        tolerance: of the logarithm.
    """

    def cost(log_t: float) -> float:
        return loss_at(math.exp(log_t)) + 0.5 * log_t**2 / num_photos

    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    step = (high - low) / 40
    best = min((low + step * i for i in range(41)), key=cost)
    left, right = max(low, best - step), min(high, best + step)
    golden = (math.sqrt(5) - 1) / 2
    while right - left > tolerance:
        inner_left, inner_right = right - golden * (right - left), left + golden * (right - left)
        if cost(inner_left) < cost(inner_right):
            right = inner_right
        else:
            left = inner_left
    return math.exp((left + right) / 2)


def reliability_bins(confidence: Tensor, correct: Tensor) -> list[Bin]:
    """The non-empty bins, least confident first, for confidence (n,) float64 and correct (n,) of 0 and 1."""
    correct = correct.double()
    bins = (confidence * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    insides = [bins == i for i in range(NUM_BINS)]
    return [Bin(int(i.sum()), confidence[i].mean().item(), correct[i].mean().item()) for i in insides if i.any()]


def draw_reliability(axes: "Axes", bins: Sequence[Bin]) -> None:
    """Accuracy by confidence; the area of a dot is its share of the photos."""
    confidence, accuracy = [b.confidence for b in bins], [b.accuracy for b in bins]
    total = sum(b.num_photos for b in bins)
    axes.plot([0, 1], [0, 1], color="gray", linewidth=1, linestyle="--")
    axes.plot(confidence, accuracy, linewidth=1)
    axes.scatter(confidence, accuracy, s=[20 + 400 * b.num_photos / total for b in bins], alpha=0.6)
    axes.grid(alpha=0.3)
