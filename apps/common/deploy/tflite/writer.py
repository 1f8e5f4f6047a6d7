"""The flatbuffer of a TFLite file: tensors, constants and operators of one graph, and what the file says about itself.

The classes of the schema come with the runtime (`ai_edge_litert`); they are TensorFlow's `schema.fbs`, version 3.
"""

import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apps.common.deploy.formats import as_text, read_texts

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "bool": 6, "int8": 9}  # schema.fbs, enum TensorType
SIGNATURE = "serving_default"
ABOUT, LABELS = "metadata.json", "labels.txt"  # in the zip at the file's end, where TFLite keeps associated files
MOST_ABOUT = 20_000_000  # bytes of the metadata


class FileWriter:
    """Collects the tensors and operators of one graph; tensors are named after what computes them."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated

        self.schema: Any = schema_py_generated
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.buffers: list[Any] = [self.schema.BufferT()]  # the first is empty by convention
        self._names: Counter[str] = Counter()
        self._constants: dict[tuple[str, tuple[int, ...], bytes], int] = {}
        self._codes: dict[tuple[str, int], int] = {}

    def tensor(self, name: str, shape: Sequence[int], dtype: str) -> int:
        """The index of a new tensor that an operator computes, or the input; of a name that has been, with a number."""
        self._names[name] += 1
        name += f"_{self._names[name]}" if self._names[name] > 1 else ""
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), TYPES[dtype], 0
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, data: np.ndarray) -> int:
        """The index of a constant's tensor; equal ones are stored once."""
        key = (data.dtype.name, data.shape, data.tobytes())
        if key not in self._constants:
            index = self._constants[key] = self.tensor(f"constant{len(self._constants)}", data.shape, data.dtype.name)
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(key[2], np.uint8)
            self.buffers.append(buffer)
            self.tensors[index].buffer = len(self.buffers) - 1
        return self._constants[key]

    def operator(
        self,
        kind: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        version: int = 1,
        **values: Any,
    ) -> None:
        """Add an operator.

        Args:
            kind: a name of schema.fbs's BuiltinOperator.
            options: the name of its options there, "" for none.
            values: of the options.
        """
        operator = self.schema.OperatorT()
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        operator.opcodeIndex = self._codes.setdefault((kind, version), len(self._codes))
        if options:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self.schema, f"{options}T")()
            for name, value in values.items():
                setattr(operator.builtinOptions, name, value)
        self.operators.append(operator)

    def finish(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
        """The file's bytes; inputs and outputs have their names in the signature `SIGNATURE`."""
        schema, model, graph, signature = (
            self.schema,
            self.schema.ModelT(),
            self.schema.SubGraphT(),
            self.schema.SignatureDefT(),
        )
        graph.name, graph.tensors, graph.operators = "main", self.tensors, self.operators
        graph.inputs, graph.outputs = list(inputs.values()), list(outputs.values())
        signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
        signature.inputs, signature.outputs = (
            [self._named(*one) for one in some.items()] for some in (inputs, outputs)
        )
        model.version, model.description, model.buffers = 3, "mobilenet-apps", self.buffers
        model.subgraphs, model.signatureDefs, model.operatorCodes = [graph], [signature], []
        for kind, version in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.version = getattr(schema.BuiltinOperator, kind), version
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            model.operatorCodes.append(code)
        return pack(model)

    def _named(self, name: str, index: int) -> Any:
        entry = self.schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        return entry


def pack(model: Any) -> bytes:
    """A `ModelT` of the schema as a file's bytes."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def write_about(path: Path, metadata: Mapping[str, Any]) -> None:
    """Put metadata, and the class names one in a line, at the end of a file as a zip: any unzip program reads them."""
    about = as_text(metadata)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(ABOUT), json.dumps(about, ensure_ascii=False, indent=1))
        if "class_names" in about:
            names = json.loads(about["class_names"])
            archive.writestr(zipfile.ZipInfo(LABELS), "\n".join(" ".join(name.split()) for name in names) + "\n")


def read_about(path: Path) -> dict[str, str]:
    """The metadata of a file; empty if it has none, or more than a model of this project can have."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(ABOUT) as file:
            return read_texts(file.read(MOST_ABOUT))
    except Exception:  # zipfile raises many kinds for a damaged one
        return {}
