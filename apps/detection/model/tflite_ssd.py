"""Reads the TensorFlow Object Detection API's SSD on MobileNet V1 from a TFLite file: all layers after the backbone.

The reader follows the graph from the two feature maps, since tensor names differ between converters: a convolution
whose output goes to another convolution belongs to an extra level, one whose output is reshaped is a predictor.

Letters in shapes: A anchors of a cell, K classes, C channels.
"""

import torch
from torch import Tensor

from apps.detection.boxes.anchors import level_shapes
from backbone.weights.loaded_weights import LAYERS, Layer
from backbone.weights.readers.tflite import NORM_EPS, FoldedConv, read_backbone_convs, read_conv
from backbone.weights.readers.tflite_graph import TFLiteGraph, TFLiteOperator

DETECTION = "TFLite_Detection_PostProcess"
MAPS = ("blocks.conv11.pointwise", "blocks.conv13.pointwise")
YXHW_TO_XYWH = [1, 0, 3, 2]
MAX_LEVELS = 10  # the reference has six; a damaged file may have a cycle


def is_ssd(graph: TFLiteGraph) -> bool:
    """Whether a file is a detector with the API's post-processing at its end."""
    return DETECTION in graph.counts()


def read_ssd_head(graph: TFLiteGraph) -> dict[str, Tensor]:
    """Extra levels and predictors, under the names of `SSD.state_dict()`, dequantised.

    Box predictors are reordered from the file's y, x, height, width to our x, y, width, height. Class predictors keep
    a row for each class of the file and background, at index 0.

    Raises:
        ValueError: another network; one line that starts with the file's name.
    """
    convs = read_backbone_convs(graph)
    maps = [convs[LAYERS.index(name)].output for name in MAPS]
    state: dict[str, Tensor] = {}
    while (operator := _next_extra(graph, maps[-1])) is not None:
        if len(maps) == MAX_LEVELS:
            raise ValueError(f"{graph.name}: not SSD on MobileNet V1: it has more than {MAX_LEVELS} levels")
        name = f"extras.{len(maps) - len(MAPS)}"
        reduce = read_conv(graph, operator)
        (following,) = _convolutions(graph, reduce.output)
        shrink = read_conv(graph, following)
        state |= _conv_norm(f"{name}.reduce", reduce) | _conv_norm(f"{name}.shrink", shrink)
        maps.append(shrink.output)
    for level, (at, shapes) in enumerate(zip(maps, level_shapes(len(maps)), strict=True)):
        predictors = [read_conv(graph, one) for one in _convolutions(graph, at) if _is_predictor(graph, one)]
        if len(predictors) != 2:
            raise ValueError(f"{graph.name}: not SSD on MobileNet V1: level {level} has {len(predictors)} predictors")
        boxes, classes = sorted(predictors, key=lambda conv: len(conv.bias))
        if len(boxes.bias) != 4 * len(shapes) or len(classes.bias) % len(shapes):
            raise ValueError(
                f"{graph.name}: not SSD on MobileNet V1: the predictors of level {level} have {len(boxes.bias)} and "
                f"{len(classes.bias)} outputs, which do not fit {len(shapes)} anchors a cell"
            )
        for kind, values in (("weight", boxes.weight), ("bias", boxes.bias)):
            per_anchor = values.unflatten(0, (len(shapes), 4))[:, YXHW_TO_XYWH]
            state[f"box_predictors.{level}.{kind}"] = per_anchor.flatten(0, 1)
        state[f"class_predictors.{level}.weight"] = classes.weight
        state[f"class_predictors.{level}.bias"] = classes.bias
    return state


def _convolutions(graph: TFLiteGraph, at: int) -> list[TFLiteOperator]:
    return [operator for operator in graph.consumers(at) if operator.kind == "CONV_2D" and operator.inputs[0] == at]


def _is_predictor(graph: TFLiteGraph, operator: TFLiteOperator) -> bool:
    return any(consumer.kind == "RESHAPE" for consumer in graph.consumers(operator.outputs[0]))


def _next_extra(graph: TFLiteGraph, at: int) -> TFLiteOperator | None:
    """The 1x1 convolution that begins the next extra level; None after the last."""
    return next((one for one in _convolutions(graph, at) if not _is_predictor(graph, one)), None)


def _conv_norm(name: str, conv: FoldedConv) -> dict[str, Tensor]:
    layer = Layer.folded(conv.weight, conv.bias, norm_eps=NORM_EPS)
    return {
        f"{name}.conv.weight": layer.weight,
        f"{name}.norm.weight": layer.gamma,
        f"{name}.norm.bias": layer.beta,
        f"{name}.norm.running_mean": layer.mean,
        f"{name}.norm.running_var": layer.var,
        f"{name}.norm.num_batches_tracked": torch.tensor(0),
    }
