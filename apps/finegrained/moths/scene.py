"""One picture: a moth of a species in some pose on some ground, in some light.

Letters: H W height and width of the picture in pixels.
"""

import cv2
import numpy as np

from apps.common.drawing.curves import Rng, mix, pick, smooth
from apps.finegrained.moths.ground import GREENS, HEIGHT, SIZE_HW, WIDTH, draw_ground
from apps.finegrained.moths.moth import UNIT, Canvas, Marks, Moth
from apps.finegrained.moths.texture import BLACK, noise_crop, ribbon

FINER = 2  # the moth is drawn larger than in the picture by this factor, for antialiasing
HALF_SPAN = (58.0, 70.0)  # of the wings, in pixels of the picture
MAX_TURN = np.radians(35)


class Pose:
    """Where the camera sees the moth: `camera` (3, 3) takes its units to pixels, `FINER` times the picture's."""

    def __init__(self, rng: Rng) -> None:
        size, angle = rng.uniform(*HALF_SPAN) * FINER, rng.uniform(-MAX_TURN, MAX_TURN)
        x, y = rng.uniform(-7, 7), rng.uniform(-10, 2)
        cos, sin = size * np.cos(angle), size * np.sin(angle)
        self.camera = np.array([
            [cos, -sin, (WIDTH / 2 + x) * FINER], [sin, cos, (HEIGHT / 2 + y) * FINER], [0, 0, 1],
        ]) @ np.array([[1, 0, 0], [0, 1, 0], [*rng.uniform(-0.09, 0.09, 2), 1]])  # fmt: skip
        self.sides = [(mirror, rng.uniform(0.87, 1.0), rng.normal(0, 0.03)) for mirror in (-1, 1)]

    def place(self, canvas: Canvas, matrix: np.ndarray) -> np.ndarray:
        """The layer (H, W, 4) of a canvas in the camera's view; `matrix` (3, 3) transforms it in the moth's units."""
        from_pixels = np.array([[1 / UNIT, 0, -canvas.origin[0]], [0, 1 / UNIT, -canvas.origin[1]], [0, 0, 1]])
        pixels = cv2.merge([canvas.pixels, canvas.cover])
        size = (WIDTH * FINER, HEIGHT * FINER)
        seen = cv2.warpPerspective(pixels, self.camera @ matrix @ from_pixels, size, flags=cv2.INTER_LINEAR)
        return reduced(seen)

    def place_wings(self, canvas: Canvas, mirror: int, flat: float, angle: float) -> np.ndarray:
        """The wings of one side in the camera's view: raised a little, so that they look narrower and darker."""
        cos, sin = np.cos(angle), np.sin(angle)
        half = np.array([[mirror * flat * cos, -mirror * flat * sin, 0], [sin, cos, 0], [0, 0, 1]])
        seen = self.place(canvas, half)
        seen[..., :3] *= 0.5 + 0.5 * flat
        return seen


def reduced(fine: np.ndarray) -> np.ndarray:
    """A layer drawn `FINER` times as fine, uint8, as (H, W, 4) float32: colour times cover, and cover in [0, 1]."""
    layer: np.ndarray = cv2.resize(fine, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA).astype(np.float32)
    layer[..., 3] /= 255
    return layer


def over(below: np.ndarray, layer: np.ndarray) -> None:
    """Compose a layer (H, W, 4) over a picture (H, W, 3 or 4)."""
    below *= 1 - layer[..., 3:]
    below += layer[..., : below.shape[2]]


def cast_shadow(image: np.ndarray, cover: np.ndarray, light_xy: np.ndarray, height: float) -> None:
    """Darken a picture where a cover (H, W) at some height in pixels casts its shadow."""
    matrix = np.array([[1, 0, -height * light_xy[0]], [0, 1, -height * light_xy[1]]])
    moved = cv2.GaussianBlur(cv2.warpAffine(cover, matrix, (WIDTH, HEIGHT)), (0, 0), 1 + 0.4 * height)
    image *= 1 - 0.55 * moved[..., None]


def draw_blades(rng: Rng) -> np.ndarray:
    """A layer (H, W, 4) with no, one or two blades of grass across the picture."""
    layer = np.zeros((HEIGHT * FINER, WIDTH * FINER, 4), np.uint8)
    for _ in range(int(rng.choice(3, p=(0.65, 0.25, 0.1)))):
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.45, 1.1)
        start = np.array([WIDTH, HEIGHT]) * (0.5 + 0.75 * np.array([np.cos(angle), np.sin(angle)]))
        goal = np.array([WIDTH, HEIGHT]) * rng.uniform(0.25, 0.75, 2)
        side = (goal - start)[::-1] * (-1, 1) * rng.uniform(-0.25, 0.25)
        path = smooth(
            [start, start + 0.5 * reach * (goal - start) + side, start + reach * (goal - start)], closed=False
        )
        widths = rng.uniform(1.2, 2.4) * (1 - np.linspace(0, 1, len(path)) ** 3) + 0.2
        outline = (16 * FINER * ribbon(path, widths)).astype(np.int32)
        colour = mix(pick(rng, (*GREENS, (150, 120, 76))), BLACK, rng.uniform(0, 0.35))
        cv2.fillPoly(layer, [outline], (*colour, 255), cv2.LINE_AA, 4)
    return reduced(layer)


def develop(image: np.ndarray, rng: Rng, light_xy: np.ndarray) -> np.ndarray:
    """Dappled and falling light, exposure, colour cast, softness and noise; returns (H, W, 3) uint8."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j].astype(np.float32)
    light = 1 + rng.uniform(0, 0.13) * (x * light_xy[0] + y * light_xy[1]) - rng.uniform(0, 0.12) * (x**2 + y**2)
    dapple, deep = cv2.GaussianBlur(noise_crop(rng, *SIZE_HW), (0, 0), 3), rng.uniform(0, 0.4)
    if rng.random() < 0.3:
        light *= 1 - deep * np.clip(6 * (0.5 - dapple), 0, 1)
    gains = rng.uniform(0.88, 1.14) * np.array([1 + 0.06 * rng.normal(), 1.0, 1 - 0.06 * rng.normal()])
    image *= light[..., None] * gains.astype(np.float32)
    sigma, noise = rng.uniform(0.4, 0.8), rng.uniform(0, 26) * rng.random()
    if rng.random() < 0.25:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    image += noise * np.stack([noise_crop(rng, *SIZE_HW, "grain") for _ in "rgb"], -1) - 0.5 * noise
    return np.clip(image, 0, 255).astype(np.uint8)


def draw_scene(rng: Rng, marks: Marks) -> np.ndarray:
    """Draw one picture (H, W, 3) uint8 RGB of a moth with these marks; all else is random and independent of them."""
    angle = rng.uniform(0, 2 * np.pi)
    light_xy = np.array([np.cos(angle), np.sin(angle)])
    image, moth, pose = draw_ground(rng), Moth(rng), Pose(rng)
    wings, body = moth.wings(marks), moth.body()
    layer = np.zeros((HEIGHT, WIDTH, 4), np.float32)
    for mirror, flat, turn in pose.sides:
        over(layer, pose.place_wings(wings, mirror, flat, turn))
    cast_shadow(image, layer[..., 3], light_xy, rng.uniform(2, 7))
    over(layer, pose.place(body, np.eye(3)))
    over(image, layer)
    blades, height = draw_blades(rng), rng.uniform(2, 6)
    cast_shadow(image, blades[..., 3], light_xy, height)
    over(image, blades)
    return develop(image, rng, light_xy)
