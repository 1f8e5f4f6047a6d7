"""A checked split of annotated photos: its images, and the same objects in pycocotools' form.

Letters in shapes: N boxes of an image.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from apps.common.data.data_record import Content
from apps.common.data.problems import skipped_words


class ImageRecord(NamedTuple):
    """One image of a split and its objects.

    Attributes:
        image_id: COCO's id.
        path: the file.
        width, height: pixels, from the annotation file.
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
    """A checked split.

    Attributes:
        name: "train", "val", ...
        class_names: of label 1, 2, ... K, in the order of COCO's category ids.
        category_ids: COCO's id of label 1, 2, ... K.
        records: the images.
        ground_truth: the annotations of the images in `records`, in pycocotools' form.
        skipped: a sentence for each image or object that was left out.
        notes: remarks, such as that val was taken out of train.
    """

    name: str
    class_names: list[str]
    category_ids: list[int]
    records: list[ImageRecord]
    ground_truth: dict[str, Any]
    skipped: list[str]
    notes: tuple[str, ...] = ()

    @property
    def content(self) -> Content:
        """The content that must be unchanged when a run is resumed."""
        labels = [record.labels * np.where(record.is_crowd, -1, 1) for record in self.records]
        boxes = [record.boxes_xyxy_px for record in self.records]
        return Content([record.path for record in self.records], labels, boxes)

    def take(self, indices: Iterable[int]) -> "CocoSplit":
        """The images with these indices in `records`, in both forms.

        `records` follow `indices`, including repetitions; `ground_truth` has each image once, in its own order, which
        does not matter to pycocotools.
        """
        records = [self.records[i] for i in indices]
        ids = {record.image_id for record in records}
        truth = dict(self.ground_truth)
        truth["images"] = [image for image in truth["images"] if image["id"] in ids]
        truth["annotations"] = [annotation for annotation in truth["annotations"] if annotation["image_id"] in ids]
        return replace(self, records=records, ground_truth=truth)

    def describe(self) -> str:
        """A line with the counts, and what was left out."""
        objects = sum(len(record.labels) for record in self.records)
        crowds = sum(int(record.is_crowd.sum()) for record in self.records)
        empty = sum(not len(record.labels) for record in self.records)
        line = f"{self.name}: {len(self.records):,} images ({empty:,} without objects), {objects - crowds:,} objects"
        line += f" and {crowds:,} crowds" * (crowds > 0)
        line += f" of {len(self.class_names)} class" + "es" * (len(self.class_names) != 1)
        line += "; without an object AP cannot be measured" * (objects == crowds)
        line += "".join(f"; {note}" for note in self.notes)
        return line + skipped_words(self.skipped)


def other_size(record: ImageRecord, width: int, height: int) -> str:
    """The sentence about a photo of `width` x `height` pixels."""
    return f"image {record.path} has {width}x{height} pixels, its annotation says {record.width}x{record.height}"


def box_sizes(records: Sequence[ImageRecord]) -> Tensor:
    """(N, 2) float32, width and height in image sides of all boxes that are not crowds."""
    sizes = []
    for record in records:
        x0, y0, x1, y1 = record.boxes_xyxy_px[~record.is_crowd].T
        sizes.append(np.stack(((x1 - x0) / record.width, (y1 - y0) / record.height), axis=1))
    return torch.from_numpy(np.concatenate(sizes))
