"""Compare training steps of our a075 at 300 pixels, by head, with those of other small detectors at 320.

    python benchmarks/detection_training.py

The others are torchvision's ssdlite320_mobilenet_v3_large and, where the package ultralytics is installed (AGPL-3.0, no
dependency of this project), YOLO11n with random weights. A step is forward, matching, loss, backward and update on the
same 16 images and boxes, of each contender's own size and already on the device. In every round each contender has a
new process, as in training: two steps to warm up, of the next ones the median. torchvision runs with both memory
layouts; all run in float32 and, where the device supports it, in bfloat16. The script prints images a second, the ratio
to the fastest variant of each other detector round by round, the share of matching and loss in our steps, and peak
memory: of the process on a CPU, of the device on a GPU.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from machine import peak_memory_mb
from torch import Tensor

from apps.common.choices import OptimizerName
from apps.common.device import MixedPrecision, autocast, choose_device, choose_precision, keep_freed_memory
from apps.common.training.optim import Ema, make_optimizer
from apps.detection.choices import Head
from apps.detection.data.batches import Targets
from apps.detection.loss.criterion import make_criterion
from apps.detection.model.create import create_detector

BATCH, BOXES, CLASSES = 16, 7, 90  # COCO has 7.3 boxes a photo
WARM_UP, STEPS = 2, 5  # of each process
Step = Callable[[], None]


def make_batch(resolution: int, device: torch.device) -> tuple[Tensor, Targets]:
    """Make images (B, 3, resolution, resolution) in 0..1, and boxes that are equal for every resolution."""
    rng = torch.Generator().manual_seed(0)
    small = torch.rand(BATCH, 3, 60, 60, generator=rng)
    images = torch.nn.functional.interpolate(small, size=(resolution, resolution), mode="bilinear")
    corner = torch.rand(BATCH, BOXES, 2, generator=rng) * 0.7
    size = 0.05 + 0.25 * torch.rand(BATCH, BOXES, 2, generator=rng)
    labels = torch.randint(1, CLASSES + 1, (BATCH, BOXES), generator=rng)
    boxes = torch.cat((corner, corner + size), dim=-1)
    return images.to(device), Targets(boxes, labels, torch.zeros_like(labels, dtype=torch.bool)).to(device)


def make_ours(device: torch.device, amp: MixedPrecision, head: Head) -> tuple[Step, Step]:
    """Make our step with the head's loss and optimiser, and a step of matching and loss only, forward and backward."""
    images, targets = make_batch(300, device)
    network = create_detector("a075", num_classes=CLASSES, head=head)
    network = network.to(device).to(memory_format=torch.channels_last).train()
    criterion = make_criterion(head, network)
    name: OptimizerName = "sgd" if head == "ssd" else "adamw"
    optimizer = make_optimizer(name, network, lr=1e-3, weight_decay=4e-5 if head == "ssd" else 0.05)
    average = Ema(network, decay=0.998)
    inputs = (images * 2 - 1).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with autocast(device, amp):
            output = network(inputs)
        criterion(output, network.anchors_cxcywh, targets).sums[0].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(network)

    with torch.no_grad():
        outputs = network(inputs)
    leaves = {name: value.detach().requires_grad_() for name, value in outputs.items()}

    def loss_only() -> None:
        criterion(leaves, network.anchors_cxcywh, targets).sums[0].backward()

    return step, loss_only


