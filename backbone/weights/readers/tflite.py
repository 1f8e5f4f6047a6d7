"""Reads MobileNet V1 from a TFLite file: float, float16 or 8 bits, one scale per tensor or per channel.

The reader follows the operators from the graph's input, since tensor names differ between converters. Converters fold
BatchNorm into weight and bias; the activation is fused, follows as an operator, or (in files of the TF Object Detection
API's quantised SSD) is implied only by the range 0..6 of the 8-bit output.

A detector's file works too: its backbone is read, and `read_conv` gives its other convolutions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from backbone.mobilenet_v1 import TABLE_1, Activation, Padding
from backbone.weights.loaded_weights import TENSORFLOW_INPUT, Layer, LoadedWeights, Preprocessing, make_weights
from backbone.weights.readers.tflite_graph import TFLiteGraph, TFLiteOperator, TFLiteTensor, read_graph

NORM_EPS = 1e-3  # of the original networks; it is folded, so any value works
DETECTION = "TFLite_Detection_PostProcess"
_PASS_THROUGH = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE")
MIN_SIDE, MAX_SIDE = 16, 8192  # of an input, pixels
_MAX_PASSED = 4  # operators between two convolutions; stops at cycles in damaged files


@dataclass(frozen=True, kw_only=True)
class FoldedConv:
    """A convolution with BatchNorm folded in, in real numbers and PyTorch's layout.

    Attributes:
        weight: (O, I, k, k); depthwise (C, 1, k, k); a fully connected layer is 1x1.
        bias: (O,).
        stride: of both sides.
        padding: "same" as TensorFlow's SAME, "valid", or "symmetric" (a PAD of one pixel all around, then VALID).
        activation: fused, following or implied; None for none.
        output: index of the tensor after the activation.
    """

    weight: Tensor
    bias: Tensor
    stride: int
    padding: str
    activation: Activation | None
    output: int


def read_tflite(data: bytes, *, name: str) -> LoadedWeights:
    """Read MobileNet V1 from the bytes of a TFLite classifier, or the backbone of an SSD detector.

    Raises:
        ValueError: no TFLite file, damaged, or another network; one line that starts with `name`.
    """
    graph = read_graph(data, name=name)
    try:
        convs = read_backbone_convs(graph)
        classifier = _read_classifier(graph, convs[-1].output)
        padding, activation = _common_padding(convs), _common_activation(convs)
        preprocessing = input_preprocessing(graph)
        resolution = _resolution(graph.tensors[graph.inputs[0]].shape)
    except (ValueError, IndexError) as error:  # IndexError: an operator with fewer tensors than it needs
        raise ValueError(f"{name}: {error}") from error
    counts = graph.counts()
    notes = ["operators: " + ", ".join(f"{count} {kind}" for kind, count in counts.items())]
    if DETECTION in counts:
        notes.append("an SSD detector: only its backbone is read here")
    return make_weights(
        [Layer.folded(conv.weight, conv.bias, norm_eps=NORM_EPS) for conv in convs],
        classifier,
        source=name,
        layout="TFLite",
        padding=padding,
        activation=activation,
        norm_eps=NORM_EPS,
        preprocessing=preprocessing,
        resolution=resolution,
        quantised=any(tensor.dtype in (torch.uint8, torch.int8) for tensor in graph.tensors),
        notes=tuple(notes),
    )


def _resolution(shape: tuple[int, ...]) -> int | None:
    """The side of the input; None if it is not square, or dynamic, for which converters write 1."""
    height, width = shape[1:3]
    if max(height, width) > MAX_SIDE or shape[3] != 3:
        raise ValueError(
            f"its input of shape {shape} is no picture of three colours with sides of at most {MAX_SIDE:,}"
        )
    return height if height == width >= MIN_SIDE else None


def read_backbone_convs(graph: TFLiteGraph) -> list[FoldedConv]:
    """The 27 convolutions of MobileNet V1 from the graph's input on, in the order of `loaded_weights.LAYERS`.

    Raises:
        ValueError: an operator or stride differs from Table 1.
    """
    if len(graph.inputs) != 1 or len(graph.tensors[graph.inputs[0]].shape) != 4:
        raise ValueError("not MobileNet V1: its input is not one batch of images")
    at, _ = _normalisation(graph)
    convs: list[FoldedConv] = []
    for block, _, stride in TABLE_1:
        steps = [("CONV_2D", stride)] if block == TABLE_1[0][0] else [("DEPTHWISE_CONV_2D", stride), ("CONV_2D", 1)]
        for kind, expected in steps:
            operator, pads = _next(graph, at, (kind,))
            if operator is None:
                kinds = ", ".join(consumer.kind for consumer in graph.consumers(at)) or "nothing"
                raise ValueError(f"not MobileNet V1: convolution {len(convs) + 1} should be {kind}, found {kinds}")
            conv = read_conv(graph, operator, pads=pads)
            if conv.stride != expected:
                raise ValueError(
                    f"not MobileNet V1: convolution {len(convs) + 1} has stride {conv.stride}, not {expected}"
                )
            convs.append(conv)
            at = conv.output
    return convs


def read_conv(graph: TFLiteGraph, operator: TFLiteOperator, *, pads: tuple[int, ...] = ()) -> FoldedConv:
    """Weight and bias of a CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED operator, dequantised, and its activation.

    Args:
        pads: of a PAD operator before it: pixels on top, at the bottom, left, right.

    Raises:
        ValueError: a form of convolution that MobileNet V1 and SSD do not use, or missing constants.
    """
    weight = graph.real(_constant(graph, operator.inputs[1]))
    if operator.kind == "FULLY_CONNECTED":
        weight = weight[..., None, None]  # (O, I) -> (O, I, 1, 1)
    elif weight.ndim != 4:
        raise ValueError(f"{operator.kind} has a weight of shape {tuple(weight.shape)}")
    elif operator.kind == "CONV_2D":
        weight = weight.permute(0, 3, 1, 2)  # (O, k, k, I) -> (O, I, k, k)
    else:
        weight = weight.permute(3, 0, 1, 2)  # (1, k, k, C) -> (C, 1, k, k)
    options = operator.options
    stride = options.get("stride_h", 1)
    if stride != options.get("stride_w", 1) or {options.get("dilation_h", 1), options.get("dilation_w", 1)} != {1}:
        raise ValueError(f"{operator.kind} has unequal strides or is dilated: {options}")
    bias = torch.zeros(weight.shape[0])
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        stored = _constant(graph, operator.inputs[2])
        if stored.quantization is None and not stored.dtype.is_floating_point:
            raise ValueError(
                f"the bias of {operator.kind} (tensor {stored.index}) is stored as integers without a scale"
            )
        bias = graph.real(stored)
    activation, output = _activation(graph, operator)
    return FoldedConv(
        weight=weight,
        bias=bias,
        stride=stride,
        padding=_padding(options.get("padding", "VALID"), pads, stride),
        activation=activation,
        output=output,
    )


def input_preprocessing(graph: TFLiteGraph) -> Preprocessing:
    """What the first operators do to a pixel, (pixel - mean) * scale, in files that an export.py wrote; what an 8-bit
    input does, real = scale * (pixel - zero point); for a float input x / 127.5 - 1.
    """
    at, constants = _normalisation(graph)
    if at != graph.inputs[0]:
        (r, g, b), (r_std, g_std, b_std) = (constants["SUB"] / 255).tolist(), (1 / constants["MUL"] / 255).tolist()
        return Preprocessing(mean=(r, g, b), std=(r_std, g_std, b_std))
    tensor = graph.tensors[graph.inputs[0]]
    if tensor.quantization is None or tensor.dtype not in (torch.uint8, torch.int8):
        return TENSORFLOW_INPUT
    zero = tensor.quantization.zero_point[0].item() - torch.iinfo(tensor.dtype).min  # the pixel value of 0
    scale = tensor.quantization.scale[0].item()
    if not 1e-6 < scale < 1e6:
        raise ValueError(f"its input has scale {scale:g}: no pixel is divided so")
    mean, std = zero / 255, 1 / (255 * scale)
    return Preprocessing(mean=(mean, mean, mean), std=(std, std, std))


def _normalisation(graph: TFLiteGraph) -> tuple[int, dict[str, Tensor]]:
    """If a SUB and a MUL by three constants each follow the input: the tensor after them, and these; else the input."""
    at = graph.inputs[0]
    constants: dict[str, Tensor] = {}
    for kind in ("CAST", "QUANTIZE", "SUB", "MUL"):
        for operator in graph.consumers(at):
            if operator.kind == kind and operator.inputs[0] == at:
                at = operator.outputs[0]
                if kind in ("SUB", "MUL") and len(operator.inputs) == 2:
                    constants[kind] = graph.real(_constant(graph, operator.inputs[1])).flatten()
                break
    if {kind: numbers.numel() for kind, numbers in constants.items()} == {"SUB": 3, "MUL": 3} and all(
        constants["MUL"] > 0
    ):
        if not all(numbers.isfinite().all() for numbers in constants.values()):
            raise ValueError("what it does to a pixel is not finite")
        return at, constants
    return graph.inputs[0], {}


def _next(
    graph: TFLiteGraph, at: int, kinds: tuple[str, ...], passing: tuple[str, ...] = _PASS_THROUGH
) -> tuple[TFLiteOperator | None, tuple[int, ...]]:
    """The operator of one of `kinds` that reads tensor `at`, and the pixels that a PAD in between adds on each side."""
    pads: tuple[int, ...] = ()
    for _ in range(_MAX_PASSED):
        consumers = graph.consumers(at)
        for operator in consumers:
            if operator.kind in kinds and operator.inputs[0] == at:
                return operator, pads
        passed = next((operator for operator in consumers if operator.kind in (*passing, "PAD")), None)
        if passed is None:
            break
        if passed.kind == "PAD":
            pads = tuple(_constant(graph, passed.inputs[1]).stored.flatten()[2:6].tolist())  # N, then H, W, then C
        at = passed.outputs[0]
    return None, ()


def _constant(graph: TFLiteGraph, index: int) -> TFLiteTensor:
    """A stored tensor, found behind the DEQUANTIZE that float16 files have before each convolution."""
    if index < 0:
        raise ValueError("a convolution has no weight")
    tensor = graph.tensors[index]
    producer = graph.producer(index)
    if tensor.raw is None and producer and producer.kind == "DEQUANTIZE":
        return graph.tensors[producer.inputs[0]]
    return tensor


def _padding(stored: str, pads: tuple[int, ...], stride: int) -> str:
    """The padding of a 1x1 or 3x3 convolution. Keras's files have a PAD at the bottom and right first, like SAME."""
    if stored == "SAME" and not any(pads):
        return "same"
    if stored == "VALID":
        known = {(): "valid", (1, 1, 1, 1): "same"}
        if stride == 2:
            known = {(): "valid", (1, 1, 1, 1): "symmetric", (0, 1, 0, 1): "same"}
        if pads in known:
            return known[pads]
    raise ValueError(f"padding {stored} at stride {stride} after a PAD of {pads} pixels is not one of MobileNet V1's")


