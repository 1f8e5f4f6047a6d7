"""Milliseconds for one photo: before, in and after the network, for each app, width and runtime, and for their peers.

    python benchmarks/latency.py                             all apps, a025 to a100, every runtime that is installed
    python benchmarks/latency.py --apps detection --widths a075 --threads 1 --detector coco --photo street.jpg

All contenders are built first, then measured in turn, round by round, so that a busy moment hits them alike; each is
called once unmeasured before each measurement. Peers are eager torch with channels-last weights, as a careful user has
them: torchvision's ssdlite320_mobilenet_v3_large from photo to boxes, timm's mobilenetv1_100 and torchvision's
mobilenet_v2 at 224 pixels. Weights are random, which costs the same but for suppression: a detector that finds nothing
above its threshold, ours or theirs, has nothing to suppress. `--detector coco` takes the published one instead (a075
and a100), `--peer-weights` downloads torchvision's.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import nn

from apps.common.images import read_image, stack_images
from apps.common.pretrained import TENSORFLOW_STYLE
from apps.common.runtime import MODULES, Runtime
from apps.detection.data import to_square as whole_square
from apps.detection.detector import Detector
from apps.detection.model import create_detector
from apps.faceattr.data import to_square as face_square
from apps.faceattr.network import create_network
from apps.faceattr.tagger import Tagger
from apps.finegrained.classifier import Classifier, create_classifier
from apps.finegrained.data import to_square as central_square
from apps.finegrained.predict import make_guesses

CPU = torch.device("cpu")
THRESHOLD = 0.3  # of both detectors
CLASSES, ATTRIBUTES = 81, 40


class Contender(NamedTuple):
    """What is measured: photo to input, input to outputs, outputs to an answer."""

    name: str
    before: Callable
    network: Callable
    after: Callable


def make_detection(width: str, runtime: Runtime, folder: Path, weights: str | None) -> Contender:
    if weights:
        detector = Detector.published(weights, backbone=width, device=CPU)
    else:
        network = create_detector(width, num_classes=80).eval().to(memory_format=torch.channels_last)
        names = [f"class {k}" for k in range(80)]
        detector = Detector(
            network=network,
            backbone=width,
            class_names=names,
            category_ids=list(range(1, 81)),
            score_function="sigmoid",
        )
    detector.postprocess.score_threshold = THRESHOLD
    detector.use(runtime, folder=folder)
    return Contender(
        f"detection {width} {detector.resolution} {detector.runtime}",
        lambda photo: stack_images([whole_square(photo, detector.resolution)]),
        detector.session or (lambda images: detector.network(detector.preprocessing(images))),
        lambda output: detector.postprocess(output, detector.network.anchors_cxcywh),
    )


def make_finegrained(width: str, runtime: Runtime, folder: Path) -> Contender:
    network = create_classifier(width, num_classes=CLASSES, style=TENSORFLOW_STYLE).eval()
    model = Classifier(
        network=network.to(memory_format=torch.channels_last),
        backbone=width,
        resolution=224,
        class_names=[f"class {k}" for k in range(CLASSES)],
    )
    model.use(runtime, folder=folder)
    return Contender(
        f"finegrained {width} 224 {model.runtime}",
        lambda photo: stack_images([central_square(photo, 224, model.crop)]),
        model.logits,
        lambda logits: make_guesses(model, logits, top=5),
    )


def make_faceattr(width: str, runtime: Runtime, folder: Path) -> Contender:
    """Without finding the face."""
    network = create_network(width, num_attributes=ATTRIBUTES, style=TENSORFLOW_STYLE).eval()
    model = Tagger(
        network=network.to(memory_format=torch.channels_last),
        backbone=width,
        resolution=128,
        attributes=[f"attribute {k}" for k in range(ATTRIBUTES)],
        style=TENSORFLOW_STYLE,
    )
    model.use(runtime, folder=folder)
    return Contender(
        f"faceattr {width} 128 {model.runtime}",
        lambda photo: stack_images([face_square(photo, 128)]),
        model.logits,
        lambda logits: model.calibrated(logits).tolist(),
    )


def make_peers(apps: list[str], *, pretrained: bool) -> list[Contender]:
    """Eager, channels last."""
    from torchvision.models import mobilenet_v2
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    def floats(photo: np.ndarray) -> torch.Tensor:
        return stack_images([central_square(photo, 224, 0.875)]).float().div_(255).sub_(0.45).div_(0.225)

    def best(logits: torch.Tensor) -> list:
        return logits.softmax(1).topk(5).indices.tolist()

    def eager(network: nn.Module) -> nn.Module:
        return network.eval().to(memory_format=torch.channels_last)

    peers = []
    if "detection" in apps:
        weights = "DEFAULT" if pretrained else None
        ssdlite = eager(
            ssdlite320_mobilenet_v3_large(
                weights=weights, weights_backbone=None, score_thresh=THRESHOLD, nms_thresh=0.6
            )
        )
        peers.append(
            Contender(
                f"torchvision ssdlite320_mobilenet_v3_large, torch {torch.__version__}",
                lambda photo: [torch.from_numpy(photo).permute(2, 0, 1).float().div_(255)],
                ssdlite,  # resizes, normalises, decodes and suppresses inside
                lambda found: [(boxes.tolist(), labels.tolist()) for boxes, labels, _ in (d.values() for d in found)],
            )
        )
    if "finegrained" in apps:
        weights = "DEFAULT" if pretrained else None
        peers.append(
            Contender("torchvision mobilenet_v2 224, torch", floats, eager(mobilenet_v2(weights=weights)), best)
        )
        try:
            import timm
        except ImportError:
            print("timm is not installed: mobilenetv1_100 is left out")
        else:
            network = eager(timm.create_model("mobilenetv1_100", pretrained=False))
            peers.append(Contender("timm mobilenetv1_100 224, torch", floats, network, best))
    return peers


@torch.inference_mode()
def measure(contender: Contender, photo: np.ndarray) -> tuple[float, float, float]:
    """Milliseconds before, in and after the network."""
    start = time.perf_counter()
    images = contender.before(photo)
    ready = time.perf_counter()
    output = contender.network(images)
    done = time.perf_counter()
    contender.after(output)
    return 1e3 * (ready - start), 1e3 * (done - ready), 1e3 * (time.perf_counter() - done)


def report(name: str, times: list[tuple[float, float, float]]) -> str:
    """A line: the median of each part, median and 95th percentile of the whole, photos a second."""
    totals = sorted(sum(parts) for parts in times)
    parts = " ".join(f"{statistics.median(part):7.2f}" for part in zip(*times, strict=True))
    median, p95 = statistics.median(totals), totals[min(len(totals) - 1, round(0.95 * len(totals)))]
    return f"{name:64s} {parts} {median:8.2f} {p95:8.2f} {1e3 / median:8.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apps", nargs="+", default=["detection", "finegrained", "faceattr"])
    parser.add_argument("--widths", nargs="+", default=["a025", "a050", "a075", "a100"])
    parser.add_argument("--runtimes", nargs="+", default=["torch", *MODULES], choices=["torch", *MODULES])
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--photo", type=Path, default=None)
    parser.add_argument("--detector", default=None, help="published weights, as --weights of predict.py")
    parser.add_argument("--peer-weights", action="store_true", help="torchvision's published weights")
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    rng = np.random.default_rng(0)
    photo = read_image(args.photo) if args.photo else rng.integers(0, 256, (480, 640, 3), dtype=np.uint8)
    torch.manual_seed(0)
    makers = {"finegrained": make_finegrained, "faceattr": make_faceattr}
    with tempfile.TemporaryDirectory() as name:
        contenders = []
        for app in args.apps:
            for width in args.widths:
                for runtime in args.runtimes:
                    torch.manual_seed(0)  # the same weights, so that they are exported once
                    if app == "detection":
                        contenders.append(make_detection(width, runtime, Path(name), args.detector))
                    else:
                        contenders.append(makers[app](width, runtime, Path(name)))
        if not args.no_peers:
            contenders += make_peers(args.apps, pretrained=args.peer_weights)
    times: dict[str, list[tuple[float, float, float]]] = {contender.name: [] for contender in contenders}
    for _ in range(args.rounds):
        for contender in contenders:
            measure(contender, photo)
            times[contender.name].append(measure(contender, photo))
    height, width = photo.shape[:2]
    print(f"{torch.get_num_threads()} CPU threads, a photo of {width}x{height} pixels, {args.rounds} rounds in turn")
    print(f"{'ms':64s} {'before':>7s} {'network':>7s} {'after':>7s} {'median':>8s} {'p95':>8s} {'photos/s':>8s}")
    for contender_name, values in times.items():
        print(report(contender_name, values))


if __name__ == "__main__":
    main()
