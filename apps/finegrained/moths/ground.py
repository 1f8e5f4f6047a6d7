"""The background of a moth: leaf, bark, sand, moss, planks, cloth, stone, or flowers out of focus.

Pictures are (H, W, 3) float32 RGB in [0, 255]. Letters: H W height and width in pixels.
"""

from collections.abc import Callable

import cv2
import numpy as np

from apps.common.drawing.curves import Colour, Rng, mix, pick, shifted
from apps.finegrained.moths.texture import BLACK, WHITE, noise_crop

SIZE_HW = (160, 176)
HEIGHT, WIDTH = SIZE_HW
DIAGONAL = 240  # of a ground that is rotated before it is cropped

GREENS = ((86, 128, 58), (120, 150, 66), (62, 104, 70), (134, 140, 84))
BARKS = ((124, 104, 84), (150, 138, 122), (104, 78, 60), (134, 112, 104))
SANDS = ((208, 184, 142), (186, 160, 122), (168, 156, 142), (206, 166, 120), (120, 98, 78))
WOODS = ((172, 130, 88), (142, 136, 128), (196, 160, 118), (118, 84, 60))
CLOTHS = ((226, 222, 210), (196, 190, 176), (214, 196, 196), (176, 190, 204), (150, 160, 140))
STONES = ((140, 142, 142), (170, 162, 148), (110, 112, 120), (160, 142, 132))
FLOWERS = ((222, 122, 150), (236, 190, 86), (168, 130, 206), (238, 232, 226), (226, 104, 78), (120, 150, 216))


def toned(colour: Colour, tone: np.ndarray) -> np.ndarray:
    """A colour times a tone (H, W)."""
    return tone[..., None] * np.array(colour, np.float32)


def blend(image: np.ndarray, colour: Colour, amount: np.ndarray) -> np.ndarray:
    """Interpolate from a picture (amount 0) to a colour (amount 1) by amount (H, W)."""
    return image + (np.array(colour, np.float32) - image) * amount[..., None]


def turn(image: np.ndarray, rng: Rng) -> np.ndarray:
    """A square picture rotated by any angle and cropped to the final size."""
    matrix = cv2.getRotationMatrix2D((DIAGONAL / 2, DIAGONAL / 2), rng.uniform(0, 360), 1.0)
    matrix = matrix + np.array([[0, 0, WIDTH - DIAGONAL], [0, 0, HEIGHT - DIAGONAL]]) / 2
    return cv2.warpAffine(image, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)


