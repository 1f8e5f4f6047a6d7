"""Detectors on MobileNet V1 by name: a light pyramid and the reference SSD.

    network = create_detector("a075", num_classes=20)

Letters in shapes: K classes (background not counted).
"""

from pathlib import Path
from typing import get_args

from apps.common.pretrained import TENSORFLOW_STYLE
from apps.detection.boxes.anchors import Shapes
from apps.detection.choices import Head
from apps.detection.model.pretrained import Pretrained, load_pretrained
from apps.detection.model.pyramid import PyramidDetector
from apps.detection.model.ssd import MIN_CHANNELS, SSD
from backbone import create_backbone
from backbone.mobilenet_v1 import MIN_RESOLUTION, ConvStyle
from backbone.names import parse_backbone

Network = SSD | PyramidDetector


def create_detector(
    backbone: str,
    *,
    num_classes: int,
    resolution: int = 300,
    weights: Path | str | None = None,
    head: Head | None = None,
    style: ConvStyle = TENSORFLOW_STYLE,
    anchor_shapes: Shapes | None = None,
) -> Network:
    """Build a detector on MobileNet V1; anchors and channels follow the two knobs.

    Args:
        backbone: width as a name, `a025` to `a100` or any `aNNN`; see `backbone.create_backbone`.
        num_classes: K, without background.
        resolution: side of the square input in pixels, 32 or more.
        weights: what to start from, see `pretrained.load_pretrained`; its style replaces `style`, and its class
            predictors are taken if it has K classes too. None for random weights. `load_pretrained` and
            `Pretrained.put_into` by themselves also give the preprocessing, and join classes by name.
        head: "ssd", the reference, or "pyramid"; None for that of `weights`, else the pyramid.
        style: padding, activation and norm of every convolution.
        anchor_shapes: SSD's, from `anchors.fit_shapes`; None for those of `weights`, mostly the reference's.

    Raises:
        ValueError: an unknown backbone or head, no classes, a resolution below 32, anchor shapes for a pyramid, or
            weights that do not fit.
    """
    if num_classes < 1:
        raise ValueError(f"num_classes must be 1 or more (background is not counted), got {num_classes}")
    check_knobs(backbone, resolution)
    start = load_pretrained(weights or "none", backbone=backbone)
    head = choose_head(head, start)
    style = start.style if weights else style
    network = create_backbone(
        backbone,
        num_classes=0,
        padding=style.padding,
        activation=style.activation,
        norm=style.norm,
        norm_eps=style.norm_eps,
        min_channels=MIN_CHANNELS,
    )
    detector: Network
    if head == "ssd":
        shapes = anchor_shapes or start.anchor_shapes
        detector = SSD(network, num_classes=num_classes, resolution=resolution, anchor_shapes=shapes)
    else:
        if anchor_shapes is not None:
            raise ValueError(
                f"anchor_shapes are for an SSD, this is head {head!r}: leave them out, or ask for head 'ssd'"
            )
        detector = PyramidDetector(network, num_classes=num_classes, resolution=resolution)
    if weights:
        same = num_classes == len(start.class_names)
        start.put_into(detector, start.class_names if same else [""] * num_classes)
    return detector


def choose_head(head: Head | None, start: Pretrained) -> Head:
    """What was asked for, else what the weights have, else the pyramid.

    Raises:
        ValueError: an unknown head, or not that of the weights.
    """
    if head and head not in get_args(Head):
        raise ValueError(f"head must be one of {', '.join(get_args(Head))}, got {head!r}")
    if head and start.head not in (None, head):
        raise ValueError(f"{start.summary} has --head {start.head}, {head} was asked for")
    return head or start.head or "pyramid"


def check_knobs(backbone: str, resolution: int) -> None:
    """Raise ValueError for an unknown backbone name or a resolution below 32 pixels."""
    parse_backbone(backbone)
    if resolution < MIN_RESOLUTION:
        raise ValueError(f"resolution must be {MIN_RESOLUTION} pixels or more, got {resolution}")
