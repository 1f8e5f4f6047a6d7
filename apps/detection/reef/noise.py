"""Noise textures of the reef: tiles drawn once in each process, the same in all of them."""

from functools import lru_cache

import cv2
import numpy as np

from apps.common.drawing.curves import Rng

TILE = 512  # pixels


@lru_cache
def noise_tile(kind: str = "cloud", side: int = TILE) -> np.ndarray:
    """A tile (side, side) float32 of values in [0, 1], the same in every process.

    "cloud": several octaves; "grain": per pixel, normal around 0.5; "web": thin bright lines, as light under waves.
    """
    rng = np.random.default_rng(sum(kind.encode()))
    if kind == "grain":
        return np.clip(rng.normal(0.5, 0.17, (side, side)), 0, 1).astype(np.float32)
    if kind == "web":
        return np.clip(0.85 * make_web(rng, side, 34) + 0.45 * make_web(rng, side, 20), 0, 1)
    total = np.zeros((side, side), np.float32)
    for order, cells in enumerate((4, 8, 16, 32, 64)):
        coarse = rng.normal(size=(cells, cells)).astype(np.float32)
        total += 0.55**order * cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.clip(0.5 + total / (3.6 * np.std(total)), 0, 1)


def make_web(rng: Rng, side: int, cell: int) -> np.ndarray:
    """The borders of cells of about `cell` pixels around random points, bent and soft: (side, side) float32."""
    far = np.ones((side, side), np.uint8)
    y, x = rng.integers(0, side, (2, (side // cell) ** 2))
    far[y, x] = 0
    _, owner = cv2.distanceTransformWithLabels(far, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    owner = owner.astype(np.float32)
    inner = (cv2.dilate(owner, np.ones((3, 3))) == cv2.erode(owner, np.ones((3, 3)))).astype(np.uint8)
    lines = np.exp(-0.45 * cv2.distanceTransform(inner, cv2.DIST_L2, 5))
    bend = [
        cv2.resize(rng.normal(0, 6, (24, 24)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
        for _ in "xy"
    ]
    grid = np.arange(side, dtype=np.float32)
    return cv2.remap(
        lines, grid[None] + bend[0], grid[:, None] + bend[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )


def noise_crop(rng: Rng, height: int, width: int, kind: str = "cloud") -> np.ndarray:
    """A window of a noise tile at a random place; of a coarser one, if the window is larger than the tile."""
    tile = noise_tile(kind)
    while max(height, width) >= len(tile):
        tile = cv2.resize(tile, None, fx=2, fy=2)
    y, x = rng.integers(tile.shape[0] - height), rng.integers(tile.shape[1] - width)
    return tile[y : y + height, x : x + width]


def folded(position: np.ndarray) -> np.ndarray:
    """Map any position into a tile, reflected at its borders, so that the tile repeats without a seam."""
    return np.abs((position + (TILE - 1)) % (2 * TILE - 2) - (TILE - 1))
