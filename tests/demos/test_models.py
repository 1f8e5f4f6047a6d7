"""Which models are offered, the bundled ones, and the example pictures."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torchvision

from apps.common.checkpoint import load_json, load_model
from apps.common.deploy.export import Checks, write_checked
from apps.common.images import read_image
from apps.detection.export import Config as ExportConfig
from apps.detection.export import describe
from apps.detection.model.detector import Detector
from apps.faceattr.predict import Predictor as Describe
from apps.finegrained.predict import Predictor
from demos import detection
from demos.chooser import BUNDLED, EXAMPLES, Models, example_pictures, find_choices, make_models
from demos.detection import DetectionTask
from demos.examples.make import MAX_BYTES as MAX_PICTURE_BYTES
from demos.handlers import Handlers
from demos.models import make as make_script
from demos.models.make import CARD, MAX_BYTES, Config, make
from demos.task import Choice, Settings

APPS = ("detection", "finegrained", "faceattr")


@pytest.fixture
def home(tmp_path, monkeypatch, model_folders) -> Path:
    """A folder with three runs of the detector, "a" newer than "b", "new" unfinished, and a bundled model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("demos.chooser.BUNDLED", tmp_path / "bundled")
    for name, age in {"a": 1000036800, "b": 999950400, "new": 1600000000}.items():  # at noon in Greenwich
        best = tmp_path / "runs" / "detection" / name / "best"
        shutil.copytree(model_folders["detection"], best)
        os.utime(best / "model.json", (age, age))
        if name != "new":
            (best.parent / "metrics.json").write_text("{}")
    shutil.copytree(model_folders["detection"], tmp_path / "bundled" / "detection")
    return tmp_path


def test_a_page_takes_an_exported_file(home, model_folders):
    pytest.importorskip("ai_edge_litert", reason="needs LiteRT: pip install -e '.[tflite]'")
    file = home / "a file.tflite"
    detector, photos = Detector.load(model_folders["detection"], device=torch.device("cpu")), torch.zeros(1, 3, 96, 96)
    about = describe(detector, ExportConfig())
    settings = {"format": "tflite", "resolution": 96, "metadata": about, "max_drop": None}
    write_checked(file, detector.graph(), checks=lambda: Checks(photos.byte()), **settings)
    models = make_models(DetectionTask(), checkpoint=file, runtime="torch")
    assert models.default == "given: a file.tflite"
    with models.use(models.default) as predictor:
        assert "LiteRT" in DetectionTask().computed_by(predictor)
        assert len(predictor(np.zeros((90, 120, 3), np.uint8))) > 3


def test_runs_are_offered_newest_first(home, model_folders):
    labels = [choice.label for choice in find_choices("detection", metric=("AP", "AP"))]
    assert labels == [
        "your run: a, AP 0.50, 2001-09-09",
        "your run: b, AP 0.50, 2001-09-08",
        "bundled: drawings",
        "unfinished: new, AP 0.50, 2020-09-13",
    ]
    assert make_models(DetectionTask(), checkpoint=Path("last")).default in ("given: a", "given: b")
    given = find_choices("detection", checkpoint=model_folders["detection"].parent)
    assert [choice.label.partition(",")[0] for choice in given][:2] == ["given: detection", "your run: a"]


def test_flags_decide_what_comes_first(home, monkeypatch):
    asked = []
    monkeypatch.setattr(detection, "Predictor", lambda *args, **options: asked.append((args, options)))
    make_models(DetectionTask())
    assert asked == [], "nothing is loaded, let alone downloaded, before it is needed"
    models = make_models(DetectionTask(), weights="coco", backbone="a100")
    assert str(models.default).startswith("published: COCO, a100")
    assert [options["weights"] for _, options in asked] == ["coco"]
    assert len(models.choices) == 6
    with pytest.raises(ValueError, match="not both"):
        make_models(DetectionTask(), checkpoint=home, weights="coco")


def test_the_slider_begins_where_the_model_has_its_threshold(home):
    about = home / "runs/detection/b/best/model.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "threshold": 0.687}))
    handlers = Handlers(DetectionTask(), make_models(DetectionTask(), device="cpu"))
    b, a, *_ = handlers.models.choices  # b was written just now
    assert handlers.describe(a).threshold == 0.3
    assert handlers.describe(b).threshold == 0.68  # a step of the slider, none above the threshold
    slider = handlers.choose(b, None)[4]
    assert slider.value == 0.68


def test_a_page_shows_one_name_for_each_object(home):
    """Torchvision's suppression without regard to classes, among those that are asked for."""
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8), (90, 120))
    task = DetectionTask()
    predictor = task.load(False, checkpoint=home / "runs/detection/a/best", device="cpu")
    names = {}
    for only in ((), ("red",), ("blue",)):
        found = task.find(predictor, image, Settings(None, 0.05, only))
        boxes = torch.tensor([one.box_xyxy_px for one in found])
        assert torchvision.ops.box_iou(boxes, boxes).fill_diagonal_(0).max() <= 0.6
        names[only] = [one.name for one in found]
    assert set(names["red",]) == {"red"} and set(names["blue",]) == {"blue"}
    assert len(names[()]) < len(names["red",]) + len(names["blue",])


