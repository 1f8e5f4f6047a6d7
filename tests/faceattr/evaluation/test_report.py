import dataclasses
import re
from pathlib import Path

import pytest
import torch

from apps.faceattr.data.load import AttributeSplit, load_split
from apps.faceattr.evaluation.calibration import Decisions
from apps.faceattr.evaluation.metrics import Agreement, attribute_metrics
from apps.faceattr.evaluation.report import Evaluation, precision_figure, reliability, reliability_figure, write_report
from apps.faceattr.evaluation.subgroups import subgroup_metrics
from apps.faceattr.model.tagger import Tagger
from tests.faceattr.blob_faces import ATTRIBUTES, draw_faces, save_tagger


@pytest.fixture(scope="module")
def tagger(tmp_path_factory) -> Tagger:
    return Tagger.load(save_tagger(tmp_path_factory.mktemp("report") / "best"), device=torch.device("cpu"))


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> AttributeSplit:
    return load_split([draw_faces(tmp_path_factory.mktemp("report") / "my faces", each=24)], "val")


def make_evaluation(tagger: Tagger, split: AttributeSplit, logits: torch.Tensor) -> Evaluation:
    labels = torch.from_numpy(split.labels)
    probs = logits.double().sigmoid()
    metrics = attribute_metrics(logits, labels, ATTRIBUTES, probs=probs, present=probs >= 0.5)
    costs = {"mean_ece_uncalibrated": 0.25, "mult_adds": 1234567.0, "params": 765.0}
    return Evaluation(
        model="run/best",
        tagger=tagger,
        split=split,
        logits=logits,
        labels=labels,
        decisions=Decisions(probs, probs >= 0.5, "by nothing"),
        metrics=metrics,
        uncalibrated=[0.5, None, 0.25, 0.125],
        values={**metrics.values, **costs},
        undecided=[],
        teacher="",
        agreement=[],
        subgroups=None,
    )


def right(split: AttributeSplit) -> torch.Tensor:
    """Logits that tell everything rightly."""
    return 4.0 * torch.from_numpy(split.labels).float() - 2


def written(evaluation: Evaluation, tmp_path: Path) -> str:
    write_report(tmp_path / "report.html", evaluation)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "nan" not in re.sub(r'base64,[^"]+', "", text).lower()
    return text


def test_the_page_shows_the_most_wrong_faces_surest_first(tagger, split, tmp_path):
    logits = right(split)
    hats = [i for i in range(24) if split.labels[i, 0] == 1][:2]
    bare = next(i for i in range(24) if split.labels[i, 0] == 0)
    logits[hats[0], 0], logits[hats[1], 0], logits[bare, 0] = -1.0, -3.0, 2.0
    text = written(make_evaluation(tagger, split, logits), tmp_path)
    captions = re.findall("<figcaption>(.*?)</figcaption>", text)
    known = int((split.labels[:, 0] >= 0).sum())
    assert captions[-1] == (
        f"Hat: 3 of {known} wrong: {split.paths[hats[1]].name} has it, 0.05; {split.paths[bare].name} has not, 0.88; "
        f"{split.paths[hats[0]].name} has it, 0.27"
    )
    assert not any(caption.startswith("Male") for caption in captions)
    assert "1,234,567" in text and "a025 at 48 pixels, one face" in text


def test_attributes_come_worst_first_and_rare_ones_are_marked(tagger, split, tmp_path):
    logits = right(split)
    logits[:, 2] *= -1
    labels = split.labels.copy()
    labels[:, 3] = -1
    labels[:, 1][labels[:, 1] == 1] = -1
    text = written(make_evaluation(tagger, dataclasses.replace(split, labels=labels), logits), tmp_path)
    table = text.split("Every attribute, worst first")[1].split("</table>")[0]
    assert re.findall(r"<tr><td>(.*?)</td>", table) == ["Smïling *", "Hat", "Eye glasses, dark *", "Male *"]
    assert "fewer than 10 photos with or without it" in table
    assert "labels have only one of the two values: Eye glasses, dark, Male." in text


def test_groups_and_teacher_have_their_tables(tagger, split, tmp_path):
    logits = right(split)
    plain = make_evaluation(tagger, split, logits)
    groups = subgroup_metrics(
        logits,
        plain.labels,
        ATTRIBUTES,
        probs=plain.decisions.probs,
        present=plain.decisions.present,
        by="Male",
        group=plain.labels[:, 3],
    )
    alike = [Agreement("Hat", 0.75, 0.125, 1.0, None)]
    full = dataclasses.replace(plain, subgroups=groups, agreement=alike, teacher="big/best")
    full.values.update(teacher_mean_ap=None, teacher_same=0.75, teacher_difference=0.125)
    text = written(full, tmp_path)
    by_male = text.split("By Male</h2>")[1].split("</table>")[0]
    assert {name.removesuffix(" *") for name in re.findall(r"<tr><td>(.*?)</td>", by_male)} == set(ATTRIBUTES[:3])
    assert "The teacher is big/best." in text
    assert "All known attributes are predicted correctly." in text
    bare = written(plain, tmp_path)
    assert "By Male" not in bare and "teacher" not in bare


def test_bars_are_the_average_precisions_and_marks_the_share_present(tagger, split):
    logits = right(split)
    logits[:, 0] *= -1
    metrics = make_evaluation(tagger, split, logits).metrics
    axes = precision_figure(metrics).axes[0]
    by_name = {one.name: one for one in metrics.per_attribute}
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names[0] == "Hat" and set(names) == set(ATTRIBUTES)
    assert [bar.get_width() for bar in axes.patches] == [by_name[name].ap for name in names]
    shares = [by_name[name].positive / by_name[name].known for name in names]
    assert axes.lines[0].get_xdata().tolist() == pytest.approx(shares)


def test_the_diagram_has_bins_of_known_labels(tagger, split):
    probs = torch.tensor([[0.01, 0.52], [0.04, 0.52], [1.0, 0.9]])
    labels = torch.tensor([[0, 1], [1, 0], [1, -1]])
    expected = [(2, 0.025, 0.5), (2, 0.52, 0.5), (1, 1.0, 1.0)]
    assert [pytest.approx(one, abs=1e-6) for one in expected] == reliability(probs, labels)
    figure = reliability_figure(make_evaluation(tagger, split, right(split)))
    assert [axes.get_title() for axes in figure.axes] == ["temperature 1", "after"]


def test_labels_without_any_use_still_make_a_page(tagger, split, tmp_path):
    labels = split.labels.copy()
    labels[labels == 1] = 0
    text = written(make_evaluation(tagger, dataclasses.replace(split, labels=labels), right(split)), tmp_path)
    assert "Not averaged" in text
    assert "chance level.</figcaption>" not in text
