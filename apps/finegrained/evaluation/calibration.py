"""Probabilities that mean what they say, and photos that show none of the classes.

Both are fitted on photos that the network was not trained on (val) and stored with the model: one temperature, and
one threshold on a score of how much a photo looks like any class at all.

Letters in shapes: N photos, K classes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from apps.finegrained.evaluation.metrics import calibration_error, negative_log_likelihood
from apps.finegrained.model.classifier import known_score

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
KEPT = 0.95  # share of known photos that the threshold keeps


class Calibration(NamedTuple):
    """`temperature` divides the logits before the softmax; photos with a lower `known_score` than the threshold show
    none of the classes."""

    temperature: float
    unknown_threshold: float


class CrossValidated(NamedTuple):
    """Calibration judged on photos that it was not fitted on, all N of them in turn.

    `scaled` (N, K) are the logits divided by the temperature of the other half; `loss`, `ece` are theirs;
    `known_kept` is the share of photos above the threshold of the other half.
    """

    scaled: Tensor
    loss: float
    ece: float
    known_kept: float


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that makes the labels (N,) most likely under softmax(logits / temperature), logits (N, K).

    Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, section 4.2. A weak prior, log T
    normal with deviation 1 (the weight of one photo), keeps it near 1 where few photos say little: without it, a
    set without errors would ask for certainty. From 0.05 to 20.
    """
    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    wide = logits.double()

    def cost(log_t: float) -> float:
        return negative_log_likelihood(wide / math.exp(log_t), labels) + 0.5 * log_t**2 / len(labels)

    step = (high - low) / 40
    best = min((low + step * i for i in range(41)), key=cost)
    left, right = max(low, best - step), min(high, best + step)
    golden = (math.sqrt(5) - 1) / 2
    while right - left > 1e-5:
        inner_left, inner_right = right - golden * (right - left), left + golden * (right - left)
        if cost(inner_left) < cost(inner_right):
            right = inner_right
        else:
            left = inner_left
    return math.exp((left + right) / 2)


def fit_unknown_threshold(scores: Tensor) -> float:
    """The highest threshold that keeps 95 % or more of the scores (N,) of known photos; `score < threshold` is out."""
    return scores.sort().values[math.floor((1 - KEPT) * len(scores) + 1e-9)].item()


def calibrate(logits: Tensor, labels: Tensor) -> Calibration:
    """Fit both on logits (N, K) and labels (N,) of photos that were not trained on."""
    return Calibration(fit_temperature(logits, labels), fit_unknown_threshold(known_score(logits)))


def cross_validate(logits: Tensor, labels: Tensor) -> CrossValidated | None:
    """Judge calibration on the photos it is fitted on: each half by the fit on the other. None for a single photo.

    The halves take turns in the photos sorted by class, so that both have the same classes.
    """
    if len(labels) < 2:
        return None
    order = labels.argsort(stable=True)
    halves = order[0::2], order[1::2]
    scaled = logits.double().clone()
    kept = torch.zeros(len(labels), dtype=torch.bool)
    for fitted, judged in (halves, halves[::-1]):
        temperature, threshold = calibrate(logits[fitted], labels[fitted])
        scaled[judged] /= temperature
        kept[judged] = known_score(logits[judged]) >= threshold
    return CrossValidated(
        scaled,
        negative_log_likelihood(scaled, labels),
        calibration_error(scaled, labels),
        kept.double().mean().item(),
    )


def unknown_metrics(known: Tensor, unknown: Tensor, *, threshold: float | None) -> dict[str, float]:
    """How well scores tell known photos (N,) from unknown ones (M,).

    Returns:
        "num_unknown"; "auroc": chance that a known photo has the higher score, 0 to 1; "fpr_at_95_tpr": share of
        unknown photos kept by the threshold that keeps 95 % of these known ones; and, if the model has a `threshold`,
        "unknown_kept": the share that it keeps.
    """
    from torchmetrics.functional.classification import binary_auroc  # four seconds to import

    both = torch.cat((known, unknown))
    # torchmetrics takes scores above 1 for logits and squashes them, which ties the high ones: give it their ranks
    distinct, ranks = both.unique(return_inverse=True)
    is_known = torch.cat((torch.ones(len(known)), torch.zeros(len(unknown)))).long()
    values: dict[str, float] = {
        "num_unknown": len(unknown),
        "auroc": float(binary_auroc(ranks.double() / len(distinct), is_known)),
        "fpr_at_95_tpr": (unknown >= fit_unknown_threshold(known)).double().mean().item(),
    }
    if threshold is not None:
        values["unknown_kept"] = (unknown >= threshold).double().mean().item()
    return values
