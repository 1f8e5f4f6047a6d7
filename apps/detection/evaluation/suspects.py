"""Objects, and regions without one, where a detector disagrees with the annotations."""

from collections.abc import Container, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from apps.common.evaluation.suspects import Box, Suspect
from apps.common.images import resize
from apps.common.pictures import put_box
from apps.detection.boxes.nms import nms
from apps.detection.data.batches import read_sample
from apps.detection.data.coco_split import CocoSplit, ImageRecord
from apps.detection.evaluation.wrong_labels import (
    SOME,
    SUPPORT_IOU,
    Evidence,
    Seen,
    chances,
    of_labels,
    of_made,
    of_places,
    of_removed,
    sayings,
    see,
    with_probabilities,
)

LEAST = 0.03  # score of a suspect
KINDS = ("phantom box", "other class", "loose box")
HEIGHT, AROUND = 224, 0.5  # of a picture, pixels; what is shown around a box, in its sides
LABELLED, PREDICTED = (255, 255, 80), (90, 220, 110)  # RGB


def find_suspects(split: CocoSplit, results: Sequence[dict[str, Any]], known: Container[int]) -> list[Suspect]:
    """The suspects of a split: at most one per object, and one per region without an object.

    A score is the probability that the label is wrong, if one in twenty is; see `wrong_labels`. Crowds, and objects of
    classes that the detector does not know, are excluded.

    Args:
        split: read with `places`.
        results: detections in COCO's format.
        known: category ids that the detector knows.
    """
    annotations, detections = (_by_image(entries) for entries in (split.ground_truth["annotations"], results))
    every = with_probabilities(
        [see(one, annotations.get(one.image_id, ()), detections.get(one.image_id, ())) for one in split.records]
    )
    judged = [
        np.flatnonzero(~one.record.is_crowd & np.array([k in known for k in one.labels], dtype=bool)) for one in every
    ]
    if not sum(map(len, judged)):
        return []
    suspects = [*_wrong(split, every, judged, annotations), *_missing(split, every, judged)]
    return [suspect for suspect in suspects if suspect.score >= LEAST]


def _wrong(
    split: CocoSplit, every: Sequence[Seen], judged: Sequence[np.ndarray], annotations: dict[int, list[dict[str, Any]]]
) -> list[Suspect]:
    """Each judged object."""
    names, rng = dict(zip(split.category_ids, split.class_names, strict=True)), np.random.default_rng(0)
    pairs = list(zip(every, judged, strict=True))
    sides = [
        (seen.record.boxes_xyxy_px[some, 2:] - seen.record.boxes_xyxy_px[some, :2]) / seen.size for seen, some in pairs
    ]
    known = np.unique(np.concatenate([seen.labels[some] for seen, some in pairs]))
    made = [of_made(seen, some, known, np.concatenate(sides), rng) for seen, some in pairs]
    labels = [Evidence(*(values[some] for values in of_labels(seen))) for seen, some in pairs]
    odds = chances(Evidence.joined(labels), [Evidence.joined(parts) for parts in zip(*made, strict=True)])
    objects = [(seen, int(g)) for seen, some in pairs for g in some]
    suspects = []
    for (seen, g), of_kinds in zip(objects, odds, strict=True):
        says = sayings(seen, seen.iou, seen.labels, seen.elsewhere)[1:3, :, g]
        kind = int(np.argmax(of_kinds * [1, *(says.max(axis=1, initial=0) > 0)]))
        predicted, there = "", None
        if kind:
            d = int(says[kind - 1].argmax())
            predicted, there = names[int(seen.classes[d])], _box(seen.boxes_xyxy_px[d])
        label, place = names[int(seen.labels[g])], annotations[seen.record.image_id][g]["place"]
        about = split.name, seen.record.path, place, label, predicted, _box(seen.record.boxes_xyxy_px[g]), there
        suspects.append(Suspect(KINDS[kind], min(1.0, float(of_kinds.sum())), *about))
    return suspects


def _missing(split: CocoSplit, every: Sequence[Seen], judged: Sequence[np.ndarray]) -> list[Suspect]:
    """The regions where detections have no object, each once."""
    names = dict(zip(split.category_ids, split.class_names, strict=True))
    places = [of_places(seen) for seen in every]
    some = [_apart(seen, one.scores[:, 0]) for seen, one in zip(every, places, strict=True)]
    kept = [Evidence(*(values[d] for values in one)) for one, d in zip(places, some, strict=True)]
    removed = [of_removed(seen, objects) for seen, objects in zip(every, judged, strict=True)]
    odds = chances(Evidence.joined(kept), [Evidence.joined(removed)])[:, 0].tolist()
    detections = ((seen, int(d)) for seen, of_image in zip(every, some, strict=True) for d in of_image)
    return [
        Suspect(
            "missing box",
            score,
            split.name,
            seen.record.path,
            "",
            "",
            names[int(seen.classes[d])],
            _box(seen.boxes_xyxy_px[d]),
        )
        for (seen, d), score in zip(detections, odds, strict=True)
    ]


def _apart(seen: Seen, missing: np.ndarray) -> np.ndarray:
    """The detections without an object, one per region."""
    d = np.flatnonzero(missing > SOME)
    return d[nms(torch.from_numpy(seen.boxes_xyxy_px[d]), torch.from_numpy(missing[d]), SUPPORT_IOU).numpy()]


def _by_image(entries: Iterable[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    of_image: dict[int, list[dict[str, Any]]] = {}
    for entry in entries:
        of_image.setdefault(entry["image_id"], []).append(entry)
    return of_image


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
