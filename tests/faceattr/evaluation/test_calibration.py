import pytest
import torch

from apps.common.evaluation.calibration import MAX_TEMPERATURE
from apps.common.pretrained import TENSORFLOW_STYLE
from apps.faceattr.evaluation.calibration import (
    calibrate,
    choose_threshold,
    cross_validate,
    decide,
    fit_temperature,
    halve,
    is_calibrated,
)
from apps.faceattr.evaluation.metrics import calibration_error
from apps.faceattr.model.tagger import Tagger


def sample(temperature: float, *, number: int = 4000, shift: float = 0.0, seed: int = 0):
    """Labels drawn from sigmoid(z), and logits temperature * z: the temperature that makes them honest is known."""
    generator = torch.Generator().manual_seed(seed)
    honest = 2 * torch.randn(number, generator=generator) + shift
    labels = (torch.rand(number, generator=generator) < honest.sigmoid()).to(torch.int8)
    return honest * temperature, labels


@pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    logits, labels = sample(temperature)
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(temperature, rel=0.08)
    assert calibration_error((logits / fitted).sigmoid(), labels.long()) < 0.03


def test_few_photos_say_little():
    assert fit_temperature(torch.zeros(0), torch.zeros(0)) == 1
    assert 0.4 < fit_temperature(torch.tensor([3.0, -3.0]), torch.tensor([1, 0])) < 1
    assert fit_temperature(torch.full((999,), 1e4), torch.zeros(999)) == pytest.approx(MAX_TEMPERATURE, rel=1e-3)


def macro_f1(present: list[bool], labels: list[int]) -> float:
    total = 0.0
    for value in (1, 0):
        said, true = [p == bool(value) for p in present], [label == value for label in labels]
        total += 2 * sum(s and t for s, t in zip(said, true, strict=True)) / (sum(said) + sum(true))
    return total / 2


@pytest.mark.parametrize("shift", [-3.0, 0.0, 2.5])
def test_no_other_threshold_is_better(shift):
    logits, labels = sample(1.0, number=150, shift=shift, seed=3)
    probs = (logits.sigmoid() * 50).round() / 50  # with ties
    threshold = choose_threshold(probs, labels)

    def quality(limit: float) -> float:
        return macro_f1([p >= limit for p in probs.tolist()], labels.tolist())

    best = max(quality(i / 500 + 1e-4) for i in range(501))
    assert quality(threshold) == pytest.approx(best)
    assert all(abs(p - threshold) > 0.005 for p in probs.tolist())  # half-way between two


def test_it_does_not_say_always_present_of_what_is_common():
    """F1 of "present" alone is highest there for a network that knows nothing."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(2000, generator=generator) < 0.95).to(torch.int8)
    probs = torch.where(labels == 1, 0.6, 0.5) + 0.2 * torch.randn(2000, generator=generator).clamp(-2, 2)
    said = (probs >= choose_threshold(probs, labels)).double().mean()
    assert 0.5 < said < 0.98


def test_among_equally_good_thresholds_it_is_the_nearest_to_a_half():
    labels = (torch.arange(40) % 2).to(torch.int8)
    assert choose_threshold(torch.where(labels == 1, 0.9, 0.3), labels) == pytest.approx(0.6)
    assert choose_threshold(labels.float() * 0.2, labels) == pytest.approx(0.1)
    assert choose_threshold(torch.where(labels == 1, 0.9, 0.3)[:19], labels[:19]) == 0.5  # 9 photos have it


def test_unknown_labels_never_count():
    logits, labels = sample(3.0, number=300)
    unknown = torch.full((200,), -1, dtype=torch.int8)
    both = torch.cat((labels, unknown))[:, None]
    noisy = torch.cat((logits, 1e3 * torch.randn(200)))[:, None]
    together = calibrate(noisy, both, ["Hat"])
    assert together == calibrate(logits[:, None], labels[:, None], ["Hat"])
    assert together.undecided == []
    assert calibrate(noisy[300:], both[300:], ["Hat"]) == ([1.0], [0.5], ["Hat"])


def test_people_are_in_one_half():
    assert halve(["a", None, "a", "b", None, "b", "c", "a"]).tolist() == [
        True,
        False,
        True,
        True,
        False,
        True,
        True,
        True,
    ]
    assert halve([None] * 4).tolist() == [True, False, True, False]
    assert halve(["x"] * 3).tolist() == [True] * 3


def test_each_half_is_judged_by_the_other():
    logits, labels = sample(3.0, number=400, seed=5)
    logits, labels = logits[:, None], labels[:, None]
    people = [str(i // 2) for i in range(400)]
    decisions = cross_validate(logits, labels, ["Hat"], people)
    first = halve(people)
    for fitted, other in ((first, ~first), (~first, first)):
        (temperature,), (threshold,), _ = calibrate(logits[fitted], labels[fitted], ["Hat"])
        probs = (logits[other].double() / temperature).sigmoid()
        torch.testing.assert_close(decisions.probs[other], probs)
        assert (decisions.present[other] == (probs >= threshold)).all()
    other = labels.clone()
    other[first] = 1 - other[first]
    again = cross_validate(logits, other, ["Hat"], people)
    assert (again.probs[first] == decisions.probs[first]).all()
    assert (again.probs[~first] != decisions.probs[~first]).any()


def test_a_tagger_judges_by_what_it_has():
    logits = torch.tensor([[2.0, -2.0], [-1.0, 3.0]])
    network, names = torch.nn.Identity(), ["Hat", "Bald"]
    tagger = Tagger(network=network, backbone="a025", resolution=32, attributes=names, style=TENSORFLOW_STYLE)
    plain = decide(tagger, logits)
    torch.testing.assert_close(plain.probs, logits.double().sigmoid())
    assert plain.present.tolist() == [[True, False], [False, True]]
    assert not is_calibrated(tagger) and "not calibrated" in plain.by
    tagger.temperatures, tagger.thresholds = [2.0, 1.0], [0.75, 0.1]
    calibrated = decide(tagger, logits)
    torch.testing.assert_close(calibrated.probs[:, 0], torch.tensor([1.0, -0.5]).double().sigmoid())
    assert calibrated.present.tolist() == [[False, True], [False, True]]
    assert is_calibrated(tagger) and "from val" in calibrated.by
