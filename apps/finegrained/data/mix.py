"""Mixup and CutMix."""

import math
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from apps.common.training.sampling import Purpose, make_rng


class Mix(NamedTuple):
    """How the images of a batch are mixed with their neighbours in it: mixup, cutmix or not at all.

    Attributes:
        share: of an image's own pixels or area, and of its own label, from 0 to 1.
        box: (top, bottom, left, right) in image sides of what cutmix pastes; None for mixup.
    """

    share: float
    box: tuple[float, float, float, float] | None

    @classmethod
    def random(cls, seed: int, step: int, *, mixup: float, cutmix: float, side: int) -> "Mix":
        """Mixup (arXiv 1710.09412) or cutmix (1905.04899), each as often if both are wanted.

        Args:
            mixup, cutmix: alpha of the Beta distribution of the share; 0 for never.
            side: of the images in pixels, to which the box is rounded before its area is taken.
        """
        rng = make_rng(Purpose.MIX, seed, step)
        ways = {way: alpha for way, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha > 0}
        if not ways:
            return cls(1.0, None)
        way = list(ways)[int(rng.integers(len(ways)))]
        share = float(rng.beta(ways[way], ways[way]))
        if way == "mixup":
            return cls(share, None)
        half = math.sqrt(1 - share) / 2
        y, x = rng.random(2)
        top, left, bottom, right = (
            round(min(max(v, 0.0), 1.0) * side) / side for v in (y - half, x - half, y + half, x + half)
        )
        return cls(1 - (bottom - top) * (right - left), (top, bottom, left, right))

    def images(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), float, mixed."""
        if self.share == 1:
            return images
        others = images.roll(1, 0)
        if self.box is None:
            return images.lerp(others, 1 - self.share)
        height, width = images.shape[-2:]
        sides = (height, height, width, width)
        top, bottom, left, right = (round(v * side) for v, side in zip(self.box, sides, strict=True))
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
        return mixed

    def targets(self, labels: Tensor, num_classes: int) -> Tensor:
        """What the labels (B,) of the mixed images are: (B, K), each row sums to 1."""
        targets = F.one_hot(labels, num_classes).float()
        return targets if self.share == 1 else targets.lerp(targets.roll(1, 0), 1 - self.share)
