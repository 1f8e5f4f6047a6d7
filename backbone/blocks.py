"""The convolutions, norms and blocks that MobileNet V1 and the heads on it are made of.

Letters in shapes: B batch, C channels, H W height and width.
"""

from dataclasses import dataclass
from math import gcd
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from backbone.norms import BatchNorm2d

Padding = Literal["same", "symmetric"]
Activation = Literal["relu6", "relu"]
Norm = Literal["batch", "group", "layer"]


class Conv2d(nn.Conv2d):
    """A 1x1 or 3x3 convolution without bias, stride 1 or 2, padded as TensorFlow's SAME or symmetrically.

    Both paddings give ceil(side / stride) output pixels. They differ where a 3x3 kernel strides over an even side:
    SAME adds one pixel at the bottom and right only, symmetric adds one all around, so that their windows are a
    pixel apart. Over odd sides they are the same. Published weights lose several points of accuracy under the wrong
    one.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1, padding: Padding
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.skips_first_pixel = padding == "same" and kernel == 3 and stride == 2  # of an even side

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))
        return self._convolve(x, self.weight)

    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        if x.shape[-2:] == (1, 1):  # only the kernel's centre meets a pixel; oneDNN's bfloat16 gradient for this is NaN
            middle = self.kernel_size[0] // 2
            return F.conv2d(x, weight[:, :, middle : middle + 1, middle : middle + 1], groups=self.groups)
        if self.groups > 1 and self.stride != (1, 1) and x.device.type == "cpu" and torch.is_grad_enabled():
            return _StridedDepthwise.apply(x, weight, self.skips_first_pixel)
        top, left = x.shape[-2] % 2, x.shape[-1] % 2
        if not self.skips_first_pixel or (top and left):
            return self._conv_forward(x, weight, None)
        x = F.pad(x, (left, 1, top, 1))
        return F.conv2d(x, weight, None, self.stride, 0, self.dilation, self.groups)


class _StridedDepthwise(torch.autograd.Function):
    """A 3x3 depthwise convolution of stride 2 in training on a CPU.

    Where it would start at the first pixel, the kernel gets a row and a column of zeros, so that the image needs no
    border. The gradient is computed in 32 bits: in bfloat16 oneDNN's takes 3 to 18 times as long.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, skips_first_pixel: bool) -> Tensor:
        top, left = (side % 2 or not skips_first_pixel for side in x.shape[-2:])
        ctx.save_for_backward(x, weight)
        ctx.before = int(top), int(left)  # type: ignore[attr-defined]
        wide = weight if top and left else F.pad(weight, (1 - int(left), 0, 1 - int(top), 0))
        return F.conv2d(x, wide.to(x.dtype), None, 2, 1, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        (top, left), (height, width) = ctx.before, x.shape[-2:]
        within = (..., slice(top, top + height), slice(left, left + width))
        border = int(top and left)
        dtype = torch.promote_types(x.dtype, torch.float32)
        if top and left:
            wide = x.to(dtype)
        else:  # a border of zeros, at the end of both sides
            size = (*x.shape[:2], height + top + 1, width + left + 1)
            wide = torch.empty(size, dtype=dtype, memory_format=torch.channels_last)
            for edge in [(..., -1), (..., -1, slice(None))] + [(..., 0)] * left + [(..., 0, slice(None))] * top:
                wide[edge] = 0
            wide[within] = x
        needed = [*ctx.needs_input_grad[:2], False]
        found = torch.ops.aten.convolution_backward(
            gradient.to(dtype),
            wide,
            weight.to(dtype),
            *(None, [2, 2], [border] * 2, [1, 1], False, [0, 0], len(weight), needed),
        )
        of_x = found[0]
        if of_x is not None:
            of_x = torch.empty_like(x).copy_(of_x if border else of_x[within])
        return of_x, None if found[1] is None else found[1].to(weight.dtype), None


class _ClampInPlace(torch.autograd.Function):
    """min(max(x, 0), 6) in place. The gradient is computed from the output; torch's own keeps a copy of x."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        x.clamp_(0, 6)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.hardtanh_backward(gradient, result, 0, 6)


class ReLU6(nn.ReLU6):
    """min(max(x, 0), 6); in place it keeps no copy of x for the gradient, as torch's does."""

    def forward(self, x: Tensor) -> Tensor:
        if self.inplace and x.requires_grad and torch.is_grad_enabled():
            return _ClampInPlace.apply(x)
        return super().forward(x)


class ConvNorm(nn.Module):
    """A convolution and its normalisation."""

    def __init__(self, conv: Conv2d, norm: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class DepthwiseSeparable(nn.Module):
    """3x3 depthwise then 1x1 pointwise convolution, each with norm and activation (section 3.1, Figure 3).

    `residual` adds the input before the last activation, where stride and channels allow.
    """

    def __init__(self, depthwise: ConvNorm, pointwise: ConvNorm, activation: nn.Module, *, residual: bool) -> None:
        super().__init__()
        self.depthwise = depthwise
        self.pointwise = pointwise
        self.activation = activation
        same_shape = depthwise.conv.stride == (1, 1) and depthwise.conv.in_channels == pointwise.conv.out_channels
        self.residual = residual and same_shape

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))
        y = self.pointwise(self.activation(self.depthwise(x)))
        return self.activation(y + x if self.residual else y)


