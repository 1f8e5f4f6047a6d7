"""The loss, against a plain implementation for one image at a time."""

import pytest
import torch
import torch.nn.functional as F

from apps.detection.boxes.boxes import encode_offsets
from apps.detection.loss.matching import match_anchors
from apps.detection.loss.ssd_loss import SSDLoss
from apps.detection.model.create import create_detector
from tests.detection.loss.test_matching import ANCHORS, make_targets, random_image

NUM_CLASSES = 3


def random_output(batch: int, seed: int = 0) -> dict:
    rng = torch.Generator().manual_seed(seed)
    return {
        "class_logits": torch.randn(batch, len(ANCHORS), NUM_CLASSES + 1, generator=rng).requires_grad_(),
        "offsets": torch.randn(batch, len(ANCHORS), 4, generator=rng).requires_grad_(),
    }


def loss_by_loop(score_function, output, targets):
    match = match_anchors(ANCHORS, targets)
    classification = box = positives = 0.0
    for i in range(len(match.labels)):
        labels, logits = match.labels[i], output["class_logits"][i]
        if score_function == "softmax":
            each = F.cross_entropy(logits, labels, reduction="none")
        else:
            one_hot = F.one_hot(labels, NUM_CLASSES + 1).float()
            each = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none").sum(dim=1)
        positive = labels > 0
        negatives = each[~positive & ~match.ignored[i]].sort(descending=True).values
        number = int(positive.sum())
        positives += number
        classification += each[positive].sum() + negatives[: 3 * max(1, number)].sum()
        wanted = encode_offsets(match.boxes_xyxy[i], ANCHORS)[positive]
        box += F.smooth_l1_loss(output["offsets"][i][positive], wanted, reduction="sum")
    return classification, box, positives


@pytest.mark.parametrize("score_function", ["sigmoid", "softmax"])
def test_equals_the_loop(score_function):
    rng = torch.Generator().manual_seed(1)
    crowd = ([0.0, 0.0, 0.4, 0.9], 1, True)
    targets = make_targets(random_image(rng, 4), [], [*random_image(rng, 9), crowd], random_image(rng, 1))
    output = random_output(4)
    loss = SSDLoss(score_function)(output, ANCHORS, targets)
    classification, box, positives = loss_by_loop(score_function, output, targets)
    torch.testing.assert_close(loss.classification, classification)
    torch.testing.assert_close(loss.box, box)
    torch.testing.assert_close(loss.sums, torch.stack((classification + box, classification, box)))
    assert loss.divisor.item() == positives


@pytest.mark.parametrize("score_function", ["sigmoid", "softmax"])
def test_an_image_without_objects_teaches_its_hardest_background(score_function):
    output = random_output(1)
    loss = SSDLoss(score_function)(output, ANCHORS, make_targets([]))
    loss.sums[0].backward()
    taught = output["class_logits"].grad[0].abs().sum(dim=1) > 0
    assert loss.sums[0] > 0
    assert taught.sum() == 3
    assert output["offsets"].grad is None or output["offsets"].grad.abs().sum() == 0


def test_no_annotation_gives_nan():
    awkward = [
        ([0.5, 0.5, 0.5, 0.5], 1),  # a point
        ([0.9, 0.9, 0.1, 0.1], 2),  # inverted
        ([0.0, 0.0, 1.0, 1.0], 3),  # everything
        ([0.2, 0.2, 0.2 + 1e-7, 0.9], 1),  # a hair
        ([-3.0, -3.0, 4.0, 4.0], 1),  # far outside
    ]
    for boxes in (awkward, *[[box] for box in awkward]):
        output = random_output(1)
        loss = SSDLoss()(output, ANCHORS, make_targets(boxes))
        loss.sums[0].backward()
        assert torch.isfinite(loss.sums[0])
        assert torch.isfinite(output["class_logits"].grad).all()
        assert output["offsets"].grad is None or torch.isfinite(output["offsets"].grad).all()


def test_large_logits_stay_finite():
    output = random_output(1)
    output = {name: (value.detach() * 1e4).requires_grad_() for name, value in output.items()}
    loss = SSDLoss()(output, ANCHORS, make_targets([([0.1, 0.1, 0.5, 0.5], 1)]))
    assert torch.isfinite(loss.sums[0])


def test_every_parameter_gets_a_gradient():
    detector = create_detector("a025", num_classes=NUM_CLASSES, resolution=96, head="ssd")
    rng = torch.Generator().manual_seed(2)
    everywhere = [([0.0, 0.0, 1.0, 1.0], 1), ([0.1, 0.1, 0.8, 0.85], 2), ([0.0, 0.2, 0.6, 0.8], 3)]
    targets = make_targets(random_image(rng, 20), random_image(rng, 20) + everywhere)
    output = detector(torch.randn(2, 3, 96, 96, generator=rng))
    SSDLoss()(output, detector.anchors_cxcywh, targets).sums[0].backward()
    without = [name for name, p in detector.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_unknown_score_function():
    with pytest.raises(ValueError, match="must be sigmoid or softmax, got 'relu'"):
        SSDLoss("relu")  # type: ignore[arg-type]
