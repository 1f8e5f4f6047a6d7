"""torch's operators in TFLite's, by the names that `torch.export` gives them after its decompositions.

Letters in shapes: N C H W of images.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from apps.common.deploy.tflite.layers import (
    NONE,
    RELU,
    activation_of,
    batch_norm,
    constant_pad,
    convolution,
    fused_activation,
    group_norm,
    linear,
    linear_without_bias,
    max_pool,
)
from apps.common.deploy.tflite.lowering import Lowering, Operand, Value
from apps.common.deploy.tflite.selection import SELECTION


def binary(kind: str) -> Callable[..., Value]:
    """ADD, SUB, MUL or DIV, with the activation that follows."""

    def lower(low: Lowering, node: fx.Node, a: Any, b: Any, alpha: float = 1) -> Value:
        if alpha != 1:
            raise ValueError("a sum with a factor")
        activation, last = fused_activation(node)
        return low.binary(kind, a, b, last.meta["val"].shape, activation=activation)

    return lower


def divide(low: Lowering, node: fx.Node, a: Any, b: Any, rounding_mode: str | None = None) -> Value:
    """DIV, which of whole numbers gives whole numbers; FLOOR_DIV rounds down."""
    computed = a if isinstance(a, Value) else b
    if rounding_mode != ("floor" if computed.dtype == "int32" else None):
        raise ValueError("a division that is rounded")
    if rounding_mode:
        return low.binary("FLOOR_DIV", a, b, node.meta["val"].shape)
    return binary("DIV")(low, node, a, b)


def unary(kind: str, options: str = "") -> Callable[..., Value]:
    """An operator of one operand, number by number."""

    def lower(low: Lowering, node: fx.Node, x: Value, *rest: Any) -> Value:
        return low.emit(kind, [x.index], x.shape, options, last=x.last)

    return lower


def clamp(low: Lowering, node: fx.Node, x: Value, least: float | None = None, most: float | None = None) -> Value:
    if (kind := activation_of(node)) is not None:
        return low.emit("RELU" if kind == RELU else "RELU6", [x.index], x.shape, last=x.last)
    if least is not None:
        x = low.binary("MAXIMUM", x, least, x.shape)
    return x if most is None else low.binary("MINIMUM", x, most, x.shape)


def reduce(kind: str) -> Callable[..., Value]:
    """MEAN, SUM or REDUCE_MAX over dimensions."""

    def lower(low: Lowering, node: fx.Node, x: Value, dims: Sequence[int], keep: bool = False, **_: Any) -> Value:
        axes = [dim % len(x.shape) for dim in dims]
        last = x.last and set(axes) == {2, 3}
        index, axes = (x.index, [1, 2]) if last else (low.first(x), axes)
        inputs = [index, low.constant(axes, torch.int64)]
        shape = node.meta["val"].shape
        return low.emit(kind, inputs, shape, "ReducerOptions", last=last and keep, keepDims=bool(keep))

    return lower


def softmax(low: Lowering, node: fx.Node, x: Value, dim: int, *rest: Any) -> Value:
    if dim % len(x.shape) != len(x.shape) - 1:
        raise ValueError("a softmax that is not along the last dimension")
    return low.emit("SOFTMAX", [low.first(x)], x.shape, "SoftmaxOptions", beta=1.0)


def permute(low: Lowering, node: fx.Node, x: Value, dims: Sequence[int]) -> Value:
    """Between N C H W and N H W C nothing moves: the file has images channels last."""
    shape, dims = node.meta["val"].shape, [dim % len(x.shape) for dim in dims]
    if tuple(dims) == (0, 2, 3, 1) and x.last:
        return Value(x.index, tuple(shape), x.dtype)
    if tuple(dims) == (0, 3, 1, 2) and not x.last:
        return Value(x.index, tuple(shape), x.dtype, last=True)
    order = low.constant(dims, torch.int64)
    return low.emit("TRANSPOSE", [low.first(x), order], shape, "TransposeOptions", dtype=x.dtype)


def reshape(low: Lowering, node: fx.Node, x: Value, *rest: Any) -> Value:
    return low.reshape(Value(low.first(x), x.shape, x.dtype), node.meta["val"].shape)


def concatenate(low: Lowering, node: fx.Node, parts: Sequence[Operand], dim: int = 0) -> Value:
    shape = node.meta["val"].shape
    last, axis = all(isinstance(part, Value) and part.last for part in parts), dim % len(shape)
    inputs = [low.channels_last(part) if last else low.first(part) for part in parts]
    stored = (0, 3, 1, 2)[axis] if last else axis
    dtype = next(part.dtype for part in parts if isinstance(part, Value))
    values = {"axis": stored, "fusedActivationFunction": NONE}
    return low.emit("CONCATENATION", inputs, shape, "ConcatenationOptions", dtype=dtype, last=last, **values)


def cut(low: Lowering, node: fx.Node, x: Value, dim: int = 0, start: int | None = 0, *rest: Any) -> Value:
    """aten.slice in steps of 1."""
    if len(rest) > 1 and rest[1] != 1:
        raise ValueError("a slice in steps")
    shape, begin = node.meta["val"].shape, [0] * len(x.shape)
    begin[dim] = (start or 0) % x.shape[dim]
    inputs = [low.first(x), low.constant(begin, torch.int64), low.constant(list(shape), torch.int64)]
    return low.emit("SLICE", inputs, shape, "SliceOptions", dtype=x.dtype)


def upsample(low: Lowering, node: fx.Node, x: Value, *rest: Any) -> Value:
    """Nearest neighbour, as torch's "nearest" and TensorFlow's first version have it: floor(i * in / out)."""
    shape = node.meta["val"].shape
    size = low.constant(list(shape[2:]), torch.int64)
    values: dict[str, Any] = {"alignCorners": False, "halfPixelCenters": False}
    inputs = [low.channels_last(x), size]
    return low.emit("RESIZE_NEAREST_NEIGHBOR", inputs, shape, "ResizeNearestNeighborOptions", last=True, **values)


def copy(low: Lowering, node: fx.Node, x: Value, *rest: Any, dtype: torch.dtype | None = None, **_: Any) -> Value:
    """aten._to_copy and the like: another type of number, or nothing."""
    wanted = {torch.float32: "float32", torch.int64: "int32", torch.int32: "int32"}.get(dtype, x.dtype)  # type: ignore[arg-type]
    return x if wanted == x.dtype else low.cast(x, wanted)


def same(low: Lowering, node: fx.Node, x: Value, size: Sequence[int], *rest: Any) -> Value:
    """aten.as_strided of pooled images: the decompositions leave it, and it changes nothing."""
    if tuple(size) != x.shape or x.shape[2:] != (1, 1):
        raise ValueError("a tensor with strides of its own")
    return x


OPERATORS: dict[str, Callable[..., Any]] = {
    "convolution": convolution,
    "constant_pad_nd": constant_pad,
    "max_pool2d_with_indices": max_pool,
    "add": binary("ADD"),
    "sub": binary("SUB"),
    "mul": binary("MUL"),
    "div": divide,
    "hardtanh": clamp,
    "relu": clamp,
    "clamp": clamp,
    "sigmoid": unary("LOGISTIC"),
    "log": unary("LOG"),
    "exp": unary("EXP", "ExpOptions"),
    "mean": reduce("MEAN"),
    "sum": reduce("SUM"),
    "amax": reduce("REDUCE_MAX"),
    "addmm": linear,
    "mm": linear_without_bias,
    "_softmax": softmax,
    "permute": permute,
    "view": reshape,
    "unsqueeze": reshape,
    "squeeze": reshape,
    "cat": concatenate,
    "slice": cut,
    "upsample_nearest2d": upsample,
    "native_group_norm": group_norm,
    "_native_batch_norm_legit_no_training": batch_norm,
    "_to_copy": copy,
    "as_strided": same,
    "clone": copy,
    "alias": copy,
    **SELECTION,
}
