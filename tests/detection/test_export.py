import dataclasses
import json
import shutil
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import nms

from apps.common.cli import run_command
from apps.common.deploy.formats import quantize, write_onnx
from apps.common.deploy.graph import Graph
from apps.common.deploy.sessions import load_session
from apps.common.images import read_image, stack_images
from apps.common.pretrained import TENSORFLOW_STYLE
from apps.detection.boxes.postprocess import PostProcess
from apps.detection.data.batches import to_square
from apps.detection.eval import Config as EvalConfig
from apps.detection.eval import evaluate
from apps.detection.export import Config, compare_detections, export
from apps.detection.model.create import create_detector
from apps.detection.model.detector import Detector
from apps.detection.model.end_to_end import OUTPUTS, EndToEnd, keep_best, translations
from apps.detection.predict import Predictor
from tests.common.exported_files import need_exporter, need_modules, reuse

CPU = torch.device("cpu")


def make_detector(num_classes: int = 2) -> Detector:
    """Random weights with strong opinions: many boxes of both classes overlap, no two scores are equal."""
    torch.manual_seed(0)
    network = create_detector("a025", num_classes=num_classes, resolution=96, head="ssd", style=TENSORFLOW_STYLE).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.3, 1)
    with torch.no_grad():
        for predictor in network.class_predictors:
            predictor.weight.mul_(2)
        for predictor in network.box_predictors:
            predictor.weight.mul_(4)
    about = {
        "backbone": "a025",
        "class_names": ["red", "blue", *map(str, range(2, num_classes))],
        "category_ids": [3, 7, *range(10, 8 + num_classes)],
        "postprocess": PostProcess("sigmoid"),
        "threshold": 0.25,
    }
    return Detector(network=network, **about)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("a run")
    make_detector().save(root / "best", metrics={})
    return root


@pytest.fixture(scope="module")
def finished(place) -> Path:
    """A file with suppression, written once."""
    need_exporter()
    return place / "finished.onnx"


def squares(folder: Path) -> list[np.ndarray]:
    return [to_square(read_image(path), 96) for path in sorted(folder.glob("*.png"))]


def test_suppression_in_the_network_is_that_outside():
    detector = make_detector()
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 96, 96), dtype=np.uint8))
    for options in ({"score_threshold": 0.3}, {"max_detections": 7}, {"nms_iou": 0.3, "max_candidates": 50}):
        detector.postprocess = PostProcess("sigmoid", **options)
        network = EndToEnd(detector.network, detector.postprocess)
        with torch.inference_mode():
            found = network(detector.preprocessing(images))
        for i, expected in enumerate(detector(images)):
            count = len(expected.scores)
            assert 3 < count
            assert torch.equal(found["scores"][i, :count], expected.scores)
            assert torch.equal(found["labels"][i, :count], expected.labels)
            assert torch.equal(found["boxes_xyxy"][i, :count], expected.boxes_xyxy)
            for name in ("scores", "labels", "boxes_xyxy"):
                assert (found[name][i, count:] == 0).all()


def test_keep_best_is_greedy_suppression_of_each_image():
    rng = np.random.default_rng(0)
    corner = torch.from_numpy(rng.random((2, 30, 2), dtype=np.float32))
    boxes = torch.cat((corner, corner + 0.5), dim=-1)
    scores = torch.from_numpy(np.sort(rng.random((2, 30), dtype=np.float32))[:, ::-1].copy())
    keep = keep_best(boxes, scores, 0.4, 0.2, 5)
    for i in range(2):
        expected = [k for k in nms(boxes[i], scores[i], 0.4).tolist() if scores[i, k] > 0.2][:5]
        assert keep[i].nonzero().flatten().tolist() == sorted(expected)


