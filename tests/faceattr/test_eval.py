import csv
import json
from pathlib import Path

import pytest
import torch

from apps.common.cli import run_command
from apps.common.images import stack_images
from apps.faceattr import eval as eval_script
from apps.faceattr.data.load import load_split
from apps.faceattr.eval import Config, evaluate
from apps.faceattr.evaluation.calibration import calibrate, cross_validate
from apps.faceattr.evaluation.metrics import attribute_metrics
from apps.faceattr.model.tagger import Tagger
from backbone.cost import backbone_cost
from tests.faceattr.blob_faces import ATTRIBUTES, SIDE, crops_of, draw_faces, save_tagger


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return draw_faces(tmp_path_factory.mktemp("eval") / "my faces", each=48)


@pytest.fixture
def run(tmp_path) -> Path:
    save_tagger(tmp_path / "a run" / "best")
    return tmp_path / "a run"


def config(run: Path, data: Path, **changes) -> Config:
    return Config(**{"checkpoint": run, "data": (str(data),), "num_workers": 0, "device": "cpu", **changes})


def logits_of(run: Path, data: Path, split: str) -> torch.Tensor:
    return Tagger.load(run, device=torch.device("cpu")).logits(stack_images(crops_of(data, split)))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_numbers_and_files_of_an_evaluation(run, data, capsys):
    values = evaluate(config(run, data, split="test"))
    logits, split = logits_of(run, data, "test"), load_split([data], "test")
    labels, probs = torch.from_numpy(split.labels), logits.double().sigmoid()
    expected = attribute_metrics(logits, labels, ATTRIBUTES, probs=probs, present=probs >= 0.5)
    assert values["mean_ap"] == pytest.approx(expected.values["mean_ap"], abs=0.01)
    assert 0.7 < values["mean_ap"] <= 1  # the network sees most of it
    assert values["mult_adds"] == backbone_cost("a025", SIDE, num_classes=4).mult_adds
    assert values["params"] == backbone_cost("a025", SIDE, num_classes=4).params

    content = json.loads((run / "eval-test/metrics.json").read_text(encoding="utf-8"))
    assert content["mean_ap"] == values["mean_ap"]
    assert [one["name"] for one in content["per_attribute"]] == ATTRIBUTES
    assert [one["known"] for one in content["per_attribute"]] == split.known.tolist()
    assert (content["split"], content["subgroups"], content["teacher"]) == ("test", None, None)

    rows = rows_of(run / "eval-test/predictions.csv")
    assert [row["file"] for row in rows] == [str(path) for path in split.paths]
    for a, name in enumerate(ATTRIBUTES):
        assert [row[name] for row in rows] == ["" if v < 0 else str(v) for v in split.labels[:, a].tolist()]
        assert [float(row[f"{name} prob"]) for row in rows] == pytest.approx(probs[:, a].tolist(), abs=2e-3)
        assert all((float(row[f"{name} prob"]) >= 0.5) == (row[f"{name} said"] == "1") for row in rows)
    said = capsys.readouterr().out
    assert "not calibrated" in said and f"{values['mean_ap']:.3f}" in said
    assert "Most wrong" in (run / "eval-test/report.html").read_text(encoding="utf-8")


def test_calibration_is_fitted_on_val_judged_by_halves_and_kept(run, data, capsys):
    before = evaluate(config(run, data, split="test"))
    logits, split = logits_of(run, data, "val"), load_split([data], "val")
    labels = torch.from_numpy(split.labels)
    values = evaluate(config(run, data, calibrate=True))
    tagger = Tagger.load(run, device=torch.device("cpu"))
    fitted = calibrate(logits, labels, ATTRIBUTES)
    assert tagger.temperatures == pytest.approx(fitted.temperatures, rel=0.01)
    assert tagger.thresholds == pytest.approx(fitted.thresholds, abs=0.01)
    assert tagger.thresholds != [0.5] * 4
    decisions = cross_validate(logits, labels, ATTRIBUTES, split.identities)
    expected = attribute_metrics(logits, labels, ATTRIBUTES, probs=decisions.probs, present=decisions.present)
    assert values["mean_balanced_accuracy"] == pytest.approx(expected.values["mean_balanced_accuracy"], abs=0.02)
    assert values["mean_ece"] == pytest.approx(expected.values["mean_ece"], abs=0.01)
    assert "each half of val" in capsys.readouterr().out

    after = evaluate(config(run, data, split="test"))
    assert after["mean_ap"] == pytest.approx(before["mean_ap"], abs=1e-9)  # order is order
    assert after["mean_ece_uncalibrated"] == pytest.approx(before["mean_ece"], abs=1e-9)
    told = tagger.calibrated(logits_of(run, data, "test")) >= torch.tensor(tagger.thresholds)
    rows = rows_of(run / "eval-test/predictions.csv")
    for a, name in enumerate(ATTRIBUTES):
        assert [row[f"{name} said"] == "1" for row in rows] == told[:, a].tolist()
    assert "from val" in capsys.readouterr().out


def test_groups_may_be_of_an_attribute_that_the_network_does_not_know(tmp_path, data, capsys):
    run = save_tagger(tmp_path / "run/best", attributes=ATTRIBUTES[:3])
    out = tmp_path / "out of it"
    evaluate(config(run, data, split="test", subgroup="male", out=out))
    groups = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["subgroups"]
    column = load_split([data], "test").labels[:, 3]
    assert groups["num_with_it"] == (column == 1).sum()
    assert groups["num_without"] == (column == 0).sum()
    assert groups["num_unknown"] == (column == -1).sum() > 0
    assert [row["name"] for row in groups["rows"]] == ATTRIBUTES[:3]
    assert f"by male: {groups['num_with_it']} faces have it" in capsys.readouterr().out
    assert "By male" in (out / "report.html").read_text(encoding="utf-8")


