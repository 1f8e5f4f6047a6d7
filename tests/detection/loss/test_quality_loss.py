"""The quality loss, against a plain implementation for one image at a time, and its gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import box_iou, generalized_box_iou

from apps.detection.boxes.boxes import paired_giou
from apps.detection.loss.assignment import assign_aligned, assign_closest
from apps.detection.loss.quality_loss import QualityLoss, _ScoreLoss, side_loss
from tests.detection.loss.test_assignment import ANCHORS, LEVELS, NUM_CLASSES
from tests.detection.loss.test_matching import make_targets, random_image

CELLS = torch.cat([torch.full((size,), size**-0.5) for size in LEVELS])


def random_output(batch: int, seed: int = 0) -> dict:
    rng = torch.Generator().manual_seed(seed)
    return {
        "class_logits": torch.randn(batch, len(ANCHORS), NUM_CLASSES + 1, generator=rng).requires_grad_(),
        "side_logits": torch.randn(batch, len(ANCHORS), 4, 8, generator=rng).requires_grad_(),
    }


def test_giou_is_torchvisions():
    rng = torch.Generator().manual_seed(0)
    boxes = torch.rand(2, 50, 2, 2, generator=rng).sort(dim=2).values.flatten(2)
    torch.testing.assert_close(paired_giou(*boxes), generalized_box_iou(*boxes).diagonal())


def test_giou_of_boxes_without_area_is_finite_and_so_is_its_gradient():
    point = torch.full((1, 4), 0.5, requires_grad=True)
    paired_giou(point, torch.full((1, 4), 0.5)).sum().backward()
    assert point.grad is not None
    assert point.grad.isfinite().all()


def sides_of(side_logits: torch.Tensor, anchor: int, box_xyxy: torch.Tensor) -> torch.Tensor:
    """Distribution focal loss of one anchor as the paper writes it, less its minimum."""
    (cx, cy), (x0, y0, x1, y1) = ANCHORS[anchor, :2].tolist(), box_xyxy.tolist()
    losses = []
    for logits, away in zip(side_logits, (cx - x0, cy - y0, x1 - cx, y1 - cy), strict=True):
        away = min(max(away / CELLS[anchor].item(), 0), 7)
        low = min(int(away), 6)
        log_probs, shares = logits.log_softmax(-1), (low + 1 - away, away - low)
        losses.append(-sum(share * log_probs[low + i] for i, share in enumerate(shares)))
        losses.append(torch.tensor(sum(share * math.log(share) for share in shares if share > 0)))
    return sum(losses) / 4


def boxes_of(side_logits: torch.Tensor) -> torch.Tensor:
    """(B, A, 4): each side at its expected distance, in cells, from the anchor's centre."""
    away = sum(d * p for d, p in enumerate(side_logits.softmax(-1).unbind(-1))) * CELLS[:, None]
    return torch.cat((ANCHORS[:, :2] - away[..., :2], ANCHORS[:, :2] + away[..., 2:]), dim=-1)


