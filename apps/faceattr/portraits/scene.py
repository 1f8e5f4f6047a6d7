"""A whole portrait: person, pose, light, background and camera."""

import math
from collections.abc import Mapping

import cv2
import numpy as np

from apps.common.drawing.curves import Colour, Rng, mix, pick
from apps.faceattr.portraits.accessories import draw_earrings, draw_glasses
from apps.faceattr.portraits.canvas import WHITE, Canvas, Chance, ellipse, palette, varied
from apps.faceattr.portraits.clothes import draw_clothes
from apps.faceattr.portraits.face import Face, Pose, draw_ears, draw_eyes, draw_face, draw_mouth, draw_neck, draw_nose
from apps.faceattr.portraits.hair import Hair, draw_back, draw_bangs, draw_cap, draw_goatee, draw_locks, draw_mustache
from apps.faceattr.portraits.hats import draw_hat

SIDE = 144
"""of a portrait, in pixels"""
FINER = 2
WALLS = palette("a9c6cf e7cdb0 d9a78b b7c4a1 c9b6d3 8fa3b8 efe3d0 6f8f8c d8b4b0 59708c c7c2b8 4b4f63 e5b567 87a878")


def make_poses(rng: Rng) -> tuple[Pose, np.ndarray, np.ndarray]:
    """A head's pose, and the matrices (3, 2) from head and body to the canvas, as a face detector would crop."""
    pose = Pose(yaw=rng.uniform(-0.26, 0.26), pitch=rng.uniform(-0.1, 0.1), light=rng.uniform(-1, 1))
    unit = SIDE * FINER * rng.uniform(0.22, 0.25)
    roll, tilt = rng.normal(0, 0.05), rng.normal(0, 0.06)
    x, y = SIDE * FINER * rng.uniform((0.46, 0.42), (0.54, 0.48))
    body, head = turned(roll, unit), turned(roll + tilt, unit)
    pivot = np.array([0.0, 1.3])  # where the neck meets the head
    body[2] = (x, y) + pivot @ head[:2] - pivot @ body[:2]
    head[2] = x, y
    return pose, head, body


def turned(angle: float, unit: float) -> np.ndarray:
    """The matrix (3, 2) of a rotation by `angle` radians and a scale of `unit` pixels per unit, without a shift."""
    cos, sin = unit * math.cos(angle), unit * math.sin(angle)
    return np.array([[cos, sin], [-sin, cos], [0.0, 0.0]])


def draw_portrait(
    person: Chance, shot: Chance, *, hair_colour: str, wears: Mapping[str, bool]
) -> tuple[np.ndarray, set[str]]:
    """Draw a person in one picture.

    Args:
        person: the same for all pictures of one person.
        shot: of this picture.
        wears: by CelebA's names, whether the portrait has Bangs, Eyeglasses, Goatee, Mouth_Slightly_Open, Mustache,
            Smiling, Wearing_Earrings, Wearing_Hat, Wearing_Necktie.

    Returns:
        The picture (H, W, 3) uint8 RGB, and the names of the attributes that are not visible in it, present or not:
        covered, or outside the frame.
    """
    face, hair = Face.drawn(person), Hair.drawn(person, colour=hair_colour)
    pose, head, body = make_poses(shot.of("pose"))
    canvas = Canvas(SIDE, FINER)
    paint_wall(canvas, shot.of("wall"))
    hat = wears["Wearing_Hat"]

    canvas.pose = head
    draw_back(canvas, hair, pose, person, hat=hat)
    canvas.pose = body
    draw_neck(canvas, face, pose)
    draw_clothes(canvas, shot, tie=wears["Wearing_Necktie"])
    tie_bottom = canvas.placed([(0.0, 2.05)])[0]
    canvas.pose = head
    draw_ears(canvas, face, pose)
    inside = draw_face(canvas, face, pose, person, smiling=wears["Smiling"])
    draw_eyes(canvas, face, pose, shot, hair=hair.colour, smiling=wears["Smiling"])
    draw_nose(canvas, face, pose, inside)
    if wears["Goatee"]:
        draw_goatee(canvas, face, pose, person, hair.colour)
    draw_mouth(canvas, face, pose, shot, smiling=wears["Smiling"], is_open=wears["Mouth_Slightly_Open"])
    if wears["Mustache"]:
        draw_mustache(canvas, face, pose, person, hair.colour)
    draw_cap(canvas, hair, pose, person, hat=hat)
    if wears["Bangs"] and not hat:
        draw_bangs(canvas, hair, pose, person)
    if hair.covers_ears:
        draw_locks(canvas, hair, pose, person)
    elif wears["Wearing_Earrings"]:
        draw_earrings(canvas, pose, shot)
    if wears["Eyeglasses"]:
        draw_glasses(canvas, face, pose, shot)
    if hat:
        draw_hat(canvas, pose, shot)

    hidden = {"Bangs"} if hat else set()
    if hair.covers_ears:
        hidden.add("Wearing_Earrings")
    if tie_bottom[1] > canvas.side:
        hidden.add("Wearing_Necktie")
    return develop(canvas.pixels, shot.of("film"), pose), hidden


