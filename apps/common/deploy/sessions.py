"""Sessions: a network ready to run in eager torch, torch.compile, or a runtime of exported files."""

import copy
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from torch import Tensor, nn

from apps.common.choices import Format, Precision, Runtime
from apps.common.deploy.executorch import ExecutorchSession, need_executorch
from apps.common.deploy.formats import INPUT, OPENVINO_FILE, exported_format
from apps.common.deploy.graph import Graph, as_input
from apps.common.deploy.ncnn import NcnnSession
from apps.common.deploy.packages import import_openvino, need, openvino_core
from apps.common.deploy.tflite.session import TFLiteSession
from apps.common.device import choose_device, choose_precision
from apps.common.images import Normalisation

FileRuntime = Literal["onnx", "openvino"]
MODULES: dict[FileRuntime, str] = {"openvino": "openvino", "onnx": "onnxruntime"}
"""What "auto" chooses from on a CPU, and the module that each needs."""
RUNTIMES: dict[Format, str] = {"tflite": "ai_edge_litert", "ncnn": "ncnn", "openvino": "openvino"}


class Session(Protocol):
    """Computes a network's outputs by name from images (B, 3, H, W) uint8 RGB; `name` is the runtime, for messages."""

    @property
    def name(self) -> str: ...

    def __call__(self, images: Tensor) -> dict[str, Tensor]: ...


class TorchSession:
    """A network in eager torch, on the device of its weights; images may be on any device."""

    def __init__(self, network: nn.Module, outputs: Sequence[str], preprocessing: Normalisation) -> None:
        self._network, self._outputs, self._preprocessing = network, tuple(outputs), preprocessing

    @property
    def device(self) -> torch.device:
        """The network's device."""
        return next(self._network.parameters()).device

    @property
    def name(self) -> str:
        return f"torch {torch_version()} on {self.device}"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        found = self._network(self._preprocessing(images.to(self.device)))
        return {self._outputs[0]: found} if isinstance(found, Tensor) else found


class _FileSession:
    """An exported file in a runtime that computes one image at a time: see `load_session`.

    A single image is computed by all threads, which gives the answer soonest. Of several, each is computed by one
    thread, as many at once as there are threads, which gives most images a second (opened when first needed).
    """

    bf16 = False
    name: str
    metadata: dict[str, str]

    def __init__(self, threads: int, preprocessing: Normalisation | None) -> None:
        self.preprocessing = preprocessing
        self._outputs: list[str] = []
        self._threads = threads
        self._alone = self._open(threads, at_once=1)
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def _open(self, threads: int, *, at_once: int) -> Callable[[np.ndarray], list[np.ndarray]]:
        """A function of an image (1, ...) to outputs (1, ...), which so many threads may call at once."""
        raise NotImplementedError

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        batch = as_input(images.cpu(), self.preprocessing).contiguous().numpy()  # no copy of `stack_images`' result
        each = np.split(batch, len(batch))
        if len(each) == 1 or self._threads == 1:
            found = [self._alone(image) for image in each]
        else:
            with self._lock:
                if self._pool is None:
                    self._one_of_many = self._open(1, at_once=self._threads)
                    self._pool = ThreadPoolExecutor(self._threads)
            found = list(self._pool.map(self._one_of_many, each))
        values = (torch.from_numpy(np.concatenate(some)) for some in zip(*found, strict=True))
        return dict(zip(self._outputs, values, strict=True))


class OnnxSession(_FileSession):
    """An ONNX file in onnxruntime."""

    def __init__(self, path: Path, *, threads: int, preprocessing: Normalisation | None) -> None:
        import onnxruntime

        self._path = path
        self.name = f"onnxruntime {onnxruntime.__version__}"
        super().__init__(threads, preprocessing)

    def _open(self, threads: int, *, at_once: int) -> Callable[[np.ndarray], list[np.ndarray]]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # its idle threads would spin on the cores that the code after the network needs
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors
        session = onnxruntime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in session.get_outputs()]
        self.metadata = dict(session.get_modelmeta().custom_metadata_map)
        return lambda image: session.run(self._outputs, {INPUT: image})