def make_torchvision(device: torch.device, amp: MixedPrecision, *, channels_last: bool) -> Step:
    """Make torchvision's step with its own model, matching and loss."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    batch, targets = make_batch(320, device)
    network = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES + 1).to(device)
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=4e-5, nesterov=True)
    images = list(batch)
    answers = [
        {"boxes": boxes * 320, "labels": labels}
        for boxes, labels in zip(targets.boxes_xyxy, targets.labels, strict=True)
    ]

    def step() -> None:
        with autocast(device, amp):
            losses = network(images, answers)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def make_yolo(device: torch.device, amp: MixedPrecision) -> Step:
    """Make ultralytics' step of YOLO11n with its own matching and loss, channels last.

    Raises:
        ImportError: the package is not installed.
    """
    from ultralytics.cfg import get_cfg
    from ultralytics.nn.tasks import DetectionModel

    images, targets = make_batch(320, device)
    network = DetectionModel("yolo11n.yaml", nc=CLASSES, verbose=False).to(device)
    network = network.to(memory_format=torch.channels_last).train()
    network.args = get_cfg()  # the weights of the losses
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4, nesterov=True)
    low, high = targets.boxes_xyxy[..., :2], targets.boxes_xyxy[..., 2:]
    batch = {
        "img": images.contiguous(memory_format=torch.channels_last),
        "cls": (targets.labels - 1).float().reshape(-1, 1),
        "bboxes": torch.cat(((low + high) / 2, high - low), dim=-1).reshape(-1, 4),
        "batch_idx": torch.arange(BATCH, device=device).repeat_interleave(BOXES).float(),
    }

    def step() -> None:
        with autocast(device, amp):
            losses, _ = network(batch)
        losses.sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def seconds(step: Step, device: torch.device) -> float:
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def makers(device: torch.device) -> dict[str, Callable[[], Step]]:
    """What makes each contender's step."""
    precisions: dict[str, MixedPrecision] = {"float32": "none"}
    if choose_precision(device, "auto") == "bf16":
        precisions["bf16"] = "bf16"
    found: dict[str, Callable[[], Step]] = {}
    for name, amp in precisions.items():
        for head in ("pyramid", "ssd"):
            found[f"{head}, {name}"] = partial(lambda head, amp: make_ours(device, amp, head)[0], head, amp)
        found[f"torchvision, {name}, channels last"] = partial(make_torchvision, device, amp, channels_last=True)
        found[f"YOLO11n, {name}"] = partial(make_yolo, device, amp)
    found["torchvision, float32"] = partial(make_torchvision, device, "none", channels_last=False)
    for head in ("pyramid", "ssd"):
        found[f"{head}, matching and loss"] = partial(lambda head: make_ours(device, "none", head)[1], head)
    return found


def measure(step: Step, device: torch.device) -> dict[str, float]:
    """Seconds of a step, and the peak memory in GB."""
    for _ in range(WARM_UP):
        step()
    found = statistics.median(seconds(step, device) for _ in range(STEPS))
    peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else peak_memory_mb() / 1e3
    return {"seconds": found, "gb": peak}


def in_a_process(name: str, device: torch.device) -> dict[str, float] | None:
    """`measure` in a new process; None if the contender's package is not installed."""
    command = [sys.executable, __file__, "--only", name, "--device", str(device)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = choose_device(args.device)
    contenders = makers(device)
    if args.only:
        keep_freed_memory()
        try:
            print(json.dumps(measure(contenders[args.only](), device)))
        except ImportError:
            print("null")
        return

    found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for _ in range(args.rounds):
        for name in [*found]:
            if (one := in_a_process(name, device)) is None:
                print(f"{name} is skipped: ultralytics is not installed", file=sys.stderr)
                del found[name]
            else:
                found[name].append(one)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{where}, torch {torch.__version__}, {BATCH} images a step, median of {args.rounds} rounds")
    times = {name: [one["seconds"] for one in of_rounds] for name, of_rounds in found.items()}
    for name, values in times.items():
        if not name.endswith("matching and loss"):
            peak = max(one["gb"] for one in found[name])
            print(f"{name:38s} {BATCH / statistics.median(values):8.1f} images/s, {peak:.2f} GB")
    for head in ("pyramid", "ssd"):
        share = statistics.median(times[f"{head}, matching and loss"]) / statistics.median(times[f"{head}, float32"])
        print(f"matching and loss: {100 * share:.1f} % of the step of {head}")
    for other in ("torchvision", "YOLO11n"):
        for name in [name for name in times if name.startswith(("pyramid", "ssd")) and "loss" not in name]:
            precision = name.split(", ")[1]
            if not (same := [their for their in times if their.startswith(other) and precision in their]):
                continue
            fastest = min(same, key=lambda n: statistics.median(times[n]))
            ratios = [their / mine for mine, their in zip(times[name], times[fastest], strict=True)]
            print(
                f"{name} / {fastest}: {statistics.median(ratios):.2f} times the images a second, "
                f"{min(ratios):.2f} to {max(ratios):.2f} over the rounds"
            )


if __name__ == "__main__":
    main()
