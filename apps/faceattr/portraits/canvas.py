"""Drawing tools of the portraits: random streams, colours, curves, and a canvas for flat shapes and soft shades.

Colours are RGB, 0 to 255. A portrait is drawn in units of half a face's width: the origin between the eyes, x to the
right, y down, the chin near y = 1.2, the shoulders from y = 1.6. Letters: S side of the canvas, N points of an outline
or a path.
"""

import math
import zlib
from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np

from apps.common.drawing import curves
from apps.common.drawing.curves import Colour, Rng, rgb, shifted

BLACK, WHITE = (30.0, 26.0, 32.0), (253.0, 250.0, 244.0)
NORMAL = np.array([-1.0, 1.0])
MIRROR = np.array([-1.0, 1.0])

ellipse, curve = partial(curves.ellipse, num=28), partial(curves.curve, num=13)  # finer than the other sets need


class Chance:
    """A stream of random numbers for each part of a drawing, so that the parts are independent."""

    def __init__(self, *key: int) -> None:
        self.key = key

    def of(self, part: str) -> Rng:
        """The stream of one part, from its beginning."""
        return np.random.default_rng((*self.key, zlib.crc32(part.encode())))


def palette(codes: str) -> list[Colour]:
    """Several of them, separated by spaces."""
    return [rgb(code) for code in codes.split()]


def varied(colour: Colour, rng: Rng, *, hue: float = 0.015, strength: float = 0.12, light: float = 0.08) -> Colour:
    """A colour with slightly changed hue, saturation and brightness."""
    saturation, value = (1 - strength, 1 + strength), (1 - light, 1 + light)
    return shifted(colour, rng.uniform(-hue, hue), rng.uniform(*saturation), rng.uniform(*value))


def luminance(colour: Colour) -> float:
    """How bright a colour is, 0 to 255."""
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def mirrored(right: object) -> np.ndarray:
    """An outline from its right half, given from top to bottom."""
    half = np.asarray(right, np.float64)
    return np.concatenate([half, half[::-1] * MIRROR])


def normals(path: np.ndarray) -> np.ndarray:
    """Unit normals (N, 2) of a path."""
    along = np.gradient(path, axis=0)
    along /= np.sqrt(np.einsum("ij,ij->i", along, along) + 1e-18)[:, None]
    return along[:, ::-1] * NORMAL


def ribbon(path: np.ndarray, widths: float | np.ndarray) -> np.ndarray:
    """Outline of a band along a path (N, 2) with the given half widths, one number or N."""
    wide = normals(path) * np.broadcast_to(widths, len(path))[:, None]
    return np.concatenate([path + wide, (path - wide)[::-1]])


def resampled(path: np.ndarray, step: float) -> np.ndarray:
    """The same path with points about `step` apart."""
    length = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(path, axis=0).T))])
    at = np.linspace(0, length[-1], max(2, round(length[-1] / step)))
    return np.stack([np.interp(at, length, path[:, 0]), np.interp(at, length, path[:, 1])], 1)


class Canvas:
    """A square picture, drawn `finer` times as large as the result, for antialiasing.

    Attributes:
        pixels: (S, S, 3) uint8 RGB.
        pose: (3, 2), maps points (N, 2) with an appended 1 to pixels; set before drawing.
    """

    def __init__(self, side: int, finer: int) -> None:
        self.side, self.finer = side * finer, finer
        self.pixels = np.zeros((self.side, self.side, 3), np.uint8)
        self.pose = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])

    def placed(self, points: object) -> np.ndarray:
        """The positions of points (N, 2) on the canvas, in pixels."""
        return np.asarray(points, np.float64) @ self.pose[:2] + self.pose[2]

    def fixed(self, points: object) -> np.ndarray:
        """Pixel coordinates (N, 2) int32 with 4 fractional bits."""
        return (16 * self.placed(points)).astype(np.int32)

    @property
    def scale(self) -> float:
        """Pixels per unit."""
        return math.hypot(*self.pose[0])

    def fill(self, outline: object, colour: Colour) -> None:
        """Fill an outline (N, 2)."""
        cv2.fillPoly(self.pixels, [self.fixed(outline)], colour, cv2.LINE_AA, 4)

    def lines(self, paths: Sequence[np.ndarray], width: float, colour: Colour, *, closed: bool = False) -> None:
        """Draw lines of one width along paths (N, 2)."""
        thickness = max(1, round(width * self.scale))
        cv2.polylines(self.pixels, [self.fixed(path) for path in paths], closed, colour, thickness, cv2.LINE_AA, 4)

    def dots(self, centres: object, radius: float, colour: Colour) -> None:
        """Draw round dots at the centres (N, 2)."""
        for centre in self.fixed(centres).tolist():
            cv2.circle(self.pixels, centre, int(16 * self.scale * radius), colour, -1, cv2.LINE_AA, 4)

    def mask(self, *outlines: object) -> np.ndarray:
        """(S, S) uint8, 255 inside any of the outlines."""
        mask = np.zeros((self.side, self.side), np.uint8)
        for outline in outlines:
            cv2.fillPoly(mask, [self.fixed(outline)], (255,), cv2.LINE_AA, 4)
        return mask

    def shade(
        self, outline: object, colour: Colour, amount: float, *, blur: float = 0.0, within: np.ndarray | None = None
    ) -> None:
        """Blend a colour into an outline: `amount` (0 to 1) of it in the middle, fading over `blur` at the border.

        Args:
            within: a `mask`; nothing outside it changes.
        """
        fixed, reach = self.fixed(outline), max(1, round(blur * self.scale / 2)) if blur else 0
        left, top = np.clip(fixed.min(0) // 16 - 2 * reach, 0, self.side).tolist()
        right, bottom = np.clip(fixed.max(0) // 16 + 2 * reach + 2, 0, self.side).tolist()
        if right <= left or bottom <= top:
            return
        cover = np.zeros((bottom - top, right - left), np.uint8)
        origin = np.array([16 * left, 16 * top], np.int32)
        cv2.fillPoly(cover, [fixed - origin], (255 * amount,), cv2.LINE_AA, 4)
        if reach:
            size = (2 * reach + 1, 2 * reach + 1)
            cover = cv2.blur(cv2.blur(cover, size), size)
        window = slice(top, bottom), slice(left, right)
        if within is not None:
            cover = cv2.multiply(cover, within[window], scale=1 / 255)
        share = cover.astype(np.float32) * np.float32(1 / 255)
        patch = np.ascontiguousarray(self.pixels[window])
        paint = np.empty_like(patch)
        paint[:] = np.array(colour, np.uint8)
        self.pixels[window] = cv2.blendLinear(patch, paint, 1 - share, share)