def test_a_page_begins_without_a_download(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("demos.chooser.BUNDLED", tmp_path)
    monkeypatch.setattr(detection, "Predictor", lambda **options: pytest.fail("nothing may be fetched yet"))
    models = make_models(DetectionTask())
    names, _, _, problem, _ = Handlers(DetectionTask(), models).describe(models.default)
    assert names == []
    assert "python apps/detection/train.py" in problem
    assert "downloaded when first used" in problem


def test_a_download_that_fails_is_told_without_folders(tmp_path, monkeypatch):
    def fail(**options):
        raise ValueError("cannot download it: put it at /secret/path")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(detection, "Predictor", fail)
    models = make_models(DetectionTask())
    *_, coco = models.choices
    with pytest.warns(UserWarning, match="/secret/path"):
        problem = Handlers(DetectionTask(), models).choose(coco, None)[3]
    assert "cannot be loaded" in problem
    assert "secret" not in problem


def test_a_model_is_loaded_once_for_each_option():
    loaded = []
    models = Models(find_choices("none", published=[Choice("x")]), lambda *key: loaded.append(key), missing="")
    for option in (False, True, False):
        with models.use("x", option):
            pass
    assert [option for _, option, _ in loaded] == [False, True]
    with pytest.raises(ValueError, match="there is no model 'y'; there are: x"), models.use("y"):
        pass


@pytest.mark.parametrize("app", APPS)
def test_a_bundled_model_is_small_and_scores_as_before(app, model_folders, tmp_path, capsys):
    out = make(Config(app=app, checkpoint=model_folders[app], out=tmp_path / "a model"))
    assert (out / "model.safetensors").stat().st_size < MAX_BYTES
    assert load_json(out / "model.json") == load_json(model_folders[app] / "model.json")
    kinds = {str(value.dtype) for value in load_model(out, app=app)[1].values()}
    assert "torch.float16" in kinds and "torch.float32" in kinds
    card = (out / CARD).read_text(encoding="utf-8")
    assert f"apps/{app}/sample.py" in card
    assert ("| per class.red | 0.25 |" in card) == (app == "detection")
    assert "scores of 6 example pictures differ" in capsys.readouterr().out


def test_halving_hardly_changes_probabilities(model_folders, tmp_path):
    out = make(Config(app="finegrained", checkpoint=model_folders["finegrained"], out=tmp_path / "half"))
    image = read_image(example_pictures("finegrained")[0])
    before, after = (
        dict(Predictor(folder, device="cpu", runtime="torch")(image)) for folder in (model_folders["finegrained"], out)
    )
    assert before.keys() == after.keys()
    assert max(abs(before[name] - after[name]) for name in before) < 0.005


def test_attributes_that_were_not_learned_are_left_out(model_folders, tmp_path):
    config = Config(app="faceattr", checkpoint=model_folders["faceattr"], drop=("Male", "Young"), out=tmp_path / "two")
    out = make(config)
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8))
    before, after = (Describe(one, device="cpu", runtime="torch").tagger for one in (model_folders["faceattr"], out))
    assert before.attributes == ["Eyeglasses", "Male", "Smiling", "Young"]
    assert (after.attributes, len(after.thresholds), len(after.temperatures)) == (["Eyeglasses", "Smiling"], 2, 2)
    torch.testing.assert_close(after.probs(crops), before.probs(crops)[:, [0, 2]], atol=2e-3, rtol=0)
    with pytest.raises(ValueError, match="--drop Beard: the model has no such attribute; it has Eyeglasses, Male"):
        make(dataclasses.replace(config, drop=("Beard",)))


def test_a_large_model_is_not_bundled(model_folders, tmp_path, monkeypatch):
    monkeypatch.setattr(make_script, "MAX_BYTES", 1000)
    with pytest.raises(ValueError, match="train a narrower one"):
        make(Config(app="detection", checkpoint=model_folders["detection"], out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("app", APPS)
def test_example_pictures_are_six_and_small(app):
    pictures = example_pictures(app)
    assert len(pictures) == 6
    for path in pictures:
        assert path.stat().st_size <= MAX_PICTURE_BYTES
        assert np.ptp(read_image(path)) > 100
    assert EXAMPLES.is_dir()


@pytest.mark.parametrize("app", APPS)
def test_bundled_models_of_the_project_load(app):
    folder = BUNDLED / app
    assert (folder / "model.safetensors").stat().st_size < MAX_BYTES
    assert (folder / CARD).is_file()
    assert load_model(folder, app=app)[0]["backbone"]
