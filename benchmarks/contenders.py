"""What benchmarks/latency.py measures: our apps with each runtime, the bare runtimes, and peers.

A contender is three steps: a decoded photo to the network's input, input to outputs, outputs to an answer.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import nn

from apps.common.export import Graph, import_openvino, write_onnx
from apps.common.images import stack_images
from apps.common.pretrained import TENSORFLOW_STYLE
from apps.common.runtime import Runtime, kept_onnx
from apps.detection.data import to_square as whole_square
from apps.detection.detector import Detector
from apps.detection.model import create_detector
from apps.faceattr.data import to_square as face_square
from apps.faceattr.network import create_network
from apps.faceattr.tagger import Tagger
from apps.finegrained.classifier import Classifier, create_classifier
from apps.finegrained.data import to_square as central_square
from apps.finegrained.predict import make_guesses
from backbone.cost import count_module

CPU = torch.device("cpu")
THRESHOLD = 0.3  # of all detectors
CLASSES, ATTRIBUTES = 81, 40


class Contender(NamedTuple):
    """The three steps, what computes the network, and its mult-adds (0 if they were not counted)."""

    runtime: str
    before: Callable
    network: Callable
    after: Callable
    mult_adds: int = 0


class Settings(NamedTuple):
    """For all contenders: where exports are kept, threads, and published weights for the detectors."""

    folder: Path
    threads: int
    detector: str | None
    peer_weights: bool


def make_detector(width: str, settings: Settings) -> Detector:
    """With random weights, or published ones."""
    if settings.detector:
        detector = Detector.published(settings.detector, backbone=width, device=CPU)
    else:
        torch.manual_seed(0)
        detector = Detector(
            network=create_detector(width, num_classes=80).eval().to(memory_format=torch.channels_last),
            backbone=width,
            class_names=[f"class {k}" for k in range(80)],
            category_ids=list(range(1, 81)),
            score_function="sigmoid",
        )
    detector.postprocess.score_threshold = THRESHOLD
    return detector


def make_classifier(width: str, settings: Settings) -> Classifier:
    """With random weights, 224 pixels."""
    torch.manual_seed(0)
    return Classifier(
        network=_eager(create_classifier(width, num_classes=CLASSES, style=TENSORFLOW_STYLE)),
        backbone=width,
        resolution=224,
        class_names=[f"class {k}" for k in range(CLASSES)],
    )


def make_tagger(width: str, settings: Settings) -> Tagger:
    """With random weights, 128 pixels."""
    torch.manual_seed(0)
    return Tagger(
        network=_eager(create_network(width, num_attributes=ATTRIBUTES, style=TENSORFLOW_STYLE)),
        backbone=width,
        resolution=128,
        attributes=[f"attribute {k}" for k in range(ATTRIBUTES)],
        style=TENSORFLOW_STYLE,
    )


def ours_detection(width: str, runtime: Runtime, settings: Settings) -> Contender:
    """Photo to boxes."""
    detector = make_detector(width, settings)
    detector.use(runtime, folder=settings.folder, threads=settings.threads)
    return Contender(
        detector.runtime,
        lambda photo: stack_images([whole_square(photo, detector.resolution)]),
        detector.session or (lambda images: detector.network(detector.preprocessing(images))),
        lambda output: detector.postprocess(output, detector.network.anchors_cxcywh),
        count_mult_adds(detector.network, detector.resolution),
    )


def ours_finegrained(width: str, runtime: Runtime, settings: Settings) -> Contender:
    """Photo to five guesses."""
    model = make_classifier(width, settings)
    model.use(runtime, folder=settings.folder, threads=settings.threads)
    return Contender(
        model.runtime,
        lambda photo: stack_images([central_square(photo, 224, model.crop)]),
        model.logits,
        lambda logits: make_guesses(model, logits, top=5),
        count_mult_adds(model.network, 224),
    )


def ours_faceattr(width: str, runtime: Runtime, settings: Settings) -> Contender:
    """Face to attributes; finding the face is not in it."""
    model = make_tagger(width, settings)
    model.use(runtime, folder=settings.folder, threads=settings.threads)
    return Contender(
        model.runtime,
        lambda photo: stack_images([face_square(photo, 128)]),
        model.logits,
        lambda logits: model.calibrated(logits).tolist(),
        count_mult_adds(model.network, 128),
    )


OURS = {"detection": ours_detection, "finegrained": ours_finegrained, "faceattr": ours_faceattr}
MODELS: dict[str, Callable] = {"detection": make_detector, "finegrained": make_classifier, "faceattr": make_tagger}
SIDES = {"detection": 300, "finegrained": 224, "faceattr": 128}


def bare(app: str, width: str, runtime: str, settings: Settings) -> Contender:
    """The runtime's own call on our export, with its input ready and its output left alone."""
    graph: Graph = MODELS[app](width, settings).graph()
    path = kept_onnx(graph, resolution=SIDES[app], folder=settings.folder)
    array = np.zeros((1, SIDES[app], SIDES[app], 3), np.uint8)
    if runtime == "onnx":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = settings.threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return Contender("bare onnxruntime", lambda photo: array, lambda x: session.run(None, {name: x}), _nothing)
    openvino = import_openvino()
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([1, *array.shape[1:]])
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": settings.threads,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(model, "CPU", hints).create_infer_request()
    return Contender("bare OpenVINO", lambda photo: array, lambda x: request.infer([x], share_inputs=True), _nothing)


