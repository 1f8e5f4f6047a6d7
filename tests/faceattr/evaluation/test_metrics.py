import json
import math

import pytest
import torch

from apps.faceattr.evaluation.metrics import (
    AttributeMetrics,
    Metrics,
    agreement,
    attribute_metrics,
    average_precision,
    calibration_error,
    mean_ap_measure,
)
from apps.faceattr.evaluation.subgroups import subgroup_metrics
from apps.faceattr.model.inference import predict_photos
from apps.faceattr.model.tagger import Tagger
from tests.faceattr.blob_faces import ATTRIBUTES, crops_of, draw_faces, save_tagger

NAMES = ["Hat", "Smiling", "Bald"]


def measured(logits: torch.Tensor, labels: torch.Tensor, names: list[str] = NAMES) -> Metrics:
    probs = logits.double().sigmoid()
    return attribute_metrics(logits, labels, names, probs=probs, present=probs >= 0.5)


def random_case(number: int = 200, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(number, 3, generator=generator)
    labels = (logits + torch.randn(number, 3, generator=generator) > 0.5).to(torch.int8)
    labels[torch.rand(number, 3, generator=generator) < 0.3] = -1
    return logits, labels


def plain_ap(scores: list[float], labels: list[int]) -> float:
    """Mean over the positives of the precision down to each; without ties."""
    ranked = [label for _, label in sorted(zip(scores, labels, strict=True), reverse=True)]
    precisions = [sum(ranked[: i + 1]) / (i + 1) for i, label in enumerate(ranked) if label]
    return sum(precisions) / len(precisions)


def test_numbers_by_hand():
    """Hat: told rightly but for the third, in the order + - + -."""
    logits = torch.tensor([[3.0], [1.0], [-1.0], [-2.0], [8.0]])
    labels = torch.tensor([[1], [0], [1], [0], [-1]], dtype=torch.int8)
    (hat,) = measured(logits, labels, ["Hat"]).per_attribute
    assert (hat.known, hat.positive) == (4, 2)
    assert hat.ap == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert hat.balanced_accuracy == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert hat.f1 == pytest.approx(2 * 1 / (2 + 2))
    assert hat.accuracy == pytest.approx(2 / 4)
    p = torch.tensor([3.0, 1.0, -1.0, -2.0]).sigmoid().tolist()  # each in a bin of its own
    assert hat.ece == pytest.approx((1 - p[0] + p[1] + 1 - p[2] + p[3]) / 4, abs=1e-6)


def test_the_known_labels_alone_count():
    logits, labels = random_case()
    values = measured(logits, labels).values
    for a, one in enumerate(measured(logits, labels).per_attribute):
        known = (labels[:, a] >= 0).nonzero().flatten().tolist()
        truth = [int(labels[i, a]) for i in known]
        assert (one.known, one.positive) == (len(known), sum(truth))
        assert one.ap == pytest.approx(plain_ap([float(logits[i, a]) for i in known], truth), abs=1e-6)
        right = [(logits[i, a] >= 0).item() == bool(t) for i, t in zip(known, truth, strict=True)]
        sides = [[r for r, t in zip(right, truth, strict=True) if t == v] for v in (0, 1)]
        assert one.balanced_accuracy == pytest.approx(sum(sum(s) / len(s) for s in sides) / 2)
    noise = torch.where(labels == -1, 1e3 * torch.randn(labels.shape), logits)
    assert measured(noise, labels).values == values
    assert values["known"] == pytest.approx((labels >= 0).double().mean().item())


def test_what_cannot_be_measured_is_named_and_no_nan():
    logits, labels = random_case()
    labels[:, 1] = torch.where(labels[:, 1] == 1, 0, labels[:, 1])  # nobody smiles
    labels[:, 2] = -1  # nobody knows who is bald
    metrics = measured(logits, labels)
    hat, smiling, bald = metrics.per_attribute
    assert metrics.not_measured == ["Smiling", "Bald"]
    assert metrics.values["mean_ap"] == hat.ap
    assert metrics.values["num_measured"] == 1
    assert (smiling.ap, smiling.balanced_accuracy, smiling.f1) == (None, None, None)
    assert smiling.accuracy == pytest.approx((logits[labels[:, 1] == 0, 1] < 0).double().mean().item())
    assert bald == AttributeMetrics("Bald", 0, 0, None, None, None, None, None)
    json.dumps([metrics.values, metrics.per_attribute], allow_nan=False)
    labels[:] = -1
    nothing = measured(logits, labels)
    assert nothing.values["mean_ap"] is None and nothing.values["known"] == 0
    assert nothing.not_measured == NAMES


def test_the_means_are_over_the_same_attributes():
    logits, labels = random_case()
    labels[:, 1] = 0
    metrics = measured(logits, labels)
    hat, _, bald = metrics.per_attribute
    for what in ("ap", "balanced_accuracy", "f1", "accuracy", "ece"):
        expected = (getattr(hat, what) + getattr(bald, what)) / 2
        assert metrics.values[f"mean_{what}"] == pytest.approx(expected)


def test_very_sure_networks_keep_their_order():
    """A float sigmoid makes 1 of all of them."""
    scores = torch.tensor([60.0, 61.0, 62.0, 63.0])
    assert average_precision(scores, torch.tensor([0, 0, 1, 1])) == pytest.approx(1)
    assert average_precision(scores, torch.tensor([1, 0, 0, 0])) == pytest.approx(1 / 4)
    assert average_precision(torch.zeros(4), torch.tensor([1, 0, 0, 0])) == pytest.approx(1 / 4)  # guessing


def test_calibration_error_is_the_gap_of_probability_and_share():
    probs = torch.full((1000,), 0.7)
    labels = (torch.arange(1000) < 400).long()
    assert calibration_error(probs, labels) == pytest.approx(0.3, abs=1e-6)
    assert calibration_error(torch.full((1000,), 0.4), labels) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("logits", "labels", "names", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 2), NAMES, r"got \(2, 3\) and \(2, 2\) of 3 attributes"),
        (torch.zeros(0, 3), torch.zeros(0, 3), NAMES, "1 photo or more"),
        (torch.zeros(2, 3), torch.zeros(2, 3), NAMES[:2], "of 2 attributes"),
        (torch.zeros(2, 3), torch.full((2, 3), 2), NAMES, "labels must be 1, 0 or -1, got 2 to 2"),
    ],
)
def test_what_does_not_fit_is_refused(logits, labels, names, message):
    with pytest.raises(ValueError, match=message):
        measured(logits, labels, names)


