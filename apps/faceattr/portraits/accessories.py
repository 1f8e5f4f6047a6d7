"""Glasses and earrings."""

import numpy as np

from apps.common.drawing.curves import circle, pick, smooth
from apps.faceattr.portraits.canvas import WHITE, Canvas, Chance, curve, ellipse, palette
from apps.faceattr.portraits.face import Face, Pose, ear_centres

FRAMES = palette("1d1d22 5b3420 8a1f2d 23406e b8862f 2f6b57 6e6e78")
METALS = palette("ffd447 f2f4f8 f04e3e 16c2b4 fff8e6")


def draw_glasses(canvas: Canvas, face: Face, pose: Pose, chance: Chance) -> None:
    """Glasses: rims of several shapes, a bridge, temples, a gleam on the lenses."""
    rng = chance.of("glasses")
    colour, width = pick(rng, FRAMES), rng.uniform(0.075, 0.12)
    power, wide, high = pick(rng, (1.0, 0.75, 0.5)), rng.uniform(0.31, 0.36), rng.uniform(0.25, 0.33)
    droop, gleam = rng.uniform(-0.08, 0.1), rng.uniform(0.15, 0.4)
    rim = np.sign(circle(36)) * np.abs(circle(36)) ** power * (wide, high)
    rim[:, 0] *= 1 + 0.15 * (rim[:, 1] < 0)
    rim[:, 1] -= droop * np.clip(rim[:, 0] / wide, 0, 1)
    flash = np.array([(-0.16, -0.8), (-0.02, -0.8), (-0.12, 0.6), (-0.26, 0.6)]) * (1, high)
    rims, temples = [], []
    for side in (-1.0, 1.0):
        centre = (side * max(face.eye_gap, wide + 0.07), 0.04)
        outline = pose.turn(np.add(rim * (side, 1), centre), 0.62)
        canvas.shade(np.add(outline, (0.02, 0.05)), face.shadow, 0.25, blur=0.08)
        canvas.shade(outline, (226, 238, 246), 0.12)
        canvas.shade(pose.turn(np.add(flash, centre), 0.62), WHITE, gleam, within=canvas.mask(outline))
        rims.append(outline)
        hinge, ear = outline[np.argmax(side * outline[:, 0])], (side * 1.04 - 0.25 * pose.yaw, 0.0)
        if side * (ear[0] - hinge[0]) > 0:  # else the turned head hides it
            temples.append(np.array([hinge, ear]))
    canvas.lines(temples, 0.8 * width, colour)
    canvas.lines(rims, width, colour, closed=True)
    (x, y), (x_end, y_end) = rims[0][np.argmax(rims[0][:, 0])], rims[1][np.argmin(rims[1][:, 0])]
    canvas.lines([curve((x, y), ((x + x_end) / 2, y - 0.1), (x_end, y_end))], width, colour)


def draw_earrings(canvas: Canvas, pose: Pose, chance: Chance) -> None:
    """Earrings at every visible ear: hoops, drops or pearls."""
    rng = chance.of("earrings")
    kind, metal, size = pick(rng, ("hoop", "drop", "pearl")), pick(rng, METALS), rng.uniform(1.3, 1.6)
    for ear_x, ear_y in ear_centres(pose):
        x, y = ear_x + 0.02 * np.sign(ear_x), ear_y + 0.27
        if kind == "hoop":
            canvas.lines([ellipse(x, y + 0.17 * size, 0.13 * size, 0.17 * size)], 0.085, metal, closed=True)
        elif kind == "drop":
            canvas.lines([np.array([(x, y), (x, y + 0.15 * size)])], 0.04, metal)
            drop = np.array([(0, 0.08), (0.14, 0.33), (0, 0.43), (-0.14, 0.33)]) * size
            canvas.fill(smooth(np.add(drop, (x, y)), rounds=2), metal)
        else:
            canvas.dots([(x, y + 0.06)], 0.13 * size, metal)
        canvas.dots([(x - 0.03, y + 0.02)], 0.035, WHITE)
