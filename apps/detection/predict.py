"""Find objects in photos.

    python apps/detection/predict.py --source photo.jpg                       the published COCO detector, a075
    python apps/detection/predict.py --checkpoint runs/detection/NAME/best --source photos/ --out found/

In Python:

    detect = Predictor("runs/detection/NAME/best")                            # or Predictor(): the published one
    for box, score, name in detect(image): ...
"""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from apps.common.checkpoint import model_folder
from apps.common.cli import run_command
from apps.common.images import read_image, stack_images
from apps.common.photos import find_photos
from apps.common.runtime import Runtime, device_for
from apps.detection.data import to_square
from apps.detection.detector import Detector
from backbone.files import written_whole


class Found(NamedTuple):
    """One object: box (x0, y0, x1, y1) in pixels of the photo, score 0 to 1, class name."""

    box_xyxy_px: tuple[float, float, float, float]
    score: float
    name: str


class Predictor:
    """Finds objects in photos of any size.

    Args:
        checkpoint: a run of train.py or its best/; None for a published detector.
        weights, backbone: which published detector; see `pretrained.load_pretrained`.
        device: auto, cpu, cuda, mps.
        conf: lower scores are not reported.
        runtime: auto, torch, onnx, openvino: what computes, see `apps.common.runtime`.
        threads: on which to compute on a CPU; None for as many as torch uses.
    """

    def __init__(
        self,
        checkpoint: Path | str | None = None,
        *,
        weights: str = "coco",
        backbone: str = "a075",
        device: str = "auto",
        conf: float = 0.3,
        runtime: Runtime = "auto",
        threads: int | None = None,
    ) -> None:
        place = device_for(runtime, device)
        if checkpoint is None:
            self.detector = Detector.published(weights, backbone=backbone, device=place)
        else:
            self.detector = Detector.load(Path(checkpoint), device=place)
        self.detector.postprocess.score_threshold = conf
        folder = None if checkpoint is None else model_folder(Path(checkpoint))
        self.detector.use(runtime, folder=folder, threads=threads)

    def __call__(self, image: np.ndarray) -> list[Found]:
        """Objects in an image (H, W, 3) uint8 RGB, best first."""
        height, width = image.shape[:2]
        (detections,) = self.detector(stack_images([to_square(image, self.detector.resolution)]))
        boxes = detections.boxes_xyxy.cpu() * torch.tensor([width, height, width, height])
        names = self.detector.class_names
        return [
            Found((x0, y0, x1, y1), score, names[label - 1])
            for (x0, y0, x1, y1), score, label in zip(
                boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
            )
        ]


def draw(image: np.ndarray, found: list[Found]) -> np.ndarray:
    """A copy of an image (H, W, 3) RGB with boxes and names on it."""
    image = image.copy()
    thickness = max(1, round(max(image.shape) / 400))
    for box, score, name in reversed(found):
        x0, y0, x1, y1 = (round(v) for v in box)
        hue = sum(name.encode()) * 47 % 180
        colour = cv2.cvtColor(np.array([[[hue, 200, 230]]], dtype=np.uint8), cv2.COLOR_HSV2RGB)[0, 0].tolist()
        cv2.rectangle(image, (x0, y0), (x1, y1), colour, thickness)
        text, scale = f"{name} {score:.2f}", 0.45 * thickness**0.6
        (w, h), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        top = max(y0, h + below)
        cv2.rectangle(image, (x0, top - h - below), (x0 + w, top), colour, -1)
        cv2.putText(image, text, (x0, top - below // 2), cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
    return image


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Find objects in photos, print them, and write pictures with boxes."""

    source: Path
    """a photo, or a folder of photos"""
    checkpoint: Path | None = None
    """a run of train.py, or its best/; default: the published detector of --weights"""
    weights: str = "coco"
    """without --checkpoint: coco (a published detector), a TFLite detector's file, or a catalog name"""
    backbone: str = "a075"
    """width of --weights"""
    conf: float = 0.3
    """lower scores are not reported"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    runtime: Runtime = "auto"
    """what computes: the fastest installed, or torch, onnx (onnxruntime) or openvino; both are for CPUs"""
    threads: int | None = None
    """on which to compute on a CPU; default as many as torch uses"""
    out: Path = Path("found")
    """folder for the pictures"""


def predict(config: Config) -> None:
    """Print what is found in each photo, and draw it."""
    if config.checkpoint and (config.weights, config.backbone) != (Config.weights, Config.backbone):
        raise ValueError("give --checkpoint, or --weights with --backbone: a checkpoint has its own")
    predictor = Predictor(
        config.checkpoint,
        weights=config.weights,
        backbone=config.backbone,
        device=config.device,
        conf=config.conf,
        runtime=config.runtime,
        threads=config.threads,
    )
    for path in find_photos(config.source):
        image = read_image(path)
        found = predictor(image)
        print(f"{path}: " + (", ".join(f"{o.name} {o.score:.2f}" for o in found) or "nothing"))
        with written_whole(config.out / f"{path.stem}.png") as temporary:
            cv2.imwrite(str(temporary), cv2.cvtColor(draw(image, found), cv2.COLOR_RGB2BGR))
    print(f"pictures are in {config.out}; computed by {predictor.detector.runtime}")


if __name__ == "__main__":
    run_command(predict, Config)
