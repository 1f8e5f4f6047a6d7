"""A split of annotated photos in COCO's form, and finding everything that is wrong with it before training does.

Letters in shapes: N boxes of an image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from apps.common.choices import BadData
from apps.common.data.photos import IMAGE_SUFFIXES, glance_at_photos
from apps.detection.data.coco_files import find_coco
from apps.detection.data.listing import (
    DAMAGED_FILE,
    DAMAGED_OBJECT,
    IN_SIDES,
    MISSING_PHOTO,
    NO_AREA,
    NO_IMAGE,
    NO_SIZE,
    OTHER_SIZE,
    OUTSIDE,
    UNKNOWN_CLASS,
    UNREADABLE,
    Part,
    Problem,
    fill_sizes,
    id_in,
)

pass


MOST_PX = 1_000_000  # of a side
CROWD_OF: dict[Any, bool | None] = {
    None: False,
    0: False,
    1: True,
    "": False,
    "0": False,
    "1": True,
}  # False and True are 0 and 1
OVERHANG_PX = 2.0  # a box may stick out so far by rounding; it is clipped without a word


class ImageRecord(NamedTuple):
    """One image of a split and its objects.

    Attributes:
        image_id: COCO's id.
        path: the file.
        width, height: pixels, as the annotation file says.
        boxes_xyxy_px: (N, 4) float32, clipped to the image.
        labels: (N,) int64, 1 to K.
        is_crowd: (N,) bool.
    """

    image_id: int
    path: Path
    width: int
    height: int
    boxes_xyxy_px: np.ndarray
    labels: np.ndarray
    is_crowd: np.ndarray


@dataclass(frozen=True, kw_only=True)
class CocoSplit:
    """A split, checked.

    Attributes:
        name: "train", "val", ...
        class_names: of label 1, 2, ... K, in the order of COCO's category ids.
        category_ids: COCO's id of label 1, 2, ... K.
        records: the images.
        ground_truth: the annotation file's content as pycocotools wants it, of the images in `records`.
        skipped: a sentence for each image or object that was left out.
        notes: what else one should know, as that val was taken out of train.
    """

    name: str
    class_names: list[str]
    category_ids: list[int]
    records: list[ImageRecord]
    ground_truth: dict[str, Any]
    skipped: list[str]
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """A line with the counts, and what was left out."""
        objects = sum(len(record.labels) for record in self.records)
        crowds = sum(int(record.is_crowd.sum()) for record in self.records)
        empty = sum(not len(record.labels) for record in self.records)
        line = f"{self.name}: {len(self.records):,} images ({empty:,} without objects), {objects - crowds:,} objects"
        line += f" and {crowds:,} crowds" * (crowds > 0)
        line += f" of {len(self.class_names)} class" + "es" * (len(self.class_names) != 1)
        line += "".join(f"; {note}" for note in self.notes)
        if self.skipped:
            line += f"; skipped {len(self.skipped):,}: {'; '.join(self.skipped[:3])}"
        return line + "; ..." * (len(self.skipped) > 3)


class Checked(NamedTuple):
    """What is left of a part: its good images and annotations, the latter as pycocotools wants them."""

    records: list[ImageRecord]
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    category_ids: list[int]
    problems: list[Problem]

    def without_bad_photos(self) -> "Checked":
        """After a glance at every photo, what is left of those that can be read and have the size that is said."""
        glances = glance_at_photos([record.path for record in self.records])
        bad: dict[int, Problem] = {}
        for record, glance in zip(self.records, glances, strict=True):
            if glance.problem:
                bad[record.image_id] = Problem(UNREADABLE, glance.problem, record.path)
            elif (record.width, record.height) not in (glance.size, (glance.width, glance.height)):
                sentence = other_size(record, *glance.size)
                bad[record.image_id] = Problem(OTHER_SIZE, sentence, record.path)
        return self._replace(
            records=[record for record in self.records if record.image_id not in bad],
            images=[image for image in self.images if image["id"] not in bad],
            annotations=[annotation for annotation in self.annotations if annotation["image_id"] not in bad],
            problems=[*self.problems, *bad.values()],
        )


def other_size(record: ImageRecord, width: int, height: int) -> str:
    """The sentence about a photo of `width` x `height` pixels."""
    return f"image {record.path} has {width}x{height} pixels, its annotation says {record.width}x{record.height}"


def load_coco_split(root: Path, split: str, *, bad_data: BadData = "refuse") -> CocoSplit:
    """As `annotations.load_split`, of a folder with COCO's files that has the split itself."""
    found = find_coco(Path(root)) if Path(root).exists() else None
    if found is None or split not in found.splits:
        there = ", ".join(map(str, found.splits)) if found else "no annotations/instances_*.json"
        raise ValueError(f"--data {root} has no split {split!r} in COCO's form; there is {there}")
    (part,) = found.read([split])
    return make_split(part, class_names_of([part]), bad_data=bad_data)


