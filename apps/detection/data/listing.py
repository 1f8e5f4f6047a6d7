"""What every layout of annotated photos is read into: parts in COCO's form, not yet checked, and their problems.

An image or annotation may say `where` it was read, for messages; `checks.py` removes that again.
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
    """The photos of one split with their objects, as a layout's reader hands them over.

    Attributes:
        split: "train", "val", ...; None where the data does not say.
        source: the file or folder that messages name.
        folder: where `file_name` starts.
        images, annotations, categories: as in COCO's files; sizes may be missing.
        problems: what the reader could not use.
        notes: what else one should know, a sentence each.
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
    """Data that was found.

    Attributes:
        name: the kind, in words.
        source: the folder or file.
        splits: where each split is, for messages; the one key is None where the data has no splits.
        read: gives the parts of these splits.
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
    """The file names of photos that several entries are about: each would be learnt without the others' objects."""
    names = [str(image.get("file_name")) for image in images if isinstance(image, dict)]
    times = Counter(map(os.path.normpath, names))
    return {name for name in names if times[os.path.normpath(name)] > 1}


def glance_at_images(images: Sequence[Any], folder: Path, *, every: bool = False) -> dict[Path, Glance]:
    """Give images without `width` or `height` (absent, null or 0) those of their photos, where these can be read.

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
