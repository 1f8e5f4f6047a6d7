"""The common form of all layouts of annotated photos: unchecked parts in COCO's form, and their problems.

An image or annotation may have a key `where` with its origin, for messages; `checks.py` removes it.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from apps.common.data.photos import Glance, glance_at_photos
from apps.common.data.problems import Problem

DAMAGED_FILE = "annotation files, or entries of them, that cannot be used"
DAMAGED_OBJECT = "objects whose box or class cannot be read"
MISSING_PHOTO = "photos that are missing"
UNREADABLE = "photos that cannot be read"
OTHER_SIZE = "photos of another size than their annotation says"
NO_SIZE = "photos without a size"
NO_IMAGE = "objects of no image"
UNKNOWN_CLASS = "objects of an undeclared class"
NO_AREA = "boxes without area"
OUTSIDE = "boxes outside the image"
IN_SIDES = "boxes that seem to be in image sides instead of pixels"


@dataclass
class Part:
    """The photos of one split with their objects, as returned by a layout's reader.

    Attributes:
        split: "train", "val", ...; None if the data has no splits.
        source: the file or folder, for messages.
        folder: the base of `file_name`.
        images, annotations, categories: as in COCO's files; sizes may be missing.
        problems: found by the reader.
        notes: other remarks, a sentence each.
    """

    split: str | None
    source: Path
    folder: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Layout(NamedTuple):
    """A data set whose layout is known.

    Attributes:
        name: the kind, in words.
        source: the folder or file.
        splits: the place of each split, for messages; the only key is None if the data has no splits.
        read: returns the parts of these splits.
    """

    name: str
    source: Path
    splits: dict[str | None, str]
    read: Callable[[Sequence[str | None]], list[Part]]


def id_in(entry: Any, key: str) -> int | None:
    """The whole number under a key of an image or annotation; None if there is none."""
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, int) else None


def shared_photos(images: Sequence[Any]) -> set[str]:
    """The file names of photos with several entries, each of which lacks the others' objects."""
    names = [str(image.get("file_name")) for image in images if isinstance(image, dict)]
    times = Counter(map(os.path.normpath, names))
    return {name for name in names if times[os.path.normpath(name)] > 1}


def glance_at_images(images: Sequence[Any], folder: Path, *, every: bool = False) -> dict[Path, Glance]:
    """Fill in missing `width` and `height` (absent, null or 0) of images from their photos, if these can be read.

    Args:
        every: glance at the photos of all images, not only of those without a size.

    Returns:
        What was seen, by file.
    """
    entries = [image for image in images if isinstance(image, dict)]
    lacking = [not (image.get("width") and image.get("height")) for image in entries]
    looked = [(image, lacks) for image, lacks in zip(entries, lacking, strict=True) if every or lacks]
    paths = [folder / str(image.get("file_name")) for image, _ in looked]
    glances = dict(zip(paths, glance_at_photos(paths), strict=True))
    for (image, lacks), path in zip(looked, paths, strict=True):
        if lacks:
            image["width"], image["height"] = glances[path].size
    return glances
