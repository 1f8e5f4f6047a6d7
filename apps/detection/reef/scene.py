"""One picture of the reef: a site, clutter, and the animals to detect.

Pictures are planar RGB (3, H, W) float32 in [0, 255] until `develop`. Letters: H W height and width of the
picture in pixels, h w those of a piece in it.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from apps.common.drawing.curves import Rng, pick
from apps.detection.reef.animals import ANIMALS, draw_animal
from apps.detection.reef.canvas import Palette, make_palette
from apps.detection.reef.clutter import LYING, NUM_PIECES, STANDING, load_clutter
from apps.detection.reef.water import add_bubbles, develop, make_site, paint_site

Window = tuple[slice, slice]

NUM_SHARES = (0.03, 0.47, 0.33, 0.13, 0.04)  # of the pictures with 0, 1, 2, ... animals
MIN_SIZE, MAX_SIZE = 0.6, 1.45  # of an animal, as a share of the picture's shorter side; the more animals, the smaller
TINY_SIZE, TINY_SHARE = 0.2, 0.03
ALL_OF_A_KIND = 0.12  # of the pictures: a school of fish, a colony of crabs, ...
MIN_VISIBLE = (
    0.7  # smallest visible share of an animal's area: with less it is not drawn, so that every visible animal has a box
)
MIN_INSIDE = 0.85  # of its area
MAX_BOX_IOU = 0.12  # of two animals' boxes
PLACES = 12  # tried for an animal


@dataclass(frozen=True)
class Found:
    """One animal of a picture: its class, the mask (H, W) of its visible part, and its whole area in pixels."""

    name: str
    visible: np.ndarray
    full_area: int

    @property
    def box_xywh(self) -> tuple[int, int, int, int]:
        """The tight box in pixels: x and y of its top left corner, width, height."""
        rows, columns = np.flatnonzero(self.visible.any(1)), np.flatnonzero(self.visible.any(0))
        x, y = int(columns[0]), int(rows[0])
        return x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y

    def iou(self, other: "Found") -> float:
        """Overlap of the two boxes."""
        (x, y, width, height), (left, top, wide, tall) = self.box_xywh, other.box_xywh
        inner_width = max(0, min(x + width, left + wide) - max(x, left))
        inner = inner_width * max(0, min(y + height, top + tall) - max(y, top))
        return inner / (width * height + wide * tall - inner)


class Scene:
    """A picture that is painted from far to near, with the animals in it so far."""

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        self.site = make_site(rng)
        self.height, self.width = self.site.size_hw
        self.image, self.caustics = paint_site(self.site, rng)
        self.found: list[Found] = []

    def window(self, x: int, y: int, cover: np.ndarray) -> tuple[Window, Window] | None:
        """The overlap of a cover (h, w) at (x, y) and the picture: a window in each; None if empty."""
        left, top = max(0, x), max(0, y)
        right, bottom = min(self.width, x + cover.shape[1]), min(self.height, y + cover.shape[0])
        if right <= left or bottom <= top:
            return None
        return (slice(top, bottom), slice(left, right)), (slice(top - y, bottom - y), slice(left - x, right - x))

    def hides_any(self, window: Window, part: np.ndarray) -> bool:
        """Whether a cover painted at (x, y) would leave too little of an animal visible."""
        for animal in self.found:
            hidden = np.count_nonzero(animal.visible[window] & (part > 0.5))
            if hidden and np.count_nonzero(animal.visible) - hidden < MIN_VISIBLE * animal.full_area:
                return True
        return False

    def paste(self, x: int, y: int, colour: np.ndarray, cover: np.ndarray, *, haze: float, shadow: float) -> bool:
        """Paint a piece at (x, y) with its shadow, unless it would hide an animal; return whether it was painted."""
        windows = self.window(x, y, cover)
        if windows is None:
            return False
        there, here = windows
        part = cover[here]
        if self.hides_any(there, part):
            return False
        if shadow:
            self.cast_shadow(x, y, cover, shadow)
        lit = colour[:, *here] * ((1 - haze) * (0.9 + 0.3 * self.caustics[there]))
        lit += haze * self.site.water[:, None, None]
        behind = self.image[:, *there]
        behind += (lit - behind) * part
        for animal in self.found:
            animal.visible[there] &= part <= 0.5
        return True

    def cast_shadow(self, x: int, y: int, cover: np.ndarray, strength: float) -> None:
        """Darken the ground below a cover (h, w) at (x, y)."""
        height, width = cover.shape
        if self.site.view == "side":  # flat below it
            flat = max(2, height // 3)
            cover = cv2.resize(cover, (width, flat), interpolation=cv2.INTER_AREA)
            x, y = x - round(self.site.light_xy[0] * 0.1 * width), y + height - round(0.7 * flat)
        else:
            x, y = x - round(self.site.light_xy[0] * 0.16 * width), y + max(2, round(0.1 * height))
        soft = max(2, min(width, height) // 8)
        cover = cv2.copyMakeBorder(cover, soft, soft, soft, soft, cv2.BORDER_CONSTANT)
        windows = self.window(x - soft, y - soft, cover)
        if windows is not None:
            there, here = windows
            self.image[:, *there] *= 1 - strength * cv2.blur(cover, (2 * soft + 1, 2 * soft + 1))[here]

    def add_clutter(self, size: float, *, near: bool = False) -> None:
        """A coral, a rock, a plant, ... on the ground; or `near`, at the lower rim and out of focus."""
        rng, lying = self.rng, self.site.view == "above"
        piece = load_clutter(pick(rng, LYING if lying else STANDING), int(rng.integers(NUM_PIECES)), lying=lying)
        scale = size / max(piece.shape)
        width, height = (max(3, round(side * scale)) for side in piece.shape[1::-1])
        piece = cv2.resize(piece, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        if rng.random() < 0.5:
            piece = piece[:, ::-1]
        planes = np.stack(cv2.split(piece)).astype(np.float32)
        colour, cover = planes[:3] * rng.uniform(0.75, 1.15, (3, 1, 1)).astype(np.float32), planes[3] / 255
        x, haze = int(rng.uniform(-0.3 * width, self.width - 0.7 * width)), 0.0
        if near:
            colour, cover = out_of_focus(0.6 * colour, cover, 2 * max(1, round(size / 60)) + 1)
            y = round(self.height - height * rng.uniform(0.4, 0.8))
        elif lying:
            y = int(rng.uniform(-0.3 * height, self.height - 0.7 * height))
        else:
            ground = min(self.site.horizon + 0.06, 0.98)
            y = round(self.height * (ground + (1.08 - ground) * rng.uniform(0, 1) ** 1.3) - height)
            haze = min(max(1.6 * (1 - (y + height) / self.height), 0), 0.55)
        self.paste(x, y, colour, cover, haze=haze, shadow=0.0 if near else 0.35)

    def add_animal(self, name: str, size: float, palette: Palette) -> None:
        """Draw an animal where it is visible enough and hides no other; if no such place is found, skip it."""
        rng, view = self.rng, self.site.view
        colour, cover = draw_animal(name, rng, size, self.site.light_xy, palette)
        solid = cover > 0.5
        (height, width), full = cover.shape, int(np.count_nonzero(solid))
        for _ in range(PLACES):
            x = int(rng.uniform(-0.2 * width, self.width - 0.8 * width))
            y = int(rng.uniform(-0.2 * height, self.height - 0.8 * height))
            walks = view == "side" and ANIMALS[name].crawls
            low = y + 0.85 * height > self.site.horizon * self.height
            if walks and not low and rng.random() < 0.8:
                continue
            windows = self.window(x, y, cover)
            if windows is None:
                continue
            there, here = windows
            visible = np.zeros((self.height, self.width), bool)
            visible[there] = solid[here]
            new = Found(name, visible, full)
            if np.count_nonzero(visible) < MIN_INSIDE * full or any(
                new.iou(other) > MAX_BOX_IOU for other in self.found
            ):
                continue
            shadow = rng.uniform(0.3, 0.55) if view == "above" or (walks and low) else 0.0
            if self.paste(x, y, colour, cover, haze=rng.uniform(0, 0.12), shadow=shadow):
                self.found.append(new)
                return

    def choose_palette(self, name: str) -> Palette:
        """Colours for an animal that differ a little from the background."""
        behind = self.site.sand if self.site.view == "above" else self.site.water
        palette = make_palette(self.rng, ANIMALS[name].colours)
        for _ in range(4):
            if np.abs(np.array(palette[0]) - behind).sum() > 130:
                break
            palette = make_palette(self.rng, ANIMALS[name].colours)
        return palette


def out_of_focus(colour: np.ndarray, cover: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Blur a piece, colour (3, h, w) and cover (h, w), over `width` pixels; it grows by as many on each side."""
    pad = (width,) * 4
    wide = [cv2.copyMakeBorder(plane, *pad, cv2.BORDER_CONSTANT) for plane in (*colour * cover, cover)]
    *planes, cover = (cv2.blur(plane, (width, width)) for plane in wide)
    return np.stack(planes) / np.maximum(cover, 0.02), cover


