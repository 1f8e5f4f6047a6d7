"""Predicted objects as a data set to correct in CVAT, Label Studio or LabelImg, and to read by train.py.

    coco    images/, annotations/instances_default.json                         CVAT (COCO 1.0), Label Studio
    yolo    images/, labels/NAME.txt, labels/classes.txt, classes.txt, data.yaml    Label Studio, LabelImg
    voc     JPEGImages/, Annotations/NAME.xml, ImageSets/Main/default.txt           CVAT (Pascal VOC 1.1), LabelImg

Photos are hard links if the disk supports them, else copies. All are in one folder, as some of these tools require; a
name includes those of its folders that differ between photos. photos.csv lists the source of each photo.
"""

import json
import os
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from apps.common.checkpoint import save_json
from apps.common.cli import file_name, printable
from apps.common.data.names import Files
from apps.common.data.photos import is_photo_name
from apps.common.data.tables import normal_name, write_csv
from apps.common.media.frames import Frame
from apps.common.media.watch import Watch, refuse_existing
from apps.detection.choices import SaveAs
from apps.detection.data.load import find_data
from apps.detection.data.yolo_labels import label_file
from backbone.files import numbered, written_whole

Box = tuple[float, float, float, float]
PHOTOS = {"coco": "images", "yolo": "images", "voc": "JPEGImages"}
CLASSES, DATA_SET = "classes.txt", "dataset"  # the folder is in --out
MOST_BYTES = 200  # of a name without suffix


class Labelled(NamedTuple):
    """A photo: its file, path for results, size after rotation by EXIF, and its objects' names and boxes."""

    path: Path
    relative_path: Path
    width: int
    height: int
    objects: Sequence[tuple[str, Box]]

    @classmethod
    def of_frame(cls, frame: Frame, objects: Sequence[tuple[str, Box]]) -> "Labelled":
        """The objects detected in a frame."""
        assert frame.image is not None
        height, width = frame.image.shape[:2]
        return cls(frame.path or Path(), frame.relative_path, width, height, objects)


def choose_photos(config: Any, watch: Watch) -> None:
    """Apply --only-unlabelled to a source, and check --save-as.

    Raises:
        ValueError: the source does not fit the flags, no photo is left, or --save-as would overwrite a data set.
    """
    if config.save_as:
        watch.save_as(DATA_SET)
    if config.only_unlabelled:
        watch.leave_out_labelled(config.all_sources, labelled_photos)


def labelled_photos(folder: Path) -> Iterator[Path]:
    """The photos of a data set that have labels: a COCO entry, an XML file or a text file."""
    layout, known = find_data(folder), Files()
    for part in layout.read(list(layout.splits)):
        paths = [part.folder / str(image.get("file_name")) for image in part.images if isinstance(image, dict)]
        has_own_file = layout.name == "YOLO txt"  # which lists the photos without one, too
        yield from (path for path in paths if not has_own_file or label_file(path, known)[1])


def write_data_set(folder: Path, save_as: SaveAs, photos: Sequence[Labelled], category_ids: Mapping[str, int]) -> None:
    """Write a new folder, completely or not at all.

    Args:
        category_ids: of the classes by name, in the order of YOLO's numbers.

    Raises:
        ValueError: the folder exists: it may contain corrections.
    """
    refuse_existing(folder)
    category_ids = {printable(name): class_id for name, class_id in category_ids.items()}
    with written_whole(folder, folder=True) as temporary:
        inside = temporary / PHOTOS[save_as]
        inside.mkdir()
        taken: set[str] = {Path(CLASSES).stem}
        shared = os.path.commonpath([photo.relative_path.parent for photo in photos]) if photos else ""
        named = []
        for photo in tqdm(photos, desc="writing the data set", unit="photo", leave=False, disable=None, delay=2.0):
            name = _own_name(photo.relative_path.relative_to(shared), taken)
            _put(photo.path, inside / name)
            named.append(
                (name, photo._replace(objects=[(printable(c), _inside(box, photo)) for c, box in photo.objects]))
            )
        write_csv(temporary / "photos.csv", ["file", "photo"], ([name, str(one.path)] for name, one in named))
        {"coco": _write_coco, "yolo": _write_yolo, "voc": _write_voc}[save_as](temporary, named, category_ids)


def _own_name(relative_path: Path, taken: set[str]) -> str:
    """A name that is valid on every system, without spaces, at which CVAT splits VOC's lists.

    Its stem is unique, regardless of case and Unicode form.
    """
    suffix = relative_path.suffix if is_photo_name(f"x{relative_path.suffix}") else ".jpg"  # readers go by it
    plain = "_".join(word for part in relative_path.with_suffix("").parts for word in file_name(part).split())
    plain = plain.encode()[:MOST_BYTES].decode(errors="ignore")
    for free in numbered(Path(f"{plain}{suffix}")):
        key = normal_name(free.stem).casefold()
        if key not in taken:
            taken.add(key)
            return free.name
    raise AssertionError


