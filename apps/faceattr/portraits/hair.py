"""Hair: behind the head, on top of it, bangs, locks in front of the ears, mustache and goatee."""

import math
from dataclasses import dataclass

import numpy as np

from apps.common.drawing.curves import Colour, Rng, mix, pick, smooth
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
    normals,
    palette,
    resampled,
    varied,
)
from apps.faceattr.portraits.face import Face, Pose

HAIRS: dict[str, list[Colour]] = {
    "black": palette("1c1a20 231d20 191c24"),
    "blond": palette("e8c05e f0d27c d9aa4a f3dd9c"),
    "brown": palette("6e4226 84502a 8e4426 a3522a"),
    "gray": palette("b4b8be cfd1d4 9ea3aa dedfe0"),
}
STYLES = ("crop", "quiff", "bob", "long", "bun", "round")


@dataclass(frozen=True, kw_only=True)
class Hair:
    """The properties of a person's hair, the same in all pictures of that person."""

    colour: Colour
    wavy: bool
    style: str
    volume: float
    """how far it stands off the skull"""
    fall: float
    """how far down it hangs"""
    parting: float
    forehead: float
    """the height of the hairline"""
    covers_ears: bool

    @classmethod
    def drawn(cls, chance: Chance, *, colour: str) -> "Hair":
        """Hair of any style in the given colour."""
        rng = chance.of("hair")
        style = pick(rng, STYLES)
        falls = {"bob": rng.uniform(0.9, 1.35), "long": rng.uniform(2.0, 2.9)}
        volumes = {"crop": rng.uniform(0.08, 0.16), "round": rng.uniform(0.3, 0.48)}
        return cls(
            colour=varied(pick(rng, HAIRS[colour]), rng, hue=0.008, strength=0.08, light=0.06),
            wavy=bool(rng.random() < 0.5),
            style=style,
            volume=volumes.get(style, rng.uniform(0.14, 0.26)),
            fall=falls.get(style, rng.uniform(0.1, 0.4)),
            parting=rng.uniform(-0.5, 0.5),
            forehead=rng.uniform(-0.98, -0.8),
            covers_ears=bool(style in falls and rng.random() < 0.45),
        )

    @property
    def dark(self) -> Colour:
        """The colour in the shade."""
        return mix(self.colour, BLACK, 0.28)

    @property
    def bright(self) -> Colour:
        """The colour of its highlights."""
        return mix(self.colour, WHITE if sum(self.colour) > 180 else (120, 124, 150), 0.3)


def curled(path: np.ndarray, rng: Rng, *, high: float = 0.17, wide: float = 0.4) -> np.ndarray:
    """A path with lobes as of curls on its right side, about `wide` long and `high` units high."""
    fine = resampled(path, 0.04)
    along = np.arange(len(fine)) * 0.04
    lobes = np.abs(np.sin(math.pi * along / wide + rng.uniform(0, 3)))
    return fine - normals(fine) * (high * (lobes - 0.35))[:, None]


def edged(path: np.ndarray, hair: Hair, rng: Rng, *, high: float = 0.17, wide: float = 0.4) -> np.ndarray:
    """The outer edge of hair along a path: lobed if the hair is wavy."""
    return curled(path, rng, high=high, wide=wide * rng.uniform(0.85, 1.15)) if hair.wavy else path


def swayed(path: np.ndarray, hair: Hair, rng: Rng) -> np.ndarray:
    """A strand along a path: it winds where the hair is wavy."""
    if not hair.wavy:
        return path
    fine = resampled(path, 0.05)
    wave = 0.08 * np.sin(np.arange(len(fine)) * 0.05 * rng.uniform(12, 15) + rng.uniform(0, 6))
    return fine + normals(fine) * wave[:, None]


def draw_strands(canvas: Canvas, hair: Hair, strands: list[np.ndarray]) -> None:
    """Strands in the hair; each wave of wavy hair has its own light."""
    if hair.wavy:
        canvas.lines([np.add(strand, (0.03, -0.04)) for strand in strands], 0.045, hair.bright)
    canvas.lines(strands, 0.04 if hair.wavy else 0.028, mix(hair.colour, hair.dark, 1.0 if hair.wavy else 0.75))


def skull_arc(hair: Hair, low: float) -> np.ndarray:
    """The outer edge of the hair, from the left at y = `low` over the top to the right."""
    start = math.asin(min(0.9, max(-0.9, (low + 0.22) / 1.2)))
    angle = np.linspace(math.pi - start, 2 * math.pi + start, 29)
    x, y = np.cos(angle), np.sin(angle)
    return np.stack([(1.0 + hair.volume) * x, -0.22 + (1.14 + hair.volume) * y * np.where(y > 0, 0.9, 1)], 1)


