"""What holds for every script: flags are read at once, whatever the script imports when it runs."""

import dataclasses
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from apps.common import options
from apps.common.cli import help_texts
from apps.detection.model.detector import Detector
from apps.faceattr.model.tagger import Tagger
from apps.finegrained.model.classifier import Classifier
from tests.common.mistakes import error_of

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for room in ("apps", "demos")
    for path in (ROOT / room).rglob("*.py")
    if "\n    run_command(" in path.read_text(encoding="utf-8")
)
SLOW = ("torch", "torchvision", "albumentations", "matplotlib", "pycocotools", "gradio", "onnxruntime", "openvino")
TWO_STARTS = f"""
import runpy, sys
script = sys.argv[1]
for flag, code in (("--help", 0), ("--no-such-flag", 2)):
    sys.argv = [script, flag]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as stop:
        assert (stop.code or 0) == code, stop.code
    else:
        raise AssertionError(f"{{flag}} is no end")
slow = sys.modules.keys() & set({SLOW!r})
assert not slow, slow
"""


def test_all_scripts_are_found():
    assert {"apps/detection/train.py", "apps/faceattr/teacher.py", "demos/app.py"} < set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_flags_are_read_before_anything_slow_is_imported(script):
    done = subprocess.run([sys.executable, "-c", TWO_STARTS, script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--help" in done.stdout  # the list of flags
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{Path(script).name}: error: ")
    assert "--no-such-flag" in line
    check_help(script, done.stdout)


SECTIONS = ("everyday", *(name for name in options.SECTIONS if name != "everyday"), "computing", "server", "drawing")
EVERYDAY = ["data", "backbone", "resolution", "weights", "epochs", "batch-size", "lr", "out", "resume", "device"]


def check_help(script, text):
    """An example on top, sections in their order, the everyday flags first, no None for what the text explains."""
    assert re.search(r"^example: python ", text, re.MULTILINE)
    assert "None" not in text
    sections = re.findall(r"^╭─ (\w+) options ─", text, re.MULTILINE)
    assert sections == [name for name in SECTIONS if name in sections]  # none is "other"
    if script.endswith("train.py"):
        assert sections == [name for name in SECTIONS[:5] if name in sections] + ["output"]
        flags = re.findall(r"^│ --([a-z0-9-]+)", text, re.MULTILINE)
        assert flags[: len(EVERYDAY)] == EVERYDAY


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_flag_has_its_help(script):
    config = importlib.import_module(script.removesuffix(".py").replace("/", ".")).Config
    nested = {field.name: type(field.default) for field in dataclasses.fields(config)}
    nested = {name: kind for name, kind in nested.items() if dataclasses.is_dataclass(kind)}
    for one in (config, *nested.values()):
        names = {field.name for field in dataclasses.fields(one)} - nested.keys()
        assert {name for name in names if not help_texts(one).get(name)} == set()


LOADED = {"detection": Detector, "finegrained": Classifier, "faceattr": Tagger}


@pytest.mark.parametrize("door", ["predict", "eval", "export"])
@pytest.mark.parametrize("app", LOADED)
def test_last_is_the_newest_finished_run(app, door, tmp_path, monkeypatch, capsys):
    """Of the app, below the folder where the command is given; without one the message says what there is."""

    def loaded(folder, **_):
        raise ValueError(f"loaded {folder}")

    monkeypatch.setattr(LOADED[app], "load", loaded)
    monkeypatch.chdir(tmp_path)
    script = importlib.import_module(f"apps.{app}.{door}")
    main = getattr(script, {"eval": "evaluate"}.get(door, door))
    args = ["--checkpoint", "last"]
    if door == "predict":
        shutil.copy(ROOT / "demos/examples" / app / "1.jpg", "a.jpg")
        args += ["--source", "a.jpg"]
    shutil.copytree(ROOT / "demos/models" / app, f"runs/{app}/unfinished/best")
    assert "no finished run; unfinished: unfinished; train" in error_of(capsys, main, script.Config, *args)
    for name, age in (("older", 2), ("newer", 1), ("oldest", 3)):
        shutil.copytree(ROOT / "demos/models" / app, f"runs/{app}/{name}/best")
        Path(f"runs/{app}/{name}/metrics.json").write_text("{}")
        os.utime(f"runs/{app}/{name}/metrics.json", (1e9 - age, 1e9 - age))
    Path(f"runs/{app}/coco-eval-val").mkdir()
    Path(f"runs/{app}/coco-eval-val/metrics.json").write_text("{}")
    assert f"loaded {Path('runs', app, 'newer')}" in error_of(capsys, main, script.Config, *args)


@pytest.mark.parametrize("app", LOADED)
def test_rounding_is_learnt_by_trained_models_only_and_that_is_said_first(app, tmp_path, capsys):
    """Before data is read, and before weights are downloaded or a teacher is trained."""
    script = importlib.import_module(f"apps.{app}.train")
    for weights in ((), ("--weights", "imagenet"), ("--weights", "none")):
        args = ("--qat", "--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run"), *weights)
        message = error_of(capsys, script.train, script.Config, *args)
        assert "--qat fine-tunes a trained model: give --weights a run or model folder of this app" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("app", LOADED)
def test_a_predictor_takes_paths_and_its_result_can_be_drawn_saved_and_written(app, tmp_path):
    script, photo = importlib.import_module(f"apps.{app}.predict"), ROOT / "demos/examples" / app / "1.jpg"
    predictor = script.Predictor(ROOT / "demos/models" / app, device="cpu")
    image = cv2.imread(str(photo))[..., ::-1]
    of_array, of_path, of_text = predictor(np.ascontiguousarray(image)), predictor(photo), predictor(str(photo))
    assert list(of_array) == list(of_path) == list(of_text) != []
    assert np.array_equal(of_path.image, image)
    assert np.array_equal(of_path.draw(), script.draw(image, of_path)) and not np.array_equal(of_path.draw(), image)
    of_path.save(tmp_path / "drawn.png")
    assert np.array_equal(cv2.imread(str(tmp_path / "drawn.png"))[..., ::-1], of_path.draw())
    written = json.loads(json.dumps(of_path.to_dict()))
    best, plain = of_path[0], next(value for value in written.values() if isinstance(value, list))
    expected = {key: list(value) if isinstance(value, tuple) else value for key, value in best._asdict().items()}
    assert len(plain) == len(of_path) and plain[0] == expected
    with pytest.raises(ValueError, match=r"nowhere\.jpg does not exist"):
        predictor("nowhere.jpg")
    with pytest.raises(ValueError, match="must be an array, or the path of a photo, got int"):
        predictor(1)


def test_the_step_of_the_training_benchmark_is_timed_on_a_cpu():
    command = [sys.executable, "benchmarks/detection_training.py", "--device", "cpu", "--only", "pyramid, float32"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == {"seconds", "gb"} and min(found.values()) > 0
