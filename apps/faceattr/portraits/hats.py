"""Hats: beanies, caps, hats with a brim, berets; all leave the ears free."""

import numpy as np

from apps.common.drawing.curves import Colour, Rng, mix, pick, smooth
from apps.faceattr.portraits.canvas import BLACK, WHITE, Canvas, Chance, curve, ellipse, palette, varied
from apps.faceattr.portraits.face import Pose

HATS = palette("2f4858 c8553d e0b252 557a46 7b4b94 e8dcc4 1f2430 b23a48 4a90a4")
BANDS = palette("fdfaf4 1e1a20 a12a36 1f3a6b 2d6a4f d08a1e 0f7c86")


def draw_hat(canvas: Canvas, pose: Pose, chance: Chance) -> None:
    """A hat of any kind, with its shadow on the forehead."""
    rng = chance.of("hat")
    draw, colour, low = (
        pick(rng, (draw_beanie, draw_cap, draw_brimmed, draw_beret)),
        pick(rng, HATS),
        rng.uniform(-0.72, -0.6),
    )
    edge = curve((-0.9, low + 0.12), (-0.5, low + 0.37), (0.5, low + 0.37), (0.9, low + 0.12))
    shadow = np.concatenate([edge, [(0.8, -1.1), (-0.8, -1.1)]])
    canvas.shade(pose.turn(shadow, 0.4), (60, 30, 30), 0.45, blur=0.1)
    draw(canvas, pose, rng, varied(colour, rng), low)


def draw_crown(canvas: Canvas, pose: Pose, upper: np.ndarray, colour: Colour, low: float) -> np.ndarray:
    """The part on the head between its `upper` outline (N, 2) and the forehead; returns its front edge (N, 2)."""
    front = pose.turn(curve((1.18, low), (0.6, low + 0.18), (-0.6, low + 0.18), (-1.18, low)), 0.2)
    crown = np.concatenate([upper, front])
    canvas.fill(crown, colour)
    inside, away = canvas.mask(crown), -1.0 if pose.light > 0 else 1.0
    canvas.shade(ellipse(1.2 * away, low - 0.4, 0.55, 1.2), mix(colour, BLACK, 0.3), 0.9, blur=0.3, within=inside)
    bright = ellipse(-0.5 * away, low - 0.65, 0.35, 0.2)
    canvas.shade(bright, mix(colour, WHITE, 0.4), 0.5, blur=0.25, within=inside)
    return front


def dome(pose: Pose, low: float, tall: float) -> np.ndarray:
    """The round top of a beanie or a cap, from the left to the right."""
    lean, top = 0.5 * pose.yaw, low - 1.25 * tall
    left, right = ((-1.18, low), (-1.22, low - tall)), ((1.22, low - tall), (1.18, low))
    return curve(*left, (lean - 0.5, top), (lean + 0.5, top), *right, num=25)


def draw_beanie(canvas: Canvas, pose: Pose, rng: Rng, colour: Colour, low: float) -> None:
    """Knitted, with a ribbed cuff and perhaps a bobble."""
    tall = rng.uniform(0.95, 1.25)
    if rng.random() < 0.5:
        canvas.fill(ellipse(0.3 * pose.yaw, low - 1.0 * tall, 0.25, 0.23), pick(rng, BANDS))
    front = draw_crown(canvas, pose, dome(pose, low, tall), colour, low)
    top = curve(
        (-1.24, low + 0.02), (-1.2, low - 0.36), (-0.8, low - 0.2), (0.8, low - 0.2), (1.2, low - 0.36), (1.24, low)
    )
    canvas.fill(np.concatenate([top, np.add(front, (0, 0.03))]), mix(colour, WHITE, 0.15))
    ribs = [np.array([(x, low - 0.17 - 0.06 * x * x), (x, low + 0.13 - 0.13 * x * x)]) for x in np.linspace(-1, 1, 13)]
    canvas.lines(ribs, 0.03, mix(colour, BLACK, 0.3))


def draw_cap(canvas: Canvas, pose: Pose, rng: Rng, colour: Colour, low: float) -> None:
    """With a peak over the forehead, a seam and a button."""
    tall, lean, dark = rng.uniform(0.95, 1.2), 0.5 * pose.yaw, mix(colour, BLACK, 0.3)
    draw_crown(canvas, pose, dome(pose, low, tall), colour, low)
    back = curve((-0.98, low + 0.02), (-0.5, low - 0.12), (0.5, low - 0.12), (0.98, low + 0.02))
    peak = np.concatenate([back, curve((1.02, low + 0.2), (0.5, low + 0.34), (-0.5, low + 0.34), (-1.02, low + 0.2))])
    canvas.fill(pose.turn(peak, 0.9), mix(colour, pick(rng, BANDS), 0.85))
    canvas.lines([curve((lean, low - 0.92 * tall), (1.2 * lean, low - 0.5), (1.4 * lean, low - 0.08))], 0.03, dark)
    canvas.dots([(lean, low - 0.92 * tall)], 0.07, dark)


def draw_brimmed(canvas: Canvas, pose: Pose, rng: Rng, colour: Colour, low: float) -> None:
    """With a dented crown, a ribbon and a brim all around."""
    right = [(0.0, low - 0.9), (0.6, low - 1.0), (1.0, low - 0.9), (1.1, low)]
    upper = smooth([*((-x, y) for x, y in right[:0:-1]), *right], closed=False)
    front = draw_crown(canvas, pose, upper, colour, low)
    top = curve((-1.1, low - 0.24), (-0.4, low - 0.06), (0.4, low - 0.06), (1.1, low - 0.24))
    canvas.fill(np.concatenate([top, front]), pick(rng, BANDS))
    brim = ellipse(0.25 * pose.yaw, low + 0.06, rng.uniform(1.55, 1.8), rng.uniform(0.2, 0.28))
    canvas.fill(brim, mix(colour, BLACK, 0.08))


def draw_beret(canvas: Canvas, pose: Pose, rng: Rng, colour: Colour, low: float) -> None:
    """Flat and soft, drawn to one side, with a narrow edge."""
    lean = pick(rng, (-0.3, 0.3))
    left, right = (
        ((-1.45 + lean, low - 0.45), (-0.75 + lean, low - 1.0)),
        ((0.75 + lean, low - 1.0), (1.45 + lean, low - 0.45)),
    )
    front = draw_crown(canvas, pose, smooth([(-1.1, low), *left, *right, (1.1, low)], closed=False), colour, low)
    canvas.lines([front], 0.09, mix(colour, BLACK, 0.3))
    canvas.lines([np.array([(lean, low - 0.9), (1.1 * lean, low - 1.05)])], 0.07, mix(colour, BLACK, 0.15))
