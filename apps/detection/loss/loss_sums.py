"""The result of both losses: sums, and their divisor."""

from typing import NamedTuple

import torch
from torch import Tensor


class LossSums(NamedTuple):
    """Sums over the anchors of a batch, which are added over batches and processes; the loss is sum / divisor.

    Attributes:
        classification, box: the two parts of the loss, scalars.
        divisor: the number of positive anchors, or the sum of their qualities, without gradient; to be clamped to at
            least 1, for batches without objects.
    """

    classification: Tensor
    box: Tensor
    divisor: Tensor

    @property
    def sums(self) -> Tensor:
        """(3,): the total, classification and box; the gradient is that of the first."""
        return torch.stack((self.classification + self.box, self.classification, self.box))
