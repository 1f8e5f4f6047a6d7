"""A teacher and its outputs for a batch."""

from pathlib import Path

import torch
from torch import Tensor

from apps.common.data.problems import some_of
from apps.common.device import MixedPrecision, autocast
from apps.detection.data.coco_classes import match_names
from apps.detection.model.create import create_detector
from apps.detection.model.detector import Detector
from apps.detection.model.pyramid import PyramidDetector, PyramidOutput


def load_teacher(folder: Path, student: Detector, device: torch.device) -> Detector:
    """A pyramid to learn from, in eval mode, with the student's anchors and classes: it sees the student's pixels.

    Raises:
        ValueError: it is no pyramid, or lacks a class of the student's; classes are matched by `match_names`.
    """
    teacher = Detector.load(folder, device=device)
    if not isinstance(teacher.network, PyramidDetector):
        raise ValueError(f"--teacher {folder} is an SSD: a pyramid learns from the run or model folder of a pyramid")
    rows = match_names(student.class_names, teacher.class_names)
    if missing := [name for name, row in zip(student.class_names, rows, strict=True) if row is None]:
        raise ValueError(f"--teacher {folder} lacks classes of the data: {some_of(missing, most=5)}")
    if teacher.resolution != student.resolution:
        print(f"--teacher {folder} was trained at {teacher.resolution} pixels, and sees {student.resolution} now")
    style, state = teacher.network.backbone.style, teacher.network.state_dict()
    network = create_detector(teacher.backbone, num_classes=len(rows), resolution=student.resolution, style=style)
    network.load_state_dict({k: v[rows] if k.startswith("class_predictors.") else v for k, v in state.items()})
    teacher.network = network.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    return teacher


@torch.no_grad()
def teacher_outputs(teacher: Detector, images: Tensor, amp: MixedPrecision) -> PyramidOutput:
    """The teacher's raw outputs of images (B, 3, H, W) uint8."""
    with autocast(images.device, amp):
        return teacher.network(teacher.preprocessing(images))
