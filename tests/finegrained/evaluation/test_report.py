import dataclasses
import re
from pathlib import Path

import pytest
import torch

from apps.finegrained.data.load import LabelledSplit, Photo
from apps.finegrained.evaluation.metrics import classification_metrics
from apps.finegrained.evaluation.report import Evaluation, reliability_figure, write_report
from apps.finegrained.model.classifier import Classifier
from backbone.mobilenet_v1 import create_backbone
from tests.finegrained.tiny_fruit import COLOURS, draw_fruit, save_classifier


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory) -> Evaluation:
    """Nine photos of three fruits: two "aki" are taken for "bol, sour", one "bol, sour" for "céru"."""
    root = tmp_path_factory.mktemp("report")
    draw_fruit(root, "val", each=3)
    save_classifier(root / "best", root / "val")
    names = list(COLOURS)
    photos = [Photo(p, k) for k, name in enumerate(names) for p in sorted((root / "val" / name).iterdir())]
    predicted = [0, 1, 1, 1, 1, 2, 2, 2, 2]
    logits = torch.zeros(9, 3)
    logits[torch.arange(9), torch.tensor(predicted)] = torch.arange(2, 11).float()
    return make_evaluation(Classifier.load(root / "best", device=torch.device("cpu")), names, photos, logits)


def make_evaluation(classifier: Classifier, names: list[str], photos: list[Photo], logits: torch.Tensor) -> Evaluation:
    split = LabelledSplit(name="val", class_names=names, photos=photos, skipped=[])
    labels = torch.tensor([photo.label for photo in photos])
    metrics = classification_metrics(logits, labels, names)
    return Evaluation(
        model="run/best",
        classifier=classifier,
        split=split,
        logits=logits,
        labels=labels,
        scaled=logits / 2,
        calibrated_by="a temperature of 2",
        metrics=metrics,
        values={**metrics.values, "loss_calibrated": 0.5, "ece_calibrated": 0.25, "known_kept": None},
        by_resolution={64: {"top1": 0.5, "top5": 1.0}, 96: {"top1": 0.75, "top5": 1.0}},
        unknown={"num_unknown": 4, "auroc": 0.875, "fpr_at_95_tpr": 0.125},
    )


def written(evaluation: Evaluation, tmp_path: Path) -> str:
    write_report(tmp_path / "report.html", evaluation)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_shows_what_went_wrong(evaluation, tmp_path):
    text = written(evaluation, tmp_path)
    captions = re.findall("<figcaption>(.*?)</figcaption>", text)
    assert [c for c in captions if re.match(r"taken for", c)] == [
        "taken for céru (0.94), is bol, sour (0.03): 2.png",  # exp(7 / 2) against 1 and 1
        "taken for bol, sour (0.79), is aki (0.11): 2.png",
        "taken for bol, sour (0.69), is aki (0.15): 1.png",
    ]
    assert "aki taken for bol, sour: 2 photos, 67% of aki" in captions
    assert "bol, sour taken for céru: 1 photo, 33% of bol, sour" in captions
    assert "3 of 9 photos are wrong" in text
    assert '<td>AUROC, unknown</td><td class="number">0.875</td>' in text
    assert "Accuracy by test resolution" in text
    assert "nan" not in re.sub(r'base64,[^"]+', "", text).lower()


def test_classes_come_worst_first(evaluation, tmp_path):
    table = written(evaluation, tmp_path).split("Every class, worst first")[1]
    order = re.findall(r"<tr><td>(.*?)</td>", table)
    f1 = {"aki": 2 * 1 * (1 / 3) / (1 + 1 / 3), "bol, sour": 2 * 0.5 * (2 / 3) / (0.5 + 2 / 3), "céru": 2 * 0.75 / 1.75}
    assert order == sorted(COLOURS, key=f1.__getitem__)


def test_a_perfect_and_uncalibrated_model_has_a_page_too(evaluation, tmp_path):
    logits = 9.0 * torch.nn.functional.one_hot(evaluation.labels, 3)
    perfect = make_evaluation(evaluation.classifier, list(COLOURS), evaluation.split.photos, logits)
    perfect.values.update(ece_calibrated=None, loss_calibrated=None)
    text = written(dataclasses.replace(perfect, scaled=None, by_resolution={64: {}}, unknown={}), tmp_path)
    assert "All photos are classified correctly." in text
    assert "Most confused classes" not in text
    assert "test resolution" not in text
    assert "AUROC" not in text
    assert "the checkpoint is not calibrated" in text


def test_two_hundred_classes_are_shown_whole_and_the_confused_ones_by_name(evaluation, tmp_path):
    names = [f"fruit ${k:03d}" for k in range(200)]  # a lone dollar must not become mathematics
    photos = [Photo(evaluation.split.photos[k % 9].path, k) for k in range(199)]
    logits = 5.0 * torch.nn.functional.one_hot(torch.arange(199), 200)
    logits[7, 150] = 9
    logits[3, 199] = 9
    network = create_backbone("a025", num_classes=200).eval()
    classifier = dataclasses.replace(evaluation.classifier, network=network, class_names=names)
    text = written(make_evaluation(classifier, names, photos, logits), tmp_path)
    assert "All 200 classes" in text
    assert "The 4 most confused classes" in text
    assert "fruit $003 taken for fruit $199: 1 photo, 100% of fruit $003; val has no photo of fruit $199" in text
    assert "1 of the 200 classes have no photo" in text
    assert len(text) < 3_000_000


def test_the_diagram_draws_both_sides_of_calibration(evaluation):
    figure = reliability_figure(evaluation)
    assert [axes.get_title() for axes in figure.axes] == [
        f"before: error {evaluation.values['ece']:.3f}",
        "after: error 0.250",
    ]
    assert len(reliability_figure(dataclasses.replace(evaluation, scaled=None)).axes) == 1
