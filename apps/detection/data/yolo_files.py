"""Read YOLO's text files.

    PATH/data.yaml                  names (a list, or number: name), train, val, test: folders or .txt lists of photos
    PATH/images/train/NAME.jpg      a photo
    PATH/labels/train/NAME.txt      its objects, "class cx cy w h" or "class x1 y1 x2 y2 x3 y3 ...", in image sides

If a path has no folder "images", the text file is beside the photo. A photo without a text file has no objects.
Without a data.yaml: classes.txt or obj.names with one name per line, and optionally lists train.txt, val.txt.
"""

import os
import reprlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from apps.common.data.names import Files, PhotoRoot, files_with, find_root, several
from apps.common.data.photos import UNREAD_SUFFIXES, find_photos, walk
from apps.common.data.problems import Problem
from apps.common.data.tables import SPLIT_OF_NAME, SPLITS, normal_name, read_lines
from apps.common.data.yaml_files import read_yaml
from apps.detection.data.listing import DAMAGED_FILE, DAMAGED_OBJECT, MISSING_PHOTO, Layout, Part, glance_at_images
from apps.detection.data.yolo_labels import box_of, label_file, more_than_boxes, read_line, some_objects, without_photo

NOTHING = ("", "~", "null", "Null", "NULL")  # values in YAML of a missing split
NAME_FILES = ("classes.txt", "obj.names")


def find_yolo(source: Path) -> Layout | None:
    """The YAML file of a folder, or the one that `source` is; None if there is none.

    Raises:
        ValueError: it is damaged, or there are several.
    """
    if source.is_file():
        return _layout(source, _load(source)) if source.suffix.lower() in (".yaml", ".yml") else None
    files = files_with(source, ".yaml", ".yml")
    found = [(path, content) for path in files if (content := _load(path, ours=False))]
    exact = [pair for pair in found if pair[0].stem == "data"]
    if len(found) > 1 and not exact:
        names = ", ".join(path.name for path, _ in found)
        raise ValueError(f"{source} has several YAML files of data sets: {names}; give one of them as --data")
    if not found:
        return None
    return _layout(*(exact or found)[0])


def find_yolo_without_yaml(source: Path) -> Layout | None:
    """A folder with text files of objects and a list of classes, as from Label Studio, CVAT and LabelImg."""
    rooms, files = (source, source / "labels", source / "images", source / "data"), Files()
    file = next((path for name in NAME_FILES for folder in rooms for path in files.like(folder / name)), None)
    if file is None or not some_objects(source):
        return None
    lines = [normal_name(line) for line in read_lines(file)]
    while lines and not lines[-1]:
        lines.pop()
    inner = source / "images" if (source / "images").is_dir() else source
    lists = [path for folder in (source, inner) for path in files_with(folder, ".txt")]
    folders = [path for path in sorted(inner.iterdir()) if path.is_dir()]
    lists, folders = ([path for path in some if path.stem.lower() in SPLIT_OF_NAME] for some in (lists, folders))
    found: dict[str | None, Path] = {SPLIT_OF_NAME[path.stem.lower()]: path for path in lists or folders}
    found = found or {None: inner}
    shown = {split: found[split].relative_to(source).as_posix() for split in (*SPLITS, None) if split in found}
    reader = _Reader(file, source, _names(file, lines), keypoints=False)
    return Layout("YOLO txt", source, shown, partial(_read, reader, {split: [entry] for split, entry in shown.items()}))


def _load(path: Path, *, ours: bool = True) -> dict[str, Any] | None:
    """A YAML file's content; None if it has no names and need not be ours."""
    try:
        content = read_yaml(path)
    except ValueError:
        if not ours and path.stem != "data":
            return None
        raise
    if isinstance(content, dict) and content.get("names"):
        return content
    if ours:
        raise ValueError(f"{path} has no 'names': wanted are names, train and val, as in YOLO's data.yaml")
    return None


