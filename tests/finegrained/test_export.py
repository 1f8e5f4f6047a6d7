import importlib.util
import json
import os
import shutil
import textwrap
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from apps.common.cli import run_command
from apps.common.deploy import export as exported
from apps.common.deploy.sessions import MODULES
from apps.common.images import read_image, stack_images
from apps.finegrained.data.batches import to_square
from apps.finegrained.eval import Config as EvalConfig
from apps.finegrained.eval import evaluate
from apps.finegrained.export import Config, export
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.predict import Predictor
from backbone.eight_bits import round_weight
from tests.common.exported_files import need_exporter, need_modules, reuse
from tests.finegrained.tiny_fruit import COLOURS, draw_fruit, save_classifier


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A run, its photos, and its classifier exported by the command."""
    need_exporter()
    root = tmp_path_factory.mktemp("fruit of the day")
    draw_fruit(root / "data", "train", each=4)
    draw_fruit(root / "data", "val", each=2)
    save_classifier(root / "run/best", root / "data/train")
    run_command(export, Config, ["--checkpoint", str(root / "run"), "--data", str(root / "data"), "--max-drop", "0"])
    return root


def config(place: Path, out: Path, **changes) -> Config:
    return Config(checkpoint=place / "run", data=str(place / "data"), out=out, **changes)


def test_the_file_is_used_with_onnxruntime_alone(place):
    onnxruntime = pytest.importorskip("onnxruntime")
    (file,) = (place / "run/export").iterdir()
    assert file.name == "finegrained-a025-64.onnx"
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    model = Classifier.load(place / "run", device=torch.device("cpu"))
    paths = sorted((place / "data/val").rglob("*.png"))
    squares = [to_square(read_image(path), 64, model.crop) for path in paths]
    for some in (squares, squares[:1]):
        (logits,) = session.run(None, {"images": np.stack(some)})
        assert np.abs(logits - model.logits(stack_images(some)).numpy()).max() < 1e-4
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["class_names"]) == list(COLOURS)
    assert (about["app"], about["resolution"], about["crop"]) == ("finegrained", "64", "0.875")
    assert about["input"] == "uint8 RGB (B, H, W, 3)"
    assert len(about["checkpoint_sha256"]) == 64


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_a_predictor_guesses_the_same_with_any_runtime(place, monkeypatch, tmp_path, runtime):
    need_modules(MODULES[runtime])
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path))
    reuse(monkeypatch, place / "run/export/finegrained-a025-64.onnx")
    images = [read_image(path) for path in sorted((place / "data/val").rglob("*.png"))]
    slow = Predictor(place / "run", runtime="torch", device="cpu")
    fast = Predictor(place / "run", runtime=runtime, threads=1)
    assert slow.classifier.session.name.startswith("torch") and runtime in fast.classifier.session.name.lower()
    for one, other in zip(slow.batch(images), fast.batch(images), strict=True):
        assert [guess.name for guess in one] == [guess.name for guess in other]
        assert [guess.prob for guess in one] == pytest.approx([guess.prob for guess in other], abs=1e-4)
        assert one.score == pytest.approx(other.score, abs=1e-3)
    assert len(list((tmp_path / "runtime").glob("*.onnx"))) == 1
    larger = stack_images([to_square(images[0], 96, 0.875)])  # which the session does not take
    assert (fast.classifier.logits(larger) - slow.classifier.logits(larger)).abs().max() == 0


def test_8_bits_in_a_quarter_of_the_size(place, monkeypatch, tmp_path, capsys):
    full = place / "run/export/finegrained-a025-64.onnx"
    reuse(monkeypatch, full)
    out = export(config(place, tmp_path / "small file.onnx", int8=True, max_drop=0.5))
    assert out.stat().st_size < 0.45 * full.stat().st_size  # scales and the graph itself are not smaller
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    said = capsys.readouterr().out
    assert "top-1 on 6 photos: torch " in said and "int8" in said
    import onnx

    tensors = {str(tensor.name): tensor for tensor in onnx.load(str(out)).graph.initializer}
    filters = [t for t in tensors.values() if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    assert len(filters) == 27  # of Table 1: a full, 13 depthwise and 13 pointwise convolutions
    network = Classifier.load(place / "run", device=torch.device("cpu")).network
    for tensor in filters:
        scale = tensors[tensor.name.replace("_quantized", "_scale")]
        assert list(scale.dims) == [tensor.dims[0]]  # one for each channel
        learnt = network.get_submodule(
            tensor.name.removeprefix("network.").replace(".weight_quantized", ".conv")
        ).weight
        steps = learnt.detach().abs().flatten(1).amax(1)[:, None, None, None] / 127
        integers = (round_weight(learnt).detach() / steps).round()  # with --qat
        assert np.array_equal(onnx.numpy_helper.to_array(tensor), integers)


def test_openvino_is_a_folder(place, monkeypatch, tmp_path):
    need_modules("openvino")
    reuse(monkeypatch, place / "run/export/finegrained-a025-64.onnx")
    out = tmp_path / "for openvino"
    for _ in range(2):  # it may be replaced
        export(config(place, out, format="openvino"))
    assert {path.name for path in out.iterdir()} == {"model.xml", "model.bin"}
    assert "aki" in (out / "model.xml").read_text(encoding="utf-8")


def test_a_failed_check_leaves_nothing_and_ends_with_2(place, monkeypatch, tmp_path, capsys):
    reuse(monkeypatch, place / "run/export/finegrained-a025-64.onnx")
    out = tmp_path / "a.onnx"
    args = ["--checkpoint", str(place / "run"), "--data", str(place / "data"), "--out", str(out)]
    monkeypatch.setitem(exported.write_checked.__kwdefaults__, "compare", lambda one, other: 0.5)
    with pytest.raises(SystemExit) as stop:
        run_command(export, Config, args)
    assert stop.value.code == 2
    assert list(tmp_path.iterdir()) == []
    (line,) = capsys.readouterr().err.splitlines()
    assert "the exported file computes something else than torch: by 0.5" in line


def test_a_file_that_loses_too_much_is_refused(place, monkeypatch, tmp_path):
    reuse(monkeypatch, place / "run/export/finegrained-a025-64.onnx")
    out = tmp_path / "a.onnx"
    out.write_bytes(b"the one before")
    with pytest.raises(ValueError, match=r"top-1 .* becomes .*, --max-drop is -1"):
        export(config(place, out, max_drop=-1.0))
    assert out.read_bytes() == b"the one before"
    assert list(tmp_path.iterdir()) == [out]


def test_without_data_a_model_of_other_classes_is_compared_by_its_outputs(place, tmp_path, monkeypatch, capsys):
    """As the demos export it: the sample set's classes are others."""
    for split in ("train", "val"):
        moths = draw_fruit(tmp_path / "moths", split, each=2)
        (moths / split / "aki").rename(moths / split / "Ember")
    monkeypatch.setattr("apps.finegrained.export.make_sample", lambda: moths)
    export(Config(checkpoint=place / "run", out=tmp_path / "a.onnx"))
    said = capsys.readouterr().out
    assert "other classes than this model: top-1 is not measured" in said and "on 6 photos" in said
    with pytest.raises(ValueError, match="--data sample has other classes than this model: give photos like those"):
        export(Config(checkpoint=place / "run", out=tmp_path / "b.onnx", int8=True))
    assert (tmp_path / "a.onnx").is_file() and not (tmp_path / "b.onnx").exists()


