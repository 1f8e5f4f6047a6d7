"""Names from others, of classes and files, neither steer a terminal nor make lines of their own."""

import json
import unicodedata
from pathlib import Path

import pytest
import torch

from apps.common.cli import run_command
from apps.detection import check as detection_check
from apps.detection import eval as detection_eval
from apps.detection import predict as detection_predict
from apps.detection.boxes.postprocess import PostProcess
from apps.detection.model.create import create_detector
from apps.detection.model.detector import Detector
from apps.faceattr import check as faceattr_check
from apps.finegrained import check as finegrained_check
from apps.finegrained import eval as finegrained_eval
from apps.finegrained import predict as finegrained_predict
from apps.finegrained.model.classifier import Classifier
from backbone import create_backbone
from tests.conftest import draw_tiny_coco
from tests.faceattr.conftest import draw_faces
from tests.finegrained.conftest import draw_photos

EVIL = ["red\x1b]0;owned\x07\x1b[2J", "blue\nphoto.jpg: cat 1.00\u202e", "gr\x9b31m\reen"]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("names")
    draw_photos(root / "photos")
    for split in ("train", "val"):
        for folder, name in zip(sorted((root / "photos" / split).iterdir()), EVIL, strict=True):
            folder.rename(folder.with_name(name))
    torch.manual_seed(0)
    network = create_backbone("a025", num_classes=3).eval()
    model = Classifier(network=network, backbone="a025", resolution=64, class_names=sorted(EVIL))
    model.save(root / "classifier", metrics={})

    draw_tiny_coco(root / "coco")
    for path in (root / "coco/annotations").iterdir():
        content = json.loads(path.read_text())
        for category, name in zip(content["categories"], EVIL, strict=False):
            category["name"] = name
        path.write_text(json.dumps(content))
    Detector(
        network=create_detector("a025", num_classes=2, head="pyramid", resolution=64).eval(),
        backbone="a025",
        class_names=EVIL[:2],
        category_ids=[3, 7],
        postprocess=PostProcess("sigmoid"),
    ).save(root / "detector", metrics={})

    draw_faces(root / "faces")
    table = root / "faces/attributes.csv"
    table.write_text(table.read_text().replace("Smiling", f'"{EVIL[0]}"').replace("Eyeglasses", f'"{EVIL[1]}"'))
    return root


COMMANDS = {
    "guess": (finegrained_predict.predict, finegrained_predict.Config, "classifier", "photos/val"),
    "evaluate classes": (finegrained_eval.evaluate, finegrained_eval.Config, "classifier", "photos"),
    "check classes": (finegrained_check.check, finegrained_check.Config, "", "photos"),
    "detect": (detection_predict.predict, detection_predict.Config, "detector", "coco/val"),
    "evaluate boxes": (detection_eval.evaluate, detection_eval.Config, "detector", "coco"),
    "check boxes": (detection_check.check, detection_check.Config, "", "coco"),
    "check faces": (faceattr_check.check, faceattr_check.Config, "", "faces"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_prints_names_as_text(command, place, tmp_path, capsys):
    function, config, checkpoint, data = COMMANDS[command]
    predicts = command in ("guess", "detect")
    flags = ["--source" if predicts else "--data", str(place / data), "--out", str(tmp_path)]
    flags += ["--checkpoint", str(place / checkpoint), "--device", "cpu"] if checkpoint else []
    flags += ["--runtime", "torch"] if predicts else []
    flags += ["--conf", "0"] if command == "detect" else []
    run_command(function, config, flags)
    printed = capsys.readouterr().out
    assert "red" in printed or "blue" in printed
    assert not {c for c in printed if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t"}
    assert not [line for line in printed.splitlines() if line.startswith("photo.jpg")]
