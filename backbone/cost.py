"""Cost of a network: multiply-adds ("mult-adds") and parameters, by the formulas of the paper's sections 3.1 to 3.3.

    standard convolution  D_K^2 * M * N * D_F^2
    depthwise             D_K^2 * M * D_F^2
    pointwise             M * N * D_F^2
    fully connected       M * N

`network_cost` applies them to the layers of a MobileNet without running it; `count_module` is a second counter, for
any network, that runs it on tensors without data. Both take the paper's rule: one multiplication with its addition
is one, and biases, normalisation, activations, pooling and residual additions are not counted.

Letters: D_K side of the kernel, D_F side of the output map (H W where it is not square), M input channels,
N output channels. The knobs are in M and N (width) and in D_F (resolution).
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from backbone.blocks import ConvNorm
from backbone.mobilenet_v1 import MIN_RESOLUTION, MobileNetV1, create_backbone

Kind = Literal["Conv 1x1", "Conv DW 3x3", "Conv 3x3", "Fully connected"]
KINDS: tuple[Kind, ...] = ("Conv 1x1", "Conv DW 3x3", "Conv 3x3", "Fully connected")  # the rows of Table 2


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """One convolution with its normalisation, or the classifier.

    Attributes:
        name: the module's name without "blocks.", e.g. "conv1.depthwise".
        kind: the layer type, as in Table 2.
        in_channels: M.
        channels: N, the output channels.
        stride: of the convolution.
        output_hw: height and width of its output in pixels; (1, 1) for the classifier.
        mult_adds: for one image.
        weights: numbers in the kernel or weight matrix; what the paper counts as parameters.
        params: everything learnt: weights, the norm's gamma and beta, the classifier's bias, frozen or not; without
            running means and variances.
    """

    name: str
    kind: Kind
    in_channels: int
    channels: int
    stride: int
    output_hw: tuple[int, int]
    mult_adds: int
    weights: int
    params: int


@dataclass(frozen=True)
class Totals:
    """Sums over layers; see `LayerCost` for the difference between weights and params."""

    mult_adds: int
    weights: int
    params: int


@dataclass(frozen=True)
class NetworkCost:
    """The layers of a network in the order they run, and their sums."""

    layers: tuple[LayerCost, ...]

    @property
    def mult_adds(self) -> int:
        return self.total().mult_adds

    @property
    def weights(self) -> int:
        return self.total().weights

    @property
    def params(self) -> int:
        return self.total().params

    def total(self, kind: Kind | None = None) -> Totals:
        """Sums over all layers, or over those of one kind (zeros if there are none)."""
        layers = [layer for layer in self.layers if kind in (None, layer.kind)]
        return Totals(
            mult_adds=sum(layer.mult_adds for layer in layers),
            weights=sum(layer.weights for layer in layers),
            params=sum(layer.params for layer in layers),
        )

    def by_kind(self) -> dict[Kind, Totals]:
        """Sums for each layer type that the network has, in Table 2's order."""
        present = {layer.kind for layer in self.layers}
        return {kind: self.total(kind) for kind in KINDS if kind in present}


def backbone_cost(name: str, resolution: int | tuple[int, int] = 224, **options: Any) -> NetworkCost:
    """Cost of the network that `create_backbone` builds; no weights are allocated.

    Args:
        name: the width, `a100` for alpha 1.
        resolution: of the input in pixels, a side or (height, width), each at least 32.
        options: of `create_backbone`.

    Raises:
        ValueError: an unknown name or option, or a resolution under 32.
    """
    with torch.device("meta"):
        return network_cost(create_backbone(name, **options), resolution)


def network_cost(net: MobileNetV1, resolution: int | tuple[int, int] = 224) -> NetworkCost:
    """Cost of a MobileNet on one image, read off its layers without running it.

    Args:
        net: on any device, the meta device included.
        resolution: of the input in pixels, a side or (height, width), each at least 32.

    Raises:
        ValueError: a resolution under 32.
    """
    height, width = (resolution, resolution) if isinstance(resolution, int) else resolution
    if min(height, width) < MIN_RESOLUTION:
        raise ValueError(f"resolution must be at least {MIN_RESOLUTION} pixels, got {height}x{width}")
    layers = []
    for name, module in net.named_modules():  # in the order they run: the net is one chain
        if isinstance(module, ConvNorm):
            stride = module.conv.stride[0]
            height, width = -(-height // stride), -(-width // stride)  # rounded up, under both paddings
            layers.append(_convolution_cost(name.removeprefix("blocks."), module, (height, width)))
    if isinstance(net.classifier, nn.Linear):
        layers.append(_classifier_cost(net.classifier))
    return NetworkCost(tuple(layers))


def _convolution_cost(name: str, layer: ConvNorm, output_hw: tuple[int, int]) -> LayerCost:
    D_K, M, N = layer.conv.kernel_size[0], layer.conv.in_channels, layer.conv.out_channels
    kind: Kind
    if layer.conv.groups > 1:
        kind, weights = "Conv DW 3x3", D_K**2 * M
    elif D_K > 1:
        kind, weights = "Conv 3x3", D_K**2 * M * N
    else:
        kind, weights = "Conv 1x1", M * N
    return LayerCost(
        name=name,
        kind=kind,
        in_channels=M,
        channels=N,
        stride=layer.conv.stride[0],
        output_hw=output_hw,
        mult_adds=weights * output_hw[0] * output_hw[1],  # each weight is used once per output pixel
        weights=weights,
        params=_num_params(layer),
    )


def _classifier_cost(layer: nn.Linear) -> LayerCost:
    M, N = layer.in_features, layer.out_features
    return LayerCost(
        name="classifier",
        kind="Fully connected",
        in_channels=M,
        channels=N,
        stride=1,
        output_hw=(1, 1),
        mult_adds=M * N,
        weights=M * N,
        params=_num_params(layer),
    )


def count_module(module: nn.Module, input_shape: Sequence[int]) -> tuple[int, int]:
    """Mult-adds and parameters of any network, by the same rule, from one pass over tensors without data.

    It sees the calls of `nn.Conv2d` and `nn.Linear` modules (a module called twice counts twice, its parameters
    once), not convolutions written as functions. The module itself stays untouched: a copy is counted, in eval mode.

    Args:
        module: takes one tensor. It must not compute from the values of its input, only from the shape.
        input_shape: of that tensor, batch included: (1, 3, 224, 224) for the cost of one image.

    Returns:
        (mult_adds, params); params with norms and biases, as in `LayerCost`.
    """
    mult_adds = 0

    def count_call(layer: nn.Module, _: Any, output: Tensor) -> None:
        nonlocal mult_adds
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        N = layer.weight.shape[0]
        mult_adds += layer.weight.numel() // N * output.numel()

    on_meta = copy.deepcopy(module).to("meta").eval()
    for layer in on_meta.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count_call)
    with torch.no_grad():
        on_meta(torch.empty(tuple(input_shape), device="meta"))
    return mult_adds, _num_params(module)


def _num_params(module: nn.Module) -> int:
    return sum(param.numel() for param in module.parameters())
