"""The scripts of docs/raspberry_pi.md find on a photo, or in a camera, what predict.py finds."""

import importlib.util
import re
import textwrap
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from apps.detection.export import Config, export
from apps.detection.predict import Predictor
from tests.detection.test_export import make_detector

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("a run")
    make_detector().save(folder / "best", metrics={})
    return folder


def script_of_the_docs(first: str) -> str:
    """The script in docs/raspberry_pi.md that begins with these imports."""
    text = (DOCS / "raspberry_pi.md").read_text(encoding="utf-8")
    begin = text.index(f"    {first}")
    return textwrap.dedent(re.match(r"(    .*\n|\n(?=    ))+", text[begin:])[0])


@pytest.mark.parametrize("format", ["tflite", "ncnn"])
def test_the_scripts_of_the_docs_find_what_predict_does(run, tiny_coco, tmp_path, monkeypatch, capsys, format):
    if not all(map(importlib.util.find_spec, {"tflite": ("ai_edge_litert",), "ncnn": ("pnnx", "ncnn")}[format])):
        pytest.skip(f"needs the packages of {format}: pip install -e '.[{format}]'")
    name = {"tflite": "detector.tflite", "ncnn": "detector_ncnn"}[format]
    asked = {"outputs": "detections"} if format == "tflite" else {}
    export(Config(checkpoint=run, data=str(tiny_coco), format=format, out=tmp_path / name, **asked))
    monkeypatch.chdir(tmp_path)
    photo = next((tiny_coco / "val").glob("*.png"))
    if format == "tflite":

        class Camera:
            frames = 2

            def __init__(self, number: int) -> None: ...

            def read(self) -> tuple[bool, np.ndarray]:
                self.frames -= 1
                return self.frames >= 0, cv2.imread(str(photo))

        monkeypatch.setattr(cv2, "VideoCapture", Camera)
    else:
        (tmp_path / "photo.jpg").write_bytes(photo.read_bytes())
    capsys.readouterr()
    times = 2 if format == "tflite" else 1  # frames
    first = "import json, time, zipfile" if format == "tflite" else "import json\n    import cv2, ncnn"
    exec(script_of_the_docs(first), {})
    lines = capsys.readouterr().out.splitlines()
    found = sorted(line.split(" [")[0] for line in lines if "[" in line)
    expected = Predictor(run, runtime="torch", device="cpu", all_names=True)(photo)
    assert len(expected) > 3 and expected[0].score < 1
    assert not Counter(found) - Counter([f"{one.name} {one.score:.2f}" for one in expected] * times)
    x0, y0, x1, y1 = np.transpose([one.box_xyxy_px for one in expected])
    for one, area in zip(expected, (x1 - x0) * (y1 - y0), strict=True):  # OpenCV says that two without any overlap
        assert area < 1e-3 or f"{one.name} {one.score:.2f}" in found
    assert sum(line.endswith(" ms") for line in lines) == (times if format == "tflite" else 0)
