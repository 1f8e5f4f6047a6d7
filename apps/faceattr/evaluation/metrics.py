"""Metrics of attributes: average precision (the paper's measure) and more, over the known labels alone.

A label is 1 (present), 0 (absent) or -1 (unknown); unknown ones never count.

Letters in shapes: B batch, N photos, A attributes.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from apps.common.evaluation.calibration import NUM_BINS
from apps.common.evaluation.intervals import Measure
from apps.faceattr.data.listing import UNKNOWN

FEW = 10  # photos of the rarer value, with fewer a metric is unreliable
MEANS = ("ap", "balanced_accuracy", "f1", "accuracy", "ece")


class AttributeMetrics(NamedTuple):
    """One attribute, over the photos where it is known; None where a number has no meaning.

    Attributes:
        known, positive: photos whose label is known, and those of them that have the attribute.
        ap: average precision; guessing has positive / known.
        balanced_accuracy: mean of the shares of present and absent ones that are predicted correctly; guessing has 0.5.
        f1: of "present".
        accuracy: share that is predicted correctly; always predicting the commoner value has its share.
        ece: expected calibration error, 15 bins of the probability.
    """

    name: str
    known: int
    positive: int
    ap: float | None
    balanced_accuracy: float | None
    f1: float | None
    accuracy: float | None
    ece: float | None

    @property
    def few(self) -> int:
        """Photos of the rarer value."""
        return min(self.positive, self.known - self.positive)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics:
    """All numbers of one evaluation.

    Attributes:
        values: the single numbers by name: num_photos, num_attributes, num_measured (attributes known to be present
            and absent, the only ones in the means), known (share of the labels); mean_ap, mean_balanced_accuracy,
            mean_f1, mean_accuracy, mean_ece (None if nothing is measured).
        per_attribute: in the order of the attributes.
        not_measured: names of the attributes that the labels do not show both present and absent.
    """

    values: dict[str, float | None]
    per_attribute: list[AttributeMetrics]
    not_measured: list[str]


def attribute_metrics(
    logits: Tensor, labels: Tensor, attributes: Sequence[str], *, probs: Tensor, present: Tensor
) -> Metrics:
    """All numbers of N photos.

    Args:
        logits: (N, A), for the average precision.
        labels: (N, A) of 1, 0 and -1.
        probs: (N, A), calibrated probabilities, for the calibration error.
        present: (N, A) bool, what is predicted.

    Raises:
        ValueError: shapes, labels or names do not fit together.
    """
    check_shapes(logits, labels, attributes)
    per_attribute = []
    for a, name in enumerate(attributes):
        known = labels[:, a] != UNKNOWN
        per_attribute.append(
            _of_one(name, logits[known, a], labels[known, a].long(), probs[known, a], present[known, a])
        )
    measured = [one for one in per_attribute if one.few]
    values: dict[str, float | None] = {
        "num_photos": len(labels),
        "num_attributes": len(attributes),
        "num_measured": len(measured),
        "known": (labels != UNKNOWN).double().mean().item(),
        **{f"mean_{what}": mean([getattr(one, what) for one in measured]) for what in MEANS},
    }
    return Metrics(
        values=values, per_attribute=per_attribute, not_measured=[one.name for one in per_attribute if not one.few]
    )


def _of_one(name: str, logits: Tensor, labels: Tensor, probs: Tensor, present: Tensor) -> AttributeMetrics:
    """Of one attribute, over (n,) photos where it is known."""
    known, positive = len(labels), int(labels.sum())
    if not known:
        return AttributeMetrics(name, 0, 0, None, None, None, None, None)
    right = present == labels.bool()
    hits = int((present & labels.bool()).sum())
    both = 0 < positive < known
    return AttributeMetrics(
        name,
        known,
        positive,
        average_precision(logits, labels) if both else None,
        sum(right[labels == v].double().mean().item() for v in (0, 1)) / 2 if both else None,
        2 * hits / (positive + int(present.sum())) if positive else None,
        right.double().mean().item(),
        calibration_error(probs, labels),
    )


def average_precision(scores: Tensor, labels: Tensor) -> float:
    """Area under precision over recall, of scores (n,) on any scale and labels (n,) of 1 and 0, both of which occur."""
    from torchmetrics.functional.classification import binary_average_precision  # four seconds to import

    # torchmetrics squashes scores beyond 0 to 1 by a float sigmoid, which ties the high ones: give it their ranks
    distinct, ranks = scores.unique(return_inverse=True)
    return float(binary_average_precision(ranks.double() / len(distinct), labels))


def mean_ap_measure(logits: Tensor, labels: Tensor) -> Measure:
    """The mean average precision of (N, A) on resampled photos, each with a count.

    It is the mean over the attributes that the photos which count show both present and absent.
    """
    columns = []
    for scores, column in zip(logits.double().numpy().T, labels.numpy().T, strict=True):
        order = np.argsort(-scores, kind="stable")
        order = order[column[order] != UNKNOWN]
        ends = np.flatnonzero(np.diff(scores[order], append=np.nan))  # of runs of equal scores
        columns.append((order, column[order] == 1, ends))

    def measure(times: np.ndarray) -> dict[str, np.ndarray]:
        total, num_measured = np.zeros(len(times)), np.zeros(len(times))
        for order, present, ends in columns:
            counts = times[:, order]
            true, taken = (counts * present).cumsum(axis=1)[:, ends], counts.cumsum(axis=1)[:, ends]
            area = (np.diff(true, axis=1, prepend=0) * true / np.maximum(taken, 1)).sum(axis=1)
            num_present, num_known = counts @ present, counts.sum(axis=1)
            measured = (num_present > 0) & (num_present < num_known)
            total += np.where(measured, area / np.maximum(num_present, 1), 0)
            num_measured += measured
        return {"mean_ap": np.where(num_measured > 0, total / np.maximum(num_measured, 1), np.nan)}

    return measure


def calibration_error(probs: Tensor, labels: Tensor) -> float:
    """By how much the probability of (n,) photos and the share of them that has the attribute differ, 0 to 1."""
    from torchmetrics.functional.classification import binary_calibration_error

    return float(binary_calibration_error(probs.double(), labels, n_bins=NUM_BINS, norm="l1"))


def uncalibrated_errors(logits: Tensor, labels: Tensor) -> list[float | None]:
    """Each attribute's calibration error with temperature 1; None where nothing is known."""
    probs, known = logits.double().sigmoid(), labels != UNKNOWN
    return [
        calibration_error(probs[known[:, a], a], labels[known[:, a], a].long()) if known[:, a].any() else None
        for a in range(labels.shape[1])
    ]