class FullConvolution(nn.Module):
    """A 3x3 convolution with norm and activation: Table 4's replacement of a `DepthwiseSeparable`."""

    def __init__(self, full: ConvNorm, activation: nn.Module, *, residual: bool) -> None:
        super().__init__()
        self.full = full
        self.activation = activation
        self.residual = residual and full.conv.stride == (1, 1) and full.conv.in_channels == full.conv.out_channels

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))
        y = self.full(x)
        return self.activation(y + x if self.residual else y)


@dataclass(frozen=True, kw_only=True)
class ConvStyle:
    """How every convolution of a network is padded, normalised and activated; heads take it from their backbone.

    Attributes:
        padding: see `Conv2d`.
        activation: "relu6" or "relu".
        norm: "batch"; "group" has 16 channels a group; "layer" takes all channels and pixels of an image.
        norm_eps: added to the variance.
    """

    padding: Padding
    activation: Activation
    norm: Norm
    norm_eps: float

    def __post_init__(self) -> None:
        check_choice("padding", self.padding, Padding)
        check_choice("activation", self.activation, Activation)
        check_choice("norm", self.norm, Norm)

    def conv_norm(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> ConvNorm:
        """A convolution with its norm; weights from He's normal distribution.

        A depthwise filter starts near the identity (1 in the centre, plus small noise): thirteen layers of random
        filters in a row would blur the image, and training from scratch would start more slowly
        (docs/detection_sample.md).
        """
        conv = Conv2d(in_channels, out_channels, kernel, stride=stride, groups=groups, padding=self.padding)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        if groups > 1:
            with torch.no_grad():
                conv.weight.mul_(0.3)[:, :, kernel // 2, kernel // 2] += 1
        if self.norm == "batch":
            return ConvNorm(conv, BatchNorm2d(out_channels, eps=self.norm_eps))
        num_groups = out_channels // gcd(out_channels, 16) if self.norm == "group" else 1
        return ConvNorm(conv, nn.GroupNorm(num_groups, out_channels, eps=self.norm_eps))

    def make_activation(self) -> nn.Module:
        """In place, which saves a copy of every feature map: nothing else reads the output of a norm."""
        return ReLU6(inplace=True) if self.activation == "relu6" else nn.ReLU(inplace=True)


def check_choice(option: str, given: str, allowed: object) -> None:
    if given not in get_args(allowed):
        raise ValueError(f"{option} must be one of {', '.join(get_args(allowed))}, got {given!r}")
