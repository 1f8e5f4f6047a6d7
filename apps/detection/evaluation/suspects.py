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
PRIOR, LEAST = 0.05, 0.1  # share of labels that are thought wrong before looking; score of a suspect
BLOCK = 50  # detections of similar scores, whose precision is counted
SIZES, FEW = 4, 20  # groups of objects by area, and objects of one at least
KINDS = ("phantom box", "other class", "loose box")
HEIGHT, AROUND = 224, 0.5  # of a picture, pixels; what is shown around a box, in its sides
LABELLED, PREDICTED = (255, 255, 80), (90, 220, 110)  # RGB


class Seen(NamedTuple):
    """An image: its objects, its detections, and their overlap.

    Attributes:
        record, annotations: the objects, in the same order.
        boxes_xyxy_px, classes, scores: of the detections (D, 4), (D,), (D,); classes are category ids.
        iou: (D, G); with a crowd, the share of the detection that is in it.
        same: (D, G) whether both have one class.
    """

    record: ImageRecord
    annotations: Sequence[dict[str, Any]]
    boxes_xyxy_px: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    iou: np.ndarray
    same: np.ndarray


class Judged(NamedTuple):
    """What the detections of an image say of its objects.

    Attributes:
        support: (G,) the best score of a detection that overlaps an object, of any class.
        doubt: (G, 2) the odds that an object is of another class, and that its box is loose.
        instead: (G, 2) the detections that say so.
        missing: (D,) the odds that a detection is an object without a label; 0 for those on objects.
    """

    support: np.ndarray
    doubt: np.ndarray
    instead: np.ndarray
    missing: np.ndarray


def judge(seen: Seen) -> Judged:
    """Odds of wrong labels, without their prior, of an image whose scores are probabilities."""
    iou, same, scores = seen.iou, seen.same, seen.scores[:, None]
    on, nearest = iou >= FOREGROUND_IOU, iou == iou.max(1, keepdims=True, initial=0)
    raised = [
        np.where(on & ~same, scores, 0.0),
        np.where(same & ~on & nearest & (iou >= BACKGROUND_IOU), scores, 0.0),
    ]
    own, other, off = (values.max(0, initial=0) for values in (np.where(on & same, scores, 0.0), *raised))
    is_off = off > own
    used = on | ((raised[1] > 0) & is_off)
    doubt = np.where(other > own, odds(other) / odds(own), 0.0), np.where(is_off, odds(off), 0.0)
    return Judged(
        support=np.where(iou >= SUPPORT_IOU, scores, 0.0).max(0, initial=0),
        doubt=np.stack(doubt, axis=1),
        instead=np.stack([values.argmax(0) if len(values) else np.zeros(iou.shape[1], int) for values in raised], 1),
        missing=np.where(used.any(1), 0.0, odds(seen.scores * (1 - iou.max(1, initial=0)))),
    )


def odds(probability: np.ndarray) -> np.ndarray:
    """p / (1 - p), of at least 0.01 and at most 0.99."""
    sure = np.clip(probability, 0.01, 0.99)
    return sure / (1 - sure)


def belief(odds_without_prior: np.ndarray) -> np.ndarray:
    """The probability that a label is wrong, by Bayes: 0 to 1."""
    return PRIOR * odds_without_prior / (1 + PRIOR * odds_without_prior)


class Doubted(NamedTuple):
    """An object that can be judged, with all that a suspect says of it."""

    seen: Seen
    position: int
    judged: Judged

    @property
    def area(self) -> float:
        """Of the box, as a share of the photo."""
        x0, y0, x1, y1 = self.seen.record.boxes_xyxy_px[self.position]
        return float((x1 - x0) * (y1 - y0) / (self.seen.record.width * self.seen.record.height))

    @property
    def category_id(self) -> int:
        """As it is labelled."""
        return int(self.seen.annotations[self.position]["category_id"])