def test_wrong_input_is_one_line(place, tmp_path):
    with pytest.raises(ValueError, match=r"must be a file that ends in \.onnx"):
        export(config(place, tmp_path / "a.bin"))
    with pytest.raises(ValueError, match="--num-photos must be 1 or more, got 0"):
        export(config(place, tmp_path / "a.onnx", num_photos=0))
    with pytest.raises(ValueError, match=r"runtime onnx computes on the CPU|cannot be used here"):
        Predictor(place / "run", runtime="onnx", device="cuda")


def test_tflite_is_used_with_its_runtime_alone(place, tmp_path, capsys):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="needs LiteRT: pip install -e '.[tflite]'")
    out = export(config(place, tmp_path / "a net.tflite", format="tflite"))
    assert "top-1 on 6 photos: torch " in capsys.readouterr().out
    run = interpreter.Interpreter(model_path=str(out)).get_signature_runner("serving_default")
    model = Classifier.load(place / "run", device=torch.device("cpu"))
    squares = [to_square(read_image(p), 64, model.crop) for p in sorted((place / "data/val").rglob("*.png"))]
    logits = np.concatenate([run(images=square[None])["logits"] for square in squares])
    assert np.abs(logits - model.logits(stack_images(squares)).numpy()).max() < 1e-4
    with zipfile.ZipFile(out) as archive:
        about = json.loads(archive.read("metadata.json"))
        assert archive.read("labels.txt").decode().splitlines() == list(COLOURS)
    assert (about["app"], about["resolution"], about["crop"], about["precision"]) == (
        "finegrained",
        "64",
        "0.875",
        "float32",
    )


