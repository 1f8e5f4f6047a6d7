"""A detector that looks at four levels joined by a light pyramid, with one anchor a cell.

It takes less compute than the reference SSD and begins a level finer, at stride 8, which is where small objects are.
The parts are known: a feature pyramid with a path back down (FPN, arXiv 1612.03144; PANet, arXiv 1803.01534) of
depthwise separable convolutions, and a head of two of them a level for classes and boxes together, as in NanoDet-Plus
and PicoDet (arXiv 2111.00902). Raw outputs, coder and decoding are the reference's, so that all that follows is too;
the loss is `quality_loss.QualityLoss`.

Letters in shapes: B batch, C channels, H W height and width, A anchors, K classes (background not counted).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apps.detection.anchors import make_anchors
from apps.detection.ssd import MIN_CHANNELS, RawOutput, check_side, draw_weights, line_up
from backbone import MobileNetV1
from backbone.mobilenet_v1 import ConvStyle, DepthwiseSeparable, scaled_channels

CHANNELS = 64  # of every level, at width 1
NUM_LEVELS = 4  # the backbone's c3, c4, c5 and one coarser
HEAD_DEPTH = 2  # separable convolutions before the predictors
ANCHOR_CELLS = 4  # side of an anchor, in cells of its level
FIRST_SCORE = 0.01  # of every class at every anchor before training (focal loss, arXiv 1708.02002, section 3.3)


class PyramidDetector(nn.Module):
    """The network; `model.create_detector` builds it.

    Attributes:
        anchors_cxcywh: (A, 4) buffer, in image sides: a square of four cells around each cell of each level.
        num_classes: K.
        resolution: side of the square input, pixels.
    """

    anchors_cxcywh: Tensor
    anchor_shapes = None  # they are not chosen

    def __init__(self, backbone: MobileNetV1, *, num_classes: int, resolution: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.resolution = resolution
        style = backbone.style
        channels = scaled_channels(CHANNELS, backbone.width_mult, minimum=MIN_CHANNELS)
        grids = [-(-resolution // info.stride) for info in backbone.feature_info]
        grids.append(-(-grids[-1] // 2))

        self.activation = style.make_activation()
        self.laterals = nn.ModuleList(style.conv_norm(info.channels, channels, 1) for info in backbone.feature_info)
        self.coarsest = separable(channels, style, stride=2)
        self.up = nn.ModuleList(separable(channels, style) for _ in range(NUM_LEVELS - 2))
        self.shrink = nn.ModuleList(separable(channels, style, stride=2) for _ in range(NUM_LEVELS - 1))
        self.down = nn.ModuleList(separable(channels, style) for _ in range(NUM_LEVELS - 1))
        self.heads = nn.ModuleList(
            nn.Sequential(*(separable(channels, style) for _ in range(HEAD_DEPTH))) for _ in range(NUM_LEVELS)
        )
        self.class_predictors = nn.ModuleList(nn.Conv2d(channels, num_classes, 1) for _ in range(NUM_LEVELS))
        self.box_predictors = nn.ModuleList(nn.Conv2d(channels, 4, 1) for _ in range(NUM_LEVELS))
        draw_weights((self.class_predictors, self.box_predictors))
        for predictor in self.class_predictors:
            predictor.bias = nn.Parameter(torch.full((num_classes,), math.log(FIRST_SCORE / (1 - FIRST_SCORE))))
        shapes = [[(min(1.0, ANCHOR_CELLS / grid), 1.0)] for grid in grids]
        self.register_buffer("anchors_cxcywh", make_anchors([(g, g) for g in grids], shapes), persistent=False)

    def forward(self, images: Tensor) -> RawOutput:
        """Raw outputs of images (B, 3, resolution, resolution), normalised as the weights want (-1 to 1).

        The background's logit is always 0: each class has a score of its own.
        """
        check_side(images, self.resolution)
        features = self.backbone.forward_features(images)
        maps = [self.activation(lateral(x)) for lateral, x in zip(self.laterals, features.values(), strict=True)]
        maps.append(self.coarsest(maps[-1]))
        for i in reversed(range(NUM_LEVELS - 2)):  # to c4, to c3
            coarse = F.interpolate(maps[i + 1], size=maps[i].shape[-2:], mode="nearest")
            maps[i] = self.up[i](maps[i] + coarse)
        for i in range(NUM_LEVELS - 1):  # back down
            maps[i + 1] = self.down[i](maps[i + 1] + self.shrink[i](maps[i]))
        maps = [head(x) for head, x in zip(self.heads, maps, strict=True)]
        return {
            "class_logits": F.pad(line_up(self.class_predictors, maps, self.num_classes), (1, 0)),
            "offsets": line_up(self.box_predictors, maps, 4),
        }


def separable(channels: int, style: ConvStyle, *, stride: int = 1) -> DepthwiseSeparable:
    """A block like the backbone's that keeps the number of channels."""
    depthwise = style.conv_norm(channels, channels, 3, stride=stride, groups=channels)
    pointwise = style.conv_norm(channels, channels, 1)
    return DepthwiseSeparable(depthwise, pointwise, style.make_activation(), residual=False)
