"""Detectors on MobileNet V1 by name: a light pyramid and the reference SSD.

    network = create_detector("a075", num_classes=20)

Letters in shapes: K classes (background not counted).
"""

import dataclasses
from typing import get_args

from apps.common.pretrained import TENSORFLOW_STYLE
from apps.detection.boxes.anchors import Shapes
from apps.detection.choices import Head
from apps.detection.model.pyramid import PyramidDetector
from apps.detection.model.ssd import MIN_CHANNELS, SSD
from backbone import create_backbone
from backbone.mobilenet_v1 import MIN_RESOLUTION, ConvStyle
from backbone.names import parse_backbone

Network = SSD | PyramidDetector


def create_detector(
    backbone: str | float,
    *,
    num_classes: int,
    resolution: int = 300,
    head: Head = "pyramid",
    style: ConvStyle = TENSORFLOW_STYLE,
    anchor_shapes: Shapes | None = None,
) -> Network:
    """Build a detector on MobileNet V1; anchors and channels follow the two knobs.

    Args:
        backbone: width, as a name (`a025` to `a100` or any `aNNN`) or a number; see `backbone.create_backbone`.
        num_classes: K, without background.
        resolution: side of the square input in pixels, 32 or more.
        head: "ssd", the reference, or "pyramid".
        style: padding, activation and norm of every convolution.
        anchor_shapes: SSD's, from `anchors.fit_shapes`; None for the reference's.

    Raises:
        ValueError: an unknown backbone or head, no classes, a resolution below 32, or anchor shapes for a pyramid.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more (background is not counted), got {num_classes}")
    width_mult = check_knobs(backbone, resolution)
    network = create_backbone(width_mult, num_classes=0, min_channels=MIN_CHANNELS, **dataclasses.asdict(style))
    if head == "ssd":
        return SSD(network, num_classes=num_classes, resolution=resolution, anchor_shapes=anchor_shapes)
    if head not in get_args(Head):
        raise ValueError(f"head must be one of {', '.join(get_args(Head))}, got {head!r}")
    if anchor_shapes is not None:
        raise ValueError(f"anchor_shapes are for an SSD, this is head {head!r}: leave them out, or ask for head 'ssd'")
    return PyramidDetector(network, num_classes=num_classes, resolution=resolution)


def check_knobs(backbone: str | float, resolution: int) -> float:
    """The width multiplier; ValueError for an unknown backbone name or a resolution below 32 pixels."""
    width_mult = parse_backbone(backbone) if isinstance(backbone, str) else backbone
    if resolution < MIN_RESOLUTION:
        raise ValueError(f"resolution must be {MIN_RESOLUTION} pixels or more, got {resolution}")
    return width_mult
