"""TFLite files for the tests, written with the schema that LiteRT ships, in the forms that converters produce.

`write_tflite` turns one of our networks, BatchNorm folded, into a file that the original runtime can run.
"""

from typing import Any

import flatbuffers
import numpy as np
import torch
from ai_edge_litert import schema_py_generated as schema

from backbone import MobileNetV1

TYPES = {"float32": 0, "float16": 1, "int32": 2, "uint8": 3, "int8": 9}


class Writer:
    """Collects tensors, buffers and operators of one graph."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.operatorCodes, self.model.buffers = [], [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self,
        shape: tuple[int, ...],
        dtype: str = "float32",
        data: np.ndarray | None = None,
        scale: Any = None,
        zero_point: Any = 0,
        axis: int = 0,
    ) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = list(shape), TYPES[dtype], f"t{len(self.graph.tensors)}"
        tensor.buffer = 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).astype(dtype).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        if scale is not None:
            quantization = schema.QuantizationParametersT()
            quantization.scale = np.atleast_1d(np.float32(scale))
            quantization.zeroPoint = np.broadcast_to(np.int64(zero_point), quantization.scale.shape).copy()
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(self, kind: str, inputs: list[int], outputs: list[int], options: Any = None) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = 5 if kind == "DEQUANTIZE" else 1  # per channel needs 5
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, outputs
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
            operator.builtinOptions = options
        self.graph.operators.append(operator)

    def bytes(self, inputs: list[int], outputs: list[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = inputs, outputs
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def folded(conv_norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weight (O, I, k, k) and bias (O,) of a convolution with its BatchNorm folded in."""
    norm = conv_norm.norm
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    weight = conv_norm.conv.weight * factor[:, None, None, None]
    return weight.detach().numpy(), (norm.bias - norm.running_mean * factor).detach().numpy()


def write_tflite(
    model: MobileNetV1,
    resolution: int,
    *,
    pad: str = "SAME",
    activation: str = "fused",
    weights: str = "float32",
    head: str = "conv",
    background: bool = False,
) -> bytes:
    """A TFLite file of `model`.

    Args:
        pad: "SAME"; "keras" and "symmetric" put PAD operators before VALID convolutions of stride 2.
        activation: "fused", or "operator" for one that follows.
        weights: "float32"; "float16" and "int8" (per channel) are followed by DEQUANTIZE.
        head: "conv" (average pool, 1x1 convolution, reshape) or "dense" (mean, fully connected).
        background: put a class before the others.
    """
    writer = Writer()
    relu = {"relu6": "RELU6", "relu": "RELU"}[model.style.activation]

    def constant(array: np.ndarray, axis: int) -> int:
        if weights == "float32":
            return writer.tensor(array.shape, "float32", array)
        out = writer.tensor(array.shape)
        if weights == "float16":
            stored = writer.tensor(array.shape, "float16", array)
        else:
            others = tuple(i for i in range(array.ndim) if i != axis)
            scale = np.abs(array).max(others) / 127
            shape = [-1 if i == axis else 1 for i in range(array.ndim)]
            stored = writer.tensor(
                array.shape, "int8", np.round(array / scale.reshape(shape)), scale=scale, zero_point=0, axis=axis
            )
        writer.operator("DEQUANTIZE", [stored], [out])
        return out

    def conv(at: int, side: int, weight: np.ndarray, bias: np.ndarray, stride: int, depthwise: bool) -> tuple[int, int]:
        padding = schema.Padding.SAME
        if stride == 2 and pad != "SAME":
            low = 0 if pad == "keras" else 1
            pads = writer.tensor((4, 2), "int32", np.array([[0, 0], [low, 1], [low, 1], [0, 0]]))
            padded = writer.tensor(
                (1, side + low + 1, side + low + 1, weight.shape[0] if depthwise else weight.shape[1])
            )
            writer.operator("PAD", [at, pads], [padded], schema.PadOptionsT())
            at, padding = padded, schema.Padding.VALID
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        if depthwise:
            options.depthMultiplier = 1
        options.padding, options.strideW, options.strideH = padding, stride, stride
        options.dilationWFactor = options.dilationHFactor = 1
        fused = activation == "fused"
        options.fusedActivationFunction = getattr(schema.ActivationFunctionType, relu) if fused else 0
        kernel = weight.transpose(1, 2, 3, 0) if depthwise else weight.transpose(0, 2, 3, 1)
        side = -(-side // stride)
        out = writer.tensor((1, side, side, weight.shape[0]))
        biases = writer.tensor(bias.shape, "float32", bias)
        kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        writer.operator(kind, [at, constant(kernel, 3 if depthwise else 0), biases], [out], options)
        if not fused:
            before, out = out, writer.tensor((1, side, side, weight.shape[0]))
            writer.operator(relu, [before], [out])
        return out, side

    given = writer.tensor((1, resolution, resolution, 3))
    at, side = conv(given, resolution, *folded(model.stem), 2, False)
    for block in model.blocks.values():
        depthwise, pointwise = block.depthwise, block.pointwise
        at, side = conv(at, side, *folded(depthwise), depthwise.conv.stride[0], True)
        at, side = conv(at, side, *folded(pointwise), 1, False)
    if not model.num_classes:
        return writer.bytes([given], [at])
    matrix, bias = (t.detach().numpy() for t in (model.classifier.weight, model.classifier.bias))
    if background:
        matrix, bias = np.concatenate([matrix[:1] * 0, matrix]), np.concatenate([[-1.0], bias])
    probs = write_head(writer, at, side, matrix, bias.astype(np.float32), head)
    return writer.bytes([given], [probs])


def write_head(writer: Writer, at: int, side: int, matrix: np.ndarray, bias: np.ndarray, head: str) -> int:
    num_classes, channels = matrix.shape
    biases = writer.tensor(bias.shape, "float32", bias)
    logits = writer.tensor((1, num_classes))
    if head == "dense":
        pooled = writer.tensor((1, channels))
        axes = writer.tensor((2,), "int32", np.array([1, 2]))
        writer.operator("MEAN", [at, axes], [pooled], schema.ReducerOptionsT())
        weight = writer.tensor(matrix.shape, "float32", matrix)
        writer.operator("FULLY_CONNECTED", [pooled, weight, biases], [logits], schema.FullyConnectedOptionsT())
    else:
        pool = schema.Pool2DOptionsT()
        pool.padding, pool.strideW, pool.strideH = schema.Padding.VALID, 1, 1
        pool.filterWidth = pool.filterHeight = side
        pooled = writer.tensor((1, 1, 1, channels))
        writer.operator("AVERAGE_POOL_2D", [at], [pooled], pool)
        options = schema.Conv2DOptionsT()
        options.padding, options.strideW, options.strideH = schema.Padding.SAME, 1, 1
        options.dilationWFactor = options.dilationHFactor = 1
        weight = writer.tensor((num_classes, 1, 1, channels), "float32", matrix)
        out = writer.tensor((1, 1, 1, num_classes))
        writer.operator("CONV_2D", [pooled, weight, biases], [out], options)
        shape = writer.tensor((2,), "int32", np.array([1, num_classes]))
        writer.operator("RESHAPE", [out, shape], [logits], schema.ReshapeOptionsT())
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    probs = writer.tensor((1, num_classes))
    writer.operator("SOFTMAX", [logits], [probs], softmax)
    return probs
