"""Finding COCO's annotation files, and reading them as they are.

PATH/annotations/instances_train.json        or instances_train2017.json, or train.json, also in PATH itself
PATH/train/ or train2017/ or images/         the split's images
PATH/train/_annotations.coco.json            beside the images, in train/, valid/ and test/ (Roboflow)
PATH/annotations/instances.json              one file for all, or PATH itself is a JSON file; images may say "split"
"""

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from apps.common.checkpoint import load_json
from apps.common.tables import SPLIT_OF_NAME
from apps.detection.listing import Layout, Part, id_in

ONE_FILE = (
    *("instances.json", "annotations.json", "coco.json", "instances_default.json", "instances_all.json"),
    *("_annotations.coco.json", "annotations.coco.json"),
)
CLEAN = "-clean"  # behind the names of what check.py writes
SUBJECTS = ("instances", "annotations", "coco", "default", "all")  # words around a split, as in instances_train.json


def find_coco(source: Path) -> Layout | None:
    """The annotation files of a folder, or the one that `source` is; None if there are none.

    Raises:
        ValueError: several files are for one split.
    """
    if source.is_file():
        return _one_file(source.parent.parent if source.parent.name == "annotations" else source.parent, source)
    rooms = [folder for folder in (source / "annotations", source) if folder.is_dir()]
    files = _files_by_split(path for room in rooms for path in sorted(room.glob("*.json")))
    if not files:
        beside = [source / name for name in sorted(SPLIT_OF_NAME) if (source / name).is_dir()]
        beside = [folder / name for folder in beside for name in ONE_FILE if (folder / name).is_file()]
        files = {SPLIT_OF_NAME[path.parent.name]: path for path in beside}
        if len(files) < len(beside):
            raise ValueError(f"{source} has several annotation files for one split: {_names(beside, full=True)}")
    if files:
        return Layout(
            "COCO json",
            source,
            {split: path.relative_to(source).as_posix() for split, path in files.items()},
            lambda splits: [_read(source, files[split or ""], split) for split in splits],
        )
    found = [room / name for room in rooms for name in ONE_FILE if (room / name).is_file()]
    return _one_file(source, found[0]) if found else None


def _one_file(root: Path, file: Path) -> Layout:
    """All images in one file: they have splits if each says which."""
    part = _read(root, file, None)
    groups: dict[str | None, list[dict[str, Any]]] = {}
    for image in part.images:
        split = image.get("split") if isinstance(image, dict) else None
        groups.setdefault(SPLIT_OF_NAME.get(split) if isinstance(split, str) else None, []).append(image)
    if None in groups:
        groups = {None: part.images}

    def read(splits: Sequence[str | None]) -> list[Part]:
        parts = []
        for split in splits:
            images = groups[split]
            others = {id_in(image, "id") for other in groups if other != split for image in groups[other]} - {None}
            mine = [annotation for annotation in part.annotations if id_in(annotation, "image_id") not in others]
            parts.append(Part(split, part.source, part.folder, images, mine, part.categories))
        return parts

    return Layout("COCO json", file, {split: file.name for split in groups}, read)


def _files_by_split(paths: Iterable[Path]) -> dict[str, Path]:
    """Files whose names have a split: instances_*.json if there are any, else all. A name that two have stays whole."""
    of_tail: dict[str, Path] = {}
    named = [path for path in paths if path.name[0] != "." and not path.stem.endswith(CLEAN)]
    instances = [path for path in named if path.name.startswith("instances_")]
    for path in instances or named:
        tail = "_".join(word for word in re.split(r"[_.]", path.stem) if word.lower() not in SUBJECTS)
        if tail and (path in instances or split_of(tail) != tail):
            of_tail.setdefault(tail, path)
    known = [split_of(tail) for tail in of_tail]
    return {split_of(tail) if known.count(split_of(tail)) == 1 else tail: path for tail, path in of_tail.items()}


def split_of(name: str) -> str:
    """The split that a name begins with: "val2017", "valid" are val; other names are their own splits."""
    word = re.match(r"[a-z]*", name.lower())
    return SPLIT_OF_NAME.get(word.group() if word else "", name)


def _read(root: Path, file: Path, split: str | None) -> Part:
    """One file.

    Raises:
        ValueError: it is not COCO's, or none of its images is where it may be.
    """
    content = load_json(file)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{file} is not a COCO annotation file: it has no list {key!r}")
    if not content["images"]:
        raise ValueError(f"{file} lists no images")
    if not content["categories"]:
        raise ValueError(f"{file} declares no categories")
    for category in content["categories"]:
        if not isinstance(category, dict) or not isinstance(category.get("id"), int) or not category.get("name"):
            raise ValueError(f"{file}: a category needs a whole-number id and a name, got {str(category)[:80]}")
    categories = sorted(content["categories"], key=lambda category: category["id"])
    for one, two in itertools.pairwise(categories):
        if one["id"] == two["id"]:
            raise ValueError(f"{file}: category id {one['id']} is both {one['name']!r} and {two['name']!r}")
    folder = find_image_folder(root, file, content["images"])
    return Part(split, file, folder, content["images"], content["annotations"], categories)


def find_image_folder(root: Path, annotation_file: Path, images: list[Any]) -> Path:
    """The first of root/<split>, root/images/<split>, root/images, root and the file's folder with a first image."""
    tail = annotation_file.stem.removeprefix("instances_")
    named = [root / tail, root / "images" / tail]
    if split_of(tail) != tail:
        named += [root / split_of(tail), root / "images" / split_of(tail)]
    places = dict.fromkeys([*named, root / "images", root, annotation_file.parent, annotation_file.parent / "images"])
    first = [str(image.get("file_name")) for image in images[:100] if isinstance(image, dict)]
    for place in places:
        if any((place / name).is_file() for name in first):
            return place
    raise ValueError(f"{annotation_file}: none of its images was found in {_names(places, full=True)}")


def _names(paths: Iterable[Path], *, full: bool = False) -> str:
    return ", ".join(str(path) if full else path.name for path in paths)
