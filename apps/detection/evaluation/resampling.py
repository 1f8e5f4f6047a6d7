"""AP on resamples of the photos, accumulated from pycocotools' matches on each photo.

Letters in shapes: N photos, R resamples, D detections and T IoU thresholds.
"""

from typing import NamedTuple

import numpy as np
from pycocotools.cocoeval import COCOeval

from apps.common.evaluation.intervals import Measure

AT_ONCE = 20_000_000  # counts of detections in memory, at most, if there are fewer detections


class ClassMatches(NamedTuple):
    """A class: the detections, best first, as `COCOeval.accumulate` sorts them.

    `photos` (D,) are their photos, `right` and `ignored` (T, D) bool, and `num_objects` (N,) is of each photo.
    """

    photos: np.ndarray
    right: np.ndarray
    ignored: np.ndarray
    num_objects: np.ndarray


def ap_measure(evaluation: COCOeval) -> Measure:
    """AP and AP50 on resampled photos, each with a count, after `evaluate()`.

    The value equals `COCOeval.accumulate`'s if each photo were listed so many times.
    """
    recalls = evaluation.params.recThrs
    (at_50,) = np.flatnonzero(np.isclose(evaluation.params.iouThrs, 0.5))
    classes = [_matches(evaluation, k) for k in range(len(evaluation.params.catIds))]
    most = max((len(one.photos) for one in classes), default=0)

    def measure(times: np.ndarray) -> dict[str, np.ndarray]:
        parts = np.array_split(times, min(len(times), 1 + len(times) * most // AT_ONCE))
        by_class = np.stack([np.concatenate([_average_precision(one, t, recalls) for t in parts]) for one in classes])
        there = np.isfinite(by_class).sum(axis=0)  # (R, T), of classes
        mean = np.where(there > 0, np.nansum(by_class, axis=0) / np.maximum(there, 1), np.nan)
        return {"AP": mean.mean(axis=1), "AP50": mean[:, at_50]}

    return measure


def _matches(evaluation: COCOeval, k: int) -> ClassMatches:
    """Of the class with index k, among objects of all sizes."""
    num_photos, thresholds = len(evaluation.params.imgIds), len(evaluation.params.iouThrs)
    start = k * len(evaluation.params.areaRng) * num_photos
    found = [(i, one) for i, one in enumerate(evaluation.evalImgs[start : start + num_photos]) if one is not None]
    num_objects = np.zeros(num_photos)
    for i, one in found:
        num_objects[i] = np.count_nonzero(np.asarray(one["gtIgnore"]) == 0)
    scores = np.concatenate([np.zeros(0), *(one["dtScores"] for _, one in found)])
    order = np.argsort(-scores, kind="stable")
    photos = np.repeat([i for i, _ in found], [len(one["dtScores"]) for _, one in found]).astype(int)
    matched, ignored = (
        np.concatenate([np.zeros((thresholds, 0)), *(one[key] for _, one in found)], axis=1)[:, order] != 0
        for key in ("dtMatches", "dtIgnore")
    )
    return ClassMatches(photos[order], matched & ~ignored, ignored, num_objects)


def _average_precision(one: ClassMatches, times: np.ndarray, recalls: np.ndarray) -> np.ndarray:
    """(R, T) at COCO's 101 recalls, of photos that count `times` (R, N); NaN where no object is left."""
    total = (times @ one.num_objects)[:, None]
    result = np.full((len(times), len(one.right)), np.nan)
    seen = times[:, one.photos].cumsum(axis=1)
    for t, (right, ignored) in enumerate(zip(one.right, one.ignored, strict=True)):
        at, skipped = np.flatnonzero(right), np.flatnonzero(ignored)
        true, counted = times[:, one.photos[at]].cumsum(axis=1), seen[:, at]
        if len(skipped):
            before = np.pad(times[:, one.photos[skipped]].cumsum(axis=1), ((0, 0), (1, 0)))
            counted = counted - before[:, np.searchsorted(skipped, at)]
        precision = true / np.maximum(counted, 1)
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # at this recall or a higher one
        reached = np.searchsorted(recalls, true / np.maximum(total, 1), side="right")
        result[:, t] = (np.diff(reached, axis=1, prepend=0) * best).sum(axis=1) / len(recalls)
    return np.where(total > 0, result, np.nan)
