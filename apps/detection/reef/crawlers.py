"""Three animals of the reef that live on the ground: crab, octopus, shell; each drawn at random."""

import math

import numpy as np

from apps.common.drawing.curves import curve, ellipse, mix, pick, smooth, ticks
from apps.detection.reef.canvas import BLACK, UP, WHITE, Palette, Sprite, across, bent


def draw_crab(sprite: Sprite, palette: Palette) -> None:
    """From the front and above: a wide carapace, eight jointed legs, two claws."""
    rng, (base, second, accent) = sprite.rng, palette
    wide, tall, lift = rng.uniform(0.4, 0.56), rng.uniform(0.27, 0.42), rng.uniform(-0.15, 0.15)
    leg = mix(base, second, pick(rng, (0.0, 0.5)))
    for side in (-1, 1):
        for order in range(4):
            y = -0.05 + 0.1 * order
            knee = (side * (wide + 0.38 - 0.04 * order), y - 0.36 + 0.2 * order + rng.normal(0, 0.04))
            foot = (side * (wide + 0.45 - 0.12 * order), y + 0.16 + 0.14 * order + lift + rng.normal(0, 0.05))
            path = curve((side * 0.6 * wide, y), knee, foot)
            sprite.stroke(path, 0.065 - 0.045 * ticks(9), mix(leg, BLACK, 0.06 * order), 0.45)
        size, raised = rng.uniform(0.8, 1.25), rng.uniform(-0.5, 0.35)
        elbow = (side * (wide + 0.36), -0.3 - 0.3 * raised)
        wrist = (side * (wide - 0.02 + 0.1 * raised), -0.58 - 0.15 * raised)
        sprite.stroke(curve((side * 0.7 * wide, -0.1), elbow, wrist), 0.07 + 0.015 * ticks(9), leg, 0.55)
        aim, gape = UP - side * rng.uniform(-0.1, 0.7), rng.uniform(0.15, 0.4)
        x, y = bent(*wrist, aim, 0.08, num=2)[1]
        sprite.fill(ellipse(x, y, 0.2 * size, 0.14 * size, turn=aim), base, 0.75)
        for finger, thick in ((gape, 0.085), (-gape, 0.065)):
            x, y = bent(*wrist, aim + 2 * finger, 0.16 * size, num=2)[1]
            path = bent(x, y, aim + 1.4 * finger, 0.3 * size, curl=-2.6 * finger, num=9)
            sprite.stroke(path, thick * size * (1 - 0.8 * ticks(9)), mix(base, accent, 0.5 * (finger < 0)), 0.75)
        eye = (side * 0.2, -tall - 0.14)
        sprite.stroke(np.array([(side * 0.16, -0.75 * tall), eye]), 0.03, leg, 0.7)
        sprite.eye(*eye, 0.06)
    right = [(0.6, -0.95), (1.12, -0.35), (0.95, 0.5), (0.45, 1.0)]
    body = smooth([(0, -1), *right, *((-x, y) for x, y in reversed(right))]) * (wide, tall)
    sprite.fill(body, base, 0.9)
    sprite.pattern(body, second, accent)
    smile = np.array([(-0.4, 0.25), (0, 0.4), (0.4, 0.25)]) * (wide, tall)
    sprite.lines([smile], 0.02, mix(base, BLACK, 0.4), 0.8)


def draw_octopus(sprite: Sprite, palette: Palette) -> None:
    """A head with two eyes above eight arms that curl; or from above, the arms all around."""
    rng, (base, second, accent) = sprite.rng, palette
    above = rng.random() < 0.3
    spread = math.pi * (1.9 if above else rng.uniform(1.05, 1.45))
    pale, t, thick = mix(second, WHITE, 0.5), ticks(22), rng.uniform(0.1, 0.14)
    taper = thick * (1 - t) ** 0.7
    for order in rng.permutation(8):
        heading = (order / 7 - 0.5) * spread - UP + rng.normal(0, 0.1)
        side = math.copysign(1, math.cos(heading))
        inwards = -side if rng.random() < 0.7 else side
        curl = rng.normal(0, 0.35) * t + inwards * rng.uniform(0.8, 4.2) * t**2.2
        path = bent(0, 0.02 if above else -0.02, heading, rng.uniform(0.82, 1.1), curl=curl, num=22)
        sprite.stroke(path, taper + 0.02, mix(base, BLACK, rng.uniform(0, 0.18)), 0.55 + 0.02 * order, loops=True)
        suckers = path + across(path) * (0.55 * side * taper)[:, None]
        sprite.dots(suckers[6:20:2], 0.035 * (1 - 0.7 * t[6:20:2]), pale, 0.65)
    if above:
        head = smooth(ellipse(0, -0.02, rng.uniform(0.26, 0.34), rng.uniform(0.3, 0.42), num=10))
        eyes_x, eyes_y = 0.2, 0.12
    else:
        bulge, top, lean = rng.uniform(0.32, 0.46), rng.uniform(-1.0, -0.82), rng.uniform(-0.2, 0.2)
        right = [(0.24, 0.1), (0.24, -0.14), (bulge + 0.6 * lean, -0.45), (0.7 * bulge + lean, top + 0.08)]
        left = [(lean - 0.7 * bulge, top + 0.08), (0.6 * lean - bulge, -0.45), (-0.24, -0.14), (-0.24, 0.1)]
        head = smooth([*right, (lean, top - 0.04), *left])
        eyes_x, eyes_y = 0.19, -0.08
    sprite.fill(head, base, 0.9)
    sprite.pattern(head, second, accent)
    for x in (-eyes_x, eyes_x):
        sprite.dots([(x, eyes_y)], 0.1, mix(base, WHITE, 0.15), 0.95)
        sprite.eye(x, eyes_y, 0.07, mix(accent, WHITE, 0.6))


