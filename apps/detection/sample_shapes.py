"""The eight animals of the sample set: each function draws one onto a `Sprite`, never twice the same.

Some pairs look alike on purpose: jellyfish and octopus (a dome and arms), turtle and crab (a carapace and limbs),
starfish and octopus seen from above, shell and jellyfish (ribs that fan out). Letters: N points of a path.
"""

from collections.abc import Callable

import numpy as np

from apps.detection.sample_canvas import Colour, Rng, Sprite, across, bent, ellipse, mix, smooth

BLACK, WHITE = (12.0, 12.0, 20.0), (255.0, 252.0, 244.0)
Palette = tuple[Colour, Colour, Colour]


def draw_fish(sprite: Sprite, rng: Rng, palette: Palette) -> None:
    """From slender to disc-shaped, to the right; tail forked, round or pointed."""
    base, second, accent = palette
    tall, bend = rng.uniform(0.22, 0.62), rng.uniform(-0.14, 0.14)
    t = np.linspace(0, 1, 26)
    x = 0.88 - 1.45 * t
    spine = bend * np.sin(np.pi * (t * 1.2)) * t
    profile = tall * np.sin(np.pi * t ** rng.uniform(0.62, 0.85)) ** rng.uniform(0.65, 1.0) + 0.075 * t
    belly = rng.uniform(0.75, 1.1)
    top, bottom = np.stack([x, spine - profile], 1), np.stack([x, spine + belly * profile], 1)
    body = np.concatenate([top, bottom[::-1]])
    fin = mix(second, base, rng.choice([0.1, 0.6]))

    reach, spread, notch = rng.uniform(-1.1, -0.92), rng.uniform(0.25, 0.55), rng.choice([-0.66, -0.85, -1.08])
    root = spine[-1]
    tail = smooth(
        [(-0.42, root - 0.07), (-0.62, root - 0.12), (reach, root - spread), (reach + 0.06, root - 0.7 * spread)]
        + [(notch, root), (reach + 0.06, root + 0.7 * spread), (reach, root + spread), (-0.62, root + 0.12)]
        + [(-0.42, root + 0.07)],
        rounds=2,
    )
    sprite.fill(tail, fin, 0.3, 0.94)
    for share in np.linspace(-0.75, 0.75, 7):
        sprite.stroke(np.array([(-0.55, root), (0.9 * reach, root + share * spread)]), 0.011, mix(fin, BLACK, 0.3), 0.3)
    fin_height = rng.uniform(0.12, 0.34)
    for edge, side, start, stop in ((top, -1, rng.integers(5, 9), 21), (bottom, 1, rng.integers(12, 15), 21)):
        base_line = edge[start:stop]
        rise = fin_height * np.sin(np.linspace(0.35, 2.9, len(base_line))) ** 0.7 * (1 if side < 0 else 0.75)
        crest = base_line + np.stack([-0.1 - 0.3 * rise, side * rise], 1)
        sprite.fill(np.concatenate([base_line + [0, -0.06 * side], crest[::-1]]), fin, 0.3, 0.94)
        for one, two in zip(base_line[1::2], crest[1::2], strict=True):
            sprite.stroke(np.array([one, two]), 0.01, mix(fin, BLACK, 0.3), 0.3)

    sprite.fill(body, base, 0.75)
    region = sprite.inside(body)
    sprite.tint(region, np.clip(0.2 + 0.9 * region.v / tall, 0, 0.75), mix(base, WHITE, 0.6))
    sprite.pattern(body, second, accent)
    if rng.random() < 0.4:  # a masked face
        sprite.tint(region, region.u > rng.uniform(0.4, 0.6), accent)
    gill_x = rng.uniform(0.3, 0.42)
    bow = np.linspace(-0.62, 0.62, 8)
    height_there = np.interp(gill_x, x[::-1], profile[::-1])
    gill = np.stack([gill_x - 0.1 * np.cos(2 * bow), bow * height_there], 1)
    sprite.stroke(gill, 0.016, mix(base, BLACK, 0.5), 0.66)
    pectoral = smooth([(0.28, 0.05), (0.02, -0.05 - 0.1 * tall), (-0.14, 0.12), (0.02, 0.2 + 0.1 * tall)], rounds=2)
    sprite.fill(pectoral, mix(fin, WHITE, 0.15), 0.85)
    size = rng.uniform(0.055, 0.085)
    sprite.eye(0.58, -0.22 * np.interp(0.58, x[::-1], profile[::-1]) - 0.02, size)
    sprite.stroke(np.array([(0.86, 0.03), (0.79, 0.06), (0.74, 0.055)]), 0.013, mix(base, BLACK, 0.6), 0.6)


