"""A TFLite file in 8 bits, by AI Edge Quantizer: weights with a scale for each channel, activations with one.

Letters in shapes: H W height and width.
"""

import contextlib
import io
from collections.abc import Iterable
from typing import Any

import numpy as np

from apps.common.deploy.formats import INPUT
from apps.common.deploy.packages import need, quietly
from apps.common.deploy.tflite.writer import SIGNATURE, TYPES, pack

BEHIND = "behind/"  # how the names of tensors begin that are computed after the last layers
PIXELS = (0.0, 255.0)


def quantize(data: bytes, images: Iterable[np.ndarray], *, whole: bool) -> bytes:
    """The file in 8 bits.

    Args:
        data: a file of `convert.convert` that takes pixels as floats.
        images: (1, H, W, 3) pixels of photos like those that it will see; their ranges set the scales.
        whole: inputs and outputs are int8, too, and what is behind the last layers; else the input is uint8, the
            outputs are floats, and decoding is in floats.

    Raises:
        ValueError: the package is missing, or an operator has no form in 8 bits.
    """
    need("ai_edge_quantizer", extra="tflite")
    from ai_edge_quantizer import algorithm_manager, calibrator, qtyping, quantizer, recipe_manager
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    recipe, names = recipe_manager.RecipeManager(), qtyping.TFLOperationName
    recipe.add_static_config(regex=".*", operation_name=names.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    if not whole:
        no = algorithm_manager.AlgorithmName.NO_QUANTIZE
        recipe.add_quantization_config(BEHIND, names.ALL_SUPPORTED, algorithm_key=no)
        recipe.add_quantization_config(".*", names.OUTPUT, algorithm_key=no)
    with quietly(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        making = quantizer.Quantizer(data, recipe.get_quantization_recipe())
        observed = calibrator.Calibrator(data, qsv_update_func=min_max_update)  # a moving average would clip
        observed.calibrate({SIGNATURE: [{INPUT: image.astype(np.float32)} for image in images]}, recipe)
        ranges = observed.get_model_qsvs()
        ranges[INPUT] = {
            name: np.full_like(ranges[INPUT][name], end) for name, end in zip(("min", "max"), PIXELS, strict=True)
        }
        quantized = bytes(making.quantize(ranges).quantized_model)
    return _checked_whole(quantized) if whole else _with_pixels(quantized)


def _model(data: bytes) -> tuple[Any, Any]:
    """The schema's classes, and a file as their objects; constants that stand behind the flatbuffer come into it."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for buffer in model.buffers:
        if buffer.size:
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return schema, model


def _with_pixels(data: bytes) -> bytes:
    """A file whose input is uint8: pixels as they are, real = stored, which its first operator turns into int8."""
    schema, model = _model(data)
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    (stored,) = graph.inputs
    tensor, code, operator = schema.TensorT(), schema.OperatorCodeT(), schema.OperatorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = "pixels", graph.tensors[stored].shape, TYPES["uint8"], 0
    tensor.quantization = schema.QuantizationParametersT()
    tensor.quantization.scale, tensor.quantization.zeroPoint = np.ones(1, np.float32), np.zeros(1, np.int64)
    graph.tensors.append(tensor)
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
    code.version = 2  # from integers
    model.operatorCodes.append(code)
    operator.opcodeIndex, operator.inputs, operator.outputs = (
        len(model.operatorCodes) - 1,
        [len(graph.tensors) - 1],
        [stored],
    )
    graph.operators.insert(0, operator)
    graph.inputs, signature.inputs[0].tensorIndex = operator.inputs, operator.inputs[0]
    return pack(model)


def _checked_whole(data: bytes) -> bytes:
    """The same file; ValueError if an operator of it still computes in floats."""
    _, model = _model(data)
    (graph,) = model.subgraphs
    floats = [tensor.name.decode() for tensor in graph.tensors if tensor.type == TYPES["float32"]]
    if floats:
        instead = "--io float" + ", or --head ssd" * floats[0].startswith(BEHIND)
        raise ValueError(f"this network cannot be in 8 bits as a whole: {floats[0]} stays in floats ({instead})")
    return pack(model)
