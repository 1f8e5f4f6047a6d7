"""BatchNorm of few channels at the speed of many.

torch's kernels for a CPU compute 16 channels at once, and those beyond a multiple of 16 one by one: of 24 channels
eight, of 8 channels all. Several pixels' channels together are such a multiple, and the statistics of each group are
those of the pixels that are in it, from which those of a channel follow.

Letters in shapes: B batch, C channels, H W height and width, P pixels that are taken together.
"""

from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

LANES = 16  # channels that torch's kernels compute at once
aten = torch.ops.aten


class BatchNorm2d(nn.BatchNorm2d):
    """torch's; faster in training on a CPU, channels last, if the number of channels is no multiple of 16."""

    momentum: float
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) to the same
        pixels = 2 * LANES // gcd(2 * LANES, self.num_features)
        few = self.num_features % LANES and self.training and x.device.type == "cpu"
        if few and x.is_contiguous(memory_format=torch.channels_last) and x.numel() % (pixels * self.num_features) == 0:
            self.num_batches_tracked += 1
            running = self.running_mean, self.running_var, self.momentum
            return _Folded.apply(x, self.weight, self.bias, *running, self.eps, pixels)
        return super().forward(x)


class _Folded(torch.autograd.Function):
    """BatchNorm in training, computed of rows of P pixels: (B, C, H, W) as (B H W / P, P C)."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: float,
        eps: float,
        pixels: int,
    ) -> Tensor:
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
        if ctx.needs_input_grad[
            0
        ]:  # weight * inverse * (gradient - its mean - normalised x * its mean product with it)
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