def draw_scene(rng: Rng, first: str) -> tuple[np.ndarray, list[Found]]:
    """Draw one picture (H, W, 3) uint8 RGB with the animal `first` and others, rarely none; also return its animals."""
    scene = Scene(rng)
    view, short = scene.site.view, min(scene.site.size_hw)
    num = int(rng.choice(len(NUM_SHARES), p=NUM_SHARES))
    weights = np.array([0.4 if view == "open" and animal.crawls else 1.0 for animal in ANIMALS.values()])
    names = [str(name) for name in rng.choice(list(ANIMALS), num, p=weights / weights.sum())]
    names[:1] = [first] * min(num, 1)
    palettes = [scene.choose_palette(name) for name in names]
    if num > 2 and rng.random() < ALL_OF_A_KIND:
        names, palettes = names[:1] * num, palettes[:1] * num
    sizes = np.exp(rng.uniform(np.log(MIN_SIZE), np.log(MAX_SIZE - 0.09 * num), num))
    sizes[rng.random(num) < TINY_SHARE] = TINY_SIZE
    num_clutter = 0 if view == "open" else int(rng.integers(1, 5))
    for _ in range(num_clutter):
        scene.add_clutter(short * rng.uniform(0.15, 0.5))
    for i in np.argsort(sizes):  # the far ones first
        scene.add_animal(names[i], short * float(sizes[i]), palettes[i])
        if num_clutter and rng.random() < 0.25:
            scene.add_clutter(short * rng.uniform(0.12, 0.35))
    if view != "above" and rng.random() < 0.15:
        for _ in range(rng.integers(1, 3)):
            scene.add_clutter(short * rng.uniform(0.4, 0.9), near=True)
    return develop(add_bubbles(scene.image, scene.site, rng), rng), scene.found