def draw_shell(sprite: Sprite, palette: Palette) -> None:
    """A scallop, a turret or a nautilus."""
    draw = (draw_scallop, draw_turret, draw_nautilus)[sprite.rng.choice(3, p=[0.5, 0.25, 0.25])]
    draw(sprite, palette)


def draw_scallop(sprite: Sprite, palette: Palette) -> None:
    """A fan of ribs above its hinge."""
    rng, (base, second, accent) = sprite.rng, palette
    half, ribs = rng.uniform(0.75, 1.05), int(rng.integers(7, 13))
    angle = half * (2 * ticks(12 * ribs + 1) - 1)
    radius = 1.4 * (0.94 + 0.05 * np.abs(np.sin(math.pi * ribs * ticks(len(angle))))) * np.cos(0.35 * angle)
    rim = np.stack([0.95 * radius * np.sin(angle), 0.68 - radius * np.cos(angle)], 1)
    hinge = np.array([(-0.3, 0.48), (0.3, 0.48), (0.27, 0.78), (-0.27, 0.78)])
    sprite.fill(hinge, mix(base, BLACK, 0.15), 0.5)
    fan = np.concatenate([[(-0.06, 0.76)], rim, [(0.06, 0.76)]])
    sprite.fill(fan, base, 0.75)
    region = sprite.inside(fan)
    rings = np.sin(np.hypot(region.u, region.v - 0.68) * rng.uniform(7, 14) + rng.uniform(0, 6))
    sprite.tint(region, np.clip(2 * (rings - rng.uniform(-0.2, 0.6)), 0, 1) * rng.uniform(0.3, 1), second)
    for edge in rim[::12]:
        sprite.stroke(np.array([(0, 0.68), edge]), np.array([0.008, 0.026]), mix(accent, BLACK, 0.2), 0.45)


def draw_turret(sprite: Sprite, palette: Palette) -> None:
    """Whorls that narrow to a point, the opening below."""
    rng, (base, second, accent) = sprite.rng, palette
    num, fat, y = int(rng.integers(5, 8)), rng.uniform(0.36, 0.56), 0.62
    sprite.fill(smooth([(-0.3 * fat, 0.4), (1.3 * fat, 0.35), (1.2 * fat, 0.85), (0.1, 1.0)]), mix(base, second, 0.3))
    for order in range(num):
        share = 1 - order / num
        tall = 0.5 * share + 0.12
        whorl = ellipse(0, y, fat * share + 0.03, 0.5 * tall, turn=-0.22)
        sprite.fill(whorl, mix(base, BLACK, 0.05 * (order % 2)), 0.55 + 0.05 * order)
        if order == 0:
            sprite.pattern(whorl, second, accent)
        seam = bent(-fat * share, y - 0.02, 0.6, 2 * fat * share, curl=-1.6, num=9)
        sprite.stroke(seam, 0.028, mix(second, base, 0.0 if order % 2 else 0.4), 0.55)
        y -= 0.52 * tall
    opening = smooth([(0.05, 0.55), (1.05 * fat, 0.45), (1.0 * fat, 0.8), (0.2, 0.9)])
    sprite.fill(opening, mix(accent, BLACK, 0.35), 0.3)


def draw_nautilus(sprite: Sprite, palette: Palette) -> None:
    """A striped spiral."""
    rng, (base, second, accent) = sprite.rng, palette
    angle = 4.4 * math.pi * ticks(90)
    radius = 0.92 * np.exp(rng.uniform(0.17, 0.21) * (angle - angle[-1]))
    spiral = np.stack([radius * np.cos(angle) - 0.1, 0.12 - radius * np.sin(angle)], 1)
    body = spiral[-42:]
    sprite.fill(body, base, 0.8)
    region = sprite.inside(body)
    u, v = region.u + 0.1, region.v - 0.12
    stripes = np.sin(int(rng.integers(9, 16)) * np.arctan2(v, u) + 7 * np.log(np.hypot(u, v) + 0.1))
    sprite.tint(region, np.clip(3 * (stripes - rng.uniform(-0.3, 0.4)), 0, 1), second)
    sprite.stroke(spiral[:-30], 0.01 + 0.02 * ticks(60), mix(accent, BLACK, 0.3), 0.45, loops=True)
    mouth = smooth([spiral[-1], 0.55 * spiral[-1] + 0.45 * spiral[-42], spiral[-41], spiral[-1] + (0.14, -0.16)])
    sprite.fill(mouth, mix(accent, BLACK, 0.3), 0.35)
