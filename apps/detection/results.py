"""Detected objects: drawn on a picture, cropped, and written to files.

Letters in shapes: H W of a photo.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from apps.common.checkpoint import save_json
from apps.common.cli import file_name
from apps.common.media.cluster.table import Columns
from apps.common.media.frame_table import FrameTable
from apps.common.media.frames import Frame
from apps.common.pictures import HERSHEY, RESULT_QUALITY, letter_scale, put_text, text_size, write_picture
from apps.detection.boxes.nms import nms

BoxPx = tuple[int, int, int, int]  # of a label: left, top, right, bottom


class Found(NamedTuple):
    """One object: box (x0, y0, x1, y1) in pixels of the photo, score 0 to 1, class name."""

    box_xyxy_px: tuple[float, float, float, float]
    score: float
    name: str


class Detected(list[Found]):
    """The objects in a photo, best first.

    Attributes:
        image: the photo, (H, W, 3) uint8 RGB.
    """

    def __init__(self, found: Iterable[Found], image: np.ndarray) -> None:
        super().__init__(found)
        self.image = image

    def draw(self) -> np.ndarray:
        """The photo with boxes and names."""
        return draw(self.image, self)

    def save(self, path: Path | str) -> None:
        """Write the drawn photo; see `write_picture`."""
        write_picture(Path(path), self.draw(), quality=RESULT_QUALITY)

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain types for JSON."""
        objects = [{"name": one.name, "score": one.score, "box_xyxy_px": list(one.box_xyxy_px)} for one in self]
        return {"width": self.image.shape[1], "height": self.image.shape[0], "objects": objects}


def one_name_each(found: Sequence[Found], *, iou: float) -> list[Found]:
    """Suppress boxes that a better one of any class overlaps by more than `iou`: no object has two names."""
    if not found:
        return []
    boxes, scores = torch.tensor([one.box_xyxy_px for one in found]), torch.tensor([one.score for one in found])
    return [found[i] for i in nms(boxes, scores, iou).tolist()]


def draw(image: np.ndarray, found: Sequence[Found]) -> np.ndarray:
    """A copy of an image (H, W, 3) RGB with boxes and names on it.

    Names are placed where they hide no other name, those of the best first; a box without a free place has none.
    """
    image = image.copy()
    thickness, size = max(1, round(max(image.shape) / 320)), HERSHEY * max(0.35, letter_scale(image))
    for box, _, name in reversed(found):
        x0, y0, x1, y1 = (round(v) for v in box)
        end = min(x1, image.shape[1] - 1), min(y1, image.shape[0] - 1)
        cv2.rectangle(image, (x0, y0), end, _colour(name), thickness, cv2.LINE_AA)
    taken: list[BoxPx] = []
    for box, score, name in found:
        text = f"{name} {score:.2f}"
        w, h = text_size(text, size)
        label_xyxy = _free_label(box, (w + 4, h), image.shape, taken)
        if label_xyxy is None:
            continue
        taken.append(label_xyxy)
        left, top, right, bottom = label_xyxy
        cv2.rectangle(image, (left, top), (right, bottom), _colour(name), -1)
        put_text(image, text, left + 2, top, size, (0, 0, 0))
    return image


