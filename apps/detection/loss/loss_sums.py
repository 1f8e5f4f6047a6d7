"""The result of both losses: sums, and their divisor."""

from typing import NamedTuple

import torch
from torch import Tensor


class LossSums(NamedTuple):
    """Sums over the anchors of a batch. Those of several batches and processes add up; the loss is sum / divisor.

    Attributes:
        classification, box: the two parts of the loss, scalars.
        divisor: what to divide by: the positive anchors, or the sum of their qualities, without gradient; divide by at
            least 1, so that batches without objects divide by no zero.
    """

    classification: Tensor
    box: Tensor
    divisor: Tensor

    @property
    def sums(self) -> Tensor:
        """(3,), the whole, classification and box; the first is to go backward from."""
        return torch.stack((self.classification + self.box, self.classification, self.box))
