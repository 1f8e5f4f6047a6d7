"""A trained network as a TFLite file: `torch.export`, then operator by operator; constants are folded on the way."""

import copy
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from apps.common.deploy.formats import INPUT
from apps.common.deploy.graph import Graph, Photos
from apps.common.deploy.packages import need, quietly
from apps.common.deploy.tflite.layers import fused_activation
from apps.common.deploy.tflite.lowering import Lowering, Value, operator_name
from apps.common.deploy.tflite.operators import OPERATORS
from apps.common.deploy.tflite.quantize import BEHIND, quantize
from apps.common.deploy.tflite.writer import write_about
from backbone.text import reason_of

FUSES = ("convolution", "add", "sub", "mul", "div", "addmm", "mm")  # with the activation that follows
LAYERS = ("convolution", "addmm", "mm")


def write_tflite(
    path: Path,
    graph: Graph,
    *,
    resolution: int,
    metadata: Mapping[str, Any],
    calibration: Photos | None = None,
    whole: bool = False,
) -> None:
    """Write one file for one image at a time, its signature `serving_default` the graph.

    Args:
        resolution: side of the square input, pixels.
        metadata: kept in a zip at the file's end, see `writer.write_about`.
        calibration, whole: photos for 8 bits, read when all else is done, see `quantize.quantize`; None for floats.

    Raises:
        ValueError: the runtime is missing, or the network has an operator that is not translated.
    """
    data = convert(graph, resolution=resolution, floats=calibration is not None)
    if calibration is not None:
        quantize(data, [graph.feed(graph.noise(resolution)).contiguous().numpy()], whole=whole)
        data = quantize(data, (graph.feed(image[None]).contiguous().numpy() for image in calibration()), whole=whole)
    path.write_bytes(data)
    write_about(path, metadata)


def convert(graph: Graph, *, resolution: int, floats: bool = False) -> bytes:
    """The file's bytes without metadata; see `write_tflite`.

    Args:
        floats: pixels come as floats, for `quantize.quantize`.
    """
    need("ai_edge_litert", "flatbuffers", extra="tflite")
    plain = copy.deepcopy(graph).to(memory_format=torch.contiguous_format)
    image = plain.example(resolution)[:1]
    image = image.float() if floats else image
    try:
        with quietly():
            program = torch.export.export(plain, (image,)).run_decompositions()
            return _Translation(program, graph).bytes()
    except Exception as error:  # torch.export raises many kinds
        raise ValueError(f"this network cannot be exported to TFLite: {reason_of(error)}") from error


class _Translation:
    """Walks an exported program; `values` has what each node gives: a constant, a tensor of the file, or several."""

    def __init__(self, program: torch.export.ExportedProgram, graph: Graph) -> None:
        self.graph, self.nodes = graph, list(program.graph.nodes)
        self.low = Lowering()
        signature = program.graph_signature
        stored = {**program.state_dict, **program.constants}
        self.places = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        self.values: dict[fx.Node, Any] = {}
        self.inputs: dict[str, int] = {}
        for node in self.nodes:
            if node.op == "placeholder":
                place = self.places.get(node.name)
                self.values[node] = self._input(node) if place is None else stored[place].detach()
        self.before = _before_layers(self.nodes)

    def _input(self, node: fx.Node) -> Value:
        shape = tuple(node.meta["val"].shape)
        dtype = str(node.meta["val"].dtype).removeprefix("torch.")
        self.inputs[INPUT] = index = self.low.file.tensor(INPUT, shape, dtype)
        return Value(index, shape, dtype)

    def bytes(self) -> bytes:
        for node in self.nodes:
            if node.op == "call_function" and node not in self.values:
                self._translate(node)
        (output,) = (node for node in self.nodes if node.op == "output")
        self.low.name = BEHIND + "outputs"
        outputs: Any = output.args[0]
        found = (self.low.first(self.values[one]) for one in outputs)
        return self.low.file.finish(self.inputs, dict(zip(self.graph.outputs, found, strict=True)))

    def _translate(self, node: fx.Node) -> None:
        name = operator_name(node)
        if name == "_assert_tensor_metadata":
            return
        args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), lambda one: self.values[one])
        if node.target is operator.getitem:
            several: Any = args[0]
            self.values[node] = several[args[1]]
        elif not _has_value((args, kwargs)):
            self.values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        elif name not in OPERATORS:
            raise ValueError(f"operator {node.target} is not translated")
        else:
            self.low.name = node.name if node in self.before else BEHIND + node.name
            value = OPERATORS[name](self.low, node, *args, **kwargs)
            self.values[node] = value
            if name in FUSES and isinstance(value, Value):
                self.values[fused_activation(node)[1]] = value


def _has_value(tree: Any) -> bool:
    """Whether an operator's arguments are computed by the file, not all constants."""
    if isinstance(tree, tuple | list):
        return any(map(_has_value, tree))
    if isinstance(tree, dict):
        return _has_value(tuple(tree.values()))
    return not isinstance(tree, Tensor | int | float | str | bool | None | torch.dtype | torch.device | torch.layout)


def _before_layers(nodes: list[fx.Node]) -> set[fx.Node]:
    """The layers, all that their inputs are made of, and their activations; what is behind stays in floats."""
    found: set[fx.Node] = set()
    left = [node for node in nodes if operator_name(node) in LAYERS]
    activations = [fused_activation(node)[1] for node in left]
    while left:
        node = left.pop()
        if node not in found:
            found.add(node)
            left += node.all_input_nodes
    return found.union(activations)
