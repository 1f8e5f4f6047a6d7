"""The loss of a student, against numbers worked out by hand."""

import pytest
import torch
import torch.nn.functional as F

from apps.faceattr.loss.distill_loss import Distillation, label_loss, teacher_loss

LOGITS = torch.tensor([[0.5, -1.0, 2.0], [0.0, 1.5, -0.3]])
TAUGHT = torch.tensor([[1.0, -2.0, 0.5], [-0.4, 1.0, 0.2]])


def test_unknown_labels_do_not_count():
    labels = torch.tensor([[1, -1, 0], [-1, -1, 1]], dtype=torch.int8)
    known = [(0, 0, 1.0), (0, 2, 0.0), (1, 2, 1.0)]
    expected = sum(
        F.binary_cross_entropy_with_logits(LOGITS[i, a], torch.tensor(y)) for i, a, y in known
    )  # / 3 known, * 3 attributes
    logits = LOGITS.clone().requires_grad_()
    loss = label_loss(logits, labels)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item())
    assert (logits.grad[labels == -1] == 0).all()
    assert (logits.grad[labels != -1] != 0).all()


def test_a_batch_without_any_label_has_no_loss_and_no_nan():
    logits = LOGITS.clone().requires_grad_()
    loss = label_loss(logits, torch.full((2, 3), -1))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0, 200.0])
def test_the_gradient_has_the_right_scale(temperature):
    """T (sigmoid(z / T) - sigmoid(t / T)) for each logit, over the number of photos; (z - t) / 4 where T is large."""
    logits = LOGITS.clone().requires_grad_()
    teacher_loss(logits, TAUGHT, temperature).backward()
    expected = temperature * ((LOGITS / temperature).sigmoid() - (TAUGHT / temperature).sigmoid()) / len(LOGITS)
    torch.testing.assert_close(logits.grad, expected)
    if temperature == 200:
        torch.testing.assert_close(logits.grad, (LOGITS - TAUGHT) / 4 / len(LOGITS), rtol=1e-3, atol=1e-6)


def test_the_loss_is_the_papers_cross_entropy_less_the_teachers_entropy():
    """Table 12's footnote: cross-entropy of each attribute, averaged; 0 where the student is the teacher."""
    probs = TAUGHT.sigmoid()
    entropy = F.binary_cross_entropy(probs, probs)
    cross_entropy = F.binary_cross_entropy(LOGITS.sigmoid(), probs)
    assert teacher_loss(LOGITS, TAUGHT, 1.0).item() == pytest.approx(3 * (cross_entropy - entropy).item(), abs=1e-6)
    assert teacher_loss(TAUGHT, TAUGHT, 3.0).item() == pytest.approx(0, abs=1e-6)


def test_the_parts_are_weighted():
    labels = torch.tensor([[1, 0, -1], [0, 1, 1]])
    parts = Distillation(distill_weight=0.7, temperature=2.0)(LOGITS, labels, TAUGHT)
    by_labels, by_teacher = label_loss(LOGITS, labels), teacher_loss(LOGITS, TAUGHT, 2.0)
    assert parts.total.item() == pytest.approx((0.3 * by_labels + 0.7 * by_teacher).item())
    paper = Distillation(distill_weight=1.0)
    changed = paper(LOGITS, 1 - labels.clamp(min=0), TAUGHT)
    assert paper(LOGITS, labels, TAUGHT).total.item() == changed.total.item()  # labels are not looked at
    alone = Distillation(distill_weight=0.0)(LOGITS, labels, None)
    assert alone.total.item() == pytest.approx(by_labels.item())


def test_the_hint_is_zero_for_the_teachers_features_and_learns():
    torch.manual_seed(0)
    loss = Distillation(distill_weight=1.0, hint_weight=2.0, features=(4, 4))
    theirs = torch.randn(16, 4)
    with torch.no_grad():
        loss.to_teacher.weight.copy_(torch.eye(4))
    logits, labels = torch.zeros(16, 3), torch.zeros(16, 3)
    same = loss(logits, labels, logits, features=(theirs, theirs))
    assert same.hint.item() == pytest.approx(0, abs=1e-6)
    other = loss(logits, labels, logits, features=(torch.randn(16, 4), theirs))
    assert other.total.item() == pytest.approx(2 * other.hint.item(), abs=1e-6)
    other.total.backward()
    assert loss.to_teacher.weight.grad.abs().sum() > 0


def test_wrong_numbers():
    with pytest.raises(ValueError, match=r"distill_weight must be from 0 .* to 1 .*, got 1\.5"):
        Distillation(distill_weight=1.5)
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        Distillation(distill_weight=1.0, temperature=0)
    with pytest.raises(ValueError, match="hint_weight must be 0"):
        Distillation(distill_weight=1.0, hint_weight=-1)
