"""Anchors (the SSD paper's default boxes), laid out as the TensorFlow Object Detection API does for MobileNet V1.

Liu et al., "SSD: Single Shot MultiBox Detector", arXiv 1512.02325, section 2.2; layout of
`multiple_grid_anchor_generator.py` with `reduce_boxes_in_lowest_layer`.

Letters in shapes: A anchors.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

MIN_SCALE, MAX_SCALE = 0.2, 0.95  # of the finest and the coarsest level, in image sides
ASPECT_RATIOS = (1.0, 2.0, 1 / 2, 3.0, 1 / 3)  # width to height
# The finest level keeps three anchors: a small square and two elongated ones.
FINEST_LEVEL = ((0.1, 1.0), (MIN_SCALE, 2.0), (MIN_SCALE, 1 / 2))


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


def make_anchors(grid_sizes_hw: Sequence[tuple[int, int]]) -> Tensor:
    """Anchors of all cells of all levels, in image sides, so that they hold for any resolution.

    Args:
        grid_sizes_hw: height and width of each level's feature map, finest first.

    Returns:
        (A, 4) float32, centre x, centre y, width, height, 0 to 1. Levels follow each other; in a level rows, then
        columns, then the shapes of `level_shapes`: the order of the predictors' outputs.
    """
    levels = []
    for (height, width), shapes in zip(grid_sizes_hw, level_shapes(len(grid_sizes_hw)), strict=True):
        y = (torch.arange(height, dtype=torch.float64) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float64) + 0.5) / width
        sizes = torch.tensor([(scale * ratio**0.5, scale / ratio**0.5) for scale, ratio in shapes], dtype=torch.float64)
        cells = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)  # (H, W, 2)
        cells = cells[:, :, None].expand(height, width, len(shapes), 2)
        levels.append(torch.cat((cells, sizes.expand(height, width, -1, 2)), dim=-1).reshape(-1, 4))
    return torch.cat(levels).float()
