"""Reading YOLO's text files.

    PATH/data.yaml                  names (a list, or number: name), train, val, test: folders or .txt lists of photos
    PATH/images/train/NAME.jpg      a photo
    PATH/labels/train/NAME.txt      its objects, "class cx cy w h" or "class x1 y1 x2 y2 x3 y3 ...", in image sides

Where a path has no folder "images", the text file is beside the photo. A photo without a text file has no objects.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from apps.common.data.photos import UNREAD_SUFFIXES, find_photos, is_photo_name, walk
from apps.common.data.problems import Problem
from apps.common.data.tables import SPLIT_OF_NAME, SPLITS, normal_name, read_lines
from apps.detection.data.listing import (
    DAMAGED_FILE,
    DAMAGED_OBJECT,
    MISSING_PHOTO,
    NO_AREA,
    OUTSIDE,
    UNKNOWN_CLASS,
    Layout,
    Part,
    glance_at_images,
)

SLACK = 1e-3  # image sides by which a coordinate may lie outside, from rounding


def find_yolo(source: Path) -> Layout | None:
    """The YAML file of a folder, or the one that `source` is; None if there is none.

    Raises:
        ValueError: it is damaged, or there are several.
    """
    if source.is_file():
        return _layout(source, _load(source)) if source.suffix.lower() in (".yaml", ".yml") else None
    found = [(path, content) for path in sorted(source.glob("[!.]*.y*ml")) if (content := _load(path, ours=False))]
    exact = [pair for pair in found if pair[0].stem == "data"]
    if len(found) > 1 and not exact:
        names = ", ".join(path.name for path, _ in found)
        raise ValueError(f"{source} has several YAML files of data sets: {names}; give one of them as --data")
    if not found:
        return None
    return _layout(*(exact or found)[0])


def _load(path: Path, *, ours: bool = True) -> dict[str, Any] | None:
    """A YAML file's content; None if it has no names and need not be ours."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        if not ours and path.stem != "data":
            return None
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if isinstance(content, dict) and content.get("names"):
        return content
    if ours:
        raise ValueError(f"{path} has no 'names': wanted are names, train and val, as in YOLO's data.yaml")
    return None


def _layout(file: Path, content: dict[str, Any] | None) -> Layout:
    assert content is not None
    names = _names(file, content["names"])
    splits: dict[str | None, list[str]] = {}
    for key, value in content.items():
        split = SPLIT_OF_NAME.get(str(key).lower())
        if split and value:
            splits.setdefault(split, []).extend(map(str, value) if isinstance(value, list) else [str(value)])
    if not splits:
        raise ValueError(f"{file} names no photos: wanted are train and val, folders or .txt lists")
    shown: dict[str | None, str] = {split: ", ".join(splits[split]) for split in SPLITS if split in splits}
    reader = _Reader(file, str(content.get("path") or ""), names, keypoints="kpt_shape" in content)
    return Layout("YOLO txt", file, shown, partial(_read, reader, splits))


def _read(reader: "_Reader", folders: Mapping[str | None, Sequence[str]], splits: Sequence[str | None]) -> list[Part]:
    return [reader.part(split, folders[split]) for split in splits]


def _names(file: Path, names: Any) -> dict[int, str]:
    """Class names by number.

    Raises:
        ValueError: they are no list and no numbers with names, or one is there twice.
    """
    pairs = list(names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ())
    try:
        by_number = {int(number): normal_name(str(name)) for number, name in pairs}
    except (TypeError, ValueError):
        by_number = {}
    if not by_number or any(isinstance(name, dict | list) or name is None for _, name in pairs):
        raise ValueError(f"{file}: names must be a list, or numbers with names, got {str(names)[:80]!r}")
    twice = {name for name in by_number.values() if list(by_number.values()).count(name) > 1}
    if twice:
        raise ValueError(f"{file}: the class {min(twice)!r} is there twice")
    return dict(sorted(by_number.items()))