def draw_seahorse(sprite: Sprite, rng: Rng, palette: Palette) -> None:
    """Upright, the snout to the right, the tail curled."""
    base, second, accent = palette
    belly = rng.uniform(0.17, 0.26)
    trunk = smooth(
        [(0.14, -0.66), (-0.12, -0.6), (-0.2, -0.38), (0.0, -0.14), (0.06, 0.12), (-0.1, 0.42), (-0.14, 0.6)],
        closed=False,
        rounds=2,
    )
    angle = np.pi - np.linspace(0, 2 * np.pi * rng.uniform(0.75, 1.35), 26)
    radius = np.linspace(rng.uniform(0.17, 0.24), 0.05, 26)
    curl = np.stack([-0.14 + radius[0] + radius * np.cos(angle), 0.6 + radius * np.sin(angle)], 1)
    path = np.concatenate([trunk, curl[1:]])
    along = np.linspace(0, 1, len(path))
    stops = [0, 0.07, 0.13, 0.2, 0.3, 0.4, 0.52, 0.62, 1]
    widths = np.interp(along, stops, [0.15, 0.15, 0.12, 0.14, belly, 0.92 * belly, 0.12, 0.08, 0.025])

    fan = np.stack([ellipse(-0.12, 0.1, 0.34, 0.2, num=28)[10:19], np.tile([-0.05, 0.1], (9, 1))], 1)
    sprite.fill(np.concatenate([fan[:, 0], [[0.0, 0.1]]]), mix(second, WHITE, 0.2), 0.35, 0.92)
    for tip, root in fan[::2]:
        sprite.stroke(np.array([tip, root]), 0.01, mix(second, BLACK, 0.35), 0.35)
    for spike in np.linspace(-2.4, -1.3, 4):
        tip = np.array([0.02, -0.68]) + rng.uniform(0.22, 0.34) * np.array([np.cos(spike), np.sin(spike)])
        sprite.stroke(np.array([(0.02, -0.68), tip]), np.array([0.055, 0.012]), mix(base, accent, 0.4), 0.6)
    sprite.stroke(path, widths, base, 0.75)
    sprite.fill(ellipse(0.05, -0.64, 0.2, 0.16), base, 0.8)
    snout = np.array([(0.1, -0.62), (0.32, -0.57), (rng.uniform(0.42, 0.58), -0.53)])
    sprite.stroke(snout, np.array([0.1, 0.05, 0.07]), base, 0.75)

    normal = across(path)
    outline = np.concatenate([path + normal * widths[:, None], (path - normal * widths[:, None])[::-1]])
    sprite.pattern(outline[8:-8], second, accent)
    ridge = mix(base, BLACK if rng.random() < 0.6 else WHITE, 0.35)
    for index in range(7, len(path) - 3, 2):
        rib = normal[index] * widths[index] * 0.98
        sprite.stroke(np.array([path[index] - rib, path[index] + 0.25 * rib]), 0.014, ridge, 0.62)
        if index < len(path) - 16:
            sprite.fill(ellipse(*(path[index] + rib), 0.028, 0.028, num=8), ridge, 0.7)
    sprite.eye(0.1, -0.67, rng.uniform(0.05, 0.07), mix(accent, WHITE, 0.5))


