"""What the sample set is drawn with: one object's canvas in the object's own coordinates, its paint and its light.

Colours are RGB, 0 to 255. An object lives in about [-1, 1] x [-1, 1], x to the right and y down; the canvas turns,
mirrors and squashes it on its way to pixels. Letters: S side of the canvas, N points of an outline.
"""

import colorsys
import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

Colour = tuple[float, float, float]
Rng = np.random.Generator

REACH = 1.22  # half the canvas in the object's units: room for what sticks out of [-1, 1]

# Base, second and accent colour. Every class draws from all of them, so that colour never tells the class.
PALETTES = (
    ("f26b38", "fff1d6", "5a1f14"), ("2f6fdc", "ffd23f", "0d1b4c"), ("c8283c", "fbe9e1", "3d0a18"),
    ("2fa36b", "f2d16b", "0f3b2e"), ("8d4fd3", "ff9ecb", "2c1152"), ("23b5b0", "12355b", "eafff8"),
    ("f7d038", "20232e", "ffffff"), ("f478a6", "8c1d5c", "fff0f5"), ("efe6d2", "7a4b2b", "c98f52"),
    ("147a88", "ff8f3f", "d7fff4"), ("3a3f4e", "63e0e8", "f6f6f6"), ("c3a6f2", "4a2382", "fff6b8"),
    ("b5512a", "f0d3a2", "40180c"), ("9bcf3c", "1f5b33", "f9ffd6"), ("e8eef4", "4a83c4", "f08a4b"),
    ("fa9a85", "7d1f35", "ffe7c9"), ("e0a526", "7c2f12", "fff3c4"), ("5a7d3a", "d9c27a", "26331a"),
)  # fmt: skip


def make_palette(rng: Rng) -> tuple[Colour, Colour, Colour]:
    """One of the palettes with its hue, strength and brightness shifted, and the first two sometimes swapped."""
    shift, strength, light = rng.normal(0, 0.02), rng.uniform(0.8, 1.1), rng.uniform(0.88, 1.06)
    colours = []
    for code in PALETTES[rng.integers(len(PALETTES))]:
        hue, saturation, value = colorsys.rgb_to_hsv(*(part / 255 for part in bytes.fromhex(code)))
        r, g, b = colorsys.hsv_to_rgb((hue + shift) % 1, min(1, saturation * strength), min(1, value * light))
        colours.append((255 * r, 255 * g, 255 * b))
    if rng.random() < 0.35:
        colours[0], colours[1] = colours[1], colours[0]
    return colours[0], colours[1], colours[2]


def mix(first: Colour, second: Colour, amount: float) -> Colour:
    """From the first colour (0) to the second (1)."""
    r, g, b = ((1 - amount) * one + amount * two for one, two in zip(first, second, strict=True))
    return r, g, b


@lru_cache
def noise_tile(kind: str = "cloud", side: int = 512) -> np.ndarray:
    """A tile (side, side) float32 of values in [0, 1], the same in every process.

    "cloud": several octaves; "grain": per pixel, normal around 0.5; "web": thin bright lines, as light under waves.
    """
    rng = np.random.default_rng(sum(kind.encode()))
    if kind == "grain":
        return np.clip(rng.normal(0.5, 0.17, (side, side)), 0, 1).astype(np.float32)
    octaves = (4, 8, 16, 32, 64) if kind == "cloud" else (14, 28)
    layers = []
    for cells in octaves:
        coarse = rng.normal(size=(cells, cells)).astype(np.float32)
        coarse = np.pad(coarse, 3, mode="wrap")
        fine = cv2.resize(coarse, None, fx=side / cells, fy=side / cells, interpolation=cv2.INTER_CUBIC)
        margin = round(3 * side / cells)
        layers.append(fine[margin : margin + side, margin : margin + side])
    if kind == "cloud":
        total = sum(layer * 0.55**order for order, layer in enumerate(layers))
        return np.clip(0.5 + total / (3.6 * np.std(total)), 0, 1).astype(np.float32)
    lines = [np.exp(-np.abs(layer) * 3.2) for layer in layers]
    return np.clip(0.8 * lines[0] ** 1.6 + 0.4 * lines[1] * lines[0], 0, 1).astype(np.float32)


def noise_crop(rng: Rng, height: int, width: int, kind: str = "cloud") -> np.ndarray:
    """A window of a noise tile at a random place."""
    tile = noise_tile(kind)
    y, x = rng.integers(tile.shape[0] - height), rng.integers(tile.shape[1] - width)
    return tile[y : y + height, x : x + width]


def smooth(points: object, *, closed: bool = True, rounds: int = 3) -> np.ndarray:
    """Round the corners of an outline or a path by cutting them again and again (Chaikin)."""
    path = np.asarray(points, np.float64)
    for _ in range(rounds):
        after = np.roll(path, -1, axis=0) if closed else path[1:]
        before = path if closed else path[:-1]
        cut = np.stack([0.75 * before + 0.25 * after, 0.25 * before + 0.75 * after], 1).reshape(-1, 2)
        path = cut if closed else np.concatenate([path[:1], cut, path[-1:]])
    return path


