"""Learning from a teacher's outputs instead of labels, or beside them (MobileNet paper, section 4.5).

Attributes are independent, so that the soft targets are sigmoids, not a softmax. A photo's loss is the sum over its
attributes: with their mean, more attributes would mean slower learning of each.

Letters in shapes: B batch, A attributes, F features.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apps.common.training.distributed import Processes
from apps.faceattr.data.listing import UNKNOWN


class DistillLoss(NamedTuple):
    """Parts of the loss: `total` is what is minimised."""

    total: Tensor
    labels: Tensor
    teacher: Tensor
    hint: Tensor


def count_known(labels: Tensor) -> Tensor:
    """How many of the labels (B, A) are not unknown: what `label_loss` divides by."""
    return (labels != UNKNOWN).sum()


def label_loss(logits: Tensor, labels: Tensor, processes: Processes = Processes()) -> Tensor:  # noqa: B008
    """Binary cross-entropy of logits (B, A) against labels (B, A) of 1, 0 or unknown: A times the mean over known ones.

    Without any known label it is 0, and so is its gradient. Known ones are counted in all of the `processes` over which
    gradients are averaged.
    """
    known = labels != UNKNOWN
    divisor = processes.mean(count_known(labels).float()).clamp(min=1 / processes.count)
    each = F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0).to(logits), reduction="none")
    return logits.shape[1] * (each * known).sum() / divisor


def teacher_loss(logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Binary cross-entropy of softened sigmoids, logits (B, A) against the teacher's logits (B, A), less its minimum.

    With s = sigmoid(z / T) for the student and t for the teacher, T^2 [BCE(s, t) - BCE(t, t)], summed over attributes,
    the mean over photos. The gradient of a photo's logit is T (s - t), which for a large T is (z - z_teacher) / 4
    whatever T: as Hinton et al. (arXiv 1503.02531, section 2) multiply by T^2, so that T does not change how much the
    labels weigh. T = 1 is the paper's way. 0 where the student equals the teacher.
    """
    targets = (teacher_logits / temperature).sigmoid()
    softened = F.binary_cross_entropy_with_logits(logits / temperature, targets)
    least = F.binary_cross_entropy_with_logits(teacher_logits / temperature, targets)
    return logits.shape[1] * temperature**2 * (softened - least)


class Distillation(nn.Module):
    """The loss of a student.

    Args:
        distill_weight: of the teacher's outputs, from 0 to 1; the labels have the rest. 1 is the paper's way.
        temperature: that softens both networks' sigmoids; above 0.
        hint_weight: of the mean squared difference between the teacher's pooled features and a linear map of the
            student's (FitNets, arXiv 1412.6550), both brought to mean 0 and variance 1 over the batch; 0 is off.
        features: F of student and teacher, needed for the hint.
        photo_share: of a batch, of the photos in all batches of a step.
        processes: see `label_loss`.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        *,
        distill_weight: float,
        temperature: float = 1.0,
        hint_weight: float = 0.0,
        features: tuple[int, int] | None = None,
        photo_share: float = 1.0,
        processes: Processes = Processes(),  # noqa: B008
    ) -> None:
        super().__init__()
        if not 0 <= distill_weight <= 1:
            raise ValueError(f"distill_weight must be from 0 (labels only) to 1 (no labels), got {distill_weight}")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        if hint_weight < 0:
            raise ValueError(f"hint_weight must be 0 (off) or more, got {hint_weight}")
        self.distill_weight = distill_weight
        self.temperature = temperature
        self.hint_weight = hint_weight
        self.photo_share = photo_share
        self.processes = processes
        self.to_teacher = nn.Linear(*features) if features and hint_weight else None

    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        teacher_logits: Tensor | None = None,
        *,
        features: tuple[Tensor, Tensor] | None = None,
        label_share: Tensor | float = 1.0,
    ) -> DistillLoss:
        """Parts of the loss of a batch.

        Args:
            logits: (B, A) of the student.
            labels: (B, A) of 1, 0 or -1 for unknown.
            teacher_logits: (B, A); None without a teacher.
            features: pooled (B, F) of student and teacher, for the hint.
            label_share: of this batch, of the known labels in all batches of the step.
        """
        zero = logits.new_zeros(())
        by_labels = label_share * label_loss(logits, labels, self.processes) if self.distill_weight < 1 else zero
        by_teacher = zero
        if teacher_logits is not None:
            by_teacher = self.photo_share * teacher_loss(logits, teacher_logits, self.temperature)
        hint = zero
        if self.to_teacher is not None and features is not None:
            hint = self.photo_share * F.mse_loss(
                _standardised(self.to_teacher(features[0])), _standardised(features[1])
            )
        total = (1 - self.distill_weight) * by_labels + self.distill_weight * by_teacher + self.hint_weight * hint
        return DistillLoss(total, by_labels, by_teacher, hint)


def _standardised(features: Tensor) -> Tensor:
    """Each of (B, F) with mean 0 and variance 1 over the batch."""
    variance, mean = torch.var_mean(features, dim=0, correction=0, keepdim=True)
    return (features - mean) / (variance + 1e-5).sqrt()
