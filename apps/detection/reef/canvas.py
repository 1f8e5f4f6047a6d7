"""Drawing tools of the reef: colours, curves, and the canvas of one object with its paint and lighting.

Colours are RGB, 0 to 255. An object's coordinates are about [-1, 1] x [-1, 1], x to the right and y down; its canvas
rotates, mirrors and squeezes it when converting to pixels. Letters: S side of the canvas, N points of an outline or a
path.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from apps.common.drawing.curves import Colour, Rng, pick, rgb, shifted, ticks
from apps.detection.reef.noise import noise_crop

Palette = tuple[Colour, Colour, Colour]  # base, second, accent

BLACK, WHITE = (12.0, 12.0, 20.0), (255.0, 252.0, 244.0)
UP = -math.pi / 2  # a heading
NORMAL = np.array([-1.0, 1.0])

REACH = 1.22  # half the canvas in the object's units: room for parts outside [-1, 1]

# A palette by the name of its base colour: base, second, accent.
PALETTES = {
    "orange": ("f26b38", "fff1d6", "5a1f14"), "blue": ("2f6fdc", "ffd23f", "0d1b4c"),
    "red": ("c8283c", "fbe9e1", "3d0a18"), "green": ("2fa36b", "f2d16b", "0f3b2e"),
    "violet": ("8d4fd3", "ff9ecb", "2c1152"), "turquoise": ("23b5b0", "12355b", "eafff8"),
    "yellow": ("f7d038", "20232e", "ffffff"), "pink": ("f478a6", "8c1d5c", "fff0f5"),
    "cream": ("efe6d2", "7a4b2b", "c98f52"), "teal": ("147a88", "ff8f3f", "d7fff4"),
    "slate": ("3a3f4e", "63e0e8", "f6f6f6"), "lilac": ("c3a6f2", "4a2382", "fff6b8"),
    "rust": ("b5512a", "f0d3a2", "40180c"), "lime": ("9bcf3c", "1f5b33", "f9ffd6"),
    "white": ("e8eef4", "4a83c4", "f08a4b"), "salmon": ("fa9a85", "7d1f35", "ffe7c9"),
    "gold": ("e0a526", "7c2f12", "fff3c4"), "olive": ("5a7d3a", "d9c27a", "26331a"),
}  # fmt: skip
VIVID, DULL = (0.85, 1.15), (0.15, 0.45)  # range of the factor on saturation


def make_palette(rng: Rng, usual: tuple[str, ...] = (), *, strength: tuple[float, float] = VIVID) -> Palette:
    """One of the `usual` palettes (or of all), with hue, strength and brightness shifted a little."""
    names = usual or tuple(PALETTES)
    shift, saturated, light = rng.normal(0, 0.02), rng.uniform(*strength), rng.uniform(0.88, 1.06)
    colours = [shifted(rgb(code), shift, saturated, light) for code in PALETTES[pick(rng, names)]]
    return colours[0], colours[1], colours[2]


def bent(
    x: float, y: float, heading: float, length: float, *, curl: float | np.ndarray = 0.0, num: int = 16
) -> np.ndarray:
    """Path (num, 2) that starts at (x, y) towards `heading` and turns by `curl` radians; an array: as it goes."""
    angles = heading + (curl if isinstance(curl, np.ndarray) else curl * ticks(num))
    path = np.empty((num, 2))
    path[0] = x, y
    path[1:, 0], path[1:, 1] = np.cos(angles[:-1]), np.sin(angles[:-1])
    path[1:] *= length / (num - 1)
    return np.cumsum(path, axis=0, out=path)


def across(path: np.ndarray) -> np.ndarray:
    """Unit normals (N, 2) of a path."""
    along = np.empty_like(path)
    along[1:-1] = path[2:] - path[:-2]
    along[0], along[-1] = path[1] - path[0], path[-1] - path[-2]
    along /= np.sqrt(np.einsum("ij,ij->i", along, along) + 1e-18)[:, None]
    return along[:, ::-1] * NORMAL


@dataclass(frozen=True)
class Region:
    """The pixels inside an outline: the window that holds them, a mask in it, and the object's coordinates there."""

    window: tuple[slice, slice]
    mask: np.ndarray
    u: np.ndarray
    v: np.ndarray


