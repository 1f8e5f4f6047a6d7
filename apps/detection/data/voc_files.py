"""Reading Pascal VOC's XML files.

    PATH/Annotations/NAME.xml, PATH/JPEGImages/NAME.jpg    perhaps with ImageSets/Main/train.txt, val.txt, test.txt
    PATH/train/NAME.xml, PATH/train/NAME.jpg               XML beside the photos, in train/, valid/, test/ or PATH

A photo belongs to the XML file of its own stem; what <filename> says is tried second. Objects marked difficult are
crowds: they stay for evaluation, which ignores them, and are not learnt. Coordinates are those of the format's
definition: pixels counted from 1, the last one belongs to the box.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from apps.common.data.photos import is_photo_name
from apps.common.data.problems import Problem
from apps.common.data.tables import SPLIT_OF_NAME, SPLITS, normal_name, read_lines
from apps.detection.data.listing import DAMAGED_FILE, DAMAGED_OBJECT, MISSING_PHOTO, NO_AREA, Layout, Part

SIDES = ("xmin", "ymin", "xmax", "ymax")
PHOTO_FOLDERS = ("JPEGImages", "images", "Images", "imgs", ".")


class Room(NamedTuple):
    """A folder of XML files and the one with their photos; `split` None where lists or nothing say."""

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
    for name in ("Annotations", "annotations", "."):
        if _xml_files(folder / name):
            photos = next((p for p in PHOTO_FOLDERS if (folder / p).is_dir()), ".")
            return Room(split, folder / name, folder / photos)
    return None


def _xml_files(folder: Path) -> list[Path]:
    """The XML files of a folder, if there is one."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [path for path in paths if path.suffix.lower() == ".xml" and path.name[0] != "."]


def _lists(source: Path) -> dict[str, Path]:
    """ImageSets/Main/*.txt by split; trainval is train where there is no train."""
    folder = source / "ImageSets" / "Main"
    lists = {split: folder / f"{split}.txt" for split in (*SPLITS, "trainval") if (folder / f"{split}.txt").is_file()}
    both = lists.pop("trainval", None)
    if both and "train" not in lists:
        lists = {"train": both, **lists}
    return lists


def _read(source: Path, rooms: Sequence[Room], lists: dict[str, Path], wanted: Sequence[str | None]) -> list[Part]:
    reader = _Reader(source)
    parts: dict[str | None, Part] = {}
    for room in rooms:
        files = {normal_name(path.stem): path for path in _xml_files(room.labels)}
        photos = _Photos(room.photos)
        lonely = [name for name in sorted(photos.names) if normal_name(Path(name).stem) not in files]
        if not lists:
            parts[room.split] = reader.part(room.split, list(files.values()), photos)
        listed: set[str] = set()
        for split, path in lists.items():
            stems, problems = _stems(path, files)
            parts[split] = reader.part(split, [files[stem] for stem in stems], photos)
            parts[split].problems.extend(problems)
            listed |= set(stems)
        first = parts[room.split if not lists else next(iter(lists))]
        if unlisted := sorted(files.keys() - listed if lists else ()):
            note = f"{len(unlisted):,} XML files are in no list of ImageSets/Main, as {files[unlisted[0]].name}"
            first.notes.append(note)
        if unused := [name for name in lonely if name not in photos.used]:
            where = f"{room.photos.relative_to(source) / unused[0]}"
            first.notes.append(f"{len(unused):,} photos without an XML file are not used, as {where}")
    reader.finish(list(parts.values()))
    return [parts[split] for split in wanted]


def _stems(path: Path, files: dict[str, Path]) -> tuple[list[str], list[Problem]]:
    """The lines of a list that have an XML file; behind a stem there may be 1 or -1."""
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
        self.names = {path.name for path in folder.iterdir() if is_photo_name(path.name)}
        self.of_stem: dict[str, list[str]] = {}
        for name in sorted(self.names):
            self.of_stem.setdefault(normal_name(Path(name).stem), []).append(name)
        self.used: set[str] = set()

    def find(self, stem: str, filename: str) -> list[str]:
        """The photo of this stem, or the one that <filename> names, with or without its suffix; several if unsure."""
        last = normal_name(filename.replace("\\", "/").rpartition("/")[2])
        names = self.of_stem.get(normal_name(stem)) or ([last] if last in self.names else [])
        names = names or self.of_stem.get(last) or self.of_stem.get(Path(last).stem) or []
        names = [last] if last in names else names
        self.used.update(names)
        return names


