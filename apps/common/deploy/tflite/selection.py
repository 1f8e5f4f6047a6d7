"""torch's operators that choose and sort, in TFLite's: what a detector needs to give finished boxes of one image.

Letters in shapes: N images, M numbers of an image, D those that are chosen.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from apps.common.deploy.tflite.lowering import Lowering, Operand, Value, operator_name

NO_AREA = 1e-4  # image sides that a box is wide and high at least: LiteRT gives one without area again and again


def top(low: Lowering, node: fx.Node, x: Value, k: int, dim: int = -1, *rest: Any) -> tuple[Value, Value]:
    """The k largest along the last dimension, the largest first, and where they are."""
    if dim % len(x.shape) != len(x.shape) - 1 or False in rest:
        raise ValueError("a choice of the smallest, or not along the last dimension")
    shape = tuple(node.meta["val"][0].shape)
    dtypes = (x.dtype, "int32")
    found = [
        low.file.tensor(f"{low.name}/{name}", shape, dtype) for name, dtype in zip(("best", "at"), dtypes, strict=True)
    ]
    low.file.operator("TOPK_V2", [low.first(x), low.constant(k)], found, "TopKV2Options")
    best, at = (Value(index, shape, dtype) for index, dtype in zip(found, dtypes, strict=True))
    return best, at


def expand(low: Lowering, node: fx.Node, x: Value, *rest: Any) -> Value:
    """Nothing: `gather` alone uses it, and takes whole rows."""
    if any(operator_name(user) != "gather" for user in node.users):
        raise ValueError("a tensor that is repeated")
    return x


def gather(low: Lowering, node: fx.Node, x: Value, dim: int, at: Value, *rest: Any) -> Value:
    """Of one image: x (1, M) or (1, M, ...) at places (1, D) or (1, D, 1), whole rows."""
    if dim != 1 or x.shape[0] != 1 or max((1, *at.shape[2:])) > 1:
        raise ValueError("a choice that is not of whole rows of one image")
    places = low.reshape(Value(low.first(at), at.shape, at.dtype), (at.shape[1],))
    inputs, shape = [low.first(x), places.index], node.meta["val"].shape
    return low.emit("GATHER", inputs, shape, "GatherOptions", dtype=x.dtype, axis=1, batchDims=0)


def rows(low: Lowering, node: fx.Node, x: Operand, indices: Sequence[Value]) -> Value:
    """aten.index by whole numbers in the first dimension."""
    (at,) = indices
    if at.dtype != "int32":
        raise ValueError("a choice by a mask")
    inputs, shape = [low.first(x), at.index], node.meta["val"].shape
    return low.emit("GATHER", inputs, shape, "GatherOptions", axis=0, batchDims=0)


def greater(low: Lowering, node: fx.Node, x: Value, limit: float) -> Value:
    return low.binary("GREATER", x, limit, x.shape, dtype="bool")


def remainder(low: Lowering, node: fx.Node, x: Value, divisor: float) -> Value:
    return low.binary("FLOOR_MOD", x, divisor, x.shape)


def keep_best(
    low: Lowering, node: fx.Node, boxes_xyxy: Value, scores: Value, iou: float, score: float, most: int
) -> Value:
    """Non-maximum suppression of one image: of boxes (1, M, 4) with scores (1, M), 1 for those that stay, else 0."""
    num_boxes = scores.shape[1]
    boxes, of_boxes = (low.reshape(x, x.shape[1:]) for x in (boxes_xyxy, scores))
    begins = [low.constant(numbers) for numbers in ([0, 0], [0, 2], [num_boxes, 2])]
    first, second = (
        low.emit("SLICE", [boxes.index, begin, begins[2]], (num_boxes, 2), "SliceOptions") for begin in begins[:2]
    )
    least = low.binary("ADD", first, NO_AREA, first.shape)
    second = low.binary("MAXIMUM", second, least, first.shape)
    values: dict[str, Any] = {"axis": 1, "fusedActivationFunction": 0}
    boxes = low.emit("CONCATENATION", [first.index, second.index], boxes.shape, "ConcatenationOptions", **values)
    found = low.file.tensor(f"{low.name}/found", (most,), "int32")
    count = low.file.tensor(f"{low.name}/count", (), "int32")
    limits = [low.constant(value) for value in (most, iou, score)]
    low.file.operator(
        "NON_MAX_SUPPRESSION_V4", [boxes.index, of_boxes.index, *limits], [found, count], "NonMaxSuppressionV4Options"
    )
    numbers, num_found = torch.arange(most, dtype=torch.int32), Value(count, (), "int32")
    is_found = low.cast(low.binary("LESS", numbers, num_found, (most,), dtype="bool"), "float32")
    places = low.reshape(Value(found, (most,), "int32"), (most, 1))
    inputs = [places.index, is_found.index, low.constant([num_boxes])]
    kept = low.emit("SCATTER_ND", inputs, (num_boxes,), "ScatterNdOptions")  # adds up; past the count are zeros at 0
    return low.reshape(kept, (1, num_boxes))


SELECTION: dict[str, Callable[..., Any]] = {
    "topk": top,
    "expand": expand,
    "gather": gather,
    "index": rows,
    "gt": greater,
    "remainder": remainder,
    "keep_best": keep_best,
}
