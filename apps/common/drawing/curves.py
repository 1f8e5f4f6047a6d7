"""Colours, smooth steps and curves from which the sample sets are drawn."""

import colorsys
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np

Rng = np.random.Generator
Colour = tuple[float, float, float]
T = TypeVar("T")


def mix(first: Colour, second: Colour, amount: float) -> Colour:
    """Interpolate from the first colour (0) to the second (1)."""
    r, g, b = ((1 - amount) * one + amount * two for one, two in zip(first, second, strict=True))
    return r, g, b


def rgb(code: str) -> Colour:
    """ "f2d0b0" to a colour."""
    r, g, b = bytes.fromhex(code)
    return float(r), float(g), float(b)


def shifted(colour: Colour, hue: float, saturation: float, value: float) -> Colour:
    """A colour with its hue shifted (1 is the whole circle), its saturation and value multiplied."""
    h, s, v = colorsys.rgb_to_hsv(*(part / 255 for part in colour))
    r, g, b = colorsys.hsv_to_rgb((h + hue) % 1, min(1, s * saturation), min(1, v * value))
    return 255 * r, 255 * g, 255 * b


def smooth(points: object, *, closed: bool = True, rounds: int = 3) -> np.ndarray:
    """Round the corners of an outline or a path by repeatedly cutting them (Chaikin)."""
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
    """Outline (num, 2) of an ellipse rotated by `turn` radians."""
    cos, sin = math.cos(turn), math.sin(turn)
    return circle(num) @ np.array([[rx * cos, rx * sin], [-ry * sin, ry * cos]]) + (x, y)


@lru_cache
def ticks(num: int) -> np.ndarray:
    """`num` numbers from 0 to 1."""
    return np.linspace(0, 1, num)


@lru_cache
def bernstein(degree: int, num: int) -> np.ndarray:
    """The weights (num, degree + 1) of a Bezier curve's control points."""
    t = ticks(num)
    return np.stack([math.comb(degree, i) * t**i * (1 - t) ** (degree - i) for i in range(degree + 1)], 1)


def curve(*points: tuple[float, float], num: int = 9) -> np.ndarray:
    """Path (num, 2): the Bezier curve of the given control points."""
    return bernstein(len(points) - 1, num) @ np.array(points)


def pick(rng: Rng, things: Sequence[T]) -> T:
    """A uniformly random item; ten times faster than `rng.choice`."""
    return things[int(rng.integers(len(things)))]
