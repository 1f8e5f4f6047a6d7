"""Clothes and neckties."""

import numpy as np

from apps.common.drawing.curves import Colour, mix, pick, smooth
from apps.faceattr.portraits.canvas import (
    BLACK,
    MIRROR,
    WHITE,
    Canvas,
    Chance,
    curve,
    ellipse,
    luminance,
    mirrored,
    palette,
    varied,
)

CLOTHES = palette("2e5a78 d8694a e9b44c 4f7a5b 7d4f7e f0e6d6 34404f c94f5d 6fa3a8 a98467 5563a6 dfe6ea 8c2f39 e8a598")
SHIRTS = palette("fbfaf6 dbe7f4 f6e3e0 e6efe0 c4d4ea")
TIES = palette("a12a36 1f3a6b 2d6a4f 5a2a5e d08a1e 23272f 0f7c86 c2410c")
NECKLINES = {"crew": 1.78, "vee": 2.25, "shirt": 1.85, "jacket": 2.9, "roll neck": 1.5}
"""How far down they leave the neck bare."""


def draw_clothes(canvas: Canvas, chance: Chance, *, tie: bool) -> None:
    """Shoulders in a garment; a tie goes with a shirt, alone or under a jacket."""
    rng = chance.of("clothes")
    garment, colour, shirt = pick(rng, list(NECKLINES)), varied(pick(rng, CLOTHES), rng), pick(rng, SHIRTS)
    slope, wide, striped, white = (
        rng.uniform(-0.08, 0.12),
        rng.uniform(1.75, 2.1),
        rng.random() < 0.2,
        rng.random() < 0.6,
    )
    if tie and garment != "jacket":
        garment, colour = "shirt", shirt if white else colour
    shoulder = [(0.38, 1.44), (0.62, 1.56), (1.2, 1.72 + slope), (wide, 2.05 + slope), (wide + 0.25, 2.7), (2.4, 4.0)]
    sleeve = smooth(shoulder, closed=False, rounds=2)
    if garment == "jacket":
        draw_jacket(canvas, sleeve, colour, shirt)
    else:
        draw_top(canvas, sleeve, garment, colour, striped=striped)
    for flip in (1, MIRROR):
        canvas.lines([curve((1.2, 3.2), (1.28, 2.6), (1.4, 2.3)) * flip], 0.035, mix(colour, BLACK, 0.22))
    if tie:
        draw_tie(canvas, chance)
    elif garment == "shirt":
        dark = mix(colour, BLACK, 0.22)
        canvas.lines([np.array([(0.0, 1.85), (0.0, 3.4)])], 0.03, dark)
        canvas.dots([(0.0, 2.06), (0.0, 2.46)], 0.04, mix(colour, WHITE, 0.7) if luminance(colour) < 130 else dark)
    if garment in ("shirt", "jacket"):
        cloth = shirt if garment == "jacket" else mix(colour, WHITE, 0.12)
        flap = np.array([(0.38, 1.3), (0.47, 1.5), (0.34, 1.86), (0.02, 1.72 if tie else 1.84), (0.33, 1.48)])
        for flip in (1, MIRROR):
            canvas.fill(flap * flip, cloth)
            canvas.lines([flap[1:4] * flip], 0.025, mix(cloth, BLACK, 0.28))


def draw_jacket(canvas: Canvas, sleeve: np.ndarray, colour: Colour, shirt: Colour) -> None:
    """A jacket with lapels over a shirt; `sleeve` (N, 2) is the right side from the neck down."""
    canvas.fill(mirrored(np.concatenate([[(0.0, 1.85), (0.38, 1.42)], sleeve])), shirt)
    canvas.fill(mirrored(np.concatenate([[(0.0, 2.9), (0.4, 1.44)], sleeve])), mix(colour, BLACK, 0.15))
    lapel = np.array([(0.42, 1.4), (0.66, 1.6), (0.78, 2.0), (0.62, 2.06), (0.66, 2.2), (0.0, 3.0), (0.16, 2.5)])
    for flip in (1, MIRROR):
        canvas.fill(lapel * flip, colour)
        canvas.lines([lapel[1:6] * flip], 0.03, mix(colour, BLACK, 0.4))


def draw_top(canvas: Canvas, sleeve: np.ndarray, garment: str, colour: Colour, *, striped: bool) -> None:
    """A shirt or a pullover; `sleeve` (N, 2) is the right side from the neck down."""
    dark, depth = mix(colour, BLACK, 0.22), NECKLINES[garment]
    neck = curve((0.42, 1.45), (0.38, depth), (0.0, depth))
    if garment in ("vee", "shirt"):
        neck = np.array([(0.38, 1.5), (0.0, depth)])
    body = mirrored(np.concatenate([neck[::-1], sleeve]))
    canvas.fill(body, colour)
    if striped:
        inside = canvas.mask(body)
        for y in np.arange(1.75, 3.2, 0.24):
            stripe = [(-3, y), (3, y), (3, y + 0.09), (-3, y + 0.09)]
            canvas.shade(stripe, mix(colour, WHITE, 0.6), 0.8, within=inside)
    if garment in ("vee", "crew"):
        canvas.lines([np.concatenate([neck, neck[::-1] * MIRROR])], 0.1, dark)
    elif garment == "roll neck":
        band = [(0.0, 1.26), (0.45, 1.18), (0.5, 1.4), (0.54, 1.62), (0.3, 1.7), (0.0, 1.72)]
        canvas.fill(smooth(mirrored(band), rounds=1), mix(colour, WHITE, 0.08))
        canvas.lines([curve((-0.5, 1.6), (0, 1.82), (0.5, 1.6))], 0.035, dark)


def draw_tie(canvas: Canvas, chance: Chance) -> None:
    """A necktie: knot and blade, plain, striped or dotted."""
    rng = chance.of("tie")
    colour, second = varied(pick(rng, TIES), rng), pick(rng, (WHITE, (240.0, 200.0, 90.0), BLACK))
    wide, pattern = rng.uniform(0.2, 0.3), pick(rng, ("plain", "stripes", "dots"))
    blade = mirrored([(0.11, 1.9), (wide, 2.7), (wide + 0.02, 3.4)])
    canvas.fill(blade, colour)
    inside = canvas.mask(blade)
    if pattern == "stripes":
        for y in np.arange(1.95, 3.3, 0.26):
            stripe = [(-0.4, y + 0.15), (0.4, y - 0.15), (0.4, y - 0.04), (-0.4, y + 0.26)]
            canvas.shade(stripe, second, 0.8, within=inside)
    elif pattern == "dots":
        rows = np.arange(2.04, 2.9, 0.16)
        places = [(x + 0.08 * (row % 2), y) for row, y in enumerate(rows) for x in (-0.16, 0.0, 0.16)]
        for x, y in places:
            canvas.shade(ellipse(x, y, 0.03, 0.03, num=8), second, 0.9, within=inside)
    canvas.shade([(0.02, 1.9), (0.5, 1.9), (0.5, 3.4), (0.06, 3.4)], BLACK, 0.22, blur=0.05, within=inside)
    canvas.fill(smooth(mirrored([(0.17, 1.66), (0.19, 1.72), (0.1, 1.94)]), rounds=1), mix(colour, BLACK, 0.2))
