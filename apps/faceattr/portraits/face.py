"""A head without its hair: neck, ears, face, eyes, nose, mouth."""

import math
from dataclasses import dataclass

import numpy as np

from apps.common.drawing.curves import Colour, bernstein, mix, pick, smooth
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
    ribbon,
    varied,
)

# From the fairest to the darkest; a person's skin lies anywhere between two of them.
SKINS = palette("fbe4d6 f6d5bd efc5a4 e3b28c d39d74 be875f a37049 87593c 6c4530 543527")
IRISES = palette("4a2e1d 3a2418 6b4426 7d8f52 5b86a8 6d7f8c 8a6a3a")


@dataclass(frozen=True, kw_only=True)
class Face:
    """The properties of a face that are the same in all pictures of one person. Lengths are in half face widths."""

    skin: Colour
    iris: Colour
    jaw: float
    chin: float
    length: float
    eye_gap: float
    eye_size: float
    eye_tilt: float
    eye_open: float
    brow: float
    brow_arch: float
    nose_width: float
    nose_length: float
    lips: float
    freckles: bool
    lines: bool
    warmth: float

    @classmethod
    def drawn(cls, chance: Chance) -> "Face":
        """A face of any kind."""
        rng = chance.of("face")
        tone = rng.uniform(0, len(SKINS) - 1.001)
        skin = mix(SKINS[int(tone)], SKINS[int(tone) + 1], tone % 1)
        return cls(
            skin=varied(skin, rng, hue=0.012, strength=0.12, light=0.03),
            iris=pick(rng, IRISES),
            jaw=rng.uniform(0.66, 0.88),
            chin=rng.uniform(0.2, 0.4),
            length=rng.uniform(1.14, 1.34),
            eye_gap=rng.uniform(0.39, 0.46),
            eye_size=rng.uniform(0.18, 0.225),
            eye_tilt=rng.uniform(-0.12, 0.14),
            eye_open=rng.uniform(0.42, 0.66),
            brow=rng.uniform(0.035, 0.075),
            brow_arch=rng.uniform(0.03, 0.12),
            nose_width=rng.uniform(0.15, 0.25),
            nose_length=rng.uniform(0.44, 0.56),
            lips=rng.uniform(0.06, 0.13),
            freckles=bool(rng.random() < 0.15),
            lines=bool(rng.random() < 0.3),
            warmth=rng.uniform(0.1, 0.5),
        )

    @property
    def shadow(self) -> Colour:
        """The skin away from the light."""
        r, g, b = self.skin
        return 0.76 * r, 0.67 * g, 0.65 * b

    @property
    def glow(self) -> Colour:
        """The skin towards the light."""
        return mix(self.skin, (255, 226, 190), 0.38)

    @property
    def blush(self) -> Colour:
        """The skin where blood shows: cheeks, nose, ears."""
        r, g, b = self.skin
        return min(255, 0.98 * r + 12), 0.7 * g, 0.68 * b

    @property
    def lip(self) -> Colour:
        """The colour of the lips."""
        r, g, b = self.skin
        return mix((0.86 * r + 8, 0.56 * g, 0.56 * b), (178, 74, 78), 0.3)


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How a head is held, and where its light comes from."""

    yaw: float
    """to the right of the picture; the sine of the angle"""
    pitch: float
    """down; the sine of the angle"""
    light: float
    """from the left (-1) to the right (1)"""

    def turn(self, points: object, depth: float | None = None) -> np.ndarray:
        """Move points (N, 2) with the turn of the head; `depth` in front of the ears, None for points on the face."""
        moved = np.array(points, np.float64)
        reach = 0.8 - 0.45 * moved[:, 0] ** 2 if depth is None else depth
        moved[:, 0] += self.yaw * reach
        moved[:, 1] += self.pitch * reach
        return moved


def face_outline(face: Face, pose: Pose) -> np.ndarray:
    """The outline (N, 2) of the face from the skull to the chin, which leads where the head turns."""
    right = [
        (0.0, -1.32), (0.62, -1.22), (0.97, -0.7), (1.0, -0.1), (0.95, 0.42), (face.jaw, 0.5 + 0.38 * face.length),
        (face.chin, face.length), (0.0, 1.03 * face.length),
    ]  # fmt: skip
    outline = smooth(mirrored(right), rounds=3)
    outline[:, 0] += 0.42 * pose.yaw * np.clip((outline[:, 1] + 0.3) / 1.5, 0, 1)
    outline[:, 1] += 0.3 * pose.pitch * np.clip(outline[:, 1], 0, 1)
    return outline


def draw_neck(canvas: Canvas, face: Face, pose: Pose) -> None:
    """The neck and the skin that an open collar shows, with the chin's shadow on it."""
    right = [(0.4, 0.7), (0.41, 1.35), (0.52, 1.62), (1.0, 1.85), (0.8, 2.6)]
    neck = smooth(mirrored(right), rounds=2)
    canvas.fill(neck, mix(face.skin, face.shadow, 0.25))
    inside = canvas.mask(neck)
    chin = ellipse(0.3 * pose.yaw - 0.12 * pose.light, face.length - 0.05, 0.62, 0.42)
    canvas.shade(chin, face.shadow, 0.95, blur=0.12, within=inside)


