"""One moth, drawn flat: the right wings, which are mirrored for the left ones, and the body between them.

A moth's unit is half its wingspan: x from the body outwards, y from the head down, wings about [-1, 1]. Its canvases
have `UNIT` pixels per unit. All random numbers are drawn before the species is used, so that two species drawn from the
same generator differ by their marks alone. Letters: N points.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from apps.common.drawing.curves import Colour, Rng, circle, mix, pick, shifted, smooth
from apps.finegrained.moths.texture import BLACK, WHITE, along, noise_crop, ribbon

UNIT = 140
WING_SIZE, BODY_SIZE = (196, 294), (126, 294)  # width, height
WING_ORIGIN, BODY_ORIGIN = (0.2, 1.0), (0.45, 1.0)  # in units from the left and the top

FORE_ROOT, HIND_ROOT = np.array([0.06, -0.16]), np.array([0.06, -0.02])
FORE_COSTA = [(0.05, -0.26), (0.3, -0.44), (0.62, -0.63), (0.9, -0.73), (1.0, -0.7)]
FORE_MARGIN = [(1.0, -0.7), (0.97, -0.56), (0.9, -0.36), (0.85, -0.18), (0.76, 0.0)]
FORE_INNER = [(0.76, 0.0), (0.45, 0.02), (0.06, 0.0)]
HIND_COSTA = [(0.05, -0.1), (0.45, -0.16), (0.78, -0.04)]
HIND_MARGIN = [(0.78, -0.04), (0.86, 0.16), (0.82, 0.36), (0.7, 0.55), (0.54, 0.65)]
HIND_INNER = [(0.4, 0.66), (0.2, 0.6), (0.08, 0.3), (0.05, 0.1)]

# Forewing, hindwing.
PALETTES = (
    ((150, 86, 54), (192, 112, 82)), ((106, 104, 60), (182, 136, 70)), ((86, 92, 106), (172, 100, 104)),
    ((102, 68, 96), (150, 104, 140)), ((116, 70, 44), (198, 114, 52)), ((64, 100, 102), (104, 142, 130)),
    ((96, 74, 58), (156, 118, 88)), ((86, 112, 72), (144, 150, 92)), ((94, 62, 56), (166, 66, 60)),
    ((74, 88, 126), (116, 124, 160)),
)  # fmt: skip
CREAM: Colour = (250, 240, 212)
EYESPOT_PLACES = {1: (0.58,), 2: (0.33, 0.83), 3: (0.2, 0.57, 0.94)}  # of the hindwing's margin


@dataclass(frozen=True)
class Marks:
    """The marks that identify a species: everything about it that is not random."""

    band: Literal["whole", "broken"]
    """the pale band across the forewing"""
    eyespots: Literal[1, 2, 3]
    """on the hindwing"""
    tail: bool
    """at the hindwing's lower end"""


def turned(points: object, angle: float, centre: np.ndarray) -> np.ndarray:
    """Points (N, 2) rotated about a centre by an angle in radians, clockwise on the screen."""
    cos, sin = np.cos(angle), np.sin(angle)
    return (np.asarray(points) - centre) @ np.array([[cos, sin], [-sin, cos]]) + centre


class Canvas:
    """RGB and cover of one part of the moth: uint8, black where transparent."""

    def __init__(self, size_wh: tuple[int, int], origin: tuple[float, float]) -> None:
        self.pixels: np.ndarray = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
        self.cover: np.ndarray = np.zeros((size_wh[1], size_wh[0]), np.uint8)
        self.origin = np.array(origin)

    def fixed(self, points: object) -> np.ndarray:
        """Pixel coordinates (N, 2) int32 with 4 fractional bits."""
        return ((np.asarray(points) + self.origin) * (16 * UNIT)).astype(np.int32)

    def fill(self, outline: object, colour: Colour) -> None:
        cv2.fillPoly(self.pixels, [self.fixed(outline)], colour, cv2.LINE_AA, 4)

    def lines(self, paths: list[np.ndarray], colour: Colour, width: int, *, closed: bool = False) -> None:
        cv2.polylines(self.pixels, [self.fixed(path) for path in paths], closed, colour, width, cv2.LINE_AA, 4)

    def dot(self, centre: np.ndarray, radius: float, colour: Colour) -> None:
        x, y = self.fixed(centre).tolist()
        cv2.circle(self.pixels, (x, y), int(16 * UNIT * radius), colour, -1, cv2.LINE_AA, 4)