class _Reader:
    """Reads the photos and text files that one YAML file names."""

    def __init__(self, file: Path, root: str, names: dict[int, str], *, keypoints: bool) -> None:
        self.file = file
        self.keypoints = keypoints
        self.names = names
        inner = file.parent / root
        self.folder = inner if inner.is_dir() else file.parent  # `path` is often that of another machine

    def part(self, split: str | None, entries: Sequence[str]) -> Part:
        categories = [{"id": class_id, "name": name} for class_id, name in self.names.items()]
        part = Part(split, self.file, self.folder, [], [], categories)
        photos = list(dict.fromkeys(photo for entry in entries for photo in self._photos(entry, part)))
        num_labels = 0
        wanted = [label_file(path) for path in photos]
        for image_id, (path, labels) in enumerate(zip(photos, wanted, strict=True), start=1):
            name = path.relative_to(self.folder) if path.is_relative_to(self.folder) else path.absolute()
            part.images.append({"id": image_id, "file_name": name.as_posix()})
            if labels.is_file():
                num_labels += 1
                self._add_objects(part, labels, image_id, path)
        if photos and not num_labels:
            raise ValueError(
                f"{self.file}: none of the {len(photos):,} photos of {split} has a text file; the first should have "
                f"{wanted[0]}"
            )
        if len(photos) > num_labels:
            part.notes.append(f"{len(photos) - num_labels:,} photos of {split} have no text file and so no objects")
        if lonely := _without_photo(set(wanted)):
            part.notes.append(f"{len(lonely):,} text files of {split} have no photo, as {lonely[0]}")
        glance_at_images(part.images, part.folder)
        sizes = {image["id"]: (image["width"], image["height"]) for image in part.images}
        for annotation in part.annotations:
            (cx, cy, w, h), (width, height) = annotation.pop("box_norm"), sizes[annotation["image_id"]]
            annotation["bbox"] = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
        return part

    def _photos(self, entry: str, part: Part) -> list[Path]:
        """The photos of a folder or of a list; where there is neither, or nothing in it, this is a problem."""
        tries = [self.folder / entry, self.file.parent / entry]
        if entry.startswith("../"):  # as in many exports, whose paths start from a folder that is not there
            tries += [self.file.parent / entry[3:]]
        source = next((path for path in tries if path.exists()), None)
        if source is None:
            what = f"{self.file}: {part.split} is {entry!r}, but there is no {tries[0]}"
            part.problems.append(Problem(what, kind=MISSING_PHOTO))
            return []
        if source.is_dir():
            for path in walk(source):
                if path.suffix.lower() in UNREAD_SUFFIXES:
                    part.problems.append(Problem(f"{path}: this format is not read; convert it", kind=DAMAGED_FILE))
            try:
                return find_photos(source, recursive=True)
            except ValueError as error:
                part.problems.append(
                    Problem(f"{self.file}: {part.split} is {entry!r}, but {error}", kind=MISSING_PHOTO)
                )
                return []
        if source.suffix.lower() != ".txt":
            raise ValueError(f"{self.file}: {part.split} is {entry!r}, which is neither a folder nor a .txt list")
        photos = []
        for line_number, line in enumerate(read_lines(source), start=1):
            if name := line.strip():
                near = source.parent / name
                path = near if near.is_file() else self.folder / name
                if path.is_file():
                    photos.append(path)
                else:
                    part.problems.append(
                        Problem(f"{source} line {line_number}: there is no {near}", kind=MISSING_PHOTO)
                    )
        if not photos:
            part.problems.append(Problem(f"{source}: none of its photos was found", kind=MISSING_PHOTO))
        return photos

    def _add_objects(self, part: Part, file: Path, image_id: int, photo: Path) -> None:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            part.problems.append(Problem(f"{file} cannot be read: {error}", kind=DAMAGED_FILE, path=photo))
            return
        for line_number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{file} line {line_number}"
            found = self._read_line(line.split(), where, photo)
            if isinstance(found, Problem):
                part.problems.append(found)
                continue
            category, box = found
            part.annotations.append(
                {
                    "id": len(part.annotations) + 1,
                    "image_id": image_id,
                    "category_id": category,
                    "iscrowd": 0,
                    "where": where,
                    "box_norm": box,
                }
            )

    def _read_line(
        self, words: Sequence[str], where: str, photo: Path
    ) -> tuple[int, tuple[float, float, float, float]] | Problem:
        """Class number and box, cx cy w h in image sides."""
        try:
            numbers = [float(word) for word in words]
        except ValueError:
            numbers = [math.nan]
        if not all(map(math.isfinite, numbers)):
            return Problem(f"{where} is not of numbers: {' '.join(words)[:80]!r}", kind=DAMAGED_OBJECT, path=photo)
        polygon = len(numbers) >= 7 and len(numbers) % 2 == 1
        if len(numbers) < 5 or not (len(numbers) == 5 or polygon or self.keypoints):
            what = f"{where} has {len(numbers)} numbers, wanted are class cx cy w h, or class and a polygon's x y ..."
            return Problem(what, kind=DAMAGED_OBJECT, path=photo)
        class_id, values = numbers[0], numbers[1:5] if self.keypoints else numbers[1:]
        if class_id != int(class_id) or int(class_id) not in self.names:
            what = f"{where}: class {words[0]} is none of the {len(self.names)} of {self.file.name}"
            return Problem(what, kind=UNKNOWN_CLASS, path=photo)
        if len(values) == 4 and min(values[2:]) <= 0:
            return Problem(f"{where}: width and height must be above 0", kind=NO_AREA, path=photo)
        if min(values) < -SLACK or max(values) > 1 + SLACK:
            far = next(v for v in values if not -SLACK <= v <= 1 + SLACK)
            return Problem(f"{where}: {far:g} is not from 0 to 1, in image sides", kind=OUTSIDE, path=photo)
        if len(values) == 4:
            cx, cy, w, h = values
        else:
            x, y = values[::2], values[1::2]
            cx, cy, w, h = (min(x) + max(x)) / 2, (min(y) + max(y)) / 2, max(x) - min(x), max(y) - min(y)
        if w <= 0 or h <= 0:
            return Problem(f"{where}: width and height must be above 0", kind=NO_AREA, path=photo)
        return int(class_id), (cx, cy, w, h)


