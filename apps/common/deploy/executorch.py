"""ExecuTorch files, for phones and small boards: a network in one .pte, lowered to XNNPACK's kernels.

Letters in shapes: B batch, H W height and width.
"""

import copy
import json
import logging
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from apps.common.deploy.formats import as_text, read_texts
from apps.common.deploy.graph import Graph, Photos, as_input
from apps.common.deploy.packages import need, quietly, try_elsewhere
from apps.common.images import Normalisation
from backbone.text import reason_of

LAYERS, ACTIVATIONS = ("aten.conv2d", "aten.linear"), ("aten.hardtanh", "aten.relu")
METADATA = "metadata"  # a method of the file that returns JSON, as bytes in a tensor


def write_executorch(
    path: Path, graph: Graph, *, resolution: int, metadata: Mapping[str, Any], calibration: Photos | None = None
) -> None:
    """Write one file for one image at a time; its method "forward" is the graph.

    Args:
        resolution: side of the square input, pixels.
        metadata: stored in the file: the method "metadata" returns it as JSON in UTF-8, a tensor of bytes.
        calibration: photos that set the scales for 8 bits, read when all else is done; None for 32-bit floats.

    Raises:
        ValueError: ExecuTorch is missing, or the network cannot be lowered.
    """
    need_executorch()
    if calibration is None:
        path.write_bytes(_lower(graph, resolution, metadata))
    else:
        need("torchao", extra="phone")
        _lower(graph, resolution, metadata, graph.noise(resolution))
        path.write_bytes(_lower(graph, resolution, metadata, calibration()))


def _lower(graph: Graph, resolution: int, metadata: Mapping[str, Any], photos: Tensor | None = None) -> bytes:
    """The file's bytes, in 8 bits with scales from photos (B, 3, H, W) uint8; see `write_executorch`."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    image = torch.zeros(1, 3, resolution, resolution, dtype=torch.uint8)
    plain = copy.deepcopy(graph).to(memory_format=torch.contiguous_format)  # weights that are channels last are refused
    text = json.dumps(as_text(metadata), ensure_ascii=False).encode("utf-8")
    try:
        with quietly():
            example = (graph.feed(image).contiguous(),)
            program = torch.export.export(plain, example)
            if photos is not None:
                fed = (graph.feed(one[None]).contiguous() for one in photos)
                program = torch.export.export(_quantized(program.module(), fed), example)
            lowered = to_edge_transform_and_lower(
                program,
                partitioner=[XnnpackPartitioner()],
                constant_methods={METADATA: torch.from_numpy(np.frombuffer(text, np.uint8).copy())},
            )
            return bytes(lowered.to_executorch().buffer)
    except Exception as error:  # the compiler raises many kinds
        raise ValueError(f"this network cannot be exported to ExecuTorch: {reason_of(error)}") from error


def _quantized(module: Any, batches: Iterable[Tensor]) -> Any:
    """An exported module in 8 bits, by XNNPACK's quantizer: weights with a scale for each channel."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

    behind = _behind_layers(module.graph.nodes)

    class Quantizer(XNNPACKQuantizer):
        """Its filter does not reach what only moves numbers, and a `cat` would round the boxes."""

        def annotate(self, model: Any) -> Any:
            model = super().annotate(model)
            for node in model.graph.nodes:
                if node.name in behind:
                    node.meta.pop(Q_ANNOTATION_KEY, None)
            return model

    quantizer = Quantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(module, quantizer)
    for batch in batches:
        prepared(batch)
    return convert_pt2e(prepared)


def _behind_layers(nodes: Iterable[fx.Node]) -> set[str]:
    """The names of the nodes after the last layers and their activations: decoding stays in floats."""
    every = list(nodes)
    left = [node for node in every if any(layer in str(node.target) for layer in LAYERS)]
    inside = {user for node in left for user in node.users if any(name in str(user.target) for name in ACTIVATIONS)}
    while left:
        node = left.pop()
        if node not in inside:
            inside.add(node)
            left += node.all_input_nodes
    return {node.name for node in every if node not in inside}


TRIAL = f"""
import sys, torch
from executorch.runtime import Runtime
program = Runtime.get().load_program(sys.argv[1])
if "{METADATA}" in program.method_names:
    program.load_method("{METADATA}").execute([])
method = program.load_method("forward")
image = method.metadata.input_tensor_meta(0)
method.execute([torch.zeros(image.sizes(), dtype=torch.uint8 if image.dtype() == 0 else torch.float32)])
"""


def try_executorch(path: Path) -> None:
    """Compute a stranger's file once in another process: damaged ones end ExecuTorch's, or never return.

    Raises:
        ValueError: the process failed.
    """
    if not try_elsewhere(TRIAL, str(path)):
        raise ValueError(f"{path} cannot be computed by ExecuTorch: damaged, or no file of export.py")


class ExecutorchSession:
    """A file of `write_executorch`, one image at a time."""

    bf16 = False

    def __init__(self, path: Path, *, preprocessing: Normalisation | None) -> None:
        from executorch.runtime import Runtime

        self._program = Runtime.get().load_program(str(path))  # must live as long as its methods
        self._forward = self._program.load_method("forward")
        self.metadata: dict[str, str] = {}
        if METADATA in self._program.method_names:
            (text,) = self._program.load_method(METADATA).execute([])
            self.metadata = read_texts(text.numpy().tobytes())
        self._outputs: list[str] = json.loads(self.metadata.get("outputs", "[]"))
        self.preprocessing = preprocessing
        self.name = f"ExecuTorch {version('executorch')}"

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        fed = as_input(images.cpu(), self.preprocessing).contiguous()
        found = [[value.clone() for value in self._forward.execute([image[None]])] for image in fed]
        return {name: torch.cat([one[k] for one in found]) for k, name in enumerate(self._outputs)}


def need_executorch() -> None:
    """Raise ValueError, with the command that installs it, if ExecuTorch cannot be imported."""
    try:
        logging.getLogger("torchao").setLevel(logging.ERROR)
        import executorch.exir  # noqa: F401
    except Exception as error:  # a broken package raises many kinds
        raise ValueError(
            f"executorch cannot be imported here ({type(error).__name__}): pip install -e '.[phone]' -c constraints.txt"
        ) from None
