"""The peers of benchmarks/latency.py: networks of torchvision, timm and ultralytics, as contenders."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from contenders import THRESHOLD, WAYS, Contender, Settings, count_mult_adds, eager
from torch import nn

from apps.common.deploy.formats import quantize, write_onnx
from apps.common.deploy.graph import Graph
from apps.common.deploy.sessions import load_session
from apps.common.images import Normalisation, read_image, stack_images
from apps.detection.data.batches import to_square as whole_square
from apps.finegrained.data.batches import to_square as central_square

YOLO_SIDE = 320
EXAMPLES = Path(__file__).resolve().parent.parent / "demos" / "examples" / "detection"


def ssdlite(settings: Settings) -> Contender:
    """Create torchvision's detector, from photo to boxes; it resizes, normalises, decodes and applies NMS itself."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    network = ssdlite320_mobilenet_v3_large(
        weights="DEFAULT" if settings.peer_weights else None,
        weights_backbone=None,
        score_thresh=THRESHOLD,
        nms_thresh=0.6,
    )
    return Contender(
        lambda photo: [torch.from_numpy(photo).permute(2, 0, 1).float().div_(255)],
        eager(network),
        lambda found: [(boxes.tolist(), labels.tolist()) for boxes, labels, _ in (d.values() for d in found)],
    )


class FirstOutput(nn.Module):
    """A network of ultralytics without its training outputs: (B, 4 + K, A), boxes in pixels and scores of classes."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.network(images)
        return found[0] if isinstance(found, tuple | list) else found


def yolo(name: str, way: str, settings: Settings) -> Contender:
    """Create a contender with a YOLO of ultralytics (AGPL-3.0) with random weights at 320 pixels, in our runtimes.

    Its network is exported and computed like ours; the steps before and after it are a plain resize, and the NMS of
    that package, or for YOLO26, which needs none, the best 300 scores.

    Raises:
        ImportError: the package is not installed.
        ValueError: the way is not available on this machine.
    """
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils.nms import non_max_suppression

    torch.manual_seed(0)
    network = FirstOutput(DetectionModel(f"{name}.yaml", nc=80, verbose=False).eval().fuse(verbose=False)).eval()
    with torch.no_grad():
        network(torch.zeros(1, 3, YOLO_SIDE, YOLO_SIDE))  # which lays out its anchors
    plain = Normalisation(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
    graph = Graph(network, ("found",), preprocessing=plain)
    path = settings.folder / f"{name}.onnx"
    if not path.exists():  # for another way
        write_onnx(path, graph, resolution=YOLO_SIDE)
    precision = WAYS[way][2]
    if way == "openvino-int8":
        exact, path = path, settings.folder / f"{name}-int8.onnx"
        photos = [to_yolo(cv2.resize(read_image(one), (640, 480))) for one in sorted(EXAMPLES.glob("*.jpg"))]
        quantize(exact, path, (graph.feed(photo).contiguous().numpy() for photo in photos))
    runtime: Literal["onnx", "openvino"] = "onnx" if way == "onnx" else "openvino"
    session = load_session(path, runtime, threads=settings.threads, precision=precision)
    if way == "openvino-bf16" and not session.bf16:
        raise ValueError("this processor does not support bfloat16")

    def after(output: dict[str, torch.Tensor]) -> Any:
        if name == "yolo26n":
            best = output["found"][:, 4:].amax(1).topk(300)
            return best.values[best.values > THRESHOLD], output["found"].transpose(1, 2)[0, best.indices]
        return non_max_suppression(output["found"], conf_thres=THRESHOLD, iou_thres=0.6)

    return Contender(to_yolo, session, after, count_mult_adds(network, YOLO_SIDE))


def to_yolo(photo: np.ndarray) -> torch.Tensor:
    """A photo (H, W, 3) as (1, 3, 320, 320) uint8."""
    return stack_images([whole_square(photo, YOLO_SIDE)])


def peer_classifier(name: str, settings: Settings) -> Contender:
    """Create a classifier of torchvision or timm, from photo to five guesses."""
    if name.startswith("timm "):
        import timm

        network = timm.create_model(name.removeprefix("timm "), pretrained=False)
    else:
        import torchvision

        weights = "DEFAULT" if settings.peer_weights else None
        network = torchvision.models.get_model(name.removeprefix("torchvision "), weights=weights)

    def before(photo: np.ndarray) -> torch.Tensor:
        return stack_images([central_square(photo, 224, 0.875)]).float().div_(255).sub_(0.45).div_(0.225)

    return Contender(before, eager(network), lambda logits: logits.softmax(1).topk(5).indices.tolist())


PEERS: dict[str, dict[str, Callable[[Settings], Contender]]] = {
    "detection": {
        "torchvision ssdlite320_mobilenet_v3_large": ssdlite,
        **{
            f"{name} {WAYS[way][0]}": partial(yolo, name, way)
            for name in ("yolo11n", "yolo26n")
            for way in ("onnx", "openvino", "openvino-bf16", "openvino-int8")
        },
    },
    "finegrained": {
        name: partial(peer_classifier, name)
        for name in ("torchvision mobilenet_v2", "torchvision mobilenet_v3_large", "timm mobilenetv1_100")
    },
    "faceattr": {},
}
