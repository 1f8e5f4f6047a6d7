"""One picture of the reef: water, floor and light, clutter, and the animals that a detector shall find.

Colours are RGB float32 in [0, 255] until the picture is finished. Letters: H W height and width in pixels.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from apps.detection.reef.animals import ANIMALS, draw_animal
from apps.detection.reef.canvas import Palette, Rng, make_palette, mix, noise_crop, noise_tile
from apps.detection.reef.clutter import CLUTTER, STANDING, load_clutter

Window = tuple[slice, slice]

IMAGE_SIZES_WH = ((256, 192), (192, 256), (224, 224), (288, 192), (192, 288), (240, 192), (192, 192))
IMAGE_SHARES = (0.3, 0.15, 0.15, 0.15, 0.1, 0.1, 0.05)
OBJECT_SHARES = (0.2, 0.22, 0.2, 0.15, 0.11, 0.07, 0.05)  # of pictures with 1, 2, ... animals, when there are any

EMPTY_SHARE = 0.04  # of the pictures hold no animal at all
MIN_VISIBLE = 0.5  # of an animal's own area: less is never drawn, so that nothing to be seen lacks its box
MAX_BOX_IOU = 0.4  # of two animals' boxes

# Colour at the surface and in the deep.
WATERS = (
    ((150, 232, 222), (28, 128, 160)), ((96, 205, 238), (12, 78, 150)), ((146, 214, 166), (18, 86, 84)),
    ((52, 122, 186), (8, 26, 66)), ((246, 184, 150), (70, 62, 122)), ((128, 122, 214), (30, 28, 86)),
    ((34, 132, 140), (6, 36, 52)), ((196, 204, 140), (66, 92, 62)), ((206, 234, 244), (72, 136, 178)),
)  # fmt: skip
SANDS = ((228, 204, 158), (240, 232, 214), (166, 166, 160), (216, 174, 110), (228, 188, 172), (96, 90, 96))


@dataclass(frozen=True)
class Found:
    """One animal of a picture: its class, the mask (H, W) of what is to be seen of it, and its whole area in pixels."""

    name: str
    visible: np.ndarray
    full_area: int

    @property
    def box_xywh(self) -> tuple[int, int, int, int]:
        """The tight box in pixels: x and y of its top left corner, width, height."""
        rows, columns = np.flatnonzero(self.visible.any(1)), np.flatnonzero(self.visible.any(0))
        x, y = int(columns[0]), int(rows[0])
        return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y


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


class Scene:
    """A picture being painted from far to near, with the animals found in it so far."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.width, self.height = IMAGE_SIZES_WH[rng.choice(len(IMAGE_SIZES_WH), p=IMAGE_SHARES)]
        self.short = min(self.width, self.height)
        self.found: list[Found] = []
        self.kind = str(rng.choice(["reef", "open", "seabed"], p=[0.6, 0.16, 0.24]))
        tint = rng.uniform(0.88, 1.1, 3).astype(np.float32)
        self.top, self.deep = np.array(WATERS[rng.integers(len(WATERS))], np.float32) * tint
        self.sand = np.array(SANDS[rng.integers(len(SANDS))], np.float32) * rng.uniform(0.9, 1.08)
        self.water = 0.5 * (self.top + self.deep)
        self.light_xy = (rng.uniform(-0.7, 0.7), -1.0)
        self.sun = rng.uniform(0.1, 1)  # how strongly the light draws shafts and caustics
        self.horizon = {"reef": rng.uniform(0.42, 0.82), "open": 1.3, "seabed": -1.0}[self.kind]
        self.caustics = np.zeros((self.height, self.width), np.float32)
        self.image = self.make_water() if self.kind != "seabed" else np.zeros((3, self.height, self.width), np.float32)
        if self.kind != "open":
            self.lay_floor()

    def make_water(self) -> np.ndarray:
        """Water from the surface down, the sun behind it; drawn at half size, as there is nothing sharp in it."""
        rng, height, width = self.rng, self.height // 2, self.width // 2
        x, y = pixel_grid(height, width)
        depth = np.clip(y ** rng.uniform(0.7, 1.3) + 0.22 * (noise_crop(rng, height, width) - 0.5), 0, 1)
        sun_x = 0.5 + self.light_xy[0] * rng.uniform(0.2, 0.7)
        angle = (x - sun_x) / (y + 0.35)
        row = noise_tile()[rng.integers(512)]
        shafts = row[(angle * rng.uniform(60, 130)).astype(np.int32) & 511]
        shafts = cv2.blur(shafts, (3, 3)) * np.exp(-1.3 * y - 1.2 * np.abs(angle))
        glow = np.exp(-5 * ((x - sun_x) ** 2 + (y + 0.05) ** 2))
        image = blend(self.top[:, None, None], self.deep, depth)
        image = blend(
            image, mix(tuple(self.top), (255, 255, 246), 0.7), self.sun * np.minimum(0.75 * shafts + 0.5 * glow, 0.9)
        )
        return np.stack([cv2.resize(plane, (self.width, self.height)) for plane in image])

    def lay_floor(self) -> None:
        """Sand with ripples and caustic light, seen from the side as far as the horizon, or from above."""
        rng, (x, y) = self.rng, pixel_grid(self.height, self.width)
        cloud = noise_crop(rng, self.height, self.width)
        haze: np.ndarray | float
        if self.kind == "reef":
            edge = self.horizon + 0.12 * (noise_crop(rng, 1, self.width) - 0.5)
            self.add_ridges(edge)
            depth = np.clip((y - edge) / (1 - self.horizon), 0, 1)
            haze = 0.9 * np.exp(-3.5 * depth)
            down = 0.9 / (depth + 0.16)
            across = (x - 0.5) * down
        else:
            turn = rng.uniform(0, np.pi)
            across, down = 2 * (x * math.cos(turn) + y * math.sin(turn)), 2 * (y * math.cos(turn) - x * math.sin(turn))
            haze = rng.uniform(0.05, 0.3)
        ripple = np.sin(rng.uniform(14, 30) * down + rng.uniform(4, 12) * cloud + 2 * across)
        grain = noise_crop(rng, self.height, self.width, "grain")
        tone = 0.74 + rng.uniform(0.04, 0.13) * ripple * (1 - haze) + 0.3 * cloud + 0.22 * grain
        web_x, web_y = across * 150 + rng.uniform(0, 512), down * 150 + 40 * cloud
        web = cv2.remap(noise_tile("web"), web_x[::2, ::2] % 511, web_y[::2, ::2] % 511, cv2.INTER_LINEAR)
        web = cv2.resize(web, (self.width, self.height))
        self.caustics = web * (1 - haze) * self.sun
        tone += 0.5 * self.caustics
        lit = self.sand * (0.55 + 0.45 * self.top / 200)
        floor = blend(lit[:, None, None] * tone, self.water, haze)
        if self.kind == "reef":
            floor = blend(self.image, floor, np.clip((y - edge) * self.height / 2 + 0.5, 0, 1))
        self.image = floor

    def add_ridges(self, edge: np.ndarray) -> None:
        """Rocks far behind, mostly lost in the water's colour."""
        _, y = pixel_grid(self.height, self.width)
        for clear in (0.16, 0.3)[: self.rng.integers(0, 3)]:
            line = noise_crop(self.rng, 1, self.width) ** 1.5
            top = edge - self.rng.uniform(0.15, 0.55) * line
            ridge = np.clip((y - top) * self.height / 2, 0, 1)
            self.image = blend(self.image, 0.35 * self.deep, ridge * clear)

    def window(self, x: int, y: int, cover: np.ndarray) -> tuple[Window, Window] | None:
        """Where a cover at (x, y) meets the picture: the window there, and the same in the cover. None: nowhere."""
        left, top = max(0, x), max(0, y)
        right, bottom = min(self.width, x + cover.shape[1]), min(self.height, y + cover.shape[0])
        if right <= left or bottom <= top:
            return None
        return (slice(top, bottom), slice(left, right)), (slice(top - y, bottom - y), slice(left - x, right - x))

    def hides_any(self, window: Window, part: np.ndarray) -> bool:
        """Whether a cover painted there would leave too little to be seen of an animal."""
        for animal in self.found:
            hidden = np.count_nonzero(animal.visible[window] & (part > 0.5))
            if hidden and np.count_nonzero(animal.visible) - hidden < MIN_VISIBLE * animal.full_area:
                return True
        return False

    def paste(self, x: int, y: int, colour: np.ndarray, cover: np.ndarray, *, haze: float, shadow: float) -> bool:
        """Paint a piece at (x, y) with its shadow, unless it would hide an animal; say whether it was painted."""
        windows = self.window(x, y, cover)
        if windows is None:
            return False
        there, here = windows
        part = cover[here]
        if self.hides_any(there, part):
            return False
        if shadow:
            self.cast_shadow(x, y, cover, shadow)
        lit = blend(colour[:, *here] * (0.9 + 0.3 * self.caustics[there]), self.water, haze)
        self.image[:, *there] = blend(self.image[:, *there], lit, part)
        for animal in self.found:
            animal.visible[there] &= part <= 0.5
        return True

    def cast_shadow(self, x: int, y: int, cover: np.ndarray, strength: float) -> None:
        """Darken the ground below a cover at (x, y)."""
        height, width = cover.shape
        if self.kind == "reef":  # flat below it
            flat = max(2, height // 3)
            cover = cv2.resize(cover, (width, flat), interpolation=cv2.INTER_AREA)
            x, y = x - round(self.light_xy[0] * 0.1 * width), y + height - round(0.7 * flat)
        else:
            x, y = x - round(self.light_xy[0] * 0.16 * width), y + max(2, round(0.1 * height))
        soft = max(2, min(width, height) // 8)
        cover = cv2.copyMakeBorder(cover, soft, soft, soft, soft, cv2.BORDER_CONSTANT)
        windows = self.window(x - soft, y - soft, cover)
        if windows is not None:
            there, here = windows
            self.image[:, *there] *= 1 - strength * cv2.blur(cover, (2 * soft + 1, 2 * soft + 1))[here]

    def add_clutter(self, size: float, *, near: bool = False) -> None:
        """A coral, a rock, a plant, ... on the ground; or `near`, at the lower rim and out of focus."""
        rng = self.rng
        lying = self.kind == "seabed"
        kinds = [kind for kind in CLUTTER if not (lying and kind in STANDING)]
        piece = load_clutter(str(rng.choice(kinds)), int(rng.integers(12)), lying=lying)
        scale = size / max(piece.shape)
        width, height = (max(3, round(side * scale)) for side in piece.shape[1::-1])
        piece = cv2.resize(piece, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        if rng.random() < 0.5:
            piece = piece[:, ::-1]
        planes = np.stack(cv2.split(piece)).astype(np.float32)
        colour, cover = planes[:3] * rng.uniform(0.75, 1.15, (3, 1, 1)).astype(np.float32), planes[3] / 255
        x, haze = int(rng.uniform(-0.3 * width, self.width - 0.7 * width)), 0.0
        if near:
            soft = 2 * max(1, round(size / 60)) + 1
            pad = (soft,) * 4
            colour = np.stack([cv2.copyMakeBorder(0.6 * plane * cover, *pad, cv2.BORDER_CONSTANT) for plane in colour])
            cover = cv2.blur(cv2.copyMakeBorder(cover, *pad, cv2.BORDER_CONSTANT), (soft, soft))
            colour = np.stack([cv2.blur(plane, (soft, soft)) for plane in colour]) / np.maximum(cover, 0.02)
            y = round(self.height - height * rng.uniform(0.4, 0.8))
        elif self.kind == "seabed":
            y = int(rng.uniform(-0.3 * height, self.height - 0.7 * height))
        else:
            ground = min(self.horizon + 0.06, 0.98)
            y = round(self.height * (ground + (1.08 - ground) * rng.uniform(0, 1) ** 1.3) - height)
            haze = min(max(1.6 * (1 - (y + height) / self.height), 0), 0.55)
        self.paste(x, y, colour, cover, haze=haze, shadow=0.0 if near else 0.35)

    def add_animal(self, name: str, size: float, palette: Palette) -> None:
        """Draw an animal at a place where it is seen well enough and hides nobody; none found, leave it out."""
        rng = self.rng
        colour, cover = draw_animal(name, rng, size, self.light_xy, palette)
        solid = cover > 0.5
        (height, width), full = cover.shape, int(np.count_nonzero(solid))
        walks = self.kind == "reef" and ANIMALS[name].crawls
        for _ in range(12):
            x = int(rng.uniform(-0.25 * width, self.width - 0.75 * width))
            y = int(rng.uniform(-0.25 * height, self.height - 0.75 * height))
            low = y + 0.85 * height > self.horizon * self.height
            if walks and not low and rng.random() < 0.8:
                continue
            windows = self.window(x, y, cover)
            if windows is None:
                continue
            there, here = windows
            visible = np.zeros((self.height, self.width), bool)
            visible[there] = solid[here]
            new = Found(name, visible, full)
            if np.count_nonzero(visible) < 0.6 * full or self.overlaps(new):
                continue
            shadow = rng.uniform(0.3, 0.55) if self.kind == "seabed" or (walks and low) else 0.0
            if self.paste(x, y, colour, cover, haze=rng.uniform(0, 0.28), shadow=shadow):
                self.found.append(new)
                return

    def overlaps(self, new: Found) -> bool:
        """Whether its box overlaps another animal's too much for two boxes to be told apart."""
        x, y, width, height = new.box_xywh
        for other in self.found:
            left, top, wide, tall = other.box_xywh
            inner = max(0, min(x + width, left + wide) - max(x, left)) * max(
                0, min(y + height, top + tall) - max(y, top)
            )
            if inner > MAX_BOX_IOU * (width * height + wide * tall - inner):
                return True
        return False

    def choose_palette(self) -> Palette:
        """Colours that stand out a little from what lies behind."""
        behind = self.sand if self.kind == "seabed" else self.water
        palette = make_palette(self.rng)
        for _ in range(4):
            if np.abs(np.array(palette[0]) - behind).sum() > 130:
                break
            palette = make_palette(self.rng)
        return palette

    def add_bubbles(self) -> None:
        """Bubbles and floating specks, drawn over everything."""
        rng = self.rng
        layer = np.zeros((self.height, self.width), np.uint8)
        for _ in range(rng.integers(0, 25)):  # specks
            x, y = (int(value * 16) for value in rng.uniform(0, 1, 2) * (self.width, self.height))
            cv2.circle(layer, (x, y), int(rng.uniform(6, 18)), int(rng.uniform(40, 130)), -1, cv2.LINE_AA, 4)
        if rng.random() < 0.4:
            x, y = rng.uniform(0, self.width), rng.uniform(0.3, 1) * self.height
            for _ in range(rng.integers(3, 16)):
                x, y, radius = x + rng.normal(0, 5), y - rng.uniform(4, 16), rng.uniform(1.2, 5.5)
                middle = (int(x * 16), int(y * 16))
                cv2.circle(layer, middle, int(radius * 16), 40, -1, cv2.LINE_AA, 4)
                cv2.circle(layer, middle, int(radius * 16), 150, 1, cv2.LINE_AA, 4)
                glint = (int((x - 0.35 * radius) * 16), int((y - 0.4 * radius) * 16))
                cv2.circle(layer, glint, int(radius * 4), 245, -1, cv2.LINE_AA, 4)
        self.image = blend(self.image, mix(tuple(self.top), (255, 255, 255), 0.75), layer.astype(np.float32) / 255)

    def develop(self) -> np.ndarray:
        """Vignette, exposure, colour cast, softness and noise; returns (H, W, 3) uint8."""
        rng, (x, y) = self.rng, pixel_grid(self.height, self.width)
        light = 1 - rng.uniform(0, 0.5) * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
        if rng.random() < 0.25:  # one side in the shade
            light = light * np.clip(
                1 + rng.uniform(-0.4, 0.4) * (x - 0.5) + rng.uniform(-0.4, 0.1) * (y - 0.3), 0.6, 1.2
            )
        gain = rng.uniform(0.85, 1.15) * rng.normal(1, 0.05, 3)
        grain = rng.uniform(0, 17) * rng.random() * (noise_crop(rng, self.height, self.width, "grain") - 0.5)
        planes = [plane * (light * float(part)) + grain for plane, part in zip(self.image, gain, strict=True)]
        if rng.random() < 0.2:
            sigma = rng.uniform(0.4, 0.9)
            planes = [cv2.GaussianBlur(plane, (0, 0), sigma) for plane in planes]
        return np.clip(cv2.merge(planes), 0, 255).astype(np.uint8)


def draw_scene(rng: Rng, first: str) -> tuple[np.ndarray, list[Found]]:
    """Draw one picture (H, W, 3) uint8 RGB with the animal `first` and others, seldom with none; say what it holds."""
    scene = Scene(rng)
    num_objects = 0 if rng.random() < EMPTY_SHARE else 1 + int(rng.choice(len(OBJECT_SHARES), p=OBJECT_SHARES))
    weights = np.array([0.4 if scene.kind == "open" and ANIMALS[name].crawls else 1.0 for name in ANIMALS])
    names = [str(name) for name in rng.choice(list(ANIMALS), num_objects, p=weights / weights.sum())]
    names[:1] = [first] * min(num_objects, 1)
    palettes = [scene.choose_palette() for _ in names]
    if num_objects > 2 and rng.random() < 0.15:  # a school, a colony: all of a kind
        names[1:], palettes[1:] = [names[0]] * (num_objects - 1), [palettes[0]] * (num_objects - 1)
    sizes = np.exp(rng.uniform(np.log(0.17), np.log(0.72 - 0.05 * num_objects), num_objects))
    sizes[rng.random(num_objects) < 0.04] = 0.12
    order = np.argsort(sizes)  # the far, small ones first
    num_clutter = 0 if scene.kind == "open" else int(rng.integers(2, 8))
    for _ in range(num_clutter):
        scene.add_clutter(scene.short * rng.uniform(0.15, 0.5))
    for i in order:
        scene.add_animal(names[i], scene.short * float(sizes[i]), palettes[i])
        if num_clutter and rng.random() < 0.25:
            scene.add_clutter(scene.short * rng.uniform(0.12, 0.35))
    if scene.kind != "seabed" and rng.random() < 0.35:
        for _ in range(rng.integers(1, 3)):
            scene.add_clutter(scene.short * rng.uniform(0.4, 0.9), near=True)
    scene.add_bubbles()
    return scene.develop(), scene.found
