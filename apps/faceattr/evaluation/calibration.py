"""Calibrated probabilities, and the thresholds from which attributes count as present.

Both are fitted, attribute by attribute, on faces that the network was not trained on (val), and stored with the model.
Unknown labels (-1) never count.

Letters in shapes: N photos, A attributes, n photos with a known label.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from apps.common.evaluation import calibration
from apps.faceattr.data.listing import UNKNOWN
from apps.faceattr.evaluation.metrics import FEW
from apps.faceattr.model.tagger import Tagger


class Calibration(NamedTuple):
    """For each of A attributes: the temperature that divides the logits before the sigmoid, and the threshold from
    which it counts as present. `undecided` names those with too few photos of a value, whose threshold stays 0.5."""

    temperatures: list[float]
    thresholds: list[float]
    undecided: list[str]


class Decisions(NamedTuple):
    """Predictions for N photos: `probs` (N, A) float64, `present` (N, A) bool, and `by`, whose calibration it is."""

    probs: Tensor
    present: Tensor
    by: str


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that makes labels (n,) of 1 and 0 most likely under sigmoid(logits / temperature), logits (n,);
    1 without photos."""
    if not len(labels):
        return 1.0
    wide, targets = logits.double(), labels.double()
    return calibration.fit_temperature(
        lambda t: F.binary_cross_entropy_with_logits(wide / t, targets).item(), len(targets), tolerance=1e-4
    )


def choose_threshold(probs: Tensor, labels: Tensor) -> float:
    """The threshold with the highest mean of F1 of "present" and F1 of "absent", for probs (n,), labels (n,).

    F1 of "present" alone is highest for always predicting "present" where it is common and hard to predict (No_Beard);
    balanced accuracy predicts a rare attribute at so low a threshold that most of these predictions are wrong. The mean
    of both F1 does neither. The threshold is half-way between two probabilities; among equally good ones it is the
    nearest to 0.5. With fewer than 10 photos of one value it is 0.5.
    """
    positives, total = int(labels.sum()), len(labels)
    if min(positives, total - positives) < FEW:
        return 0.5
    ordered, order = probs.double().sort(descending=True)
    hits = F.pad(labels[order].double().cumsum(0), (1, 0))  # of the first 0, 1, ... n photos
    said = torch.arange(total + 1).double()
    present_f1 = 2 * hits / (positives + said)
    rejected = (total - said) - (positives - hits)  # absent and said so
    absent_f1 = 2 * rejected / ((total - positives) + (total - said))
    edges = torch.cat((torch.ones(1).double(), ordered, torch.zeros(1).double()))
    between = (edges[:-1] + edges[1:]) / 2
    quality = (present_f1 + absent_f1).where(edges[:-1] > edges[1:], -1.0)  # equal probabilities are not parted
    best = quality >= quality.max() - 1e-12
    return min(between[best].tolist(), key=lambda threshold: abs(threshold - 0.5))


def calibrate(logits: Tensor, labels: Tensor, attributes: Sequence[str]) -> Calibration:
    """Fit all attributes on logits (N, A) and labels (N, A) of 1, 0 and -1."""
    fitted = Calibration([], [], [])
    for a, name in enumerate(attributes):
        known = labels[:, a] != UNKNOWN
        own, truth = logits[known, a].double(), labels[known, a]
        temperature = fit_temperature(own, truth)
        fitted.temperatures.append(temperature)
        fitted.thresholds.append(choose_threshold((own / temperature).sigmoid(), truth))
        positives = int(truth.sum())
        if min(positives, len(truth) - positives) < FEW:
            fitted.undecided.append(name)
    return fitted


def is_calibrated(tagger: Tagger) -> bool:
    """Whether `eval.py --calibrate` was run on it."""
    return any(t != 0.5 for t in tagger.thresholds) or any(t != 1 for t in tagger.temperatures)


def decide(tagger: Tagger, logits: Tensor) -> Decisions:
    """A tagger's decisions on N photos with its own calibration, from logits (N, A)."""
    by = "by what the checkpoint has from val"
    if not is_calibrated(tagger):
        by = "the checkpoint is not calibrated: eval.py --split val --calibrate does it"
    probs = tagger.calibrated(logits.double())
    return Decisions(probs, probs >= torch.tensor(tagger.thresholds, dtype=torch.float64), by)


def cross_validate(
    logits: Tensor, labels: Tensor, attributes: Sequence[str], identities: Sequence[str | None]
) -> Decisions:
    """Decisions on the photos that calibration is fitted on: on each half with the fit on the other.

    Args:
        identities: who is on each photo; one person's photos are in one half.
    """
    first = halve(identities)
    probs = torch.empty_like(logits, dtype=torch.float64)
    present = torch.empty_like(logits, dtype=torch.bool)
    for fitted, other in ((first, ~first), (~first, first)):
        temperatures, thresholds, _ = calibrate(logits[fitted], labels[fitted], attributes)
        probs[other] = (logits[other].double() / torch.tensor(temperatures, dtype=torch.float64)).sigmoid()
        present[other] = probs[other] >= torch.tensor(thresholds, dtype=torch.float64)
    return Decisions(probs, present, "each half of val by what was fitted on the other half")


def halve(identities: Sequence[str | None]) -> Tensor:
    """(N,) bool, the photos of every second person; a photo of nobody known is a person of its own."""
    seen: dict[object, bool] = {}
    return torch.tensor(
        [seen.setdefault(i if who is None else who, len(seen) % 2 == 0) for i, who in enumerate(identities)]
    )
