"""What a training step computes and moves, by kind of operator: ours and YOLO11n's, against the machine's limits.

    python benchmarks/training_roofline.py --amp none

A step of a075 with the default head at 300 pixels, and of YOLO11n at 320 where the package ultralytics is installed,
16 images on the CPU. Each operator is timed as it is called; its bytes are those of the tensors that it reads and
writes, as if no cache kept any. An operator's limit is the longer of two times: of its floating-point operations at the
rate of the best matrix product, and of its bytes at the rate at which a tensor of 256 MB is copied. What caches keep
can be faster than that. Time on a quiet machine.
"""

import argparse
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from detection_training import BATCH, make_ours, make_yolo
from machine import machine_limits
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from apps.common.device import MixedPrecision, keep_freed_memory

STEPS = 5
KINDS = {
    "norms": ("batch_norm",),
    "activations": ("hardtanh", "clamp", "silu"),
    "copies, borders, types": ("copy", "pad", "fill", "zero", "clone", "cat"),
}
OTHERS = "others (loss, optimiser, average)"


class Operators(TorchDispatchMode):
    """Seconds, operations and bytes of the operators of a step, and their limits, by kind."""

    def __init__(self, flops_a_second: float, bytes_a_second: float) -> None:
        super().__init__()
        self.rates = flops_a_second, bytes_a_second
        self.sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * 4)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.perf_counter()
        found = func(*args, **(kwargs or {}))
        took = time.perf_counter() - start
        if func.is_view:
            return found
        tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, Tensor)]
        moved = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        flops = count_flops(func.name(), args, found)
        limit = max(flops / self.rates[0], moved / self.rates[1])
        sums = self.sums[kind_of(func.name(), args)]
        sums[:] = [a + b for a, b in zip(sums, (took, flops, moved, limit), strict=True)]
        return found


def count_flops(name: str, args: Any, found: Any) -> float:
    """Of a convolution, two for each mult-add; 0 for other operators, which are limited by bytes."""
    if "convolution_backward" in name:
        gradient, _, weight, *_, (of_x, of_weight, _) = args
        return 2 * gradient.numel() * weight[0].numel() * (of_x + of_weight)
    return 2 * found.numel() * args[1][0].numel() if "convolution" in name else 0


def kind_of(name: str, args: Any) -> str:
    if "convolution" in name:
        weight = args[2] if "backward" in name else args[1]
        if weight.shape[1] == 1:
            return "depthwise convolutions"
        return "1x1 convolutions" if math.prod(weight.shape[2:]) == 1 else "full convolutions"
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), OTHERS)


def copied_a_second() -> float:
    """Bytes read and written."""
    source = torch.ones(2**26)
    target = torch.empty_like(source)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        target.copy_(source)
        times.append(time.perf_counter() - start)
    return 2 * source.numel() * source.element_size() / min(times)


def profile(step: Callable[[], None], flops_a_second: float, bytes_a_second: float) -> str:
    """Markdown: a row for each kind, the slowest first, and the sum."""
    for _ in range(2):
        step()
    plain, every = [], []
    for _ in range(STEPS):
        start = time.perf_counter()
        step()
        plain.append(time.perf_counter() - start)
        with Operators(flops_a_second, bytes_a_second) as operators:
            step()
        every.append(operators.sums)
    rows = ["| kind | ms | GFLOP | GB | limit, ms |\n|---|---|---|---|---|"]
    middle = {kind: [statistics.median(sums[kind][i] for sums in every) for i in range(4)] for kind in every[0]}
    total = [sum(column) for column in zip(*middle.values(), strict=True)]
    for kind, (took, flops, moved, limit) in sorted(middle.items(), key=lambda item: -item[1][0]):
        rows.append(f"| {kind} | {took * 1e3:.0f} | {flops / 1e9:.1f} | {moved / 1e9:.2f} | {limit * 1e3:.0f} |")
    took, flops, moved, limit = total
    rows.append(f"| in all | {took * 1e3:.0f} | {flops / 1e9:.1f} | {moved / 1e9:.2f} | {limit * 1e3:.0f} |")
    rate = BATCH / statistics.median(plain)
    return "\n".join(rows) + f"\n\n{rate:.1f} images a second; at the limit {BATCH / limit:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--amp", choices=("none", "bf16"), default="none", help="precision")
    amp: MixedPrecision = parser.parse_args().amp
    keep_freed_memory()
    rate, library = machine_limits(torch.get_num_threads())["bf16" if amp == "bf16" else "float32"]
    moved = copied_a_second()
    print(f"{torch.get_num_threads()} threads, {rate:.0f} GFLOP/s ({library}), {moved / 1e9:.1f} GB/s, amp {amp}\n")
    print(
        f"a075, pyramid, 300 pixels:\n\n{profile(make_ours(torch.device('cpu'), amp, 'pyramid')[0], rate * 1e9, moved)}"
    )
    try:
        step = make_yolo(torch.device("cpu"), amp)
    except ImportError:
        return print("\nYOLO11n is skipped: ultralytics is not installed")
    print(f"\nYOLO11n, 320 pixels:\n\n{profile(step, rate * 1e9, moved)}")


if __name__ == "__main__":
    main()