class OpenVinoSession(_FileSession):
    """An ONNX file, or a folder of `write_openvino`, in OpenVINO."""

    def __init__(self, path: Path, *, threads: int, preprocessing: Normalisation | None, bf16: bool) -> None:
        openvino = import_openvino()
        self._model = openvino_core().read_model(path / OPENVINO_FILE if path.is_dir() else path)
        constants = [op.data for op in self._model.get_ops() if op.get_type_name() == "Constant"]
        if not all(np.isfinite(some).all() for some in constants if some.dtype.kind == "f"):
            raise ValueError("it has weights that are not finite")  # its activations would clip them
        shape = self._model.inputs[0].get_partial_shape()
        shape[0] = 1  # a fixed shape is much faster than a dynamic batch
        self._model.reshape(shape)
        about = {key: getattr(value, "value", value) for key, value in self._model.get_rt_info().items()}
        self.metadata = {key: value for key, value in about.items() if isinstance(value, str)}
        self.bf16 = bf16
        self.name = f"OpenVINO {openvino.__version__.split('-')[0]}" + ", bf16" * bf16
        super().__init__(threads, preprocessing)

    def _open(self, threads: int, *, at_once: int) -> Callable[[np.ndarray], list[np.ndarray]]:
        settings = {
            "PERFORMANCE_HINT": "LATENCY" if at_once == 1 else "THROUGHPUT",
            "INFERENCE_NUM_THREADS": threads * at_once,
            "INFERENCE_PRECISION_HINT": "bf16" if self.bf16 else "f32",
        }
        if at_once > 1:
            settings["NUM_STREAMS"] = at_once
        compiled = openvino_core().compile_model(self._model, "CPU", settings)
        self._outputs = [output.get_any_name() for output in compiled.outputs]
        requests: SimpleQueue = SimpleQueue()  # a request serves one call at a time
        for _ in range(at_once):
            requests.put(compiled.create_infer_request())

        def infer(image: np.ndarray) -> list[np.ndarray]:
            request = requests.get()
            try:
                request.infer([image], share_inputs=True)
                return [request.get_output_tensor(k).data.copy() for k in range(len(self._outputs))]
            finally:
                requests.put(request)

        return infer


class CompiledSession:
    """A graph compiled by torch.compile, for its device; on a CPU this needs a C++ compiler."""

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self._graph = copy.deepcopy(graph).to(device).to(memory_format=torch.channels_last)
        self._compiled = torch.compile(self._graph)
        self._device = device
        self.name = f"torch.compile {torch_version()} on {device}"

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        values = self._compiled(self._graph.feed(images.to(self._device)))
        return dict(zip(self._graph.outputs, values, strict=True))


def need_runtime(format: Format) -> None:
    """Raise ValueError, with the command that installs it, if the runtime of a format is missing."""
    if format == "executorch":
        need_executorch()
    else:
        need(RUNTIMES.get(format, "onnxruntime"), extra=format if format in ("tflite", "ncnn") else "fast")


FileSession = OnnxSession | OpenVinoSession | TFLiteSession | ExecutorchSession | NcnnSession


def load_session(
    path: Path,
    runtime: Format,
    *,
    threads: int | None = None,
    preprocessing: Normalisation | None = None,
    precision: Precision = "float32",
) -> FileSession:
    """Open an exported file.

    Args:
        path: an ONNX file, or for "openvino" also a folder of `write_openvino`; for others their own files.
        runtime: "onnx", "openvino", "tflite", "ncnn" or "executorch" (which chooses its threads itself).
        threads: compute threads; None for as many as torch uses.
        preprocessing: for a file whose input is preprocessed outside.
        precision: "auto" lets OpenVINO compute in bfloat16 where the processor supports it, which is faster and changes
            some results (docs/export.md); "float32" is exact. The others always compute in float32.
    """
    threads = threads or torch.get_num_threads()
    if runtime == "onnx":
        return OnnxSession(path, threads=threads, preprocessing=preprocessing)
    if runtime == "tflite":
        return TFLiteSession(path, threads=threads, preprocessing=preprocessing)
    if runtime == "ncnn":
        return NcnnSession(path, threads=threads, preprocessing=preprocessing)
    if runtime == "executorch":
        return ExecutorchSession(path, preprocessing=preprocessing)
    return OpenVinoSession(path, threads=threads, preprocessing=preprocessing, bf16=computes_in_bf16(precision))


def device_for(runtime: Runtime, device: str, checkpoint: Path | str | None = None) -> torch.device:
    """The device for a runtime: as `choose_device`, but "auto" is the CPU for runtimes that only run there.

    Args:
        checkpoint: an exported file runs on the CPU in its own runtime.

    Raises:
        ValueError: an unknown runtime or device, or an impossible combination.
    """
    if runtime not in get_args(Runtime):
        raise ValueError(f"runtime must be one of {', '.join(get_args(Runtime))}, got {runtime!r}")
    if checkpoint is not None and (format := exported_format(checkpoint)):
        if runtime not in ("auto", format, *(["openvino"] if format == "onnx" else [])):
            raise ValueError(f"{checkpoint} is computed by its own runtime, not by {runtime}: leave --runtime out")
        runtime = "onnx"  # as for all files: on the CPU
    if runtime not in MODULES:
        return choose_device(device)
    chosen = choose_device("cpu" if device == "auto" else device)
    if chosen.type != "cpu":
        raise ValueError(
            f"runtime {runtime} computes on the CPU, --device is {device}: use runtime torch or device cpu"
        )
    return chosen


def computes_in_bf16(precision: Precision) -> bool:
    """Whether OpenVINO computes in bfloat16 here, see `load_session`."""
    return precision == "auto" and choose_precision(torch.device("cpu"), "auto") == "bf16"


def check_finite(*outputs: Tensor) -> None:
    """Raise ValueError if a network's outputs are not all finite and therefore useless."""
    if not all(output.isfinite().all() for output in outputs):
        raise ValueError("the checkpoint gives outputs that are not finite: damaged, or train with a lower --lr")


def torch_version() -> str:
    """The version of the release, without the build's suffix."""
    return torch.__version__.split("+")[0]
