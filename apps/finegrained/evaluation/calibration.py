"""Calibrated probabilities, and the detection of photos of none of the classes.

Both are fitted on photos that the network was not trained on (val) and stored with the model: a temperature, and a
threshold on the score that a photo is of a known class.

Letters in shapes: N photos, K classes.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from apps.common.evaluation import calibration
from apps.finegrained.evaluation.metrics import negative_log_likelihood
from apps.finegrained.model.classifier import Classifier, known_score

KEPT = 0.95  # share of known photos that the threshold keeps


class Calibration(NamedTuple):
    """`temperature` divides the logits before the softmax; photos with a lower `known_score` than the threshold show
    none of the classes."""

    temperature: float
    unknown_threshold: float


class Calibrated(NamedTuple):
    """Calibration on photos that it was not fitted on: `scaled` logits (N, K), the share `known_kept` by the threshold
    (both None if there are no such photos), and `by`, a phrase that says whose calibration it is."""

    scaled: Tensor | None
    known_kept: float | None
    by: str


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that makes the labels (N,) most likely under softmax(logits / temperature), logits (N, K)."""
    wide = logits.double()
    return calibration.fit_temperature(lambda t: negative_log_likelihood(wide / t, labels), len(labels), tolerance=1e-5)


def fit_unknown_threshold(scores: Tensor) -> float:
    """The highest threshold that keeps 95 % or more of the scores (N,) of known photos; `score < threshold` is out."""
    return scores.sort().values[math.floor((1 - KEPT) * len(scores) + 1e-9)].item()


def calibrate(logits: Tensor, labels: Tensor) -> Calibration:
    """Fit both on logits (N, K) and labels (N,) of photos that were not trained on."""
    return Calibration(fit_temperature(logits, labels), fit_unknown_threshold(known_score(logits)))


def calibrated(classifier: Classifier, logits: Tensor) -> Calibrated:
    """Logits (N, K) with the calibration that a classifier has from val."""
    if classifier.unknown_threshold is None:
        return Calibrated(None, None, "the checkpoint is not calibrated: eval.py --split val --calibrate does it")
    kept = (known_score(logits) >= classifier.unknown_threshold).double().mean().item()
    return Calibrated(logits / classifier.temperature, kept, "by what the checkpoint has from val")


def cross_validate(logits: Tensor, labels: Tensor) -> Calibrated:
    """Logits (N, K) of the photos that calibration is fitted on: each half with the fit on the other.

    The halves take turns in the photos sorted by class, so that both have the same classes.
    """
    if len(labels) < 2:
        return Calibrated(None, None, "val has a single photo")
    order = labels.argsort(stable=True)
    halves = order[0::2], order[1::2]
    scaled = logits.double().clone()
    kept = torch.zeros(len(labels), dtype=torch.bool)
    for fitted, other in (halves, halves[::-1]):
        temperature, threshold = calibrate(logits[fitted], labels[fitted])
        scaled[other] /= temperature
        kept[other] = known_score(logits[other]) >= threshold
    return Calibrated(scaled, kept.double().mean().item(), "each half of val by what was fitted on the other half")


def unknown_metrics(known: Tensor, unknown: Tensor, *, threshold: float | None) -> dict[str, float]:
    """How well scores separate known photos (N,) from unknown ones (M,).

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
