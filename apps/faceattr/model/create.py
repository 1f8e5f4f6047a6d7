"""The networks of this app: MobileNet V1 at any width, its full-convolution twin, or any of torchvision's classifiers.

Letters in shapes: B batch, A attributes, F features.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from apps.common.data.problems import did_you_mean
from backbone import create_backbone
from backbone.mobilenet_v1 import Conv, ConvStyle
from backbone.names import parse_backbone

LARGEST_HEAD = 10_000_000  # weights that torchvision's classifiers have for their 1000 classes, at most


def create_network(
    backbone: str | float, *, num_attributes: int, style: ConvStyle, conv: Conv = "separable"
) -> nn.Module:
    """A network from images (B, 3, H, W) to one logit for each attribute, (B, A), with random weights.

    Args:
        backbone: a width of MobileNet V1 as a name (`a025`) or a number, or a classifier of torchvision (`resnet18`).
        style, conv: of MobileNet V1, see `backbone.create_backbone`; torchvision's have their own.

    Raises:
        ValueError: no attributes, or an unknown backbone; the message has the nearest name.
    """
    if num_attributes < 1:
        raise ValueError(f"num_attributes must be 1 or more, got {num_attributes}")
    width_mult = parse_width(backbone) if isinstance(backbone, str) else backbone
    if width_mult is not None:
        return create_backbone(width_mult, num_classes=num_attributes, conv=conv, **dataclasses.asdict(style))
    import torchvision

    extra = {"init_weights": True} if backbone in ("googlenet", "inception_v3") else {}
    if extra:
        extra["aux_logits"] = False
    network = torchvision.models.get_model(backbone, weights=None, **extra)
    path, last = _head(network)
    with_bias = last.bias is not None
    if isinstance(last, nn.Linear):
        head: nn.Module = nn.Linear(last.in_features, num_attributes, bias=with_bias)
    else:
        head = nn.Conv2d(last.in_channels, num_attributes, 1, bias=with_bias)  # SqueezeNet
    parent, _, name = path.rpartition(".")
    setattr(network.get_submodule(parent), name, head)
    return network


def check_size(backbone: str, weights: Mapping[str, Tensor]) -> None:
    """Refuse a model that names a network far larger than its weights, before it is built: some take 2.6 GB.

    Raises:
        RuntimeError: it does. ValueError: see `parse_width`.
    """
    if parse_width(backbone) is not None:
        return
    import torchvision

    its_own = torchvision.models.get_model_weights(backbone).DEFAULT.meta["num_params"]
    found = sum(tensor.numel() for tensor in weights.values())
    if its_own > found + LARGEST_HEAD:
        raise RuntimeError(f"{backbone} has {its_own / 1e6:,.1f} million weights, here are {found / 1e6:,.1f}")


def parse_width(backbone: str) -> float | None:
    """The width multiplier that `backbone` names, or None if it names a classifier of torchvision.

    Raises:
        ValueError: it is neither.
    """
    if backbone[:1] == "a" and backbone[1:].isdigit():
        return parse_backbone(backbone)
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    if backbone in names:
        return None
    hint = did_you_mean(backbone, [*names, "a025", "a050", "a075", "a100"], otherwise="such as resnet18")
    raise ValueError(f"backbone {backbone!r} is no width (a025 to a200) and no classifier of torchvision{hint}")


def _head(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """Path and module of the layer that gives the logits."""
    layers = [(path, m) for path, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    return layers[-1]


@contextmanager
def pooled_features(network: nn.Module) -> Iterator[list[Tensor]]:
    """In this block, what enters the head, (B, F), is appended to the given list at each forward pass."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor]) -> None:
        seen.append(inputs[0].flatten(2).mean(2) if inputs[0].ndim == 4 else inputs[0])

    handle = _head(network)[1].register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def head_path(network: nn.Module) -> str:
    """Where the layer that gives the logits is, as in `state_dict()`."""
    return _head(network)[0]


def num_pooled_features(network: nn.Module) -> int:
    """F of `pooled_features`."""
    head = _head(network)[1]
    return head.in_features if isinstance(head, nn.Linear) else head.in_channels
