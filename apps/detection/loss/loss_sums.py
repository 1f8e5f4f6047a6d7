"""The result of all losses: sums, and their divisor."""

from typing import NamedTuple

import torch
from torch import Tensor


class LossSums(NamedTuple):
    """Sums over the anchors of a batch, which are added over batches and processes; the loss is sum / divisor.

    Attributes:
        classification, box: the parts of the loss, scalars.
        divisor: the number of positive anchors, or the sum of their qualities, without gradient; to be clamped to at
            least 1, for batches without objects.
        teacher: the teacher's part; None without one.
    """

    classification: Tensor
    box: Tensor
    divisor: Tensor
    teacher: Tensor | None = None

    @property
    def sums(self) -> Tensor:
        """(3,) or, with a teacher, (4,): the total and its parts; the gradient is that of the first."""
        parts = (
            (self.classification, self.box) if self.teacher is None else (self.classification, self.box, self.teacher)
        )
        return torch.stack((sum(parts[1:], parts[0]), *parts))
