"""Pictures in a run's folder: a training batch, and detections on val.

Letters in shapes: B batch, H W height and width.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from apps.common.data.photos import evenly_spaced
from apps.common.images import resize
from apps.common.pictures import put_box, put_label, write_contact_sheet
from apps.common.training.run_log import TRAIN_BATCH, VAL_BATCH, RunLog
from apps.detection.boxes.nms import nms
from apps.detection.data.batches import Targets, read_sample
from apps.detection.data.coco_split import CocoSplit

HEIGHT, NUM_TRAIN, NUM_VAL = 240, 18, 15  # of a picture, pixels; pictures
OBJECT, CROWD, FOUND = (255, 255, 80), (160, 160, 160), (90, 220, 110)  # RGB


def draw_train_batch(log: RunLog, class_names: Sequence[str], batch: tuple[Tensor, Targets]) -> None:
    """Write the run's train_batch.jpg, if it does not exist: images (B, 3, H, W) and their objects, crowds in gray."""
    if not log.is_missing(TRAIN_BATCH):
        return
    images, targets = batch

    def draw(i: int) -> np.ndarray:
        picture = cv2.resize(images[i].permute(1, 2, 0).numpy(), (HEIGHT, HEIGHT), interpolation=cv2.INTER_AREA)
        for box, label, is_crowd in zip(*(tensor[i].tolist() for tensor in targets), strict=True):
            if label:
                put_box(picture, np.array(box) * HEIGHT, CROWD if is_crowd else OBJECT, class_names[label - 1])
        return picture

    write_contact_sheet(log.folder / TRAIN_BATCH, (draw(i) for i in range(min(NUM_TRAIN, len(images)))))


def draw_val_batch(run: Path, split: CocoSplit, results: list[dict[str, Any]], *, threshold: float, iou: float) -> None:
    """Write the run's val_batch.jpg: photos of a split, each with its labelled objects and again with the detections.

    Args:
        results: detections in COCO's format; those with a score of at least `threshold` are shown, and of several
            that overlap (above `iou`) the best.
    """
    found: dict[int, list[dict[str, Any]]] = {}
    for result in results:
        if result["score"] >= threshold:
            found.setdefault(result["image_id"], []).append(result)
    names = dict(zip(split.category_ids, split.class_names, strict=True))
    records = [record for record in split.records if len(record.labels)] or list(split.records)

    def pairs() -> Iterator[np.ndarray]:
        for record in (records[i] for i in evenly_spaced(len(records), NUM_VAL)):
            image = read_sample(record).image
            width = max(1, round(HEIGHT / image.shape[0] * image.shape[1]))
            scale = np.array([width / record.width, HEIGHT / record.height] * 2)
            left, right = resize(image, width, HEIGHT).copy(), resize(image, width, HEIGHT).copy()
            for box, label, is_crowd in zip(record.boxes_xyxy_px, record.labels, record.is_crowd, strict=True):
                put_box(left, box * scale, CROWD if is_crowd else OBJECT, split.class_names[label - 1])
            best = found.get(record.image_id, [])
            boxes = np.array([one["bbox"] for one in best], dtype=float).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            scores = torch.tensor([one["score"] for one in best], dtype=torch.float64)
            for i in nms(torch.from_numpy(boxes), scores, iou).flip(0).tolist():
                put_box(right, boxes[i] * scale, FOUND, f"{names[best[i]['category_id']]} {best[i]['score']:.2f}")
            put_label(left, "annotated", 2, HEIGHT - 2)
            put_label(right, "found", 2, HEIGHT - 2)
            yield np.concatenate((left, right), axis=1)

    write_contact_sheet(run / VAL_BATCH, pairs())