def test_the_script_of_the_docs_classifies_with_the_file_alone(files, tmp_path, monkeypatch, capsys):
    if "tflite" not in files:
        pytest.skip("needs LiteRT: pip install -e '.[tflite]'")
    text = (Path(__file__).resolve().parents[2] / "docs/formats.md").read_text(encoding="utf-8")
    (script,) = (part for part in text.split("\n\n") if "labels.txt" not in part and "cut // (cut // side)" in part)
    begin = text.index("    import json, zipfile")
    script = textwrap.dedent(text[begin : text.index(script) + len(script)])
    monkeypatch.chdir(tmp_path)
    shutil.copy(files["tflite"], "classifier.tflite")
    cv2.imwrite("photo.png", np.random.default_rng(0).integers(0, 256, (311, 420, 3), dtype=np.uint8))
    Path("photo.png").rename("photo.jpg")  # which cannot hold noise as it is
    names: dict = {}
    exec(script, names)
    assert capsys.readouterr().out.strip() == Predictor(files["tflite"])("photo.jpg")[0].name
    assert np.array_equal(names["square"], to_square(read_image(Path("photo.jpg")), 64, 0.875))


@pytest.fixture(scope="module")
def files(place, tmp_path_factory) -> dict[str, Path]:
    """The classifier in every format whose packages are here; OpenVINO's folder from the ONNX file."""
    room, found = tmp_path_factory.mktemp("files of export"), {"onnx": place / "run/export/finegrained-a025-64.onnx"}
    for format, module, name in (
        ("openvino", "openvino", "for openvino"),
        ("tflite", "ai_edge_litert", "a net.tflite"),
        ("executorch", "executorch", "a net.pte"),
        ("ncnn", "pnnx", "for ncnn"),
    ):
        if importlib.util.find_spec(module):
            with pytest.MonkeyPatch.context() as patch:
                reuse(patch, found["onnx"])
                found[format] = export(config(place, room / name, format=format))
    return found


@pytest.mark.parametrize("format", ["onnx", "openvino", "tflite", "executorch", "ncnn"])
def test_an_exported_file_comes_back_as_a_checkpoint(place, files, tmp_path, format, capsys):
    if format not in files:
        pytest.skip(f"the packages of {format} are not installed")
    paths = sorted((place / "data/val").rglob("*.png"))
    run, back = Predictor(place / "run", runtime="torch", device="cpu"), Predictor(str(files[format]), threads=1)
    for path in paths:
        one, other = run(path), back(str(path))
        assert [guess.name for guess in one] == [guess.name for guess in other]
        assert [guess.prob for guess in one] == pytest.approx([guess.prob for guess in other], abs=1e-4)
    asked = {"data": str(place / "data"), "num_workers": 0}
    of_run = evaluate(EvalConfig(checkpoint=place / "run", out=tmp_path / "a", **asked))
    of_file = evaluate(EvalConfig(checkpoint=files[format], out=tmp_path / "b", **asked))
    assert of_file["top1"] == of_run["top1"] and of_file["loss"] == pytest.approx(of_run["loss"], abs=1e-4)
    for wrong, said in (
        ({"calibrate": True}, "is not a model folder"),
        (
            {"resolutions": (96,)},
            "is an exported file, which gives its outputs for one size: for all else give the run",
        ),
        ({"device": "cuda"}, "computes on the CPU|is not available|cannot be used"),
    ):
        with pytest.raises(ValueError, match=said):
            evaluate(EvalConfig(checkpoint=files[format], out=tmp_path / "c", **asked, **wrong))
    with pytest.raises(ValueError, match="is computed by its own runtime, not by torch: leave --runtime out"):
        Predictor(files[format], runtime="torch")
    with pytest.raises(ValueError, match="is an exported file"):
        back.explain(paths[0])
    assert not (tmp_path / "c").exists()


