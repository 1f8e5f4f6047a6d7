"""From a trained network to a file that other runtimes compute: ONNX or OpenVINO, in 32-bit floats or 8-bit integers.

Every file takes pixels as they come, uint8 RGB, and has the preprocessing inside, so that no copy in floats is made
outside; norms are folded into the convolutions. `load_session` in runtime.py reads it back, to be compared.

Letters in shapes: B batch, H W height and width.
"""

import contextlib
import copy
import hashlib
import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apps.common.choices import Input
from apps.common.images import Preprocessing
from backbone.mobilenet_v1 import MIN_RESOLUTION, Conv2d, ConvNorm

INPUT = "images"
OPENVINO_FILE = "model.xml"  # beside its model.bin
TOLERANCE = 1e-3  # of 32-bit outputs, over the largest of them or 1
OPSET = 20
QUANTIZED = ("Conv", "Clip", "Relu", "Add")  # where the time goes; the head and what decodes stay in floats


class PlainConv(nn.Module):
    """A backbone convolution, with the BatchNorm behind it folded into it, without branches on the input's shape."""

    def __init__(self, conv: Conv2d, norm: nn.BatchNorm2d | None) -> None:
        super().__init__()
        weight, bias = conv.weight.detach(), torch.zeros(conv.out_channels)
        if norm is not None:
            assert norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
            bias = (norm.bias.double() - norm.running_mean.double() * scale).detach().float()
            weight = (weight.double() * scale[:, None, None, None]).detach().float()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.stride, self.groups, self.skips_first_pixel = conv.stride, conv.groups, conv.skips_first_pixel

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))
        padding = self.weight.shape[-1] // 2
        if self.skips_first_pixel:
            x, padding = F.pad(x, (x.shape[-1] % 2, 1, x.shape[-2] % 2, 1)), 0
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, 1, self.groups)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, {self.stride}, {self.groups}, {self.skips_first_pixel}"


def fold_norms(network: nn.Module) -> nn.Module:
    """A copy of a network, in eval mode and on the CPU, that computes the same without the backbone's BatchNorms.

    Group and layer norms stay, as they depend on the input. So do norms of torchvision's networks: the exporter folds
    those.
    """

    def replace(module: nn.Module) -> None:
        for name, child in module.named_children():
            if isinstance(child, ConvNorm):
                norm = child.norm if isinstance(child.norm, nn.BatchNorm2d) else None
                conv = PlainConv(child.conv, norm)
                setattr(module, name, conv if norm else nn.Sequential(conv, child.norm))
            else:
                replace(child)

    network = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    replace(network)
    return network


class Graph(nn.Module):
    """What goes into the file: pixels to named outputs.

    Args:
        network: gives a tensor, or tensors by name.
        outputs: their names, in order.
        preprocessing: of the pixels.
        input: "uint8": (B, H, W, 3) RGB; "float": (B, 3, H, W), preprocessed outside.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, network: nn.Module, outputs: Sequence[str], *, preprocessing: Preprocessing, input: Input = "uint8"
    ) -> None:
        super().__init__()
        self.network = fold_norms(network)
        self.outputs = tuple(outputs)
        self.preprocessing = preprocessing
        self.input: Input = input
        self.register_buffer("mean", torch.tensor(preprocessing.mean)[:, None, None])
        self.register_buffer("scale", 1 / torch.tensor(preprocessing.std)[:, None, None])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.input == "uint8":
            images = (images.permute(0, 3, 1, 2).float() - self.mean) * self.scale
        found = self.network(images)
        return (found,) if isinstance(found, Tensor) else tuple(found[name] for name in self.outputs)

    def extra_repr(self) -> str:
        return f"{self.input}, {self.outputs}"

    def feed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) uint8 as the graph takes them."""
        return images.permute(0, 2, 3, 1) if self.input == "uint8" else self.preprocessing(images)

    @torch.inference_mode()
    def reference(self, images: Tensor) -> dict[str, Tensor]:
        """What the outputs must be, of images (B, 3, H, W) uint8, computed by torch."""
        return dict(zip(self.outputs, self(self.feed(images.cpu())), strict=True))

    def content_hash(self) -> str:
        """Of everything that the outputs depend on."""
        digest = hashlib.blake2b(repr(self).encode(), digest_size=16)
        for name, tensor in self.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()


