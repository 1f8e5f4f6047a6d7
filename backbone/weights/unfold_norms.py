"""BatchNorm for networks whose file has it folded into the convolutions, so that training can continue.

A folded layer computes conv(x) + bias, which our networks store as BatchNorm with gamma 1, mean 0 and variance 1 - eps
(`Layer.folded`). That is exact in eval mode, but in training mode the batch's mean and variance would replace them and
undo what was learnt. A fresh BatchNorm has variance 1 and is left alone: if it were measured, its gamma would start at
the scale of random filters.
"""

import torch
from torch import Tensor, nn


@torch.no_grad()
def unfold_norms(model: nn.Module, images: Tensor) -> None:
    """Measure the inputs of each folded channel and store their statistics, without changing the model's outputs.

    y = (x - mean) / sqrt(var + eps) * gamma + beta stays the same function of x when mean and variance become those of
    a channel over `images`: gamma is divided by the old standard deviation and multiplied by the new one, and beta is
    adjusted. In training mode the folded layers then compute nearly the same as in eval mode. Norms that are not folded
    (those of a new head) and channels that are not (those by which a layer is wider than its file) stay as they are.

    Args:
        model: any network; its mode is kept.
        images: (B, ...), normalised inputs; a few dozen are enough.
    """
    was_training = model.training
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(_set_statistics) for norm in norms]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)


def _set_statistics(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    """A forward pre-hook: the same function with the measured statistics, so that later layers see no change."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    folded = (norm.running_mean == 0) & ((norm.running_var + norm.eps - 1).abs() < norm.eps / 100)
    variance, mean = torch.var_mean(inputs[0].float(), dim=(0, 2, 3), correction=0)
    slope = norm.weight / (norm.running_var + norm.eps).sqrt()
    norm.bias.add_(torch.where(folded, slope * (mean - norm.running_mean), 0))
    norm.weight.copy_(torch.where(folded, slope * (variance + norm.eps).sqrt(), norm.weight))
    norm.running_mean.copy_(torch.where(folded, mean, norm.running_mean))
    norm.running_var.copy_(torch.where(folded, variance, norm.running_var))
