"""COCO evaluation by pycocotools."""

import contextlib
import io
from typing import Any, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from apps.detection.data.coco_split import CocoSplit

# COCOeval.stats, in its order
METRIC_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


class CocoMetrics(NamedTuple):
    """`values`: the 12 metrics by name, 0 to 1, -1 where the split has no such object; `text`: the 12 lines."""

    values: dict[str, float]
    text: str


def coco_metrics(split: CocoSplit, results: list[dict[str, Any]]) -> CocoMetrics:
    """The 12 COCO metrics of boxes, exactly as pycocotools computes them from the same two files."""
    return summarise(run_cocoeval(split, results))


def run_cocoeval(split: CocoSplit, results: list[dict[str, Any]]) -> COCOeval:
    """pycocotools' evaluation of detections in COCO's results format, after `evaluate` and `accumulate`."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = split.ground_truth
        truth.createIndex()
        found = COCO()
        if results:
            found = truth.loadRes([dict(result) for result in results])
        else:  # loadRes refuses an empty list
            found.dataset = {**split.ground_truth, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def summarise(evaluation: COCOeval) -> CocoMetrics:
    """The 12 COCO metrics of an evaluation, exactly as pycocotools prints them."""
    lines = io.StringIO()
    with contextlib.redirect_stdout(lines):
        evaluation.summarize()
    values = {name: float(value) for name, value in zip(METRIC_NAMES, np.asarray(evaluation.stats), strict=True)}
    return CocoMetrics(values, lines.getvalue().rstrip("\n"))
