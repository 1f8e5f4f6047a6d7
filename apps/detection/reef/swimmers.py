"""Three animals of the reef that swim: fish, jellyfish, turtle; each drawn at random."""

import math

import numpy as np

from apps.common.drawing.curves import Colour, ellipse, mix, pick, smooth, ticks
from apps.detection.reef.canvas import BLACK, UP, WHITE, Palette, Sprite, bent


def draw_fish(sprite: Sprite, palette: Palette) -> None:
    """To the right; from slender to disc-shaped; the tail forked, round or pointed."""
    rng, (base, second, accent) = sprite.rng, palette
    tall, t = rng.uniform(0.22, 0.62), ticks(26)
    x, spine = 0.88 - 1.45 * t, rng.uniform(-0.14, 0.14) * np.sin(3.8 * t) * t
    profile = tall * np.sin(np.pi * t ** rng.uniform(0.62, 0.85)) ** rng.uniform(0.65, 1.0) + 0.075 * t
    top, bottom = np.stack([x, spine - profile], 1), np.stack([x, spine + rng.uniform(0.75, 1.1) * profile], 1)
    body = np.concatenate([top, bottom[::-1]])
    draw_fins(sprite, mix(second, base, pick(rng, (0.1, 0.6))), top, bottom)

    sprite.fill(body, base, 0.75)
    region = sprite.inside(body)
    sprite.tint(region, np.clip(0.2 + 0.9 / tall * region.v, 0, 0.75), mix(base, WHITE, 0.6))
    sprite.pattern(body, second, accent)
    if rng.random() < 0.4:  # a masked face
        sprite.tint(region, region.u > rng.uniform(0.4, 0.6), accent)
    gill_x, bow = rng.uniform(0.3, 0.42), np.linspace(-0.62, 0.62, 8)
    gill = np.stack([gill_x - 0.1 * np.cos(2 * bow), bow * np.interp(gill_x, x[::-1], profile[::-1])], 1)
    sprite.lines([gill], 0.014, mix(base, BLACK, 0.5), 0.66)
    low = 0.1 * tall
    pectoral = smooth([(0.28, 0.05), (0.02, -0.05 - low), (-0.14, 0.12), (0.02, 0.2 + low)], rounds=2)
    sprite.fill(pectoral, mix(second, WHITE, 0.15), 0.85)
    sprite.eye(0.58, -0.22 * float(np.interp(0.58, x[::-1], profile[::-1])) - 0.02, rng.uniform(0.055, 0.085))
    sprite.lines([[(0.86, 0.03), (0.79, 0.06), (0.74, 0.055)]], 0.012, mix(base, BLACK, 0.6), 0.6)


def draw_fins(sprite: Sprite, colour: Colour, top: np.ndarray, bottom: np.ndarray) -> None:
    """A fish's tail and its fins on the back and below, along the outlines (26, 2) of its upper and lower side."""
    rng, ray = sprite.rng, mix(colour, BLACK, 0.3)
    root = float(top[-1, 1] + bottom[-1, 1]) / 2
    reach, spread, notch = rng.uniform(-1.1, -0.92), rng.uniform(0.25, 0.55), pick(rng, (-0.66, -0.85, -1.08))
    upper = [(-0.42, -0.07), (-0.62, -0.12), (reach, -spread), (reach + 0.06, -0.7 * spread)]
    lower = [(x, -y) for x, y in reversed(upper)]
    sprite.fill(np.add(smooth([*upper, (notch, 0.0), *lower], rounds=2), (0, root)), colour, 0.3)
    sprite.lines([[(-0.55, root), (0.9 * reach, root + y)] for y in np.linspace(-0.7, 0.7, 7) * spread], 0.01, ray, 0.3)
    fin_height = rng.uniform(0.12, 0.34)
    for edge, side, start in ((top, -1.0, rng.integers(5, 9)), (bottom, 0.75, rng.integers(12, 15))):
        foot = edge[start:21]
        rise = fin_height * np.sin(np.linspace(0.35, 2.9, len(foot))) ** 0.7
        crest = foot + np.stack([-0.1 - 0.3 * rise, side * rise], 1)
        sprite.fill(np.concatenate([foot - (0, 0.06 * side), crest[::-1]]), colour, 0.3)
        sprite.lines(list(zip(foot[1::2], crest[1::2], strict=True)), 0.01, ray, 0.3)


