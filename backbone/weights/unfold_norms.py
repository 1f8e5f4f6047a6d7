"""BatchNorm for networks whose file has it folded into the convolutions, so that training can continue.

A folded layer computes conv(x) + bias, which our networks keep as BatchNorm with gamma 1, mean 0 and variance 1 - eps
(`Layer.folded`). That is exact in eval mode, but not in training mode, where the batch's own mean and variance would
take their place and undo what was learnt. A fresh BatchNorm has variance 1 and is to stay as it is: measured, it would
begin with the scale of random filters as its gamma.
"""

import torch
from torch import Tensor, nn


@torch.no_grad()
def unfold_norms(model: nn.Module, images: Tensor) -> None:
    """Measure what each folded channel gets and make that its statistics, without changing what the model computes.

    y = (x - mean) / sqrt(var + eps) * gamma + beta stays the same line of x when mean and variance become those of a
    channel over `images`: gamma is divided by the old deviation and multiplied by the new one, beta takes up the rest.
    In training mode the folded layers then compute nearly what they do in eval mode. Norms that are not folded, such as
    those of a new head, and channels that are not, such as those by which a layer is wider than its file, stay as they
    are.

    Args:
        model: any network; its mode is kept.
        images: (B, ...), its input, normalised; some dozens are enough.
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
    """Before the layer runs: the same line through other statistics, so that the layers behind it see no change."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    folded = (norm.running_mean == 0) & ((norm.running_var + norm.eps - 1).abs() < norm.eps / 100)
    variance, mean = torch.var_mean(inputs[0].float(), dim=(0, 2, 3), correction=0)
    slope = norm.weight / (norm.running_var + norm.eps).sqrt()
    norm.bias.add_(torch.where(folded, slope * (mean - norm.running_mean), 0))
    norm.weight.copy_(torch.where(folded, slope * (variance + norm.eps).sqrt(), norm.weight))
    norm.running_mean.copy_(torch.where(folded, mean, norm.running_mean))
    norm.running_var.copy_(torch.where(folded, variance, norm.running_var))
