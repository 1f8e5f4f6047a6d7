"""Measure a detector on a split with COCO's 12 metrics.

    python apps/detection/eval.py --checkpoint runs/detection/NAME/best --data PATH --split val

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

    checkpoint: Path
    """a run of train.py, or its best/"""
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
    """folder for metrics.json and predictions.json; default eval-SPLIT beside the checkpoint"""


def evaluate(config: Config) -> dict[str, float]:
    """Print the 12 metrics, write them and the detections, and return them by name."""
    detector = Detector.load(config.checkpoint, device=choose_device(config.device))
    root = make_sample() if config.data == "sample" else Path(config.data)
    split = load_coco_split(root, config.split, bad_data=config.bad_data)
    print(split.describe())
    results = predict_split(detector, split, batch_size=config.batch_size, num_workers=config.num_workers)
    metrics = coco_metrics(split, results)
    out = config.out or config.checkpoint.parent / f"eval-{config.split}"
    save_json(out / "predictions.json", results)
    save_json(out / "metrics.json", {"checkpoint": str(config.checkpoint), "split": config.split, **metrics.values})
    print(f"{metrics.text}\nmetrics.json and predictions.json are in {out}")
    return metrics.values


if __name__ == "__main__":
    run_command(evaluate, Config)