def label_file(photo: Path) -> Path:
    """Where the objects of a photo are: the last folder "images" of its path is "labels"; or beside it.

    Of a photo behind a link this is tried with its own path, too.
    """
    candidates = (photo, _swapped(photo, "images", "labels"))
    if found := _text_of(candidates):
        return found
    real = photo.resolve()
    return _text_of((real, _swapped(real, "images", "labels"))) or candidates[-1].with_suffix(".txt")


def _text_of(paths: Sequence[Path]) -> Path | None:
    tries = (path.with_suffix(suffix) for suffix in (".txt", ".TXT") for path in paths)
    return next((path for path in tries if path.is_file()), None)


def _swapped(path: Path, old: str, new: str) -> Path:
    """The path with its last folder `old` named `new`."""
    parts = list(path.parts)
    if old in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index(old)] = new
    return Path(*parts)


def _without_photo(labels: set[Path]) -> list[Path]:
    """Other text files of objects in the folders of `labels`, whose photo is not there."""
    lonely = []
    for folder in sorted({path.parent for path in labels}):
        others = {path for path in _files(folder) if path.suffix.lower() == ".txt"} - labels
        photos = _files(folder) + _files(_swapped(folder / "-", "labels", "images").parent) if others else []
        stems = {path.stem for path in photos if is_photo_name(path.name)}
        lonely += sorted(path for path in others if path.stem not in stems and _holds_objects(path))
    return lonely


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name[0] != "."] if folder.is_dir() else []


def _holds_objects(path: Path) -> bool:
    """Whether a text file begins as one of objects does: classes.txt and lists of photos lie beside them."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        words = file.readline().split()
    return len(words) >= 5 and all(word.replace(".", "", 1).isdigit() for word in words[:5])
