"""A network in each installed runtime, for timing: eager torch, ONNX Runtime and OpenVINO.

Only torch is required; the others are imported when used.
"""

import contextlib
import functools
import importlib.util
import logging
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

Run = Callable[[], object]  # one image through a network
NEEDED = {"torch": ("torch",), "onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}
WARM_UP = 3  # runs


def installed() -> list[str]:
    """The runtimes whose packages are installed."""
    return [name for name, modules in NEEDED.items() if all(importlib.util.find_spec(module) for module in modules)]


def processor() -> str:
    """The processor's name as the system reports it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def import_openvino() -> Any:
    """OpenVINO without its package openvino_telemetry, which reports every import to Google Analytics by default.

    OpenVINO uses a stub of its own where that package is not installed, and here it looks as if it were not.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


@functools.cache
def openvino_core() -> Any:
    """OpenVINO's core, created once and kept until the process ends.

    Its CPU plugin replaces the thread's signal stack and restores the previous one when a core is deleted. If two
    cores are deleted in the order of their creation, the restored stack is freed memory of the first core, and the
    next signal is a segmentation fault (2026.4).
    """
    return import_openvino().Core()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Silence logs and warnings of the exporters and the quantizer, and leave inference mode, where they fail."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def make_runs(runtime: str, net: nn.Module, sides: Sequence[int], threads: int) -> dict[int, Run]:
    """For each side of a square input: a function that runs `net`, in eval mode, on one image of random pixels.

    Args:
        runtime: a key of `NEEDED`.
        sides: several must be multiples of 32 pixels, so that all strided convolutions pad equally and one export
            serves all of them.
    """
    images = {side: torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0)) for side in sides}
    if runtime == "torch":
        return _torch_runs(net, images)
    with quietly(), torch.no_grad():
        return (_onnx_runs if runtime == "onnx" else _openvino_runs)(net, images, threads)


def _torch_runs(net: nn.Module, images: dict[int, torch.Tensor]) -> dict[int, Run]:
    net = net.to(memory_format=torch.channels_last)

    def run(image: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return net(image)

    last = {side: image.to(memory_format=torch.channels_last) for side, image in images.items()}
    return {side: lambda image=image: run(image) for side, image in last.items()}  # type: ignore[misc]


def _onnx_runs(net: nn.Module, images: dict[int, torch.Tensor], threads: int) -> dict[int, Run]:
    import onnxruntime

    example = images[max(images)]
    program = torch.onnx.export(net, (example,), dynamo=True, external_data=False, verbose=False)
    assert program is not None
    model = program.model_proto
    del model.graph.value_info[:]  # shapes of the maps for the example's side
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3  # errors only
    runs: dict[int, Run] = {}
    for side, image in images.items():
        for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
            dim.dim_value = side
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feed = {model.graph.input[0].name: image.numpy()}
        runs[side] = lambda session=session, feed=feed: session.run(None, feed)[0]  # type: ignore[misc]
    return runs


def _openvino_runs(net: nn.Module, images: dict[int, torch.Tensor], threads: int) -> dict[int, Run]:
    openvino = import_openvino()
    model = openvino.convert_model(net, example_input=images[max(images)])
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    runs: dict[int, Run] = {}
    for side, image in images.items():
        model.reshape([1, 3, side, side])
        request = openvino_core().compile_model(model, "CPU", settings).create_infer_request()
        pixels = image.numpy()
        runs[side] = lambda request=request, pixels=pixels: request.infer([pixels], share_inputs=True)[0]  # type: ignore[misc]
    return runs


def milliseconds(run: Run, seconds: float) -> float:
    """Median time of one run, over as many runs as fit into `seconds` (at least five), after a warm-up."""
    for _ in range(WARM_UP):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)