class Moth:
    """An individual: its colours, shape and the random variation of its marks.

    Args:
        rng: the only source of random numbers.
    """

    def __init__(self, rng: Rng) -> None:
        self.rng = rng
        look = (rng.uniform(-0.025, 0.025), rng.uniform(0.75, 1.15), rng.uniform(0.82, 1.08))
        fore, hind = pick(rng, PALETTES)
        self.fore, self.hind = shifted(fore, *look), shifted(hind, *look)
        self.pale = mix(CREAM, pick(rng, ((255, 226, 150), (255, 214, 196), (236, 244, 232))), rng.uniform(0, 0.5))
        self.opening = rng.uniform(-0.14, 0.14)
        self.gap = rng.uniform(0.03, 0.12)  # the hindwing's opening more than the forewing's
        self.wobble = rng.normal(0, 0.009, (4, 8, 2))
        self.zones = rng.uniform(-0.04, 0.04, 6)
        self.scallops = rng.integers(4, 8), rng.uniform(0, 6), rng.uniform(0.008, 0.022)
        self.band = rng.uniform(0.57, 0.66), rng.uniform(0.05, 0.066), rng.uniform(-0.06, 0.06)
        self.band_gap = rng.uniform(0.43, 0.57), rng.uniform(0.15, 0.2)
        self.spot_size, self.spot_jitter = rng.uniform(0.088, 0.104), rng.normal(0, 0.01, (3, 2))
        self.tail = rng.uniform(0.28, 0.37), rng.uniform(-0.08, 0.1), rng.uniform(0.066, 0.082)
        self.iris = shifted((70, 110, 190), rng.uniform(-0.12, 0.5), rng.uniform(0.5, 1), rng.uniform(0.7, 1.1))
        self.discal = rng.random() < 0.5

    def wings(self, marks: Marks) -> Canvas:
        """The right wings; the body's side is at x = 0."""
        canvas = Canvas(WING_SIZE, WING_ORIGIN)
        self.paint_hindwing(canvas, marks)
        self.paint_forewing(canvas, marks)
        return canvas

    def paint_hindwing(self, canvas: Canvas, marks: Marks) -> None:
        margin = np.array(HIND_MARGIN) + self.wobble[2, :5]
        end = np.array(HIND_INNER) + self.wobble[3, :4]
        tail = np.empty((0, 2))
        if marks.tail:
            length, lean, wide = self.tail
            x, y = margin[-1] + (lean - 0.06, length)
            ways = [(wide - 0.03, -0.42), (wide, -0.12), (0, 0.05), (-wide, -0.12), (-wide - 0.01, -0.5)]
            tail = np.stack([margin[-1] + (0.01, 0.03), *((x + dx, y + dy * length) for dx, dy in ways)])
        angle = self.opening + self.gap
        outline = turned(smooth([*HIND_COSTA, *margin[1:], *tail, *end], rounds=3), angle, HIND_ROOT)
        margin = turned(smooth(margin, closed=False, rounds=2), angle, HIND_ROOT)
        wing = self.paint_wing(margin, HIND_ROOT, self.hind, 1)
        spots = HIND_ROOT + 0.74 * (along(margin, np.array(EYESPOT_PLACES[marks.eyespots])) - HIND_ROOT)
        for spot in spots + self.spot_jitter[: len(spots)]:
            wing.dot(spot, 1.16 * self.spot_size, mix(self.hind, BLACK, 0.6))
            wing.dot(spot, self.spot_size, self.pale)
            wing.dot(spot, 0.62 * self.spot_size, BLACK)
            wing.dot(spot, 0.36 * self.spot_size, self.iris)
            wing.dot(spot - 0.2 * self.spot_size, 0.15 * self.spot_size, WHITE)
        if marks.tail:  # its end is pale
            tip = turned(tail[2:-1].mean(0, keepdims=True), angle, HIND_ROOT)[0]
            wing.dot(tip, 1.9 * wide, mix(self.hind, BLACK, 0.6))
            wing.dot(tip, 1.55 * wide, self.pale)
        self.lay_wing(canvas, wing, outline)

    def paint_forewing(self, canvas: Canvas, marks: Marks) -> None:
        margin = np.array(FORE_MARGIN) + self.wobble[0, :5]
        outline = smooth([*FORE_COSTA[:-1], *margin, *FORE_INNER[1:]], rounds=3)
        outline = turned(outline, self.opening, FORE_ROOT)
        margin = turned(smooth(margin, closed=False, rounds=2), self.opening, FORE_ROOT)
        wing = self.paint_wing(margin, FORE_ROOT, self.fore, 0)
        place, wide, slant = self.band
        centre, gap = self.band_gap
        whole = np.linspace(-0.3, 1.3, 33)
        sides = [whole]
        if marks.band == "broken":
            sides = [np.linspace(-0.3, centre - gap, 14), np.linspace(centre + gap, 1.3, 14)]
        for t in sides:
            wave = 0.012 * np.sin(2 * self.scallops[0] * t + self.scallops[1])
            path = FORE_ROOT + (place + slant * (t - 0.5) + wave)[:, None] * (along(margin, t) - FORE_ROOT)
            for widths, colour in ((wide + 0.022, mix(self.fore, BLACK, 0.6)), (wide, self.pale)):
                wing.fill(ribbon(path, widths), colour)
        if self.discal:
            wing.dot(
                FORE_ROOT + 0.36 * (along(margin, np.array([0.4]))[0] - FORE_ROOT), 0.032, mix(self.fore, BLACK, 0.55)
            )
        self.lay_wing(canvas, wing, outline)

    def paint_wing(self, margin: np.ndarray, root: np.ndarray, base: Colour, order: int) -> Canvas:
        """Zones of colour around the root, wavy lines and veins; nothing is cut to the outline yet."""
        wing = Canvas(WING_SIZE, WING_ORIGIN)
        shift = self.zones[3 * order : 3 * order + 3]
        wing.pixels[:] = mix(base, BLACK, 0.28)
        turns, phase, deep = self.scallops
        t = np.linspace(-0.4, 1.4, 60)
        fan = along(margin, t) - root
        wave = deep * np.sin(2 * np.pi * turns * t + phase)
        for share, colour in (
            (0.9 + 0.3 * shift[0], base),
            (0.82 + shift[1], mix(base, WHITE, 0.1)),
            (0.46 + shift[2], mix(base, BLACK, 0.2)),
            (0.22 + shift[0], mix(base, WHITE, 0.12)),
        ):
            wing.fill(np.concatenate([root + (share + wave)[:, None] * fan, [root]]), colour)
        wing.pixels = cv2.blur(wing.pixels, (7, 7))
        wing.lines([root + (0.86 + shift[1] + 1.5 * wave)[:, None] * fan], mix(base, BLACK, 0.5), 2)
        veins = along(margin, np.linspace(-0.1, 1.1, 9)) - root
        wing.lines([np.stack([root + 0.3 * vein, root + vein]) for vein in veins], mix(base, BLACK, 0.3), 1)
        return wing

    def lay_wing(self, canvas: Canvas, wing: Canvas, outline: np.ndarray) -> None:
        """Give a wing its fringe, scales and relief, cut it out, and lay it on the canvas with a soft shadow below."""
        wing.lines([outline], mix(self.fore, BLACK, 0.55), 8, closed=True)
        wing.lines([outline], mix(self.pale, self.hind, 0.5), 4, closed=True)
        mask = wing.cover
        cv2.fillPoly(mask, [wing.fixed(outline)], 255, cv2.LINE_AA, 4)
        height, width = mask.shape
        scales = 0.8 + 0.26 * noise_crop(self.rng, height, width) + 0.16 * noise_crop(self.rng, height, width, "grain")
        shade = (scales * 100 * (0.8 + np.float32(0.22 / 255) * cv2.blur(mask, (31, 31)))).astype(np.uint8)
        painted = cv2.multiply(wing.pixels, cv2.merge([shade] * 3), scale=0.01)
        if canvas.cover.any():
            shadow = 255 - (np.float32(0.45) * cv2.blur(np.roll(mask, 6, axis=0), (15, 15))).astype(np.uint8)
            canvas.pixels = cv2.multiply(canvas.pixels, cv2.merge([shadow] * 3), scale=1 / 255)
        share = mask * np.float32(1 / 255)
        canvas.pixels = cv2.blendLinear(canvas.pixels, painted, 1 - share, share)
        canvas.cover = np.maximum(canvas.cover, mask)

    def body(self) -> Canvas:
        """Head, antennae, furry thorax and ringed abdomen."""
        rng, canvas = self.rng, Canvas(BODY_SIZE, BODY_ORIGIN)
        dark, fur = mix(self.fore, BLACK, 0.5), mix(self.fore, self.pale, rng.uniform(0.1, 0.4))
        long, thick, sway = rng.uniform(0.5, 0.62), rng.uniform(0.1, 0.125), rng.uniform(-0.03, 0.03)
        spread, reach = rng.uniform(0.2, 0.32), rng.uniform(0.28, 0.36)
        for side in (-1, 1):
            path = smooth(
                [(0.03 * side, -0.36), (0.1 * side, -0.36 - 0.6 * reach), (spread * side, -0.38 - reach)], closed=False
            )
            barbs = path[3:-1]
            tips = 0.055 * np.linspace(1, 0.35, len(barbs))[:, None]
            canvas.lines(list(np.stack([barbs, barbs + tips * (side, 0.3)], 1)), mix(fur, dark, 0.45), 1)
            canvas.lines(list(np.stack([barbs, barbs - tips * (0.8 * side, 0.7)], 1)), mix(fur, dark, 0.45), 1)
            canvas.lines([path], mix(fur, dark, 0.25), 2)
        s = np.linspace(0, 1, 13)
        spine = np.stack([sway * s**2, 0.02 + long * s], 1)
        widths = thick * np.sqrt(np.clip(1.02 - s**2.6, 0, 1))
        canvas.fill(ribbon(spine, widths), mix(self.hind, fur, 0.25))
        for ring in range(2, 12, 2):
            edge = spine[ring] + np.stack(
                [np.linspace(-1, 1, 7) * widths[ring], 0.02 * (1 - np.linspace(-1, 1, 7) ** 2)], 1
            )
            canvas.lines([edge], dark, 4)
        canvas.fill((0.0, -0.34) + circle(20) * (0.075, 0.07), mix(fur, dark, 0.3))
        for x in (-0.062, 0.062):
            canvas.dot(np.array([x, -0.36]), 0.026, BLACK)
        centre = np.array([0.0, -0.14])
        canvas.fill(centre + circle(28) * (0.135, 0.19), mix(fur, dark, 0.35))
        hairs = rng.normal(0, 1, (70, 2)) * (0.052, 0.08)
        for colour, some in (
            (mix(fur, dark, 0.55), hairs[:25]),
            (fur, hairs[25:50]),
            (mix(fur, WHITE, 0.3), hairs[50:]),
        ):
            canvas.lines(list(np.stack([centre + some, centre + 1.35 * some + (0, 0.05)], 1)), colour, 2)
        cv2.threshold(cv2.cvtColor(canvas.pixels, cv2.COLOR_RGB2GRAY), 4, 255, cv2.THRESH_BINARY, canvas.cover)
        height, width = canvas.cover.shape
        from_axis = (np.arange(width, dtype=np.float32) - width / 2) / (0.14 * UNIT)
        shade = (1.06 - 0.3 * np.minimum(from_axis**2, 1)) * (85 + 30 * noise_crop(rng, height, width, "grain"))
        canvas.pixels = cv2.multiply(canvas.pixels, cv2.merge([shade.astype(np.uint8)] * 3), scale=0.01)
        return canvas
