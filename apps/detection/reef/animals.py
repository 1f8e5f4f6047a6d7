"""The six animals to detect, by name.

Some pairs are similar on purpose: jellyfish and octopus (a dome and arms), turtle and crab (a carapace and limbs),
shell and jellyfish (ribs that fan out). Each kind has its own colours, as on a reef: these are what a small network
learns from a few thousand pictures.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from apps.common.drawing.curves import Rng
from apps.detection.reef.canvas import Palette, Sprite
from apps.detection.reef.crawlers import draw_crab, draw_octopus, draw_shell
from apps.detection.reef.swimmers import draw_fish, draw_jellyfish, draw_turtle


@dataclass(frozen=True)
class Animal:
    """How an animal is drawn and posed."""

    draw: Callable[[Sprite, Palette], None]
    lean: float
    """The usual largest tilt to either side in radians; some animals have any tilt."""
    squash: float
    """By how much perspective may shorten its height, as for an animal flat on the ground."""
    gloss: float
    crawls: bool
    colours: tuple[str, ...]
    """Its usual palettes."""


ANIMALS = {
    "fish": Animal(draw_fish, 0.3, 0.0, 0.45, False, ("yellow", "gold")),
    "crab": Animal(draw_crab, 0.5, 0.2, 0.4, True, ("red",)),
    "jellyfish": Animal(draw_jellyfish, 0.6, 0.0, 0.8, False, ("pink",)),
    "turtle": Animal(draw_turtle, math.pi, 0.3, 0.35, False, ("green",)),
    "shell": Animal(draw_shell, 0.9, 0.1, 0.6, True, ("white", "cream")),
    "octopus": Animal(draw_octopus, 0.45, 0.1, 0.4, True, ("violet",)),
}


def draw_animal(
    name: str, rng: Rng, size: float, light_xy: tuple[float, float], palette: Palette
) -> tuple[np.ndarray, np.ndarray]:
    """Draw an animal about `size` pixels long in a random pose, lit from `light_xy`.

    Returns its colour (3, h, w) float32 in [0, 255] and cover (h, w) float32 in [0, 1], cut to its extent.
    """
    animal = ANIMALS[name]
    lean = animal.lean if rng.random() < 0.85 else math.pi
    side = max(16, round(size * 1.28))
    finer = 3 if side < 40 else 2
    squash = 1 - rng.uniform(0, animal.squash)
    sprite = Sprite(side, finer, rng, turn=rng.uniform(-lean, lean), mirror=rng.random() < 0.5, squash=squash)
    animal.draw(sprite, palette)
    return sprite.render(light_xy, animal.gloss)
