"""Photos preprocessed for evaluation."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from apps.common.data.photos import evenly_spaced
from apps.common.images import stack_images

T = TypeVar("T")


class EvalSet(Dataset, Generic[T]):
    """The images (side, side, 3) uint8 RGB of `items` in their order, each given by `read`."""

    def __init__(self, items: Sequence[T], read: Callable[[T], np.ndarray]) -> None:
        self.items = items
        self.read = read

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(self.items[index])

    def some(self, most: int = 64) -> Tensor:
        """At most `most` images (B, 3, side, side) uint8, evenly spaced in the set."""
        return stack_images([self[i] for i in evenly_spaced(len(self), most)])