def _layout(file: Path, content: dict[str, Any] | None) -> Layout:
    assert content is not None
    names = _names(file, content["names"])
    nc = content.get("nc", len(names))
    if str(nc) != str(len(names)):
        raise ValueError(f"{file}: nc is {reprlib.repr(nc)}, but names has {len(names)} classes: which is right?")
    splits: dict[str | None, list[str]] = {}
    for key, value in content.items():
        split = SPLIT_OF_NAME.get(key.lower())
        entries = value if isinstance(value, list) else [value]
        if split and not all(isinstance(entry, str) for entry in entries):
            raise ValueError(f"{file}: {key} must be a folder, a .txt list or several, got {reprlib.repr(value)[:80]}")
        if split and (entries := [entry for entry in entries if entry not in NOTHING]):
            splits.setdefault(split, []).extend(entries)
    if not splits:
        raise ValueError(f"{file} names no photos: wanted are train and val, folders or .txt lists")
    shown: dict[str | None, str] = {split: ", ".join(splits[split]) for split in SPLITS if split in splits}
    inner = file.parent / _here(content["path"]) if isinstance(content.get("path"), str) else file.parent
    folder = inner if os.path.isdir(inner) else file.parent  # `path` is often that of another machine
    reader = _Reader(file, folder, names, keypoints="kpt_shape" in content)
    return Layout("YOLO txt", file, shown, partial(_read, reader, splits))


def _read(reader: "_Reader", folders: Mapping[str | None, Sequence[str]], splits: Sequence[str | None]) -> list[Part]:
    return [reader.part(split, folders[split]) for split in splits]


def _here(entry: str) -> str:
    """A path with this system's separators."""
    return entry.replace("\\", "/")


def _names(file: Path, names: Any) -> dict[int, str]:
    """Class names by number.

    Raises:
        ValueError: they are neither a list nor numbers with names, or a name occurs twice.
    """
    pairs = list(names.items() if isinstance(names, dict) else enumerate(names) if isinstance(names, list) else ())
    try:
        by_number = {int(number): normal_name(name) for number, name in pairs if isinstance(name, str)}
    except ValueError:
        by_number = {}
    if not by_number or len(by_number) < len(pairs) or not all(by_number.values()):
        raise ValueError(f"{file}: names must be a list, or numbers with names, got {reprlib.repr(names)[:80]!r}")
    name, times = Counter(by_number.values()).most_common(1)[0]
    if times > 1:
        raise ValueError(f"{file}: the class {name!r} is there twice")
    return dict(sorted(by_number.items()))