def test_a_file_that_does_not_say_what_it_is_is_refused_in_one_line(place, files, tmp_path):
    import onnx

    def changed(**metadata: str | None) -> Path:
        model = onnx.load(str(files["onnx"]))
        about = {prop.key: prop.value for prop in model.metadata_props} | metadata
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, {key: value for key, value in about.items() if value is not None})
        onnx.save(model, str(tmp_path / "x.onnx"))
        return tmp_path / "x.onnx"

    for metadata, said in (
        ({"class_names": None, "crop": None}, r"x.onnx does not say what it is: its metadata lacks class_names, crop,"),
        ({"app": "detection"}, "x.onnx is of the app 'detection', this is 'finegrained'"),
        ({"class_names": '["a", "b"]'}, r"output logits is \(1, 3\), which its class names or anchors do not fit"),
        ({"class_names": "[" * 100_000}, "x.onnx has a damaged class_names in its metadata"),
        ({"resolution": "9" * 20}, "resolution must be a whole number from 16 to 8192"),
        ({"resolution": "96"}, "x.onnx does not take what it says it takes"),
        ({"temperature": "NaN"}, "calibration.temperature must be a number above 0"),
        ({"outputs": '["probs"]'}, r"has outputs \[\"probs\"\], known are \[\"logits\"\]"),
    ):
        with pytest.raises(ValueError, match=said) as stop:
            Predictor(changed(**metadata))
        assert "\n" not in str(stop.value) and len(str(stop.value)) < 400
    for name in ("y.onnx", "y.tflite", "y.pte"):
        if {"y.onnx": "onnx", "y.tflite": "tflite", "y.pte": "executorch"}[name] in files:
            with pytest.raises(ValueError, match=f"checkpoint .*{name} does not exist"):
                Predictor(tmp_path / name)
            (tmp_path / name).write_bytes(b"nothing of the kind" * 9)
            with pytest.raises(ValueError, match=f"{name} cannot be (opened as|computed by)"):
                Predictor(tmp_path / name)
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ValueError, match=r"pipe.onnx does not exist, or is a pipe or a device"):
        Predictor(tmp_path / "pipe.onnx")
    if "openvino" in files:
        shutil.copytree(files["openvino"], tmp_path / "cut")
        (tmp_path / "cut" / "model.bin").write_bytes(b"few")
        with pytest.raises(ValueError, match="cut cannot be opened as openvino: Incorrect weights in bin file"):
            Predictor(tmp_path / "cut")


def test_weights_that_are_not_finite_are_refused(files, tmp_path):
    """OpenVINO's and NCNN's ReLU6 would make a number of NaN, and a wrong guess of that."""
    import onnx

    named = {tensor.name: tensor.raw_data for tensor in onnx.load(str(files["onnx"])).graph.initializer}
    weight = named["network.blocks.conv3.pointwise.weight"]  # 1x1: in the same order in all formats
    for format, file in files.items():
        path = tmp_path / file.name
        (shutil.copytree if file.is_dir() else shutil.copyfile)(file, path)
        held = path / "model.bin" if path.is_dir() else path
        before = held.read_bytes()
        assert before.count(weight[:32]) == 1, format
        held.write_bytes(before.replace(weight[:32], np.float32("nan").tobytes() + weight[4:32]))
        for runtime in ("auto", *(["openvino"] if format == "onnx" and "openvino" in files else [])):
            with pytest.raises(ValueError, match="not finite"):
                Predictor(path, runtime=runtime)


def test_tflite_in_8_bits_comes_back(place, tmp_path, capsys):
    pytest.importorskip("ai_edge_quantizer", reason="needs AI Edge Quantizer: pip install -e '.[tflite]'")
    out = export(config(place, tmp_path / "a.tflite", format="tflite", int8=True, io="int8", max_drop=1.0))
    assert "tflite, int8, 0.3" in capsys.readouterr().out
    plain = importlib.import_module("ai_edge_litert.interpreter").Interpreter(model_path=str(out))
    run = plain.get_signature_runner("serving_default")
    scale, zero_point = run.get_output_details()["logits"]["quantization"]
    for path in sorted((place / "data/val").rglob("*.png")):
        square = to_square(read_image(path), 64, 0.875)
        stored = run(images=(square[None].astype(int) - 128).astype(np.int8))["logits"][0]
        logits = (stored.astype(float) - zero_point) * scale
        probs = np.exp(logits) / np.exp(logits).sum()
        assert {guess.name: guess.prob for guess in Predictor(out)(path)} == pytest.approx(
            dict(zip(COLOURS, probs, strict=True)), abs=1e-5
        )
    for wrong in ({"format": "onnx", "int8": True}, {"format": "tflite"}):
        with pytest.raises(ValueError, match="--io int8 is for --format tflite --int8"):
            export(config(place, tmp_path / "b.tflite", io="int8", **wrong))