def _activation(graph: TFLiteGraph, operator: TFLiteOperator) -> tuple[Activation | None, int]:
    """The activation of a convolution, in any of the three forms, and the tensor after it."""
    names: dict[str, Activation] = {"RELU6": "relu6", "RELU": "relu"}
    output = operator.outputs[0]
    fused = operator.options.get("activation", "NONE")
    if fused in names:
        return names[fused], output
    consumers = graph.consumers(output)
    if len(consumers) == 1 and consumers[0].kind in names:
        return names[consumers[0].kind], consumers[0].outputs[0]
    held = graph.tensors[output].real_range()
    if held and held[0] == 0:  # 8 bits without negative numbers clip like a ReLU, and with a maximum of 6 like a ReLU6
        return ("relu6" if held[1] <= 6.01 else "relu"), output
    return None, output


def _common_padding(convs: list[FoldedConv]) -> Padding:
    """The padding of the convolutions of stride 2; at stride 1 both paddings are one pixel on every side."""
    if any(conv.padding == "valid" for conv in convs if conv.weight.shape[2:] != (1, 1)):
        raise ValueError("not MobileNet V1: a 3x3 convolution is not padded")
    found = {conv.padding for conv in convs if conv.stride == 2}
    if found == {"same"}:
        return "same"
    if found == {"symmetric"}:
        return "symmetric"
    raise ValueError(f"its convolutions of stride 2 are padded {' and '.join(sorted(found))}, not all the same way")


def _common_activation(convs: list[FoldedConv]) -> Activation:
    found = {conv.activation for conv in convs}
    if len(found) == 1 and (activation := found.pop()):
        return activation
    raise ValueError(f"its convolutions have no common activation: {', '.join(sorted(map(str, found)))}")


def _read_classifier(graph: TFLiteGraph, at: int) -> tuple[Tensor, Tensor] | None:
    """Weight (K, C) and bias (K,) after the average pool, or None where no pool follows."""
    pool, _ = _next(graph, at, ("AVERAGE_POOL_2D", "MEAN"), passing=("QUANTIZE", "DEQUANTIZE"))
    if pool is None:
        return None
    head, _ = _next(graph, pool.outputs[0], ("CONV_2D", "FULLY_CONNECTED"))
    if head is None:
        return None
    conv = read_conv(graph, head)
    if conv.weight.shape[2:] != (1, 1):
        raise ValueError(f"its classifier has a kernel of {tuple(conv.weight.shape[2:])}, not 1x1")
    return conv.weight.flatten(1), conv.bias
