"""ExecuTorch files, for phones and small boards: a network in one .pte, lowered to XNNPACK's kernels.

Letters in shapes: B batch, H W height and width.
"""

import copy
import json
import logging
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apps.common.deploy.formats import as_text
from apps.common.deploy.graph import Graph, as_input
from apps.common.deploy.packages import quietly
from apps.common.images import Normalisation

METADATA = "metadata"  # a method of the file that returns JSON, as bytes in a tensor


def write_executorch(path: Path, graph: Graph, *, resolution: int, metadata: Mapping[str, Any]) -> None:
    """Write one file for one image at a time; its method "forward" is the graph.

    Args:
        resolution: side of the square input, pixels.
        metadata: kept in the file: the method "metadata" returns it as JSON in UTF-8, a tensor of bytes.

    Raises:
        ValueError: ExecuTorch is missing, or the network cannot be lowered.
    """
    need_executorch()
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    image = torch.zeros(1, 3, resolution, resolution, dtype=torch.uint8)
    plain = copy.deepcopy(graph).to(memory_format=torch.contiguous_format)  # weights that are channels last are refused
    text = json.dumps(as_text(metadata), ensure_ascii=False).encode("utf-8")
    try:
        with quietly():
            program = torch.export.export(plain, (graph.feed(image).contiguous(),))
            lowered = to_edge_transform_and_lower(
                program,
                partitioner=[XnnpackPartitioner()],
                constant_methods={METADATA: torch.from_numpy(np.frombuffer(text, np.uint8).copy())},
            )
            data = lowered.to_executorch().buffer
    except Exception as error:  # the compiler raises many kinds
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"this network cannot be exported to ExecuTorch: {reason}") from error
    path.write_bytes(data)


class ExecutorchSession:
    """A file of `write_executorch`, one image at a time."""

    bf16 = False

    def __init__(self, path: Path, *, preprocessing: Normalisation | None) -> None:
        from executorch.runtime import Runtime

        self._program = Runtime.get().load_program(str(path))  # must live as long as its methods
        self._forward = self._program.load_method("forward")
        (text,) = self._program.load_method(METADATA).execute([])
        self.metadata: dict[str, str] = json.loads(text.numpy().tobytes().decode("utf-8"))
        self._outputs: list[str] = json.loads(self.metadata["outputs"])
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