def ear_centres(pose: Pose) -> list[tuple[float, float]]:
    """The middle of the left and the right ear; the one that a turned head hides is missing."""
    centres = [(side * 1.02 - 0.3 * pose.yaw, 0.14 - 0.2 * pose.pitch) for side in (-1.0, 1.0)]
    return [(x, y) for x, y in centres if abs(x) > 0.98]


def draw_ears(canvas: Canvas, face: Face, pose: Pose) -> None:
    """Both ears, before the face is drawn over their roots."""
    for x, y in ear_centres(pose):
        lit = 1 if x * pose.light > 0 else 0
        canvas.fill(ellipse(x, y, 0.17, 0.29, turn=0.14 * np.sign(x)), mix(face.shadow, face.skin, 0.35 + 0.5 * lit))
        canvas.fill(ellipse(x, y - 0.02, 0.08, 0.17, turn=0.14 * np.sign(x)), mix(face.shadow, face.blush, 0.3))


def draw_face(canvas: Canvas, face: Face, pose: Pose, chance: Chance, *, smiling: bool) -> np.ndarray:
    """The face's surface with its light, the cheeks higher and redder for a smile; returns its mask (S, S)."""
    rng, outline = chance.of("skin"), face_outline(face, pose)
    canvas.fill(outline, face.skin)
    inside = canvas.mask(outline)
    away = -1.0 if pose.light > 0 else 1.0
    strength = 0.35 + 0.5 * abs(pose.light)
    edge = curve((0.62 * away, -1.5), (0.5 * away, -0.4), (0.9 * away, 0.3), (0.1 * away, 1.5), num=15)
    side = np.concatenate([pose.turn(edge, 0.5), [(1.6 * away, 1.6), (1.6 * away, -1.5)]])
    canvas.shade(side, face.shadow, strength * 0.75, blur=0.22, within=inside)
    canvas.shade(pose.turn(ellipse(-0.3 * away, -0.6, 0.5, 0.3)), face.glow, 0.45, blur=0.35, within=inside)
    for side_x in (-0.56, 0.56):
        cheek = pose.turn(ellipse(side_x, 0.38 if smiling else 0.45, 0.26, 0.2))
        canvas.shade(cheek, face.blush, 0.8 if smiling else face.warmth, blur=0.2, within=inside)
    canvas.shade(pose.turn(ellipse(0, 1.25, 0.5, 0.1), 0.5), face.shadow, 0.35, blur=0.15, within=inside)
    if face.freckles:
        spots = rng.uniform((-0.62, 0.2), (0.62, 0.5), (22, 2))
        canvas.dots(pose.turn(spots), 0.02, mix(face.skin, face.shadow, 0.7))
    if face.lines:
        for sign in (-1, 1):
            smile_line = curve((0.3 * sign, 0.4), (0.48 * sign, 0.55), (0.5 * sign, 0.78))
            canvas.lines([pose.turn(smile_line)], 0.03, mix(face.skin, face.shadow, 0.6))
    return inside