class Agreement(NamedTuple):
    """The agreement of two networks on one attribute, over all photos: no labels are needed.

    `same` is the share of photos with equal decisions, `difference` the mean absolute difference of probabilities;
    the two `ap` are over the known labels, None if they do not show the attribute both present and absent.
    """

    name: str
    same: float
    difference: float
    ap: float | None
    teacher_ap: float | None


def agreement(
    student: Metrics, probs: Tensor, present: Tensor, teacher: Metrics, teacher_probs: Tensor, teacher_present: Tensor
) -> list[Agreement]:
    """The agreement of a student and a teacher on each attribute; both have the columns of the metrics."""
    same = (present == teacher_present).double().mean(0).tolist()
    difference = (probs.double() - teacher_probs.double()).abs().mean(0).tolist()
    aps = [(own.ap, other.ap) for own, other in zip(student.per_attribute, teacher.per_attribute, strict=True)]
    return [Agreement(one.name, same[a], difference[a], *aps[a]) for a, one in enumerate(student.per_attribute)]


def check_shapes(logits: Tensor, labels: Tensor, attributes: Sequence[str]) -> None:
    """Raise ValueError unless logits and labels are (N, A) of one photo or more, labels 1, 0 or -1."""
    if logits.ndim != 2 or logits.shape != labels.shape or not len(labels) or logits.shape[1] != len(attributes):
        shapes = f"{(*logits.shape,)} and {(*labels.shape,)} of {len(attributes)} attributes"
        raise ValueError(f"logits and labels must be (N, A) of 1 photo or more, got {shapes}")
    if labels.min() < UNKNOWN or labels.max() > 1:
        raise ValueError(f"labels must be 1, 0 or -1, got {labels.min()} to {labels.max()}")


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of no values."""
    return sum(values) / len(values) if values else None