def test_the_file_gives_detections_with_onnxruntime_alone(place, finished, tiny_coco, tmp_path, monkeypatch, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    args = ["--checkpoint", str(place), "--data", str(tiny_coco), "--out", str(finished), "--outputs", "detections"]
    run_command(export, Config, [*args, "--max-drop", "0.001", "--score-threshold", "0.2"])
    assert "AP on 4 photos: torch " in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(finished), providers=["CPUExecutionProvider"])
    detector = Detector.load(place, device=CPU).with_thresholds(score_threshold=0.2)
    images = squares(tiny_coco / "val")
    boxes, scores, labels = session.run(None, {"images": np.stack(images)})
    for i, expected in enumerate(detector(stack_images(images))):
        count = int((scores[i] > 0).sum())
        assert count == len(expected.scores) > 3
        assert np.abs(scores[i, :count] - expected.scores.numpy()).max() < 1e-4
        assert (labels[i, :count] == expected.labels.numpy()).mean() > 0.95
        assert np.median(np.abs(boxes[i, :count] - expected.boxes_xyxy.numpy())) < 1e-4
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["category_ids"]) == [3, 7] and float(about["score_threshold"]) == 0.2
    assert float(about["threshold"]) == 0.25
    assert "INTER_LINEAR" in about["resizing"]

    monkeypatch.chdir(tmp_path)  # the whole script of the docs, on one photo
    shutil.copyfile(finished, "detector.onnx")
    shutil.copyfile(photo := next((tiny_coco / "val").glob("*.png")), "photo.jpg")
    text = (Path(__file__).resolve().parents[2] / "docs/export.md").read_text(encoding="utf-8")
    begin = text.index("    import json\n    import cv2, onnxruntime")
    exec(textwrap.dedent(text[begin : text.index("\n## ", begin)]), {})
    printed = [line.split(" [")[0] for line in capsys.readouterr().out.splitlines()]
    found = Predictor(place, runtime="torch", device="cpu", all_names=True)(photo)
    assert sorted(printed) == sorted(f"{one.name} {one.score:.2f}" for one in found) and len(printed) > 3


def test_tflite_finds_the_same_with_its_runtime_alone(place, tiny_coco, tmp_path):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="needs LiteRT: pip install -e '.[tflite]'")
    config = {"checkpoint": place, "data": str(tiny_coco), "format": "tflite", "outputs": "detections"}
    out = export(Config(**config, score_threshold=0.2, out=tmp_path / "a.tflite"))
    run = interpreter.Interpreter(model_path=str(out)).get_signature_runner("serving_default")
    detector = Detector.load(place, device=CPU).with_thresholds(score_threshold=0.2)
    images = squares(tiny_coco / "val")
    for image, expected in zip(images, detector(stack_images(images)), strict=True):
        found = run(images=image[None])
        count = int((found["scores"] > 0).sum())
        assert count == len(expected.scores) > 3
        assert np.abs(found["scores"][0, :count] - expected.scores.numpy()).max() < 1e-4
        assert (found["labels"][0, :count] == expected.labels.numpy()).mean() > 0.95
        assert np.median(np.abs(found["boxes_xyxy"][0, :count] - expected.boxes_xyxy.numpy())) < 1e-4


@pytest.mark.parametrize("outputs", ["raw", "detections"])
def test_an_exported_file_comes_back_as_a_checkpoint(place, tiny_coco, tmp_path, outputs):
    pytest.importorskip("ai_edge_litert.interpreter", reason="needs LiteRT: pip install -e '.[tflite]'")
    config = {"checkpoint": place, "data": str(tiny_coco), "format": "tflite", "outputs": outputs}
    out = export(Config(**config, out=tmp_path / "a.tflite"))
    run, back = Predictor(place, runtime="torch", device="cpu", conf=0.2), Predictor(out, conf=0.2)
    assert (back.threshold, back.detector.category_ids) == (0.25, [3, 7])
    for path in sorted((tiny_coco / "val").glob("*.png")):
        one, other = run(path), back(path)
        assert [found.name for found in one] == [found.name for found in other]
        assert len(one) > 3 and [o.score for o in one] == pytest.approx([o.score for o in other], abs=1e-4)
        assert np.abs(np.subtract([o.box_xyxy_px for o in one], [o.box_xyxy_px for o in other])).max() < 0.1
    asked = {"data": str(tiny_coco), "num_workers": 0}
    of_run = evaluate(EvalConfig(checkpoint=place, out=tmp_path / "run", **asked))
    assert evaluate(EvalConfig(checkpoint=out, **asked))["AP"] == pytest.approx(of_run["AP"], abs=1e-3)
    assert (tmp_path / "eval-val/metrics.json").is_file()
    with pytest.raises(ValueError, match=r"a\.tflite is not a model folder"):
        evaluate(EvalConfig(checkpoint=out, calibrate=True, **asked))