def find_suspects(split: CocoSplit, results: Sequence[dict[str, Any]], known: Container[int]) -> list[Suspect]:
    """What is suspicious in a split: each object as one kind at most, and each place without an object once.

    A score is the probability that the label is wrong, if one in twenty is: scores of the detector count as the share
    of detections of such scores that are on an object of their class. Crowds, and objects of classes that the detector
    does not know, are not judged.

    Args:
        split: read with `places`.
        results: detections in COCO's format.
        known: category ids that the detector knows.
    """
    names = dict(zip(split.category_ids, split.class_names, strict=True))
    annotations, detections = (_by_image(entries) for entries in (split.ground_truth["annotations"], results))
    suspects: list[Suspect] = []
    objects: list[Doubted] = []
    every = [_see(one, annotations.get(one.image_id, ()), detections.get(one.image_id, ())) for one in split.records]
    for seen in with_probabilities(every):
        judged, record = judge(seen), seen.record
        for d, score in _places(seen, belief(judged.missing)):
            box, name = _box(seen.boxes_xyxy_px[d]), names[int(seen.classes[d])]
            suspects.append(Suspect("missing box", score, split.name, record.path, "", "", name, box))
        of_image = (Doubted(seen, g, judged) for g in np.flatnonzero(~record.is_crowd).tolist())
        objects += [one for one in of_image if one.category_id in known]
    for one, phantom in zip(objects, phantom_odds(objects).tolist(), strict=True):
        g, seen = one.position, one.seen
        scores = belief(np.array([phantom, *one.judged.doubt[g]])).tolist()
        kind = int(np.argmax(scores))
        predicted, there = "", None
        if kind:
            d = one.judged.instead[g, kind - 1]
            predicted, there = names[int(seen.classes[d])], _box(seen.boxes_xyxy_px[d])
        about = split.name, seen.record.path, seen.annotations[g]["place"], names[one.category_id], predicted
        suspects.append(Suspect(KINDS[kind], scores[kind], *about, _box(seen.record.boxes_xyxy_px[g]), there))
    return [suspect for suspect in suspects if suspect.score >= LEAST]


def with_probabilities(every: Sequence[Seen]) -> list[Seen]:
    """Scores become the share of detections of such scores that are on an object of their class."""
    if not sum(len(seen.scores) for seen in every):
        return list(every)
    scores = np.concatenate([seen.scores for seen in every])
    right = np.concatenate([(seen.same & (seen.iou >= FOREGROUND_IOU)).any(1) for seen in every])
    blocks = np.array_split(np.argsort(scores, kind="stable"), max(1, len(scores) // BLOCK))
    precision = np.maximum.accumulate([right[block].mean() for block in blocks])
    at = [scores[block].mean() for block in blocks]
    return [seen._replace(scores=np.interp(seen.scores, at, precision)) for seen in every]


def phantom_odds(objects: Sequence[Doubted]) -> np.ndarray:
    """(N,) what an object's support lacks, over the share of its class, or size, that has as little."""
    support = np.array([one.judged.support[one.position] for one in objects])
    classes = np.array([one.category_id for one in objects])
    by_area = np.argsort([one.area for one in objects], kind="stable")
    groups = np.array_split(by_area, max(1, min(SIZES, len(objects) // FEW))) if objects else []
    groups += [np.flatnonzero(classes == k) for k in np.unique(classes)]
    share = np.zeros(len(objects))
    for some in groups:
        at_most = np.searchsorted(np.sort(support[some]), support[some], side="right") / len(some)
        share[some] = np.maximum(share[some], at_most)
    return (1 - support) / share


def _places(seen: Seen, missing: np.ndarray) -> list[tuple[int, float]]:
    """The detections that miss an object, one in each place, with their scores."""
    d = np.flatnonzero(missing >= LEAST)
    kept = d[nms(torch.from_numpy(seen.boxes_xyxy_px[d]), torch.from_numpy(missing[d]), SUPPORT_IOU).numpy()]
    return list(zip(kept.tolist(), missing[kept].tolist(), strict=True))


def _by_image(entries: Iterable[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    of_image: dict[int, list[dict[str, Any]]] = {}
    for entry in entries:
        of_image.setdefault(entry["image_id"], []).append(entry)
    return of_image


def _see(record: ImageRecord, annotations: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]) -> Seen:
    boxes = np.array([one["bbox"] for one in results], dtype=float).reshape(-1, 4)
    iou = np.zeros((len(results), len(annotations)))
    if iou.size:
        iou = coco_mask.iou(boxes, _xywh(record.boxes_xyxy_px), record.is_crowd.astype(np.uint8))
    boxes[:, 2:] += boxes[:, :2]
    classes = np.array([one["category_id"] for one in results], dtype=np.int64)
    labels = np.array([one["category_id"] for one in annotations], dtype=np.int64)
    scores = np.array([one["score"] for one in results], dtype=float)
    return Seen(record, annotations, boxes, classes, scores, iou, classes[:, None] == labels)


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