def test_groups_of_an_own_attribute_leave_it_out(run, data, tmp_path):
    evaluate(config(run, data, split="test", subgroup="Male", out=tmp_path))
    groups = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))["subgroups"]
    assert [row["name"] for row in groups["rows"]] == ATTRIBUTES[:3]


def test_a_network_is_its_own_best_student(run, data, tmp_path):
    values = evaluate(config(run, data, split="test", teacher=run, out=tmp_path / "same"))
    assert (values["teacher_same"], values["teacher_difference"]) == (1, 0)
    assert values["teacher_mean_ap"] == values["mean_ap"]
    teacher = save_tagger(tmp_path / "teacher", seed=1, attributes=[ATTRIBUTES[2], ATTRIBUTES[0]])
    values = evaluate(config(run, data, split="test", teacher=teacher, out=tmp_path / "other"))
    content = json.loads((tmp_path / "other/metrics.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in content["agreement"]] == [ATTRIBUTES[0], ATTRIBUTES[2]]
    mine, theirs = logits_of(run, data, "test")[:, [0, 2]], logits_of(teacher, data, "test")[:, [1, 0]]
    same = ((mine >= 0) == (theirs >= 0)).double().mean().item()
    assert values["teacher_same"] == pytest.approx(same, abs=0.011) and same < 1
    difference = (mine.sigmoid() - theirs.sigmoid()).abs().mean().item()
    assert values["teacher_difference"] == pytest.approx(difference, abs=1e-3)


def test_attributes_without_labels_here_are_named(tmp_path, data, run, capsys):
    text = (data / "attributes.csv").read_text(encoding="utf-8")
    other = tmp_path / "renamed"
    other.mkdir()
    (other / "images").symlink_to(data / "images")
    (other / "attributes.csv").write_text(text.replace("Male", "Tall"), encoding="utf-8")
    values = evaluate(config(run, other, split="test"))
    assert values["num_measured"] == 3
    assert "not in the mean, since not known both present and absent: Male" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"split": "test", "calibrate": True}, "--calibrate needs --split val, got test"),
        ({"batch_size": 0}, "--batch-size must be 1 or more, got 0"),
        ({"subgroup": "Tall"}, "Tall"),
        ({"split": "holiday"}, "no split 'holiday'"),
        ({"checkpoint": Path("nowhere")}, "nowhere does not exist"),
        ({"teacher": Path("nowhere")}, "nowhere does not exist"),
    ],
)
def test_wrong_flags_are_refused(run, data, flags, message):
    with pytest.raises(ValueError, match=message):
        evaluate(config(run, data, **flags))


def test_a_teacher_of_other_attributes_is_refused(tmp_path, data):
    run = save_tagger(tmp_path / "run/best", attributes=ATTRIBUTES[:1])
    teacher = save_tagger(tmp_path / "teacher", attributes=ATTRIBUTES[1:])
    with pytest.raises(ValueError, match="--teacher knows none of the attributes Hat"):
        evaluate(config(run, data, teacher=teacher))


def test_the_command_takes_its_flags_and_the_sample_set(run, data, tmp_path, monkeypatch):
    monkeypatch.setattr(eval_script, "make_sample", lambda: data)
    args = ["--checkpoint", str(run), "--out", str(tmp_path / "here"), "--num-workers", "0", "--subgroup", "Hat"]
    run_command(evaluate, Config, args)
    content = json.loads((tmp_path / "here/metrics.json").read_text(encoding="utf-8"))
    assert (content["split"], content["num_photos"], content["subgroups"]["by"]) == ("val", 48, "Hat")


def test_compare_with_another_run(run, data, tmp_path, capsys, monkeypatch):
    """With itself nothing differs; with one that predicts nothing at all, each face won or lost is counted."""
    monkeypatch.setattr(eval_script, "write_report", lambda *args: None)
    evaluate(config(run, data, compare=run, out=tmp_path / "same"))
    compared = json.loads((tmp_path / "same/metrics.json").read_text())["compare"]
    assert compared["difference"]["mean_ap"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert (compared["won"], compared["lost"]) == (0, 0)
    other = Tagger.load(run, device=torch.device("cpu"))
    with torch.no_grad():
        other.network.classifier.weight.zero_()
        other.network.classifier.bias.fill_(-9)
    other.save(tmp_path / "other", metrics={})
    values = evaluate(config(run, data, compare=tmp_path / "other", out=tmp_path / "out"))
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    rows, gains = rows_of(tmp_path / "out/predictions.csv"), []
    for row in rows:
        known = [name for name in ATTRIBUTES if row[name]]
        gains.append(sum(row[name] == row[f"{name} said"] for name in known) - sum(row[name] == "0" for name in known))
    assert written["compare"]["won"] == sum(gain > 0 for gain in gains)
    assert written["compare"]["lost"] == sum(gain < 0 for gain in gains)
    assert written["intervals"]["mean_ap"]["low"] < values["mean_ap"] < written["intervals"]["mean_ap"]["high"]
    page = (tmp_path / "out/compare.html").read_text(encoding="utf-8")
    assert page.count("right here alone") == 2 * (min(12, written["compare"]["won"]) + written["compare"]["lost"])
    assert "difference +" in capsys.readouterr().out
    save_tagger(tmp_path / "fewer", attributes=ATTRIBUTES[:3])
    with pytest.raises(ValueError, match=r"other attributes than the model \(only one of the two knows Male"):
        evaluate(config(run, data, compare=tmp_path / "fewer"))
