"""The probability that labels are wrong, from a detector's detections; calibrated on synthetic label errors.

The scores of the detections at each labelled object are compared with their scores if the object had another class, a
shifted box or no label, and at boxes on background. A logistic regression on a few features separates them; the
detector is not trained, and no photo is read again.

Letters in shapes: D detections and G objects of an image, N labels or places of a split, F scores of each.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch.nn.functional import cross_entropy

from apps.detection.data.coco_split import ImageRecord
from apps.detection.evaluation.errors import BACKGROUND_IOU, FOREGROUND_IOU

SUPPORT_IOU = 0.3  # a detection of any class with this overlap indicates an object
SHARE = 0.0125  # assumed share of labels with each of four kinds of errors: one in twenty in all
BLOCK = 50  # number of detections with similar scores over which precision is computed
SHIFT = (0.25, 0.5)  # shift of a synthetic loose box, in its sides
SOME = 0.02  # probability of a detection that can miss an object
USUAL = 10  # weight of the prior, in objects, in the mean of a class
RIDGE = 0.3  # of the regression's weights, whose loss is a sum over labels: few labels say little


class Seen(NamedTuple):
    """An image: its objects, its detections, and their overlap.

    Attributes:
        record: with the objects' boxes and crowds.
        labels: (G,) category ids.
        boxes_xyxy_px, classes, scores: of the detections (D, 4), (D,), (D,); classes are category ids.
        iou: (D, G); with a crowd, the share of the detection that is in it.
    """

    record: ImageRecord
    labels: np.ndarray
    boxes_xyxy_px: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    iou: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """(D, G) whether a detection is on an object of its class."""
        return (self.iou >= FOREGROUND_IOU) & (self.classes[:, None] == self.labels)

    @property
    def elsewhere(self) -> np.ndarray:
        """(D, G) whether a detection is on another object of its class than this one."""
        return self.right.sum(axis=1, keepdims=True) > self.right

    @property
    def size(self) -> np.ndarray:
        """Of the photo in pixels: width, height."""
        return np.array([self.record.width, self.record.height], dtype=float)


class Evidence(NamedTuple):
    """Features of labels or regions, from the detections.

    Attributes:
        scores: (N, F) probabilities of detections; the last one is for an object of any class.
        areas: (N,) of the boxes, as a share of the photo.
        classes: (N,) category ids.
    """

    scores: np.ndarray
    areas: np.ndarray
    classes: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence["Evidence"]) -> "Evidence":
        """Concatenate the features of several images."""
        return cls(*(np.concatenate(values) for values in zip(*parts, strict=True)))


def see(record: ImageRecord, annotations: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]) -> Seen:
    """Objects and detections of an image, both in COCO's format."""
    boxes = np.array([one["bbox"] for one in results], dtype=float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([one["category_id"] for one in annotations], dtype=np.int64)
    classes = np.array([one["category_id"] for one in results], dtype=np.int64)
    scores = np.array([one["score"] for one in results], dtype=float)
    iou = overlap(boxes, record.boxes_xyxy_px, record.is_crowd)
    return Seen(record, labels, boxes, classes, scores, iou)


def overlap(detected_xyxy: np.ndarray, boxes_xyxy: np.ndarray, is_crowd: np.ndarray | None = None) -> np.ndarray:
    """IoU (D, G) as COCO has it."""
    if not len(detected_xyxy) or not len(boxes_xyxy):
        return np.zeros((len(detected_xyxy), len(boxes_xyxy)))
    xywh = (np.c_[boxes[:, :2], boxes[:, 2:] - boxes[:, :2]].astype(float) for boxes in (detected_xyxy, boxes_xyxy))
    return coco_mask.iou(*xywh, np.zeros(len(boxes_xyxy), np.uint8) if is_crowd is None else is_crowd.astype(np.uint8))


def with_probabilities(every: Sequence[Seen]) -> list[Seen]:
    """Replace scores by the precision of detections with similar scores."""
    if not sum(len(seen.scores) for seen in every):
        return list(every)
    scores = np.concatenate([seen.scores for seen in every])
    right = np.concatenate([seen.right.any(1) for seen in every])
    blocks = np.array_split(np.argsort(scores, kind="stable"), max(1, len(scores) // BLOCK))
    precision = np.maximum.accumulate([right[block].mean() for block in blocks])
    at = [scores[block].mean() for block in blocks]
    return [seen._replace(scores=np.interp(seen.scores, at, precision)) for seen in every]


def sayings(seen: Seen, iou: np.ndarray, labels: np.ndarray, elsewhere: np.ndarray) -> np.ndarray:
    """(4, D, G) the scores of the detections that are related to boxes, 0 for the others.

    The four relations: on the box with its class, on it with another class, near it with its class (unless on another
    object), and any overlap.

    Args:
        iou, elsewhere: (D, G) of these boxes.
        labels: (G,) of these boxes, category ids.
    """
    same, on = seen.classes[:, None] == labels, iou >= FOREGROUND_IOU
    beside = same & ~on & (iou >= BACKGROUND_IOU) & ~elsewhere
    return np.stack([on & same, on & ~same, beside, iou >= SUPPORT_IOU]) * seen.scores[:, None]


def of_labels(seen: Seen) -> Evidence:
    """Features of the objects of an image, as labelled."""
    says = sayings(seen, seen.iou, seen.labels, seen.elsewhere)
    return Evidence(says.max(axis=1, initial=0).T, _areas(seen, seen.record.boxes_xyxy_px), seen.labels)


def of_made(seen: Seen, judged: np.ndarray, known: np.ndarray, sizes: np.ndarray, rng: Any) -> list[Evidence]:
    """Features of synthetic errors of each kind, as many as `judged` (M,): phantom boxes, other classes, loose boxes.

    Args:
        known: (K,) category ids, sorted.
        sizes: (N, 2) of the split's objects, as shares of the sides.
    """
    count, labels = len(judged), seen.labels[judged]
    boxes = seen.record.boxes_xyxy_px[judged].astype(float)
    anywhere = sizes[rng.integers(len(sizes), size=count)]
    corner = rng.uniform(size=(count, 2)) * np.maximum(0, 1 - anywhere)
    phantoms = np.c_[corner, corner + anywhere] * np.tile(seen.size, 2)
    moved = rng.uniform(*SHIFT, (count, 2)) * rng.choice([-1, 1], (count, 2)) * (boxes[:, 2:] - boxes[:, :2])
    loose = np.clip(boxes + np.tile(moved, 2), 0, np.tile(seen.size, 2))
    others = known[(np.searchsorted(known, labels) + rng.integers(1, max(2, len(known)), count)) % len(known)]
    on_any, on_others = np.repeat(seen.right.any(1, keepdims=True), count, 1), seen.elsewhere[:, judged]
    made = [(phantoms, rng.choice(known, count), on_any), (boxes, others, on_others), (loose, labels, on_others)]
    evidence = []
    for where, named, elsewhere in made:
        says = sayings(seen, overlap(seen.boxes_xyxy_px, where), named, elsewhere)
        evidence.append(Evidence(says.max(axis=1, initial=0).T, _areas(seen, where), named))
    return evidence


def of_places(seen: Seen) -> Evidence:
    """For each detection its evidence of a missing object; 0 for those on, or near, an object of their class."""
    own, _, beside, _ = sayings(seen, seen.iou, seen.labels, seen.elsewhere)
    used = (seen.iou >= FOREGROUND_IOU) | ((beside > 0) & (beside.max(0, initial=0) > own.max(0, initial=0)))
    scores = np.where(used.any(1), 0.0, seen.scores * (1 - seen.iou.max(1, initial=0)))
    return Evidence(scores[:, None], _areas(seen, seen.boxes_xyxy_px), seen.classes)


def of_removed(seen: Seen, judged: np.ndarray) -> Evidence:
    """Features of the regions of `judged` objects as if they were unlabelled; only those with a detection."""
    by_iou = np.pad(np.sort(seen.iou, axis=1), ((0, 0), (2, 0)))
    first, second = by_iou[:, -1:], by_iou[:, -2:-1]
    others = np.where(seen.iou == first, second, first)
    scores = (seen.scores[:, None] * (seen.iou >= FOREGROUND_IOU) * (1 - others))[:, judged]
    at = np.flatnonzero(scores.max(0, initial=0) > SOME)
    best = scores[:, at].argmax(0) if len(at) else at
    return Evidence(scores[best, at, None], _areas(seen, seen.boxes_xyxy_px)[best], seen.classes[best])


def chances(labels: Evidence, made: Iterable[Evidence]) -> np.ndarray:
    """(N, M) the probability that each label is wrong in each of M ways, if `SHARE` of the labels are.

    By a multinomial logistic regression of the synthetic errors of each kind against the actual labels.
    """
    usual = _usual(labels)
    features = [_features(one, usual) for one in (labels, *made)]
    counts = [len(one) for one in features]
    x = torch.from_numpy(np.concatenate(features))
    y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    weight = torch.where(y > 0, SHARE, 1.0).double()
    w = torch.zeros(x.shape[1], len(counts), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([w], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = (weight * cross_entropy(x @ w, y, reduction="none")).sum() + RIDGE * (w[1:] ** 2).sum()
        value.backward()
        return value

    if counts[0]:
        with torch.enable_grad():
            optimizer.step(loss)
    logits = (x[: counts[0]] @ w).detach()
    return (logits[:, 1:] - logits[:, :1]).exp().clamp(max=1).numpy()


def _features(one: Evidence, usual: dict[int, float]) -> np.ndarray:
    """(N, F + 3): a one, the scores, the area, and the mean of the class."""
    of_class = np.array([usual.get(k, usual[-1]) for k in one.classes.tolist()])
    return np.c_[np.ones(len(of_class)), _logit(one.scores), np.log(np.maximum(one.areas, 1e-5)), of_class]


def _usual(labels: Evidence) -> dict[int, float]:
    """Each class's mean logit of an object of any class; key -1 for all classes."""
    there, mean = (
        _logit(labels.scores[:, -1]),
        float(_logit(labels.scores[:, -1]).mean()) if len(labels.scores) else 0.0,
    )
    groups = {int(k): there[labels.classes == k] for k in np.unique(labels.classes)}
    return {-1: mean, **{k: (some.sum() + USUAL * mean) / (len(some) + USUAL) for k, some in groups.items()}}


def _logit(probability: np.ndarray) -> np.ndarray:
    """The logit of a probability clipped to 0.01 to 0.99."""
    sure = np.clip(probability, 0.01, 0.99)
    return np.log(sure / (1 - sure))


def _areas(seen: Seen, boxes_xyxy_px: np.ndarray) -> np.ndarray:
    return np.prod(boxes_xyxy_px[:, 2:] - boxes_xyxy_px[:, :2], axis=1) / seen.size.prod()