class _Reader:
    """Reads XML files one after the other; ids count on, classes are known at the end."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.num_images = 0
        self.num_objects = 0

    def part(self, split: str | None, files: Sequence[Path], photos: _Photos) -> Part:
        part = Part(split, self.source, self.source, [], [], [])
        for file in files:
            self._add(part, file, photos)
        return part

    def _add(self, part: Part, file: Path, photos: _Photos) -> None:
        try:
            root = ElementTree.parse(file).getroot()
        except (ElementTree.ParseError, OSError, LookupError, ValueError) as error:  # the last two of its encoding
            part.problems.append(Problem(f"{file} is not valid XML: {error}", kind=DAMAGED_FILE))
            return
        if root.tag != "annotation":
            sentence = f"{file} is no Pascal VOC file: it begins with <{root.tag}>, not with <annotation>"
            part.problems.append(Problem(sentence, kind=DAMAGED_FILE))
            return
        filename = (root.findtext("filename") or "").strip()
        names = photos.find(file.stem, filename)
        if len(names) != 1:
            says = f", nor is its <filename> {filename!r}" * bool(filename and not names)
            how = "no photo of that name is" if not names else f"several photos of that name ({', '.join(names)}) are"
            part.problems.append(Problem(f"{file}: {how} in {photos.folder}{says}", kind=MISSING_PHOTO))
            return
        path = photos.folder / names[0]
        self.num_images += 1
        where = file.relative_to(self.source).as_posix()
        image = {"id": self.num_images, "file_name": path.relative_to(self.source).as_posix(), "where": where}
        sides = {side: root.findtext(f"size/{side}") for side in ("width", "height")}
        image |= {side: _whole(text) for side, text in sides.items()}
        part.images.append(image)
        for index, element in enumerate(root.findall("object"), start=1):
            self._add_object(part, element, f"{where} object {index}", path)

    def _add_object(self, part: Part, element: ElementTree.Element, where: str, path: Path) -> None:
        name = normal_name(element.findtext("name") or "")
        given = {side: element.findtext(f"bndbox/{side}") for side in SIDES}
        try:
            x0, y0, x1, y1 = (float(given[side] or "") for side in SIDES)
        except ValueError:
            name_or_box = "no <bndbox>" if not any(given.values()) else f"<bndbox> with {given}"
            part.problems.append(Problem(f"{self.source}: {where} has {name_or_box}", kind=DAMAGED_OBJECT, path=path))
            return
        where = f"{where} ({name}, {' '.join(f'{side} {given[side]}' for side in SIDES)})"
        box = (x0, y0, x1, y1)
        if not name:
            part.problems.append(
                Problem(f"{self.source}: {where} has no <name>", kind=DAMAGED_OBJECT, path=path, box_xyxy_px=box)
            )
            return
        if x1 <= x0 or y1 <= y0:
            part.problems.append(
                Problem(f"{self.source}: {where} has no area", kind=NO_AREA, path=path, box_xyxy_px=box)
            )
            return
        self.num_objects += 1
        annotation: dict[str, Any] = {"id": self.num_objects, "image_id": self.num_images, "where": where}
        left, top = (v - 1 if v >= 1 else min(v, 0.0) for v in (x0, y0))  # many tools count from 0 after all
        annotation |= {"category_id": name, "bbox": [left, top, x1 - left, y1 - top]}
        annotation["iscrowd"] = int((element.findtext("difficult") or "0").strip().lower() in ("1", "true"))
        part.annotations.append(annotation)

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
    """A number of pixels; 0, which is then read from the photo, if there is none."""
    try:
        return max(round(float(text or "")), 0)
    except (ValueError, OverflowError):
        return 0