def _colour(name: str) -> tuple[int, int, int]:
    """A bright colour, a function of the class name."""
    hue = sum(name.encode(errors="replace")) * 47 % 180
    r, g, b = cv2.cvtColor(np.array([[[hue, 200, 230]]], dtype=np.uint8), cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return r, g, b


def _free_label(
    box: tuple[float, ...], size: tuple[int, int], shape: tuple[int, ...], taken: Sequence[BoxPx]
) -> BoxPx | None:
    """Above a box, below it, inside or beside it: the first free place for a label of (w, h)."""
    (height, width), (w, h) = shape[:2], size
    x0, y0, x1, y1 = (round(v) for v in box)
    for left, top in ((x0, y0 - h), (x0, y1), (x0, y0), (x1 - w, y0 - h), (x1, y0), (x0 - w, y0)):
        left, top = max(0, min(left, width - w)), max(0, min(top, height - h))
        label_xyxy = left, top, left + w, top + h
        if not any(_meet(label_xyxy, other) for other in taken):
            return label_xyxy
    return None


def _meet(one: BoxPx, other: BoxPx) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def save_crops(folder: Path, frame: Frame, found: Sequence[Found]) -> None:
    """Write each object of a photo or frame as a separate picture: folder/CLASS/path-of-the-photo.1.jpg, .2, ..."""
    assert frame.image is not None
    height, width = frame.image.shape[:2]
    relative_path = frame.relative_path if frame.path is not None else Path(frame.name)
    moment = "" if frame.number is None else f".{frame.number:06d}"
    for i, (box, _, name) in enumerate(found, start=1):
        x0, y0 = (max(0, int(v)) for v in box[:2])
        x1, y1 = min(width, max(x0 + 1, round(box[2]))), min(height, max(y0 + 1, round(box[3])))
        if x0 < x1 and y0 < y1:
            target = folder / file_name(name) / relative_path.with_name(f"{relative_path.name}{moment}.{i}.jpg")
            write_picture(target, frame.image[y0:y1, x0:x1], quality=RESULT_QUALITY)


def _fields() -> list[tuple[str, Any]]:
    """Names and Arrow's types of objects, best first, boxes in pixels of the photo."""
    import pyarrow as pa

    box = [(side, pa.float64()) for side in ("x0", "y0", "x1", "y1")]
    return [("objects", pa.list_(pa.struct([("name", pa.string()), ("score", pa.float64()), *box])))]


def _row(found: Sequence[Found]) -> dict[str, Any]:
    """A photo's row in a Parquet table."""
    return {
        "objects": [
            {"name": name, "score": score, **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))}
            for box, score, name in found
        ]
    }


TABLE = Columns(_fields, _row)


class Results:
    """All detections, as two files for pycocotools, and a table.

    predictions.json is a list of {"image_id", "category_id", "bbox" (x, y, w, h in pixels), "score", "file_name"}.
    images.json has the {"id", "file_name", "width", "height"} of each image, including those without detections, and
    the categories: `COCO("images.json").loadRes("predictions.json")`. An image's id is the number in its name, as in
    COCO (000000000139.jpg is 139), if all names are different numbers; otherwise ids count from 1. Frames of videos are
    separate images, with "frame" (from 0) and "seconds". Names are relative to the source.
    """

    def __init__(self, class_names: Sequence[str], category_ids: Sequence[int]) -> None:
        self.ids = dict(zip(class_names, category_ids, strict=True))
        self.images: list[dict[str, Any]] = []
        self.found: list[tuple[int, Found]] = []
        self.table = FrameTable(["class", "score", "x0", "y0", "x1", "y1"])

    def add(self, frame: Frame, found: Sequence[Found]) -> None:
        """Add the objects of a frame; frames without an image are only in the table."""
        rows = [[one.name, f"{one.score:.5f}", *(f"{v:.1f}" for v in one.box_xyxy_px)] for one in found]
        self.table.add(frame, rows, names=(one.name for one in found))
        if frame.image is None:
            return
        height, width = frame.image.shape[:2]
        name = frame.name if frame.path is None else frame.relative_path.as_posix()
        entry = {"file_name": name, "width": width, "height": height}
        if frame.number is not None:
            entry |= {"frame": frame.number, "seconds": round(frame.seconds, 3)}
        self.found += [(len(self.images), one) for one in found]
        self.images.append(entry)

    def image_ids(self) -> list[int]:
        """Of each image, see above."""
        stems = [Path(image["file_name"]).stem for image in self.images]
        are_photos = not any("frame" in image for image in self.images)
        if are_photos and all(stem.isascii() and stem.isdecimal() for stem in stems):
            numbers = [int(stem) for stem in stems]
            if len(set(numbers)) == len(numbers):
                return numbers
        return list(range(1, len(stems) + 1))

    def write(self, out: Path) -> None:
        """Write predictions.json, images.json and predictions.csv into a folder."""
        ids = self.image_ids()
        categories = [{"id": class_id, "name": name} for name, class_id in self.ids.items()]
        images = [{"id": image_id, **image} for image_id, image in zip(ids, self.images, strict=True)]
        save_json(out / "images.json", {"images": images, "annotations": [], "categories": categories})
        results = []
        for index, (box, score, name) in self.found:
            x0, y0, x1, y1 = box
            results.append(
                {
                    "image_id": ids[index],
                    "category_id": self.ids[name],
                    "bbox": [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)],
                    "score": round(score, 5),
                    "file_name": self.images[index]["file_name"],
                }
            )
        save_json(out / "predictions.json", results)
        self.table.write(out / "predictions.csv")
