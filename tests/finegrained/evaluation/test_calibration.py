import pytest
import torch
import torch.nn.functional as F

from apps.finegrained.evaluation.calibration import (
    calibrate,
    cross_validate,
    fit_temperature,
    fit_unknown_threshold,
    unknown_metrics,
)
from apps.finegrained.evaluation.metrics import calibration_error
from apps.finegrained.model.classifier import known_score


def sample(temperature: float, *, num_photos: int = 4000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels drawn from softmax(z), and logits temperature * z: the temperature that makes them honest is known."""
    generator = torch.Generator().manual_seed(seed)
    honest = torch.randn(num_photos, 8, generator=generator) * 2
    labels = torch.multinomial(honest.softmax(1), 1, generator=generator)[:, 0]
    return honest * temperature, labels


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    logits, labels = sample(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.06)
    fitted, honest = logits / fit_temperature(logits, labels), logits / temperature
    assert calibration_error(fitted, labels) == pytest.approx(calibration_error(honest, labels), abs=0.01)


def test_the_score_forgets_neither_how_large_the_logits_are_nor_the_best_class():
    """The largest probability is the same for the first two."""
    assert known_score(torch.tensor([[2.0, 6.0, 1.0], [12.0, 16.0, 11.0], [-5.0, -6.0, -9.0]])).tolist() == [6, 16, -5]


@pytest.mark.parametrize("num_photos", [1, 7, 19, 20, 21, 100, 296])
def test_the_threshold_is_the_highest_that_keeps_95_percent(num_photos):
    scores = torch.randn(num_photos, generator=torch.Generator().manual_seed(num_photos)).double()
    threshold = fit_unknown_threshold(scores)
    assert 20 * int((scores >= threshold).sum()) >= 19 * num_photos
    assert 20 * int((scores > threshold).sum()) < 19 * num_photos


def test_cross_validation_scales_each_half_by_the_other():
    logits, labels = sample(3.0, num_photos=401, seed=2)
    order = labels.argsort(stable=True)
    first, second = order[0::2], order[1::2]
    judged = cross_validate(logits, labels)
    torch.testing.assert_close(
        judged.scaled[first], logits[first].double() / fit_temperature(logits[second], labels[second])
    )
    torch.testing.assert_close(
        judged.scaled[second], logits[second].double() / fit_temperature(logits[first], labels[first])
    )
    assert calibration_error(judged.scaled, labels) < calibration_error(logits, labels) / 2
    assert 0.9 < judged.known_kept < 0.99
    assert cross_validate(logits[:1], labels[:1]) == (None, None, "val has a single photo")


def test_cross_validation_is_less_flattering_than_the_fit_itself():
    """On average over small sets; each set alone may go either way."""
    fitted, judged = 0.0, 0.0
    for seed in range(20):
        logits, labels = sample(3.0, num_photos=30, seed=seed)
        fitted += F.cross_entropy(logits / calibrate(logits, labels).temperature, labels).item()
        judged += F.cross_entropy(cross_validate(logits, labels).scaled, labels).item()
    assert judged > fitted


def test_known_and_unknown_scores_are_compared_pair_by_pair():
    known = torch.tensor([30.0, 31.0, 32.0, 25.0, 33.0]).double()  # a sigmoid would make all of them 1
    unknown = torch.tensor([24.0, 30.5, 25.0]).double()
    values = unknown_metrics(known, unknown, threshold=25.0)
    wins = sum(1.0 if k > u else 0.5 if k == u else 0.0 for k in known.tolist() for u in unknown.tolist())
    assert values == pytest.approx(
        {"num_unknown": 3, "auroc": wins / 15, "fpr_at_95_tpr": 2 / 3, "unknown_kept": 2 / 3}
    )
    assert "unknown_kept" not in unknown_metrics(known, unknown, threshold=None)
