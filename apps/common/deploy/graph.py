"""A network prepared for export: preprocessing included, norms folded into the convolutions.

Letters in shapes: B batch, C channels, H W height and width.
"""

import copy
import hashlib
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apps.common.choices import Input
from apps.common.images import Normalisation
from backbone.blocks import Conv2d, ConvNorm

Photos = Callable[[], Tensor]
"""Reads photos when they are needed, (B, 3, H, W) uint8."""


class PlainConv(nn.Module):
    """A backbone convolution with the following BatchNorm folded into it, without branches on the input's shape."""

    def __init__(self, conv: Conv2d, norm: nn.BatchNorm2d | None) -> None:
        super().__init__()
        weight, bias = conv.weight.detach(), torch.zeros(conv.out_channels)
        if norm is not None:
            assert norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
            bias = (norm.bias.double() - norm.running_mean.double() * scale).detach().float()
            weight = (weight.double() * scale[:, None, None, None]).detach().float()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.stride, self.groups, self.skips_first_pixel = conv.stride, conv.groups, conv.skips_first_pixel

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))
        padding = self.weight.shape[-1] // 2
        if self.skips_first_pixel:
            x, padding = F.pad(x, (x.shape[-1] % 2, 1, x.shape[-2] % 2, 1)), 0
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, 1, self.groups)

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, {self.stride}, {self.groups}, {self.skips_first_pixel}"


def fold_norms(network: nn.Module) -> nn.Module:
    """A copy of a network, in eval mode and on the CPU, that computes the same without the backbone's BatchNorms.

    Group and layer norms stay, as they depend on the input; so do the norms of torchvision's networks, which the
    exporter folds.
    """

    def replace(module: nn.Module) -> None:
        for name, child in module.named_children():
            if isinstance(child, ConvNorm):
                norm = child.norm if isinstance(child.norm, nn.BatchNorm2d) else None
                conv = PlainConv(child.conv, norm)
                setattr(module, name, conv if norm else nn.Sequential(conv, child.norm))
            else:
                replace(child)

    network = copy.deepcopy(network).cpu().float().eval().requires_grad_(False)
    replace(network)
    return network


def as_input(images: Tensor, preprocessing: Normalisation | None) -> Tensor:
    """Images (B, 3, H, W) uint8 as a file's input: pixels (B, H, W, 3), or preprocessed here, (B, 3, H, W)."""
    return images.permute(0, 2, 3, 1) if preprocessing is None else preprocessing(images)


class Graph(nn.Module):
    """The function in the file, from pixels to named outputs.

    Args:
        network: returns a tensor, or tensors by name.
        outputs: their names, in order.
        preprocessing: of the pixels.
        input: "uint8": (B, H, W, 3) RGB; "float": (B, 3, H, W), preprocessed outside.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, network: nn.Module, outputs: Sequence[str], *, preprocessing: Normalisation, input: Input = "uint8"
    ) -> None:
        super().__init__()
        self.network = fold_norms(network)
        self.outputs = tuple(outputs)
        self.preprocessing = preprocessing
        self.input: Input = input
        self.register_buffer("mean", torch.tensor(preprocessing.mean)[:, None, None])
        self.register_buffer("scale", 1 / torch.tensor(preprocessing.std)[:, None, None])

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.input == "uint8":
            images = (images.permute(0, 3, 1, 2).float() - self.mean) * self.scale
        found = self.network(images)
        return (found,) if isinstance(found, Tensor) else tuple(found[name] for name in self.outputs)

    def extra_repr(self) -> str:
        return f"{self.input}, {self.outputs}"

    def example(self, side: int) -> Tensor:
        """An input of two black images, `side` pixels high and wide."""
        return self.feed(torch.zeros(2, 3, side, side, dtype=torch.uint8)).contiguous()

    def feed(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) uint8 as the graph's input."""
        return as_input(images, None if self.input == "uint8" else self.preprocessing)

    def noise(self, side: int) -> Tensor:
        """One image of noise (1, 3, side, side) uint8: what the format cannot hold in 8 bits is found out with it."""
        return torch.randint(0, 256, (1, 3, side, side), generator=torch.Generator().manual_seed(0)).byte()

    @torch.inference_mode()
    def reference(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs for images (B, 3, H, W) uint8, computed by torch, as a reference."""
        return dict(zip(self.outputs, self(self.feed(images.cpu())), strict=True))

    def content_hash(self) -> str:
        """A hash of everything that the outputs depend on."""
        digest = hashlib.blake2b(repr(self).encode(), digest_size=16)
        for name, tensor in self.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()
