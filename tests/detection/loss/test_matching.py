"""Matching, against a plain loop over images, boxes and anchors."""

import torch
from torchvision.ops import box_iou

from apps.detection.boxes.boxes import cxcywh_to_xyxy
from apps.detection.data.batches import Targets
from apps.detection.loss.matching import match_anchors
from apps.detection.model.create import create_detector

ANCHORS = create_detector("a025", num_classes=1, resolution=96, head="ssd").anchors_cxcywh


def make_targets(*images: list[tuple]) -> Targets:
    """Each image a list of (box, label) or (box, label, is_crowd)."""
    most = max(len(image) for image in images)
    targets = Targets(
        torch.zeros(len(images), most, 4),
        torch.zeros(len(images), most, dtype=torch.int64),
        torch.zeros(len(images), most, dtype=torch.bool),
    )
    for i, image in enumerate(images):
        for j, (box, label, *crowd) in enumerate(image):
            targets.boxes_xyxy[i, j] = torch.tensor(box)
            targets.labels[i, j] = label
            targets.is_crowd[i, j] = bool(crowd and crowd[0])
    return targets


def match_by_loop(boxes: torch.Tensor, labels: torch.Tensor) -> tuple[list[int], list[int]]:
    """Label and box index of each anchor for one image, written as the paper says it."""
    iou = box_iou(boxes, cxcywh_to_xyxy(ANCHORS))
    label_of, box_of = [0] * len(ANCHORS), [-1] * len(ANCHORS)
    for a in range(len(ANCHORS)):
        b = int(iou[:, a].argmax())
        if iou[b, a] >= 0.5:
            label_of[a], box_of[a] = int(labels[b]), b
    for b in reversed(range(len(boxes))):  # so that the first box wins
        a = int(iou[b].argmax())
        label_of[a], box_of[a] = int(labels[b]), b
    return label_of, box_of


def random_image(rng: torch.Generator, number: int) -> list[tuple]:
    corner = torch.rand(number, 2, generator=rng) * 0.7
    size = 0.05 + 0.6 * torch.rand(number, 2, generator=rng) ** 2
    boxes = torch.cat((corner, (corner + size).clamp(max=1)), dim=1)
    return [(box.tolist(), 1 + i % 3) for i, box in enumerate(boxes)]


def test_equals_the_loop_for_images_of_different_counts():
    rng = torch.Generator().manual_seed(0)
    images = [random_image(rng, number) for number in (1, 5, 12, 30, 2)]
    targets = make_targets(*images)
    match = match_anchors(ANCHORS, targets)
    for i, image in enumerate(images):
        boxes = targets.boxes_xyxy[i, : len(image)]
        label_of, box_of = match_by_loop(boxes, targets.labels[i])
        assert match.labels[i].tolist() == label_of
        positive = match.labels[i] > 0
        expected = boxes[torch.tensor(box_of)[positive]]
        torch.testing.assert_close(match.boxes_xyxy[i][positive], expected)
    assert not match.ignored.any()


def test_every_box_has_an_anchor_even_if_tiny():
    match = match_anchors(ANCHORS, make_targets([([0.31, 0.62, 0.312, 0.623], 2)]))
    assert match.labels[0].tolist().count(2) == 1


def test_of_two_boxes_with_the_same_best_anchor_the_first_has_it():
    box = ANCHORS[7].clone()
    exact = cxcywh_to_xyxy(box).tolist()
    match = match_anchors(ANCHORS, make_targets([(exact, 1), (exact, 2)]))
    assert match.labels[0, 7] == 1


def test_image_without_boxes_beside_one_with_boxes():
    match = match_anchors(ANCHORS, make_targets([], [([0.1, 0.1, 0.6, 0.6], 1)]))
    assert match.labels[0].sum() == 0
    assert match.labels[1].sum() > 0


def test_batch_without_any_box():
    match = match_anchors(ANCHORS, make_targets([], []))
    assert match.labels.shape == (2, len(ANCHORS))
    assert match.labels.sum() == 0
    assert torch.isfinite(match.boxes_xyxy).all()


def test_boxes_without_area_are_never_assigned():
    match = match_anchors(ANCHORS, make_targets([([0.5, 0.5, 0.5, 0.8], 1), ([0.6, 0.6, 0.4, 0.4], 1)]))
    assert match.labels.sum() == 0


def test_crowds_are_neither_learnt_nor_background():
    crowd = ([0.0, 0.0, 0.5, 1.0], 1, True)
    match = match_anchors(ANCHORS, make_targets([crowd, ([0.6, 0.6, 0.9, 0.9], 2)]))
    assert set(match.labels[0].tolist()) == {0, 2}
    inside = (ANCHORS[:, 0] + ANCHORS[:, 2] / 2 < 0.5) & (ANCHORS[:, 1] - ANCHORS[:, 3] / 2 > 0)
    inside &= ANCHORS[:, 1] + ANCHORS[:, 3] / 2 < 1
    assert inside.any()
    assert match.ignored[0][inside & (ANCHORS[:, 0] - ANCHORS[:, 2] / 2 > 0)].all()
    assert not (match.ignored[0] & (match.labels[0] > 0)).any()
    assert not match.ignored[0][ANCHORS[:, 0] - ANCHORS[:, 2] / 2 > 0.5].any()
