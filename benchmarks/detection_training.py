"""Compare training steps of our a075 at 300 pixels, by head, with those of other small detectors at 320.

    python benchmarks/detection_training.py

The others are torchvision's ssdlite320_mobilenet_v3_large and, where the package ultralytics is installed (AGPL-3.0, no
dependency of this project), YOLO11n with random weights. A step is forward, matching, loss, backward and update on the
same 16 images and boxes. The contenders take turns. Each gets images of its own size that are already on the device.
torchvision runs with both memory layouts; all run in float32 and, where the device supports it, in bfloat16. The script
prints images a second, the ratio to the fastest variant of each other detector round by round, the share of matching
and loss in our steps, and the peak memory of ours and torchvision's in their own processes.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

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
CONTENDERS = ("pyramid", "ssd", "torchvision")
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


def make_ours(device: torch.device, amp: MixedPrecision, head: Head, *, ema: bool = False) -> tuple[Step, Step]:
    """Make our step with the head's loss and optimiser, and a step of matching and loss only, forward and backward."""
    images, targets = make_batch(300, device)
    network = create_detector("a075", num_classes=CLASSES, head=head)
    network = network.to(device).to(memory_format=torch.channels_last).train()
    criterion = make_criterion(head, network)
    name: OptimizerName = "sgd" if head == "ssd" else "adamw"
    optimizer = make_optimizer(name, network, lr=1e-3, weight_decay=4e-5 if head == "ssd" else 0.05)
    average = Ema(network, decay=0.998) if ema else None
    inputs = (images * 2 - 1).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        with autocast(device, amp):
            output = network(inputs)
        criterion(output, network.anchors_cxcywh, targets).sums[0].backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if average:
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


def peak_memory_gb(which: str, device: torch.device) -> float:
    """Peak memory of three steps in a fresh process, in GB: of the process on a CPU, of the device on a GPU."""
    command = [sys.executable, __file__, "--only", which, "--device", str(device)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_peak(which: str, device: torch.device) -> None:
    if which == "torchvision":
        step = make_torchvision(device, "none", channels_last=True)
    else:
        step = make_ours(device, "none", "ssd" if which == "ssd" else "pyramid")[0]
    for _ in range(3):
        step()
    if device.type == "cuda":
        print(torch.cuda.max_memory_allocated() / 1e9)
    else:
        print(peak_memory_mb() / 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = choose_device(args.device)
    keep_freed_memory()
    if args.only:
        return measure_peak(args.only, device)

    pyramid, pyramid_loss = make_ours(device, "none", "pyramid")
    ssd, ssd_loss = make_ours(device, "none", "ssd")
    steps = {
        "pyramid, float32": pyramid,
        "pyramid, float32, with EMA": make_ours(device, "none", "pyramid", ema=True)[0],
        "pyramid, matching and loss": pyramid_loss,
        "ssd, float32": ssd,
        "ssd, matching and loss": ssd_loss,
        "torchvision, float32": make_torchvision(device, "none", channels_last=False),
        "torchvision, float32, channels last": make_torchvision(device, "none", channels_last=True),
    }
    precisions: dict[str, MixedPrecision] = {"float32": "none"}
    if choose_precision(device, "auto") == "bf16":
        precisions["bf16 autocast"] = "bf16"
        steps |= {
            "pyramid, bf16 autocast": make_ours(device, "bf16", "pyramid")[0],
            "ssd, bf16 autocast": make_ours(device, "bf16", "ssd")[0],
            "torchvision, bf16 autocast": make_torchvision(device, "bf16", channels_last=True),
        }
    try:
        steps |= {f"YOLO11n, {name}": make_yolo(device, amp) for name, amp in precisions.items()}
    except ImportError:
        print("YOLO11n is skipped: ultralytics is not installed", file=sys.stderr)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(args.rounds + 1):
        for name, step in steps.items():
            step()  # warm-up, not timed: in training each step follows one of its own kind
            times[name].append(seconds(step, device))
    times = {name: values[1:] for name, values in times.items()}

    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{where}, torch {torch.__version__}, {BATCH} images a step, median of {args.rounds} rounds in turn")
    for name, values in times.items():
        if not name.endswith("matching and loss"):
            print(f"{name:38s} {BATCH / statistics.median(values):8.1f} images/s")
    for head in ("pyramid", "ssd"):
        pairs = zip(times[f"{head}, matching and loss"], times[f"{head}, float32"], strict=True)
        share = statistics.median(loss / step for loss, step in pairs)
        print(f"matching and loss: {100 * share:.1f} % of the step of {head}")
    ours = [name for name in times if name.startswith(("pyramid", "ssd")) and name.endswith(("32", "autocast"))]
    for other in ("torchvision", "YOLO11n"):
        theirs = [name for name in times if name.startswith(other)]
        for name in ours if theirs else []:
            same = [their for their in theirs if ("float32" in their) == name.endswith("float32")]
            fastest = min(same, key=lambda n: statistics.median(times[n]))
            ratios = [their / mine for mine, their in zip(times[name], times[fastest], strict=True)]
            print(
                f"{name} / {fastest}: {statistics.median(ratios):.2f} times the images a second, "
                f"{min(ratios):.2f} to {max(ratios):.2f} over the rounds"
            )
    for which in CONTENDERS:
        print(f"peak memory, {which}: {peak_memory_gb(which, device):.2f} GB")


if __name__ == "__main__":
    main()