@pytest.mark.parametrize("assigner", ["aligned", "closest"])
def test_equals_the_loop(assigner):
    rng = torch.Generator().manual_seed(1)
    crowd = ([0.0, 0.0, 0.9, 0.9], 1, True)
    targets = make_targets(random_image(rng, 4), [], [*random_image(rng, 6), crowd])
    output = random_output(3)
    loss = QualityLoss(CELLS, LEVELS, assigner=assigner)(output, ANCHORS, targets)

    boxes = boxes_of(output["side_logits"])
    scores = output["class_logits"][..., 1:].sigmoid()
    if assigner == "aligned":
        found = assign_aligned(scores, boxes, ANCHORS, targets, cells=CELLS)
    else:
        found = assign_closest(ANCHORS, targets, cells=CELLS, level_sizes=LEVELS)
        overlaps = [box_iou(*pair).diagonal() for pair in zip(boxes.detach(), found.boxes_xyxy, strict=True)]
        found = found._replace(quality=torch.stack(overlaps) * (found.labels > 0))
    classification = box = 0.0
    for i in range(3):
        for a in range(len(ANCHORS)):
            label, quality = int(found.labels[i, a]), found.quality[i, a]
            for k in range(NUM_CLASSES):
                wanted = quality if label == k + 1 else torch.tensor(0.0)
                if not found.ignored[i, a]:
                    error = F.binary_cross_entropy(scores[i, a, k], wanted)
                    classification += (wanted - scores[i, a, k]) ** 2 * error
            if label:
                overlap = generalized_box_iou(boxes[i, a][None], found.boxes_xyxy[i, a][None])[0, 0]
                box += 2 * quality * (1 - overlap)
                box += 0.25 * quality * sides_of(output["side_logits"][i, a], a, found.boxes_xyxy[i, a])
    torch.testing.assert_close(loss.classification, classification, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss.box, box, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(loss.sums[0], loss.classification + loss.box)
    torch.testing.assert_close(loss.divisor, found.quality.sum())


def test_the_gradient_of_the_scores_is_that_of_the_formula():
    rng = torch.Generator().manual_seed(2)
    logits = (torch.randn(2, 30, 4, generator=rng, dtype=torch.double) * 8).requires_grad_()
    wanted = torch.rand(2, 30, 4, generator=rng, dtype=torch.double) * (torch.rand(2, 30, 4, generator=rng) < 0.2)
    counted = torch.rand(2, 30, generator=rng) < 0.7
    loss = _ScoreLoss.apply(logits, wanted, counted)
    (found,) = torch.autograd.grad(loss * 3, logits)
    scores = logits.sigmoid()
    entropy = -wanted * scores.log() - (1 - wanted) * (1 - scores).log()
    plain = ((wanted - scores) ** 2 * entropy)[counted].sum()
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(found, torch.autograd.grad(plain * 3, logits)[0])


@pytest.mark.parametrize("assigner", ["aligned", "closest"])
def test_gradients_are_finite_whatever_the_boxes_and_outputs(assigner):
    odd = [([0.5, 0.5, 0.5, 0.9], 1), ([0.0, 0.0, 1.0, 1.0], 2), ([0.2, 0.2, 0.20001, 0.20001], 3)]
    for targets in (make_targets([]), make_targets([], odd), make_targets(odd, [(odd[1][0], 1, True)])):
        for scale in (0.0, 1.0, 1e4):
            output = {name: (value * scale).detach().requires_grad_() for name, value in random_output(2).items()}
            output = {name: value[: len(targets.labels)].detach().requires_grad_() for name, value in output.items()}
            QualityLoss(CELLS, LEVELS, assigner=assigner)(output, ANCHORS, targets).sums[0].backward()
            assert output["class_logits"].grad.isfinite().all()
            assert output["side_logits"].grad is None or output["side_logits"].grad.isfinite().all()


def test_a_perfect_answer_costs_nothing_and_a_wrong_one_something():
    targets = make_targets([([0.3, 0.3, 0.7, 0.8], 2)])
    boxes = targets.boxes_xyxy[:, :1].expand(1, len(ANCHORS), 4)
    found = assign_aligned(torch.full((1, len(ANCHORS), NUM_CLASSES), 0.5), boxes, ANCHORS, targets, cells=CELLS)
    logits = torch.full((1, len(ANCHORS), NUM_CLASSES + 1), -20.0)
    logits[..., 2] = torch.where(found.labels > 0, 20.0, -20.0)
    away = torch.cat((ANCHORS[:, :2] - boxes[..., :2], boxes[..., 2:] - ANCHORS[:, :2]), -1) / CELLS[:, None]
    side_logits = (1 - (away[..., None] - torch.arange(8)).abs()).clamp(min=1e-9).log()
    criterion = QualityLoss(CELLS, LEVELS, assigner="aligned")
    good = {"class_logits": logits, "side_logits": side_logits}
    assert criterion(good, ANCHORS, targets).sums[0] < 1e-4
    assert criterion({**good, "class_logits": -logits}, ANCHORS, targets).classification > 1
    assert criterion({**good, "side_logits": side_logits.flip(-1)}, ANCHORS, targets).box > 0.01


def test_a_side_beyond_all_distances_is_to_be_the_furthest():
    logits = torch.zeros(1, 4, 8)
    logits[..., 7] = 30.0
    box = torch.tensor([[-9.0, -9.0, 9.0, 9.0]])
    assert side_loss(logits, torch.tensor([[0.5, 0.5]]), torch.tensor([[0.1]]), box) < 1e-6
    assert side_loss(logits.flip(-1), torch.tensor([[0.5, 0.5]]), torch.tensor([[0.1]]), box) > 10