def draw_jellyfish(sprite: Sprite, rng: Rng, palette: Palette) -> None:
    """A glassy bell, thin tentacles, frilled arms."""
    base, second, accent = palette
    wide, tall, rim = rng.uniform(0.48, 0.74), rng.uniform(0.42, 0.78), -0.1
    length = rng.uniform(0.6, 1.05)
    t = np.linspace(0, 1, 18)
    pale = mix(second, WHITE, 0.45)
    for x in np.linspace(-0.85, 0.85, rng.integers(7, 13)) * wide:
        sway = 0.07 * np.sin(rng.uniform(4, 9) * t + rng.uniform(0, 6)) * t + rng.normal(0, 0.08) * t
        path = np.stack([x * (1 - 0.25 * t) + sway, rim + length * rng.uniform(0.65, 1.05) * t], 1)
        sprite.stroke(path, np.linspace(0.024, 0.01, 18), mix(base, WHITE, 0.25), 0.4, 0.85)
    for x in np.linspace(-0.35, 0.35, rng.integers(3, 5)) * wide:
        sway = 0.1 * np.sin(rng.uniform(3, 6) * t + rng.uniform(0, 6)) * t
        path = np.stack([x + sway, rim + length * rng.uniform(0.5, 0.8) * t], 1)
        frill = (0.07 + 0.03 * np.sin(26 * t + rng.uniform(0, 6))) * (1 - 0.75 * t)
        sprite.stroke(path, frill, pale, 0.55, 0.85)

    angle = np.linspace(np.pi, 2 * np.pi, 24)
    dome = np.stack([wide * np.cos(angle) * (1 - 0.16 * (np.sin(angle) > -0.2)), rim + tall * np.sin(angle)], 1)
    lobes = np.linspace(dome[-1, 0], dome[0, 0], 33)
    hem = np.stack([lobes, rim + 0.07 * np.abs(np.sin(np.linspace(0, np.pi * rng.integers(5, 9), 33)))], 1)
    bell = np.concatenate([smooth(dome, closed=False, rounds=1), hem])
    sprite.fill(bell, base, 0.75, rng.uniform(0.86, 0.97))
    region = sprite.inside(bell)
    rising = np.clip((rim - region.v) / tall, 0, 1)
    sprite.tint(region, 0.8 * np.clip(1 - 2.2 * rising, 0, 1), pale)
    sprite.tint(region, 0.6 * np.exp(-8 * ((region.u / wide) ** 2 + (rising - 0.45) ** 2)), mix(accent, WHITE, 0.4))
    style = rng.choice(["ribs", "rings", "pattern"])
    if style == "ribs":
        for share in np.linspace(-0.8, 0.8, rng.integers(5, 10)):
            rib = np.stack(
                [share * wide * np.sin(np.linspace(0.3, 1.5, 8)), rim - tall * np.linspace(0.86, 0.05, 8)], 1
            )
            sprite.stroke(rib, 0.016, mix(second, base, 0.2), 0.7, 0.95)
    elif style == "rings":
        for x in (-0.36, -0.12, 0.12, 0.36):
            sprite.fill(ellipse(x * wide, rim - 0.5 * tall, 0.11 * wide, 0.16 * tall), pale, 0.8, 0.97)
            sprite.fill(ellipse(x * wide, rim - 0.47 * tall, 0.06 * wide, 0.09 * tall), base, 0.75, 0.95)
    else:
        sprite.pattern(bell, second, accent)


