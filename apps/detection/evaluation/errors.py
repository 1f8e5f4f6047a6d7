"""The causes of missing AP: the cost of each kind of error, after the TIDE paper (Bolya et al., arXiv 2008.08115).

Each false detection has one kind of error, and an undetected object may be missed. Each kind is corrected alone; the
AP50 gained is its cost. Objects and detections are matched by COCOeval at an IoU of 0.5; crowds, and detections on
them, are ignored.

Letters in shapes: D detections and G objects of a split, K classes.
"""

import dataclasses

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from apps.detection.data.coco_split import CocoSplit

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1  # t_f and t_b in the paper
ERRORS = ("classification", "localisation", "both", "duplicate", "background", "missed")
ORACLES = (*ERRORS, "false positives", "false negatives")
MEANING = {
    "classification": "the box of an object, another class",
    "localisation": "the class of an object, IoU 0.1 to 0.5",
    "both": "near an object of another class, IoU 0.1 to 0.5",
    "duplicate": "an object that a better detection has matched",
    "background": "no object there: IoU below 0.1 with every object",
    "missed": "objects that no detection matches, even with its class or box corrected",
    "false positives": "all wrong detections of any kind",
    "false negatives": "all objects that were not detected",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcomes:
    """The detections and objects of a split, and their matches at an IoU of 0.5.

    Attributes:
        num_classes: K.
        scores: (D,); sorted by class, then image, then best score, as COCOeval's.
        classes, images: (D,) indices into the split's class names and records.
        boxes_xywh_px: (D, 4).
        matches: (D,) the object that each detection matches; -1 for a false positive.
        own, own_iou: (D,) the object of its class that it overlaps most, -1 if there is none, and the IoU.
        other, other_iou: (D,) the same among the objects of other classes.
        object_classes, object_images, object_boxes_xywh_px: (G,), (G,), (G, 4), as above.
    """

    num_classes: int
    scores: np.ndarray
    classes: np.ndarray
    images: np.ndarray
    boxes_xywh_px: np.ndarray
    matches: np.ndarray
    own: np.ndarray
    own_iou: np.ndarray
    other: np.ndarray
    other_iou: np.ndarray
    object_classes: np.ndarray
    object_images: np.ndarray
    object_boxes_xywh_px: np.ndarray

    @property
    def num_objects(self) -> np.ndarray:
        """(K,) objects of each class."""
        return np.bincount(self.object_classes, minlength=self.num_classes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Errors:
    """The errors of a split by their kind, and the AP50 that each kind costs.

    Attributes:
        ap50: mean AP50 over the classes with objects; None where there is no object.
        counts: of each of `ORACLES`, the detections (objects, if missed or false negatives) it corrects.
        gains: AP50 gained by each of `ORACLES`, 0 to 1; None where there is no object.
        kinds: (D,) index into `ERRORS`; -1 for a correct detection.
        missed: (G,) whether an object counts as missed.
        class_ap50: (K,) of each class, -1 where it has no object.
        class_gains: the (K,) gains of each of `ORACLES`, 0 where a class has no object.
    """

    ap50: float | None
    counts: dict[str, int]
    gains: dict[str, float | None]
    kinds: np.ndarray
    missed: np.ndarray
    class_ap50: np.ndarray
    class_gains: dict[str, np.ndarray]


def match_detections(evaluation: COCOeval, split: CocoSplit) -> Outcomes:
    """The matches of a COCOeval, after its `evaluate()`, at an IoU of 0.5 among objects of all sizes."""
    params = evaluation.params
    (at,) = np.flatnonzero(np.isclose(params.iouThrs, FOREGROUND_IOU))
    num_images, num_areas = len(params.imgIds), len(params.areaRng)
    class_of = {category_id: k for k, category_id in enumerate(split.category_ids)}
    image_of = {record.image_id: i for i, record in enumerate(split.records)}
    object_of: dict[int, int] = {}  # annotation id -> index
    object_rows: list[tuple[int, int, list[float]]] = []
    rows: list[tuple[float, int, int, int, list[float]]] = []
    for class_index in range(len(params.catIds)):
        start = class_index * num_areas * num_images  # of the class; objects of all sizes come first
        for one in evaluation.evalImgs[start : start + num_images]:
            if one is None:
                continue
            k, i = class_of[one["category_id"]], image_of[one["image_id"]]
            for annotation_id, ignored in zip(one["gtIds"], one["gtIgnore"], strict=True):
                if not ignored:
                    object_of[annotation_id] = len(object_rows)
                    object_rows.append((k, i, evaluation.cocoGt.anns[annotation_id]["bbox"]))
            for d, score in enumerate(one["dtScores"]):
                if not one["dtIgnore"][at, d]:
                    box = evaluation.cocoDt.anns[one["dtIds"][d]]["bbox"]
                    rows.append((score, k, i, object_of.get(int(one["dtMatches"][at, d]), -1), box))
    scores, classes, images, matches, boxes = zip(*rows, strict=True) if rows else ((),) * 5
    object_classes, object_images, object_boxes = zip(*object_rows, strict=True) if object_rows else ((),) * 3
    facts = {
        "classes": np.array(classes, dtype=np.int64),
        "images": np.array(images, dtype=np.int64),
        "boxes_xywh_px": np.array(boxes, dtype=float).reshape(-1, 4),
        "object_classes": np.array(object_classes, dtype=np.int64),
        "object_images": np.array(object_images, dtype=np.int64),
        "object_boxes_xywh_px": np.array(object_boxes, dtype=float).reshape(-1, 4),
    }
    return Outcomes(
        num_classes=len(split.class_names),
        scores=np.array(scores, dtype=float),
        matches=np.array(matches, dtype=np.int64),
        **facts,
        **_nearest(**facts),
    )


def overlaps(boxes_xywh: np.ndarray, others_xywh: np.ndarray) -> np.ndarray:
    """IoU (D, G) of boxes (D, 4) and (G, 4), pycocotools' own."""
    if not len(boxes_xywh) or not len(others_xywh):
        return np.zeros((len(boxes_xywh), len(others_xywh)))
    return coco_mask.iou(boxes_xywh, others_xywh, np.zeros(len(others_xywh), dtype=np.uint8))


def indices_by_image(images: np.ndarray) -> dict[int, np.ndarray]:
    """The indices of each image in an array (N,) of image indices."""
    order = np.argsort(images, kind="stable")
    found, starts = np.unique(images[order], return_index=True)
    return dict(zip(found.tolist(), np.split(order, starts[1:]), strict=True)) if len(found) else {}


def _nearest(
    classes: np.ndarray,
    images: np.ndarray,
    boxes_xywh_px: np.ndarray,
    object_classes: np.ndarray,
    object_images: np.ndarray,
    object_boxes_xywh_px: np.ndarray,
) -> dict[str, np.ndarray]:
    """`own`, `own_iou`, `other` and `other_iou` of `Outcomes`."""
    own, other = np.full(len(classes), -1), np.full(len(classes), -1)
    own_iou, other_iou = np.zeros(len(classes)), np.zeros(len(classes))
    objects_of = indices_by_image(object_images)
    for image, d in indices_by_image(images).items():
        g = objects_of.get(image)
        if g is None:
            continue
        iou = overlaps(boxes_xywh_px[d], object_boxes_xywh_px[g])
        same = classes[d, None] == object_classes[g]
        for mask, nearest, its_iou in ((same, own, own_iou), (~same, other, other_iou)):
            masked = np.where(mask, iou, -1.0)
            best = masked.argmax(axis=1)
            its_iou[d] = masked.max(axis=1).clip(0)
            nearest[d] = np.where(mask.any(axis=1), g[best], -1)
    return {"own": own, "own_iou": own_iou, "other": other, "other_iou": other_iou}


def find_errors(outcomes: Outcomes) -> Errors:
    """Determine the kind of each error, and the AP50 gained by correcting each kind alone.

    A detection that fits several kinds counts as the first of localisation, classification, duplicate, both, as in the
    authors' tool. If a correction gives an object two detections, the lower score is removed, as in the paper; the tool
    keeps the one that was already correct, and corrects an object by localisation or by classification alone.
    """
    kinds = error_kinds(outcomes)
    mended_to = np.where(kinds == ERRORS.index("classification"), outcomes.other, outcomes.own)
    mendable = np.isin(kinds, (ERRORS.index("classification"), ERRORS.index("localisation")))
    missed = np.ones(len(outcomes.object_classes), dtype=bool)
    missed[outcomes.matches[outcomes.matches >= 0]] = False
    unmatched = missed.copy()
    missed[mended_to[mendable]] = False

    counts = {kind: int((kinds == i).sum()) for i, kind in enumerate(ERRORS)} | {"missed": int(missed.sum())}
    counts |= {"false positives": int((kinds >= 0).sum()), "false negatives": int(unmatched.sum())}
    has_objects = outcomes.num_objects > 0
    before = _ap50(outcomes)
    class_gains: dict[str, np.ndarray] = {}
    for oracle in ORACLES:
        after = _mended(outcomes, oracle, kinds=kinds, mended_to=mended_to, missed=missed, unmatched=unmatched)
        class_gains[oracle] = np.where(has_objects, after - before, 0.0)
    measured = bool(has_objects.any())
    return Errors(
        ap50=float(before[has_objects].mean()) if measured else None,
        counts=counts,
        gains={name: float(gain[has_objects].mean()) if measured else None for name, gain in class_gains.items()},
        kinds=kinds,
        missed=missed,
        class_ap50=np.where(has_objects, before, -1.0),
        class_gains=class_gains,
    )


def error_kinds(outcomes: Outcomes) -> np.ndarray:
    """(D,) index into `ERRORS` of each detection, -1 for a correct one; "missed" is of objects, not of detections."""
    own, other = outcomes.own_iou, outcomes.other_iou
    conditions = {
        "localisation": (own >= BACKGROUND_IOU) & (own < FOREGROUND_IOU),
        "classification": other >= FOREGROUND_IOU,
        "duplicate": own >= FOREGROUND_IOU,
        "both": other >= BACKGROUND_IOU,
    }
    names = [ERRORS.index(name) for name in conditions]
    kinds = np.select(list(conditions.values()), names, default=ERRORS.index("background"))
    return np.where(outcomes.matches >= 0, -1, kinds)


def _mended(
    outcomes: Outcomes,
    oracle: str,
    *,
    kinds: np.ndarray,
    mended_to: np.ndarray,
    missed: np.ndarray,
    unmatched: np.ndarray,
) -> np.ndarray:
    """(K,) AP50 of each class after one kind of error is corrected."""
    if oracle in ("missed", "false negatives"):
        gone = missed if oracle == "missed" else unmatched
        return _ap50(outcomes, num_objects=np.bincount(outcomes.object_classes[~gone], minlength=outcomes.num_classes))
    wrong = kinds >= 0 if oracle == "false positives" else kinds == ERRORS.index(oracle)
    if oracle not in ("classification", "localisation"):
        return _ap50(outcomes, keep=~wrong)
    matches = np.where(wrong, mended_to, outcomes.matches)
    claimants = np.flatnonzero(matches >= 0)
    claimants = claimants[np.argsort(-outcomes.scores[claimants], kind="stable")]
    _, best = np.unique(matches[claimants], return_index=True)  # the first, so the best, of each object
    keep = matches < 0
    keep[claimants[best]] = True
    classes = outcomes.classes.copy()
    classes[wrong] = outcomes.object_classes[matches[wrong]]
    return _ap50(dataclasses.replace(outcomes, classes=classes, matches=matches), keep=keep)


def _ap50(outcomes: Outcomes, *, keep: np.ndarray | None = None, num_objects: np.ndarray | None = None) -> np.ndarray:
    """(K,) average precision of each class of the detections that are kept, over `num_objects` (K,).

    A class that has no object (left) has 1 if it has no detection either, else 0.
    """
    kept = np.flatnonzero(keep) if keep is not None else np.arange(len(outcomes.scores))
    counts = outcomes.num_objects if num_objects is None else num_objects
    kept = kept[np.lexsort((-outcomes.scores[kept], outcomes.classes[kept]))]  # stable, as COCOeval's sort
    right = outcomes.matches[kept] >= 0
    borders = np.searchsorted(outcomes.classes[kept], np.arange(outcomes.num_classes + 1))
    return np.array(
        [
            average_precision(right[start:stop], int(count)) if count else float(start == stop)
            for start, stop, count in zip(borders[:-1], borders[1:], counts, strict=True)
        ]
    )


def average_precision(right: np.ndarray, num_objects: int) -> float:
    """COCO's average precision, at 101 recalls: detections (D,) bool, best first, of 1 object or more."""
    true = np.cumsum(right)
    precision = np.maximum.accumulate((true / np.arange(1, len(right) + 1))[::-1])[::-1]
    indices = np.searchsorted(true / num_objects, np.linspace(0, 1, 101), side="left")
    return float(np.append(precision, 0.0)[indices].mean())