@lru_cache
def circle(num: int) -> np.ndarray:
    """Points (num, 2) of the unit circle."""
    t = np.arange(num) * (2 * np.pi / num)
    return np.stack([np.cos(t), np.sin(t)], 1)


def ellipse(x: float, y: float, rx: float, ry: float, *, turn: float = 0.0, num: int = 24) -> np.ndarray:
    """Outline (num, 2) of an ellipse turned by `turn` radians."""
    cos, sin = math.cos(turn), math.sin(turn)
    return circle(num) @ np.array([[rx * cos, rx * sin], [-ry * sin, ry * cos]]) + (x, y)


def across(path: np.ndarray) -> np.ndarray:
    """Unit normals (N, 2) of a path, to the right of its direction as seen on the picture."""
    along = np.empty_like(path)
    along[1:-1] = path[2:] - path[:-2]
    along[0], along[-1] = path[1] - path[0], path[-1] - path[-2]
    normal = along[:, ::-1] * (-1, 1)
    return normal / (np.sqrt((normal**2).sum(1, keepdims=True)) + 1e-9)


def bent(x: float, y: float, heading: float, length: float, *, curl: object = 0.0, num: int = 16) -> np.ndarray:
    """Path (num, 2) that starts at (x, y) towards `heading` and turns by `curl` radians (an array: as it goes)."""
    t = np.linspace(0, 1, num)
    angles = heading + (np.asarray(curl) if np.ndim(curl) else float(curl) * t)  # type: ignore[arg-type]
    steps = np.stack([np.cos(angles), np.sin(angles)], 1) * length / (num - 1)
    return np.array([x, y]) + np.concatenate([np.zeros((1, 2)), np.cumsum(steps[:-1], 0)])


@dataclass(frozen=True)
class Region:
    """The pixels inside an outline: the window that holds them, a mask in it, and the object's coordinates there."""

    window: tuple[slice, slice]
    mask: np.ndarray
    u: np.ndarray
    v: np.ndarray


