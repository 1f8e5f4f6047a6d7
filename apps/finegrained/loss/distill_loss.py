"""The loss of a student: labels, and a teacher's softened probabilities.

Letters in shapes: B batch, K classes.
"""

import math
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class DistillLoss(NamedTuple):
    """Parts of the loss, means over a batch: `total` is what is minimised."""

    total: Tensor
    labels: Tensor
    teacher: Tensor


class Distillation(nn.Module):
    """Cross-entropy of the labels, and `soft_loss` where there is a teacher.

    Args:
        distill_weight: of the teacher's probabilities, from 0 to 1; the labels have the rest.
        temperature: that softens both networks' probabilities; above 0.
        label_smoothing: share of a label that is spread over all classes, from 0 to below 1.
        class_weights: (K,), of unequal classes; None for 1.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        distill_weight: float,
        temperature: float,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= distill_weight <= 1:
            raise ValueError(f"distill_weight must be from 0 to 1, got {distill_weight}")
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be from 0 to below 1, got {label_smoothing}")
        self.distill_weight = distill_weight
        self.temperature = temperature
        self.by_labels = nn.CrossEntropyLoss(weight=class_weights, label_smoothing=label_smoothing)

    def forward(self, logits: Tensor, targets: Tensor, teacher_logits: Tensor | None = None) -> DistillLoss:
        """Parts of the loss of logits (B, K) for targets (B,) or (B, K), as `nn.CrossEntropyLoss` takes them."""
        by_labels = self.by_labels(logits, targets)
        if teacher_logits is None:
            return DistillLoss(by_labels, by_labels, logits.new_zeros(()))
        by_teacher = soft_loss(logits, teacher_logits, self.temperature)
        total = (1 - self.distill_weight) * by_labels + self.distill_weight * by_teacher
        return DistillLoss(total, by_labels, by_teacher)


def soft_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy against the teacher's softened probabilities on the same pixels, less their entropy.

    Hinton et al., arXiv 1503.02531, section 2: multiplied by the temperature squared, so that the gradient keeps its
    size whatever the temperature.
    """
    theirs = F.log_softmax(teacher_logits / temperature, dim=1)
    mine = F.log_softmax(logits / temperature, dim=1)
    return temperature**2 * F.kl_div(mine, theirs, reduction="batchmean", log_target=True)
