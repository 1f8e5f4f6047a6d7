"""Reading the COCO layout, and finding everything that is wrong with it before training does.

    PATH/annotations/instances_train.json        or instances_train2017.json
    PATH/train/ or train2017/ or images/         the split's images

Letters in shapes: N boxes of an image.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from apps.common.checkpoint import load_json

BadData = Literal["refuse", "skip"]
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
    """

    name: str
    class_names: list[str]
    category_ids: list[int]
    records: list[ImageRecord]
    ground_truth: dict[str, Any]
    skipped: list[str]

    def describe(self) -> str:
        """A line with the counts, and what was left out."""
        objects = sum(len(record.labels) for record in self.records)
        crowds = sum(int(record.is_crowd.sum()) for record in self.records)
        empty = sum(not len(record.labels) for record in self.records)
        line = f"{self.name}: {len(self.records):,} images ({empty:,} without objects), {objects - crowds:,} objects"
        line += f" and {crowds:,} crowds" * (crowds > 0) + f" of {len(self.class_names)} classes"
        if self.skipped:
            line += f"; skipped {len(self.skipped):,}: {'; '.join(self.skipped[:3])}"
        return line + "; ..." * (len(self.skipped) > 3)


def load_coco_split(root: Path, split: str, *, bad_data: BadData = "refuse") -> CocoSplit:
    """Read and check one split of a folder in COCO layout.

    Args:
        root: the folder with `annotations/`.
        split: "train" finds instances_train.json or the one instances_train*.json.
        bad_data: "refuse" stops at the first look, with all problems counted; "skip" leaves out the images and
            objects that have one, and lists them in `skipped`.

    Raises:
        ValueError: no such folder, file or image, or problems in the data and `bad_data` is "refuse"; the message
            names the file and the object.
    """
    annotation_file = find_annotation_file(Path(root), split)
    content = load_json(annotation_file)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise ValueError(f"{annotation_file} is not a COCO annotation file: it has no list {key!r}")
    if not content["images"]:
        raise ValueError(f"{annotation_file} lists no images")
    if not content["categories"]:
        raise ValueError(f"{annotation_file} declares no categories")
    categories = sorted(content["categories"], key=lambda category: category["id"])
    reader = _Reader(annotation_file, {c["id"]: label for label, c in enumerate(categories, start=1)})
    folder = find_image_folder(Path(root), annotation_file, content["images"])
    records, kept_annotations = reader.read(content, folder)
    if reader.problems and bad_data == "refuse":
        more = len(reader.problems) - 1
        rest = f" (and {more} more such problem{'s' * (more > 1)})" if more else ""
        raise ValueError(f"{reader.problems[0]}{rest}; mend the data, or leave such out with --bad-data skip")
    if not records:
        raise ValueError(f"{annotation_file}: no usable image is left; the first problem: {reader.problems[0]}")
    kept_images = {record.image_id for record in records}
    return CocoSplit(
        name=split,
        class_names=[str(category["name"]) for category in categories],
        category_ids=[category["id"] for category in categories],
        records=records,
        ground_truth={
            "images": [image for image in content["images"] if image["id"] in kept_images],
            "annotations": kept_annotations,
            "categories": categories,
        },
        skipped=reader.problems,
    )


def find_annotation_file(root: Path, split: str) -> Path:
    """PATH/annotations/instances_SPLIT.json, or the only instances_SPLIT*.json (as COCO's instances_val2017.json)."""
    if not root.is_dir():
        raise ValueError(f"--data {root}: there is no such folder")
    exact = root / "annotations" / f"instances_{split}.json"
    if exact.exists():
        return exact
    found = sorted((root / "annotations").glob(f"instances_{split}*.json"))
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{root / 'annotations'} has several files for the split {split!r}: {_names(found)}")
    others = sorted((root / "annotations").glob("instances_*.json"))
    there = f"there are {_names(others)}" if others else "there is no instances_*.json"
    raise ValueError(f"--data {root}: no annotations/instances_{split}.json; {there}")


def find_image_folder(root: Path, annotation_file: Path, images: list[dict[str, Any]]) -> Path:
    """The first of root/<split>, root/images/<split>, root/images and root that holds one of the first images."""
    split = annotation_file.stem.removeprefix("instances_")
    places = [root / split, root / "images" / split, root / "images", root]
    for place in places:
        if any((place / str(image.get("file_name"))).is_file() for image in images[:100]):
            return place
    raise ValueError(f"{annotation_file}: none of its images was found in {_names(places, full=True)}")


