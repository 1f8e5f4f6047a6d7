"""The site of a picture of the reef: water, ground, light and camera.

Pictures are planar RGB (3, H, W) float32 in [0, 255]. Letters: H W height and width in pixels.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from apps.common.drawing.curves import Rng, mix, pick
from apps.detection.reef.canvas import WHITE
from apps.detection.reef.noise import TILE, folded, noise_crop, noise_tile

SIZES_WH = ((256, 192), (192, 256), (224, 224), (288, 192), (192, 288), (240, 192), (192, 192))
SIZE_SHARES = (0.3, 0.15, 0.15, 0.15, 0.1, 0.1, 0.05)

# Colour at the surface and in the deep.
WATERS = (
    ((150, 232, 222), (28, 128, 160)), ((96, 205, 238), (12, 78, 150)), ((206, 234, 244), (72, 136, 178)),
    ((52, 122, 186), (8, 26, 66)), ((34, 132, 140), (6, 36, 52)),
)  # fmt: skip
SANDS = ((228, 204, 158), (240, 232, 214), (166, 166, 160), (216, 174, 110), (228, 188, 172), (96, 90, 96))


@dataclass(frozen=True)
class Site:
    """A view: its size, colours and light. Drawn by `make_site`."""

    view: str
    """"side": over the ground as far as the horizon; "open": water only; "above": straight down on the ground"""
    size_hw: tuple[int, int]
    horizon: float
    """where the ground begins, as a share of the height"""
    top: np.ndarray
    """the water's colour (3,) at the surface"""
    deep: np.ndarray
    sand: np.ndarray
    light_xy: tuple[float, float]
    """the direction that the light comes from"""
    sun: float
    """how strongly the light draws shafts and caustics, 0 to 1"""

    @property
    def water(self) -> np.ndarray:
        """The water's average colour (3,)."""
        return 0.5 * (self.top + self.deep)


def make_site(rng: Rng) -> Site:
    """A view of any kind."""
    width, height = SIZES_WH[rng.choice(len(SIZES_WH), p=SIZE_SHARES)]
    view = str(rng.choice(["side", "open", "above"], p=[0.6, 0.16, 0.24]))
    tint = rng.uniform(0.94, 1.06, 3).astype(np.float32)
    top, deep = np.array(pick(rng, WATERS), np.float32) * tint
    return Site(
        view=view,
        size_hw=(height, width),
        horizon={"side": rng.uniform(0.42, 0.82), "open": 1.3, "above": -1.0}[view],
        top=top,
        deep=deep,
        sand=np.array(pick(rng, SANDS), np.float32) * rng.uniform(0.9, 1.08),
        light_xy=(rng.uniform(-0.7, 0.7), -1.0),
        sun=rng.uniform(0.1, 1),
    )


@lru_cache
def pixel_grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """x (1, W) and y (H, 1) of the pixel centres in [0, 1]."""
    x = (np.arange(width, dtype=np.float32) + 0.5) / width
    y = (np.arange(height, dtype=np.float32) + 0.5) / height
    return x[None, :], y[:, None]


def blend(first: np.ndarray, second: object, amount: np.ndarray | float) -> np.ndarray:
    """From the first picture (amount 0) to the second picture or colour (amount 1); amount is a number or (H, W)."""
    second = np.asarray(second, np.float32)
    mixed = ((second[:, None, None] if second.ndim == 1 else second) - first) * amount
    mixed += first
    return mixed