def write_onnx(
    path: Path,
    graph: Graph,
    *,
    resolution: int,
    metadata: Mapping[str, Any] | None = None,
    dynamic_size: bool = False,
    translations: Mapping[Callable, Callable] | None = None,
) -> None:
    """Write one ONNX file for any batch size.

    Args:
        resolution: side of the square input, pixels.
        metadata: kept in the file; what is not text is written as JSON.
        dynamic_size: any height and width from 32 pixels instead.
        translations: of torch operators that the exporter does not know.

    Raises:
        ValueError: the packages are missing, or the network cannot be exported.
    """
    need("onnx", "onnxscript")
    import onnx

    side = resolution
    shape, spatial = ((2, side, side, 3), (1, 2)) if graph.input == "uint8" else ((2, 3, side, side), (2, 3))
    example = torch.zeros(shape, dtype=torch.uint8 if graph.input == "uint8" else torch.float32)
    dims = {0: torch.export.Dim("batch", min=1)}
    if dynamic_size:
        names = zip(spatial, ("height", "width"), strict=True)
        dims |= {place: torch.export.Dim(name, min=MIN_RESOLUTION, max=4096) for place, name in names}
    try:
        with quietly():
            program = torch.onnx.export(
                graph,
                (example,),
                dynamo=True,
                external_data=False,
                dynamic_shapes=(dims,),
                input_names=[INPUT],
                output_names=list(graph.outputs),
                opset_version=OPSET,
                custom_translation_table=dict(translations or {}),
                verbose=False,
            )
    except Exception as error:  # the exporter raises many kinds
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"this network cannot be exported to ONNX: {reason}") from error
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, as_text(metadata or {}))
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def quantize(source: Path, target: Path, batches: Iterable[np.ndarray]) -> None:
    """Write an ONNX file with 8-bit weights, each channel with a scale of its own, and 8-bit activations.

    Args:
        source: an ONNX file of `write_onnx`.
        batches: inputs as the file takes them, of photos like those it will see; their ranges set the scales.

    Raises:
        ValueError: onnxruntime is missing.
    """
    need("onnx", "onnxruntime", "sympy")
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch}

    prepared = target.with_name(f"prepared-{target.name}")
    with quietly():
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(QUANTIZED),
        )
    prepared.unlink()


def write_openvino(folder: Path, source: Path) -> None:
    """Write `model.xml` and `model.bin` of an ONNX file into a folder; the metadata is in the XML's `rt_info`."""
    need("onnx", "openvino")
    import onnx

    openvino = import_openvino()
    model = openvino.Core().read_model(source)
    for prop in onnx.load(str(source)).metadata_props:
        model.set_rt_info(prop.value, [prop.key])
    openvino.save_model(model, folder / OPENVINO_FILE, compress_to_fp16=False)


def difference(reference: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> float:
    """The largest difference of outputs of the same names, over the largest of them or 1; infinite for NaN."""
    worst = 0.0
    for name, expected in reference.items():
        if given[name].shape != expected.shape:
            return float("inf")
        scale = max(1.0, expected.abs().max().item())
        worst = max(worst, torch.nan_to_num((given[name] - expected).abs(), nan=torch.inf).max().item() / scale)
    return worst


def as_text(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Values that are not text as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)
        for name, value in metadata.items()
    }


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as `sha256sum` prints it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def need(*modules: str) -> None:
    """Raise ValueError, with the command that installs them, if modules cannot be imported."""
    missing = []
    for name in modules:
        try:
            import_openvino() if name == "openvino" else __import__(name)
        except Exception:  # a broken package raises many kinds
            missing.append(name)
    if missing:
        raise ValueError(f"{', '.join(missing)} cannot be imported here: pip install -e '.[fast]' -c constraints.txt")


def import_openvino() -> Any:
    """OpenVINO without its package openvino_telemetry, which reports every import to Google Analytics unless opted out.

    Where that package is missing, OpenVINO takes a stub of its own; here it is missing.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """The exporter and the quantizer tell much that only they understand."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