def draw_octopus(sprite: Sprite, rng: Rng, palette: Palette) -> None:
    """A head with two eyes above eight arms that curl; or from above, the arms all around."""
    base, second, accent = palette
    above = rng.random() < 0.3
    spread = 1.9 * np.pi if above else rng.uniform(1.05, 1.45) * np.pi
    middle = np.array([0.0, 0.02 if above else -0.02])
    pale = mix(second, WHITE, 0.5)
    angles = np.linspace(-0.5, 0.5, 8) * spread + np.pi / 2 + rng.normal(0, 0.1, 8)
    t = np.linspace(0, 1, 22)
    thick = rng.uniform(0.1, 0.14)
    for order in rng.permutation(8):
        side = np.sign(np.cos(angles[order])) or 1.0
        curl = rng.normal(0, 0.35) * t + rng.choice([-1, 1], p=[0.3, 0.7]) * -side * rng.uniform(0.8, 4.2) * t**2.2
        length = rng.uniform(0.85, 1.15) * (0.95 if above else 1.0)
        path = bent(*middle, angles[order], length, curl=curl, num=22)
        shade = mix(base, BLACK, rng.uniform(0, 0.18))
        sprite.stroke(path, thick * (1 - t) ** 0.7 + 0.02, shade, 0.55 + 0.02 * order)
        spots = path + across(path) * (0.55 * side * thick * (1 - t) ** 0.7)[:, None]
        sprite.fill([ellipse(*spots[i], *2 * [0.035 * (1 - 0.7 * t[i])], num=8) for i in range(6, 20, 2)], pale, 0.65)
    if above:
        head = smooth(ellipse(0, -0.02, rng.uniform(0.26, 0.34), rng.uniform(0.3, 0.42), num=10))
        eyes_y, eyes_x = 0.12, 0.2
    else:
        bulge, top = rng.uniform(0.32, 0.46), rng.uniform(-1.0, -0.82)
        lean = rng.uniform(-0.2, 0.2)
        right = [(0.24, 0.1), (0.24, -0.14), (bulge + 0.6 * lean, -0.45), (0.7 * bulge + lean, top + 0.08)]
        left = [(0.6 * lean - (x - 0.6 * lean) if y < -0.2 else -x, y) for x, y in right[::-1]]
        left[0] = (-0.7 * bulge + lean, top + 0.08)
        head = smooth([*right, (lean, top - 0.04), *left])
        eyes_y, eyes_x = -0.08, 0.19
    sprite.fill(head, base, 0.9)
    sprite.pattern(head, second, accent)
    for x in (-eyes_x, eyes_x):
        sprite.fill(ellipse(x, eyes_y, 0.1, 0.1, num=14), mix(base, WHITE, 0.15), 0.95)
        sprite.eye(x, eyes_y, 0.07, mix(accent, WHITE, 0.6))


def draw_turtle(sprite: Sprite, rng: Rng, palette: Palette) -> None:
    """From above, the head up; the flippers anywhere in their stroke."""
    base, second, accent = palette
    wide, tall = rng.uniform(0.4, 0.52), rng.uniform(0.5, 0.6)
    skin = mix(second, base, rng.choice([0.0, 0.35]))
    swing = rng.uniform(-0.5, 0.6)
    for side in (-1, 1):
        stroke = swing + rng.normal(0, 0.25)
        path = bent(side * 0.7 * wide, -0.62 * tall, -np.pi / 2 + side * (1.15 + stroke), 0.82, curl=side * 0.9)
        sprite.stroke(path, 0.15 * np.sin(np.linspace(0.6, 3.0, 16)) ** 0.8, skin, 0.45)
        sprite.pattern(np.concatenate([path[3:] + [0, 0.1], path[:2:-1] - [0, 0.1]]), accent, base)
        path = bent(side * 0.6 * wide, 0.7 * tall, np.pi / 2 - side * (0.7 - 0.5 * stroke), 0.46, curl=-0.3 * side)
        sprite.stroke(path, 0.11 * np.sin(np.linspace(0.5, 2.9, 16)) ** 0.8, skin, 0.45)
    sprite.fill(np.array([(-0.06, tall - 0.1), (0.06, tall - 0.1), (0, tall + 0.16)]), skin, 0.4)
    nod = rng.uniform(-0.12, 0.12)
    sprite.stroke(np.array([(0, -tall + 0.12), (nod, -tall - 0.12)]), np.array([0.15, 0.13]), skin, 0.5)
    head = smooth(
        [(nod + x, -tall - 0.2 + y) for x, y in ((-0.15, 0.12), (-0.14, -0.1), (0, -0.2), (0.14, -0.1), (0.15, 0.12))]
    )
    sprite.fill(head, skin, 0.6)
    for side in (-1, 1):
        sprite.eye(nod + side * 0.09, -tall - 0.22, 0.04)

    shell = smooth([(0, -tall), (wide, -0.6 * tall), (1.05 * wide, 0.1), (0.6 * wide, 0.8 * tall), (0, 1.1 * tall)]
                   + [(-0.6 * wide, 0.8 * tall), (-1.05 * wide, 0.1), (-wide, -0.6 * tall)])  # fmt: skip
    seam = mix(base, BLACK, 0.45) if rng.random() < 0.6 else mix(second, WHITE, 0.4)
    sprite.fill(shell * 1.04, mix(base, second, 0.4), 0.7)
    sprite.fill(shell * 0.87, seam, 0.8)
    plates = []
    for row in range(4):
        y, half = (-0.66 + 0.42 * row) * tall, (0.25 - 0.03 * abs(row - 1)) * wide
        plates.append(np.array([(-0.55 * half, y - 0.19 * tall), (0.55 * half, y - 0.19 * tall), (1.3 * half, y)]
                               + [(0.55 * half, y + 0.19 * tall), (-0.55 * half, y + 0.19 * tall), (-1.3 * half, y)]))  # fmt: skip
    for side in (-1, 1):
        for row in range(4):
            top, low = -0.82 + 0.42 * row, -0.5 + 0.42 * row
            outer = [0.78 * np.sqrt(max(0.02, 1 - (value / 1.02) ** 2)) for value in (top + 0.06, low - 0.04)]
            inner = 0.26 if row in (0, 3) else 0.32
            corners = [(inner - 0.08, top + 0.04), (outer[0], top + 0.1), (outer[1], low + 0.02), (inner, low + 0.02)]
            plates.append(np.array([(side * x * wide, (y - 0.02) * tall) for x, y in corners]))
    sprite.fill(plates, base, 0.95)
    sprite.pattern(shell * 0.84, second, accent)


