"""Post-processing, against a loop over classes."""

import pytest
import torch
from torchvision.ops import nms

from apps.detection.boxes.boxes import decode_offsets
from apps.detection.boxes.postprocess import PostProcess
from apps.detection.model.create import create_detector

ANCHORS = create_detector("a025", num_classes=1, resolution=160, head="ssd").anchors_cxcywh


def random_output(num_classes: int, *, scale: float = 2.0, shift: float = -2.0) -> dict:
    rng = torch.Generator().manual_seed(3)
    logits = torch.randn(2, len(ANCHORS), num_classes + 1, generator=rng) * scale + shift
    return {"class_logits": logits, "offsets": torch.randn(2, len(ANCHORS), 4, generator=rng)}


def detect_by_loop(scores, offsets, *, threshold, max_candidates, nms_iou=0.6, max_detections=100):
    """Detections of one image as rows (score, label, box), best first, with a Python loop over classes."""
    boxes = decode_offsets(offsets, ANCHORS).clamp(0, 1)
    least = scores.flatten().sort(descending=True).values[max_candidates - 1 : max_candidates]
    floor = max(threshold, float(least)) if len(least) else threshold
    rows = []
    for k in range(scores.shape[1]):
        chosen = (scores[:, k] > threshold) & (scores[:, k] >= floor)
        kept = nms(boxes[chosen], scores[chosen, k], nms_iou)
        rows += [(float(scores[chosen, k][i]), k + 1, boxes[chosen][i].tolist()) for i in kept]
    return sorted(rows, key=lambda row: -row[0])[:max_detections]


@pytest.mark.parametrize("score_function", ["sigmoid", "softmax"])
@pytest.mark.parametrize("num_classes", [1, 3, 90])
def test_equals_the_loop(score_function, num_classes):
    output = random_output(num_classes)
    logits = output["class_logits"]
    scores = (logits.sigmoid() if score_function == "sigmoid" else logits.softmax(-1))[..., 1:]
    found = PostProcess(score_function)(output, ANCHORS)
    for i, detections in enumerate(found):
        expected = detect_by_loop(scores[i], output["offsets"][i], threshold=0.01, max_candidates=400)
        assert len(detections.scores) == len(expected)
        torch.testing.assert_close(detections.scores, torch.tensor([row[0] for row in expected]))
        assert detections.labels.tolist() == [row[1] for row in expected]
        torch.testing.assert_close(detections.boxes_xyxy, torch.tensor([row[2] for row in expected]))


def test_settings():
    output = random_output(5)
    assert all(d.scores.min() > 0.6 for d in PostProcess("sigmoid", score_threshold=0.6)(output, ANCHORS))
    assert all(len(d.scores) == 7 for d in PostProcess("sigmoid", max_detections=7)(output, ANCHORS))
    few = PostProcess("sigmoid", nms_iou=0.1, max_detections=1000)(output, ANCHORS)
    many = PostProcess("sigmoid", nms_iou=0.9, max_detections=1000)(output, ANCHORS)
    assert len(few[0].scores) < len(many[0].scores)


def test_nothing_found():
    found = PostProcess("sigmoid")(random_output(4, shift=-50.0), ANCHORS)
    assert [tuple(d.boxes_xyxy.shape) for d in found] == [(0, 4), (0, 4)]
    assert [len(d.labels) for d in found] == [0, 0]


def test_boxes_are_in_the_image():
    output = random_output(2)
    output["offsets"] = output["offsets"] * 30
    for detections in PostProcess("sigmoid")(output, ANCHORS):
        assert detections.boxes_xyxy.min() >= 0
        assert detections.boxes_xyxy.max() <= 1
