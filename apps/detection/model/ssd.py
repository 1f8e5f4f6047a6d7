"""SSD on MobileNet V1: the reference detector, as `ssd_mobilenet_v1` of the TensorFlow Object Detection API.

Feature maps conv11 and conv13, four extra levels, 1x1 predictors. The network returns raw outputs by name; the loss
(ssd_loss.py) and the decoding (postprocess.py) are separate objects.

Letters in shapes: B batch, C channels, H W height and width, A anchors, K classes (background not counted).
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from apps.detection.boxes.anchors import Shapes, level_shapes, make_anchors
from apps.detection.boxes.postprocess import RawOutput
from backbone import MobileNetV1
from backbone.mobilenet_v1 import ConvStyle, scaled_channels

BACKBONE_MAPS = ("c4", "c5")  # conv11, conv13
EXTRA_CHANNELS = (512, 256, 256, 128)  # at width 1
MIN_CHANNELS = 16  # minimum of any layer, also in the backbone
NUM_LEVELS = len(BACKBONE_MAPS) + len(EXTRA_CHANNELS)
INIT_STD = 0.03  # truncated normal, for the extras and predictors


class ExtraLevel(nn.Module):
    """1x1 convolution to half the depth, then 3x3 with stride 2: the next coarser feature map."""

    def __init__(self, in_channels: int, channels: int, half_channels: int, style: ConvStyle) -> None:
        super().__init__()
        self.reduce = style.conv_norm(in_channels, half_channels, 1)
        self.shrink = style.conv_norm(half_channels, channels, 3, stride=2)
        self.activation = style.make_activation()

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', ceil(H / 2), ceil(W / 2))
        return self.activation(self.shrink(self.activation(self.reduce(x))))


class SSD(nn.Module):
    """The network; `model.create_detector` builds it.

    Attributes:
        anchors_cxcywh: (A, 4) buffer, in image sides; follows the resolution, never stored in a checkpoint.
        num_classes: K.
        resolution: side of the square input, pixels.
        anchor_shapes: if not the reference's, (scale, aspect ratio) of each anchor of each level.
    """

    anchors_cxcywh: Tensor

    def __init__(
        self, backbone: MobileNetV1, *, num_classes: int, resolution: int, anchor_shapes: Shapes | None = None
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        self.resolution = resolution
        self.anchor_shapes = anchor_shapes
        maps = [info for info in backbone.feature_info if info.name in BACKBONE_MAPS]
        channels = [info.channels for info in maps]
        grids = [-(-resolution // info.stride) for info in maps]
        self.extras = nn.ModuleList()
        for depth in EXTRA_CHANNELS:
            out, half = (scaled_channels(d, backbone.width_mult, minimum=MIN_CHANNELS) for d in (depth, depth // 2))
            self.extras.append(ExtraLevel(channels[-1], out, half, backbone.style))
            channels.append(out)
            grids.append(-(-grids[-1] // 2))
        shapes = anchor_shapes or level_shapes(len(grids))
        if len(shapes) != len(grids):
            raise ValueError(f"anchor_shapes has {len(shapes)} levels, this SSD {len(grids)}")
        self.class_predictors = nn.ModuleList(
            nn.Conv2d(c, len(s) * (num_classes + 1), 1) for c, s in zip(channels, shapes, strict=True)
        )
        self.box_predictors = nn.ModuleList(nn.Conv2d(c, len(s) * 4, 1) for c, s in zip(channels, shapes, strict=True))
        self.register_buffer("anchors_cxcywh", make_anchors([(g, g) for g in grids], shapes), persistent=False)
        draw_weights((self.extras, self.class_predictors, self.box_predictors))
        # Initial scores equal the frequency of labels in the loss: a quarter of its anchors are objects, of K classes.
        background, each_class = math.log(3), -math.log(4 * num_classes - 1)
        for predictor, level in zip(self.class_predictors, shapes, strict=True):
            bias = torch.tensor([background] + [each_class] * num_classes)
            predictor.bias = nn.Parameter(bias.repeat(len(level)))

    def forward(self, images: Tensor) -> RawOutput:
        """Raw outputs of images (B, 3, resolution, resolution), normalised for the weights (-1 to 1)."""
        check_side(images, self.resolution)
        features = self.backbone.forward_features(images)
        maps = [features[name] for name in BACKBONE_MAPS]
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        return {
            "class_logits": line_up(self.class_predictors, maps, self.num_classes + 1),
            "offsets": line_up(self.box_predictors, maps, 4),
        }


def check_side(images: Tensor, resolution: int) -> None:
    """Raise ValueError for images (B, 3, H, W) of another side than the anchors were made for."""
    if images.shape[-2:] != (resolution, resolution):
        raise ValueError(
            f"this detector was built for {resolution}x{resolution} pixels, got images {tuple(images.shape)}"
        )


def line_up(predictors: nn.ModuleList, maps: Iterable[Tensor], size: int) -> Tensor:
    """Apply each level's predictor and line its outputs up with the anchors: (B, A, size)."""
    outputs = []
    for predictor, x in zip(predictors, maps, strict=True):
        y = predictor(x).permute(0, 2, 3, 1)  # (B, H, W, anchors of a cell * size)
        outputs.append(y.reshape(y.shape[0], -1, size))
    return torch.cat(outputs, dim=1)


def draw_weights(parts: Iterable[nn.Module]) -> None:
    """The reference's random weights for the convolutions of a head."""
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