def grain(rng: Rng, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Fine roughness around 0, (H, W)."""
    return cv2.blur(noise_crop(rng, height, width, "grain"), (2, 2)) - 0.5


def draw_leaf(rng: Rng, base: Colour) -> np.ndarray:
    """The blade of one large leaf: a midrib, side veins, and a shine between them."""
    side, middle = DIAGONAL, DIAGONAL / 2 + rng.uniform(-50, 50)
    shade = np.full((side, side), 110, np.uint8)
    rise, gap = rng.uniform(0.4, 0.9) * side / 2, rng.uniform(22, 40)
    for y in np.arange(-side, 2 * side, gap):
        for end in (0, side):
            away = abs(end - middle)
            path = [(middle, y), ((middle + end) / 2, y - 0.38 * rise * away / 120), (end, y - rise * away / 120)]
            cv2.polylines(shade, [np.array(path, np.int32)], False, 165, 2, cv2.LINE_AA)
    cv2.line(shade, (int(middle), 0), (int(middle), side), 190, 4, cv2.LINE_AA)
    soft = cv2.GaussianBlur(shade, (0, 0), 6).astype(np.float32)
    tone = 0.72 + 0.3 * noise_crop(rng, side, side) + (shade - soft) * 0.005 + 0.12 * grain(rng, side, side)
    return turn(toned(base, tone), rng)


def add_lichen(image: np.ndarray, rng: Rng, colours: tuple[Colour, ...]) -> np.ndarray:
    """Crusts of lichen here and there, or none."""
    height, width = image.shape[:2]
    where = noise_crop(rng, height, width) + 0.35 * grain(rng, height, width) - rng.uniform(0.56, 0.9)
    tone = 0.75 + 0.5 * noise_crop(rng, height, width, "cell")
    crust = toned(pick(rng, colours), tone + 0.4 * grain(rng, height, width))
    return image + (crust - image) * np.clip(8 * where, 0, 0.8)[..., None]


def draw_bark(rng: Rng, base: Colour) -> np.ndarray:
    """Ridges and cracks, with lichen."""
    side = DIAGONAL
    fibre, cloud = noise_crop(rng, side, side, "fibre"), noise_crop(rng, side, side)
    ridges = np.minimum(6 * np.abs(fibre + 0.3 * cloud - 0.65), 1)
    tone = 0.5 + 0.45 * ridges + 0.3 * noise_crop(rng, side, side, "fibre") + 0.3 * grain(rng, side, side)
    return turn(add_lichen(toned(base, tone), rng, ((168, 178, 144), (190, 176, 104), (186, 190, 184))), rng)


def draw_sand(rng: Rng, base: Colour) -> np.ndarray:
    """Grains and a few pebbles."""
    tone = 0.8 + 0.28 * noise_crop(rng, HEIGHT, WIDTH) + 0.55 * grain(rng)
    image = np.clip(toned(base, tone), 0, 255).astype(np.uint8)
    for x, y, radius, share in rng.uniform((0, 0, 1.0, 0), (WIDTH, HEIGHT, 4.5, 1), (rng.integers(4, 26), 4)):
        centre, axes = (int(16 * x), int(16 * y)), (int(16 * radius), int(12 * radius))
        below = (centre[0] + 12, centre[1] + 18)
        cv2.ellipse(image, below, axes, 0, 0, 360, mix(base, BLACK, 0.5), -1, cv2.LINE_AA, 4)
        cv2.ellipse(image, centre, axes, 0, 0, 360, mix(mix(base, BLACK, 0.35), WHITE, 0.8 * share), -1, cv2.LINE_AA, 4)
    return image.astype(np.float32)


def draw_moss(rng: Rng, base: Colour) -> np.ndarray:
    """Cushions of short leaves."""
    cells = noise_crop(rng, HEIGHT, WIDTH, "cell")
    strokes = np.zeros((HEIGHT, WIDTH), np.uint8)
    starts = rng.uniform(0, (WIDTH, HEIGHT), (420, 2))
    paths = np.stack([starts, starts + rng.normal(0, 4, (420, 2))], 1)
    cv2.polylines(strokes, list((16 * paths).astype(np.int32)), False, 255, 1, cv2.LINE_AA, 4)
    tone = 1.0 - 0.42 * cells + 0.35 * (noise_crop(rng, HEIGHT, WIDTH) - 0.5)
    return blend(toned(base, tone), mix(base, (220, 232, 130), 0.45), strokes * np.float32(0.5 / 255))


def draw_planks(rng: Rng, base: Colour) -> np.ndarray:
    """Boards with grain along them and dark joints."""
    side, wide = DIAGONAL, int(rng.integers(50, 110))
    fibre = noise_crop(rng, side, side, "fibre")
    tone = 0.86 + 0.09 * np.sin(rng.uniform(25, 60) * fibre) + 0.2 * (fibre - 0.5) + 0.12 * grain(rng, side, side)
    for left in range(int(rng.integers(wide)) - wide, side, wide):
        tone[:, max(left, 0) : max(left + wide, 0)] *= rng.uniform(0.88, 1.1)
        tone[:, max(left, 0) : max(left + 3, 0)] *= 0.45
    return turn(toned(base, tone), rng)


def draw_cloth(rng: Rng, base: Colour) -> np.ndarray:
    """A sheet as hung up for moths: a weave and soft folds."""
    side = DIAGONAL
    x = np.arange(side, dtype=np.float32)
    weave = np.sin(x * rng.uniform(1.5, 2.2))[None] * np.sin(x * rng.uniform(1.5, 2.2))[:, None]
    folds = cv2.GaussianBlur(noise_crop(rng, side, side, "fibre"), (0, 0), 5)
    tone = 0.78 + 0.3 * folds + 0.045 * weave + 0.14 * grain(rng, side, side)
    return turn(toned(base, tone), rng)


def draw_stone(rng: Rng, base: Colour) -> np.ndarray:
    """Rough rock with cracks and lichen."""
    cloud = noise_crop(rng, HEIGHT, WIDTH)
    crack = np.clip(1 - 22 * np.abs(noise_crop(rng, HEIGHT, WIDTH) - 0.5), 0, 1) * cloud
    image = toned(base, 0.74 + 0.42 * cloud + 0.4 * grain(rng) - 0.3 * crack)
    return add_lichen(image, rng, ((196, 170, 82), (178, 190, 168), (206, 202, 192)))


def draw_flowers(rng: Rng, base: Colour) -> np.ndarray:
    """Blossoms far behind, out of focus."""
    image = np.ascontiguousarray(toned(mix(pick(rng, GREENS), BLACK, 0.25), 0.6 + 0.6 * noise_crop(rng, HEIGHT, WIDTH)))
    for x, y, radius, light in rng.uniform((0, 0, 5, 0.7), (WIDTH, HEIGHT, 20, 1.1), (rng.integers(9, 22), 4)):
        colour = shifted(base, rng.normal(0, 0.02), 1.0, light)
        cv2.circle(image, (int(x), int(y)), int(radius), colour, -1, cv2.LINE_AA)
    return cv2.blur(cv2.blur(image, (9, 9)), (7, 7))


GROUNDS: tuple[tuple[Callable[[Rng, Colour], np.ndarray], tuple[Colour, ...]], ...] = (
    (draw_leaf, GREENS),
    (draw_bark, BARKS),
    (draw_sand, SANDS),
    (draw_moss, GREENS),
    (draw_planks, WOODS),
    (draw_cloth, CLOTHS),
    (draw_stone, STONES),
    (draw_flowers, FLOWERS),
)


def draw_ground(rng: Rng) -> np.ndarray:
    """Any ground, (H, W, 3)."""
    draw, colours = pick(rng, GROUNDS)
    base = shifted(pick(rng, colours), rng.normal(0, 0.015), rng.uniform(0.75, 1.15), rng.uniform(0.82, 1.06))
    return draw(rng, base)
