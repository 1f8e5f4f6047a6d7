"""The 12 metrics are pycocotools' own."""

import json

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from apps.detection.data.load import load_split
from apps.detection.evaluation.metrics import METRIC_NAMES, coco_metrics


def perfect(split) -> list[dict]:
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in split.ground_truth["annotations"]
    ]


def test_perfect_detections(tiny_coco):
    split = load_split(tiny_coco, "val")
    metrics = coco_metrics(split, perfect(split))
    assert metrics.values["AP"] == pytest.approx(1)
    assert metrics.values["AR100"] == pytest.approx(1)
    assert metrics.values["APl"] == -1  # there are no large objects
    assert len(metrics.text.splitlines()) == 12
    large = [line for line in metrics.text.splitlines() if "area= large" in line]
    assert [line.partition("] = ")[2] for line in large] == ["-", "-"]


def test_nothing_found_is_zero_not_an_error(tiny_coco):
    metrics = coco_metrics(load_split(tiny_coco, "val"), [])
    assert metrics.values["AP"] == 0
    assert tuple(metrics.values) == METRIC_NAMES


def test_equal_to_pycocotools_by_hand(shared, tmp_path):
    """Shifted and partly wrong detections of the real val split, fed to pycocotools from the two files."""
    root = shared / "data/detection/coco_mini"
    split = load_split(root, "val")
    results = perfect(split)
    for i, result in enumerate(results):
        x, y, w, h = result["bbox"]
        result["bbox"] = [x + w * (i % 7) / 20, y, w, h]
        result["score"] = (i * 37 % 100) / 100
        if i % 11 == 0:
            result["category_id"] = 1
    mine = coco_metrics(split, results)
    (tmp_path / "predictions.json").write_text(json.dumps(results))
    truth = COCO(str(root / "annotations/instances_val2017.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "predictions.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert list(mine.values.values()) == pytest.approx(evaluation.stats.tolist(), abs=1e-12)
    assert 0.1 < mine.values["AP"] < 0.9
