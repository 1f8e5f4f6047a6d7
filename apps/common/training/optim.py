"""Optimisers, the learning-rate schedule and the moving average of the weights."""

import copy
import math
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from apps.common.choices import OptimizerName
from apps.common.training.replica import Replica
from backbone import MobileNetV1

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def param_groups(model: nn.Module, *, weight_decay: float, lr_scales: Mapping[str, float] | None = None) -> list[dict]:
    """Parameters in groups: with weight decay, and without it for depthwise filters, norms and biases.

    MobileNet paper, section 3.2: "little or no weight decay (l2 regularization) on the depthwise filters since
    there are so few parameters in them".

    Args:
        lr_scales: name of a part of the model ("blocks.conv3") -> factor of its learning rate; one group per factor.
            Other parts have 1.
    """
    groups: dict[tuple[float, bool], list[Tensor]] = {}
    for path, module in model.named_modules():
        scale = next((s for part, s in (lr_scales or {}).items() if f"{path}.".startswith(f"{part}.")), 1.0)
        depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:
                groups.setdefault((scale, depthwise or parameter.ndim < 2), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": 0.0 if spared else weight_decay, "lr_scale": scale}
        for (scale, spared), parameters in groups.items()
    ]


def lr_scales_by_depth(backbone: MobileNetV1, *, decay: float) -> dict[str, float]:
    """For `param_groups`: each block's learning rate is `decay` times the next one's; conv13 has the classifier's.

    Raises:
        ValueError: `decay` is not above 0 and at most 1.
    """
    if not 0 < decay <= 1:
        raise ValueError(f"layer_decay must be above 0 and at most 1 (the same rate everywhere), got {decay}")
    parts = ["stem", *(f"blocks.{name}" for name in backbone.blocks)]
    return {part: decay**i for i, part in enumerate(reversed(parts))}


def make_optimizer(
    name: OptimizerName,
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    momentum: float = 0.9,
    lr_scales: Mapping[str, float] | None = None,
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, RMSprop as the paper trained, or AdamW; groups by `param_groups`."""
    if not 0 < lr < math.inf:
        raise ValueError(f"lr must be above 0, got {lr}")
    if not 0 <= weight_decay < math.inf:
        raise ValueError(f"weight_decay must be 0 or more, got {weight_decay}")
    groups = param_groups(model, weight_decay=weight_decay, lr_scales=lr_scales)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=True)
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=lr, alpha=0.9, momentum=momentum, eps=1e-3)
    return torch.optim.AdamW(groups, lr=lr, fused=True)


def lr_at(step: int, *, peak: float, num_steps: int, warmup_steps: int) -> float:
    """Learning rate of step 0, 1, ... num_steps - 1: linear from 0 to `peak`, then half a cosine down to 0."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, num_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * progress))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all groups; a group's `lr_scale` (1 if absent) multiplies it."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def take_step(
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    replica: Replica,
    *,
    clip_norm: float,
    divide_by: Tensor | None = None,
) -> None:
    """One optimiser step with the current gradients, which are clipped and reset; norm statistics are averaged.

    Args:
        scaler: scaled the losses; a disabled one does nothing.
        clip_norm: the largest norm of the gradients, longer ones are scaled down; 0 never clips.
        divide_by: a scalar that the gradients are first divided by.

    Raises:
        ValueError: the gradient is not finite, and there is no scaler to skip the step.
    """
    parameters = replica.parameters()
    scaler.unscale_(optimizer)
    if divide_by is not None:
        torch._foreach_div_([p.grad for p in parameters if p.grad is not None], divide_by)
    length = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if not scaler.is_enabled() and not math.isfinite(length.item()):
        raise ValueError("the gradient is not finite, although the loss is: try a lower --lr, or --amp none")
    if clip_norm:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip_norm, length)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    replica.average_statistics()


class Ema(Generic[NetworkT]):
    """An exponential moving average of a model's weights and norm statistics, usually better than the last weights.

    The decay of update t is min(decay, (1 + t) / (10 + t)), so that the random start has little weight in short runs.

    Attributes:
        model: the averaged copy, in eval mode.
    """

    def __init__(self, model: NetworkT, *, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"ema_decay must be from 0 (off) to below 1, got {decay}")
        self.decay = decay
        self.num_updates = 0
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's current weights."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        mine, theirs = self.model.state_dict(), model.state_dict()
        floating = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in floating], [theirs[n] for n in floating], 1 - decay)
        for name, value in mine.items():
            if not value.is_floating_point():
                value.copy_(theirs[name])

    def state_dict(self) -> dict:
        return {"num_updates": self.num_updates, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.num_updates = state["num_updates"]
        self.model.load_state_dict(state["model"])