def opencv_dnn(app: str, width: str, settings: Settings) -> Contender:
    """OpenCV's dnn module on our ONNX file, preprocessed outside by its own blobFromImage."""
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

    return Contender(f"OpenCV {cv2.__version__} dnn", before, compute, _nothing)


def ssdlite(settings: Settings) -> Contender:
    """torchvision's detector, photo to boxes; it resizes, normalises, decodes and suppresses inside."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    network = ssdlite320_mobilenet_v3_large(
        weights="DEFAULT" if settings.peer_weights else None,
        weights_backbone=None,
        score_thresh=THRESHOLD,
        nms_thresh=0.6,
    )
    return Contender(
        "torch",
        lambda photo: [torch.from_numpy(photo).permute(2, 0, 1).float().div_(255)],
        _eager(network),
        lambda found: [(boxes.tolist(), labels.tolist()) for boxes, labels, _ in (d.values() for d in found)],
    )


def peer_classifier(name: str, settings: Settings) -> Contender:
    """A classifier of torchvision or timm, photo to five guesses."""
    if name.startswith("timm "):
        import timm

        network = timm.create_model(name.removeprefix("timm "), pretrained=False)
    else:
        import torchvision

        weights = "DEFAULT" if settings.peer_weights else None
        network = torchvision.models.get_model(name.removeprefix("torchvision "), weights=weights)

    def before(photo: np.ndarray) -> torch.Tensor:
        return stack_images([central_square(photo, 224, 0.875)]).float().div_(255).sub_(0.45).div_(0.225)

    return Contender("torch", before, _eager(network), lambda logits: logits.softmax(1).topk(5).indices.tolist())


PEERS: dict[str, dict[str, Callable[[Settings], Contender]]] = {
    "detection": {"torchvision ssdlite320_mobilenet_v3_large": ssdlite},
    "finegrained": {
        name: lambda settings, name=name: peer_classifier(name, settings)
        for name in ("torchvision mobilenet_v2", "torchvision mobilenet_v3_large", "timm mobilenetv1_100")
    },
    "faceattr": {},
}


def count_mult_adds(network: nn.Module, side: int) -> int:
    """Of one square image."""
    return count_module(network, (1, 3, side, side))[0]


def _eager(network: nn.Module) -> nn.Module:
    return network.eval().to(memory_format=torch.channels_last)


def _nothing(output: Any) -> None:
    pass
