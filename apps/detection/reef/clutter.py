"""Clutter of the reef, which is not to be detected: rocks, corals, sponges, anemones, grass, kelp.

Each kind has a few pieces, drawn once per process and then scaled, mirrored and tinted.
"""

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

from apps.common.drawing.curves import ellipse, mix, pick, smooth, ticks
from apps.detection.reef.canvas import BLACK, DULL, UP, WHITE, Sprite, bent, make_palette
from apps.detection.reef.noise import noise_crop

STONES = ((112, 104, 100), (86, 92, 104), (134, 116, 96), (98, 82, 96), (78, 84, 76))
GREENS = ((58, 128, 62), (96, 140, 52), (44, 104, 88), (132, 142, 60), (122, 74, 50), (150, 60, 70))


def draw_rock(sprite: Sprite) -> None:
    """One to three boulders with algae."""
    rng = sprite.rng
    stone = pick(rng, STONES)
    for _ in range(rng.integers(1, 4)):
        rx, ry = rng.uniform(0.35, 0.65), rng.uniform(0.3, 0.5)
        outline = ellipse(rng.uniform(-0.45, 0.45), 0.9 - ry, rx, ry, num=12)
        outline = smooth(outline + rng.normal(0, 0.05, outline.shape))
        sprite.fill(outline, mix(stone, WHITE, rng.uniform(0, 0.15)), 0.8)
        sprite.pattern(outline, mix(stone, BLACK, 0.3), pick(rng, GREENS), kind="blotches")


def draw_branches(sprite: Sprite) -> None:
    """A coral that forks."""
    rng = sprite.rng
    base, second, _ = make_palette(rng, strength=DULL)
    spread, thick = rng.uniform(0.35, 0.65), rng.uniform(0.05, 0.085)

    def grow(x: float, y: float, heading: float, length: float, width: float, level: int) -> None:
        path = bent(x, y, heading, length, curl=rng.normal(0, 0.3), num=6)
        x, y = path[-1]
        tip = mix(base, mix(second, WHITE, 0.5), 0.22 * level)
        sprite.stroke(path, np.linspace(width, 0.8 * width, 6), tip, 0.5 + 0.1 * level)
        sprite.dots(path[-1:], 0.8 * width, tip, 0.5 + 0.1 * level)
        if level < 3:
            for side in (-1, 1) if rng.random() < 0.8 else (-1, 0, 1):
                aim = heading + side * spread + rng.normal(0, 0.12)
                grow(x, y, aim, 0.76 * length, 0.76 * width, level + 1)

    for lean in np.linspace(-0.4, 0.4, rng.integers(1, 4)):
        grow(0.4 * lean, 0.95, UP + lean, 0.55, thick, 0)


def draw_brain(sprite: Sprite) -> None:
    """A dome of winding furrows."""
    rng = sprite.rng
    base, _, _ = make_palette(rng, strength=DULL)
    dome = ellipse(0, 0.3, rng.uniform(0.7, 0.95), rng.uniform(0.55, 0.65), num=10)
    dome = smooth(dome + rng.normal(0, 0.04, dome.shape))
    sprite.fill(dome, base, 0.8)
    region = sprite.inside(dome)
    furrow = np.sin(32 * noise_crop(rng, *region.mask.shape) + 3 * np.hypot(region.u, region.v))
    sprite.tint(region, np.clip(4 * furrow, 0, 0.7), mix(base, BLACK, 0.45))


def draw_tubes(sprite: Sprite) -> None:
    """Sponges like chimneys."""
    rng = sprite.rng
    base, second, _ = make_palette(rng, strength=DULL)
    for x in rng.permutation(np.linspace(-0.5, 0.5, rng.integers(3, 6))):
        width, tall = rng.uniform(0.1, 0.17), rng.uniform(0.7, 1.7)
        path = bent(x, 0.95, UP + 0.5 * x + rng.normal(0, 0.08), tall, curl=rng.normal(0, 0.2), num=9)
        tone = mix(base, BLACK, rng.uniform(0, 0.25))
        sprite.stroke(path, np.linspace(0.7, 1.05, 9) * width, tone, 0.7)
        x, y = path[-1]
        sprite.fill(ellipse(x, y, 1.1 * width, 0.45 * width), mix(tone, WHITE, 0.3), 0.8)
        sprite.fill(ellipse(x, y, 0.75 * width, 0.27 * width), mix(second, BLACK, 0.75), 0.2)


