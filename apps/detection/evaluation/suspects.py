"""Objects, and places without one, where a detector disagrees with the annotations.

Letters in shapes: D detections and G objects of an image, N objects of a split.
"""

from collections.abc import Container, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from pycocotools import mask as coco_mask

from apps.common.evaluation.suspects import Box, Suspect
from apps.common.images import resize
from apps.common.pictures import put_box
from apps.detection.boxes.nms import nms
from apps.detection.data.batches import read_sample
from apps.detection.data.coco_split import CocoSplit, ImageRecord
from apps.detection.evaluation.errors import BACKGROUND_IOU, FOREGROUND_IOU

SUPPORT_IOU = 0.3  # a detection of any class that overlaps an object so much says that something is there
LEAST = 0.1  # score of a suspect
SIZES, FEW = 4, 20  # groups of objects by area, and objects of one at least
KINDS = ("phantom box", "other class", "loose box")
HEIGHT, AROUND = 224, 0.5  # of a picture, pixels; what is shown around a box, in its sides
LABELLED, PREDICTED = (255, 255, 80), (90, 220, 110)  # RGB


class Found(NamedTuple):
    """The detections of an image: boxes xyxy in pixels (D, 4), category ids (D,), scores (D,)."""

    boxes_xyxy_px: np.ndarray
    classes: np.ndarray
    scores: np.ndarray


class Judged(NamedTuple):
    """What the detections of an image say of its objects.

    Attributes:
        support: (G,) the best score of a detection that overlaps an object, of any class.
        doubt: (G, 2) by how much the best score of another class is above those of its own; the best score of its own
            class beside it, times what the IoU lacks, where that is above all scores on it.
        instead: (G, 2) the detections that raise these doubts.
        missing: (D,) score of a detection that is on no object and beside none of its class, times what its largest
            IoU lacks; else 0.
    """

    support: np.ndarray
    doubt: np.ndarray
    instead: np.ndarray
    missing: np.ndarray


def judge(found: Found, boxes_xyxy_px: np.ndarray, classes: np.ndarray, is_crowd: np.ndarray) -> Judged:
    """Compare the detections of an image with its objects: boxes (G, 4), category ids (G,) and crowds (G,)."""
    scores = found.scores[:, None]
    iou = np.zeros((len(found.scores), len(classes)))
    if iou.size:  # of a crowd: the share of the detection that is in it
        iou = coco_mask.iou(_xywh(found.boxes_xyxy_px), _xywh(boxes_xyxy_px), is_crowd.astype(np.uint8))
    same, on = found.classes[:, None] == classes, iou >= FOREGROUND_IOU
    beside = same & ~on & (iou >= BACKGROUND_IOU) & (iou == iou.max(1, keepdims=True, initial=0))
    raised = [np.where(on & ~same, scores, 0.0), np.where(beside, scores * (1 - iou), 0.0)]
    own = np.where(on & same, scores, 0.0).max(0, initial=0)
    other, off = (values.max(0, initial=0) for values in raised)
    off = np.where(off > own, off, 0.0)
    used = on | (beside & (off > 0))
    return Judged(
        support=np.where(iou >= SUPPORT_IOU, scores, 0.0).max(0, initial=0),
        doubt=np.stack((other - own, off), axis=1),
        instead=np.stack([values.argmax(0) if len(values) else np.zeros(len(classes), int) for values in raised], 1),
        missing=np.where(used.any(1), 0.0, found.scores * (1 - iou.max(1, initial=0))),
    )


class Doubted(NamedTuple):
    """An object that can be judged, with all that a suspect says of it."""

    record: ImageRecord
    annotation: dict[str, Any]
    box: Box
    found: Found
    doubt: np.ndarray
    instead: np.ndarray
    support: float

    @property
    def area(self) -> float:
        """Of the box, as a share of the photo."""
        x0, y0, x1, y1 = self.box
        return (x1 - x0) * (y1 - y0) / (self.record.width * self.record.height)