def class_names_of(parts: Sequence[Part]) -> list[str]:
    """All classes of the parts, in the order of the first one's ids."""
    return list(dict.fromkeys(str(category["name"]).strip() for part in parts for category in part.categories))


def box_sizes(records: Sequence[ImageRecord]) -> Tensor:
    """(N, 2) float32, width and height in image sides of all boxes that are no crowds."""
    sizes = []
    for record in records:
        x0, y0, x1, y1 = record.boxes_xyxy_px[~record.is_crowd].T
        sizes.append(np.stack(((x1 - x0) / record.width, (y1 - y0) / record.height), axis=1))
    return torch.from_numpy(np.concatenate(sizes))


def make_split(part: Part, class_names: Sequence[str], *, bad_data: BadData = "refuse") -> CocoSplit:
    """Check a part and glance at its photos.

    Args:
        class_names: of label 1, 2, ...: at least the part's own.
        bad_data: "refuse" stops at the first look, with all problems counted; "skip" leaves out the images and
            objects that have one, and lists them in `skipped`.

    Raises:
        ValueError: problems in the data and `bad_data` is "refuse", or nothing is left; the message names the file and
            the object.
    """
    checked = check_part(part, class_names).without_bad_photos()
    problems = [problem.sentence for problem in checked.problems]
    if problems and bad_data == "refuse":
        more = len(problems) - 1
        rest = f" (and {more:,} more such problem{'s' * (more > 1)})" if more else ""
        raise ValueError(f"{problems[0]}{rest}; mend the data, or leave such out with --bad-data skip")
    if not checked.records:
        reason = f"the first problem: {problems[0]}" if problems else "it has none"
        raise ValueError(f"{part.source}: no usable image is left in {part.split}; {reason}")
    ids = checked.category_ids
    declared = {category["id"]: category for category in part.categories}
    categories = [
        {**declared.get(number, {}), "id": number, "name": name} for number, name in zip(ids, class_names, strict=True)
    ]
    return CocoSplit(
        name=str(part.split),
        class_names=list(class_names),
        category_ids=ids,
        records=checked.records,
        ground_truth={"images": checked.images, "annotations": checked.annotations, "categories": categories},
        skipped=problems,
        notes=tuple(part.notes),
    )


