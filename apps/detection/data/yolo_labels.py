"""YOLO's text files: find the file of a photo, tell them from other text files, and parse their lines.

A line has a class and a box, or a class and the points of a polygon.
"""

import itertools
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from apps.common.data.names import Files
from apps.common.data.photos import is_photo_name, walk
from apps.common.data.problems import Problem
from apps.common.data.tables import normal_name
from apps.detection.data.listing import DAMAGED_OBJECT, NO_AREA, OUTSIDE, UNKNOWN_CLASS
from backbone.text import first_line

SLACK = 1e-3  # image sides by which a coordinate may be outside, from rounding
FEW, DENSE = 3, 21  # fewer lines than FEW are no pattern where they have as many numbers as an outline
BOX = 5  # numbers of a class and its box

Line = tuple[int, tuple[float, ...]]
"""A class number, and what follows it: cx cy w h, or x1 y1 x2 y2 ..., in image sides."""


def label_file(photo: Path, files: Files) -> tuple[Path, bool]:
    """The text file of a photo, and whether it exists.

    The last folder "images" of the photo's path is replaced by "labels", or the file is beside the photo; x.jpg has
    x.txt or x.jpg.txt. If the photo is a link, the path of its target is tried, too.
    """
    paths = (photo, _swapped(photo, "images", "labels"))
    if found := _text_of(paths, files):
        return found, True
    real = Path(os.path.realpath(photo))
    found = _text_of((real, _swapped(real, "images", "labels")), files) if real != photo else None
    found = found or next(filter(os.path.lexists, _texts(paths)), None)  # a link that leads nowhere: it is named
    return found or paths[-1].with_suffix(".txt"), found is not None


def _text_of(paths: Sequence[Path], files: Files) -> Path | None:
    return next((found[0] for path in _texts(paths) if (found := files.like(path))), None)


def _texts(paths: Sequence[Path]) -> list[Path]:
    return [*(path.with_name(f"{path.name}.txt") for path in paths), *(path.with_suffix(".txt") for path in paths)]


def _swapped(path: Path, old: str, new: str) -> Path:
    """The path with its last folder `old`, Old or OLD, named `new`, New or NEW."""
    parts = list(path.parts)
    lower = [part.lower() for part in parts[:-1]]
    if old in lower:
        last = len(lower) - 1 - lower[::-1].index(old)
        parts[last] = {old.capitalize(): new.capitalize(), old.upper(): new.upper()}.get(parts[last], new)
    return Path(*parts)


def without_photo(labels: set[Path]) -> list[Path]:
    """Other text files of objects in the folders of `labels`, whose photo is missing."""
    lonely = []
    for folder in sorted({path.parent for path in labels}):
        others = {path for path in _files(folder) if path.suffix.lower() == ".txt"} - labels
        photos = _files(folder) + _files(_swapped(folder / "-", "labels", "images").parent) if others else []
        stems = {normal_name(path.stem) for path in photos if is_photo_name(path.name)}
        lonely += sorted(path for path in others if normal_name(path.stem) not in stems and _holds_objects(path))
    return lonely


def some_objects(folder: Path) -> bool:
    """Whether one of the first text files in a folder and its subfolders has objects."""
    texts = (path for path in walk(folder) if path.suffix.lower() == ".txt")
    return any(map(_holds_objects, itertools.islice(texts, 1000)))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name[0] != "."] if folder.is_dir() else []


def _holds_objects(path: Path) -> bool:
    """Whether a text file has objects, judging by its beginning: classes.txt and lists of photos may be beside them."""
    words = first_line(path).split() if path.is_file() else []
    try:
        return len(words) >= 5 and all(isinstance(float(word), float) for word in words[:5])
    except ValueError:
        return False


def read_line(
    words: Sequence[str], names: Mapping[int, str], *, keypoints: bool, where: str, source: str, photo: Path
) -> Problem | Line:
    """The parsed line, or a sentence about its error.

    Args:
        names: of the classes by number.
        keypoints: the box is followed by points, which are ignored.
        where: the file and the line's number.
        source: the name of the file with the classes.
    """

    def wrong(what: str, kind: str = DAMAGED_OBJECT) -> Problem:
        return Problem(f"{where}{what}", kind=kind, path=photo)

    try:
        numbers = [math.nan if "_" in word else float(word) for word in words]  # Python takes 0_1 for 1
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
    """cx, cy, w, h of a box or of the box around a polygon."""
    if len(values) == 4:
        cx, cy, w, h = values
        return cx, cy, w, h
    x, y = values[::2], values[1::2]
    return (min(x) + max(x)) / 2, (min(y) + max(y)) / 2, max(x) - min(x), max(y) - min(y)


def more_than_boxes(lines: Sequence[Sequence[float]]) -> bool:
    """Whether apparent polygons are boxes followed by other numbers: keypoints, or a score and a track id.

    Outlines differ in their number of points. If all lines have the same number, and at least half of them are valid
    as a box inside the photo followed by points inside the box (or by a whole number), they are not outlines.

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

    if len(values) == 8:  # the corners of a rotated box: its diagonals bisect each other
        off = math.hypot(cx - w + rest[0] - rest[2], cy - h + rest[1] - rest[3])
        across = math.hypot(cx - rest[0], cy - rest[1]), math.hypot(w - rest[2], h - rest[3])
        return inside(2) and off > max(across) / 4
    flags = set(rest[1:2] if len(rest) == 2 else rest[2::3] if len(rest) % 3 == 0 else [math.nan])
    return inside(2) or (flags <= {0.0, 1.0} and (len(rest) == 2 or inside(3)))
