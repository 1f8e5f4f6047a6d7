"""Convert entries of other tools' COCO files to the form that the format defines: ids, file names, boxes."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from apps.common.data.names import PhotoRoot, several
from apps.common.data.problems import Problem
from apps.detection.data.listing import MISSING_PHOTO, Part

URLS = ("coco_url", "flickr_url", "url")
Box = tuple[float, float, float, float]


def whole_number(value: Any) -> int | None:
    """A value as an id: 7, 7.0 and "7" are equal; None if it is not one."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,40}(\.0+)?\s*", value):
        return int(value.partition(".")[0])
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def mend_entries(content: dict[str, Any]) -> None:
    """Convert ids to whole numbers, addresses to names of photos, and polygons to boxes."""
    for key, field in (("images", "image_id"), ("categories", "category_id")):
        numbers = _numbered(content[key])
        for entries, where in ((content[key], "id"), (content["annotations"], field)):
            for entry in entries:
                given = entry.get(where) if isinstance(entry, dict) else None
                number = numbers.get(given) if isinstance(given, str) else None
                if (number := whole_number(given) if number is None else number) is not None:
                    entry[where] = number
    for image in content["images"]:
        if isinstance(image, dict) and image.get("file_name") is None:
            address = next((image[key] for key in URLS if isinstance(image.get(key), str)), None)
            if address and (name := _path_in(address)):
                image["file_name"] = name
    for annotation in content["annotations"]:
        if isinstance(annotation, dict) and not annotation.get("bbox") and (box := box_of_polygons(annotation)):
            annotation["bbox"] = list(box)


def _numbered(entries: Sequence[Any]) -> dict[str, int]:
    """A number for each id that is text, such as "img_0": in the file's order, above all numeric ids."""
    ids = [entry.get("id") for entry in entries if isinstance(entry, dict)]
    first = max((number for one in ids if (number := whole_number(one)) is not None), default=0) + 1
    words = dict.fromkeys(one for one in ids if isinstance(one, str) and one.strip() and whole_number(one) is None)
    return {word: first + i for i, word in enumerate(words)}


def _path_in(address: str) -> str:
    try:
        return unquote(urlsplit(address).path).lstrip("/")
    except ValueError:
        return ""


def box_of_polygons(annotation: dict[str, Any]) -> Box | None:
    """The box around the polygons of a `segmentation`, x, y, width and height; None if it is of another kind."""
    polygons = annotation.get("segmentation")
    if not isinstance(polygons, list) or not polygons:
        return None
    x: list[float] = []
    y: list[float] = []
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return None
        if not all(isinstance(v, int | float) and abs(v) < 1e9 for v in polygon):  # NaN is not below, either
            return None
        x += polygon[::2]
        y += polygon[1::2]
    return min(x), min(y), max(x) - min(x), max(y) - min(y)


def rotation_in(annotation: dict[str, Any]) -> float | None:
    """CVAT's attribute `rotation`, in degrees; 0 if there is none, None if it is something else."""
    attributes = annotation.get("attributes")
    given = attributes.get("rotation") if isinstance(attributes, dict) else None
    try:
        degrees = float(given.replace(",", ".") or 0 if isinstance(given, str) else given or 0)
    except (TypeError, ValueError, OverflowError):
        return None
    return degrees if abs(degrees) <= 1e6 else None


def upright(annotation: dict[str, Any], xywh: Box) -> Box | None:
    """The upright box around one that CVAT's attribute `rotation` rotates about its centre.

    None if it is not rotated, or has polygons, which CVAT rotates itself.
    """
    degrees = rotation_in(annotation)
    if not degrees or not degrees % 360 or box_of_polygons(annotation):
        return None
    x, y, w, h = xywh
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    width, height = w * cos + h * sin, w * sin + h * cos
    return x + (w - width) / 2, y + (h - height) / 2, width, height


def find_files(part: Part, photo_root: PhotoRoot) -> None:
    """Replace images' names by those of the files found; ambiguous ones become problems."""
    taken: dict[Path, str] = {}
    kept = []
    for image in part.images:
        name = image.get("file_name") if isinstance(image, dict) else None
        found = photo_root.photos(name) if isinstance(name, str) else []
        if len(found) > 1 or (found and taken.setdefault(found[0], str(name)) != name):
            what = several(str(name), found) if len(found) > 1 else f"{name!r} and {taken[found[0]]!r} are {found[0]}"
            part.problems.append(Problem(f"{part.source}: {what}", kind=MISSING_PHOTO))
            continue
        if found and found[0] != part.folder / str(name):
            image["file_name"] = found[0].relative_to(part.folder).as_posix()
        kept.append(image)
    gone = _ids(part.images) - _ids(kept)
    part.images = kept
    if gone:
        part.annotations = [
            one for one in part.annotations if not (isinstance(one, dict) and _id(one, "image_id") in gone)
        ]
    if photo_root.drop:
        part.notes.append(f"{part.source}: {photo_root.words}")


def _id(entry: Any, key: str) -> int | None:
    return whole_number(entry.get(key)) if isinstance(entry, dict) else None


def _ids(images: Sequence[Any]) -> set[int | None]:
    return {_id(image, "id") for image in images} - {None}


def four_numbers(given: Any) -> Box | None:
    """COCO's x, y, width and height; None if they are not four finite numbers."""
    try:
        x, y, w, h = map(float, given if isinstance(given, list | tuple) else ())
    except (TypeError, ValueError, OverflowError):
        return None
    return (x, y, w, h) if math.isfinite(x + y + w + h) else None