def _put(photo: Path, to: Path) -> None:
    try:
        os.link(os.path.realpath(photo), to)
    except OSError:  # another disk, or one without links
        shutil.copyfile(photo, to)


def _inside(box: Box, photo: Labelled) -> Box:
    """A box of a pixel at least, to hundredths, in the photo."""
    x0, y0 = min(max(box[0], 0.0), photo.width - 1.0), min(max(box[1], 0.0), photo.height - 1.0)
    x1, y1 = max(min(box[2], photo.width), x0 + 1.0), max(min(box[3], photo.height), y0 + 1.0)
    return round(x0, 2), round(y0, 2), round(x1, 2), round(y1, 2)


def _write_coco(folder: Path, photos: Sequence[tuple[str, Labelled]], category_ids: Mapping[str, int]) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (name, photo) in enumerate(photos, start=1):
        images.append({"id": image_id, "file_name": name, "width": photo.width, "height": photo.height})
        for class_name, (x0, y0, x1, y1) in photo.objects:
            w, h = round(x1 - x0, 2), round(y1 - y0, 2)
            ids = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category_ids[class_name]}
            about = {"bbox": [x0, y0, w, h], "area": round(w * h, 2), "iscrowd": 0, "segmentation": []}
            annotations.append({**ids, **about})
    categories = [{"id": class_id, "name": name, "supercategory": ""} for name, class_id in category_ids.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations").mkdir()
    save_json(folder / "annotations/instances_default.json", content)


def _write_yolo(folder: Path, photos: Sequence[tuple[str, Labelled]], category_ids: Mapping[str, int]) -> None:
    numbers = {name: number for number, name in enumerate(category_ids)}
    (folder / "labels").mkdir()
    for name, photo in photos:
        lines = []
        for class_name, (x0, y0, x1, y1) in photo.objects:
            cx, w = (x0 + x1) / 2 / photo.width, (x1 - x0) / photo.width
            cy, h = (y0 + y1) / 2 / photo.height, (y1 - y0) / photo.height
            lines.append(f"{numbers[class_name]} {cx:.6f} {cy:.6f} {w:.6f} {h:.6f}\n")
        (folder / "labels" / name).with_suffix(".txt").write_text("".join(lines), encoding="utf-8")
    for room in (folder, folder / "labels"):  # Label Studio, LabelImg
        (room / CLASSES).write_text("".join(f"{name}\n" for name in category_ids), encoding="utf-8")
    names = json.dumps(list(category_ids), ensure_ascii=False)  # JSON is YAML
    (folder / "data.yaml").write_text(f"train: images\nnames: {names}\n", encoding="utf-8")


def _write_voc(folder: Path, photos: Sequence[tuple[str, Labelled]], category_ids: Mapping[str, int]) -> None:
    """Pixels are counted from 1, and the last one belongs to the box."""
    for room in ("Annotations", "ImageSets/Main"):
        (folder / room).mkdir(parents=True)
    for name, photo in photos:
        root = _element("annotation", folder=PHOTOS["voc"], filename=name)
        root.append(_element("size", width=photo.width, height=photo.height, depth=3))
        root.append(_element("segmented", text="0"))
        for class_name, (x0, y0, x1, y1) in photo.objects:
            one = _element("object", name=class_name, pose="Unspecified", truncated=0, difficult=0)
            left, top = min(round(x0), photo.width - 2) + 1, min(round(y0), photo.height - 2) + 1
            right, bottom = max(round(x1), left + 1), max(round(y1), top + 1)
            one.append(_element("bndbox", xmin=left, ymin=top, xmax=right, ymax=bottom))
            root.append(one)
        ElementTree.indent(root)
        text = ElementTree.tostring(root, encoding="unicode")
        (folder / "Annotations" / name).with_suffix(".xml").write_text(text, encoding="utf-8")
    stems = "".join(f"{Path(name).stem}\n" for name, _ in photos)
    (folder / "ImageSets/Main/default.txt").write_text(stems, encoding="utf-8")
    labels = "".join(f"{name}:::\n" for name in category_ids)
    (folder / "labelmap.txt").write_text(f"# label:color_rgb:parts:actions\n{labels}", encoding="utf-8")


def _element(tag: str, text: str = "", **children: object) -> ElementTree.Element:
    element = ElementTree.Element(tag)
    element.text = text or None
    for name, value in children.items():
        ElementTree.SubElement(element, name).text = str(value)
    return element
