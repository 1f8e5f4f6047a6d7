"""Details behind the 12 metrics: classes, sizes, thresholds, confusions, kinds of errors, and the worst photos.

Letters in shapes: D detections and N photos of a split, K classes.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from pycocotools.cocoeval import COCOeval

from apps.detection.data.coco_split import CocoSplit
from apps.detection.evaluation.errors import (
    ERRORS,
    FOREGROUND_IOU,
    Errors,
    Outcomes,
    find_errors,
    indices_by_image,
    match_detections,
    overlaps,
)

SCORE_STEP = 1e-5  # scores of a split's detections are rounded to, see `model.inference`
SIZES = ("small", "medium", "large")  # COCOeval's, after "all"


class Point(NamedTuple):
    """Detections with a score of at least `threshold`; None for undefined numbers."""

    threshold: float | None
    precision: float | None
    recall: float | None
    f1: float | None


class Curve(NamedTuple):
    """Precision, recall and F1 over the threshold: one value for each distinct score, the highest first.

    `best` is the point of highest F1; it does not exist without a correct detection.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    best: Point


class ClassResult(NamedTuple):
    """The numbers of one class; None if undefined.

    `ap` to `ar100` are COCOeval's; the next four hold at an IoU of 0.5 and the class's own best threshold;
    `main_error` costs it the most AP50, `main_error_gain`.
    """

    name: str
    num_objects: int
    num_detections: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar100: float | None
    threshold: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    main_error: str | None
    main_error_gain: float | None


class SizeResult(NamedTuple):
    """Objects of one of COCO's sizes: up to 32, up to 96, and from 96 pixels squared; None without objects."""

    name: str
    num_objects: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ar100: float | None


class Confusion(NamedTuple):
    """`num` objects of class `true` predicted as `predicted`; None is background: no object, or not detected."""

    true: str | None
    predicted: str | None
    num: int


class BadPhoto(NamedTuple):
    """A photo, by its index in the split's records, with the wrong detections and missed objects at the threshold."""

    record_index: int
    num_wrong: int
    num_missed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Analysis:
    """All results of an evaluation besides the 12 metrics.

    Attributes:
        outcomes: the matches of detections and objects.
        errors: the kinds of errors and their costs.
        curve: of all classes together.
        class_curves: of each class.
        classes, sizes: their numbers.
        confusion: (K + 1, K + 1) counts, true class by predicted class, background last, at the best threshold of
            all classes together.
        bad_photos: those with mistakes at that threshold, the most first.
        kept: (D,) whether a detection reaches that threshold; all do if there is none.
    """

    outcomes: Outcomes
    errors: Errors
    curve: Curve
    class_curves: list[Curve]
    classes: list[ClassResult]
    sizes: list[SizeResult]
    confusion: np.ndarray
    bad_photos: list[BadPhoto]
    kept: np.ndarray

    def mistakes(self, split: CocoSplit) -> np.ndarray:
        """(N,) wrong detections and missed objects on each photo of the split, at the threshold."""
        counts = {bad.record_index: bad.num_wrong + bad.num_missed for bad in self.bad_photos}
        return np.array([counts.get(i, 0) for i in range(len(split.records))])


def analyse(split: CocoSplit, evaluation: COCOeval) -> Analysis:
    """All results besides the 12 metrics, from pycocotools' matches; see `run_cocoeval`."""
    outcomes = match_detections(evaluation, split)
    errors = find_errors(outcomes)
    numbers = outcomes.num_objects
    right = outcomes.matches >= 0
    members = [outcomes.classes == k for k in range(outcomes.num_classes)]
    class_curves = [
        make_curve(outcomes.scores[member], right[member], int(num_objects))
        for member, num_objects in zip(members, numbers, strict=True)
    ]
    curve = whole_curve(outcomes)
    threshold = curve.best.threshold
    kept = np.ones(len(right), dtype=bool) if threshold is None else outcomes.scores >= threshold
    return Analysis(
        outcomes=outcomes,
        errors=errors,
        curve=curve,
        class_curves=class_curves,
        classes=_class_results(split, evaluation, outcomes, errors, class_curves),
        sizes=_size_results(evaluation),
        confusion=confusion_matrix(outcomes, kept),
        bad_photos=find_bad_photos(outcomes, kept),
        kept=kept,
    )


def whole_curve(outcomes: Outcomes) -> Curve:
    """The curve of all classes together."""
    return make_curve(outcomes.scores, outcomes.matches >= 0, int(outcomes.num_objects.sum()))


def make_curve(scores: np.ndarray, right: np.ndarray, num_objects: int) -> Curve:
    """The curve of detections (D,), the correct ones of which each match another one of `num_objects` objects."""
    order = np.argsort(-scores, kind="stable")
    scores, true = scores[order], np.cumsum(right[order])
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]  # equal scores reach a threshold together
    thresholds, true, taken = scores[last], true[last], np.flatnonzero(last) + 1
    recall = true / num_objects if num_objects else np.zeros(len(true))
    f1 = 2 * true / (taken + num_objects)
    precision = true / taken
    if num_objects and len(true) and true[-1]:
        at = int(f1.argmax())
        best = Point(*(float(values[at]) for values in (thresholds, precision, recall, f1)))
    else:
        best = Point(None, 0.0 if len(true) else None, 0.0 if num_objects else None, 0.0 if num_objects else None)
    return Curve(thresholds, precision, recall, f1, best)


def best_threshold(curve: Curve) -> float | None:
    """The score threshold of best F1; None if no detection is correct.

    It is half a unit in the last place below the lowest accepted score.
    """
    return None if curve.best.threshold is None else round(max(0.0, curve.best.threshold - SCORE_STEP / 2), 6)