def draw_crab(sprite: Sprite, rng: Rng, palette: Palette) -> None:
    """From the front and above: a wide carapace, eight jointed legs, two claws."""
    base, second, accent = palette
    wide, tall = rng.uniform(0.4, 0.56), rng.uniform(0.27, 0.42)
    leg = mix(base, second, rng.choice([0.0, 0.5]))
    lift = rng.uniform(-0.15, 0.15)
    for side in (-1, 1):
        for order in range(4):
            y = -0.05 + 0.1 * order
            knee = (side * (wide + 0.22 - 0.03 * order), y - 0.2 + 0.16 * order + rng.normal(0, 0.04))
            foot = (side * (wide + 0.45 - 0.12 * order), y + 0.16 + 0.14 * order + lift + rng.normal(0, 0.05))
            path = smooth([(side * 0.6 * wide, y), knee, foot], closed=False, rounds=2)
            sprite.stroke(path, np.linspace(0.065, 0.02, len(path)), mix(leg, BLACK, 0.06 * order), 0.45)
        size, raised = rng.uniform(0.8, 1.25), rng.uniform(-0.5, 0.35)
        elbow = np.array([side * (wide + 0.16), -0.3 - 0.3 * raised])
        wrist = np.array([side * (wide - 0.02 + 0.1 * raised), -0.58 - 0.15 * raised])
        arm = smooth([(side * 0.7 * wide, -0.1), elbow, wrist], closed=False, rounds=2)
        sprite.stroke(arm, np.linspace(0.07, 0.085, len(arm)), leg, 0.55)
        aim = -np.pi / 2 - side * rng.uniform(-0.1, 0.7)
        gape = rng.uniform(0.15, 0.4)
        palm = ellipse(*(wrist + 0.08 * np.array([np.cos(aim), np.sin(aim)])), 0.2 * size, 0.14 * size, turn=aim)
        sprite.fill(palm, base, 0.75)
        for finger, thick in ((gape, 0.085), (-gape, 0.065)):
            start = wrist + 0.16 * size * np.array([np.cos(aim + 2 * finger), np.sin(aim + 2 * finger)])
            path = bent(*start, aim + 1.4 * finger, 0.3 * size, curl=-2.6 * finger, num=9)
            sprite.stroke(path, thick * size * np.linspace(1, 0.2, 9), mix(base, accent, 0.5 * (thick < 0.07)), 0.75)
    for side in (-1, 1):
        stalk = np.array([(side * 0.16, -0.75 * tall), (side * 0.2, -tall - 0.14)])
        sprite.stroke(stalk, 0.03, leg, 0.7)
        sprite.eye(*stalk[1], 0.06)
    body = smooth([(0, -tall), (0.6 * wide, -0.95 * tall), (1.12 * wide, -0.35 * tall), (0.95 * wide, 0.5 * tall)]
                  + [(0.45 * wide, tall), (-0.45 * wide, tall), (-0.95 * wide, 0.5 * tall)]
                  + [(-1.12 * wide, -0.35 * tall), (-0.6 * wide, -0.95 * tall)])  # fmt: skip
    sprite.fill(body, base, 0.9)
    sprite.pattern(body, second, accent)
    sprite.stroke(np.array([(-0.4 * wide, 0.25 * tall), (0, 0.4 * tall), (0.4 * wide, 0.25 * tall)]), 0.02, mix(base, BLACK, 0.4), 0.8)  # fmt: skip


