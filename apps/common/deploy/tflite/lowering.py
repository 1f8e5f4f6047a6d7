"""From torch's tensors to a TFLite file's: constants stay torch's until they are needed, images are channels last.

Letters in shapes: N C H W as torch has them; a file has N H W C.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from apps.common.deploy.tflite.writer import FileWriter

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)


@dataclass(frozen=True)
class Value:
    """A tensor of the file that an operator computes.

    Attributes:
        index: in the file.
        shape: as torch has it.
        dtype: float32, int32, bool or uint8.
        last: whether the file has it as N H W C although torch has N C H W.
    """

    index: int
    shape: tuple[int, ...]
    dtype: str = "float32"
    last: bool = False


@dataclass(frozen=True)
class Padded:
    """A value with a border of zeros that the next convolution adds: pixels on top, at the bottom, left, right."""

    value: Value
    pads: tuple[int, int, int, int]


def operator_name(node: fx.Node) -> str:
    """An operator's name without its namespace and overload: "add" of aten.add.Tensor."""
    return str(getattr(node.target, "__name__", node.target)).split(".")[0]


Operand = Value | Tensor  # Tensor: a constant


class Lowering:
    """Adds operators to a file.

    Attributes:
        name: of what is being translated, for the tensors' names.
    """

    def __init__(self) -> None:
        self.file = FileWriter()
        self.name = ""

    def emit(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        options: str = "",
        *,
        dtype: str = "float32",
        last: bool = False,
        version: int = 1,
        **values: Any,
    ) -> Value:
        """Add an operator; return its only output, of a `shape` as torch has it."""
        stored = [shape[i] for i in TO_LAST] if last else shape
        index = self.file.tensor(f"{self.name}/{kind.lower()}", stored, dtype)
        self.file.operator(kind, inputs, [index], options, version, **values)
        return Value(index, tuple(shape), dtype, last)

    def constant(self, data: Any, dtype: torch.dtype | None = None) -> int:
        """Numbers as they are in memory; whole numbers become int32."""
        tensor = torch.as_tensor(data, dtype=dtype)
        if tensor.dtype in (torch.int64, torch.float64):
            tensor = tensor.to(torch.int32 if tensor.dtype == torch.int64 else torch.float32)
        return self.file.constant(tensor.detach().contiguous().numpy())

    def first(self, operand: Operand) -> int:
        """The index of an operand in torch's order of dimensions."""
        if isinstance(operand, Tensor):
            return self.constant(operand)
        if not operand.last:
            return operand.index
        if operand.shape[1] == 1 or operand.shape[2:] == (1, 1):  # the order of the numbers is the same
            return self.reshape(operand, operand.shape).index
        order = self.constant(TO_FIRST)
        return self.emit(
            "TRANSPOSE", [operand.index, order], operand.shape, "TransposeOptions", dtype=operand.dtype
        ).index

    def channels_last(self, operand: Operand) -> int:
        """The index of an operand of images as N H W C; constants of fewer dimensions are made to fit."""
        if isinstance(operand, Tensor):
            if operand.ndim == 0:
                return self.constant(operand)
            return self.constant(operand.reshape((1,) * (4 - operand.ndim) + operand.shape).permute(TO_LAST))
        if operand.last:
            return operand.index
        order = self.constant(TO_LAST)
        return self.emit(
            "TRANSPOSE", [operand.index, order], operand.shape, "TransposeOptions", dtype=operand.dtype, last=True
        ).index

    def images(self, value: Operand) -> Value:
        """An operand of images as N H W C."""
        index = self.channels_last(value)
        return Value(index, tuple(value.shape), getattr(value, "dtype", "float32"), last=True)

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """The same numbers in the order of the file."""
        return self.emit(
            "RESHAPE",
            [value.index, self.constant(list(shape), torch.int64)],
            shape,
            "ReshapeOptions",
            dtype=value.dtype,
            newShape=list(shape),
        )

    def cast(self, value: Value, dtype: str) -> Value:
        return self.emit("CAST", [value.index], value.shape, dtype=dtype, last=value.last)

    def binary(self, kind: str, a: Any, b: Any, shape: Sequence[int], *, activation: int = 0, dtype: str = "") -> Value:
        """An operator of two operands that broadcast, one at least computed; numbers take the other's type."""
        computed = [x for x in (a, b) if isinstance(x, Value)]
        numbers = "int32" if any(x.dtype == "int32" for x in computed) else "float32"
        if any(x.dtype == "float32" for x in computed) or isinstance(a, float) or isinstance(b, float):
            numbers = "float32"
        last = any(x.last for x in computed) and all(len(x.shape) == 4 for x in computed)
        indices = []
        for x in (a, b):
            if isinstance(x, Value):
                x = x if x.dtype == numbers else self.cast(x, numbers)
            else:
                x = torch.as_tensor(x, dtype=torch.int32 if numbers == "int32" else torch.float32)
            indices.append(self.channels_last(x) if last else self.first(x))
        options = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions"}.get(kind, "")
        values = {"fusedActivationFunction": activation} if options else {}
        return self.emit(kind, indices, shape, options, dtype=dtype or numbers, last=last, **values)