def confusion_matrix(outcomes: Outcomes, kept: np.ndarray) -> np.ndarray:
    """(K + 1, K + 1) counts of the detections that are `kept` (D,) bool: true class by predicted class.

    Correct detections are counted first; the others, in order of descending score, are assigned to the unmatched object
    of another class that they overlap most, with an IoU of at least 0.5. The rest is assigned to background, the last
    row and column.
    """
    background = outcomes.num_classes
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    found, wrong, missed = _split_up(outcomes, kept)
    np.add.at(matrix, (outcomes.object_classes[found], outcomes.object_classes[found]), 1)
    true, predicted = np.full(len(wrong), background), outcomes.classes[wrong]
    free = np.ones(len(missed), dtype=bool)
    missed_of = indices_by_image(outcomes.object_images[missed])
    for image, d in indices_by_image(outcomes.images[wrong]).items():
        if (g := missed_of.get(image)) is None:
            continue
        d = d[np.argsort(-outcomes.scores[wrong[d]], kind="stable")]
        iou = overlaps(outcomes.boxes_xywh_px[wrong[d]], outcomes.object_boxes_xywh_px[missed[g]])
        for row in np.flatnonzero(iou.max(axis=1) >= FOREGROUND_IOU):
            best = int(iou[row].argmax())
            if iou[row, best] >= FOREGROUND_IOU:
                true[d[row]] = outcomes.object_classes[missed[g[best]]]
                free[g[best]] = False
                iou[:, best] = 0.0
    np.add.at(matrix, (true, predicted), 1)
    np.add.at(matrix[:, background], outcomes.object_classes[missed[free]], 1)
    return matrix


def find_bad_photos(outcomes: Outcomes, kept: np.ndarray) -> list[BadPhoto]:
    """The photos with mistakes among the detections that are `kept` (D,) bool, the most mistakes first."""
    _, wrong, missed = _split_up(outcomes, kept)
    images = np.concatenate((outcomes.images[wrong], outcomes.object_images[missed]))
    size = int(images.max()) + 1 if len(images) else 0
    num_wrong = np.bincount(outcomes.images[wrong], minlength=size)
    num_missed = np.bincount(outcomes.object_images[missed], minlength=size)
    order = np.argsort(-(num_wrong + num_missed), kind="stable")
    photos = (BadPhoto(int(i), int(num_wrong[i]), int(num_missed[i])) for i in order)
    return [photo for photo in photos if photo.num_wrong + photo.num_missed]


def _split_up(outcomes: Outcomes, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the detected objects, of the wrong detections and of the missed objects."""
    found = outcomes.matches[kept & (outcomes.matches >= 0)]
    not_found = np.ones(len(outcomes.object_classes), dtype=bool)
    not_found[found] = False
    return found, np.flatnonzero(kept & (outcomes.matches < 0)), np.flatnonzero(not_found)


def confusions(analysis: Analysis, *, background: bool = True) -> list[Confusion]:
    """The confusion matrix off its diagonal, the largest counts first; without `background`, between classes alone."""
    names = [*(one.name for one in analysis.classes), None][: None if background else -1]
    part = analysis.confusion[: len(names), : len(names)]
    pairs = [Confusion(names[t], names[p], int(part[t, p])) for t, p in zip(*part.nonzero(), strict=True) if t != p]
    return sorted(pairs, key=lambda pair: -pair.num)


def _class_results(
    split: CocoSplit, evaluation: COCOeval, outcomes: Outcomes, errors: Errors, curves: list[Curve]
) -> list[ClassResult]:
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]  # (T, R, K, A, M), (T, K, A, M)
    index_of = {category_id: index for index, category_id in enumerate(evaluation.params.catIds)}
    costs = np.stack([errors.class_gains[kind] for kind in ERRORS])
    found = np.bincount(outcomes.classes, minlength=outcomes.num_classes)
    rows = []
    for k, category_id in enumerate(split.category_ids):
        own, worst = precision[:, :, index_of[category_id], :, -1], int(costs[:, k].argmax())
        costly = costs[worst, k] > 0
        one = ClassResult(
            name=split.class_names[k],
            num_objects=int(outcomes.num_objects[k]),
            num_detections=int(found[k]),
            ap=_mean(own[..., 0]),
            ap50=_mean(own[0, :, 0]),
            ap75=_mean(own[5, :, 0]),
            ap_small=_mean(own[..., 1]),
            ap_medium=_mean(own[..., 2]),
            ap_large=_mean(own[..., 3]),
            ar100=_mean(recall[:, index_of[category_id], 0, -1]),
            **curves[k].best._asdict(),
            main_error=ERRORS[worst] if costly else None,
            main_error_gain=float(costs[worst, k]) if costly else None,
        )
        rows.append(one)
    return rows


def _size_results(evaluation: COCOeval) -> list[SizeResult]:
    precision, recall, params = evaluation.eval["precision"], evaluation.eval["recall"], evaluation.params
    areas = [a["area"] for a in evaluation.cocoGt.dataset["annotations"] if not a.get("iscrowd")]
    rows = []
    for size_index, (name, (low, high)) in enumerate(zip(SIZES, params.areaRng[1:], strict=True), start=1):
        num_objects = sum(low <= area <= high for area in areas)
        own, own_recall = precision[:, :, :, size_index, -1], recall[:, :, size_index, -1]
        rows.append(SizeResult(name, num_objects, _mean(own), _mean(own[0]), _mean(own[5]), _mean(own_recall)))
    return rows


def _mean(values: np.ndarray) -> float | None:
    """The mean of COCOeval's values; they are -1 where there is no object."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None
