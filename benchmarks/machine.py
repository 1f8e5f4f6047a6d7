"""The machine under a benchmark: threads, the best rate of a matrix product, hot loops, peak memory of a process."""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch

from apps.common.deploy.packages import import_openvino, openvino_core


def set_threads(threads: int) -> None:
    """Set the threads of torch and OpenCV; each runtime gets its number with its session."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def machine_limits(threads: int) -> dict[str, tuple[float, str]]:
    """The best rate of a matrix product in GFLOP/s and the library that reached it, in float32 and in bf16."""
    set_threads(threads)
    side = 1536
    a, b = (np.random.default_rng(k).standard_normal((side, side), np.float32) for k in (0, 1))
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    x16, y16 = x.bfloat16(), y.bfloat16()
    products: dict[str, dict[str, Callable]] = {
        "float32": {"torch": lambda: x @ y, "numpy": lambda: a @ b},
        "bf16": {"torch": lambda: x16 @ y16},
    }
    try:
        openvino = import_openvino()
        node = openvino.opset13.parameter([side, side], np.float32)
        model = openvino.Model([openvino.opset13.matmul(node, openvino.opset13.constant(b), False, False)], [node])
        for precision, hint in (("float32", "f32"), ("bf16", "bf16")):
            hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint}
            request = openvino_core().compile_model(model, "CPU", hints).create_infer_request()
            products[precision]["OpenVINO"] = partial(request.infer, [a], share_inputs=True)
    except (ImportError, ValueError):
        pass
    rates = {
        precision: [(2e-9 * side**3 / _best_seconds(call), name) for name, call in some.items()]
        for precision, some in products.items()
    }
    return {precision: max(some) for precision, some in rates.items()}


def _best_seconds(call: Callable) -> float:
    times = []
    for _ in range(11):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def hot_loops(calls: Sequence[Callable], rounds: int, seconds: float) -> list[float]:
    """Milliseconds of each call: the median of rounds, in each of which each is repeated for so long, in turn."""
    medians: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, some in zip(calls, medians, strict=True):
            call()  # brings its weights back into the caches
            times, end = [], time.perf_counter() + seconds
            while not times or time.perf_counter() < end:
                start = time.perf_counter()
                call()
                times.append(1e3 * (time.perf_counter() - start))
            some.append(statistics.median(times))
    return [statistics.median(some) for some in medians]


def peak_memory_mb() -> float:
    """Peak memory of this process in MB, on Linux. getrusage would give the parent's, if that is larger."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
