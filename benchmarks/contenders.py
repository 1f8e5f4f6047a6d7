"""The contenders of benchmarks/latency.py: our apps with each runtime; peers.py has the others.

A contender has three steps: from a decoded photo to the network's input, from input to outputs, from outputs to an
answer. The functions that build contenders can be pickled, so they can be sent to another process.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import nn

from apps.common.choices import Precision, Runtime
from apps.common.deploy.formats import quantize, write_onnx
from apps.common.deploy.graph import Graph
from apps.common.deploy.runtime import kept_onnx, start_session
from apps.common.deploy.sessions import TorchSession, load_session
from apps.common.images import stack_images
from apps.common.pretrained import TENSORFLOW_STYLE
from apps.detection.boxes.postprocess import PostProcess
from apps.detection.choices import Head
from apps.detection.data.batches import to_square as whole_square
from apps.detection.model.create import create_detector
from apps.detection.model.detector import Detector
from apps.faceattr.data.batches import to_square as face_square
from apps.faceattr.model.create import create_network
from apps.faceattr.model.tagger import Tagger
from apps.finegrained.data.batches import to_square as central_square
from apps.finegrained.model.classifier import Classifier
from apps.finegrained.model.create import create_classifier
from apps.finegrained.results import make_guesses
from backbone.cost import count_module

CPU = torch.device("cpu")
THRESHOLD = 0.3  # of all detectors
CLASSES, ATTRIBUTES = 81, 40


WAYS: dict[str, tuple[str, Runtime, Precision]] = {
    "torch": ("torch", "torch", "float32"),
    "torch-compile": ("torch.compile", "torch-compile", "float32"),
    "onnx": ("onnxruntime", "onnx", "float32"),
    "openvino": ("OpenVINO", "openvino", "float32"),
    "openvino-bf16": ("OpenVINO bf16", "openvino", "auto"),
    "openvino-int8": ("OpenVINO int8", "openvino", "float32"),
}
"""The ways to compute one of our networks: the name in tables, and runtime and precision for `use`."""


class Contender(NamedTuple):
    """The three steps, and the network's mult-adds (0 if they were not counted)."""

    before: Callable
    network: Callable
    after: Callable
    mult_adds: int = 0


class Settings(NamedTuple):
    """Settings of all contenders: folder of exports, threads, and the detectors' published weights or head."""

    folder: Path
    threads: int
    detector: str | None
    head: Head
    peer_weights: bool


def make_detector(width: str, settings: Settings, *, resolution: int = 300) -> Detector:
    """Create a detector with random or published weights, the latter at 300 pixels."""
    if settings.detector:
        detector = Detector.published(settings.detector, backbone=width, device=CPU)
    else:
        torch.manual_seed(0)
        detector = Detector(
            network=eager(create_detector(width, num_classes=80, resolution=resolution, head=settings.head)),
            backbone=width,
            class_names=[f"class {k}" for k in range(80)],
            category_ids=list(range(1, 81)),
            postprocess=PostProcess("sigmoid"),
        )
    return detector.with_thresholds(score_threshold=THRESHOLD)


def make_classifier(width: str, settings: Settings) -> Classifier:
    """Create a classifier with random weights at 224 pixels."""
    torch.manual_seed(0)
    return Classifier(
        network=eager(create_classifier(width, num_classes=CLASSES, style=TENSORFLOW_STYLE)),
        backbone=width,
        resolution=224,
        class_names=[f"class {k}" for k in range(CLASSES)],
    )


def make_tagger(width: str, settings: Settings) -> Tagger:
    """Create a tagger with random weights at 128 pixels."""
    torch.manual_seed(0)
    return Tagger(
        network=eager(create_network(width, num_attributes=ATTRIBUTES, style=TENSORFLOW_STYLE)),
        backbone=width,
        resolution=128,
        attributes=[f"attribute {k}" for k in range(ATTRIBUTES)],
        style=TENSORFLOW_STYLE,
    )


