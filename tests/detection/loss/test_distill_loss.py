"""The loss towards a teacher: values and gradients against formulas worked out by hand, in NumPy."""

import numpy as np
import pytest
import torch

from apps.detection.loss.distill_loss import OBJECT, distilled
from apps.detection.loss.loss_sums import LossSums

LABELS = LossSums(torch.tensor(2.0), torch.tensor(3.0), torch.tensor(5.0))
SHAPE = (2, 6, 4)  # images, anchors, classes and background


def outputs(seed: int) -> dict:
    rng = torch.Generator().manual_seed(seed)
    logits, sides = (torch.randn(*shape, generator=rng) for shape in (SHAPE, (*SHAPE[:2], 4, 8)))
    return {"class_logits": 2 * logits - 1.5, "offsets": torch.zeros(*SHAPE[:2], 4), "side_logits": sides}


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_values_and_gradients_are_those_of_the_formulas(weight):
    output, taught = outputs(0), outputs(1)
    logits, sides = (output[name].requires_grad_() for name in ("class_logits", "side_logits"))
    loss = distilled(LABELS, output, taught, weight)
    loss.sums[0].backward()

    z, q = logits.detach().double().numpy()[..., 1:], taught["class_logits"].double().numpy()[..., 1:]
    s, t = 1 / (1 + np.exp(-z)), 1 / (1 + np.exp(-q))
    entropy = -(t * np.log(s) + (1 - t) * np.log(1 - s))
    best = np.where(t.max(axis=-1) > OBJECT, t.max(axis=-1), 0)
    assert 0 < (best == 0).sum() < best.size
    p, r = softmax(sides.detach().double().numpy()), softmax(taught["side_logits"].double().numpy())
    divergence = (r * np.log(r / p)).sum(axis=-1).mean(axis=-1)
    by_teacher = (np.abs(t - s) * entropy).sum() + (best * divergence).sum()

    expected = [0.0, 2 * (1 - weight), 3 * (1 - weight), weight * by_teacher]
    expected[0] = sum(expected)
    np.testing.assert_allclose(loss.sums.detach().numpy(), expected, rtol=1e-5)
    assert loss.divisor.item() == pytest.approx(5 * (1 - weight) + weight * best.sum(), rel=1e-5)
    by_logits = np.sign(s - t) * s * (1 - s) * entropy + np.abs(s - t) * (s - t)
    np.testing.assert_allclose(logits.grad[..., 1:].numpy(), weight * by_logits, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(sides.grad.numpy(), weight * best[..., None, None] * (p - r) / 4, rtol=1e-4, atol=1e-6)
    assert (logits.grad[..., 0] == 0).all()  # the background's


def test_a_student_that_equals_its_teacher_has_nothing_to_learn_from_it():
    output, taught = outputs(0), outputs(0)
    logits, sides = (output[name].requires_grad_() for name in ("class_logits", "side_logits"))
    loss = distilled(LABELS, output, taught, 1.0)
    loss.sums[0].backward()
    assert loss.teacher.item() == pytest.approx(0, abs=1e-5)
    for value in (logits, sides):
        assert value.grad.abs().max() < 1e-6


def test_gradients_are_finite_where_scores_are_0_or_1():
    output, taught = outputs(0), outputs(1)
    for name in ("class_logits", "side_logits"):
        taught[name] = taught[name] * 1e4
        output[name] = (output[name] * 1e3).requires_grad_()
    distilled(LABELS, output, taught, 0.5).sums[0].backward()
    assert all(output[name].grad.isfinite().all() for name in ("class_logits", "side_logits"))
