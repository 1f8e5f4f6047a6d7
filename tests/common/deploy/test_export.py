"""What a format cannot hold, or has no packages for, is told before photos are read, and nothing is left."""

import importlib.util
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import nn

from apps.common.choices import Format
from apps.common.deploy import export as export_module
from apps.common.deploy.export import LACKS, Checks, Metric, _check_metric, _check_outputs, write_checked
from apps.common.deploy.formats import quantize
from apps.common.deploy.graph import Graph
from apps.common.images import Normalisation
from backbone.mobilenet_v1 import create_backbone

NEEDED = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "onnxruntime", "openvino"),
    "web": ("onnx", "onnxscript", "onnxruntime"),
    "tflite": ("ai_edge_litert", "flatbuffers", "ai_edge_quantizer"),
    "ncnn": ("pnnx", "ncnn"),
    "executorch": ("executorch", "torchao"),
}
EXTRAS = {"tflite": "tflite", "ncnn": "ncnn", "executorch": "phone"}
KINDS = [
    (one, int8) for one in get_args(Format) for int8 in (False, True) if not (int8 and "--int8" in LACKS.get(one, ()))
]


class Odd(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.i1e(x.mean((2, 3)))


def export(place, network: nn.Module, format: Format, int8: bool, **options) -> None:
    def no_photos() -> Checks:
        raise AssertionError("photos were read")

    graph = Graph(network, ("logits",), preprocessing=Normalisation())
    calibration = no_photos if int8 else None
    out = place / {"onnx": "a.onnx", "tflite": "a.tflite", "executorch": "a.pte"}.get(format, "a")
    settings = {"resolution": 64, "metadata": {}, "max_drop": None, "calibration": calibration, **options}
    write_checked(out, graph, format=format, checks=no_photos, **settings)


@pytest.mark.parametrize(("format", "int8"), KINDS)
def test_an_operator_that_a_format_lacks(tmp_path, format, int8):
    if not all(map(importlib.util.find_spec, NEEDED[format])):
        pytest.skip(f"needs the packages of {format}: pip install -e '.[{EXTRAS.get(format, 'fast')}]'")
    with pytest.raises(ValueError, match="this network cannot be exported to ") as stop:
        export(tmp_path, Odd(), format, int8)
    assert "\n" not in str(stop.value) and not list(tmp_path.iterdir())


def test_what_8_bits_cannot_be_as_a_whole(tmp_path):
    if not all(map(importlib.util.find_spec, NEEDED["tflite"])):
        pytest.skip("needs AI Edge Quantizer: pip install -e '.[tflite]'")
    network = create_backbone("a025", num_classes=3, norm="group").eval()
    with pytest.raises(
        ValueError, match=r"this network cannot be in 8 bits as a whole: .* stays in floats \(--io float\)$"
    ):
        export(tmp_path, network, "tflite", True, io="int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("format", "int8"), KINDS)
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, format, int8):
    installed = [name for name in NEEDED[format] if importlib.util.find_spec(name)]
    for name in installed if int8 else installed[:2]:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "executorch.exir" if name == "executorch" else name, None)
            if name in ("ai_edge_quantizer", "torchao") and not int8:
                continue
            with pytest.raises(ValueError, match=rf"cannot be imported here.*'\.\[{EXTRAS.get(format, 'fast')}\]'"):
                export(tmp_path, Odd(), format, int8)
    assert not list(tmp_path.iterdir())


def test_8_bits_may_lose_one_point_and_no_more(capsys):
    metric = Metric("top-1", lambda value: value, 0.855, 200)
    _check_metric(metric, 0.845, None, exact=False)
    with pytest.raises(ValueError, match=r"top-1 0.8550 becomes 0.8400, --max-drop is 0.01"):
        _check_metric(metric, 0.84, None, exact=False)
    assert "torch 0.8550, exported 0.8450" in capsys.readouterr().out


def test_boxes_in_8_bits_that_cannot_be_matched_are_no_difference_of_inf(capsys):
    graph = Graph(create_backbone("a010", num_classes=2), ("logits",), preprocessing=Normalisation())
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    for exact in (False, True):
        with pytest.raises(ValueError, match="something else than torch") if exact else nullcontext():
            _check_outputs(graph, graph.reference, images, lambda one, other: float("inf"), exact=exact)
        said = "outputs differ from torch's too much to be compared one by one, on 1 photos"
        assert said in capsys.readouterr().out


def test_what_fails_while_it_writes_is_one_line(tmp_path, monkeypatch):
    """On a full disk OpenVINO raises this, and onnxruntime silently writes half a file, which ONNX cannot read."""
    for name in NEEDED["openvino"]:
        pytest.importorskip(name)
    from google.protobuf.message import DecodeError
    from onnxruntime.quantization import shape_inference

    def fails(error: Exception) -> Callable:
        def function(*args, **options) -> None:
            raise error

        return function

    monkeypatch.setattr(export_module, "write_onnx", lambda path, *args, **options: onnx_of_nothing(path))
    monkeypatch.setattr("openvino.save_model", fails(RuntimeError("basic_ios::clear: iostream error")))
    with pytest.raises(ValueError, match=r"OpenVINO cannot write it, is the disk full\? basic_ios::clear"):
        export(tmp_path, Odd(), "openvino", int8=False)
    monkeypatch.setattr(shape_inference, "quant_pre_process", fails(DecodeError("Wire format was corrupt")))
    with pytest.raises(ValueError, match="this network cannot be exported in 8 bits: Wire format was corrupt"):
        quantize(tmp_path / "a.onnx", tmp_path / "b.onnx", [])
    assert not list(tmp_path.iterdir())


def onnx_of_nothing(path: Path) -> None:
    import onnx

    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [value], [result])), path)
