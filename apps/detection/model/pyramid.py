"""A detector on four levels of a light feature pyramid, with one anchor per cell.

It takes less compute than the reference SSD and starts one level finer, at stride 8, for small objects. Each level has
a quarter of the cells and twice the channels of the one before, as in the backbone, so that all levels cost about the
same and the coarse ones, for large objects, keep most of the backbone's features.

The parts are known: a feature pyramid with a bottom-up path (FPN, arXiv 1612.03144; PANet, arXiv 1803.01534) of
depthwise separable convolutions, and a head of two of them per level for classes and boxes together, as in NanoDet-Plus
and PicoDet (arXiv 2111.00902). The position of each side of a box is predicted as a distribution over distances, and
its mean is used (generalised focal loss, arXiv 2006.04388, section 3.2). Raw outputs, coder and decoding are the
reference's; the loss is `quality_loss.QualityLoss`.

Letters in shapes: B batch, C channels, H W height and width, A anchors, K classes (background not counted), D
distances.
"""

import math
from itertools import pairwise
from typing import NotRequired, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apps.detection.boxes.anchors import make_anchors
from apps.detection.boxes.boxes import encode_offsets
from apps.detection.model.ssd import MIN_CHANNELS, check_side, draw_weights, line_up
from backbone import MobileNetV1
from backbone.mobilenet_v1 import ConvStyle, DepthwiseSeparable, scaled_channels

CHANNELS = (32, 64, 128, 256)  # of the backbone's c3, c4, c5 and one coarser level, at width 1
NUM_LEVELS = len(CHANNELS)
HEAD_DEPTH = 2  # separable convolutions before the predictors
ANCHOR_CELLS = 4  # side of an anchor, in cells of its level
NUM_DISTANCES = 8  # a side of a box is 0 to 7 cells away from its anchor's centre
FIRST_SCORE = 0.01  # of every class at every anchor before training (focal loss, arXiv 1708.02002, section 3.3)


class PyramidOutput(TypedDict):
    """`RawOutput` and the distributions of the sides: `side_logits` (B, A, 4, D), left, top, right, bottom.

    In training there are no offsets: the loss needs few boxes, and decodes them itself.
    """

    class_logits: Tensor
    side_logits: Tensor
    offsets: NotRequired[Tensor]


class PyramidDetector(nn.Module):
    """The network; `model.create_detector` builds it.

    Attributes:
        anchors_cxcywh: (A, 4) buffer, in image sides: a square of four cells around each cell of each level.
        cells: (A,) buffer, side of each anchor's cell, in image sides.
        level_sizes: anchors of each level, finest first.
        num_classes: K.
        resolution: side of the square input, pixels.
    """

    anchors_cxcywh: Tensor
    cells: Tensor
    anchor_shapes = None  # they are not chosen

    def __init__(self, backbone: MobileNetV1, *, num_classes: int, resolution: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.resolution = resolution
        style = backbone.style
        channels = [scaled_channels(c, backbone.width_mult, minimum=MIN_CHANNELS) for c in CHANNELS]
        maps = backbone.feature_info
        grids = [-(-resolution // info.stride) for info in maps]
        grids.append(-(-grids[-1] // 2))

        self.activation = style.make_activation()
        self.laterals = nn.ModuleList(
            style.conv_norm(info.channels, c, 1) for info, c in zip(maps, channels[:-1], strict=True)
        )
        self.coarsest = separable(maps[-1].channels, channels[-1], style, stride=2)
        self.narrow = nn.ModuleList(style.conv_norm(coarse, fine, 1) for fine, coarse in pairwise(channels[:-1]))
        self.up = nn.ModuleList(separable(c, c, style) for c in channels[:-2])
        self.shrink = nn.ModuleList(separable(fine, coarse, style, stride=2) for fine, coarse in pairwise(channels))
        self.down = nn.ModuleList(separable(c, c, style) for c in channels[1:])
        self.heads = nn.ModuleList(
            nn.Sequential(*(separable(c, c, style) for _ in range(HEAD_DEPTH))) for c in channels
        )
        self.class_predictors = nn.ModuleList(nn.Conv2d(c, num_classes, 1) for c in channels)
        self.box_predictors = nn.ModuleList(nn.Conv2d(c, 4 * NUM_DISTANCES, 1) for c in channels)
        draw_weights((self.class_predictors, self.box_predictors))
        for predictor in self.class_predictors:
            predictor.bias = nn.Parameter(torch.full((num_classes,), math.log(FIRST_SCORE / (1 - FIRST_SCORE))))
        shapes = [[(min(1.0, ANCHOR_CELLS / grid), 1.0)] for grid in grids]
        self.register_buffer("anchors_cxcywh", make_anchors([(g, g) for g in grids], shapes), persistent=False)
        self.level_sizes = tuple(grid**2 for grid in grids)
        cells = torch.cat([torch.full((grid**2,), 1 / grid) for grid in grids])
        self.register_buffer("cells", cells, persistent=False)

    def forward(self, images: Tensor) -> PyramidOutput:
        """Raw outputs of images (B, 3, resolution, resolution), normalised for the weights (-1 to 1).

        The background's logit is always 0: each class has an independent score.
        """
        check_side(images, self.resolution)
        features = list(self.backbone.forward_features(images).values())
        maps = [self.activation(lateral(x)) for lateral, x in zip(self.laterals, features, strict=True)]
        maps.append(self.coarsest(features[-1]))
        for i in reversed(range(NUM_LEVELS - 2)):  # to c4, to c3
            coarse = F.interpolate(self.narrow[i](maps[i + 1]), size=maps[i].shape[-2:], mode="nearest")
            maps[i] = self.up[i](maps[i] + coarse)
        for i in range(NUM_LEVELS - 1):  # back down
            maps[i + 1] = self.down[i](maps[i + 1] + self.shrink[i](maps[i]))
        maps = [head(x) for head, x in zip(self.heads, maps, strict=True)]
        side_logits = line_up(self.box_predictors, maps, 4 * NUM_DISTANCES).float().unflatten(-1, (4, NUM_DISTANCES))
        class_logits = F.pad(line_up(self.class_predictors, maps, self.num_classes), (1, 0))
        output: PyramidOutput = {"class_logits": class_logits, "side_logits": side_logits}
        if not self.training:
            boxes_xyxy = decode_sides(side_logits, self.anchors_cxcywh[:, :2], self.cells[:, None])
            output["offsets"] = encode_offsets(boxes_xyxy, self.anchors_cxcywh)
        return output


def decode_sides(side_logits: Tensor, centres: Tensor, cells: Tensor) -> Tensor:
    """Boxes (..., 4) as xyxy, in image sides, whose sides are at the mean of their distances.

    Args:
        side_logits: (..., 4, D), left, top, right, bottom.
        centres: (..., 2), the anchors', in image sides.
        cells: (..., 1), side of the anchors' cells.
    """
    distances = torch.arange(NUM_DISTANCES, device=side_logits.device, dtype=side_logits.dtype)
    away = (side_logits.softmax(dim=-1) * distances).sum(dim=-1) * cells
    return torch.cat((centres - away[..., :2], centres + away[..., 2:]), dim=-1)


def separable(in_channels: int, channels: int, style: ConvStyle, *, stride: int = 1) -> DepthwiseSeparable:
    """A block like the backbone's."""
    depthwise = style.conv_norm(in_channels, in_channels, 3, stride=stride, groups=in_channels)
    pointwise = style.conv_norm(in_channels, channels, 1)
    return DepthwiseSeparable(depthwise, pointwise, style.make_activation(), residual=False)
