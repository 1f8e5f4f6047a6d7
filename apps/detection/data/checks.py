"""Checks of a part of annotated photos."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from apps.common.choices import BadData
from apps.common.data.photos import IMAGE_SUFFIXES, Glance
from apps.common.data.problems import Problem, refuse_problems
from apps.detection.data.coco_entries import Box, four_numbers, rotation_in, upright
from apps.detection.data.coco_split import CocoSplit, ImageRecord, other_size
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
    glance_at_images,
    id_in,
    shared_photos,
)

MOST_PX = 1_000_000  # of a side
OVERHANG_PX = 2.0  # a box may reach so far beyond the image by rounding; it is clipped silently
MUCH_PX = 16.0  # an object with so large a box has more than one pixel
TRUE, FALSE = (1, "1"), (None, 0, "", "0")  # of iscrowd; True == 1 and False == 0


class Checked(NamedTuple):
    """The valid images and annotations of a part, the latter in pycocotools' form."""

    records: list[ImageRecord]
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    category_ids: list[int]
    problems: list[Problem]
    notes: list[str]


def check_split(part: Part, class_names: Sequence[str], *, bad_data: BadData, places: bool = False) -> CocoSplit:
    """Check a part and glance at its photos; arguments and errors are those of `load_splits` and `check_part`."""
    checked = check_part(part, class_names, open_photos=True, places=places)
    problems = [problem.sentence for problem in checked.problems]
    refuse_problems(problems, bad_data)
    if not checked.records:
        reason = f"the first problem: {problems[0]}" if problems else "it has none"
        raise ValueError(f"{part.source}: no usable image is left in {part.split}; {reason}")
    declared = {category["id"]: category for category in part.categories}
    labels = zip(checked.category_ids, class_names, strict=True)
    categories = [{**declared.get(category_id, {}), "id": category_id, "name": name} for category_id, name in labels]
    return CocoSplit(
        name=str(part.split),
        class_names=list(class_names),
        category_ids=checked.category_ids,
        records=checked.records,
        ground_truth={"images": checked.images, "annotations": checked.annotations, "categories": categories},
        skipped=problems,
        notes=(*part.notes, *checked.notes),
    )


def check_part(
    part: Part, class_names: Sequence[str], *, clip: bool = False, open_photos: bool = False, places: bool = False
) -> Checked:
    """Separate the valid images and objects of a part from the invalid ones.

    Args:
        class_names: of label 1, 2, ...: at least the part's own.
        clip: clip boxes to the image, and accept those with at least half of their area inside.
        open_photos: also drop images whose file cannot be read or has another size than annotated, after a glance at
            every file; otherwise files are only opened if the part lacks their size.
        places: annotations also get a "place": their position in the data, for people.
    """
    glances = glance_at_images(part.images, part.folder, every=open_photos)
    checker = _Checker(part, class_names, clip=clip, places=places)
    images = {image["id"]: image for image in part.images if checker.image_is_good(image)}
    declared = {id_in(image, "id") for image in part.images}
    objects: dict[int, list[tuple[Box, int, bool]]] = {image_id: [] for image_id in images}
    annotations: list[dict[str, Any]] = []
    for annotation in part.annotations:
        image_id = id_in(annotation, "image_id")
        if image_id is not None and image_id in declared and image_id not in images:
            continue  # its image has been reported
        annotation = checker.upright(annotation, images.get(image_id) if image_id is not None else None)
        box = checker.box_of(annotation, images.get(image_id) if image_id is not None else None)
        if box is None:
            continue
        label = checker.label_of[annotation["category_id"]]
        objects[annotation["image_id"]].append((box, label, bool(crowd_in(annotation))))
        annotations.append(checker.completed(annotation, box, new_id=len(annotations) + 1))
    records = [_record(image, part.folder, objects[image_id]) for image_id, image in images.items()]
    bad = _bad_photos(records, glances) if open_photos else {}
    return Checked(
        records=[record for record in records if record.image_id not in bad],
        images=[{k: v for k, v in image.items() if k != "where"} for i, image in images.items() if i not in bad],
        annotations=[annotation for annotation in annotations if annotation["image_id"] not in bad],
        category_ids=checker.category_ids,
        problems=[*part.problems, *checker.problems, *bad.values()],
        notes=checker.notes,
    )


def _bad_photos(records: Sequence[ImageRecord], glances: Mapping[Path, Glance]) -> dict[int, Problem]:
    """The files that cannot be read or have another size than annotated, by image id."""
    bad: dict[int, Problem] = {}
    for record in records:
        glance = glances[record.path]
        if glance.problem:
            bad[record.image_id] = Problem(glance.problem, kind=UNREADABLE, path=record.path)
        elif (record.width, record.height) not in (glance.size, (glance.width, glance.height)):
            bad[record.image_id] = Problem(other_size(record, *glance.size), kind=OTHER_SIZE, path=record.path)
    return bad


