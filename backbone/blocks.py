"""The convolutions, norms and blocks that MobileNet V1 and the heads on it are made of.

Letters in shapes: B batch, C channels, H W height and width, P pixels that are computed together.
"""

from dataclasses import dataclass
from math import gcd
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

LANES = 16  # channels that torch's kernels of BatchNorm compute at once
aten = torch.ops.aten
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
        learns = self.training and x.device.type == "cpu" and torch.is_grad_enabled()
        if learns and self.stride != (1, 1) and weight.shape == (self.groups, 1, 3, 3):
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
        found = aten.convolution_backward(
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
        return aten.hardtanh_backward(gradient, result, 0, 6)


class ReLU6(nn.ReLU6):
    """min(max(x, 0), 6); in place, in training, it keeps no copy of x for the gradient, as torch's does."""

    def forward(self, x: Tensor) -> Tensor:
        if self.inplace and self.training and x.requires_grad and torch.is_grad_enabled():
            return _ClampInPlace.apply(x)
        return super().forward(x)


class BatchNorm2d(nn.BatchNorm2d):
    """torch's; faster in training on a CPU, channels last, if the number of channels is no multiple of 16.

    torch's kernels compute 16 channels at once, and those beyond a multiple of 16 one by one. Here the channels of P
    pixels together are such a multiple; the statistics of a channel follow from those of its P places.
    """

    momentum: float
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) to the same
        pixels = 2 * LANES // gcd(2 * LANES, self.num_features)
        complete = all(part is not None for part in (self.bias, self.running_mean, self.momentum))
        few = complete and self.training and self.num_features % LANES and x.device.type == "cpu"
        whole = x.shape[1:2] == (self.num_features,) and x.numel() % (pixels * self.num_features) == 0
        if few and whole and x.is_contiguous(memory_format=torch.channels_last):
            self.num_batches_tracked += 1
            running = self.running_mean, self.running_var, self.momentum
            return _Folded.apply(x, self.weight, self.bias, *running, self.eps, pixels)
        return super().forward(x)


class _Folded(torch.autograd.Function):
    """BatchNorm in training, computed of rows of P pixels: (B, C, H, W) as (B H W / P, P C)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, *rest: Any) -> Tensor:
        running_mean, running_var, momentum, eps, pixels = rest
        rows = _rows(x, pixels)
        unused = weight.new_zeros(rows.shape[1])  # makes the kernel compute in the weights' type
        some = [s.view(pixels, -1) for s in aten.batch_norm_update_stats(rows, unused, unused, 0.0)]
        mean = some[0].mean(0)
        var = some[1].mean(0) + (some[0] - mean).square().mean(0)
        count = x.numel() / len(mean)
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var * (count / (count - 1)), momentum)
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps, ctx.pixels = eps, pixels  # type: ignore[attr-defined]
        y = torch.empty_like(x)  # no view: what follows may compute in place
        _scale(rows, weight, bias, mean, var, eps, out=_rows(y, pixels))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var = ctx.saved_tensors
        rows, grads = _rows(x, ctx.pixels), _rows(gradient, ctx.pixels)
        inverse = (var + ctx.eps).rsqrt()
        wide = [value.repeat(ctx.pixels) for value in (weight, mean, var)]
        saved = wide[1], inverse.repeat(ctx.pixels)
        sums = aten.native_batch_norm_backward(grads, rows, *wide, *saved, True, ctx.eps, [False, True, True])[1:]
        of_weight, of_bias = (value.view(ctx.pixels, -1).sum(0) for value in sums)
        of_x = None
        if ctx.needs_input_grad[0]:
            # weight * inverse * (gradient - its mean - normalised x * its mean product with that)
            of_x = aten.native_batch_norm_backward(
                grads, rows, *wide, None, None, False, ctx.eps, [True, False, False]
            )[0]
            share = weight * inverse * (len(mean) / x.numel())
            zero, one = torch.zeros_like(mean), torch.full_like(mean, 1 - ctx.eps)
            slope = -share * inverse * of_weight
            rest = _scale(rows, slope, -share * of_bias - slope * mean, zero, one, ctx.eps, out=torch.empty_like(rows))
            b, c, h, w = x.shape
            of_x = of_x.add_(rest).view(b, h, w, c).permute(0, 3, 1, 2)
        return of_x, of_weight, of_bias, None, None, None, None, None


def _rows(x: Tensor, pixels: int) -> Tensor:
    """(B, C, H, W), channels last, as (B H W / P, P C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, pixels * x.shape[1])


def _scale(rows: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float, *, out: Tensor) -> Tensor:
    """Write (x - mean) / sqrt(var + eps) * weight + bias, of each channel (C,), of rows (N, P C) to `out`."""
    wide = [value.repeat(rows.shape[1] // len(mean)) for value in (weight, bias, mean, var)]
    unused = weight.new_empty(0)
    kept = {"out": out, "save_mean": unused, "save_invstd": unused}
    return aten.native_batch_norm.out(rows, *wide, False, 0.0, eps, **kept)[0]


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
