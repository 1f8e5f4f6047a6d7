"""A TFLite file in its own runtime, LiteRT."""

import threading
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from apps.common.deploy.formats import INPUT
from apps.common.deploy.graph import as_input
from apps.common.deploy.tflite.writer import SIGNATURE, read_about
from apps.common.images import Normalisation


class TFLiteSession:
    """A file of `convert.write_tflite`, one image at a time."""

    bf16 = False

    def __init__(self, path: Path, *, threads: int, preprocessing: Normalisation | None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
        self._run = interpreter.get_signature_runner(SIGNATURE)
        self._input = self._run.get_input_details()[INPUT]
        self._output_details = self._run.get_output_details()
        self._lock = threading.Lock()  # an interpreter serves one call at a time
        self.preprocessing = preprocessing
        self.metadata = read_about(path)
        self.name = f"LiteRT {version('ai-edge-litert')}"

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        found: list[dict[str, Tensor]] = []
        fed = as_input(images.cpu(), self.preprocessing).contiguous().numpy()
        if list(fed.shape[1:]) != self._input["shape"].tolist()[1:]:  # LiteRT would compute any size
            raise ValueError(f"the file takes {self._input['shape'].tolist()}, not {[1, *fed.shape[1:]]}")
        for image in fed:
            if self._input["dtype"] == np.int8:
                image = (image.astype(np.int16) + self._input["quantization"][1]).astype(np.int8)
            with self._lock:
                outputs = self._run(**{INPUT: image[None]})
                found.append({name: self._real(name, value) for name, value in outputs.items()})
        return {name: torch.cat([one[name] for one in found]) for name in self._output_details}

    def _real(self, name: str, value: np.ndarray) -> Tensor:
        """An output in real numbers."""
        scale, zero_point = self._output_details[name]["quantization"]
        return torch.from_numpy((value.astype(np.float32) - zero_point) * scale if scale else np.array(value))