class Sprite:
    """The canvas of one object, `finer` times as wide as the final object, for antialiasing.

    `pixels` (S, S, 4) uint8 holds red, green, blue and the height above the ground, from which `render` computes the
    light; height 0 is transparent.
    """

    def __init__(
        self, side: int, finer: int, rng: Rng, *, turn: float = 0.0, mirror: bool = False, squash: float = 1.0
    ) -> None:
        self.side, self.finer, self.rng = side * finer, finer, rng
        self.pixels = np.zeros((self.side, self.side, 4), np.uint8)
        self.glass: list[tuple[np.ndarray, float]] = []  # translucent outlines and their opacity
        self.scale = self.side / (2 * REACH)
        cos, sin, flip = math.cos(turn), math.sin(turn), -1.0 if mirror else 1.0
        pose = self.scale * np.array([[cos * flip, sin * flip], [-sin * squash, cos * squash]])
        self.to_fixed, self.inverse = 16 * pose, np.linalg.inv(pose)

    def fixed(self, points: object) -> np.ndarray:
        """Pixel coordinates (N, 2) int32 with 4 fractional bits."""
        return (np.asarray(points) @ self.to_fixed + 8 * self.side).astype(np.int32)

    def fill(self, outline: object, colour: Colour, height: float = 0.6) -> None:
        """Fill an outline (N, 2), or a list of outlines that do not overlap."""
        outlines = outline if isinstance(outline, list) else [outline]
        cv2.fillPoly(self.pixels, [self.fixed(one) for one in outlines], (*colour, 255 * height), shift=4)

    def stroke(
        self, path: np.ndarray, widths: float | np.ndarray, colour: Colour, height: float = 0.6, *, loops: bool = False
    ) -> None:
        """Draw a path (N, 2) as a band of the given half widths, one number or N. `loops`: it may cross itself."""
        wide = across(path) * (widths[:, None] if isinstance(widths, np.ndarray) else widths)
        outline, num = self.fixed(np.concatenate([path + wide, (path - wide)[::-1]])), len(path)
        step = 5 if loops else num
        for start in range(0, num - 1, step):  # in pieces, or a crossing would leave a hole
            stop = min(start + step + 1, num)
            piece = np.concatenate([outline[start:stop], outline[2 * num - stop : 2 * num - start]])
            cv2.fillPoly(self.pixels, [piece], (*colour, 255 * height), shift=4)

    def lines(self, paths: object, width: float, colour: Colour, height: float = 0.6) -> None:
        """Draw thin lines of one half width along paths (N, 2)."""
        thickness = max(1, round(2 * width * self.scale))
        fixed = [self.fixed(path) for path in paths]  # type: ignore[attr-defined]
        cv2.polylines(self.pixels, fixed, False, (*colour, 255 * height), thickness, cv2.LINE_8, 4)

    def dots(self, centres: object, radii: float | np.ndarray, colour: Colour, height: float = 0.6) -> None:
        """Draw round dots at the centres (N, 2), with one radius or N."""
        fixed, paint = self.fixed(centres).tolist(), (*colour, 255 * height)
        sizes = radii.tolist() if isinstance(radii, np.ndarray) else [radii] * len(fixed)
        for centre, size in zip(fixed, sizes, strict=True):
            cv2.circle(self.pixels, centre, int(16 * self.scale * size), paint, -1, cv2.LINE_8, 4)

    def inside(self, outline: np.ndarray) -> Region:
        """The region of an outline (N, 2)."""
        fixed = self.fixed(outline)
        left, top = np.clip(fixed.min(0) // 16, 0, self.side - 1).tolist()
        right, bottom = np.clip(fixed.max(0) // 16 + 1, 1, self.side).tolist()
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(mask, [fixed - np.array([16 * left, 16 * top], np.int32)], (1,), shift=4)
        x = np.arange(left, right, dtype=np.float32)[None] + np.float32(0.5 - self.side / 2)
        y = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5 - self.side / 2)
        (a, b), (c, d) = self.inverse.tolist()
        return Region((slice(top, bottom), slice(left, right)), mask, a * x + c * y, b * x + d * y)

    def tint(self, region: Region, weight: np.ndarray, colour: Colour) -> None:
        """Mix a colour into a region by a weight in [0, 1]; height and cover stay."""
        share = (weight * region.mask).astype(np.float32)
        patch = np.ascontiguousarray(self.pixels[region.window][..., :3])
        paint = np.empty_like(patch)
        paint[:] = np.array(colour, np.uint8)
        self.pixels[region.window][..., :3] = cv2.blendLinear(patch, paint, 1 - share, share)

    def pattern(self, outline: np.ndarray, colour: Colour, accent: Colour, *, kind: str = "") -> None:
        """Paint bands, spots, blotches or a blend of two colours into an outline, or leave it plain, at random."""
        rng = self.rng
        kind = kind or pick(rng, ("plain", "bands", "spots", "blotches", "blend"))
        if kind == "plain":
            return
        region = self.inside(outline)
        u, v = region.u, region.v
        cloud = noise_crop(rng, *region.mask.shape)
        angle = pick(rng, (0.0, math.pi / 2, rng.uniform(0, math.pi)))
        along, count = u * math.cos(angle) + v * math.sin(angle), rng.uniform(7, 15)
        if kind == "bands":
            wave = np.sin(count * along + rng.uniform(0, 6) + pick(rng, (0.8, 4.0)) * cloud)
            weight = np.clip(4 * (wave - rng.uniform(-0.1, 0.5)), 0, 1)
        elif kind == "spots":
            aside, warp = v * math.cos(angle) - u * math.sin(angle), 3 * cloud
            wave = np.sin(1.4 * count * along + warp) * np.sin(1.4 * count * aside + warp)
            weight = np.clip(6 * (np.abs(wave) - rng.uniform(0.4, 0.6)), 0, 1)
        elif kind == "blotches":
            weight = np.clip(9 * (cloud - rng.uniform(0.45, 0.62)), 0, 1)
        else:
            lean = pick(rng, (-1, 1)) * rng.uniform(0.8, 1.6)
            weight = np.clip(0.25 + lean * along + 0.5 * cloud, 0, 1)
        self.tint(region, weight * rng.uniform(0.75, 1), accent if rng.random() < 0.2 else colour)

    def eye(self, x: float, y: float, radius: float, white: Colour = (245, 245, 235)) -> None:
        """An eyeball with a pupil and a glint."""
        self.dots([(x, y)], radius, white, 0.9)
        self.dots([(x + 0.15 * radius, y)], 0.64 * radius, (14, 14, 22), 0.95)
        self.dots([(x - 0.1 * radius, y - 0.25 * radius)], 0.22 * radius, WHITE, 1.0)

    def render(self, light_xy: tuple[float, float], gloss: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
        """Scale down by `finer`, and light the relief from the direction `light_xy`.

        Returns colour (3, h, w) float32 in [0, 255] and cover (h, w) float32 in [0, 1], cut to what is covered.
        """
        _, alpha = cv2.threshold(cv2.extractChannel(self.pixels, 3), 0, 255, cv2.THRESH_BINARY)
        x, y, width, height = cv2.boundingRect(alpha)
        left, top, right, bottom = x // self.finer, y // self.finer, x + width, y + height
        size = -(-right // self.finer) - left, -(-bottom // self.finer) - top
        window = (
            slice(top * self.finer, (top + size[1]) * self.finer),
            slice(left * self.finer, (left + size[0]) * self.finer),
        )
        solid = cover = cv2.resize(alpha[window], size, interpolation=cv2.INTER_AREA)
        if self.glass:
            for outline, amount in self.glass:
                cv2.fillPoly(alpha, [self.fixed(outline)], (255 * amount,), shift=4)
            cover = cv2.resize(alpha[window], size, interpolation=cv2.INTER_AREA)
        *planes, heights = cv2.split(cv2.resize(self.pixels[window], size, interpolation=cv2.INTER_AREA))
        shade, shine = self.light(heights.astype(np.float32) / 255, light_xy)
        shade *= 255 / np.maximum(solid, 4)  # undrawn pixels are black: exclude them from the colour at the edges
        colour = np.stack([plane * shade + gloss * shine for plane in planes])
        return np.clip(colour, 0, 255, out=colour), cover.astype(np.float32) / 255

    def light(self, heights: np.ndarray, light_xy: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """Diffuse brightness of a relief (h, w), around 1, and its specular light, in [0, 255]."""
        scale = self.side / self.finer / 90
        broad, border = max(3, round(12 * scale)) | 1, cv2.BORDER_CONSTANT  # there is nothing around it
        mound = cv2.blur(heights, (broad, broad), borderType=border)
        mound = cv2.blur(mound, (broad, broad), borderType=border)
        relief = 0.4 * cv2.GaussianBlur(heights, (0, 0), max(0.6, scale), borderType=border) + 1.3 * mound
        slope = cv2.Sobel(relief, cv2.CV_32F, 1, 0) * light_xy[0] + cv2.Sobel(relief, cv2.CV_32F, 0, 1) * light_xy[1]
        slope *= scale
        facing = -slope / (1 + np.abs(slope))
        shade = 0.72 + 0.38 * np.minimum(1.6 * mound, 1) + 0.42 * facing
        shade *= 0.9 + 0.2 * noise_crop(self.rng, *relief.shape)
        return shade, 560 * np.maximum(facing - 0.3, 0) ** 2