def crowd_in(annotation: dict[str, Any]) -> bool | None:
    """An annotation's `iscrowd`; None if it is neither 0 nor 1."""
    given = annotation.get("iscrowd")
    return True if given in TRUE else False if given in FALSE else None


def _lies_within_a_pixel(annotation: Any) -> bool:
    """Whether no number of its box is above 1; also True without a box."""
    box = annotation.get("bbox") if isinstance(annotation, dict) else None
    return not isinstance(box, list) or all(not isinstance(v, int | float) or abs(v) <= 1 for v in box)


class _Checker:
    """Checks images and annotations one by one and collects the problems."""

    def __init__(self, part: Part, class_names: Sequence[str], *, clip: bool, places: bool) -> None:
        self.part = part
        self.clip = clip
        self.places = places
        self.problems: list[Problem] = []
        self.num_turned = 0
        self.num_areas = 0
        self.shared = shared_photos(part.images)
        self.in_sides = all(map(_lies_within_a_pixel, part.annotations))
        labels = {name: label for label, name in enumerate(class_names, start=1)}
        self.label_of = {category["id"]: labels[str(category["name"]).strip()] for category in part.categories}
        first: dict[int, int] = {}
        for category_id, label in self.label_of.items():
            first.setdefault(label, category_id)
        free = max(self.label_of, default=0)
        # of a class that this part does not declare: an id that it does not use
        self.category_ids = [first.get(label, free + label) for label in range(1, len(class_names) + 1)]

    def image_is_good(self, image: Any) -> bool:
        """Whether it has an id, a name, a size and a file."""
        name = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not isinstance(image.get("id"), int):
            what = f"an image without a whole-number id or a file_name: {str(image)[:80]}"
            return self._problem(DAMAGED_FILE, what)
        shown = name if len(name) <= 300 else f"{name[:300]} ..."  # that the rest of the sentence is read, too
        what = image.get("where", f"image {shown!r} (id {image['id']})")
        path = self.part.folder / name
        if name in self.shared:
            return self._problem(DAMAGED_FILE, f"{what}: several entries are about {name}; join their objects", path)
        if not os.path.isfile(path):
            others = (f"{os.path.splitext(path)[0]}{suffix}" for suffix in IMAGE_SUFFIXES)
            near = next(filter(os.path.isfile, others), None)
            hint = f"; there is {os.path.basename(near)}" if near else ""
            return self._problem(MISSING_PHOTO, f"{what} is not in {self.part.folder}{hint}")
        sides = (image["width"], image["height"])
        if sides == (0, 0):
            return self._problem(NO_SIZE, f"{what}: no width and height, and none can be read in {path}", path)
        if not all(isinstance(side, int | float) and 0 < side <= MOST_PX and side % 1 == 0 for side in sides):
            fault = f"width and height must be whole pixels above 0, got {str(sides)[:80]}"
            return self._problem(DAMAGED_FILE, f"{what}: {fault}", path)
        return True

    @property
    def notes(self) -> list[str]:
        """Notes about values that were replaced."""
        turned = f"{self.num_turned:,} boxes with a rotation are the upright ones around them"
        areas = f"{self.num_areas:,} areas that cannot be right are those of the boxes"
        return [f"{self.part.source}: {note}" for note, n in ((turned, self.num_turned), (areas, self.num_areas)) if n]

    def upright(self, annotation: Any, image: dict[str, Any] | None) -> Any:
        """An annotation with a rotated box, replaced by the upright box around it, clipped to the image."""
        xywh = four_numbers(annotation.get("bbox")) if isinstance(annotation, dict) else None
        box = upright(annotation, xywh) if xywh and min(xywh[2:]) > 0 else None
        if box is None or image is None:
            return annotation
        self.num_turned += 1
        x0, y0, x1, y1 = _clipped((box[0], box[1], box[0] + box[2], box[1] + box[3]), image)
        attributes = {key: value for key, value in annotation["attributes"].items() if key != "rotation"}
        whole = {**annotation, "bbox": [x0, y0, x1 - x0, y1 - y0], "attributes": attributes}
        area = annotation.get("area")
        if isinstance(area, int | float):  # that of the turned box, of which the image may have less
            whole["area"] = min(area, (x1 - x0) * (y1 - y0))
        return whole

    def box_of(self, annotation: Any, image: dict[str, Any] | None) -> Box | None:
        """The annotation's box as xyxy in pixels, clipped to the image; None, with a problem added, if unusable."""
        if not isinstance(annotation, dict):
            self._problem(DAMAGED_OBJECT, f"an annotation is no object: {str(annotation)[:80]}")
            return None
        what = f"annotation {annotation.get('id')}"
        if image is None:
            self._problem(NO_IMAGE, f"{what}: there is no image with id {annotation.get('image_id')}")
            return None
        xywh = four_numbers(annotation.get("bbox"))
        box = (xywh[0], xywh[1], xywh[0] + xywh[2], xywh[1] + xywh[3]) if xywh else None
        if fault := self._fault(annotation, xywh, image):
            kind, sentence = fault
            what = annotation.get("where") or f"{what} (image {image['file_name']!r})"
            self._problem(kind, f"{what}: {sentence}", self.part.folder / image["file_name"], box)
            return None
        assert box is not None  # else there is a fault
        return _clipped(box, image)

    def _fault(self, annotation: dict[str, Any], xywh: Box | None, image: dict[str, Any]) -> tuple[str, str] | None:
        """The kind of an object's problem and a sentence."""
        given, category = annotation.get("bbox"), annotation.get("category_id")
        if xywh is None:
            return DAMAGED_OBJECT, f"bbox must be four numbers [x, y, width, height], got {str(given)[:80]}"
        if not isinstance(category, int) or category not in self.label_of:
            return UNKNOWN_CLASS, f"category id {category} is not declared in 'categories'"
        if crowd_in(annotation) is None:
            return DAMAGED_OBJECT, f"iscrowd must be 0 or 1, got {str(annotation['iscrowd'])[:80]!r}"
        if rotation_in(annotation) is None:
            given = annotation["attributes"]["rotation"]
            return DAMAGED_OBJECT, f"attributes.rotation must be a number of degrees, got {str(given)[:80]!r}"
        x, y, w, h = xywh
        if w <= 0 or h <= 0:
            return NO_AREA, f"bbox {given} has no area"
        box = (x, y, x + w, y + h)
        if self.in_sides and max(map(abs, box)) <= 1 < min(image["width"], image["height"]):
            return (
                IN_SIDES,
                f"bbox {given} lies within a pixel, as all do here; they must be in pixels, not in image sides",
            )
        clipped = _clipped(box, image)
        if clipped == box:
            return None
        inside = max(clipped[2] - clipped[0], 0.0) * max(clipped[3] - clipped[1], 0.0)
        rounded = max(abs(one - two) for one, two in zip(box, clipped, strict=True)) <= OVERHANG_PX
        if inside <= 0 or not (rounded or (self.clip and inside >= w * h / 2)):
            size = f"{image['width']:.0f}x{image['height']:.0f} pixels"
            return OUTSIDE, f"bbox {given} lies outside the image ({size})"
        return None

    def completed(self, annotation: dict[str, Any], box: Box, *, new_id: int) -> dict[str, Any]:
        """An annotation with all keys that pycocotools requires, with a new id from 1 up (pycocotools ignores id 0)."""
        left, top, right, bottom = box
        given = [v if isinstance(v, int | float) else float(v) for v in annotation["bbox"]]
        whole = {**annotation, "bbox": [left, top, right - left, bottom - top] if self.clip else given}
        area = annotation.get("area")
        if not _is_area(area, whole["bbox"]):
            self.num_areas += area is not None
            whole["area"] = whole["bbox"][2] * whole["bbox"][3]
        whole |= {"id": new_id, "iscrowd": int(bool(crowd_in(annotation)))}
        whole["category_id"] = self.category_ids[self.label_of[annotation["category_id"]] - 1]
        whole.pop("segmentation", None)
        where = whole.pop("where", None) or f"annotation {annotation.get('id')}"
        return {**whole, "place": where} if self.places else whole

    def _problem(self, kind: str, what: str, path: Path | None = None, box: Box | None = None) -> Literal[False]:
        self.problems.append(Problem(f"{self.part.source}: {what}", kind=kind, path=path, box_xyxy_px=box))
        return False


def _is_area(given: Any, bbox: Sequence[float]) -> bool:
    """Whether this can be the area of an object with this box: at most the box's, in pixels."""
    box_area, rounded = bbox[2] * bbox[3], (bbox[2] + 1) * (bbox[3] + 1)
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= rounded:
        return False
    return given > 1 or box_area < MUCH_PX


def _clipped(box: Box, image: dict[str, Any]) -> Box:
    width, height = float(image["width"]), float(image["height"])
    x0, y0, x1, y1 = box
    return min(max(x0, 0.0), width), min(max(y0, 0.0), height), min(max(x1, 0.0), width), min(max(y1, 0.0), height)


def _record(image: dict[str, Any], folder: Path, objects: list[tuple[Box, int, bool]]) -> ImageRecord:
    return ImageRecord(
        image_id=image["id"],
        path=folder / image["file_name"],
        width=int(image["width"]),
        height=int(image["height"]),
        boxes_xyxy_px=np.array([box for box, _, _ in objects], dtype=np.float32).reshape(-1, 4),
        labels=np.array([label for _, label, _ in objects], dtype=np.int64),
        is_crowd=np.array([crowd for _, _, crowd in objects], dtype=bool),
    )