def draw_anemone(sprite: Sprite) -> None:
    """A cushion of soft fingers, as of a jellyfish upside down."""
    rng = sprite.rng
    base, second, _ = make_palette(rng, strength=DULL)
    tip = mix(second, WHITE, 0.35)
    sprite.fill(smooth([(-0.4, 0.95), (-0.45, 0.4), (0.45, 0.4), (0.4, 0.95)], rounds=2), mix(base, BLACK, 0.35), 0.5)
    for _ in range(rng.integers(22, 34)):
        side = rng.uniform(-1, 1)
        path = bent(
            0.42 * side,
            0.5 - 0.1 * (1 - side**2),
            UP + 1.1 * side,
            rng.uniform(0.5, 0.95),
            curl=rng.normal(0, 0.7),
            num=11,
        )
        sprite.stroke(path, np.linspace(0.07, 0.045, 11), mix(base, BLACK, rng.uniform(0, 0.25)), 0.6)
        sprite.dots(path[-1:], 0.06, tip, 0.8)


def draw_urchin(sprite: Sprite) -> None:
    """A ball of spines, somewhat like a star."""
    rng = sprite.rng
    base, second, _ = make_palette(rng, strength=DULL)
    dark, num = mix(base, BLACK, 0.45), int(rng.integers(26, 40))
    for heading in np.arange(num) * 2 * np.pi / num + rng.normal(0, 0.1, num):
        spine = bent(0, 0.1, heading, rng.uniform(0.6, 0.85), num=2)
        sprite.stroke(spine, np.array([0.05, 0.008]), mix(dark, second, rng.uniform(0, 0.5)), 0.45)
    sprite.fill(ellipse(0, 0.1, 0.42, 0.4), dark, 0.8)
    for radius in (0.14, 0.26, 0.35):
        sprite.dots(ellipse(0, 0.1, radius, radius, num=int(40 * radius)), 0.026, mix(base, second, 0.5), 0.9)


def draw_grass(sprite: Sprite) -> None:
    """A tuft of blades."""
    rng = sprite.rng
    green = pick(rng, GREENS)
    for _ in range(rng.integers(9, 18)):
        x = rng.normal(0, 0.3)
        path = bent(x, 0.98, UP + 0.5 * x + rng.normal(0, 0.12), rng.uniform(0.8, 1.9), curl=rng.normal(0, 0.6), num=11)
        tone = mix(green, pick(rng, (BLACK, WHITE)), rng.uniform(0, 0.35))
        sprite.stroke(path, 0.05 * (1 - ticks(11) ** 2) + 0.008, tone, rng.uniform(0.4, 0.8))


def draw_kelp(sprite: Sprite) -> None:
    """A stem or two with leaves on both sides."""
    rng = sprite.rng
    green = pick(rng, GREENS)
    for x in rng.uniform(-0.35, 0.35, rng.integers(1, 3)):
        stem = bent(
            x, 1.05, UP + rng.normal(0, 0.12), 2.0, curl=0.5 * np.sin(np.linspace(0, 5, 22) + rng.uniform(0, 6)), num=22
        )
        sprite.stroke(stem, 0.022, mix(green, BLACK, 0.3), 0.5)
        for order, (foot_x, foot_y) in enumerate(stem[3:]):
            side = -1 if order % 2 else 1
            leaf = bent(
                foot_x,
                foot_y,
                UP + side * rng.uniform(0.6, 1.1),
                rng.uniform(0.3, 0.5),
                curl=-side * rng.uniform(0, 0.9),
                num=9,
            )
            tone = mix(green, WHITE if side > 0 else BLACK, rng.uniform(0, 0.25))
            sprite.stroke(leaf, 0.055 * np.sin(np.linspace(0.3, 3.1, 9)), tone, 0.6)


CLUTTER: dict[str, Callable[[Sprite], None]] = {
    "rock": draw_rock,
    "branches": draw_branches,
    "brain": draw_brain,
    "tubes": draw_tubes,
    "anemone": draw_anemone,
    "urchin": draw_urchin,
    "grass": draw_grass,
    "kelp": draw_kelp,
}

NUM_PIECES = 12  # of each kind
# Clutter that stands on the ground, and clutter for views from above; the common kinds more than once.
STANDING = ("rock", "rock", "branches", "branches", "brain", "tubes", "anemone", "grass", "grass", "kelp", "urchin")
LYING = ("rock", "rock", "branches", "brain", "grass", "kelp", "kelp", "urchin")


@cache
def load_clutter(kind: str, index: int, *, lying: bool) -> np.ndarray:
    """A piece of clutter, the same in every process, upright or lying at any angle.

    Returns (h, w, 4) uint8: red, green, blue, cover.
    """
    rng = np.random.default_rng((index, lying, *kind.encode()))
    sprite = Sprite(128, 2, rng, turn=rng.uniform(-np.pi, np.pi) if lying else 0.0)
    CLUTTER[kind](sprite)
    colour, cover = sprite.render((-0.3, -1.0), 0.2)
    return cv2.merge([*colour, 255 * cover]).astype(np.uint8)