class _Reader:
    """Turns a file's content into records and collects a sentence for each problem."""

    def __init__(self, annotation_file: Path, label_of: dict[int, int]) -> None:
        self.file = annotation_file
        self.label_of = label_of
        self.problems: list[str] = []

    def read(self, content: dict[str, Any], folder: Path) -> tuple[list[ImageRecord], list[dict[str, Any]]]:
        """Records of the good images, and their good annotations completed for pycocotools."""
        images: dict[int, dict[str, Any]] = {}
        for image in content["images"]:
            if self._image_is_good(image, images, folder):
                images[image["id"]] = image
        declared = {image.get("id") for image in content["images"]}
        objects: dict[int, list[tuple[np.ndarray, int, bool]]] = {image_id: [] for image_id in images}
        kept: list[dict[str, Any]] = []
        for annotation in content["annotations"]:
            image_id = annotation.get("image_id")
            if image_id in declared and image_id not in images:
                continue  # its image has been reported
            box = self._box_of(annotation, images)
            if box is None:
                continue
            crowd = bool(annotation.get("iscrowd", 0))
            objects[image_id].append((box, self.label_of[annotation["category_id"]], crowd))
            w, h = annotation["bbox"][2:]
            # ids anew: to pycocotools an annotation with the id 0 can never be found
            complete = {"area": w * h, **annotation, "id": len(kept) + 1, "iscrowd": int(crowd)}
            complete.pop("segmentation", None)
            kept.append(complete)
        return [_record(image, folder, objects[image_id]) for image_id, image in images.items()], kept

    def _image_is_good(self, image: dict[str, Any], known: dict[int, dict[str, Any]], folder: Path) -> bool:
        name = image.get("file_name")
        if not isinstance(image.get("id"), int) or not isinstance(name, str):
            return self._problem(f"an image without a whole-number id or a file_name: {str(image)[:80]}")
        if image["id"] in known:
            return self._problem(f"image id {image['id']} twice: {known[image['id']]['file_name']!r} and {name!r}")
        if not all(isinstance(image.get(side), int) and image[side] > 0 for side in ("width", "height")):
            return self._problem(f"image {name!r}: width and height must be whole pixels above 0")
        if not (folder / name).is_file():
            return self._problem(f"image {name!r} (id {image['id']}) is not in {folder}")
        return True

    def _box_of(self, annotation: dict[str, Any], images: dict[int, dict[str, Any]]) -> np.ndarray | None:
        """The annotation's box as xyxy in pixels, clipped to the image; None, and a problem noted, if unusable."""
        image = images.get(annotation["image_id"]) if "image_id" in annotation else None
        if image is None:
            self._problem(f"annotation {annotation.get('id')}: there is no image with id {annotation.get('image_id')}")
            return None
        what = f"annotation {annotation.get('id')} (image {image['file_name']!r})"
        if annotation.get("category_id") not in self.label_of:
            self._problem(f"{what}: category id {annotation.get('category_id')} is not declared in 'categories'")
            return None
        given = annotation.get("bbox")
        try:
            x, y, w, h = (float(value) for value in given)  # type: ignore[union-attr]
            box = np.array([x, y, x + w, y + h])
        except (TypeError, ValueError):
            box = np.array([np.nan])
        if not np.isfinite(box).all():
            self._problem(f"{what}: bbox must be four numbers [x, y, width, height], got {given}")
            return None
        if w <= 0 or h <= 0:
            self._problem(f"{what}: bbox {given} has no area")
            return None
        size = np.array([image["width"], image["height"]] * 2, dtype=float)
        clipped = box.clip(0, size)
        if np.abs(box - clipped).max() > OVERHANG_PX or (clipped[2:] - clipped[:2]).min() <= 0:
            self._problem(f"{what}: bbox {given} lies outside the image ({image['width']}x{image['height']} pixels)")
            return None
        return clipped

    def _problem(self, sentence: str) -> bool:
        self.problems.append(f"{self.file}: {sentence}")
        return False


def _record(image: dict[str, Any], folder: Path, objects: list[tuple[np.ndarray, int, bool]]) -> ImageRecord:
    return ImageRecord(
        image_id=image["id"],
        path=folder / image["file_name"],
        width=image["width"],
        height=image["height"],
        boxes_xyxy_px=np.array([box for box, _, _ in objects], dtype=np.float32).reshape(-1, 4),
        labels=np.array([label for _, label, _ in objects], dtype=np.int64),
        is_crowd=np.array([crowd for _, _, crowd in objects], dtype=bool),
    )


def _names(paths: list[Path], *, full: bool = False) -> str:
    return ", ".join(str(path) if full else path.name for path in paths)