def draw_starfish(sprite: Sprite, rng: Rng, palette: Palette) -> None:
    """Five arms, seldom six or seven, fat or slender, each bent a little; bumps along them."""
    base, second, accent = palette
    num = int(rng.choice([5, 6, 7], p=[0.84, 0.1, 0.06]))
    waist, plump = rng.uniform(0.26, 0.46), rng.uniform(0.1, 0.2)
    headings = np.arange(num) * 2 * np.pi / num - np.pi / 2 + rng.normal(0, 0.07, num)
    outline, arms = [], []
    for heading, following in zip(headings, np.append(headings[1:], headings[0] + 2 * np.pi), strict=True):
        arm = bent(0, 0, heading, rng.uniform(0.84, 1.04), curl=rng.normal(0, 0.3), num=12)
        aside = plump * np.array([-np.sin(heading), np.cos(heading)])
        outline += [arm[7] - 0.95 * aside, arm[10] - 0.62 * aside, arm[11]]
        outline += [arm[10] + 0.62 * aside, arm[7] + 0.95 * aside]
        between = (heading + following) / 2
        outline.append(waist * np.array([np.cos(between), np.sin(between)]))
        arms.append(arm)
    outline_smooth = smooth(outline)
    sprite.fill(outline_smooth, base, 0.6)
    sprite.pattern(outline_smooth, second, accent)
    bump = mix(second, WHITE, 0.3) if rng.random() < 0.6 else mix(base, BLACK, 0.3)
    size = rng.uniform(0.022, 0.045)
    rows = rng.choice([1, 3])
    for arm in arms:
        aside = across(arm) * 0.5 * plump
        for shift in (0,) if rows == 1 else (-1, 0, 1):
            dots = (arm + shift * aside)[2:11]
            sprite.fill(
                [ellipse(*dot, *2 * [size * (1.1 - 0.07 * i)], num=9) for i, dot in enumerate(dots)], bump, 0.85
            )
    sprite.fill(ellipse(0, 0, 1.8 * size, 1.8 * size, num=12), bump, 0.9)