class Sprite:
    """The canvas of one object.

    `pixels` (S, S, 4) holds red, green, blue and the height above the ground, from which `render` takes the light;
    `alpha` (S, S) says how much it covers.
    """

    def __init__(self, side: int, rng: Rng, *, turn: float = 0.0, mirror: bool = False, squash: float = 1.0) -> None:
        self.side, self.rng = side, rng
        self.pixels = np.zeros((side, side, 4), np.uint8)
        self.alpha = np.zeros((side, side), np.uint8)
        cos, sin = math.cos(turn), math.sin(turn)
        pose = np.array([[cos, -sin], [sin, cos]]) @ np.diag([-1.0 if mirror else 1.0, squash])
        self.matrix = pose * side / (2 * REACH)
        self.inverse = np.linalg.inv(self.matrix).astype(np.float32)

    def _fixed(self, points: np.ndarray) -> np.ndarray:
        return np.rint((points @ self.matrix.T + self.side / 2) * 16).astype(np.int32)  # 4 bits after the point

    def fill(self, outline: object, colour: Colour, height: float = 0.6, alpha: float = 1.0) -> None:
        """Fill an outline (N, 2), or a list of outlines that do not overlap."""
        outlines = outline if isinstance(outline, list) else [outline]
        fixed = [self._fixed(np.asarray(points)) for points in outlines]
        cv2.fillPoly(self.pixels, fixed, (*colour, 255 * height), shift=4)
        cv2.fillPoly(self.alpha, fixed, (255 * alpha,), shift=4)

    def stroke(self, path: np.ndarray, widths: object, colour: Colour, height: float = 0.6, alpha: float = 1.0) -> None:
        """Draw a path (N, 2) as a band of the given half widths, one number or N."""
        wide = across(path) * np.reshape(np.asarray(widths, np.float64), (-1, 1))
        left, right = self._fixed(path + wide), self._fixed(path - wide)
        paint, cover = (*colour, 255 * height), (255 * alpha,)
        for start in range(0, len(path) - 1, 5):  # in pieces, or a path that crosses itself would leave holes
            outline = [np.concatenate([left[start : start + 6], right[start : start + 6][::-1]])]
            cv2.fillPoly(self.pixels, outline, paint, shift=4)
            cv2.fillPoly(self.alpha, outline, cover, shift=4)

    def inside(self, outline: np.ndarray) -> Region:
        """The region of an outline (N, 2)."""
        fixed = self._fixed(outline)
        left, top = np.clip(fixed.min(0) // 16, 0, self.side - 1).tolist()
        right, bottom = np.clip(fixed.max(0) // 16 + 1, 1, self.side).tolist()
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(mask, [fixed - np.array([16 * left, 16 * top], np.int32)], (1,), shift=4)
        x = np.arange(left, right, dtype=np.float32)[None] + np.float32(0.5 - self.side / 2)
        y = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5 - self.side / 2)
        (a, b), (c, d) = self.inverse
        return Region((slice(top, bottom), slice(left, right)), mask, a * x + b * y, c * x + d * y)

    def tint(self, region: Region, weight: np.ndarray, colour: Colour) -> None:
        """Mix a colour into a region by a weight in [0, 1]; height and cover stay."""
        weight = (weight * region.mask).astype(np.float32)[..., None]
        patch = self.pixels[region.window][..., :3]
        patch[:] = patch + weight * (np.array(colour, np.float32) - patch)

    def pattern(self, outline: np.ndarray, colour: Colour, accent: Colour, *, kind: str = "") -> None:
        """Paint bands, spots, blotches or a blend of two colours into an outline, or leave it plain: chance decides."""
        rng = self.rng
        kind = kind or str(rng.choice(["plain", "bands", "spots", "blotches", "blend"]))
        if kind == "plain":
            return
        region = self.inside(outline)
        u, v = region.u, region.v
        cloud = noise_crop(rng, *region.mask.shape)
        angle = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
        count, cos, sin = np.float32(rng.uniform(7, 15)), np.float32(math.cos(angle)), np.float32(math.sin(angle))
        along = u * cos + v * sin
        if kind == "bands":
            wave = np.sin(count * along + np.float32(rng.uniform(0, 6)) + np.float32(rng.choice([0.8, 4.0])) * cloud)
            weight = np.clip(4 * (wave - np.float32(rng.uniform(-0.1, 0.5))), 0, 1)
        elif kind == "spots":
            aside, warp = v * cos - u * sin, 3 * cloud
            wave = np.sin(1.4 * count * along + warp) * np.sin(1.4 * count * aside + warp)
            weight = np.clip(6 * (np.abs(wave) - np.float32(rng.uniform(0.4, 0.6))), 0, 1)
        elif kind == "blotches":
            weight = np.clip(9 * (cloud - np.float32(rng.uniform(0.45, 0.62))), 0, 1)
        else:
            lean = np.float32(rng.choice([-1, 1]) * rng.uniform(0.8, 1.6))
            weight = np.clip(0.25 + lean * along + 0.5 * cloud, 0, 1)
        self.tint(region, weight * np.float32(rng.uniform(0.75, 1)), accent if rng.random() < 0.2 else colour)

    def eye(self, x: float, y: float, radius: float, white: Colour = (245, 245, 235)) -> None:
        """An eyeball with a pupil and a glint."""
        self.fill(ellipse(x, y, radius, radius, num=14), white, 0.9)
        self.fill(ellipse(x + 0.15 * radius, y, 0.62 * radius, 0.66 * radius, num=12), (14, 14, 22), 0.95)
        self.fill(ellipse(x - 0.1 * radius, y - 0.25 * radius, 0.2 * radius, 0.2 * radius, num=8), (255, 255, 255), 1.0)

    def render(self, side: int, light_xy: tuple[float, float], gloss: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
        """Scale to `side` pixels and light the relief from `light_xy` (the direction that the light comes from).

        Returns colour (3, h, w) float32 in [0, 255] and cover (h, w) float32 in [0, 1], cut to what is covered.
        """
        size = (side, side)
        solid = cv2.resize(np.minimum(self.alpha, 1) * np.uint8(255), size, interpolation=cv2.INTER_AREA)
        cover = cv2.resize(self.alpha, size, interpolation=cv2.INTER_AREA)
        rows, columns = np.flatnonzero(cover.max(1) > 5), np.flatnonzero(cover.max(0) > 5)
        window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        planes = cv2.split(cv2.resize(self.pixels, size, interpolation=cv2.INTER_AREA))
        height = planes[3].astype(np.float32) / 255
        broad = max(3, round(side * 0.13)) | 1
        mound = cv2.blur(cv2.blur(height, (broad, broad)), (broad, broad))[window]
        relief = 0.4 * cv2.GaussianBlur(height, (0, 0), max(0.6, side / 90))[window] + 1.3 * mound
        slope = cv2.Sobel(relief, cv2.CV_32F, 1, 0) * light_xy[0] + cv2.Sobel(relief, cv2.CV_32F, 0, 1) * light_xy[1]
        slope *= side / 90
        facing = -slope / (1 + np.abs(slope))
        grain = 0.9 + 0.2 * noise_crop(self.rng, *relief.shape)
        shade = (0.72 + 0.38 * np.minimum(1.6 * mound, 1) + 0.42 * facing) * grain
        shade *= 255 / np.maximum(solid[window], 4)  # the undrawn is black: leave it out of the colour at the edges
        shine = 560 * gloss * np.maximum(facing - 0.3, 0) ** 2
        colour = np.stack([plane[window] * shade + shine for plane in planes[:3]])
        return np.clip(colour, 0, 255, out=colour), cover[window].astype(np.float32) / 255
