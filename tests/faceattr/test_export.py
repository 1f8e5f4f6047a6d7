import json
from pathlib import Path

import numpy as np
import pytest
import torch

from apps.common.cli import run_command
from apps.common.deploy.sessions import MODULES
from apps.common.images import stack_images
from apps.faceattr.eval import Config as EvalConfig
from apps.faceattr.eval import evaluate
from apps.faceattr.export import Config, export
from apps.faceattr.model.tagger import Tagger
from apps.faceattr.predict import Predictor
from tests.common.exported_files import need_exporter, need_modules, reuse
from tests.faceattr.blob_faces import ATTRIBUTES, SIDE, crops_of, draw_faces, save_tagger


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A run, its faces, and its tagger exported by the command."""
    need_exporter()
    root = tmp_path_factory.mktemp("many faces")
    draw_faces(root / "data", each=12)
    save_tagger(root / "run/best")
    args = ["--checkpoint", str(root / "run"), "--data", str(root / "data"), "--bad-data", "skip"]
    run_command(export, Config, [*args, "--max-drop", "1e-6"])
    return root


def file_of(place: Path) -> Path:
    return place / f"run/export/faceattr-a025-{SIDE}.onnx"


def test_the_file_is_used_with_onnxruntime_alone(place):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(file_of(place)), providers=["CPUExecutionProvider"])
    model = Tagger.load(place / "run", device=torch.device("cpu"))
    crops = crops_of(place / "data", "val")
    (logits,) = session.run(None, {"images": np.stack(crops)})
    about = session.get_modelmeta().custom_metadata_map
    probs = 1 / (1 + np.exp(-logits / json.loads(about["temperatures"])))
    assert np.abs(probs - model.probs(stack_images(crops)).numpy()).max() < 1e-4
    assert json.loads(about["class_names"]) == ATTRIBUTES
    assert json.loads(about["thresholds"]) == [0.5] * 4


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_predictor_says_the_same_with_any_runtime(place, monkeypatch, runtime):
    need_modules(MODULES[runtime])
    reuse(monkeypatch, file_of(place))
    options = {"whole": True, "show_sensitive": True}
    slow = Predictor(place / "run", runtime="torch", device="cpu", **options)
    fast = Predictor(place / "run", runtime=runtime, **options)
    assert runtime in fast.tagger.session.name.lower()
    for image in crops_of(place / "data", "val"):
        assert fast(image)[0].probs == pytest.approx(slow(image)[0].probs, abs=1e-4)


def test_8_bits_and_their_mean_ap(place, monkeypatch, tmp_path, capsys):
    reuse(monkeypatch, file_of(place))
    settings = {"data": (str(place / "data"),), "bad_data": "skip", "out": tmp_path / "a.onnx"}
    out = export(Config(checkpoint=place / "run", int8=True, max_drop=1.0, **settings))
    assert out.stat().st_size < 0.45 * file_of(place).stat().st_size
    assert "mean AP on 12 photos: torch " in capsys.readouterr().out
    with pytest.raises(ValueError, match="--max-drop is -1"):
        export(Config(checkpoint=place / "run", int8=True, max_drop=-1.0, **{**settings, "out": tmp_path / "b.onnx"}))
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


def test_without_data_a_model_of_other_attributes_is_compared_by_its_outputs(place, tmp_path, monkeypatch, capsys):
    """As the demos export it: the sample set's attributes are others."""
    portraits = draw_faces(tmp_path / "portraits", each=6)
    table = portraits / "attributes.csv"
    header, rows = table.read_text(encoding="utf-8").split("\n", 1)
    table.write_text("file,Bangs,Goatee,Smiling,Wearing_Hat,split,identity\n" + rows, encoding="utf-8")
    monkeypatch.setattr("apps.faceattr.export.make_sample", lambda: portraits)
    assert "Hat" in header
    export(Config(checkpoint=place / "run", out=tmp_path / "a.onnx"))
    said = capsys.readouterr().out
    assert "none of this model's attributes: mean AP is not measured" in said and "on 6 photos" in said
    with pytest.raises(ValueError, match="--data sample has none of this model's attributes: give faces like those"):
        export(Config(checkpoint=place / "run", out=tmp_path / "b.onnx", int8=True))
    assert (tmp_path / "a.onnx").is_file() and not (tmp_path / "b.onnx").exists()


def test_an_exported_file_comes_back_as_a_checkpoint(place, tmp_path):
    run, back = (Predictor(path, whole=True, show_sensitive=True) for path in (place / "run", file_of(place)))
    assert "onnxruntime" in back.tagger.session.name and back.margin == run.margin
    for image in crops_of(place / "data", "val"):
        assert back(image)[0].probs == pytest.approx(run(image)[0].probs, abs=1e-4)
    asked = {"data": (str(place / "data"),), "bad_data": "skip", "num_workers": 0}
    of_run = evaluate(EvalConfig(checkpoint=place / "run", out=tmp_path / "a", **asked))
    of_file = evaluate(EvalConfig(checkpoint=file_of(place), out=tmp_path / "b", **asked))
    assert of_file["mean_ap"] == pytest.approx(of_run["mean_ap"], abs=1e-3) and of_file["params"] is None
    assert "not known of an exported file" in (tmp_path / "b/report.html").read_text(encoding="utf-8")
