"""TFLite files compute in their own runtime what torch does, say what they are, and are read back to the bit."""

import json
import sys
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("ai_edge_litert", reason="needs LiteRT: python -m pip install -e '.[tflite]' -c constraints.txt")

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from apps.common.deploy.agreement import difference
from apps.common.deploy.export import check_format, default_out
from apps.common.deploy.graph import Graph
from apps.common.deploy.tflite.convert import convert, write_tflite
from apps.common.deploy.tflite.session import TFLiteSession
from apps.common.deploy.tflite.writer import read_about
from apps.common.images import Normalisation
from apps.detection.model.create import create_detector
from apps.faceattr.model.create import create_network
from backbone import create_backbone
from backbone.weights import create_backbone_from
from backbone.weights.read import read_weights
from backbone.weights.readers.tflite_graph import read_graph
from tests.backbone.weights.weight_files import shuffle_norms

IMAGENET = Normalisation(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
BACKBONES = {
    "a025, same": {"name": "a025"},
    "a050, symmetric": {"name": "a050", "padding": "symmetric", "activation": "relu", "norm_eps": 1e-5},
    "group norm": {"name": "a025", "norm": "group"},
    "layer norm": {"name": "a025", "norm": "layer", "shallow": True},
    "full, residual": {"name": "a010", "conv": "full", "residual": True},
}


def classifier(num_classes: int = 7, **options) -> nn.Module:
    torch.manual_seed(0)
    network = create_backbone(options.pop("name"), num_classes=num_classes, **options).eval()
    return network if options.get("norm") in ("group", "layer") else shuffle_norms(network, seed=1)


def run(data: bytes, images: torch.Tensor) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The outputs of pixels (B, 3, H, W), image by image, in the runtime alone, and the operators of the file."""
    plain = Interpreter(
        model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    plain.allocate_tensors()
    call = plain.get_signature_runner("serving_default")
    found = [call(images=image[None].permute(0, 2, 3, 1).contiguous().numpy()) for image in images]
    outputs = {name: torch.from_numpy(np.concatenate([one[name] for one in found])) for name in found[0]}
    return outputs, [operator["op_name"] for operator in plain._get_ops_details()]


def noise(side: int, count: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).integers(0, 256, (count, 3, side, side), dtype=np.uint8))


@pytest.mark.parametrize("options", BACKBONES.values(), ids=BACKBONES)
def test_a_classifier_computes_what_torch_does(options):
    network, side = classifier(**options), 64 if "padding" in options or len(options) == 1 else 75
    graph = Graph(network, ("logits",), preprocessing=IMAGENET)
    outputs, operators = run(convert(graph, resolution=side), noise(side))
    assert difference(graph.reference(noise(side)), outputs) < 1e-5
    if options["name"] == "a025" and "norm" not in options:  # as clean as TensorFlow's own: nothing between the layers
        layers = ["CONV_2D", *["DEPTHWISE_CONV_2D", "CONV_2D"] * 13]
        assert operators == ["CAST", "SUB", "MUL", *layers, "MEAN", "FULLY_CONNECTED"]


@pytest.mark.parametrize("head", ["ssd", "pyramid"])
def test_a_detector_computes_what_torch_does(head):
    torch.manual_seed(0)
    network = shuffle_norms(create_detector("a025", num_classes=3, resolution=100, head=head).eval(), seed=1)
    graph = Graph(network, ("class_logits", "offsets"), preprocessing=Normalisation())
    outputs, operators = run(convert(graph, resolution=100), noise(100))
    assert set(outputs) == {"class_logits", "offsets"}
    assert difference(graph.reference(noise(100)), outputs) < 1e-4
    assert "TRANSPOSE" not in operators


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_a_teacher_computes_what_torch_does(name):
    torch.manual_seed(0)
    network = create_network(name, num_attributes=3, style=create_backbone("a025", num_classes=0).style).eval()
    graph = Graph(shuffle_norms(network, seed=1), ("logits",), preprocessing=IMAGENET)
    outputs, _ = run(convert(graph, resolution=64), noise(64))
    assert difference(graph.reference(noise(64)), outputs) < 1e-4


@pytest.mark.parametrize("options", [BACKBONES["a025, same"], BACKBONES["a050, symmetric"]], ids=["same", "symmetric"])
def test_the_reader_of_weights_reads_it_back_to_the_bit(options):
    graph = Graph(classifier(1000, **options), ("logits",), preprocessing=IMAGENET)
    weights = read_weights(convert(graph, resolution=64), name="net.tflite")
    assert (weights.padding, weights.activation) == (options.get("padding", "same"), options.get("activation", "relu6"))
    assert (weights.backbone, weights.num_classes, weights.resolution) == (options["name"], 1000, 64)
    assert torch.tensor(weights.preprocessing.mean) * 255 == pytest.approx(torch.tensor(IMAGENET.mean))
    assert torch.tensor(weights.preprocessing.std) * 255 == pytest.approx(torch.tensor(IMAGENET.std))
    written = dict(graph.network.named_parameters())
    names = [name.removesuffix(".weight") for name in written if name.endswith("weight") and "classifier" not in name]
    assert len(names) == 27
    for name in names:
        assert torch.equal(weights.state_dict[f"{name}.conv.weight"], written[f"{name}.weight"])
        assert torch.equal(weights.state_dict[f"{name}.norm.bias"], written[f"{name}.bias"])
    assert torch.equal(weights.state_dict["classifier.weight"], written["classifier.weight"])
    assert torch.equal(weights.state_dict["classifier.bias"], written["classifier.bias"])
    again = create_backbone_from(weights).eval()(weights.preprocessing.normalise(noise(64)))
    torch.testing.assert_close(again, graph.reference(noise(64))["logits"], atol=1e-3, rtol=1e-3)


def test_what_it_is_stands_in_a_zip_at_its_end(tmp_path):
    graph = Graph(classifier(3, name="a025"), ("logits",), preprocessing=Normalisation())
    path = tmp_path / "a net.tflite"
    names = ["bléu", "two\nlines", "c"]
    write_tflite(path, graph, resolution=48, metadata={"class_names": names, "app": "x", "crop": 0.5})
    with zipfile.ZipFile(path) as archive:
        assert json.loads(json.loads(archive.read("metadata.json"))["class_names"]) == names
        assert archive.read("labels.txt").decode() == "bléu\ntwo lines\nc\n"
    session = TFLiteSession(path, threads=1, preprocessing=None)
    assert session.metadata == {"class_names": json.dumps(names, ensure_ascii=False), "app": "x", "crop": "0.5"}
    assert difference(graph.reference(noise(48, 3)), session(noise(48, 3))) < 1e-5
    with pytest.raises(ValueError, match=r"the file takes \[1, 48, 48, 3\], not \[1, 64, 64, 3\]"):
        session(noise(64))  # LiteRT itself would compute it, and 8192 x 8192, too
    for damaged in (path.read_bytes()[:-40], b"", b"PK\5\6" * 50):
        path.write_bytes(damaged)
        assert read_about(path) == {}


def test_an_input_that_is_preprocessed_outside(tmp_path):
    graph = Graph(classifier(3, name="a025"), ("logits",), preprocessing=IMAGENET, input="float")
    write_tflite(tmp_path / "a.tflite", graph, resolution=48, metadata={})
    session = TFLiteSession(tmp_path / "a.tflite", threads=1, preprocessing=IMAGENET)
    assert difference(graph.reference(noise(48)), session(noise(48))) < 1e-5


class Odd(nn.Module):
    def forward(self, x):
        return torch.cumsum(x, 1)


def test_what_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    graph = Graph(Odd(), ("logits",), preprocessing=Normalisation())
    with pytest.raises(
        ValueError, match=r"cannot be exported to TFLite: operator aten.cumsum.default is not translated$"
    ):
        write_tflite(tmp_path / "a.tflite", graph, resolution=48, metadata={})
    with pytest.raises(ValueError, match=r"--format tflite is without .*: --dynamic-size is for onnx, openvino$"):
        check_format("tflite", int8=False, dynamic_size=True)
    with pytest.raises(ValueError, match="--format tflite --int8 takes pixels: without --input float"):
        check_format("tflite", int8=True, input="float")
    assert default_out(tmp_path / "best", "a", format="tflite", int8=False) == tmp_path / "export/a.tflite"
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(ValueError, match=r"ai_edge_litert cannot be imported here: pip install -e '\.\[tflite\]'"):
        write_tflite(tmp_path / "a.tflite", graph, resolution=48, metadata={})
    assert list(tmp_path.iterdir()) == []


def closeness(reference: torch.Tensor, given: torch.Tensor) -> float:
    """Signal over noise, decibels."""
    return (10 * torch.log10(reference.square().mean() / (reference - given).square().mean())).item()


def test_ranges_in_8_bits_are_of_all_photos(tmp_path):
    pytest.importorskip("ai_edge_quantizer", reason="needs AI Edge Quantizer: pip install -e '.[tflite]'")
    graph, path = Graph(classifier(name="a025"), ("logits",), preprocessing=IMAGENET), tmp_path / "a.tflite"
    photo, gray = noise(96), torch.full((1, 3, 96, 96), 124).byte()
    write_tflite(path, graph, resolution=96, metadata={}, calibration=lambda: torch.cat([*[gray] * 5, photo]))
    given = TFLiteSession(path, threads=1, preprocessing=None)(photo)["logits"]
    assert closeness(graph.reference(photo)["logits"], given) > 20


@pytest.mark.parametrize("kind", ["classifier", "ssd", "pyramid"])
def test_in_8_bits(tmp_path, kind):
    pytest.importorskip("ai_edge_quantizer", reason="needs AI Edge Quantizer: pip install -e '.[tflite]'")
    if kind == "classifier":
        graph = Graph(classifier(name="a025"), ("logits",), preprocessing=IMAGENET)
    else:
        torch.manual_seed(0)
        network = shuffle_norms(create_detector("a025", num_classes=3, resolution=96, head=kind).eval(), seed=1)
        graph = Graph(network, ("class_logits", "offsets"), preprocessing=Normalisation())
    photos, about = noise(96, 8), {"outputs": list(graph.outputs)}
    reference, sessions, float_size = graph.reference(photos), {}, len(convert(graph, resolution=96))
    for whole in (False, True) if kind != "pyramid" else (False,):
        path = tmp_path / f"{whole}.tflite"
        write_tflite(path, graph, resolution=96, metadata=about, calibration=lambda: photos, whole=whole)
        assert path.stat().st_size < 0.45 * float_size
        outputs = TFLiteSession(path, threads=1, preprocessing=None)(photos)
        assert all(closeness(reference[name], outputs[name]) > 15 for name in graph.outputs)
        plain = Interpreter(model_path=str(path))
        ends = [plain.get_input_details()[0], *plain.get_output_details()]
        assert {end["dtype"] for end in ends[1:]} == {np.int8 if whole else np.float32}
        assert (ends[0]["dtype"], ends[0]["quantization"]) == ((np.int8, (1, -128)) if whole else (np.uint8, (1, 0)))
        weights = read_graph(path.read_bytes(), name="a.tflite")
        layers = [one for one in weights.operators if one.kind in ("CONV_2D", "DEPTHWISE_CONV_2D")]
        for layer in layers:  # a scale for each channel
            kernel = weights.tensors[layer.inputs[1]]
            channels = kernel.shape[3 if layer.kind == "DEPTHWISE_CONV_2D" else 0]
            assert kernel.dtype == torch.int8 and kernel.quantization.scale.numel() == channels
        sessions[whole] = outputs
    if kind == "classifier":  # the same inside: an output is off by half a step of its scale
        step = ends[1]["quantization"][0]
        assert (sessions[True]["logits"] - sessions[False]["logits"]).abs().max() <= 1.01 * step
        weights = read_weights((tmp_path / "False.tflite").read_bytes(), name="a.tflite")
        assert weights.quantised and torch.tensor(weights.preprocessing.mean) * 255 == pytest.approx(
            torch.tensor(IMAGENET.mean), abs=1
        )
    if kind == "pyramid":
        with pytest.raises(ValueError, match=r"this network cannot be in 8 bits as a whole: .* stays in floats"):
            write_tflite(
                tmp_path / "x.tflite", graph, resolution=96, metadata=about, calibration=lambda: photos, whole=True
            )
        assert not (tmp_path / "x.tflite").exists()