def paint_wall(canvas: Canvas, rng: Rng) -> None:
    """The background: a wall with a soft light, and on it nothing, a disc, stripes, leaves, or lights out of focus."""
    side, colour = canvas.side, varied(pick(rng, WALLS), rng)
    second = mix(colour, pick(rng, WALLS), 0.6)
    dark, light = mix(colour, (40, 40, 60), 0.3), mix(colour, WHITE, 0.3)
    x, y = rng.uniform(0, 1, 2)
    near = np.hypot(np.linspace(0, 1, 36)[None] - x, np.linspace(0, 1, 36)[:, None] - y)[..., None] / 1.2
    wall = np.clip(np.array(light) * (1 - near) + np.array(dark) * near, 0, 255).astype(np.uint8)
    canvas.pixels[:] = cv2.resize(wall, (side, side), interpolation=cv2.INTER_LINEAR)
    canvas.pose = np.array([[side, 0.0], [0.0, side], [0.0, 0.0]])
    kind = pick(rng, ("plain", "disc", "stripes", "leaves", "lights", "window"))
    if kind == "disc":
        canvas.fill(
            ellipse(rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.6), *[rng.uniform(0.36, 0.5)] * 2, num=48), second
        )
    elif kind == "stripes":
        lean, step = rng.uniform(-0.4, 0.4), rng.uniform(0.08, 0.2)
        for at in np.arange(-0.5, 1.5, step):
            band = [(at, 0), (at + 0.45 * step, 0), (at + 0.45 * step + lean, 1), (at + lean, 1)]
            canvas.shade(band, second, 0.55)
    elif kind == "leaves":
        for _ in range(int(rng.integers(5, 11))):
            draw_leaf(canvas, rng, mix(second, pick(rng, (dark, (86, 122, 92), light)), 0.5))
    elif kind == "lights":
        for _ in range(int(rng.integers(6, 14))):
            x, y, radius, share = rng.uniform((0, 0, 0.03, 0.2), (1, 1, 0.1, 0.6))
            canvas.shade(ellipse(x, y, radius, radius), mix(light, WHITE, 0.5), share, blur=0.02)
    elif kind == "window":
        left, top, wide, high = rng.uniform((-0.1, 0.02, 0.25, 0.4), (0.7, 0.2, 0.5, 0.6))
        for at_x in (0, 1):
            for at_y in (0, 1):
                a, b = left + at_x * (wide / 2 + 0.012), top + at_y * (high / 2 + 0.012)
                pane = [(a, b), (a + wide / 2, b), (a + wide / 2, b + high / 2), (a, b + high / 2)]
                canvas.shade(pane, mix(light, WHITE, 0.55), 0.75, blur=0.015)
    if rng.random() < 0.4:
        size = 2 * int(rng.integers(2, 7)) + 1
        canvas.pixels[:] = cv2.blur(canvas.pixels, (size, size))


def draw_leaf(canvas: Canvas, rng: Rng, colour: Colour) -> None:
    """A leaf somewhere at the rim of the picture."""
    angle, far = rng.uniform(0, 2 * math.pi), rng.uniform(0.42, 0.62)
    x, y = 0.5 + far * math.cos(angle), 0.45 + far * math.sin(angle)
    long, lean = rng.uniform(0.14, 0.26), rng.uniform(0, 2 * math.pi)
    t = np.linspace(0, math.pi, 12)
    shape = np.concatenate([np.stack([-np.cos(t), 0.36 * np.sin(t)], 1), np.stack([np.cos(t), -0.36 * np.sin(t)], 1)])
    turn = np.array([[math.cos(lean), math.sin(lean)], [-math.sin(lean), math.cos(lean)]])
    canvas.fill(long * shape @ turn + (x, y), colour)


def develop(pixels: np.ndarray, rng: Rng, pose: Pose) -> np.ndarray:
    """Reduce to the final size, with the light's fall and colour, exposure, softness and noise; (H, W, 3) uint8."""
    image: np.ndarray = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if rng.random() < 0.2:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 0.8))
    across = np.linspace(-1, 1, SIDE, dtype=np.float32)
    vignette = 1 - rng.uniform(0, 0.12) * (across[None] ** 2 + across[:, None] ** 2)
    fall = 1 + rng.uniform(0, 0.16) * pose.light * across[None]
    warm, bright = rng.normal(0, 0.035), rng.uniform(0.86, 1.12)
    gains = np.array([1 + warm, 1.0, 1 - warm], np.float32) * np.float32(bright)
    image *= (vignette * fall)[..., None] * gains
    image += rng.uniform(0, 3) * rng.standard_normal((SIDE, SIDE, 1), np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)
