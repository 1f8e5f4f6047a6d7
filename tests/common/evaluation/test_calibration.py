import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from apps.common.evaluation.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    NUM_BINS,
    Bin,
    draw_reliability,
    fit_temperature,
    reliability_bins,
)
from apps.common.evaluation.plots import new_figure


def softmax_loss(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> float:
    return F.cross_entropy(logits / temperature, labels).item()


def sigmoid_loss(logits: torch.Tensor, labels: torch.Tensor, temperature: float) -> float:
    return F.binary_cross_entropy_with_logits(logits / temperature, labels).item()


def fit(loss, logits: torch.Tensor, labels: torch.Tensor) -> float:
    return fit_temperature(partial(loss, logits.double(), labels), len(labels), tolerance=1e-5)


@pytest.mark.parametrize("num_classes", [2, 8])
def test_it_is_the_minimum_that_a_fine_grid_finds(num_classes):
    """Labels are drawn from softmax(z) or sigmoid(z), the logits are 2 z."""
    generator = torch.Generator().manual_seed(1)
    if num_classes == 2:
        honest = torch.randn(100, generator=generator) * 2
        labels = (torch.rand(100, generator=generator) < honest.sigmoid()).double()
        loss = sigmoid_loss
    else:
        honest = torch.randn(300, num_classes, generator=generator) * 2
        labels = torch.multinomial(honest.softmax(1), 1, generator=generator)[:, 0]
        loss = softmax_loss
    logits = 2.0 * honest
    costs = {
        t: loss(logits.double(), labels, t) + math.log(t) ** 2 / (2 * len(labels))
        for t in torch.arange(1, 5, 0.002).tolist()
    }
    assert fit(loss, logits, labels) == pytest.approx(min(costs, key=costs.__getitem__), abs=0.003)


def test_few_photos_do_not_ask_for_certainty():
    """Without errors the likelihood alone has its best temperature at 0."""
    labels = torch.arange(10) % 5
    logits = 4.0 * F.one_hot(labels, 5)
    assert 0.4 < fit(softmax_loss, logits, labels) < 1
    assert fit(softmax_loss, logits[:1], labels[:1]) > fit(softmax_loss, logits, labels)
    assert fit(softmax_loss, torch.zeros(3, 5), labels[:3]) == pytest.approx(1, abs=1e-3)  # it cannot matter


def test_the_temperature_stays_within_its_bounds():
    labels = torch.arange(2000) % 5
    right = F.one_hot(labels, 5).float()
    assert fit(softmax_loss, 0.1 * right, labels) == pytest.approx(MIN_TEMPERATURE, rel=1e-3)
    assert fit(softmax_loss, -1e4 * right, labels) == pytest.approx(MAX_TEMPERATURE, rel=1e-3)


def test_bins_hold_photos_of_like_confidence():
    confidence = torch.tensor([0.0, 0.01, 0.5, 1.0, 0.999], dtype=torch.float64)
    bins = reliability_bins(confidence, torch.tensor([1, 0, 1, 1, 0]))
    assert [b.num_photos for b in bins] == [2, 1, 2]
    assert [b.confidence for b in bins] == pytest.approx([0.005, 0.5, 0.9995])
    assert [b.accuracy for b in bins] == [0.5, 1, 0.5]
    every = reliability_bins((torch.arange(NUM_BINS) + 0.5).double() / NUM_BINS, torch.ones(NUM_BINS))
    assert [b.num_photos for b in every] == [1] * NUM_BINS


def test_a_reliability_diagram_has_a_dot_for_each_bin_and_its_area_shows_the_photos():
    axes = new_figure(4, 4).subplots()
    draw_reliability(axes, [Bin(1, 0.2, 0.1), Bin(3, 0.9, 0.8)])
    (dots,) = axes.collections
    assert dots.get_offsets().tolist() == [pytest.approx([0.2, 0.1]), pytest.approx([0.9, 0.8])]
    assert dots.get_sizes().tolist() == [20 + 400 / 4, 20 + 400 * 3 / 4]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0, 1], [0.1, 0.8]]
