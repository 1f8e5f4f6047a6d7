"""MobileNet V1 with its width knob, and the ablations of its paper.

Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
arXiv 1704.04861. Where the paper is silent (padding, BatchNorm epsilon, ReLU6) the network follows its authors'
TensorFlow code, and the options of `create_backbone` follow the weights that others have published since.

Letters in shapes: B batch, C channels, H W height and width, K classes.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from backbone.blocks import Activation, ConvStyle, DepthwiseSeparable, FullConvolution, Norm, Padding, check_choice
from backbone.names import parse_backbone

Conv = Literal["separable", "full"]

# Table 1, in output channels (c, at width 1) and stride (s). The first row is a plain 3x3 convolution, the others
# are depthwise separable. The paper prints stride 2 for the last depthwise layer; its own sizes, 7x7 in and 7x7
# out, say 1.
TABLE_1 = (
    # name, c, s
    ("conv0", 32, 2),
    ("conv1", 64, 1),
    ("conv2", 128, 2),
    ("conv3", 128, 1),
    ("conv4", 256, 2),
    ("conv5", 256, 1),
    ("conv6", 512, 2),
    ("conv7", 512, 1),
    ("conv8", 512, 1),
    ("conv9", 512, 1),
    ("conv10", 512, 1),
    ("conv11", 512, 1),
    ("conv12", 1024, 2),
    ("conv13", 1024, 1),
)
# Table 5: the shallow net lacks the five 14x14x512 blocks.
NOT_IN_SHALLOW = ("conv7", "conv8", "conv9", "conv10", "conv11")

MIN_RESOLUTION = 32  # pixels: the deepest map has stride 32
MIN_CHANNELS = 8  # of the authors' classifiers, however narrow


@dataclass(frozen=True)
class FeatureInfo:
    """One feature map of `forward_features`: its key, its channels and its stride in input pixels."""

    name: str
    channels: int
    stride: int


def scaled_channels(channels: int, width_mult: float, *, minimum: int) -> int:
    """Channels of a layer at a width multiplier: alpha * channels, rounded down, at least `minimum`."""
    return max(int(channels * width_mult), minimum)


class MobileNetV1(nn.Module):
    """MobileNet V1 (Table 1): a 3x3 convolution, thirteen depthwise separable blocks, average pool, classifier.

    Built by `create_backbone`, which documents the options. Input is (B, 3, H, W) with H and W of at least 32, in
    the range its weights were trained on.

    Attributes:
        feature_info: name, channels and stride of each map of `forward_features`, finest first.
        num_features: channels of the pooled vector that enters the classifier.
        width_mult: alpha in the paper.
        style: padding, activation and norm of every convolution.
    """

    def __init__(
        self,
        *,
        width_mult: float,
        num_classes: int,
        style: ConvStyle,
        conv: Conv,
        shallow: bool,
        residual: bool,
        min_channels: int,
    ) -> None:
        super().__init__()
        (_, c, s), *rows = [row for row in TABLE_1 if not (shallow and row[0] in NOT_IN_SHALLOW)]
        channels, total_stride = scaled_channels(c, width_mult, minimum=min_channels), s
        self.width_mult = width_mult
        self.style = style
        self.stem = style.conv_norm(3, channels, 3, stride=s)
        self.activation = style.make_activation()
        self.blocks = nn.ModuleDict()
        last_block: dict[int, str] = {}  # stride -> the last block that has it
        channels_at: dict[int, int] = {}
        for name, c, s in rows:
            in_channels, channels = channels, scaled_channels(c, width_mult, minimum=min_channels)
            total_stride *= s
            if conv == "full":
                full = style.conv_norm(in_channels, channels, 3, stride=s)
                self.blocks[name] = FullConvolution(full, style.make_activation(), residual=residual)
            else:
                depthwise = style.conv_norm(in_channels, in_channels, 3, stride=s, groups=in_channels)
                pointwise = style.conv_norm(in_channels, channels, 1)
                activation = style.make_activation()
                self.blocks[name] = DepthwiseSeparable(depthwise, pointwise, activation, residual=residual)
            last_block[total_stride], channels_at[total_stride] = name, channels

        strides = {"c3": 8, "c4": 16, "c5": 32}
        self.feature_info = tuple(FeatureInfo(name, channels_at[s], s) for name, s in strides.items())
        self.map_after = {last_block[s]: name for name, s in strides.items()}  # e.g. {"conv11": "c4"}
        self.num_features = channels
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Put a fresh classifier on top, for K = `num_classes`; 0 leaves the pooled vector as the output."""
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 (no classifier) or more, got {num_classes}")
        self.num_classes = num_classes
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        """Feature maps by name: {"c3": (B, C3, H/8, W/8), "c4": (B, C4, H/16, W/16), "c5": (B, C5, H/32, W/32)}.

        Sides are rounded up. They are the outputs of conv5, conv11 and conv13, after their activation.

        Raises:
            ValueError: the input is not (B, 3, H, W) or smaller than 32 pixels.
        """
        if x.ndim != 4 or x.shape[1] != 3:
            raise ValueError(f"input must be (B, 3, H, W), got shape {tuple(x.shape)}")
        if min(x.shape[-2:]) < MIN_RESOLUTION:
            raise ValueError(
                f"input must be at least {MIN_RESOLUTION} pixels high and wide, got {x.shape[-2]}x{x.shape[-1]}"
            )
        maps: dict[str, Tensor] = {}
        x = self.activation(self.stem(x))
        for name, block in self.blocks.items():
            x = block(x)
            if name in self.map_after:
                maps[self.map_after[name]] = x
        return maps

    def forward_head(self, x: Tensor, *, pre_logits: bool = False) -> Tensor:
        """From the last map, (B, C5, h, w), to logits (B, K); with `pre_logits` to the pooled vector (B, C5)."""
        x = x.mean((2, 3))
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W)."""
        return self.forward_head(self.forward_features(x)[self.feature_info[-1].name])


def create_backbone(
    name: str | float,
    *,
    num_classes: int = 1000,
    padding: Padding = "same",
    activation: Activation = "relu6",
    norm: Norm = "batch",
    norm_eps: float = 1e-3,
    conv: Conv = "separable",
    shallow: bool = False,
    residual: bool = False,
    min_channels: int = MIN_CHANNELS,
) -> MobileNetV1:
    """Build MobileNet V1 at the width given by `name`, randomly initialised.

    Args:
        name: `a025 a050 a075 a100` (alpha in percent) or any `aNNN` from a010 to a200; or alpha itself, as a number.
        num_classes: K; 0 for no classifier.
        padding: "same" as TensorFlow, "symmetric" as PyTorch ports; see `Conv2d`.
        activation: "relu6" (TensorFlow, timm) or "relu" (pytorchcv).
        norm: "batch"; "group" (16 channels a group) or "layer" (all channels and pixels of an image) mix channels,
            which a depthwise filter cannot, and do not depend on the batch.
        norm_eps: 1e-3 in TensorFlow, 1e-5 in PyTorch's ports.
        conv: "separable", or "full" 3x3 convolutions in every block (Table 4).
        shallow: leave out the five 14x14x512 blocks (Table 5).
        residual: add each block's input before its last activation where stride and channels allow.
        min_channels: no layer is narrower; the authors' classifiers have 8, their detectors 16 (differs at a025).

    Raises:
        ValueError: an unknown name or option; the message lists what is allowed.
    """
    check_choice("conv", conv, Conv)
    return MobileNetV1(
        width_mult=parse_backbone(name) if isinstance(name, str) else name,
        num_classes=num_classes,
        style=ConvStyle(padding=padding, activation=activation, norm=norm, norm_eps=norm_eps),
        conv=conv,
        shallow=shallow,
        residual=residual,
        min_channels=min_channels,
    )
