"""Colours, curves and noise of the moths and their background.

Colours are RGB, 0 to 255. Letters: N points of an outline or a path, h w height and width in pixels.
"""

from functools import lru_cache

import cv2
import numpy as np

from apps.common.drawing.curves import Rng

BLACK, WHITE = (16.0, 13.0, 14.0), (255.0, 252.0, 244.0)
TILE = 512  # pixels


def along(path: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Points (N, 2) at `where` (N,) in [0, 1] of a path's length; beyond its ends it is extended straight."""
    steps = np.hypot(*np.diff(path, axis=0).T)
    at = np.concatenate([[0], np.cumsum(steps)]) / steps.sum()
    inside = np.clip(where, 0, 1)
    points = np.stack([np.interp(inside, at, path[:, 0]), np.interp(inside, at, path[:, 1])], 1)
    first, last = (path[1] - path[0]) / (at[1] - at[0]), (path[-1] - path[-2]) / (at[-1] - at[-2])
    return points + np.minimum(where, 0)[:, None] * first + np.maximum(where - 1, 0)[:, None] * last


def ribbon(path: np.ndarray, widths: float | np.ndarray) -> np.ndarray:
    """Outline (2N, 2) of a path drawn with the given half widths, one number or N."""
    ahead = np.gradient(path, axis=0)
    ahead /= np.hypot(*ahead.T)[:, None] + 1e-9
    wide = ahead[:, ::-1] * (-1, 1) * np.broadcast_to(widths, len(path))[:, None]
    return np.concatenate([path + wide, (path - wide)[::-1]])


@lru_cache
def noise_tile(kind: str = "cloud") -> np.ndarray:
    """A tile of values in [0, 1], float32, the same in every process.

    "cloud": several octaves; "grain": per pixel, normal around 0.5; "fibre": clouds drawn out downwards eightfold;
    "cell": bright lines between cells.
    """
    rng = np.random.default_rng(sum(kind.encode()))
    if kind == "grain":
        return np.clip(rng.normal(0.5, 0.17, (TILE, TILE)), 0, 1).astype(np.float32)
    if kind == "fibre":
        return cv2.resize(noise_tile()[: TILE // 8], (TILE, TILE))
    if kind == "cell":
        far = np.ones((TILE, TILE), np.uint8)
        y, x = rng.integers(0, TILE, (2, 420))
        far[y, x] = 0
        distance = cv2.distanceTransform(far, cv2.DIST_L2, 5)
        return np.clip(distance / 18, 0, 1)
    total = np.zeros((TILE, TILE), np.float32)
    for order, cells in enumerate((4, 8, 16, 32, 64, 128)):
        coarse = rng.normal(size=(cells, cells)).astype(np.float32)
        total += 0.58**order * cv2.resize(coarse, (TILE, TILE), interpolation=cv2.INTER_CUBIC)
    return np.clip(0.5 + total / (4 * np.std(total)), 0, 1)


def noise_crop(rng: Rng, height: int, width: int, kind: str = "cloud") -> np.ndarray:
    """A window (h, w) of a noise tile at a random place."""
    tile = noise_tile(kind)
    y, x = rng.integers(tile.shape[0] - height), rng.integers(tile.shape[1] - width)
    return tile[y : y + height, x : x + width]
