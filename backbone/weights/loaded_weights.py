"""The content of a weight file after reading, in any format: tensors under this project's names, and their settings.

Every reader passes `Layer`s, in the order of the network, to `make_weights`, which finds the width, checks every shape
and gives the tensors the names of `MobileNetV1.state_dict()`.

Letters in shapes: O output channels, I input channels, k kernel side, C channels, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from backbone.mobilenet_v1 import TABLE_1, Activation, MobileNetV1, Padding, create_backbone, scaled_channels
from backbone.names import backbone_name, parse_backbone

WIDEST = TABLE_1[-1][1]  # 1024, the channels of the last layer at width 1
MIN_CHANNELS_IN_USE = (8, 16, 1)  # Google's classifiers, its detectors, Keras below alpha 0.25
BACKGROUND_CLASSES = 1001  # TensorFlow's ImageNet heads, with 0 = background

# The convolutions in the order of the forward pass: "stem", "blocks.conv1.depthwise", "blocks.conv1.pointwise", ...
LAYERS = ("stem", *(f"blocks.{name}.{part}" for name, _, _ in TABLE_1[1:] for part in ("depthwise", "pointwise")))


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a photo becomes the network's input: resize, centre crop, then (pixel / 255 - mean) / std per RGB channel.

    Attributes:
        mean, std: per channel, for pixels scaled to 0..1. x / 127.5 - 1 is 0.5 and 0.5; x / 128 - 1 is 128 / 255 twice.
        crop: side of the centre crop over the short side it is cut from.
        interpolation: of the resize.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: float = 0.875
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    @property
    def input_range(self) -> tuple[float, float]:
        """The smallest and largest input that a pixel of 0..255 can give."""
        low = min(-mean / std for mean, std in zip(self.mean, self.std, strict=True))
        high = max((1 - mean) / std for mean, std in zip(self.mean, self.std, strict=True))
        return low, high

    def normalise(self, pixels: Tensor) -> Tensor:
        """uint8 pixels (..., 3, H, W), RGB, to the float32 input of the same shape."""
        mean, std = (torch.tensor(numbers, device=pixels.device).view(3, 1, 1) for numbers in (self.mean, self.std))
        return (pixels / 255 - mean) / std


TENSORFLOW_INPUT = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # x / 127.5 - 1


@dataclass(frozen=True, kw_only=True)
class LoadedWeights:
    """A weight file that has been read and fits MobileNet V1. `create_backbone_from` builds the network.

    Attributes:
        state_dict: float32, under the names of `MobileNetV1.state_dict()`; no "classifier.*" if the file has none.
        width_mult: alpha in the paper, found from the shapes.
        num_classes: rows of the classifier, without background; 0 if the file has none.
        padding, activation, norm_eps, min_channels: options of `create_backbone` that the weights were trained with.
        preprocessing: of the photos they were trained on.
        class_list: "imagenet" (1000 classes, sorted by WordNet id), "cub200", or None if unknown.
        resolution: side of the training photos in pixels; None if the file does not say.
        source: the file, and its origin if it is in the catalog.
        layout: "Keras .h5", "Keras 3 .weights.h5", "TFLite", "timm" or "pytorchcv".
        quantised: stored in 8 bits; `state_dict` holds the dequantised numbers.
        licence: of the weights; None if unknown.
        top1: published ImageNet (or CUB) top-1 accuracy in percent; None if unknown.
        notes: other content of the file, for `inspect`.
    """

    state_dict: Mapping[str, Tensor] = field(repr=False)
    width_mult: float
    num_classes: int
    padding: Padding
    activation: Activation
    norm_eps: float
    min_channels: int
    preprocessing: Preprocessing
    class_list: str | None
    resolution: int | None = None
    source: str
    layout: str
    quantised: bool = False
    licence: str | None = None
    top1: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def backbone(self) -> str:
        """The name of the width: "a075"."""
        return backbone_name(self.width_mult)

    @property
    def folded(self) -> bool:
        """Whether the file has BatchNorm folded into the convolutions: call `unfold_norms` before training on."""
        return self.layout == "TFLite"

    @property
    def num_parameters(self) -> int:
        """Trainable parameters, BatchNorm's gamma and beta included."""
        buffers = ("running_mean", "running_var", "num_batches_tracked")
        return sum(tensor.numel() for name, tensor in self.state_dict.items() if not name.endswith(buffers))

    def summary(self) -> str:
        """One line for a log: width, source, layout, head, published accuracy and licence."""
        head = f"{self.num_classes} classes" if self.num_classes else "no classifier"
        parts = [f"{self.backbone} from {self.source} ({self.layout}, {head})"]
        if self.top1 is not None:
            parts.append(f"published top-1 {self.top1:.1f} %")
        if self.licence:
            parts.append(self.licence)
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution and its BatchNorm as read from a file; `make_weights` checks the shapes."""

    weight: Tensor  # (O, I, k, k); depthwise (C, 1, 3, 3)
    gamma: Tensor  # (O,), and so are the others
    beta: Tensor
    mean: Tensor
    var: Tensor

    @classmethod
    def folded(cls, weight: Tensor, bias: Tensor, *, norm_eps: float) -> "Layer":
        """A convolution with folded BatchNorm, equivalent to gamma 1, beta = bias, mean 0 and var 1 - eps."""
        ones = torch.ones(weight.shape[0])
        return cls(weight=weight, gamma=ones, beta=bias, mean=torch.zeros_like(ones), var=ones - norm_eps)


def make_weights(
    layers: Sequence[Layer], classifier: tuple[Tensor, Tensor] | None, *, source: str, **settings: Any
) -> LoadedWeights:
    """Name the tensors of 27 layers and a classifier, find the width, check everything.

    Args:
        layers: in the order of `LAYERS`.
        classifier: weight (K, C) and bias (K,), or None. Of 1001 classes the first, background, is dropped.
        source: the file's name, with which errors start.
        settings: the other attributes of `LoadedWeights`.

    Raises:
        ValueError: a tensor that does not fit MobileNet V1 at any width, with both shapes, or holds NaN, infinity or a
            negative variance.
    """
    state_dict = _named(layers, classifier)
    num_classes = state_dict["classifier.weight"].shape[0] if classifier else 0
    width_mult, min_channels = _find_width(state_dict, source)
    _check_shapes(state_dict, width_mult, min_channels, num_classes, source)
    for name, tensor in state_dict.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{source}: damaged: {name} holds NaN or infinity")
        if name.endswith("running_var") and tensor.min() < 0:
            raise ValueError(f"{source}: damaged: {name} holds {tensor.min():.4g}; no variance is below 0")
    for name in LAYERS:
        state_dict[f"{name}.norm.num_batches_tracked"] = torch.tensor(0)
    return LoadedWeights(
        state_dict=state_dict,
        width_mult=width_mult,
        num_classes=num_classes,
        min_channels=min_channels,
        class_list="imagenet" if num_classes == BACKGROUND_CLASSES - 1 else None,
        source=source,
        **settings,
    )


def _named(layers: Sequence[Layer], classifier: tuple[Tensor, Tensor] | None) -> dict[str, Tensor]:
    """The learnt tensors and running statistics under the names of `MobileNetV1.state_dict()`, in float32."""
    state_dict: dict[str, Tensor] = {}
    for name, layer in zip(LAYERS, layers, strict=True):
        state_dict[f"{name}.conv.weight"] = layer.weight
        state_dict[f"{name}.norm.weight"] = layer.gamma
        state_dict[f"{name}.norm.bias"] = layer.beta
        state_dict[f"{name}.norm.running_mean"] = layer.mean
        state_dict[f"{name}.norm.running_var"] = layer.var
    if classifier:
        first = 1 if classifier[0].shape[:1] == (BACKGROUND_CLASSES,) else 0
        state_dict["classifier.weight"], state_dict["classifier.bias"] = (tensor[first:] for tensor in classifier)
    return {name: tensor.detach().float().contiguous() for name, tensor in state_dict.items()}


def _channels(width_mult: float, min_channels: int) -> list[int]:
    """Output channels of each of `LAYERS`."""
    widths = [scaled_channels(c, width_mult, minimum=min_channels) for _, c, _ in TABLE_1]
    return [widths[0], *(c for pair in pairwise(widths) for c in pair)]  # depthwise keeps the number of channels


def _find_width(state_dict: dict[str, Tensor], source: str) -> tuple[float, int]:
    """Width multiplier and `min_channels` that give every layer's channels in the file."""
    shapes = [state_dict[f"{name}.conv.weight"].shape for name in LAYERS]
    found = [shape[0] if len(shape) == 4 else 0 for shape in shapes]
    try:
        width_mult = parse_backbone(backbone_name(found[-1] / WIDEST))
    except ValueError as error:
        raise ValueError(f"{source}: its last layer has {found[-1]} channels, MobileNet V1 has {WIDEST}") from error
    for min_channels in MIN_CHANNELS_IN_USE:
        if found == _channels(width_mult, min_channels):
            return width_mult, min_channels
    expected = _channels(width_mult, MIN_CHANNELS_IN_USE[0])
    i = next(i for i in range(len(LAYERS)) if found[i] != expected[i])
    raise ValueError(
        f"{source}: {LAYERS[i]} has {found[i]} output channels; width {width_mult:.2f}, which its last layer of "
        f"{found[-1]} channels means, has {expected[i]}"
    )