def draw_eyes(canvas: Canvas, face: Face, pose: Pose, chance: Chance, *, hair: Colour, smiling: bool) -> None:
    """Eyes, lids and brows; a smile narrows the eyes a little."""
    rng = chance.of("eyes")
    look_x, look_y, lift = rng.uniform((-0.05, -0.015, -0.05), (0.05, 0.02, 0.04)).tolist()
    look_x += 0.06 * pose.yaw
    dark = luminance(face.skin) < 90
    brow = mix(hair, (52, 34, 28), 0.5) if not dark else mix(hair, BLACK, 0.6)
    size, lash = face.eye_size, mix(face.shadow, BLACK, 0.75)
    high = size * face.eye_open * (0.6 if smiling else 1.0)
    for sign in (-1.0, 1.0):
        x = sign * face.eye_gap

        def place(path: np.ndarray, x: float = x, sign: float = sign) -> np.ndarray:
            tilted = np.asarray(path) * (sign, 1)
            tilted[:, 1] -= face.eye_tilt * np.asarray(path)[:, 0]
            return pose.turn(np.add(tilted, (x, 0)))

        upper = curve((-size, 0.02), (-0.55 * size, -1.25 * high), (0.5 * size, -1.5 * high), (size, -0.01))
        lower = curve((-size, 0.02), (-0.4 * size, 0.95 * high), (0.6 * size, 0.9 * high), (size, -0.01))
        socket = np.concatenate([upper * (1.25, 2.1), lower[::-1] * (1.25, 1.2)])
        canvas.shade(place(socket), face.shadow, 0.28, blur=0.12)
        canvas.fill(place(np.concatenate([upper, lower[::-1]])), mix(WHITE, face.skin, 0.12))
        for radius, colour in ((0.56, mix(face.iris, BLACK, 0.45)), (0.44, face.iris), (0.25, BLACK)):
            disc = ellipse(sign * look_x, look_y - 0.1 * high, radius * size, radius * size)
            top, low = (np.interp(disc[:, 0], edge[:, 0], edge[:, 1]) for edge in (upper, lower))
            disc[:, 1] = np.clip(disc[:, 1], top, low)
            canvas.fill(place(disc), colour)
        canvas.dots(place(np.array([(sign * look_x + 0.05 * sign * pose.light, look_y - 0.06)])), 0.026, WHITE)
        canvas.fill(place(ribbon(upper, np.linspace(0.014, 0.034, len(upper)))), lash)
        canvas.lines([place(lower[3:])], 0.015, mix(face.skin, face.shadow, 0.9))
        canvas.lines([place(upper * (1.08, 1.0) - (0, 0.075))], 0.02, face.shadow)
        arch = curve((-1.2 * size, 0.01), (0.1 * size, -1.7 * face.brow_arch), (1.45 * size, 0.07))
        widths = face.brow * np.sin(np.linspace(0.7, 2.9, len(arch))) ** 0.7
        canvas.fill(place(ribbon(arch - (0, 0.34 - lift), widths)), brow)


def draw_nose(canvas: Canvas, face: Face, pose: Pose, inside: np.ndarray) -> None:
    """The nose: a soft shade on the side away from the light, its tip and nostrils."""
    away, low, wide = (-1.0 if pose.light > 0 else 1.0), face.nose_length, face.nose_width
    ridge = [(0.0, -0.1), (0.05 * away, low - 0.2), (wide * away, low - 0.03), (0.0, low + 0.03)]
    bridge = [(0.11 * away, -0.12), (0.12 * away, 0.1)]
    canvas.shade(pose.turn(smooth([*ridge, *bridge[::-1]], rounds=2), 0.95), face.shadow, 0.5, blur=0.06, within=inside)
    canvas.shade(pose.turn(ellipse(0, low - 0.1, wide, 0.12), 1.0), face.blush, 0.3, blur=0.12, within=inside)
    base = np.array([(-1, -0.06), (-0.75, 0.05), (0, 0), (0.75, 0.05), (1, -0.06)]) * (wide, 1) + (0, low)
    base = bernstein(4, 13) @ base
    canvas.lines([pose.turn(base, 0.95)], 0.028, mix(face.shadow, BLACK, 0.18))
    nostrils = pose.turn([(-0.5 * wide, low + 0.01), (0.5 * wide, low + 0.01)], 0.95)
    canvas.dots(nostrils, 0.03, mix(face.shadow, BLACK, 0.4))
    canvas.shade(pose.turn(ellipse(-0.25 * away * wide, low - 0.12, 0.06, 0.07), 1.05), face.glow, 0.7, blur=0.05)