def draw_jellyfish(sprite: Sprite, palette: Palette) -> None:
    """A glassy bell, thin tentacles, frilled arms."""
    rng, (base, second, accent) = sprite.rng, palette
    wide, tall, rim = rng.uniform(0.48, 0.74), rng.uniform(0.42, 0.78), -0.1
    length, pale, t = rng.uniform(0.6, 1.05), mix(second, WHITE, 0.45), ticks(18)
    for x in np.linspace(-0.85, 0.85, rng.integers(7, 13)) * wide:
        sway = 0.07 * np.sin(rng.uniform(4, 9) * t + rng.uniform(0, 6)) * t + rng.normal(0, 0.08) * t
        path = np.stack([x * (1 - 0.25 * t) + sway, rim + length * rng.uniform(0.65, 1.05) * t], 1)
        sprite.stroke(path, 0.024 - 0.014 * t, mix(base, WHITE, 0.25), 0.4)
    for x in np.linspace(-0.35, 0.35, rng.integers(3, 5)) * wide:
        sway = 0.1 * np.sin(rng.uniform(3, 6) * t + rng.uniform(0, 6)) * t
        path = np.stack([x + sway, rim + length * rng.uniform(0.5, 0.8) * t], 1)
        sprite.stroke(path, (0.07 + 0.03 * np.sin(26 * t + rng.uniform(0, 6))) * (1 - 0.75 * t), pale, 0.55)

    angle = math.pi * (1 + ticks(24))
    dome = np.stack([wide * np.cos(angle) * np.where(np.sin(angle) > -0.2, 0.84, 1), rim + tall * np.sin(angle)], 1)
    lobes = 0.07 * np.abs(np.sin(math.pi * int(rng.integers(5, 9)) * ticks(33)))
    hem = np.stack([np.linspace(dome[-1, 0], dome[0, 0], 33), rim + lobes], 1)
    bell = np.concatenate([smooth(dome, closed=False, rounds=1), hem])
    sprite.fill(bell, base, 0.75)
    sprite.glass.append((bell, rng.uniform(0.86, 0.97)))
    region = sprite.inside(bell)
    rising = np.clip((rim - region.v) / tall, 0, 1)
    sprite.tint(region, 0.8 * np.clip(1 - 2.2 * rising, 0, 1), pale)
    glow = np.exp(-8 * ((region.u / wide) ** 2 + (rising - 0.45) ** 2))
    sprite.tint(region, 0.6 * glow, mix(accent, WHITE, 0.4))
    style = pick(rng, ("ribs", "rings", "pattern"))
    if style == "ribs":
        shape = np.stack([np.sin(np.linspace(0.3, 1.5, 8)), np.linspace(0.86, 0.05, 8)], 1)
        ribs = [shape * (x * wide, -tall) + (0, rim) for x in np.linspace(-0.8, 0.8, rng.integers(5, 10))]
        sprite.lines(ribs, 0.016, mix(second, base, 0.2), 0.7)
    elif style == "rings":
        places = (-0.36 * wide, -0.12 * wide, 0.12 * wide, 0.36 * wide)
        sprite.fill([ellipse(x, rim - 0.5 * tall, 0.11 * wide, 0.16 * tall) for x in places], pale, 0.8)
        sprite.fill([ellipse(x, rim - 0.47 * tall, 0.06 * wide, 0.09 * tall) for x in places], base, 0.75)
    else:
        sprite.pattern(bell, second, accent)


def draw_turtle(sprite: Sprite, palette: Palette) -> None:
    """From above, the head up; the flippers anywhere in their stroke."""
    rng, (base, second, accent) = sprite.rng, palette
    wide, tall, swing = rng.uniform(0.4, 0.52), rng.uniform(0.5, 0.6), rng.uniform(-0.5, 0.6)
    skin = mix(second, base, pick(rng, (0.0, 0.35)))
    for side in (-1, 1):
        lift = swing + rng.normal(0, 0.25)
        path = bent(side * 0.7 * wide, -0.62 * tall, UP + side * (1.15 + lift), 0.82, curl=side * 0.9)
        sprite.stroke(path, 0.15 * np.sin(0.6 + 2.4 * ticks(16)) ** 0.8, skin, 0.45)
        sprite.pattern(np.concatenate([np.add(path[3:], (0, 0.1)), np.add(path[:2:-1], (0, -0.1))]), accent, base)
        path = bent(side * 0.6 * wide, 0.7 * tall, -UP - side * (0.7 - 0.5 * lift), 0.46, curl=-0.3 * side)
        sprite.stroke(path, 0.11 * np.sin(0.5 + 2.4 * ticks(16)) ** 0.8, skin, 0.45)
    sprite.fill(np.array([(-0.06, tall - 0.1), (0.06, tall - 0.1), (0, tall + 0.16)]), skin, 0.4)
    nod = rng.uniform(-0.12, 0.12)
    sprite.stroke(np.array([(0, 0.12 - tall), (nod, -tall - 0.12)]), np.array([0.15, 0.13]), skin, 0.5)
    head = smooth([(-0.15, 0.12), (-0.14, -0.1), (0, -0.2), (0.14, -0.1), (0.15, 0.12)])
    sprite.fill(np.add(head, (nod, -tall - 0.2)), skin, 0.6)
    for side in (-1, 1):
        sprite.eye(nod + side * 0.09, -tall - 0.22, 0.04)

    right = [(1.0, -0.6), (1.05, 0.2), (0.6, 0.8)]
    shell = smooth([(0, -1), *right, (0, 1.1), *((-x, y) for x, y in reversed(right))]) * (wide, tall)
    sprite.fill(shell * 1.04, mix(base, second, 0.4), 0.7)
    sprite.fill(shell * 0.87, mix(base, BLACK, 0.45) if rng.random() < 0.6 else mix(second, WHITE, 0.4), 0.8)
    sprite.fill([plate * (wide, tall) for plate in make_plates()], base, 0.95)
    sprite.pattern(shell * 0.84, second, accent)


def make_plates() -> list[np.ndarray]:
    """The plates of a turtle's shell of half width and half length 1: four in the middle, four on each side."""
    plates = []
    for row in range(4):
        y, half = -0.66 + 0.42 * row, 0.25 - 0.03 * abs(row - 1)
        right = [(0.55 * half, -0.19), (1.3 * half, 0.0), (0.55 * half, 0.19)]
        plates.append(np.add([*right, *((-x, dy) for x, dy in reversed(right))], (0, y)))
        top, low, inner = -0.82 + 0.42 * row, -0.5 + 0.42 * row, 0.26 if row in (0, 3) else 0.32
        edge_top, edge_low = (0.78 * max(0.02, 1 - (edge / 1.02) ** 2) ** 0.5 for edge in (top + 0.06, low - 0.04))
        corners = np.array([(inner - 0.08, top + 0.02), (edge_top, top + 0.08), (edge_low, low), (inner, low)])
        plates += [corners, corners * (-1, 1)]
    return plates