def check_part(part: Part, class_names: Sequence[str], *, clip: bool = False) -> Checked:
    """Sort the good from the bad; photos are looked for, and opened only where the part does not say their size.

    Args:
        clip: boxes that lie inside the image by half or more of their area are good, clipped to it.
    """
    fill_sizes([image for image in part.images if isinstance(image, dict)], part.folder)
    reader = _Reader(part, class_names, clip=clip)
    images = {image["id"]: image for image in part.images if reader.image_is_good(image)}
    declared = {id_in(image, "id") for image in part.images}
    objects: dict[int, list[tuple[list[float], int, bool]]] = {image_id: [] for image_id in images}
    kept: list[dict[str, Any]] = []
    for annotation in part.annotations:
        image_id = id_in(annotation, "image_id")
        if image_id is not None and image_id in declared and image_id not in images:
            continue  # its image has been reported
        box = reader.box_of(annotation, images.get(image_id) if image_id is not None else None)
        if box is None:
            continue
        crowd = bool(crowd_in(annotation))
        label = reader.label_of[annotation["category_id"]]
        objects[annotation["image_id"]].append((box, label, crowd))
        kept.append(reader.completed(annotation, box, number=len(kept) + 1))
    return Checked(
        records=[_record(image, part.folder, objects[image_id]) for image_id, image in images.items()],
        images=[{key: value for key, value in image.items() if key != "where"} for image in images.values()],
        annotations=kept,
        category_ids=reader.category_ids,
        problems=[*part.problems, *reader.problems],
    )


def crowd_in(annotation: dict[str, Any]) -> bool | None:
    """What an annotation says under `iscrowd`; None if it is neither 0 nor 1."""
    given = annotation.get("iscrowd")
    return CROWD_OF.get(given) if given is None or isinstance(given, int | float | str) else None


def _lies_within_a_pixel(annotation: Any) -> bool:
    """Whether no number of its box is above 1; True, too, of what has no box."""
    box = annotation.get("bbox") if isinstance(annotation, dict) else None
    return not isinstance(box, list) or all(not isinstance(v, int | float) or abs(v) <= 1 for v in box)