def ours(app: str, width: str, way: str, settings: Settings) -> Contender:
    """Create a contender from photo to boxes or five guesses, or from a given face to attributes.

    Raises:
        ValueError: this way is not available on this machine.
    """
    model = MODELS[app](width, settings)
    use_way(app, model, width, way, settings)
    steps: dict[str, tuple[Callable, Callable]] = {
        "detection": (
            model.session,
            lambda output: model.postprocess(output, model.network.anchors_cxcywh),
        ),
        "finegrained": (lambda images: model.logits(images), partial(make_guesses, model, top=5)),
        "faceattr": (lambda images: model.logits(images), lambda logits: model.calibrated(logits).tolist()),
    }
    return Contender(partial(make_square, app), *steps[app], count_mult_adds(model.network, SIDES[app]))


def use_way(app: str, model: Any, width: str, way: str, settings: Settings) -> None:
    """Make one of our models compute in a way, with the files that `prepare` wrote.

    Raises:
        ValueError: the way is not available on this machine.
    """
    name, runtime, precision = WAYS[way]
    if way == "openvino-int8":
        model.session = load_session(int8_file(app, width, settings), "openvino", threads=settings.threads)
        return
    model.session = start_session(model, runtime, threads=settings.threads, precision=precision)
    if isinstance(model.session, TorchSession) and way != "torch":
        raise ValueError(f"{name} is not available")
    if way == "openvino-bf16" and not model.session.bf16:
        raise ValueError("this processor does not support bfloat16")


def prepare(app: str, width: str, settings: Settings, photos: Sequence[np.ndarray]) -> None:
    """Export one of our networks, in float32 and in 8 bits calibrated on photos."""
    graph: Graph = MODELS[app](width, settings).graph()
    exact = kept_onnx(graph, resolution=SIDES[app])
    inputs = (graph.feed(make_square(app, photo)).contiguous().numpy() for photo in photos)
    quantize(exact, int8_file(app, width, settings), inputs)


def int8_file(app: str, width: str, settings: Settings) -> Path:
    """The path of the 8-bit file that `prepare` writes."""
    return settings.folder / f"{app}-{width}-int8.onnx"


def make_square(app: str, photo: np.ndarray) -> torch.Tensor:
    """Resize a photo (H, W, 3) to the input of an app's network, (1, 3, side, side) uint8."""
    side = SIDES[app]
    if app == "finegrained":
        return stack_images([central_square(photo, side, 0.875)])
    return stack_images([whole_square(photo, side) if app == "detection" else face_square(photo, side)])


MODELS: dict[str, Callable] = {"detection": make_detector, "finegrained": make_classifier, "faceattr": make_tagger}
SIDES = {"detection": 300, "finegrained": 224, "faceattr": 128}


def opencv_dnn(app: str, width: str, settings: Settings) -> Contender:
    """Create a contender with OpenCV's dnn module on our ONNX file, preprocessed by its blobFromImage."""
    graph: Graph = MODELS[app](width, settings).graph(input="float")
    path, side = settings.folder / f"{app}-{width}-float.onnx", SIDES[app]
    write_onnx(path, graph, resolution=side)
    network = cv2.dnn.readNetFromONNX(str(path))
    mean, scale = graph.preprocessing.mean, 1 / graph.preprocessing.std[0]

    def compute(blob: np.ndarray) -> Any:
        network.setInput(blob)
        return network.forward(network.getUnconnectedOutLayersNames())

    def before(photo: np.ndarray) -> np.ndarray:
        return cv2.dnn.blobFromImage(photo, scale, (side, side), mean)

    return Contender(before, compute, lambda output: None)


def count_mult_adds(network: nn.Module, side: int) -> int:
    """Mult-adds for one square image."""
    return count_module(network, (1, 3, side, side))[0]


def eager(network: nn.Module) -> nn.Module:
    return network.eval().to(memory_format=torch.channels_last)
