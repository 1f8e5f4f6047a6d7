"""All three demos on one page, a tab each.

    python demos/app.py                                                  your runs, published and bundled models
    python demos/app.py --detection runs/detection/NAME/best --faceattr runs/faceattr/NAME/best
    python demos/app.py --host 0.0.0.0 --auth me:secret                  for others, too

The public API has the single demos' functions: /detect, /classify, /describe_faces, and each with _video and _photos.
"""

import dataclasses
from pathlib import Path
from typing import Any

from apps.common.cli import run_command
from demos.serving import THIS_MACHINE, USUAL_COMPUTING, ComputingFlags, ServerFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Serve a page with all three demos.

    example: python demos/app.py --detection runs/detection/NAME/best
    """

    detection: Path | None = None
    """run of apps/detection/train.py, or its best/ folder: the first detector shown"""
    finegrained: Path | None = None
    """run of apps/finegrained/train.py, or its best/ folder: the first classifier shown"""
    faceattr: Path | None = None
    """run of apps/faceattr/train.py, or its best/ folder: the first model of face attributes shown"""
    weights: str | None = None
    """published detector as the first one, instead of --detection: coco, a TFLite detector's file, or a catalog
    name; default none"""
    backbone: str = "a075"
    """width of --weights, and of the first COCO detector in the chooser"""
    computing: ComputingFlags = USUAL_COMPUTING
    server: ServerFlags = THIS_MACHINE


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("demos.app:main", Config)

from demos.detection import DetectionTask
from demos.faceattr import FaceattrTask
from demos.finegrained import FinegrainedTask
from demos.page import serve
from demos.task import Task


def main(config: Config) -> None:
    """Serve the page until Ctrl-C."""
    detector = {"checkpoint": config.detection, "weights": config.weights, "backbone": config.backbone}
    asked: list[tuple[Task, dict[str, Any]]] = [
        (DetectionTask(), detector),
        (FinegrainedTask(), {"checkpoint": config.finegrained}),
        (FaceattrTask(), {"checkpoint": config.faceattr}),
    ]
    serve("MobileNet apps", asked, config.computing, config.server)
