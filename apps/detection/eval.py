"""Measure a detector on a split with COCO's 12 metrics.

    python apps/detection/eval.py --checkpoint runs/detection/NAME/best --data PATH --split val
    python apps/detection/eval.py --weights coco --backbone a075 --data PATH

Writes metrics.json and predictions.json (COCO's results format: pycocotools' `loadRes` reads it) into --out.
"""

import dataclasses
from pathlib import Path

from apps.common.checkpoint import save_json
from apps.common.cli import run_command
from apps.common.device import choose_device
from apps.detection.coco import BadData, load_coco_split
from apps.detection.detector import Detector
from apps.detection.metrics import coco_metrics, predict_split
from apps.detection.sample import make_sample


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Measure a detector on a split with COCO's 12 metrics."""

    checkpoint: Path | None = None
    """a run of train.py, or its best/"""
    weights: str | None = None
    """instead of --checkpoint: coco (a published detector), a TFLite detector's file, or a catalog name"""
    backbone: str = "a075"
    """width of --weights"""
    resolution: int | None = None
    """side of the square input for --weights, in pixels; default the one it was trained at"""
    data: str = "sample"
    """a folder in COCO layout, or "sample": the embedded set"""
    split: str = "val"
    """reads annotations/instances_SPLIT.json or the only instances_SPLIT*.json"""
    batch_size: int = 16
    """images at once"""
    bad_data: BadData = "refuse"
    """what to do about images and boxes that cannot be right: stop, or skip them and say how many"""
    num_workers: int = 2
    """processes that read images; 0 does it in this one"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    out: Path | None = None
    """folder for metrics.json and predictions.json; default eval-SPLIT beside the checkpoint, or in
    runs/detection/"""


def evaluate(config: Config) -> dict[str, float]:
    """Print the 12 metrics, write them and the detections, and return them by name."""
    detector = load_detector(config)
    root = make_sample() if config.data == "sample" else Path(config.data)
    split = load_coco_split(root, config.split, bad_data=config.bad_data)
    print(split.describe())
    results = predict_split(detector, split, batch_size=config.batch_size, num_workers=config.num_workers)
    metrics = coco_metrics(split, results)
    model = str(config.checkpoint or f"{config.weights}-{config.backbone}")
    out = config.out or default_out(config)
    save_json(out / "predictions.json", results)
    save_json(out / "metrics.json", {"model": model, "split": config.split, **metrics.values})
    print(f"{metrics.text}\nmetrics.json and predictions.json are in {out}")
    return metrics.values


def load_detector(config: Config) -> Detector:
    """The detector that --checkpoint or --weights names.

    Raises:
        ValueError: neither or both are given, or it cannot be loaded.
    """
    device = choose_device(config.device)
    if (config.checkpoint is None) == (config.weights is None):
        raise ValueError("give --checkpoint RUN/best, or --weights coco for a published detector")
    if config.weights is not None:
        return Detector.published(config.weights, backbone=config.backbone, device=device, resolution=config.resolution)
    assert config.checkpoint is not None
    if config.resolution or config.backbone != Config.backbone:
        raise ValueError("--backbone and --resolution are for --weights: a checkpoint has its own")
    return Detector.load(config.checkpoint, device=device)


def default_out(config: Config) -> Path:
    """Beside the checkpoint; for published weights in runs/."""
    if config.checkpoint is not None:
        return config.checkpoint.parent / f"eval-{config.split}"
    return Path("runs/detection") / f"{Path(str(config.weights)).stem}-{config.backbone}-eval-{config.split}"


if __name__ == "__main__":
    run_command(evaluate, Config)
