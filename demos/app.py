"""All three demos on one page, a tab each.

    python demos/app.py                                                  runs of yours, the bundled models
    python demos/app.py --detection runs/detection/NAME/best --faceattr runs/faceattr/NAME/best
    python demos/app.py --host 0.0.0.0 --auth me:secret                  for others, too

The public API is that of the single demos: /detect, /classify, /describe_faces, and each with _video and _photos.
"""

import dataclasses
from pathlib import Path

from apps.common.choices import Runtime
from apps.common.cli import run_command
from demos.serving import THIS_MACHINE, ServerFlags


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Serve a page with all three demos."""

    detection: Path | None = None
    """a run of apps/detection/train.py, or its best/: the model to begin with"""
    finegrained: Path | None = None
    """likewise for the classifier"""
    faceattr: Path | None = None
    """likewise for face attributes"""
    weights: str | None = None
    """begin with a published detector instead of --detection: coco, a TFLite detector's file, or a catalog name"""
    backbone: str = "a075"
    """width of --weights, and of the first COCO detector in the chooser"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps"""
    runtime: Runtime = "torch"
    """what computes: torch, onnx, openvino, or auto for the fastest installed, which takes a minute when first used"""
    server: ServerFlags = THIS_MACHINE


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("demos.app:main", Config)

from demos import detection, faceattr, finegrained
from demos.serving import check_server, launch, private_room


def main(config: Config) -> None:
    """Serve the page until Ctrl-C."""
    from demos.page import make_page  # gradio takes seconds to import: not for --help

    check_server(config.server)
    private_room()
    device, runtime = config.device, config.runtime
    detectors = detection.make_models(
        checkpoint=config.detection, weights=config.weights, backbone=config.backbone, device=device, runtime=runtime
    )
    classifiers = finegrained.make_models(checkpoint=config.finegrained, device=device, runtime=runtime)
    taggers = faceattr.make_models(checkpoint=config.faceattr, device=device, runtime=runtime)
    page = make_page(
        [
            (detection.DetectionTask(), detectors),
            (finegrained.FinegrainedTask(), classifiers),
            (faceattr.FaceattrTask(), taggers),
        ],
        title="MobileNet apps",
    )
    launch(page, config.server)
