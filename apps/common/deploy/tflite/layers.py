"""torch's layers in TFLite's operators: convolutions, pools, linear layers and norms.

Letters in shapes: N C H W of images, O output channels, k kernel side.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from apps.common.deploy.tflite.lowering import Lowering, Operand, Padded, Value, operator_name

NONE, RELU, RELU6 = 0, 1, 3  # schema.fbs, enum ActivationFunctionType
SAME, VALID = 0, 1  # enum Padding
Sides = Sequence[int]  # (height, width)
Pads = tuple[int, int, int, int]  # top, bottom, left, right


def fused_activation(node: fx.Node) -> tuple[int, fx.Node]:
    """The activation that alone uses a node's output, and the node whose output the operator then gives."""
    if len(node.users) == 1:
        (user,) = node.users
        if (kind := activation_of(user)) is not None:
            return kind, user
    return NONE, node


def activation_of(node: fx.Node) -> int | None:
    name, bounds = operator_name(node), (*node.args[1:], *node.kwargs.values())
    if name == "relu" or (name == "clamp" and bounds in ((0,), (0, None))):
        return RELU
    return RELU6 if name in ("hardtanh", "clamp") and bounds == (0, 6) else None


def convolution(
    low: Lowering,
    node: fx.Node,
    x: Operand | Padded,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sides,
    padding: Sides,
    dilation: Sides,
    transposed: bool,
    output_padding: Sides,
    groups: int,
) -> Value:
    """A convolution with the zeros around its input, if it can, as SAME, and with the activation that follows."""
    height, width = padding
    pads: Pads = (height, height, width, width)
    if isinstance(x, Padded):
        top, bottom, left, right = x.pads
        x, pads = x.value, (top + height, bottom + height, left + width, right + width)
    image = low.images(x)
    channels = image.shape[1]
    depthwise = groups == channels > 1
    if transposed or (groups != 1 and not depthwise):
        raise ValueError("a transposed convolution, or one in several groups of channels")
    image, scheme = _padded(low, image, pads, weight.shape[2:], stride, dilation)
    kernel = weight.permute(1, 2, 3, 0) if depthwise else weight.permute(0, 2, 3, 1)  # (1, k, k, O), (O, k, k, C)
    biases = torch.zeros(len(weight)) if bias is None else bias
    values: dict[str, Any] = {"depthMultiplier": len(weight) // channels} if depthwise else {}
    activation, last = fused_activation(node)
    return low.emit(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        [image.index, low.constant(kernel), low.constant(biases)],
        last.meta["val"].shape,
        "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions",
        last=True,
        padding=scheme,
        strideH=stride[0],
        strideW=stride[1],
        dilationHFactor=dilation[0],
        dilationWFactor=dilation[1],
        fusedActivationFunction=activation,
        **values,
    )


def _padded(
    low: Lowering, image: Value, pads: Pads, kernel: Sides, stride: Sides, dilation: Sides = (1, 1)
) -> tuple[Value, int]:
    """The image with its pads and VALID; or the image as it is, where SAME adds these pads or there are none."""
    if not any(pads):
        return image, VALID
    same: list[int] = []
    for side, k, s, d in zip(image.shape[2:], kernel, stride, dilation, strict=True):
        missing = max((-(-side // s) - 1) * s + (k - 1) * d + 1 - side, 0)
        same += [missing // 2, missing - missing // 2]
    if pads == tuple(same):
        return image, SAME
    return pad(low, image, pads), VALID


def pad(low: Lowering, image: Value, pads: Pads) -> Value:
    """Zeros around an image."""
    (n, c, h, w), (top, bottom, left, right) = image.shape, pads
    rows = low.constant([[0, 0], [top, bottom], [left, right], [0, 0]], torch.int64)
    shape = (n, c, h + top + bottom, w + left + right)
    return low.emit("PAD", [image.index, rows], shape, "PadOptions", last=True)


def constant_pad(low: Lowering, node: fx.Node, x: Value, pads: Sequence[int], value: float = 0.0) -> Operand | Padded:
    """Left to the convolutions behind it if they alone use it."""
    if value or min(pads) < 0:
        raise ValueError("a border that is not of zeros")
    if len(x.shape) == 4 and len(pads) == 4:
        left, right, top, bottom = pads
        if all(operator_name(user) == "convolution" for user in node.users):
            return Padded(low.images(x), (top, bottom, left, right))
        return pad(low, low.images(x), (top, bottom, left, right))
    rows = [[0, 0]] * (len(x.shape) - len(pads) // 2) + [list(pads[i : i + 2]) for i in range(len(pads) - 2, -1, -2)]
    return low.emit("PAD", [low.first(x), low.constant(rows, torch.int64)], node.meta["val"].shape, "PadOptions")


def max_pool(
    low: Lowering, node: fx.Node, x: Value, kernel: Sides, stride: Sides = (), padding: Sides = (0, 0), *rest: Any
) -> tuple[Value]:
    """After a ReLU only, where zeros around the image change no maximum; the indices are not computed."""
    if any(padding) and activation_of(node.args[0]) is None:  # type: ignore[arg-type]
        raise ValueError("a maximum pool with a border, of numbers that may be negative")
    height, width = padding[0], padding[-1]
    image, scheme = _padded(low, low.images(x), (height, height, width, width), kernel, stride or kernel)
    sides: dict[str, Any] = {"filterHeight": kernel[0], "filterWidth": kernel[1]}
    sides |= {"strideH": (stride or kernel)[0], "strideW": (stride or kernel)[1]}
    shape = node.meta["val"][0].shape
    return (low.emit("MAX_POOL_2D", [image.index], shape, "Pool2DOptions", last=True, padding=scheme, **sides),)


def linear(low: Lowering, node: fx.Node, bias: Tensor, x: Value, weight: Tensor) -> Value:
    """aten.addmm: bias + x @ weight."""
    inputs = [low.first(x), low.constant(weight.T), low.constant(bias)]
    activation, last = fused_activation(node)
    shape = last.meta["val"].shape
    return low.emit(
        "FULLY_CONNECTED", inputs, shape, "FullyConnectedOptions", fusedActivationFunction=activation, keepNumDims=False
    )


def linear_without_bias(low: Lowering, node: fx.Node, x: Value, weight: Tensor) -> Value:
    return linear(low, node, torch.zeros(weight.shape[1]), x, weight)


def group_norm(
    low: Lowering,
    node: fx.Node,
    x: Value,
    weight: Tensor,
    bias: Tensor,
    n: int,
    c: int,
    hw: int,
    groups: int,
    eps: float,
) -> tuple[Value]:
    """In its parts: each image's mean and variance over the pixels and channels of a group."""
    image = low.images(x)
    parts = low.reshape(image, (n, hw, groups, c // groups))
    axes = low.constant([1, 3], torch.int64)

    def mean(value: Value) -> Value:
        return low.emit("MEAN", [value.index, axes], (n, 1, groups, 1), "ReducerOptions", keepDims=True)

    centred = low.binary("SUB", parts, mean(parts), parts.shape)
    variance = mean(low.binary("MUL", centred, centred, parts.shape))
    above_zero = low.binary("ADD", variance, eps, variance.shape)
    scale = low.emit("RSQRT", [above_zero.index], variance.shape)
    scaled = low.binary("MUL", centred, scale, parts.shape)
    back = low.reshape(scaled, [image.shape[i] for i in (0, 2, 3, 1)])
    normed = Value(back.index, image.shape, last=True)
    normed = low.binary("MUL", normed, weight[:, None, None], image.shape)
    return (low.binary("ADD", normed, bias[:, None, None], image.shape),)


def batch_norm(
    low: Lowering,
    node: fx.Node,
    x: Value,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Value]:
    """With what was learnt, as a factor and a term of each channel."""
    scale = (weight.double() / (variance.double() + eps).sqrt())[:, None, None]
    offset = bias.double()[:, None, None] - mean.double()[:, None, None] * scale
    scaled = low.binary("MUL", x, scale.float(), x.shape)
    return (low.binary("ADD", scaled, offset.float(), x.shape),)
