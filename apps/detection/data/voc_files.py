"""Read Pascal VOC's XML files.

    PATH/Annotations/NAME.xml, PATH/JPEGImages/NAME.jpg    also in folders within, perhaps with ImageSets/Main
    PATH/train/NAME.xml, PATH/train/NAME.jpg               XML beside the photos, in train/, valid/, test/ or PATH

A photo belongs to the XML file with the same stem; <filename> is tried second. Objects marked difficult become crowds,
which evaluation ignores and training does not learn. Coordinates follow the format's definition: pixels are counted
from 1, and the last one belongs to the box.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from apps.common.data.names import files_with
from apps.common.data.photos import is_photo_name, walk
from apps.common.data.problems import Problem, some_of
from apps.common.data.tables import SPLIT_OF_NAME, SPLITS, normal_name, read_lines
from apps.detection.data.listing import DAMAGED_FILE, DAMAGED_OBJECT, MISSING_PHOTO, NO_AREA, Layout, Part
from backbone.text import read_text

SIDES = ("xmin", "ymin", "xmax", "ymax")
LABEL_FOLDERS = ("annotations", "annotation", "annots", "annot", "anns", "xmls", "xml", "labels", "label")
DIFFICULT = {"": 0, "0": 0, "0.0": 0, "false": 0, "no": 0, "1": 1, "1.0": 1, "true": 1, "yes": 1}
PHOTO_FOLDERS = ("jpegimages", "images", "image", "imgs", "img", "photos", "jpegs")


class Room(NamedTuple):
    """A folder of XML files and the folder of their photos; `split` is None if lists, or nothing, give it."""

    split: str | None
    labels: Path
    photos: Path


def find_voc(source: Path) -> Layout | None:
    """The XML files of a folder; None if there are none.

    Raises:
        ValueError: there are several folders for one split.
    """
    rooms = _rooms(source)
    if not rooms:
        return None
    lists = {} if rooms[0].split else _lists(source)
    splits: dict[str | None, str] = {name: path.relative_to(source).as_posix() for name, path in lists.items()}
    splits = splits or {room.split: room.labels.relative_to(source).as_posix() for room in rooms}
    return Layout("Pascal VOC XML", source, splits, partial(_read, source, rooms, lists))


def _rooms(source: Path) -> list[Room]:
    if room := _room(source, None):
        return [room]
    rooms: dict[str, Room] = {}
    for folder in sorted(path for path in source.iterdir() if path.is_dir() and path.name.lower() in SPLIT_OF_NAME):
        split = SPLIT_OF_NAME[folder.name.lower()]
        if room := _room(folder, split):
            if split in rooms:
                raise ValueError(f"{source} has both {rooms[split].labels} and {room.labels}: which is {split}?")
            rooms[split] = room
    return [rooms[split] for split in SPLITS if split in rooms]


def _room(folder: Path, split: str | None) -> Room | None:
    inner = {path.name.lower(): path for path in sorted(folder.iterdir(), reverse=True) if path.is_dir()}
    photos = next((inner[name] for name in PHOTO_FOLDERS if name in inner), folder)
    for labels in (inner[name] for name in LABEL_FOLDERS if name in inner):
        if _xml_files(labels):
            return Room(split, labels, photos)
    beside = any(path.suffix.lower() == ".xml" and path.name[0] != "." for path in folder.iterdir())
    return Room(split, folder, photos) if beside else None


def _xml_files(folder: Path) -> list[Path]:
    """The XML files of a folder and of those within."""
    return [path for path in walk(folder) if path.suffix.lower() == ".xml"]


def _key(path: Path, folder: Path) -> str:
    """The common key of a photo and its XML file: subfolders and stem, relative to their own base folders."""
    return normal_name(path.relative_to(folder).with_suffix("").as_posix())


def _lists(source: Path) -> dict[str, Path]:
    """ImageSets/Main/*.txt by split; trainval is train if there is no train."""
    folder = source / "ImageSets" / "Main"
    there = {path.stem: path for path in files_with(folder, ".txt")}
    lists = {split: there[split] for split in (*SPLITS, "trainval") if split in there}
    both = lists.pop("trainval", None)
    if both and "train" not in lists:
        lists = {"train": both, **lists}
    return lists


def _read(source: Path, rooms: Sequence[Room], lists: dict[str, Path], wanted: Sequence[str | None]) -> list[Part]:
    reader = _Reader(source)
    parts: dict[str | None, Part] = {}
    for room in rooms:
        files: dict[str, Path] = {}
        twice = []
        for path in _xml_files(room.labels):
            if files.setdefault(_key(path, room.labels), path) != path:
                what = f"{path} and {files[_key(path, room.labels)].name} are of one photo: leave one of them"
                twice.append(Problem(what, kind=DAMAGED_FILE))
        photos = _Photos(room.photos)
        lonely = [path for path in photos.paths if _key(path, room.photos) not in files]
        if not lists:
            parts[room.split] = reader.part(room.split, files, photos)
        listed: set[str] = set()
        for split, path in lists.items():
            stems, problems = _stems(path, files)
            parts[split] = reader.part(split, {stem: files[stem] for stem in stems}, photos)
            parts[split].problems.extend(problems)
            listed |= set(stems)
        first = parts[room.split if not lists else next(iter(lists))]
        first.problems.extend(twice)
        if unlisted := sorted(files.keys() - listed if lists else ()):
            note = f"{len(unlisted):,} XML files are in no list of ImageSets/Main, as {files[unlisted[0]].name}"
            first.notes.append(note)
        if unused := [path for path in lonely if path not in photos.used]:
            where = unused[0].relative_to(source)
            first.notes.append(f"{len(unused):,} photos without an XML file are not used, as {where}")
    reader.finish(list(parts.values()))
    return [parts[split] for split in wanted]


def _stems(path: Path, files: dict[str, Path]) -> tuple[list[str], list[Problem]]:
    """The lines of a list that have an XML file; a stem may be followed by 1 or -1."""
    stems: dict[str, None] = {}
    problems = []
    for line_number, line in enumerate(read_lines(path), start=1):
        name = normal_name(line)
        if not name:
            continue
        stem = next((n for n in (name, name.rpartition(" ")[0].strip(), Path(name).stem) if n in files), None)
        if stem is None:
            problems.append(
                Problem(f"{path} line {line_number}: there is no {name}.xml in Annotations", kind=DAMAGED_FILE)
            )
        elif stem in stems:
            problems.append(Problem(f"{path} line {line_number}: {stem} is listed twice", kind=DAMAGED_FILE))
        else:
            stems[stem] = None
    return list(stems), problems


class _Photos:
    """The photos of a folder by stem."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = [path for path in walk(folder) if is_photo_name(path.name)]
        self.of_key: dict[str, list[Path]] = {}
        for path in self.paths:
            keys = {_key(path, folder), normal_name(path.stem), normal_name(path.name)}
            for key in keys:
                self.of_key.setdefault(key, []).append(path)
        self.used: set[Path] = set()

    def find(self, key: str, filename: str, folder: str) -> list[Path]:
        """The photo of an XML file's key or stem, or the one that <filename> names; several if unsure.

        With the suffix of <filename>, if one has it, and in <folder>, if one is; or without.
        """
        inner, _, last = normal_name(filename.replace("\\", "/")).rpartition("/")
        inner = (inner or normal_name(folder.replace("\\", "/"))).rpartition("/")[2]
        stem = key.rpartition("/")[2]
        keys = (key, stem, last, last.rpartition(".")[0])
        found = next((self.of_key[one] for one in keys if one in self.of_key), [])
        found = [path for path in found if normal_name(path.name) == last] or found
        found = [path for path in found if len(found) > 1 and normal_name(path.parent.name) == inner] or found
        self.used.update(found)
        return found


class _Reader:
    """Reads XML files one by one; ids are numbered consecutively, and the classes are known at the end."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.num_images = 0
        self.num_objects = 0

    def part(self, split: str | None, files: Mapping[str, Path], photos: _Photos) -> Part:
        part = Part(split, self.source, self.source, [], [], [])
        for key, file in files.items():
            self._add(part, key, file, photos)
        return part

    def _add(self, part: Part, key: str, file: Path, photos: _Photos) -> None:
        try:
            root = ElementTree.fromstring(read_text(file, what="XML"))
        except (ElementTree.ParseError, ValueError) as error:
            part.problems.append(Problem(f"{file} is not valid XML: {error}", kind=DAMAGED_FILE))
            return
        for element in root.iter():
            element.tag = element.tag.rpartition("}")[2]  # without a namespace
        if again := _repeated(root, ("filename", "size")):
            part.problems.append(Problem(f"{file} has <{again}> more than once", kind=DAMAGED_FILE))
            return
        if root.tag != "annotation":
            sentence = f"{file} is no Pascal VOC file: it begins with <{root.tag[:40]}>, not with <annotation>"
            part.problems.append(Problem(sentence, kind=DAMAGED_FILE))
            return
        filename = (root.findtext("filename") or "").strip()
        found = photos.find(key, filename, (root.findtext("folder") or "").strip())
        if len(found) != 1:
            says = f", nor is its <filename> {filename!r}" * bool(filename and not found)
            there = some_of([path.relative_to(photos.folder).as_posix() for path in found])
            how = f"several photos of that name ({there}) are" if found else "no photo of that name is"
            part.problems.append(Problem(f"{file}: {how} in {photos.folder}{says}", kind=MISSING_PHOTO))
            return
        path = found[0]
        self.num_images += 1
        where = file.relative_to(self.source).as_posix()
        image = {"id": self.num_images, "file_name": path.relative_to(self.source).as_posix(), "where": where}
        sides = {side: root.findtext(f"size/{side}") for side in ("width", "height")}
        image |= {side: _whole(text) for side, text in sides.items()}
        part.images.append(image)
        for index, element in enumerate(root.findall("object"), start=1):
            self._add_object(part, element, f"{where} object {index}", path)

    def _add_object(self, part: Part, element: ElementTree.Element, where: str, path: Path) -> None:
        """All boxes of an <object>: some tools write several into one."""
        name = normal_name(element.findtext("name") or "")
        difficult = (element.findtext("difficult") or "").strip().lower()
        boxes = element.findall("bndbox") or [ElementTree.Element("bndbox")]
        for i, bndbox in enumerate(boxes, start=1):
            given = {side: bndbox.findtext(side) for side in SIDES}
            again = _repeated(element, ("name", "difficult")) or _repeated(bndbox, SIDES)
            at, xyxy = where + f" box {i}" * (len(boxes) > 1), None
            try:
                x0, y0, x1, y1 = (
                    float((given[side] or "").replace("_", "no ")) for side in SIDES
                )  # 3_0 is 30 to Python
                xyxy = x0, y0, x1, y1
                at += f" ({name}, {' '.join(f'{side} {given[side]}' for side in SIDES)})"
                fault = "has no <name>" if not name else "has no area" if x1 <= x0 or y1 <= y0 else ""
            except ValueError:
                fault = f"has <bndbox> with {given}" if any(given.values()) else "has no <bndbox>"
            if again:
                fault = f"has <{again}> more than once"
            elif difficult not in DIFFICULT:
                fault = f"has <difficult> {difficult[:40]!r}: wanted is 0 or 1"
            if fault or not xyxy:
                kind = NO_AREA if fault == "has no area" else DAMAGED_OBJECT
                sentence = f"{self.source}: {at} {fault}"
                part.problems.append(Problem(sentence, kind=kind, path=path, box_xyxy_px=xyxy))
                continue
            self.num_objects += 1
            left, top = (v - 1 if v >= 1 else min(v, 0.0) for v in (x0, y0))  # many tools count from 0 after all
            annotation = {"id": self.num_objects, "image_id": self.num_images, "where": at, "category_id": name}
            annotation |= {"bbox": [left, top, x1 - left, y1 - top], "iscrowd": DIFFICULT[difficult]}
            part.annotations.append({**annotation, "attributes": {"rotation": _rotation(element)}})

    @staticmethod
    def finish(parts: Sequence[Part]) -> None:
        """Number the classes, the sorted names of all parts, from 1."""
        names = sorted({annotation["category_id"] for part in parts for annotation in part.annotations})
        class_ids = {name: class_id for class_id, name in enumerate(names, start=1)}
        for part in parts:
            part.categories = [{"id": class_id, "name": name} for name, class_id in class_ids.items()]
            for annotation in part.annotations:
                annotation["category_id"] = class_ids[annotation["category_id"]]


def _whole(text: str | None) -> int:
    """A number of pixels; 0 if there is none, and the size is then read from the photo."""
    try:
        return max(round(float(text or "")), 0)
    except (ValueError, OverflowError):
        return 0


def _repeated(element: ElementTree.Element, tags: Sequence[str]) -> str | None:
    """The first of these elements that occurs more than once, which is ambiguous."""
    there = [child.tag for child in element]
    return next((tag for tag in tags if there.count(tag) > 1), None)


def _rotation(element: ElementTree.Element) -> str:
    """The rotation attribute of a box, as written by CVAT; empty if there is none."""
    found = element.iterfind("attributes/attribute")
    values = [one.findtext("value") or "" for one in found if (one.findtext("name") or "").strip() == "rotation"]
    return values[0].strip() if values else ""
