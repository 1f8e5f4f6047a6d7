"""Numbers are pinned to plain loops."""

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from apps.finegrained.data.load import Photo
from apps.finegrained.evaluation.metrics import calibration_error, classification_metrics, reliability, top_k_accuracy
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.model.inference import predict_photos
from tests.finegrained.tiny_fruit import draw_fruit, save_classifier


@pytest.fixture
def case() -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """60 photos of 7 classes; class 5 is never predicted, class 6 has no photos, class 4 neither photos nor guesses."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.tensor([0, 1, 2, 3, 5] * 12)
    logits = torch.randn(60, 7, generator=generator) * 2
    logits[torch.arange(60), labels] += 2
    logits[:, 4] -= 30
    logits[:, 5:] -= 30
    logits[0, 6] += 70
    return logits, labels, [f"class {k}" for k in range(7)]


def test_every_number_is_that_of_a_plain_loop(case):
    logits, labels, names = case
    metrics = classification_metrics(logits, labels, names)
    true, probs = labels.tolist(), logits.double().softmax(1).tolist()
    order = [sorted(range(7), key=lambda k, p=p: -p[k]) for p in probs]
    guess = [o[0] for o in order]
    precisions, recalls, f1s = [], [], []
    for k, one in enumerate(metrics.per_class):
        hits = sum(g == t == k for g, t in zip(guess, true, strict=True))
        assert (one.name, one.support, one.predicted) == (f"class {k}", true.count(k), guess.count(k))
        if one.support:
            precision = hits / one.predicted if one.predicted else 0.0
            recall = hits / one.support
            f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
            assert one[3:] == pytest.approx((precision, recall, f1))
            precisions.append(precision), recalls.append(recall), f1s.append(f1)
    assert metrics.values == pytest.approx(
        {
            "num_photos": 60,
            "num_classes": 7,
            "num_classes_without_photos": 2,
            "top1": sum(g == t for g, t in zip(guess, true, strict=True)) / 60,
            "top5": sum(t in o[:5] for o, t in zip(order, true, strict=True)) / 60,
            "macro_precision": sum(precisions) / 5,
            "macro_recall": sum(recalls) / 5,
            "macro_f1": sum(f1s) / 5,
            "loss": -sum(math.log(p[t]) for p, t in zip(probs, true, strict=True)) / 60,
            "ece": plain_calibration_error(probs, true),
        },
        abs=1e-6,
    )
    for t in range(7):
        for p in range(7):
            assert metrics.confusion[t, p] == sum((a, b) == (t, p) for a, b in zip(true, guess, strict=True))


def plain_calibration_error(probs: list[list[float]], true: list[int]) -> float:
    total = 0.0
    for i in range(15):
        inside = [(max(p), p.index(max(p)) == t) for p, t in zip(probs, true, strict=True) if i < max(p) * 15 <= i + 1]
        if inside:
            total += abs(sum(c for c, _ in inside) - sum(right for _, right in inside))
    return total / len(true)


def test_classes_without_photos_have_no_numbers_and_json_no_nan(case):
    metrics = classification_metrics(*case)
    assert metrics.per_class[4][1:] == (0, 0, None, None, None)
    assert metrics.per_class[6][1:] == (0, 1, 0.0, None, None)
    assert metrics.per_class[5][1:] == (12, 0, 0.0, 0.0, 0.0)
    json.dumps([metrics.values, metrics.per_class], allow_nan=False)


def test_confused_pairs_are_those_off_the_diagonal_most_first(case):
    metrics = classification_metrics(*case)
    counts = [pair.num_photos for pair in metrics.confused]
    assert counts == sorted(counts, reverse=True)
    assert sum(counts) == 60 - round(60 * metrics.values["top1"])
    first = metrics.confused[0]
    true, predicted = int(first.true[-1]), int(first.predicted[-1])
    assert true != predicted
    assert metrics.confusion[true, predicted] == first.num_photos
    assert first.share == pytest.approx(first.num_photos / metrics.per_class[true].support)


def test_with_fewer_than_five_classes_all_are_among_the_best():
    logits, labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1])
    assert top_k_accuracy(logits, labels, k=1) == 0.5
    assert top_k_accuracy(logits, labels, k=5) == 1.0


def test_the_bins_add_up_to_the_calibration_error(case):
    logits, labels, _ = case
    bins = reliability(logits, labels)
    assert sum(b.num_photos for b in bins) == len(labels)
    error = sum(b.num_photos * abs(b.accuracy - b.confidence) for b in bins) / len(labels)
    assert error == pytest.approx(calibration_error(logits, labels), abs=1e-6)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(0, 3), torch.zeros(0).long(), "of 1 photo or more"),
        (torch.zeros(2, 3), torch.zeros(3).long(), r"\(2, 3\), \(3,\)"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), "from 0 to 2, got 0 to 3"),
        (torch.zeros(2, 3), torch.tensor([-1, 0]), "from 0 to 2, got -1 to 0"),
        (torch.zeros(2, 4), torch.tensor([1, 0]), "3 class names for logits of 4 classes"),
    ],
)
def test_what_does_not_fit_is_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(logits, labels, ["a", "b", "c"])


@pytest.fixture
def fruit(tmp_path: Path) -> tuple[Classifier, list[Photo]]:
    root = draw_fruit(tmp_path, "val", each=3) / "val"
    folders = sorted(root.iterdir())
    photos = [Photo(path, label) for label, folder in enumerate(folders) for path in sorted(folder.iterdir())]
    return Classifier.load(save_classifier(tmp_path / "model", root), device=torch.device("cpu")), photos


def test_logits_come_in_the_order_of_the_photos_whatever_the_batch(fruit):
    classifier, photos = fruit
    one, many = (
        predict_photos(classifier, photos, name="val", batch_size=size, num_workers=0, progress=False)
        for size in (1, 4)
    )
    assert one.shape == (9, 3)
    torch.testing.assert_close(one, many, rtol=1e-3, atol=1e-3)
    assert one.argmax(1).tolist() == [photo.label for photo in photos]  # what the linear layer was fitted to
    other = predict_photos(classifier, photos, name="val", resolution=96, batch_size=4, num_workers=0, progress=False)
    assert (other - many).abs().max() > 0.01


def test_logits_that_are_not_finite_and_broken_photos_are_named(fruit, tmp_path):
    classifier, photos = fruit
    options = {"name": "val", "batch_size": 4, "num_workers": 0, "progress": False}
    with pytest.raises(ValueError, match="val: no photos"):
        predict_photos(classifier, [], **options)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no photo")
    with pytest.raises(ValueError, match=r"broken\.png is not an image"):
        predict_photos(classifier, [*photos, Photo(broken, 0)], **options)
    black = tmp_path / "black.png"
    cv2.imwrite(str(black), np.zeros((40, 40, 3), np.uint8))
    with torch.no_grad():
        classifier.network.classifier.bias.fill_(math.inf)
    with pytest.raises(ValueError, match=r"not finite for 1 of 1 photos, first .*black\.png"):
        predict_photos(classifier, [Photo(black, 0)], **options)