def draw_shell(sprite: Sprite, rng: Rng, palette: Palette) -> None:
    """A scallop, a turret or a nautilus."""
    base, second, accent = palette
    form = rng.choice(["scallop", "turret", "nautilus"], p=[0.5, 0.25, 0.25])
    if form == "scallop":
        half, ribs = rng.uniform(0.8, 1.15), int(rng.integers(7, 13))
        angle = np.linspace(-half, half, 12 * ribs + 1) - np.pi / 2
        radius = 1.55 * (0.94 + 0.05 * np.abs(np.sin(np.linspace(0, np.pi * ribs, len(angle))))) * np.cos(0.35 * (angle + np.pi / 2))  # fmt: skip
        hinge = np.array([0, 0.72])
        rim = hinge + np.stack([radius * np.cos(angle) * 0.95, radius * np.sin(angle)], 1)
        ears = [(-0.34, 0.5), (0.34, 0.5), (0.3, 0.82), (-0.3, 0.82)]
        sprite.fill(np.array(ears), mix(base, BLACK, 0.15), 0.5)
        fan = np.concatenate([[hinge + [-0.06, 0.08]], rim, [hinge + [0.06, 0.08]]])
        sprite.fill(fan, base, 0.75)
        region = sprite.inside(fan)
        far = np.hypot(region.u, region.v - np.float32(hinge[1]))
        rings = np.sin(far * rng.uniform(7, 14) + rng.uniform(0, 6))
        sprite.tint(region, np.clip(2 * (rings - rng.uniform(-0.2, 0.6)), 0, 1) * rng.uniform(0.3, 1), second)
        for start in range(0, 12 * ribs + 1, 12):
            line = np.stack([hinge, rim[start]])
            sprite.stroke(line, np.array([0.008, 0.028]), mix(accent, BLACK, 0.2), 0.45)
    elif form == "turret":
        whorls = int(rng.integers(5, 8))
        fat = rng.uniform(0.36, 0.56)
        y = 0.62
        mouth = smooth([(-0.3 * fat, 0.4), (1.3 * fat, 0.35), (1.2 * fat, 0.85), (0.1, 1.0)])
        sprite.fill(mouth, mix(base, second, 0.3), 0.6)
        for order in range(whorls):
            share = 1 - order / whorls
            tall = 0.5 * share + 0.12
            ring = ellipse(0, y, fat * share + 0.03, 0.5 * tall, turn=-0.22)
            sprite.fill(ring, mix(base, BLACK, 0.05 * (order % 2)), 0.55 + 0.05 * order)
            sprite.pattern(ring, second, accent) if order == 0 else None
            seam = bent(-fat * share, y - 0.02, 0.6, 2 * fat * share, curl=-1.6, num=9)
            sprite.stroke(seam, 0.028, second if order % 2 else mix(second, base, 0.4), 0.55)
            y -= 0.52 * tall
        opening = smooth([(0.05, 0.55), (1.05 * fat, 0.45), (1.0 * fat, 0.8), (0.2, 0.9)])
        sprite.fill(opening, mix(accent, BLACK, 0.35), 0.3)
    else:
        grow, turns = rng.uniform(0.17, 0.21), 2.2
        angle = np.linspace(0, 2 * np.pi * turns, 90)
        radius = 0.92 * np.exp(grow * (angle - angle[-1]))
        spiral = np.stack([radius * np.cos(angle), -radius * np.sin(angle)], 1) + [-0.1, 0.12]
        last = spiral[-42:]
        sprite.fill(last, base, 0.8)
        region = sprite.inside(last)
        u, v = region.u, region.v
        swirl = np.sin(
            rng.uniform(9, 15) * np.arctan2(v - 0.12, u + 0.1) + 7 * np.log(np.hypot(u + 0.1, v - 0.12) + 0.1)
        )
        sprite.tint(region, np.clip(3 * (swirl - rng.uniform(-0.3, 0.4)), 0, 1), second)
        sprite.stroke(spiral[:-30], np.linspace(0.01, 0.03, 60), mix(accent, BLACK, 0.3), 0.45)
        mouth = smooth([spiral[-1], spiral[-1] * 0.55 + spiral[-42] * 0.45, spiral[-41], spiral[-1] + [0.14, -0.16]])
        sprite.fill(mouth, mix(accent, BLACK, 0.3), 0.35)


# Name: the drawing, the spread of its pose around upright in radians, how much perspective may squash it, its gloss.
SHAPES: dict[str, tuple[Callable[[Sprite, Rng, Palette], None], float, float, float]] = {
    "fish": (draw_fish, 0.3, 0.0, 0.45),
    "crab": (draw_crab, 0.5, 0.2, 0.4),
    "starfish": (draw_starfish, np.pi, 0.45, 0.2),
    "jellyfish": (draw_jellyfish, 0.6, 0.0, 0.8),
    "turtle": (draw_turtle, np.pi, 0.3, 0.35),
    "shell": (draw_shell, 0.9, 0.1, 0.6),
    "octopus": (draw_octopus, 0.45, 0.1, 0.4),
    "seahorse": (draw_seahorse, 0.3, 0.0, 0.35),
}


def make_object(
    name: str, rng: Rng, size: float, light_xy: tuple[float, float], palette: Palette
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one object of a class about `size` pixels long in a random pose.

    Returns its colour (3, h, w) float32 in [0, 255] and cover (h, w) float32 in [0, 1], cut to its extent.
    """
    draw, spread, squashed, gloss = SHAPES[name]
    turn = rng.uniform(-spread, spread) if rng.random() < 0.85 else rng.uniform(-np.pi, np.pi)
    side = max(16, round(size * 1.28))
    fine = side * (3 if side < 64 else 2)  # drawn finer than asked for, against jagged edges
    sprite = Sprite(fine, rng, turn=turn, mirror=rng.random() < 0.5, squash=1 - rng.uniform(0, squashed))
    draw(sprite, rng, palette)
    return sprite.render(side, light_xy, gloss)
