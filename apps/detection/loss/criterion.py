"""The loss for a head."""

from typing import cast

from apps.detection.choices import Assigner, Head, ScoreFunction
from apps.detection.loss.quality_loss import QualityLoss
from apps.detection.loss.ssd_loss import SSDLoss
from apps.detection.model.create import Network
from apps.detection.model.pyramid import PyramidDetector


def make_criterion(
    head: Head, network: Network, *, loss: ScoreFunction = "sigmoid", assigner: Assigner | None = None
) -> SSDLoss | QualityLoss:
    """The loss for an SSD with `loss`, or for a pyramid with `assigner` (None for the default, closest)."""
    if head == "ssd":
        return SSDLoss(loss)
    pyramid = cast(PyramidDetector, network)
    return QualityLoss(pyramid.cells, pyramid.level_sizes, assigner=assigner or "closest")
