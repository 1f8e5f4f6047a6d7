"""The loss of a student, against torch's own functions and the paper's formula."""

import pytest
import torch
import torch.nn.functional as F

from apps.finegrained.loss.distill_loss import Distillation, soft_loss

LOGITS = torch.tensor([[0.5, -1.0, 2.0], [0.0, 1.5, -0.3]])
TAUGHT = torch.tensor([[1.0, -2.0, 0.5], [-0.4, 1.0, 0.2]])
LABELS = torch.tensor([2, 0])


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_soft_loss_is_the_cross_entropy_less_the_teachers_entropy(temperature):
    theirs = (TAUGHT / temperature).softmax(1)
    cross_entropy = F.cross_entropy(LOGITS / temperature, theirs)
    entropy = torch.distributions.Categorical(probs=theirs).entropy().mean()
    expected = temperature**2 * (cross_entropy - entropy)
    assert soft_loss(LOGITS, TAUGHT, temperature).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_soft_loss_is_zero_at_the_teacher_and_its_gradient_keeps_its_size():
    """Hinton et al. 2015, section 2.1: for large T the gradient is (z - v) / K for logits of mean 0, whatever T."""
    taught = torch.tensor([[1.0, -1.0, 0.0], [0.5, 0.0, -0.5]])
    assert soft_loss(taught, taught, 3.0).item() == pytest.approx(0, abs=1e-7)
    for temperature in (100.0, 1000.0):
        logits = torch.tensor([[0.2, 0.3, -0.5], [0.0, 0.1, -0.1]], requires_grad=True)
        soft_loss(logits, taught, temperature).backward()
        expected = (logits.detach() - taught) / 3 / len(logits)
        torch.testing.assert_close(logits.grad, expected, rtol=0.02, atol=1e-3)


def test_the_parts_are_weighted():
    by_labels = F.cross_entropy(LOGITS, LABELS)
    by_teacher = 4 * F.kl_div((LOGITS / 2).log_softmax(1), (TAUGHT / 2).softmax(1), reduction="batchmean")
    parts = Distillation(distill_weight=0.7, temperature=2.0)(LOGITS, LABELS, TAUGHT)
    assert parts.labels.item() == pytest.approx(by_labels.item())
    assert parts.teacher.item() == pytest.approx(by_teacher.item(), rel=1e-5)
    assert parts.total.item() == pytest.approx((0.3 * by_labels + 0.7 * by_teacher).item(), rel=1e-5)


def test_without_a_teacher_the_labels_have_all_the_weight():
    parts = Distillation(distill_weight=0.7, temperature=2.0)(LOGITS, LABELS)
    assert parts.total.item() == pytest.approx(F.cross_entropy(LOGITS, LABELS).item())
    assert parts.teacher.item() == 0


def test_smoothed_and_mixed_labels_are_a_cross_entropy_against_shares_of_classes():
    """Half of each image; a tenth of a label is spread over the three classes."""
    mixed = torch.tensor([[0.5, 0.0, 0.5], [0.0, 0.5, 0.5]])
    spread = 0.9 * mixed + 0.1 / 3
    expected = -(spread * LOGITS.log_softmax(1)).sum(1).mean()
    loss = Distillation(distill_weight=0.0, temperature=1.0, label_smoothing=0.1)(LOGITS, mixed)
    assert loss.total.item() == pytest.approx(expected.item())


def test_unequal_classes_weigh_their_photos():
    """The weighted mean of the photos' losses, by the weights of their classes."""
    weights = torch.tensor([3.0, 1.0, 0.5])
    each = -LOGITS.log_softmax(1)[torch.arange(2), LABELS]
    expected = (0.5 * each[0] + 3.0 * each[1]) / 3.5
    loss = Distillation(distill_weight=0.0, temperature=1.0, class_weights=weights)(LOGITS, LABELS)
    assert loss.total.item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"distill_weight": 1.5}, r"distill_weight must be from 0 to 1, got 1\.5"),
        ({"temperature": 0}, "temperature must be above 0, got 0"),
        ({"label_smoothing": 1}, "label_smoothing must be from 0 to below 1, got 1"),
    ],
)
def test_wrong_numbers(wrong, message):
    with pytest.raises(ValueError, match=message):
        Distillation(**{"distill_weight": 0.5, "temperature": 1.0, **wrong})