def test_agreement_needs_no_labels():
    logits = torch.tensor([[2.0], [1.0], [-1.0], [-2.0]])
    labels = torch.tensor([[1], [-1], [-1], [0]], dtype=torch.int8)
    probs = torch.tensor([[0.9], [0.6], [0.4], [0.1]]).double()
    teacher_probs = torch.tensor([[0.8], [0.4], [0.45], [0.2]]).double()
    own, other = measured(logits, labels, ["Hat"]), measured(-logits, labels, ["Hat"])
    (hat,) = agreement(own, probs, probs >= 0.5, other, teacher_probs, teacher_probs >= 0.5)
    assert hat.same == pytest.approx(3 / 4)
    assert hat.difference == pytest.approx((0.1 + 0.2 + 0.05 + 0.1) / 4)
    assert (hat.ap, hat.teacher_ap) == (1.0, 0.5)


def test_a_group_that_is_told_worse_shows():
    """Smiling is told perfectly where Hat is on, wrongly in every fourth face where it is off."""
    labels = torch.zeros(200, 3, dtype=torch.int8)
    labels[:80, 0] = 1
    labels[180:, 0] = -1
    labels[1::2, 1] = 1
    labels[:, 2] = -1
    logits = 2.0 * labels.float() - 1
    logits[80:180:4] *= -1
    logits[81:180:4] *= -1
    probs = logits.double().sigmoid()
    group = labels[:, 0]
    groups = subgroup_metrics(logits, labels, NAMES, probs=probs, present=probs >= 0.5, by="Hat", group=group)
    assert (groups.num_with_it, groups.num_without, groups.num_unknown) == (80, 100, 20)
    (row,) = groups.rows  # Hat makes the groups, Bald is unknown
    assert row.name == "Smiling"
    assert (row.with_it.known, row.without.known) == (80, 100)
    assert (row.with_it.balanced_accuracy, row.without.balanced_accuracy) == (1.0, 0.5)
    assert row.gap("balanced_accuracy") == 0.5
    assert (row.said_with_it, row.said_without) == (0.5, 0.5)
    assert groups.values["mean_balanced_accuracy_with_it"] == 1 and groups.values["num_compared"] == 1
    assert not row.is_small
    assert "widest gap of balanced accuracy: Smiling, +0.500 for those with Hat" in "\n".join(groups.describe())
    assert json.loads(json.dumps(groups.as_json(), allow_nan=False))["rows"][0]["gaps"]["balanced_accuracy"] == 0.5


