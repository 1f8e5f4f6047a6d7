"""One line of YOLO's text files: a class and a box, or a class and the points of a polygon."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from apps.common.data.problems import Problem
from apps.detection.data.listing import DAMAGED_OBJECT, NO_AREA, OUTSIDE, UNKNOWN_CLASS

SLACK = 1e-3  # image sides by which a coordinate may lie outside, from rounding
FEW, DENSE = 3, 21  # fewer lines than FEW are no pattern where they have as many numbers as an outline
BOX = 5  # numbers of a class and its box

Line = tuple[int, tuple[float, ...]]
"""A class number, and what follows it: cx cy w h, or x1 y1 x2 y2 ..., in image sides."""


def read_line(
    words: Sequence[str], names: Mapping[int, str], *, keypoints: bool, where: str, source: str, photo: Path
) -> Problem | Line:
    """The line, or what is wrong with it.

    Args:
        names: of the classes by number.
        keypoints: behind the box are points, which are not read.
        where: the file and the line's number.
        source: the name of the file that has the classes.
    """

    def wrong(what: str, kind: str = DAMAGED_OBJECT) -> Problem:
        return Problem(f"{where}{what}", kind=kind, path=photo)

    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)):
        return wrong(f" is not of numbers: {' '.join(words)[:80]!r}")
    polygon = len(numbers) >= BOX + 2 and len(numbers) % 2 == 1
    if len(numbers) < BOX or not (len(numbers) == BOX or polygon or keypoints):
        return wrong(f" has {len(numbers)} numbers, wanted are class cx cy w h, or class and a polygon's x y ...")
    number, values = numbers[0], numbers[1:BOX] if keypoints else numbers[1:]
    if number != int(number) or int(number) not in names:
        return wrong(f": class {words[0][:40]} is none of the {len(names)} of {source}", UNKNOWN_CLASS)
    if len(values) == 4 and min(values[2:]) <= 0:
        return wrong(": width and height must be above 0", NO_AREA)
    if min(values) < -SLACK or max(values) > 1 + SLACK:
        far = next(v for v in values if not -SLACK <= v <= 1 + SLACK)
        return wrong(f": {far:g} is not from 0 to 1, in image sides", OUTSIDE)
    if min(box_of(values)[2:]) <= 0:
        return wrong(": width and height must be above 0", NO_AREA)
    return int(number), tuple(values)


def box_of(values: Sequence[float]) -> tuple[float, float, float, float]:
    """cx, cy, w, h of a box or around a polygon."""
    if len(values) == 4:
        cx, cy, w, h = values
        return cx, cy, w, h
    x, y = values[::2], values[1::2]
    return (min(x) + max(x)) / 2, (min(y) + max(y)) / 2, max(x) - min(x), max(y) - min(y)


def more_than_boxes(lines: Sequence[Sequence[float]]) -> bool:
    """Whether what looks like polygons are boxes with something behind them: keypoints, or a score and a track id.

    Outlines differ in their number of points. Where all lines have as many, and half of them or more read as a box
    inside the photo with the rest inside the box (or a whole number at the end), they are no outlines.

    Args:
        lines: of all polygons, x1 y1 x2 y2 ... each.
    """
    if len({len(values) for values in lines}) != 1 or (len(lines) < FEW and len(lines[0]) >= DENSE):
        return False
    return 2 * Counter(map(_reads_as_box, lines))[True] >= len(lines)


def _reads_as_box(values: Sequence[float]) -> bool:
    cx, cy, w, h, *rest = values
    if min(w, h) <= 0 or max(abs(2 * cx - 1) + w, abs(2 * cy - 1) + h) > 1 + 2 * SLACK:
        return False

    def inside(step: int) -> bool:
        points = [(x, y) for x, y in zip(rest[::step], rest[1::step], strict=True) if x or y]
        return all(abs(x - cx) <= w / 2 + SLACK and abs(y - cy) <= h / 2 + SLACK for x, y in points)

    if len(values) == 8:  # the corners of a turned box: its diagonals halve each other
        off = math.hypot(cx - w + rest[0] - rest[2], cy - h + rest[1] - rest[3])
        across = math.hypot(cx - rest[0], cy - rest[1]), math.hypot(w - rest[2], h - rest[3])
        return inside(2) and off > max(across) / 4
    flags = set(rest[1:2] if len(rest) == 2 else rest[2::3] if len(rest) % 3 == 0 else [math.nan])
    return inside(2) or (flags <= {0.0, 1.0} and (len(rest) == 2 or inside(3)))
