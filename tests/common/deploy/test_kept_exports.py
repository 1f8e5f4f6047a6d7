"""Exported networks are kept in the user's cache, and nothing that others left is computed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch

from apps.common.deploy import runtime as runtime_module
from apps.common.deploy.agreement import check_session, random_image
from apps.common.deploy.runtime import kept_onnx, start_session
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.predict import Predictor
from backbone.mobilenet_v1 import create_backbone
from tests.common.deploy.test_runtime import SIDE, Model, cache, exported, make_graph, make_images  # noqa: F401
from tests.common.exported_files import need_modules, reuse


def count_exports(monkeypatch, exported: Path) -> list[Path]:  # noqa: F811
    """A list that gets a path for each export from now on; it is quick, as all are copies of the first."""
    made: list[Path] = []
    (first,) = (exported / "runtime").glob("*.onnx")

    def counted(path: Path, *args, **options) -> None:
        made.append(path)
        shutil.copyfile(first, path)

    monkeypatch.setattr(runtime_module, "write_onnx", counted)
    return made


def with_other_weights(path: Path) -> None:
    """Make an ONNX file compute something else, without a word."""
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim == 4:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values * 0.5, tensor.name))
    onnx.save(model, str(path))


def test_an_export_is_kept_until_the_weights_change(exported, cache, monkeypatch):  # noqa: F811
    made = count_exports(monkeypatch, exported)
    (kept,) = (cache / "runtime").glob("*.onnx")
    assert kept_onnx(make_graph(), resolution=SIDE) == kept and not made
    graph = make_graph()
    graph.network.get_parameter("stem.bias")[0] += 1
    assert kept_onnx(graph, resolution=SIDE) != kept and len(made) == 1
    assert {path.suffix for path in (cache / "runtime").iterdir()} == {".onnx", ".sha256"}


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "no digest", "digest of another"])
def test_a_kept_export_that_is_not_the_one_written_is_made_anew(exported, cache, monkeypatch, capsys, damage):  # noqa: F811
    need_modules("onnxruntime")
    made = count_exports(monkeypatch, exported)
    (kept,) = (cache / "runtime").glob("*.onnx")
    if damage == "cut":
        kept.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2])
    elif damage == "empty":
        kept.write_bytes(b"")
    elif damage == "foreign":
        with_other_weights(kept)
    elif damage == "no digest":
        kept.with_suffix(".sha256").unlink()
    else:
        kept.with_suffix(".sha256").write_text("0" * 64)
    for _ in range(2):
        session = start_session(Model(), "onnx", threads=1)
        images = make_images(2)
        expected = Model().torch_session()(images)["logits"]
        assert session.name.startswith("onnxruntime") and (session(images)["logits"] - expected).abs().max() < 1e-4
        assert len(made) == 1  # once and for all
    assert capsys.readouterr() == ("", "")


def test_a_file_that_came_with_a_model_folder_is_not_computed(cache, tmp_path, monkeypatch):  # noqa: F811
    """As an earlier version kept it there: runtime/HASH-RESOLUTION-torchVERSION.onnx."""
    need_modules("onnxruntime")
    torch.manual_seed(0)
    network = create_backbone("a025", num_classes=2)
    classifier = Classifier(network=network.eval(), backbone="a025", class_names=("a", "b"), resolution=SIDE)
    classifier.save(tmp_path / "model", metrics={})
    (tmp_path / "model/runtime").mkdir()
    ours = kept_onnx(classifier.graph(), resolution=SIDE)
    theirs = Path(shutil.copyfile(ours, tmp_path / "model/runtime" / ours.name))
    reuse(monkeypatch, ours.rename(tmp_path / "fresh.onnx"))  # the cache of somebody who has just been given the folder
    with_other_weights(theirs)
    before = theirs.read_bytes()

    predictor = Predictor(tmp_path / "model", device="cpu", runtime="onnx", threads=1)
    session = predictor.classifier.session
    images = make_images(1)
    assert session.name.startswith("onnxruntime")
    assert (session(images)["logits"] - classifier.torch_session()(images)["logits"]).abs().max() < 1e-4
    assert theirs.read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "model").iterdir() if path.suffix != ".md") == [
        "model.json",
        "model.safetensors",
        "runtime",
    ]


def test_a_session_that_knows_one_image_is_found_out():
    """No image is the same twice, so that no file can be right on the image of the check alone."""
    seen: list[torch.Tensor] = []
    graph = make_graph()

    class Spy:
        name = "spy"

        def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            seen.append(images)
            return graph.reference(images)

    for _ in range(3):
        check_session(Spy(), graph, resolution=SIDE)
    assert len({image.numpy().tobytes() for image in seen}) == 3
    assert random_image(SIDE).shape == (1, 3, SIDE, SIDE)


def test_where_the_cache_cannot_be_written_torch_computes(tmp_path, monkeypatch, capsys):
    need_modules("onnxruntime")
    not_a_folder = tmp_path / "cache"
    not_a_folder.write_text("")
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(not_a_folder))
    assert start_session(Model(), "onnx").name.startswith("torch ")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the network cannot be exported (") and str(not_a_folder) in line


CODE = """
import onnx.helper as h, os, sys
import apps.common.deploy.sessions as sessions
image, logits = (h.make_tensor_value_info(name, 1, [1, 2]) for name in ("images", "logits"))
graph = h.make_graph([h.make_node("Relu", ["images"], ["logits"])], "g", [image], [logits])
import onnx
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 20)], ir_version=10), sys.argv[1])
print(sessions.load_session(sys.argv[1], "onnx", threads=1).name)
"""


def test_onnxruntime_reports_to_nobody(tmp_path):
    """In a fresh process, not one of a test or a build server: there it keeps silent anyway."""
    need_modules("onnxruntime")
    home = tmp_path / "home"
    home.mkdir()
    servers = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in servers}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "a.onnx")],
        capture_output=True,
        text=True,
        env={**environment, "HOME": str(home)},
    )
    assert done.stdout.startswith("onnxruntime "), done.stderr
    assert list(home.rglob("*")) == []  # no number of this machine, no queue of events
