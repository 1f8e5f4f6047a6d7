"""The command that measures a detector: its files and what it says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from apps.common.cli import run_command
from apps.detection import eval as eval_script
from apps.detection.boxes.postprocess import PostProcess
from apps.detection.data.load import load_split
from apps.detection.eval import Config, default_out, evaluate
from apps.detection.evaluation.errors import ORACLES
from apps.detection.evaluation.metrics import METRIC_NAMES, coco_metrics
from apps.detection.model.create import create_detector
from apps.detection.model.detector import Detector


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """A detector that has learnt nothing, in a folder whose name has a space."""
    folder = tmp_path / "a run" / "best"
    network = create_detector("a010", num_classes=2, resolution=64, head="ssd").eval()
    names, ids = ["red", "blue"], [3, 7]
    detector = Detector(
        network=network, backbone="a010", class_names=names, category_ids=ids, postprocess=PostProcess("sigmoid")
    )
    detector.save(folder, metrics={})
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} in {path.name}"))


def evaluated(checkpoint: Path, data: Path, monkeypatch, found: list[dict] | None = None) -> dict[str, float]:
    """An evaluation, of these detections if some are given."""
    if found is not None:
        monkeypatch.setattr(eval_script, "predict_split", lambda *args, **options: found)
    return evaluate(Config(checkpoint=checkpoint, data=str(data), num_workers=0, device="cpu"))


def perfect(data: Path) -> list[dict]:
    annotations = load_split(data, "val").ground_truth["annotations"]
    return [{**{k: a[k] for k in ("image_id", "category_id", "bbox")}, "score": 0.75} for a in annotations]


def test_more_objects_than_coco_counts_are_told(checkpoint, tiny_coco, monkeypatch, capsys):
    path = tiny_coco / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    first = content["annotations"][0]
    content["annotations"] += [{**first, "id": 1000 + i, "bbox": [i / 2, 0, 8, 8]} for i in range(101)]
    path.write_text(json.dumps(content))
    assert evaluated(checkpoint, tiny_coco, monkeypatch, perfect(tiny_coco))["AP"] < 1
    assert "1 photos of val have more than 100 objects, up to 10" in capsys.readouterr().out


def test_the_files_tell_one_story(checkpoint, tiny_coco, monkeypatch, capsys):
    found = perfect(tiny_coco)
    found[0] = {**found[0], "category_id": 10 - found[0]["category_id"]}  # red for blue or blue for red
    values = evaluated(checkpoint, tiny_coco, monkeypatch, found)
    out = checkpoint.parent / "eval-val"
    assert sorted(path.name for path in out.iterdir()) == ["metrics.json", "predictions.json", "report.html"]
    assert read(out / "predictions.json") == found
    written = read(out / "metrics.json")
    metrics = coco_metrics(load_split(tiny_coco, "val"), found)
    assert list(values.items()) == list(metrics.values.items()) == [(name, written[name]) for name in METRIC_NAMES]
    assert written["errors"].keys() == set(ORACLES)
    assert written["errors"]["classification"]["count"] == 1
    assert written["errors"]["classification"]["ap50_gain"] == pytest.approx(1 - values["AP50"])
    assert written["best_threshold"]["threshold"] == 0.75
    assert written["best_threshold"]["recall"] == pytest.approx(1 - 1 / len(found))
    assert [one["name"] for one in written["per_class"]] == ["red", "blue"]
    assert [one["name"] for one in written["per_size"]] == ["small", "medium", "large"]
    assert written["per_size"][2]["ap"] is None
    (mixed,) = written["confusion"]
    assert {mixed["true"], mixed["predicted"]} == {"red", "blue"}
    printed = capsys.readouterr().out
    assert metrics.text in printed
    assert f"{mixed['true']} taken for {mixed['predicted']}: 1" in printed
    assert f"would add: classification {1 - values['AP50']:.3f}" in printed
    assert f"best threshold 0.750: precision {1 - 1 / len(found):.3f}" in printed
    assert printed.endswith(f"metrics.json, predictions.json and report.html are in {out}\n")


def test_the_files_are_in_the_run_whether_it_or_its_best_is_given(tiny_coco, tmp_path):
    (tmp_path / "run/best").mkdir(parents=True)
    (tmp_path / "run/best/model.json").write_text("{}")
    for given in ("run", "run/best"):
        config = Config(checkpoint=tmp_path / given, data=str(tiny_coco))
        assert default_out(config) == tmp_path / "run/eval-val"


def test_calibrate_writes_the_threshold_of_best_f1(checkpoint, tiny_coco, monkeypatch, capsys):
    """Half of the objects are found at 0.9, the others at 0.6, and as many detections at 0.3 are of nothing."""
    found = perfect(tiny_coco)
    for i, one in enumerate(found):
        one["score"] = (0.9, 0.6)[i % 2]
    nothing = [{**one, "bbox": [0, 0, 1, 1], "score": 0.3} for one in found]
    before = read(checkpoint / "model.json")
    flags = {"checkpoint": checkpoint, "data": str(tiny_coco), "num_workers": 0, "device": "cpu"}
    monkeypatch.setattr(eval_script, "predict_split", lambda *args, **options: [*found, *nothing])
    evaluate(Config(**flags))
    assert read(checkpoint / "model.json") == before
    evaluate(Config(**flags, calibrate=True))
    assert read(checkpoint / "model.json") == {**before, "threshold": pytest.approx(0.6, abs=1e-5)}
    threshold = Detector.load(checkpoint, device=torch.device("cpu")).threshold
    assert threshold is not None and threshold < 0.6  # scores must be above it
    assert f"{checkpoint} now has the threshold 0.600" in capsys.readouterr().out
    monkeypatch.setattr(eval_script, "predict_split", lambda *args, **options: nothing)
    with pytest.raises(ValueError, match="--calibrate: no detection is right, so no threshold is best"):
        evaluate(Config(**flags, calibrate=True))
    assert read(checkpoint / "model.json")["threshold"] == threshold
    with pytest.raises(ValueError, match="--calibrate writes into a --checkpoint"):
        evaluate(Config(weights="coco", data=str(tiny_coco), calibrate=True))


def test_a_detector_that_has_learnt_nothing(checkpoint, tiny_coco, monkeypatch):
    values = evaluated(checkpoint, tiny_coco, monkeypatch)
    out = checkpoint.parent / "eval-val"
    assert len(read(out / "predictions.json")) > 0
    assert read(out / "metrics.json")["AP"] == values["AP"] < 0.5


def test_nothing_found_and_nothing_to_find(checkpoint, tiny_coco, monkeypatch, capsys):
    assert evaluated(checkpoint, tiny_coco, monkeypatch, [])["AP"] == 0
    printed = capsys.readouterr().out
    assert "no detection is right: no threshold can be recommended" in printed
    assert "would add: missed 1.000" in printed
    written = read(checkpoint.parent / "eval-val/metrics.json")
    assert written["best_threshold"] == {"threshold": None, "precision": None, "recall": 0.0, "f1": 0.0}
    path = tiny_coco / "annotations/instances_val.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": []}))
    assert evaluated(checkpoint, tiny_coco, monkeypatch, [])["AP"] == -1
    assert "the split has no objects: there is nothing to find" in capsys.readouterr().out
    errors = read(checkpoint.parent / "eval-val/metrics.json")["errors"]
    assert {error["ap50_gain"] for error in errors.values()} == {None}


def test_a_mistake_is_one_line(checkpoint, tiny_coco, capsys):
    with pytest.raises(SystemExit) as stop:
        run_command(evaluate, Config, ["--checkpoint", str(checkpoint), "--weights", "coco"])
    assert stop.value.code == 2
    assert "give --checkpoint RUN/best, or --weights coco" in capsys.readouterr().err


def test_compare_with_another_run(checkpoint, tiny_coco, monkeypatch, capsys):
    """With itself nothing differs; with one that finds nothing, each photo with an object is won."""
    data, flags = load_split(tiny_coco, "val"), {"data": str(tiny_coco), "num_workers": 0, "device": "cpu"}
    evaluate(Config(checkpoint=checkpoint, compare=checkpoint, **flags))
    compared = read(checkpoint.parent / "eval-val/metrics.json")["compare"]
    assert compared["difference"]["AP"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert (compared["won"], compared["lost"]) == (0, 0)
    found = iter([perfect(tiny_coco), []])
    monkeypatch.setattr(eval_script, "predict_split", lambda *args, **options: next(found))
    capsys.readouterr()
    evaluate(Config(checkpoint=checkpoint, compare=checkpoint, **flags))
    out = checkpoint.parent / "eval-val"
    compared = read(out / "metrics.json")["compare"]
    assert (compared["won"], compared["lost"]) == (len(data.records), 0)
    assert compared["difference"]["AP50"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    page = (out / "compare.html").read_text(encoding="utf-8")
    most = max(len(record.labels) for record in data.records)
    assert f"0 mistakes against {most}:" in page and page.count("<img") == len(data.records)
    printed = capsys.readouterr().out
    assert "AP 1.000 against 0.000 of" in printed and "No spread shows among so few photos" in printed
    assert "predictions.json, compare.html and report.html are in" in printed