def draw_back(canvas: Canvas, hair: Hair, pose: Pose, chance: Chance, *, hat: bool) -> None:
    """The hair visible behind the neck; drawn before the body."""
    rng = chance.of("back hair")
    behind = -0.35 * pose.yaw
    if hair.style == "bun" and not hat:
        x, y = rng.uniform(-0.25, 0.25) + behind, -1.42 - hair.volume
        knot = ellipse(x, y, 0.4, 0.36)
        canvas.fill(edged(np.concatenate([knot, knot[:1]]), hair, rng), hair.dark)
        canvas.fill(ellipse(x - 0.05 * pose.light, y - 0.04, 0.32, 0.27), hair.colour)
    wide, low = 1.0 + hair.volume, hair.fall
    if hair.style not in ("bob", "long", "round"):
        return
    if hair.style == "round":
        low, flare = 0.75, 1.06
    else:
        flare = rng.uniform(0.92, 1.2)
    right = curve((wide, -0.3), (wide * 1.05, 0.4 * low), (wide * flare, 0.8 * low), (0.86 * wide * flare, low), num=17)
    left = (right * MIRROR)[::-1]
    side = np.concatenate([curve((0, low + 0.1), (-0.5 * wide, low + 0.08), tuple(left[0]), num=7), left])
    outline = np.concatenate([edged(side, hair, rng), (edged(side, hair, rng) * MIRROR)[::-1]])
    outline[:, 0] += behind
    canvas.fill(outline, hair.dark)
    strands = [
        curve((s * x, -0.2), (s * x * 1.1, 0.5 * low), (s * x * flare, low - 0.1))
        for s in (-1, 1)
        for x in (0.75, 0.95)
    ]
    canvas.lines([np.add(swayed(strand, hair, rng), (behind, 0)) for strand in strands], 0.04, hair.colour)


def hairline(hair: Hair, pose: Pose, low: float) -> np.ndarray:
    """The border between hair and face, from the right at y = `low` over the forehead to the left."""
    top, part = hair.forehead, hair.parting
    right = [(1.0, low), (0.9, low - 0.02), (0.86, -0.36), (0.72, -0.7), (0.45, top + 0.02)]
    left = [(x, y) for x, y in (np.array(right[::-1]) * MIRROR).tolist()]
    path = smooth([*right, (part * 0.8, top - 0.1), *left], closed=False, rounds=2)
    return pose.turn(path)


def draw_cap(canvas: Canvas, hair: Hair, pose: Pose, chance: Chance, *, hat: bool) -> None:
    """The hair on the skull, and its shadow on the forehead. It does not stand off under a `hat`."""
    rng = chance.of("cap")
    low = {"crop": 0.0, "quiff": 0.02, "bun": -0.02}.get(hair.style, 0.1)
    arc = skull_arc(hair, low)
    if hair.style == "quiff":
        lean = 0.5 + 0.5 * np.tanh(3 * (arc[:, 0] * (1 if hair.parting > 0 else -1)))
        arc[:, 1] -= 0.3 * lean * np.clip(-(arc[:, 1] + 0.9), 0, 0.5) * 2
    if hat:
        arc[:, 1] = np.maximum(arc[:, 1], -1.3)
    arc = np.add(arc, (-0.12 * pose.yaw, 0))
    border = hairline(hair, pose, low)
    outer = edged(arc, hair, rng, high=0.17 if hair.style != "crop" else 0.13)
    inner = edged(border, hair, rng, high=0.08, wide=0.28)
    cap = np.concatenate([outer, inner])
    canvas.shade(np.add(border, (0, 0.08)), mix(hair.dark, (90, 40, 30), 0.5), 0.35, blur=0.06)
    canvas.fill(cap, hair.colour)
    inside = canvas.mask(cap)
    away = -1.0 if pose.light > 0 else 1.0
    canvas.shade(ellipse(1.15 * away, -0.5, 0.5, 1.2), hair.dark, 0.8, blur=0.3, within=inside)
    root = np.array([(hair.parting * 0.8 + pose.yaw * 0.5, hair.forehead - 0.12)])
    strands = []
    for x, y in arc[2:-2:2]:
        bulge = ((x + root[0, 0]) / 2, min(y, root[0, 1]) - 0.1)
        strands.append(swayed(curve(tuple(root[0]), bulge, (0.93 * x, 0.93 * y + 0.03)), hair, rng))
    draw_strands(canvas, hair, strands)
    t = np.linspace(0.25, 0.75, 15)
    shine = np.array([np.interp(t, np.linspace(0, 1, len(arc)), arc[:, axis]) for axis in (0, 1)]).T * (0.8, 0.84)
    shine = shine[:9] if away > 0 else shine[6:]
    band = np.concatenate([shine, shine[::-1] * (0.93, 0.9)])
    canvas.shade(band, hair.bright, 0.75, blur=0.09, within=inside)


