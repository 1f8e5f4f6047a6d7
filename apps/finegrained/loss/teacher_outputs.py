"""A teacher and its outputs for a batch."""

from pathlib import Path

import torch
from torch import Tensor

from apps.finegrained.data.mix import Mix
from apps.finegrained.model.classifier import Classifier


def load_teacher(folder: Path, student: Classifier, device: torch.device) -> Classifier:
    """A classifier to learn from, in eval mode.

    Raises:
        ValueError: it is none of this app, or has other classes than the student.
    """
    teacher = Classifier.load(folder, device=device)
    if teacher.class_names != student.class_names:
        other = sorted(set(teacher.class_names) ^ set(student.class_names))[:5]
        raise ValueError(f"--teacher {folder} has other classes than the data: {', '.join(other) or 'another order'}")
    return teacher


@torch.no_grad()
def teacher_outputs(teacher: Classifier, images: Tensor, mix: Mix) -> Tensor:
    """The teacher's logits (B, K) of images (B, 3, H, W) uint8, mixed as the student's."""
    return teacher.network(mix.images(teacher.preprocessing(images))).float()
