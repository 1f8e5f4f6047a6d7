"""TFLite files as tensors and operators, read straight from their flatbuffer: no TensorFlow, no generated schema.

Field numbers and enums are those of TensorFlow's `schema.fbs` (version 3), which by design never change.

    from pathlib import Path

    graph = read_graph(Path("ssd.tflite").read_bytes(), name="ssd.tflite")
    for operator in graph.operators:
        print(operator.kind, [graph.tensors[i].shape for i in operator.outputs], operator.options)
"""

import math
import struct
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from backbone.weights.file_kinds import MAX_BYTES, Budget
from backbone.weights.readers.flatbuffer import OBJECT_BYTES, Table, read_flexbuffer_map, unpack_number

HELD_PER_BYTE = OBJECT_BYTES // 4 + 16  # of a file without overlaps, at most: a table for each offset of four bytes
MAX_DIMENSIONS = 8  # of a tensor
MAX_INPUTS = 1000  # of an operator
REAL_BYTES = 16  # of a constant's number during its conversion to a float

# schema.fbs, enum TensorType -> the type and its bytes; anything else is reported by its number
DTYPES = {
    0: torch.float32,
    1: torch.float16,
    2: torch.int32,
    3: torch.uint8,
    4: torch.int64,
    6: torch.bool,
    7: torch.int16,
    9: torch.int8,
    10: torch.float64,
}
# schema.fbs, enum BuiltinOperator: those a MobileNet V1 classifier or SSD uses; others are named OP_<number>
OPERATORS = {
    0: "ADD",
    1: "AVERAGE_POOL_2D",
    2: "CONCATENATION",
    3: "CONV_2D",
    4: "DEPTHWISE_CONV_2D",
    6: "DEQUANTIZE",
    9: "FULLY_CONNECTED",
    14: "LOGISTIC",
    18: "MUL",
    19: "RELU",
    21: "RELU6",
    22: "RESHAPE",
    25: "SOFTMAX",
    32: "CUSTOM",
    34: "PAD",
    39: "TRANSPOSE",
    40: "MEAN",
    41: "SUB",
    43: "SQUEEZE",
    45: "STRIDED_SLICE",
    53: "CAST",
    77: "SHAPE",
    83: "PACK",
    114: "QUANTIZE",
}
ACTIVATIONS = {0: "NONE", 1: "RELU", 3: "RELU6"}
PADDINGS = {0: "SAME", 1: "VALID"}
# Options of an operator -> {option: (field number, struct format, default)}
_CONV = {"padding": (0, "b", 0), "stride_w": (1, "i", 0), "stride_h": (2, "i", 0)}
OPTIONS: dict[str, dict[str, tuple[int, str, int]]] = {
    "CONV_2D": {**_CONV, "activation": (3, "b", 0), "dilation_w": (4, "i", 1), "dilation_h": (5, "i", 1)},
    "DEPTHWISE_CONV_2D": {
        **_CONV,
        "depth_multiplier": (3, "i", 0),
        "activation": (4, "b", 0),
        "dilation_w": (5, "i", 1),
        "dilation_h": (6, "i", 1),
    },
    "AVERAGE_POOL_2D": {**_CONV, "activation": (5, "b", 0)},
    "FULLY_CONNECTED": {"activation": (0, "b", 0)},
}


@dataclass(frozen=True)
class Quantization:
    """real = scale * (stored - zero_point), one pair for the tensor or one for each index along `axis`."""

    scale: Tensor  # (1,) or (n,), float32
    zero_point: Tensor  # same shape, int64
    axis: int