def draw_bangs(canvas: Canvas, hair: Hair, pose: Pose, chance: Chance) -> None:
    """Hair that falls over the forehead down to the brows."""
    rng = chance.of("bangs")
    low, sweep = rng.uniform(-0.5, -0.4), rng.uniform(-0.12, 0.12)
    x = np.linspace(-0.84, 0.84, 29)
    edge = low + sweep * x + 0.1 * x**2
    tufts = int(rng.integers(4, 8))
    edge += 0.05 * np.abs(np.sin(tufts * math.pi * (x + 0.84) / 1.68 + rng.uniform(0, 1))) * rng.uniform(0.6, 1.4)
    fringe = np.stack([x, edge], 1)[::-1]
    if hair.wavy:
        fringe = curled(fringe, rng, high=0.08, wide=0.26)
    top = curve((-0.88, -0.5), (-0.75, -1.2), (0.0, -1.35), (0.75, -1.2), (0.88, -0.5))
    shadow = pose.turn(np.concatenate([top, np.add(fringe, (0, 0.07))]))
    canvas.shade(shadow, (70, 36, 30), 0.35, blur=0.08)
    canvas.fill(pose.turn(np.concatenate([top, fringe])), hair.colour)
    ends = fringe[2 :: max(1, len(fringe) // 8)]
    root = (hair.parting * 0.5, -1.2)
    strands = [curve(root, ((root[0] + 2 * x) / 3, -1.0), (x, y - 0.05)) for x, y in ends]
    draw_strands(canvas, hair, [pose.turn(swayed(strand, hair, rng)) for strand in strands])
    band = curve((-0.5, -0.86), (0.0, -0.98), (0.5, -0.86))
    canvas.shade(pose.turn(np.concatenate([band, band[::-1] - (0, 0.13)])), hair.bright, 0.6, blur=0.08)


def draw_locks(canvas: Canvas, hair: Hair, pose: Pose, chance: Chance) -> None:
    """Locks before the ears, of hair that covers them."""
    rng = chance.of("locks")
    wide, low = 1.0 + hair.volume, min(hair.fall, 1.9)
    for side in (-1.0, 1.0):
        outer = curve((0.7 * wide, -1.0), (1.02 * wide, -0.6), (1.08 * wide, 0.5 * low), (1.0 * wide, low), num=17)
        inner = curve((0.8, low), (0.92, 0.55 * low), (0.86, -0.3), (0.6, -0.95), num=13)
        outline = np.concatenate([edged(outer, hair, rng), edged(inner, hair, rng, high=0.05)]) * (side, 1)
        outline[:, 0] += pose.yaw * (0.1 - 0.2 * np.clip(outline[:, 1], 0, 1))
        canvas.fill(outline, hair.colour)
        inside = canvas.mask(outline)
        if side * pose.light < 0:
            canvas.shade(outline, hair.dark, 0.55, within=inside)
        strand = curve((0.8, -0.8), (1.0, -0.2), (1.0, 0.5 * low), (0.93, low - 0.1)) * (side, 1)
        canvas.lines([swayed(strand, hair, rng)], 0.03, mix(hair.colour, hair.dark, 0.8))


def beard_colour(face: Face, hair: Colour) -> Colour:
    """The hair's colour, a little darker, and never the skin's."""
    colour = mix(hair, (50, 34, 28), 0.4)
    return mix(colour, BLACK, 0.65) if abs(luminance(colour) - luminance(face.skin)) < 50 else colour


def draw_goatee(canvas: Canvas, face: Face, pose: Pose, chance: Chance, hair: Colour) -> None:
    """Hair on the chin, to be drawn before the mouth."""
    rng = chance.of("goatee")
    wide, colour = rng.uniform(0.24, 0.36), beard_colour(face, hair)
    top, low = face.length - rng.uniform(0.24, 0.32), face.length + rng.uniform(0.04, 0.16)
    right = [(0, top), (0.7 * wide, top), (wide, (top + low) / 2), (0.55 * wide, low), (0, 1.02 * low)]
    canvas.fill(pose.turn(smooth(mirrored(right), rounds=2), 0.45), colour)
    strands = [np.array([(x, top + 0.12), (0.7 * x, low - 0.08)]) for x in np.linspace(-0.6, 0.6, 5) * wide]
    canvas.lines([pose.turn(strand, 0.45) for strand in strands], 0.02, mix(colour, BLACK, 0.25))


def draw_mustache(canvas: Canvas, face: Face, pose: Pose, chance: Chance, hair: Colour) -> None:
    """Hair on the upper lip."""
    rng = chance.of("mustache")
    wide, high, tip = rng.uniform(0.38, 0.48), rng.uniform(0.13, 0.165), rng.uniform(-0.1, 0.1)
    middle = (0, face.nose_length + 0.17)
    right = [(0, -0.5), (0.3, -0.95), (1, tip / high), (1.12, tip / high + 0.3), (0.7, 0.95), (0, 0.75)]
    colour = beard_colour(face, hair)
    canvas.fill(pose.turn(np.add(smooth(mirrored(np.array(right) * (wide, high)), rounds=2), middle)), colour)
    for x in (0.1, 0.2, 0.3, 0.4):
        strand = np.array([(x, -0.4), (1.8 * x, 0.0), (2.1 * x, 0.5)]) * (wide, high)
        for flip in (1, MIRROR):
            canvas.lines([pose.turn(np.add(strand * flip, middle))], 0.02, mix(colour, BLACK, 0.25))
