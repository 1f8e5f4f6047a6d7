import csv
import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from apps.common.cli import run_command
from apps.finegrained import eval as eval_script
from apps.finegrained.data.load import load_split
from apps.finegrained.eval import Config, evaluate
from apps.finegrained.evaluation.calibration import calibrate, cross_validate
from apps.finegrained.evaluation.metrics import calibration_error
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.model.inference import predict_photos
from tests.finegrained.tiny_fruit import COLOURS, draw_fruit, save_classifier


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Photos in train, val and test, and a run whose classifier was fitted to train."""
    root = tmp_path_factory.mktemp("fruit stall")
    for split, each in (("train", 8), ("val", 12), ("test", 5)):
        draw_fruit(root / "data", split, each=each)
    save_classifier(root / "run" / "best", root / "data" / "train")
    return root


def config(place: Path, **flags) -> Config:
    return Config(
        **{"checkpoint": place / "run", "data": str(place / "data"), "num_workers": 0, "device": "cpu", **flags}
    )


def logits_of(place: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    classifier = Classifier.load(place / "run", device=torch.device("cpu"))
    data = load_split(str(place / "data"), split, class_names=classifier.class_names)
    logits = predict_photos(classifier, data.photos, name="val", batch_size=5, num_workers=0, progress=False)
    return logits, torch.tensor([photo.label for photo in data.photos])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_files_tell_one_story(place, tmp_path, capsys):
    values = evaluate(config(place, out=tmp_path / "out", resolutions=(32, 64), split="test"))
    text = (tmp_path / "out/metrics.json").read_text()
    written = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in metrics.json"))
    assert written["split"] == "test"
    assert {name: written[name] for name in values} == values
    rows = rows_of(tmp_path / "out/predictions.csv")
    assert Counter(row["true"] for row in rows) == dict.fromkeys(COLOURS, 5)
    assert all(Path(row["file"]).parent.name == row["true"] and Path(row["file"]).is_file() for row in rows)
    assert values["top1"] == pytest.approx(sum(row["class1"] == row["true"] for row in rows) / 15)
    assert values["top1"] > 0.4  # of three classes
    for row in rows:
        probs = [float(row[f"prob{i}"]) for i in (1, 2, 3)]
        assert probs == sorted(probs, reverse=True)
        assert sum(probs) == pytest.approx(1, abs=1e-5)
    confusion = rows_of(tmp_path / "out/confusion.csv")
    counted = Counter((row["true"], row["class1"]) for row in rows)
    for line in confusion:
        name = line.pop("true \\ predicted")
        assert {key: int(count) for key, count in line.items()} == {p: counted[name, p] for p in COLOURS}
    assert list(written["by_resolution"]) == ["32", "64"]
    assert written["by_resolution"]["64"]["top1"] == values["top1"]
    assert (tmp_path / "out/report.html").stat().st_size > 10_000
    said = capsys.readouterr().out
    assert f"top-1 {values['top1']:.3f}" in said
    assert str(tmp_path / "out") in said


def test_calibration_is_fitted_on_val_and_kept_in_the_checkpoint(place, capsys):
    logits, labels = logits_of(place, "val")
    before = evaluate(config(place, split="test"))
    assert before["ece_calibrated"] is None
    assert "not calibrated" in capsys.readouterr().out
    assert {row["none_of_these"] for row in rows_of(place / "run/eval-test/predictions.csv")} == {""}

    values = evaluate(config(place, calibrate=True))
    fitted = calibrate(logits, labels)
    model = Classifier.load(place / "run", device=torch.device("cpu"))
    assert (model.temperature, model.unknown_threshold) == pytest.approx(fitted, rel=1e-4)
    assert values["temperature"] == model.temperature
    assert values["ece_calibrated"] == pytest.approx(
        calibration_error(cross_validate(logits, labels).scaled, labels), abs=1e-3
    )
    assert "each half of val" in capsys.readouterr().out
    assert not list((place / "run/best").glob(".*"))

    after = evaluate(config(place, split="test"))
    logits, labels = logits_of(place, "test")
    assert after["top1"] == before["top1"]
    assert after["ece_calibrated"] == pytest.approx(calibration_error(logits / model.temperature, labels), abs=1e-3)
    rows = rows_of(place / "run/eval-test/predictions.csv")
    top = (logits.double() / model.temperature).softmax(1).max(1).values.tolist()
    assert [float(row["prob1"]) for row in rows] == pytest.approx(top, abs=1e-3)
    assert {row["none_of_these"] for row in rows} <= {"yes", "no"}
    kept = sum(row["none_of_these"] == "no" for row in rows) / len(rows)
    assert after["known_kept"] == pytest.approx(kept)


def test_unknown_photos_are_compared_with_the_known_ones(place, tmp_path):
    evaluate(config(place, split="test", unknown=place / "data/val", out=tmp_path))
    unknown = json.loads((tmp_path / "metrics.json").read_text())["unknown"]
    assert unknown["num_unknown"] == 36  # in folders within the folder
    assert 0.2 < unknown["auroc"] < 0.8  # they are of the same kind
    assert "unknown" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"split": "test", "calibrate": True}, "--calibrate needs --split val, got test"),
        ({"resolutions": (64, 16)}, "--resolutions must be 32 pixels or more, got 16"),
        ({"batch_size": 0}, "--batch-size must be 1 or more, got 0"),
        ({"split": "holiday"}, "no split 'holiday'"),
        ({"unknown": Path("nowhere")}, "nowhere"),
        ({"checkpoint": Path("nowhere")}, "nowhere does not exist"),
    ],
)
def test_wrong_flags_are_refused(place, flags, message):
    with pytest.raises(ValueError, match=message):
        evaluate(config(place, **flags))


def test_the_command_takes_its_flags_and_the_sample_set(place, tmp_path, monkeypatch):
    monkeypatch.setattr(eval_script, "make_sample", lambda: place / "data")
    args = [
        "--checkpoint",
        str(place / "run"),
        "--resolutions",
        "32",
        "48",
        "--out",
        str(tmp_path),
        "--num-workers",
        "0",
    ]
    run_command(evaluate, Config, args)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert (written["split"], written["num_photos"], list(written["by_resolution"])) == ("val", 36, ["32", "48", "64"])


def test_compare_with_another_run(place, tmp_path, capsys, monkeypatch):
    """With itself nothing differs; with a classifier that always takes the first class, the photos of it are lost."""
    monkeypatch.setattr(eval_script, "write_report", lambda *args: None)
    evaluate(config(place, out=tmp_path / "same", compare=place / "run"))
    compared = json.loads((tmp_path / "same/metrics.json").read_text())["compare"]
    assert compared["difference"]["top1"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert (compared["won"], compared["lost"]) == (0, 0)
    one_class = Classifier.load(place / "run", device=torch.device("cpu"))
    with torch.no_grad():
        one_class.network.classifier.bias[0] += 1e4
    one_class.save(tmp_path / "other", metrics={})
    capsys.readouterr()
    values = evaluate(config(place, out=tmp_path / "out", compare=tmp_path / "other"))
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    compared = written["compare"]
    rows = rows_of(tmp_path / "out/predictions.csv")
    first = [row["true"] == next(iter(COLOURS)) for row in rows]
    right = [row["class1"] == row["true"] for row in rows]
    assert compared["won"] == sum(r and not f for r, f in zip(right, first, strict=True))
    assert compared["lost"] == sum(f and not r for r, f in zip(right, first, strict=True))
    assert compared["difference"]["top1"]["value"] == pytest.approx(values["top1"] - 1 / 3)
    assert written["intervals"]["top1"]["low"] < values["top1"] < written["intervals"]["top1"]["high"]
    page = (tmp_path / "out/compare.html").read_text(encoding="utf-8")
    assert page.count("<img") == min(12, compared["won"]) + min(12, compared["lost"])
    said = capsys.readouterr().out
    assert f"of {tmp_path / 'other'}: difference +" in said and "most likely lies somewhere in" in said
    assert said.endswith(f"predictions.csv, compare.html and report.html are in {tmp_path / 'out'}\n")


def test_compare_needs_the_same_classes(place, tmp_path, capsys):
    other = Classifier.load(place / "run", device=torch.device("cpu"))
    other.class_names = ["pear", *other.class_names[1:]]
    other.save(tmp_path / "other", metrics={})
    for folder, said in ((tmp_path / "other", "only one of the two knows aki, pear"), (tmp_path / "no", "not exist")):
        with pytest.raises(SystemExit) as stop:
            run_command(evaluate, Config, ["--checkpoint", str(place / "run"), "--compare", str(folder)])
        assert stop.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