def find_suspects(split: CocoSplit, results: Sequence[dict[str, Any]], known: Container[int]) -> list[Suspect]:
    """What is suspicious in a split: each object as one kind at most, and each place without an object once.

    An object is a phantom if it has less support than objects of its class and size have as a rule. Crowds, and
    objects of classes that the detector does not know, are not judged.

    Args:
        split: read with `places`.
        results: detections in COCO's format.
        known: category ids that the detector knows.
    """
    names = dict(zip(split.category_ids, split.class_names, strict=True))
    annotations, detections = (_by_image(entries) for entries in (split.ground_truth["annotations"], results))
    suspects: list[Suspect] = []
    objects: list[Doubted] = []
    for record in split.records:
        found, mine = _as_found(detections.get(record.image_id, ())), annotations.get(record.image_id, ())
        classes = np.array([one["category_id"] for one in mine], dtype=np.int64)
        judged = judge(found, record.boxes_xyxy_px, classes, record.is_crowd)
        for d in _places(found, judged.missing):
            box, name = _box(found.boxes_xyxy_px[d]), names[int(found.classes[d])]
            score = float(judged.missing[d])
            suspects.append(Suspect("missing box", score, split.name, record.path, "", "", name, box))
        for g, one in enumerate(mine):
            if not record.is_crowd[g] and one["category_id"] in known:
                facts = judged.doubt[g], judged.instead[g], float(judged.support[g])
                objects.append(Doubted(record, one, _box(record.boxes_xyxy_px[g]), found, *facts))
    for seen, lack in zip(objects, lacking_support(objects), strict=True):
        values = [lack, *seen.doubt.tolist()]
        kind = int(np.argmax(values))
        predicted, there = "", None
        if kind:
            d = seen.instead[kind - 1]
            predicted, there = names[int(seen.found.classes[d])], _box(seen.found.boxes_xyxy_px[d])
        place, label = seen.annotation["place"], names[seen.annotation["category_id"]]
        about = split.name, seen.record.path, place, label, predicted, seen.box, there
        suspects.append(Suspect(KINDS[kind], values[kind], *about))
    return [suspect for suspect in suspects if suspect.score >= LEAST]


def lacking_support(objects: Sequence[Doubted]) -> list[float]:
    """By how much the support of each object is below that of others of its class, and of its size, in the mean."""
    if not objects:
        return []
    support = np.array([one.support for one in objects])
    classes = np.array([one.annotation["category_id"] for one in objects])
    by_area = np.argsort([one.area for one in objects], kind="stable")
    usual = np.empty((2, len(objects)))
    for some in np.array_split(by_area, max(1, min(SIZES, len(objects) // FEW))):
        usual[0, some] = support[some].mean()
    for k in np.unique(classes):
        usual[1, classes == k] = support[classes == k].mean()
    return (usual.min(0) - support).clip(0).tolist()


def _places(found: Found, missing: np.ndarray) -> list[int]:
    """The detections that miss an object, one in each place."""
    d = np.flatnonzero(missing >= LEAST)
    boxes, scores = torch.from_numpy(found.boxes_xyxy_px[d]), torch.from_numpy(missing[d])
    return d[nms(boxes, scores, SUPPORT_IOU).numpy()].tolist()


def _by_image(entries: Iterable[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    of_image: dict[int, list[dict[str, Any]]] = {}
    for entry in entries:
        of_image.setdefault(entry["image_id"], []).append(entry)
    return of_image


def _as_found(results: Sequence[dict[str, Any]]) -> Found:
    boxes = np.array([one["bbox"] for one in results], dtype=float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    classes = np.array([one["category_id"] for one in results], dtype=np.int64)
    return Found(boxes, classes, np.array([one["score"] for one in results], dtype=float))


def _xywh(boxes_xyxy: np.ndarray) -> np.ndarray:
    return np.concatenate((boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]), axis=1).astype(float)


def _box(box_xyxy: np.ndarray) -> Box:
    x0, y0, x1, y1 = np.asarray(box_xyxy, dtype=float).round(2).tolist()
    return x0, y0, x1, y1


def draw_suspect(suspect: Suspect, record: ImageRecord) -> np.ndarray:
    """A part of the photo (HEIGHT, W, 3) RGB around the boxes: the annotated one yellow, the model's green."""
    image = read_sample(record).image
    boxes = [(suspect.box_xyxy_px, LABELLED if suspect.label else PREDICTED, suspect.label or suspect.predicted)]
    boxes += [(suspect.predicted_box_xyxy_px, PREDICTED, suspect.predicted)] if suspect.predicted_box_xyxy_px else []
    corners = np.array([box for box, *_ in boxes])
    low, high = corners[:, :2].min(0), corners[:, 2:].max(0)
    margin = np.maximum(AROUND * (high - low), 16)
    x0, y0 = np.maximum(low - margin, 0).astype(int)
    x1, y1 = np.minimum(high + margin, (record.width, record.height)).astype(int)
    part = image[y0:y1, x0:x1]
    scale = HEIGHT / part.shape[0]
    picture = resize(part, max(8, round(part.shape[1] * scale)), HEIGHT).copy()
    for box, colour, text in boxes:
        put_box(picture, (np.array(box) - (x0, y0, x0, y0)) * scale, colour, text, thickness=2)
    return picture