def _check_shapes(
    state_dict: dict[str, Tensor], width_mult: float, min_channels: int, num_classes: int, source: str
) -> None:
    with torch.device("meta"):  # shapes only
        model = create_backbone(backbone_name(width_mult), num_classes=num_classes, min_channels=min_channels)
    expected = model.state_dict()
    for name, tensor in state_dict.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"{source}: {name} has shape {tuple(tensor.shape)}, MobileNet V1 at width {width_mult:.2f} "
                f"has {tuple(expected[name].shape)}"
            )


def create_backbone_from(weights: LoadedWeights, *, num_classes: int | None = None) -> MobileNetV1:
    """Build the network that `weights` were trained with, and load them. It is in training mode, like any new module.

    Args:
        weights: from `load_weights`.
        num_classes: K; None for the file's classifier (or none, if it has none), 0 for no classifier.

    Raises:
        ValueError: `num_classes` is neither 0 nor the file's; for a fresh head build with 0, then `reset_classifier`.
    """
    if num_classes is None:
        num_classes = weights.num_classes
    if num_classes not in (0, weights.num_classes):
        raise ValueError(
            f"{weights.source}: has {weights.num_classes} classes, {num_classes} were asked for; for a fresh "
            f"classifier build with num_classes=0 and call reset_classifier({num_classes})"
        )
    model = create_backbone(
        weights.backbone,
        num_classes=num_classes,
        padding=weights.padding,
        activation=weights.activation,
        norm_eps=weights.norm_eps,
        min_channels=weights.min_channels,
    )
    whole = weights.state_dict.items()
    model.load_state_dict({name: value for name, value in whole if num_classes or not name.startswith("classifier.")})
    return model


def check_width(weights: LoadedWeights, width_mult: float | None) -> LoadedWeights:
    """Return `weights` if they have the requested width (None: any).

    Raises:
        ValueError: they do not; the message has both numbers.
    """
    if width_mult is not None and abs(weights.width_mult - width_mult) > 1e-9:
        raise ValueError(f"{weights.source}: has width {weights.width_mult:.2f}, {width_mult:.2f} was asked for")
    return weights