def paint_water(site: Site, rng: Rng) -> np.ndarray:
    """Water from the surface down, with the sun behind it; painted at half size, as it has no sharp edges."""
    height, width = (side // 2 for side in site.size_hw)
    x, y = pixel_grid(height, width)
    depth = np.clip(y ** rng.uniform(0.7, 1.3) + 0.22 * (noise_crop(rng, height, width) - 0.5), 0, 1)
    sun_x = 0.5 + site.light_xy[0] * rng.uniform(0.2, 0.7)
    angle = (x - sun_x) / (y + 0.35)
    row = noise_tile()[rng.integers(TILE)]
    shafts = row[folded(angle * rng.uniform(60, 130)).astype(np.int32)]
    shafts = cv2.blur(shafts, (3, 3)) * np.exp(-1.3 * y - 1.2 * np.abs(angle))
    glow = np.exp(-5 * ((x - sun_x) ** 2 + (y + 0.05) ** 2))
    image = blend(site.top[:, None, None], site.deep, depth)
    image = blend(image, 0.3 * site.top + 177, site.sun * np.minimum(0.75 * shafts + 0.5 * glow, 0.9))
    return np.stack([cv2.resize(plane, site.size_hw[::-1]) for plane in image])


def paint_ridges(image: np.ndarray, site: Site, edge: np.ndarray, rng: Rng) -> np.ndarray:
    """Rocks far behind the ground's `edge` (1, W), mostly faded to the water's colour."""
    _, y = pixel_grid(*site.size_hw)
    for clear in (0.16, 0.3)[: rng.integers(0, 3)]:
        top = edge - rng.uniform(0.15, 0.55) * noise_crop(rng, *edge.shape) ** 1.5
        ridge = np.clip((y - top) * site.size_hw[0] / 2, 0, 1)
        image = blend(image, 0.35 * site.deep, ridge * clear)
    return image


def paint_site(site: Site, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """The empty picture (3, H, W), and the caustics on each pixel of the ground (H, W)."""
    height, width = site.size_hw
    caustics = np.zeros(site.size_hw, np.float32)
    if site.view == "open":
        return paint_water(site, rng), caustics
    x, y = pixel_grid(height, width)
    if site.view == "above":
        turn = rng.uniform(0, math.pi)
        across, down = 2 * (x * math.cos(turn) + y * math.sin(turn)), 2 * (y * math.cos(turn) - x * math.sin(turn))
        image, caustics[:] = paint_ground(site, across, down, rng.uniform(0.05, 0.3), rng)
        return image, caustics
    edge = site.horizon + 0.12 * (noise_crop(rng, 1, width) - 0.5)
    image = paint_ridges(paint_water(site, rng), site, edge, rng)
    start = int((site.horizon - 0.07) * height)
    y = y[start:]
    depth = np.clip((y - edge) / (1 - site.horizon), 0, 1)
    down = 0.9 / (depth + 0.16)
    ground, caustics[start:] = paint_ground(site, (x - 0.5) * down, down, 0.9 * np.exp(-3.5 * depth), rng)
    image[:, start:] = blend(image[:, start:], ground, np.clip((y - edge) * height / 2 + 0.5, 0, 1))
    return image, caustics


def paint_ground(
    site: Site, across: np.ndarray, down: np.ndarray, haze: np.ndarray | float, rng: Rng
) -> tuple[np.ndarray, np.ndarray]:
    """Sand with ripples and caustics at points (h, w) of the ground; returns its colours and the caustics."""
    height, width = across.shape
    cloud, grain = noise_crop(rng, height, width), noise_crop(rng, height, width, "grain")
    ripple = np.sin(rng.uniform(14, 30) * down + rng.uniform(4, 12) * cloud + 2 * across)
    tone = 0.74 + rng.uniform(0.04, 0.13) * ripple * (1 - haze) + 0.3 * cloud + 0.22 * grain
    web_x, web_y = (across * 150 + rng.uniform(0, TILE))[::2, ::2], (down * 150 + 40 * cloud)[::2, ::2]
    web = cv2.remap(noise_tile("web"), folded(web_x), folded(web_y), cv2.INTER_LINEAR)
    caustics = cv2.resize(web, (width, height)) * (site.sun * (1 - haze))
    tone += 0.5 * caustics
    tone *= 1 - haze
    lit = site.sand * (0.55 + 0.45 * site.top / 200)
    ground = lit[:, None, None] * tone
    ground += site.water[:, None, None] * haze
    return ground, caustics


def add_bubbles(image: np.ndarray, site: Site, rng: Rng) -> np.ndarray:
    """Bubbles that rise, and floating specks."""
    height, width = site.size_hw
    layer = np.zeros((height, width), np.uint8)
    for x, y, radius, light in rng.uniform((0, 0, 0.4, 40), (width, height, 1.1, 130), (rng.integers(0, 25), 4)):
        cv2.circle(layer, (int(16 * x), int(16 * y)), int(16 * radius), light, -1, cv2.LINE_AA, 4)
    if rng.random() < 0.4:
        x, y = rng.uniform(0, width), rng.uniform(0.3, 1) * height
        for _ in range(rng.integers(3, 16)):
            x, y, radius = x + rng.normal(0, 5), y - rng.uniform(4, 16), rng.uniform(1.2, 5.5)
            middle, glint = (int(16 * x), int(16 * y)), (int(16 * (x - 0.35 * radius)), int(16 * (y - 0.4 * radius)))
            cv2.circle(layer, middle, int(radius * 16), 40, -1, cv2.LINE_AA, 4)
            cv2.circle(layer, middle, int(radius * 16), 150, 1, cv2.LINE_AA, 4)
            cv2.circle(layer, glint, int(radius * 4), 245, -1, cv2.LINE_AA, 4)
    return blend(image, mix(tuple(site.top), WHITE, 0.75), layer.astype(np.float32) / 255)


def develop(image: np.ndarray, rng: Rng) -> np.ndarray:
    """Vignette, exposure, colour cast, softness and noise; returns (H, W, 3) uint8."""
    _, height, width = image.shape
    x, y = pixel_grid(height, width)
    light = 1 - rng.uniform(0, 0.5) * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    if rng.random() < 0.25:  # one side in the shade
        slope = rng.uniform(-0.4, 0.4) * (x - 0.5) + rng.uniform(-0.4, 0.1) * (y - 0.3)
        light = light * np.clip(1 + slope, 0.6, 1.2)
    gains = (rng.uniform(0.85, 1.15) * rng.normal(1, 0.02, 3)).tolist()
    grain = rng.uniform(0, 17) * rng.random() * (noise_crop(rng, height, width, "grain") - 0.5)
    planes = [plane * (light * gain) + grain for plane, gain in zip(image, gains, strict=True)]
    if rng.random() < 0.2:
        sigma = rng.uniform(0.4, 0.9)
        planes = [cv2.GaussianBlur(plane, (0, 0), sigma) for plane in planes]
    return np.clip(cv2.merge(planes), 0, 255).astype(np.uint8)
