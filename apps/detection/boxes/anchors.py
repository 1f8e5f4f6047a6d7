"""Anchors (the SSD paper's default boxes), in the layout of the TensorFlow Object Detection API for MobileNet V1.

Liu et al., "SSD: Single Shot MultiBox Detector", arXiv 1512.02325, section 2.2; layout of
`multiple_grid_anchor_generator.py` with `reduce_boxes_in_lowest_layer`.

Letters in shapes: A anchors, N boxes.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

MIN_SCALE, MAX_SCALE = 0.2, 0.95  # of the finest and the coarsest level, in image sides
ASPECT_RATIOS = (1.0, 2.0, 1 / 2, 3.0, 1 / 3)  # width to height
# The finest level keeps three anchors: a small square and two elongated ones.
FINEST_LEVEL = ((0.1, 1.0), (MIN_SCALE, 2.0), (MIN_SCALE, 1 / 2))
MAX_BOXES = 50_000  # largest number of boxes that anchors are fitted to; of more, a sample
FIT_ROUNDS = 50
Shapes = Sequence[Sequence[Sequence[float]]]  # (scale, aspect ratio) of each anchor at a cell of each level


class Fitted(NamedTuple):
    """Shapes fitted to a number of boxes, and the boxes' mean IoU with the best shape before and after the fit."""

    shapes: Shapes
    num_boxes: int
    iou_before: float
    iou_after: float

    @property
    def summary(self) -> str:
        """The fit in one sentence."""
        return (
            f"anchors are fitted to {self.num_boxes:,} boxes: their mean IoU with the best shape is "
            f"{self.iou_after:.3f}, with the reference's {self.iou_before:.3f}"
        )


def level_shapes(num_levels: int) -> tuple[tuple[tuple[float, float], ...], ...]:
    """(scale, aspect ratio) of each anchor at a cell of each level, finest level first.

    Scales go linearly from 0.2 to 0.95 of the image side. A level has its scale in five aspect ratios, and one more
    square whose scale is the geometric mean with the next level's.
    """
    step = (MAX_SCALE - MIN_SCALE) / (num_levels - 1)
    scales = [MIN_SCALE + step * level for level in range(num_levels)] + [1.0]
    coarser = tuple(
        (*((scale, ratio) for ratio in ASPECT_RATIOS), ((scale * after) ** 0.5, 1.0))
        for scale, after in pairwise(scales[1:])
    )
    return (FINEST_LEVEL, *coarser)


def fit_shapes(sizes_wh: Tensor, *, num_levels: int, seed: int) -> Fitted:
    """Fit shapes to boxes, with as many per level as the reference, so that the network stays the same.

    k-means with the distance 1 - IoU (YOLO9000, arXiv 1612.08242, section 2), initialised with the reference's shapes:
    each moves to the mean of the boxes assigned to it and keeps its level; one without boxes keeps its shape. The best
    iteration is returned.

    Args:
        sizes_wh: (N, 2) width and height of boxes, in image sides.
        seed: of the random sample if there are more than 50,000 boxes.

    Raises:
        ValueError: there is no box.
    """
    if not len(sizes_wh):
        raise ValueError("--fit-anchors: the training images have no boxes to fit to")
    generator = torch.Generator().manual_seed(seed)
    sizes = sizes_wh[torch.randperm(len(sizes_wh), generator=generator)[:MAX_BOXES]].double()
    reference = level_shapes(num_levels)
    centres = torch.cat([_widths_heights(level) for level in reference])
    rounds = []
    for _ in range(FIT_ROUNDS):
        iou, nearest = _shape_iou(sizes, centres).max(dim=1)
        rounds.append((iou.mean().item(), centres))
        sums = torch.zeros_like(centres).index_add_(0, nearest, sizes)
        counts = nearest.bincount(minlength=len(centres))[:, None]
        centres = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
    iou_after, centres = max(rounds, key=lambda one: one[0])
    flat = [(round((w * h) ** 0.5, 6), round(w / h, 6)) for w, h in centres.tolist()]
    ends = torch.tensor([0, *map(len, reference)]).cumsum(0).tolist()
    return Fitted([flat[start:end] for start, end in pairwise(ends)], len(sizes), rounds[0][0], iou_after)


def make_anchors(grid_sizes_hw: Sequence[tuple[int, int]], shapes: Shapes | None = None) -> Tensor:
    """Anchors of all cells of all levels, in image sides, so that they are valid for any resolution.

    Args:
        grid_sizes_hw: height and width of each level's feature map, finest first.
        shapes: of each level; None for `level_shapes`, the reference's.

    Returns:
        (A, 4) float32, centre x, centre y, width, height, 0 to 1. Levels follow each other; in a level rows, then
        columns, then the shapes of `level_shapes`: the order of the predictors' outputs.
    """
    levels = []
    for (height, width), level in zip(grid_sizes_hw, shapes or level_shapes(len(grid_sizes_hw)), strict=True):
        y = (torch.arange(height, dtype=torch.float64) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float64) + 0.5) / width
        sizes = _widths_heights(level)
        cells = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)  # (H, W, 2)
        cells = cells[:, :, None].expand(height, width, len(level), 2)
        levels.append(torch.cat((cells, sizes.expand(height, width, -1, 2)), dim=-1).reshape(-1, 4))
    return torch.cat(levels).float()


def _widths_heights(level: Sequence[Sequence[float]]) -> Tensor:
    """(scale, aspect ratio) of a level's shapes to (len, 2) float64."""
    return torch.tensor([(scale * ratio**0.5, scale / ratio**0.5) for scale, ratio in level], dtype=torch.float64)


def _shape_iou(sizes: Tensor, others: Tensor) -> Tensor:
    """IoU (N, A) of boxes (N, 2) and (A, 2) of width and height around one centre."""
    intersection = torch.minimum(sizes[:, None], others).prod(dim=2)
    return intersection / (sizes.prod(dim=1)[:, None] + others.prod(dim=1) - intersection)
