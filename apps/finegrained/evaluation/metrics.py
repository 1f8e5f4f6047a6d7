"""Metrics of a classifier: accuracy, per-class numbers, confusions, calibration.

Letters in shapes: B batch, N photos, K classes.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from apps.common.evaluation.calibration import NUM_BINS, Bin, reliability_bins
from apps.common.evaluation.intervals import Measure


class ClassMetrics(NamedTuple):
    """One class. `support` photos have it, and it is predicted for `predicted` photos; None for undefined numbers."""

    name: str
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


class ConfusedPair(NamedTuple):
    """`num_photos` of class `true` are predicted as `predicted`; `share` of the photos of `true`, 0 to 1."""

    true: str
    predicted: str
    num_photos: int
    share: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics:
    """All numbers of one evaluation.

    Attributes:
        values: the single numbers by name: num_photos, num_classes, num_classes_without_photos; top1, top5 (shares,
            0 to 1); macro_precision, macro_recall, macro_f1 (means over the classes that occur); loss (mean negative
            log-likelihood); ece (expected calibration error).
        per_class: of every class, in the order of the class names.
        confusion: (K, K) photos, true class by predicted class.
        confused: pairs of classes that are mixed up, most photos first.
    """

    values: dict[str, float]
    per_class: list[ClassMetrics]
    confusion: np.ndarray
    confused: list[ConfusedPair]


def classification_metrics(logits: Tensor, labels: Tensor, class_names: Sequence[str]) -> Metrics:
    """All numbers of logits (N, K) against labels (N,) from 0 to K - 1.

    Precision of a class that occurs and is never predicted counts as 0, as in torchmetrics and scikit-learn.

    Raises:
        ValueError: there are no photos, or shapes, labels or names do not fit together.
    """
    from torchmetrics.functional import classification as tm  # four seconds to import

    num_photos, num_classes = _check(logits, labels)
    if len(class_names) != num_classes:
        raise ValueError(f"{len(class_names)} class names for logits of {num_classes} classes")
    predicted = logits.argmax(1)
    precision = tm.multiclass_precision(predicted, labels, num_classes=num_classes, average="none").tolist()
    recall = tm.multiclass_recall(predicted, labels, num_classes=num_classes, average="none").tolist()
    f1 = tm.multiclass_f1_score(predicted, labels, num_classes=num_classes, average="none").tolist()
    confusion = tm.multiclass_confusion_matrix(predicted, labels, num_classes=num_classes).numpy()
    support, taken = confusion.sum(1).tolist(), confusion.sum(0).tolist()
    occurring = [k for k in range(num_classes) if support[k]]
    per_class = [
        ClassMetrics(
            name,
            support[k],
            taken[k],
            precision[k] if support[k] or taken[k] else None,
            recall[k] if support[k] else None,
            f1[k] if support[k] else None,
        )
        for k, name in enumerate(class_names)
    ]
    values = {
        "num_photos": num_photos,
        "num_classes": num_classes,
        "num_classes_without_photos": num_classes - len(occurring),
        "top1": top_k_accuracy(logits, labels, k=1),
        "top5": top_k_accuracy(logits, labels, k=5),
        "macro_precision": _mean(precision, occurring),
        "macro_recall": _mean(recall, occurring),
        "macro_f1": _mean(f1, occurring),
        "loss": negative_log_likelihood(logits, labels),
        "ece": calibration_error(logits, labels),
    }
    confused = confused_pairs(confusion, class_names)
    return Metrics(values=values, per_class=per_class, confusion=confusion, confused=confused)


def top_k_accuracy(logits: Tensor, labels: Tensor, *, k: int) -> float:
    """Share of photos whose class is among the `k` best; among all where there are fewer than `k` classes."""
    from torchmetrics.functional import classification as tm  # four seconds to import

    _, num_classes = _check(logits, labels)
    top_k = min(k, num_classes)
    return float(tm.multiclass_accuracy(logits, labels, num_classes=num_classes, top_k=top_k, average="micro"))


def top1_measure(logits: Tensor, labels: Tensor) -> Measure:
    """Top-1 on resampled photos, each with a count."""
    right = (logits.argmax(1) == labels).double().numpy()
    return lambda times: {"top1": times @ right / times.sum(axis=1)}


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> float:
    """Mean of -log of the probability given to the true class, 0 or more."""
    return F.cross_entropy(logits.double(), labels).item()


def calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Expected calibration error, 0 to 1: by how much confidence and accuracy differ, in 15 bins of confidence."""
    from torchmetrics.functional import classification as tm  # four seconds to import

    _, num_classes = _check(logits, labels)
    probs = logits.double().softmax(1)
    return float(tm.multiclass_calibration_error(probs, labels, num_classes=num_classes, n_bins=NUM_BINS, norm="l1"))


def reliability(logits: Tensor, labels: Tensor) -> list[Bin]:
    """The bins of `calibration_error` that hold photos, least confident first."""
    confidence, predicted = logits.double().softmax(1).max(1)
    return reliability_bins(confidence, predicted == labels)


def confused_pairs(confusion: np.ndarray, class_names: Sequence[str]) -> list[ConfusedPair]:
    """Pairs of different classes with photos in `confusion` (K, K), most photos first, then the larger share."""
    support = confusion.sum(1)
    pairs = [
        ConfusedPair(class_names[t], class_names[p], int(confusion[t, p]), float(confusion[t, p] / support[t]))
        for t, p in zip(*confusion.nonzero(), strict=True)
        if t != p
    ]
    return sorted(pairs, key=lambda pair: (-pair.num_photos, -pair.share))


def _check(logits: Tensor, labels: Tensor) -> tuple[int, int]:
    """(N, K), if the two fit together."""
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not logits.numel():
        raise ValueError(
            f"logits (N, K) and labels (N,) of 1 photo or more, got {(*logits.shape,)}, {(*labels.shape,)}"
        )
    num_photos, num_classes = logits.shape
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(f"labels must be from 0 to {num_classes - 1}, got {labels.min()} to {labels.max()}")
    return num_photos, num_classes


def _mean(values: list[float], indices: list[int]) -> float:
    return sum(values[k] for k in indices) / len(indices)