@dataclass(frozen=True)
class TFLiteTensor:
    """A tensor of the graph. Activations have no data; constants have it both as stored and as real numbers."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    quantization: Quantization | None
    raw: bytes | None = field(repr=False)

    @cached_property
    def stored(self) -> Tensor:
        """The constant as stored in the file, of `shape` and `dtype`.

        Raises:
            ValueError: the tensor is no constant, or has more or fewer bytes than its shape needs.
        """
        if self.raw is None:
            raise ValueError(f"tensor {self.index} ({self.name}) is computed, not stored")
        needed = prod(self.shape) * self.dtype.itemsize
        if len(self.raw) != needed:
            raise ValueError(f"tensor {self.index} ({self.name}) has {len(self.raw)} bytes, its shape needs {needed}")
        if not needed:
            return torch.empty(self.shape, dtype=self.dtype)
        return torch.frombuffer(bytearray(self.raw), dtype=self.dtype).reshape(self.shape)

    def real(self) -> Tensor:
        """The constant in real numbers, dequantised where it is quantised: float32 of `shape`."""
        quantization = self.quantization
        if quantization is None:
            return self.stored.float()
        per_channel = [1] * len(self.shape)
        if (num_scales := quantization.scale.numel()) > 1:
            if not 0 <= quantization.axis < len(self.shape) or self.shape[quantization.axis] != num_scales:
                raise ValueError(
                    f"tensor {self.index} ({self.name}) of shape {self.shape} has {num_scales} scales along axis "
                    f"{quantization.axis}"
                )
            per_channel[quantization.axis] = num_scales
        scale, zero_point = quantization.scale.reshape(per_channel), quantization.zero_point.reshape(per_channel)
        return (self.stored.long() - zero_point).float() * scale

    def real_range(self) -> tuple[float, float] | None:
        """The smallest and the largest real number that a quantised 8-bit tensor can hold; None for others."""
        if self.quantization is None or self.dtype not in (torch.uint8, torch.int8):
            return None
        info = torch.iinfo(self.dtype)
        scale, zero_point = self.quantization.scale[0].item(), self.quantization.zero_point[0].item()
        return scale * (info.min - zero_point), scale * (info.max - zero_point)


@dataclass(frozen=True)
class TFLiteOperator:
    """An operator: its kind, the indices of its tensors (-1: an omitted optional input), its options.

    `options` holds, for convolutions and pools, padding ("SAME" or "VALID"), stride_h, stride_w, dilations and the
    fused activation ("NONE", "RELU", "RELU6"); for a CUSTOM operator the scalars its author stored, by name.
    """

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]
    custom_name: str = ""


@dataclass(frozen=True)
class TFLiteGraph:
    """The main graph of a TFLite file, operators in the order they run."""

    name: str
    tensors: tuple[TFLiteTensor, ...]
    operators: tuple[TFLiteOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    budget: Budget = field(default_factory=Budget, repr=False, compare=False)  # of the constants in real numbers

    def real(self, constant: TFLiteTensor) -> Tensor:
        """A constant of the graph in real numbers, counted each time: many operators may refer to the same one."""
        length = len(constant.raw or b"") // constant.dtype.itemsize
        self.budget.take(REAL_BYTES * length, f"tensor {constant.index} of shape {constant.shape}")
        return constant.real()

    def consumers(self, index: int) -> list[TFLiteOperator]:
        """The operators that take tensor `index` as an input."""
        return self._consumers.get(index, [])

    def producer(self, index: int) -> TFLiteOperator | None:
        """The operator whose output is tensor `index`; None for inputs and constants."""
        return self._producers.get(index)

    @cached_property
    def _consumers(self) -> dict[int, list[TFLiteOperator]]:
        found: dict[int, list[TFLiteOperator]] = {}
        for operator in self.operators:
            for index in set(operator.inputs):
                found.setdefault(index, []).append(operator)
        return found

    @cached_property
    def _producers(self) -> dict[int, TFLiteOperator]:
        return {index: operator for operator in reversed(self.operators) for index in operator.outputs}

    def counts(self) -> dict[str, int]:
        """The number of operators of each kind, most frequent first."""
        return dict(Counter(operator.custom_name or operator.kind for operator in self.operators).most_common())


def read_graph(data: bytes, *, name: str) -> TFLiteGraph:
    """Read the first (main) graph of a TFLite file.

    Args:
        data: the whole file.
        name: its name in errors.

    Raises:
        ValueError: not a TFLite file, truncated or damaged; one line that starts with `name`.
    """
    if data[4:8] != b"TFL3":
        raise ValueError(f"{name}: not a TFLite file (bytes 4 to 8 are {data[4:8]!r}, not b'TFL3')")
    try:
        model = Table(data, unpack_number("I", data, 0), Budget(min(MAX_BYTES, HELD_PER_BYTE * len(data))))
        buffers = [table.vector(0, "B") for table in model.tables(4)]
        graph = model.tables(2)[0]
        tensors = tuple(_read_tensor(i, table, buffers) for i, table in enumerate(graph.tables(0)))
        codes = [_read_code(table) for table in model.tables(1)]
        operators = tuple(_read_operator(table, codes, len(tensors)) for table in graph.tables(3))
        inputs, outputs = (_indices(graph, slot, len(tensors)) for slot in (1, 2))
    except (struct.error, IndexError, UnicodeDecodeError, OverflowError, ValueError) as error:
        raise ValueError(f"{name}: truncated or damaged TFLite file ({error})") from error
    return TFLiteGraph(name, tensors, operators, inputs, outputs)


def _read_tensor(index: int, table: Table, buffers: list[bytes]) -> TFLiteTensor:
    code = table.scalar(1, "b", 0)
    if code not in DTYPES:
        raise ValueError(f"tensor {index} has type number {code}, which this reader does not know")
    quantization = None
    details = table.table(4)
    if details and (scale := details.numbers(2, "f")):
        zero_point = details.numbers(3, "q") or (0,) * len(scale)
        if len(zero_point) != len(scale):
            raise ValueError(f"tensor {index} has {len(scale)} scales and {len(zero_point)} zero points")
        if not all(0 < one < math.inf for one in scale):  # NaN is not, either
            raise ValueError(f"tensor {index} has scales from {min(scale)} to {max(scale)}, not all above 0")
        if DTYPES[code].itemsize < 4 and not DTYPES[code].is_floating_point:
            held = torch.iinfo(DTYPES[code])
            if not held.min <= min(zero_point) <= max(zero_point) <= held.max:
                raise ValueError(f"tensor {index} of {DTYPES[code]} has a zero point of {max(zero_point, key=abs)}")
        quantization = Quantization(torch.tensor(scale), torch.tensor(zero_point), details.scalar(6, "i", 0))
    shape = table.numbers(0, "i")
    if len(shape) > MAX_DIMENSIONS or any(side < 0 for side in shape):
        raise ValueError(f"tensor {index} has shape {shape}")
    raw = buffers[_checked(table.scalar(2, "I", 0), len(buffers), "buffer")]
    return TFLiteTensor(
        index=index,
        name=table.vector(3, "B").decode(errors="replace"),
        shape=shape,
        dtype=DTYPES[code],
        quantization=quantization,
        raw=raw or None,
    )


def _read_code(table: Table) -> tuple[str, str]:
    """The kind of an operator code and, of a custom one, its name. Numbers above 127 are in a later, wider field."""
    code = max(table.scalar(0, "b", 0), table.scalar(3, "i", 0))
    return OPERATORS.get(code, f"OP_{code}"), table.vector(1, "B").decode(errors="replace")


def _read_operator(table: Table, codes: list[tuple[str, str]], num_tensors: int) -> TFLiteOperator:
    kind, custom_name = codes[_checked(table.scalar(0, "I", 0), len(codes), "operator code")]
    options: dict[str, Any] = {}
    stored = table.table(4)
    for option, (slot, form, default) in OPTIONS.get(kind, {}).items():
        options[option] = stored.scalar(slot, form, default) if stored else default
    if "padding" in options:
        options["padding"] = PADDINGS.get(options["padding"], f"PADDING_{options['padding']}")
    if "activation" in options:
        options["activation"] = ACTIVATIONS.get(options["activation"], f"ACTIVATION_{options['activation']}")
    if kind == "CUSTOM":
        options = read_flexbuffer_map(table.vector(5, "B"), table.budget)
    inputs, outputs = (_indices(table, field, num_tensors) for field in (1, 2))
    return TFLiteOperator(kind, inputs, outputs, options, custom_name)


def _indices(table: Table, slot: int, num_tensors: int) -> tuple[int, ...]:
    indices = table.numbers(slot, "i")
    if len(indices) > MAX_INPUTS:
        raise ValueError(f"{len(indices):,} tensors of one operator, {MAX_INPUTS:,} are allowed")
    for index in indices:
        if index != -1:
            _checked(index, num_tensors, "tensor")
    return indices


def _checked(index: int, length: int, what: str) -> int:
    if not 0 <= index < length:
        raise ValueError(f"{what} {index} of {length}")
    return index