class _Reader:
    """Reads the photos and text files that belong to a list of classes; entries are relative to `folder`."""

    def __init__(self, file: Path, folder: Path, names: dict[int, str], *, keypoints: bool) -> None:
        self.file = file
        self.keypoints = keypoints
        self.names = names
        self.folder = folder
        self.files = Files()

    def part(self, split: str | None, entries: Sequence[str]) -> Part:
        categories = [{"id": class_id, "name": name} for class_id, name in self.names.items()]
        part = Part(split, self.file, self.folder, [], [], categories)
        found = {os.path.abspath(photo): photo for entry in entries for photo in self._photos(entry, part)}
        photos = self._with_labels(list(found.values()), part)
        label = split or "the data"
        for image_id, (path, labels, there) in enumerate(photos, start=1):
            name = path.relative_to(self.folder) if path.is_relative_to(self.folder) else path.absolute()
            part.images.append({"id": image_id, "file_name": name.as_posix()})
            if there:
                self._add_objects(part, labels, image_id, path)
        num_labels = sum(there for *_, there in photos)
        if photos and not num_labels:
            raise ValueError(
                f"{self.file}: none of the {len(photos):,} photos of {label} has a text file; the first should have "
                f"{photos[0][1]}"
            )
        if len(photos) > num_labels:
            part.notes.append(f"{len(photos) - num_labels:,} photos of {label} have no text file and so no objects")
        if lonely := without_photo({labels for _, labels, _ in photos}):
            part.notes.append(f"{len(lonely):,} text files of {label} have no photo, as {lonely[0]}")
        self._refuse_keypoints(part)
        glance_at_images(part.images, part.folder)
        sizes = {image["id"]: (image["width"], image["height"]) for image in part.images}
        for annotation in part.annotations:
            (cx, cy, w, h), (width, height) = box_of(annotation.pop("values")), sizes[annotation["image_id"]]
            annotation["bbox"] = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height]
        return part

    def _with_labels(self, photos: Sequence[Path], part: Part) -> list[tuple[Path, Path, bool]]:
        """Each photo with its text file, and whether that exists; photos that share a text file are dropped."""
        found = [(photo, *label_file(photo, self.files)) for photo in photos]
        photos_of: dict[Path, list[Path]] = {}
        for photo, labels, there in found:
            if there:
                photos_of.setdefault(labels, []).append(photo)
        for labels, same in photos_of.items():
            if len(same) > 1:
                names = " and ".join(photo.name for photo in same[:3])
                what = f"{labels} may have the objects of {names}: which of them? Name it {same[0].name}.txt, say"
                part.problems.extend(Problem(what, kind=DAMAGED_FILE, path=photo) for photo in same[:1])
        return [one for one in found if len(photos_of.get(one[1], ())) < 2]

    def _photos(self, entry: str, part: Part) -> list[Path]:
        """The photos of a folder or of a list; if it is missing or empty, this is a problem."""
        tries = [
            folder / one for one in dict.fromkeys((entry, _here(entry))) for folder in (self.folder, self.file.parent)
        ]
        if _here(entry).startswith("../"):  # as in many exports, whose paths start from a folder that is not there
            tries += [self.file.parent / _here(entry)[3:]]
        there = [path for path in tries if os.path.exists(path)] or [
            one for path in tries for one in self.files.like(path)
        ]
        source = next(iter(there), None)
        if source is None:
            what = f"{self.file}: {part.split} is {entry!r}, but there is no {tries[0]}"
            part.problems.append(Problem(what, kind=MISSING_PHOTO))
            return []
        if source.is_dir():
            for path in walk(source):
                if path.suffix.lower() in UNREAD_SUFFIXES:
                    part.problems.append(Problem(f"{path}: this format is not read; convert it", kind=DAMAGED_FILE))
            try:
                return find_photos(source)
            except ValueError as error:
                part.problems.append(
                    Problem(f"{self.file}: {part.split} is {entry!r}, but {error}", kind=MISSING_PHOTO)
                )
                return []
        if source.suffix.lower() != ".txt":
            raise ValueError(f"{self.file}: {part.split} is {entry!r}, which is neither a folder nor a .txt list")
        return self._listed(source, part)

    def _listed(self, source: Path, part: Part) -> list[Path]:
        """The photos that a list names."""
        lines = [
            (line_number, line.strip()) for line_number, line in enumerate(read_lines(source), start=1) if line.strip()
        ]
        photo_root = find_root((source.parent, self.folder), [name for _, name in lines]) or PhotoRoot(
            source.parent, 0, self.files
        )
        if photo_root.drop:
            part.notes.append(f"{source}: {photo_root.words}")
        photos = []
        for line_number, name in lines:
            found = photo_root.photos(name) or PhotoRoot(self.folder, photo_root.drop, photo_root.files).photos(name)
            if len(found) == 1:
                photos += found
            else:
                what = several(name, found) if found else f"there is no {source.parent / name}"
                part.problems.append(Problem(f"{source} line {line_number}: {what}", kind=MISSING_PHOTO))
        if not photos:
            part.problems.append(Problem(f"{source}: none of its photos was found", kind=MISSING_PHOTO))
        return photos

    def _add_objects(self, part: Part, file: Path, image_id: int, photo: Path) -> None:
        try:
            lines = read_lines(file)
        except ValueError as error:
            part.problems.append(Problem(str(error), kind=DAMAGED_FILE, path=photo))
            return
        for line_number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{file} line {line_number}"
            about: dict[str, Any] = {"where": where, "source": self.file.name, "photo": photo}
            found = read_line(line.split(), self.names, keypoints=self.keypoints, **about)
            if isinstance(found, Problem):
                part.problems.append(found)
                continue
            category, values = found
            numbers = {"id": len(part.annotations) + 1, "image_id": image_id, "category_id": category}
            part.annotations.append({**numbers, "iscrowd": 0, "where": where, "values": values})

    def _refuse_keypoints(self, part: Part) -> None:
        """Turn lines that are longer than a box, but not polygons, into problems."""
        longer = [one for one in part.annotations if len(one["values"]) > 4]
        if not longer or not more_than_boxes([one["values"] for one in longer]):
            return
        for one in longer:
            photo = self.folder / part.images[one["image_id"] - 1]["file_name"]
            what = (
                f"{one['where']} has {len(one['values']) + 1} numbers, but reads as a box with more behind it, as all "
                f"such lines do here: with keypoints, {self.file.name} must have kpt_shape; else leave the box alone"
            )
            part.problems.append(Problem(what, kind=DAMAGED_OBJECT, path=photo))
        part.annotations = [one for one in part.annotations if len(one["values"]) == 4]
