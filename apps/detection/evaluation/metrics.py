"""COCO evaluation by pycocotools."""

import contextlib
import io
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from apps.detection.data.coco_split import CocoSplit

# COCOeval.stats, in its order
METRIC_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

MOST_COUNTED = 100  # detections per photo, as in COCO


class CocoMetrics(NamedTuple):
    """`values`: the 12 metrics by name, 0 to 1, -1 where the split has no such object; `text`: its lines."""

    values: dict[str, float]
    text: str


def coco_metrics(split: CocoSplit, results: list[dict[str, Any]]) -> CocoMetrics:
    """The 12 COCO metrics of boxes, exactly as pycocotools computes them from the same two files."""
    return summarise(run_cocoeval(split, results))


def run_cocoeval(split: CocoSplit, results: list[dict[str, Any]]) -> COCOeval:
    """pycocotools' evaluation of detections in COCO's results format, after `evaluate` and `accumulate`.

    Ids that it would round are replaced by small numbers in the same order while it works.
    """
    image_numbers = _numbers(record.image_id for record in split.records)
    class_numbers = _numbers(split.category_ids)

    def numbered(entry: dict[str, Any]) -> dict[str, Any]:
        ids = {"image_id": image_numbers[entry["image_id"]], "category_id": class_numbers[entry["category_id"]]}
        return {**entry, **ids}

    truth, found = COCO(), COCO()
    truth.dataset = {
        "images": [{**image, "id": image_numbers[image["id"]]} for image in split.ground_truth["images"]],
        "annotations": [numbered(one) for one in split.ground_truth["annotations"]],
        "categories": [{**one, "id": class_numbers[one["id"]]} for one in split.ground_truth["categories"]],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        if results:
            found = truth.loadRes([numbered(result) for result in results])
        else:  # loadRes refuses an empty list
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    image_ids, class_ids = ({number: one for one, number in of.items()} for of in (image_numbers, class_numbers))
    evaluation.params.imgIds, evaluation.params.catIds = list(image_ids.values()), list(class_ids.values())
    for one in evaluation.evalImgs:
        if one is not None:
            one["image_id"], one["category_id"] = image_ids[one["image_id"]], class_ids[one["category_id"]]
    return evaluation


def _numbers(ids: Iterable[int]) -> dict[int, int]:
    """A number for each id, in their order: itself, or, if one is too large for pycocotools, 1, 2, ..."""
    found = sorted(ids)
    exact = all(abs(one) < 2**53 for one in found)
    return {one: one if exact else number for number, one in enumerate(found, start=1)}


def crowded_note(name: str, num_objects: Iterable[int]) -> str:
    """A note about photos with more objects than COCO's metrics count; "" if there are none.

    Args:
        num_objects: of each photo, without crowds.
    """
    above = [number for number in num_objects if number > MOST_COUNTED]
    if not above:
        return ""
    return (
        f"{len(above):,} photos of {name} have more than {MOST_COUNTED} objects, up to {max(above):,}: COCO's metrics "
        f"count the {MOST_COUNTED} best detections of a photo, so that not even perfect ones reach an AP of 1"
    )


def summarise(evaluation: COCOeval) -> CocoMetrics:
    """The 12 COCO metrics of an evaluation, as pycocotools prints them, with a dash for its -1."""
    lines = io.StringIO()
    with contextlib.redirect_stdout(lines):
        evaluation.summarize()
    values = {name: float(value) for name, value in zip(METRIC_NAMES, np.asarray(evaluation.stats), strict=True)}
    return CocoMetrics(values, lines.getvalue().rstrip("\n").replace(" = -1.000", " = -"))


def shown(value: float) -> str:
    """A metric with three digits; a dash for -1."""
    return "-" if value < 0 else f"{value:.3f}"