class _Reader:
    """Looks at images and annotations one by one and collects the problems."""

    def __init__(self, part: Part, class_names: Sequence[str], *, clip: bool) -> None:
        self.part = part
        self.clip = clip
        self.problems: list[Problem] = []
        self.in_sides = all(map(_lies_within_a_pixel, part.annotations))
        labels = {name: label for label, name in enumerate(class_names, start=1)}
        self.label_of = {category["id"]: labels[str(category["name"]).strip()] for category in part.categories}
        first: dict[int, int] = {}
        for number, label in self.label_of.items():
            first.setdefault(label, number)
        free = max(self.label_of, default=0)
        # of a class that this part does not declare: an id that it does not use
        self.category_ids = [first.get(label, free + label) for label in range(1, len(class_names) + 1)]

    def image_is_good(self, image: Any) -> bool:
        """Whether it has an id, a name, a size and a file."""
        name = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not isinstance(image.get("id"), int):
            what = f"an image without a whole-number id or a file_name: {str(image)[:80]}"
            return self._problem(DAMAGED_FILE, what)
        what = image.get("where", f"image {name!r} (id {image['id']})")
        path = self.part.folder / name
        if not path.is_file():
            near = next((s for s in (*IMAGE_SUFFIXES, ".JPG") if path.with_suffix(s).is_file()), None)
            hint = f"; there is {path.with_suffix(near).name}" if near else ""
            return self._problem(MISSING_PHOTO, f"{what} is not in {self.part.folder}{hint}")
        sides = (image["width"], image["height"])
        if sides == (0, 0):
            return self._problem(NO_SIZE, f"{what}: no width and height, and none can be read in {path}", path)
        if not all(isinstance(side, int | float) and 0 < side <= MOST_PX and side % 1 == 0 for side in sides):
            fault = f"width and height must be whole pixels above 0, got {str(sides)[:80]}"
            return self._problem(DAMAGED_FILE, f"{what}: {fault}", path)
        return True

    def box_of(self, annotation: Any, image: dict[str, Any] | None) -> list[float] | None:
        """The annotation's box as xyxy in pixels, clipped to the image; None, and a problem noted, if unusable."""
        if not isinstance(annotation, dict):
            return self._no_box(DAMAGED_OBJECT, f"an annotation is no object: {str(annotation)[:80]}")
        if image is None:
            what = f"annotation {annotation.get('id')}: there is no image with id {annotation.get('image_id')}"
            return self._no_box(NO_IMAGE, what)

        def refuse(kind: str, fault: str, box: Any = None) -> Any:
            what = annotation.get("where") or f"annotation {annotation.get('id')} (image {image['file_name']!r})"
            return self._no_box(kind, f"{what}: {fault}", self.part.folder / image["file_name"], box)

        given = annotation.get("bbox")
        try:
            x, y, w, h = map(float, given)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            x, y, w, h = (math.nan,) * 4
        if not math.isfinite(x + y + w + h):
            return refuse(DAMAGED_OBJECT, f"bbox must be four numbers [x, y, width, height], got {str(given)[:80]}")
        box = (x, y, x + w, y + h)
        category = annotation.get("category_id")
        if not isinstance(category, int) or category not in self.label_of:
            return refuse(UNKNOWN_CLASS, f"category id {category} is not declared in 'categories'", box)
        if crowd_in(annotation) is None:
            return refuse(DAMAGED_OBJECT, f"iscrowd must be 0 or 1, got {str(annotation['iscrowd'])[:80]!r}", box)
        if w <= 0 or h <= 0:
            return refuse(NO_AREA, f"bbox {given} has no area", box)
        width, height = float(image["width"]), float(image["height"])
        if self.in_sides and max(map(abs, box)) <= 1 < min(width, height):
            fault = f"bbox {given} lies within a pixel, as all do here; wanted are pixels, not image sides"
            return refuse(IN_SIDES, fault, box)
        if x >= 0 and y >= 0 and box[2] <= width and box[3] <= height:
            return list(box)
        clipped = [min(max(v, 0.0), limit) for v, limit in zip(box, (width, height, width, height), strict=True)]
        inside = max(clipped[2] - clipped[0], 0.0) * max(clipped[3] - clipped[1], 0.0)
        good = max(abs(one - two) for one, two in zip(box, clipped, strict=True)) <= OVERHANG_PX
        if inside <= 0 or not (good or (self.clip and inside >= w * h / 2)):
            size = f"{width:.0f}x{height:.0f} pixels"
            return refuse(OUTSIDE, f"bbox {given} lies outside the image ({size})", box)
        return clipped

    def completed(self, annotation: dict[str, Any], box: Sequence[float], *, number: int) -> dict[str, Any]:
        """An annotation with all that pycocotools wants, under an id anew: the id 0 could never be found."""
        left, top, right, bottom = box
        given = [v if isinstance(v, int | float) else float(v) for v in annotation["bbox"]]
        whole = {**annotation, "bbox": [left, top, right - left, bottom - top] if self.clip else given}
        area = annotation.get("area")
        if not isinstance(area, int | float) or not math.isfinite(area):
            whole["area"] = whole["bbox"][2] * whole["bbox"][3]
        whole |= {"id": number, "iscrowd": int(bool(crowd_in(annotation)))}
        whole["category_id"] = self.category_ids[self.label_of[annotation["category_id"]] - 1]
        whole.pop("segmentation", None)
        whole.pop("where", None)
        return whole

    def _no_box(self, kind: str, what: str, path: Path | None = None, box: Any = None) -> Any:
        self.problems.append(Problem(kind, f"{self.part.source}: {what}", path, box))
        return None

    def _problem(self, kind: str, what: str, path: Path | None = None) -> Literal[False]:
        self.problems.append(Problem(kind, f"{self.part.source}: {what}", path))
        return False


def _record(image: dict[str, Any], folder: Path, objects: list[tuple[list[float], int, bool]]) -> ImageRecord:
    return ImageRecord(
        image_id=image["id"],
        path=folder / image["file_name"],
        width=int(image["width"]),
        height=int(image["height"]),
        boxes_xyxy_px=np.array([box for box, _, _ in objects], dtype=np.float32).reshape(-1, 4),
        labels=np.array([label for _, label, _ in objects], dtype=np.int64),
        is_crowd=np.array([crowd for _, _, crowd in objects], dtype=bool),
    )