def draw_mouth(canvas: Canvas, face: Face, pose: Pose, chance: Chance, *, smiling: bool, is_open: bool) -> None:
    """The mouth: its corners are up or not, and it is open or not."""
    rng = chance.of("mouth")
    wide = rng.uniform(0.25, 0.31) * (1.65 if smiling else 1.0)
    rise = rng.uniform(0.2, 0.26) if smiling else rng.uniform(-0.02, 0.03)
    gap = rng.uniform(0.17, 0.27) if is_open else 0.0
    y = face.nose_length + 0.34 + 0.3 * (face.length - 1.2)
    lip = mix(face.lip, (0.8 * face.lip[0], 0.7 * face.lip[1], 0.7 * face.lip[2]), rng.uniform(0, 0.4))
    corner, sag, bow = y - rise, rise if smiling else 0.35 * rise, np.sin(np.linspace(0, math.pi, 13))

    def arc(middle: float) -> np.ndarray:
        """From corner to corner through `middle` below the mouth's line."""
        return curve((-wide, corner), (-0.45 * wide, y + sag + middle), (0.45 * wide, y + sag + middle), (wide, corner))

    top, bottom = (arc(0.0), arc(1.33 * gap)) if smiling else (arc(-0.5 * gap), arc(gap))
    peak = y + 0.4 * sag - 1.5 * face.lips - 0.5 * gap
    middle = (0.0, y + 0.5 * sag - 0.3 * gap)
    upper_lip = curve((-wide, corner), (-0.3 * wide, peak), middle, (0.3 * wide, peak), (wide, corner))
    canvas.shade(pose.turn(ellipse(0, y + sag + gap + 0.24, 0.24, 0.05)), face.shadow, 0.5, blur=0.08)
    canvas.fill(pose.turn(np.concatenate([upper_lip, lowered(bottom, 1.1 * face.lips * bow**0.8)[::-1]])), lip)
    canvas.fill(pose.turn(np.concatenate([upper_lip, top[::-1]])), mix(lip, face.shadow, 0.4))
    if is_open:
        canvas.fill(pose.turn(np.concatenate([top, bottom[::-1]])), (72, 20, 28))
        tongue = np.concatenate([lowered(bottom, -0.35 * gap * bow)[3:-3], bottom[9:2:-1]])
        canvas.fill(pose.turn(tongue), (196, 92, 92))
        teeth = lowered(top, (0.5 * bow**0.5 if smiling else 0.3 * bow) * gap)
        canvas.fill(pose.turn(np.concatenate([top, teeth[::-1]])), (250, 244, 236))
    else:
        canvas.lines([pose.turn(top)], 0.06 if smiling else 0.045, mix(face.shadow, BLACK, 0.55))
    if smiling:
        dimple = np.array([(1.0, -0.07), (1.17, 0.0), (1.02, 0.07)]) * (wide, 1) + (0, corner)
        for flip in (1, MIRROR):
            canvas.lines([pose.turn(dimple * flip)], 0.03, face.shadow)


def lowered(path: np.ndarray, drop: np.ndarray) -> np.ndarray:
    """A path (N, 2), each point moved down by its `drop` (N,)."""
    return np.stack([path[:, 0], path[:, 1] + drop], 1)