def test_small_and_empty_groups_are_said():
    logits, labels = random_case(60)
    group = torch.zeros(60, dtype=torch.int8)
    group[:9] = 1
    case = {"probs": logits.double().sigmoid(), "present": logits >= 0, "by": "Glasses"}
    groups = subgroup_metrics(logits, labels, NAMES, **case, group=group)
    assert [row.is_small for row in groups.rows] == [True] * 3
    assert "little is sure: Hat, Smiling, Bald" in groups.describe()[-1]
    with pytest.raises(ValueError, match="--subgroup Glasses: 0 faces have it and 60 have not"):
        subgroup_metrics(logits, labels, NAMES, **case, group=torch.zeros(60, dtype=torch.int8))
    labels[:9] = 0
    one_sided = subgroup_metrics(logits, labels, NAMES, **case, group=group)
    assert one_sided.values["mean_ap_with_it"] is None
    assert [row.gap("ap") for row in one_sided.rows] == [None] * 3
    assert "no attribute is known both present and absent in both groups" in "\n".join(one_sided.describe())
    json.dumps(one_sided.as_json(), allow_nan=False)


def test_photos_that_count_several_times_are_as_so_many_photos():
    """Also with equal logits, unknown labels, and an attribute that some resamples show in one value alone."""
    logits, labels = random_case(60)
    logits = (logits * 3).round() / 3
    labels[:, 2] = 0
    labels[:3, 2] = 1
    measure = mean_ap_measure(logits, labels)
    generator, numbers = torch.Generator().manual_seed(9), set()
    for _ in range(20):
        drawn = torch.randint(60, (60,), generator=generator)
        expected = measured(logits[drawn], labels[drawn]).values
        times = torch.bincount(drawn, minlength=60).double().numpy()[None]
        assert measure(times)["mean_ap"][0] == pytest.approx(expected["mean_ap"], abs=1e-6)
        numbers.add(expected["num_measured"])
    assert numbers == {2, 3}
    assert math.isnan(mean_ap_measure(logits, torch.full_like(labels, -1))(times)["mean_ap"][0])


def test_photos_are_predicted_in_their_order(tmp_path):
    root = draw_faces(tmp_path / "faces", each=7, splits=("val",))
    tagger = Tagger.load(save_tagger(tmp_path / "best"), device=torch.device("cpu"))
    paths = sorted((root / "images").iterdir())
    logits = predict_photos(tagger, paths, name="val", batch_size=3, num_workers=0, progress=False)
    assert logits.shape == (7, len(ATTRIBUTES))
    for row, crop in zip(logits, crops_of(root, "val"), strict=True):
        alone = tagger.logits(torch.from_numpy(crop).permute(2, 0, 1)[None])[0]
        torch.testing.assert_close(row, alone, atol=1e-3, rtol=1e-3)
    with torch.no_grad():
        tagger.network.classifier.bias.fill_(math.inf)
    with pytest.raises(ValueError, match=r"not finite for 7 of 7 photos, first .*val 00\.png"):
        predict_photos(tagger, paths, name="val", batch_size=3, num_workers=0)
