"""The student's loss: labels and a teacher's softened probabilities."""

import torch
import torch.nn.functional as F
from torch import Tensor

from backbone.mobilenet_v1 import MobileNetV1


def soft_loss(logits: Tensor, teacher: MobileNetV1, images: Tensor, temperature: float) -> Tensor:
    """Cross-entropy against the teacher's softened probabilities on the same pixels, less their entropy.

    Hinton et al., arXiv 1503.02531, section 2: multiplied by the temperature squared, so that the gradient keeps its
    size whatever the temperature.
    """
    with torch.no_grad():
        taught = F.log_softmax(teacher(images).float() / temperature, dim=1)
    learnt = F.log_softmax(logits / temperature, dim=1)
    return temperature**2 * F.kl_div(learnt, taught, reduction="batchmean", log_target=True)
