"""Quantisation-aware training: a network computes with the rounding of its later 8-bit file.

Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", arXiv
1712.05877, section 3, and Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference: A
whitepaper", arXiv 1806.08342, section 4. Weights are symmetric with a scale for each output channel, activations are
uint8 with one scale per tensor; gradients pass through the rounding unchanged (straight-through estimator).

With a scale for each channel, norms need not be folded for it, as they are in these papers: folding multiplies the
weights of a channel and their scale alike, so that the folded weights round to the same integers. Norms therefore go on
learning as ever, and nothing is added to what a model or a training state holds.

Letters in shapes: B batch, C channels, H W height and width.
"""

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backbone import blocks

MOST = 127  # of a weight's integers, -127 to 127; an activation's are 0 to 255
SMALLEST = 1e-12  # scale, of weights or activations that are all 0


class _RoundWeight(torch.autograd.Function):
    """No weight is out of range, so all gradients pass, in the memory format that they come in."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        scale = (weight.abs().flatten(1).amax(1) / MOST).clamp(min=SMALLEST)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -MOST, MOST)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def round_weight(weight: Tensor) -> Tensor:
    """Weights (C', ...) as they are in 8 bits: integers times a scale of each output channel."""
    return _RoundWeight.apply(weight)


def round_activation(x: Tensor, low: float | Tensor | None = None, high: float | Tensor | None = None) -> Tensor:
    """Activations rounded to 256 levels from `low` to `high`, which are a batch's own where they are not known."""
    with torch.no_grad():
        low = x.amin().float().clamp(max=0) if low is None else torch.tensor(low, device=x.device)
        high = x.amax().float().clamp(min=0) if high is None else torch.tensor(high, device=x.device)
        scale = ((high - low) / 255).clamp(min=SMALLEST)
        zero = (-low / scale).round().clamp(0, 255).int()
    return torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255)


class _Conv2d(blocks.Conv2d):
    def _convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        return super()._convolve(x, round_weight(weight))


class _Predictor(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, round_weight(self.weight), self.bias)


class _Linear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(round_activation(x), round_weight(self.weight), self.bias)


class _ReLU6(blocks.ReLU6):
    def forward(self, x: Tensor) -> Tensor:
        return round_activation(super().forward(x), 0.0, 6.0)


class _ReLU(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return round_activation(super().forward(x), 0.0)


TWINS: dict[type[nn.Module], type[nn.Module]] = {
    blocks.Conv2d: _Conv2d,
    nn.Conv2d: _Predictor,
    nn.Linear: _Linear,
    blocks.ReLU6: _ReLU6,
    nn.ReLU: _ReLU,
}


def learn_eight_bits(network: nn.Module, *, sums: Iterable[nn.Module] = ()) -> None:
    """Let a network round its weights and activations, in training and in evaluation; its weights stay as they are.

    Args:
        sums: modules whose input is a sum, which is rounded, too.
    """
    for module in network.modules():
        module.__class__ = TWINS.get(type(module), type(module))
    for module in sums:
        module.register_forward_pre_hook(_round_input)


def _round_input(module: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
    return round_activation(inputs[0])