def test_raw_outputs_in_any_runtime_and_8_bits(place, tiny_coco, tmp_path, monkeypatch, capsys):
    need_exporter()
    need_modules("openvino")
    monkeypatch.setenv("MOBILENET_APPS_CACHE", str(tmp_path / "cache"))
    slow = Predictor(place, runtime="torch", device="cpu", conf=0.2)
    images = [read_image(path) for path in sorted((tiny_coco / "val").glob("*.png"))]
    for runtime in ("onnx", "openvino"):
        fast = Predictor(place, runtime=runtime, threads=1, conf=0.2)
        assert runtime in fast.detector.session.name.lower()
        for image in images:
            one, other = slow(image), fast(image)
            assert len(one) == len(other) > 3
            assert [o.score for o in one] == pytest.approx([o.score for o in other], abs=1e-4)
    (kept,) = (tmp_path / "cache/runtime").glob("*.onnx")
    reuse(monkeypatch, kept)
    capsys.readouterr()
    config = {"checkpoint": place, "data": str(tiny_coco), "int8": True, "max_drop": 1.0}
    out = export(Config(**config, out=tmp_path / "a.onnx"))
    assert out.stat().st_size < 0.5 * kept.stat().st_size
    assert "AP on 4 photos: torch " in capsys.readouterr().out


def test_in_8_bits_many_classes_are_still_told_apart(tiny_coco, tmp_path):
    """The file that suppresses gives what torch makes of the raw outputs of a file with the same calibration."""
    need_exporter()
    detector = make_detector(80)
    images = stack_images(squares(tiny_coco / "val"))
    outputs = []
    for number, network in enumerate((detector.network, EndToEnd(detector.network, detector.postprocess))):
        names = OUTPUTS if number else ("class_logits", "offsets")
        graph = Graph(network, names, preprocessing=detector.preprocessing)
        whole, small = tmp_path / f"{number}.onnx", tmp_path / f"{number}-int8.onnx"
        write_onnx(whole, graph, resolution=96, translations=translations())
        quantize(whole, small, (graph.feed(image[None]).contiguous().numpy() for image in images))
        session = load_session(small, "onnx")
        outputs.append([dataclasses.replace(detector, session=session)(image[None])[0] for image in images])
    for expected, found in zip(*outputs, strict=True):
        assert len(expected.scores) == len(found.scores) > 50
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)


def test_comparing_detections():
    boxes = torch.tensor([[[0.1, 0.1, 0.5, 0.5], [0.4, 0.4, 0.9, 0.9], [0, 0, 0, 0]]])
    one = {"boxes_xyxy": boxes, "scores": torch.tensor([[0.9, 0.8, 0.0]]), "labels": torch.tensor([[1, 2, 0]])}
    swapped = {name: value[:, [1, 0, 2]] for name, value in one.items()}
    assert compare_detections(one, one) == 0
    assert compare_detections(one, {**swapped, "scores": one["scores"]}) == 0  # the order at equal scores is open
    assert compare_detections(one, {**one, "scores": one["scores"] - 0.1}) == pytest.approx(0.1)
    assert compare_detections(one, {**one, "boxes_xyxy": boxes / 2}) == float("inf")
    assert compare_detections(one, {**one, "labels": one["labels"] + 1}) == float("inf")


def test_wrong_input_is_one_line(place, tiny_coco, tmp_path):
    with pytest.raises(ValueError, match="--score-threshold is for --outputs detections"):
        export(Config(checkpoint=place, score_threshold=0.5))
    with pytest.raises(ValueError, match="give --checkpoint RUN/best, or --weights coco"):
        export(Config())
    with pytest.raises(ValueError, match="--backbone is for --weights alone"):
        export(Config(checkpoint=place, backbone="a100"))
    other = make_detector()
    other.class_names = ["cat", "dog"]
    other.save(tmp_path / "best", metrics={})
    with pytest.raises(ValueError, match="has none of the detector's classes \\(cat, dog"):
        export(Config(checkpoint=tmp_path / "best", data=str(tiny_coco), out=tmp_path / "a.onnx"))


@pytest.mark.parametrize("size", [(96, 96), (640, 480), (150, 90), (191, 400), (1000, 288), (95, 1000), (193, 192)])
def test_the_script_of_the_docs_resizes_as_training_does(size):
    text = (Path(__file__).resolve().parents[2] / "docs/export.md").read_text(encoding="utf-8")
    lines = textwrap.dedent(
        text[text.index("    height, width = photo.shape") : text.index("    boxes, scores, labels = ")]
    )
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    names: dict = {"cv2": cv2, "photo": photo, "side": 96}
    exec(lines, names)
    assert np.array_equal(names["square"], to_square(photo, 96))
