"""Optimisers, the learning-rate schedule and the moving average of the weights."""

import copy
import math
from typing import Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

NetworkT = TypeVar("NetworkT", bound=nn.Module)
OptimizerName = Literal["sgd", "rmsprop", "adamw"]


def param_groups(model: nn.Module, *, weight_decay: float) -> list[dict]:
    """Parameters in two groups: with weight decay, and without it for depthwise filters, norms and biases.

    MobileNet paper, section 3.2: "little or no weight decay (l2 regularization) on the depthwise filters since
    there are so few parameters in them".
    """
    decayed: list[Tensor] = []
    spared: list[Tensor] = []
    for module in model.modules():
        depthwise = isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad:
                (spared if depthwise or parameter.ndim < 2 else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]


def make_optimizer(
    name: OptimizerName, model: nn.Module, *, lr: float, weight_decay: float, momentum: float = 0.9
) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, RMSprop as the paper trained, or AdamW; weight decay by `param_groups`."""
    if not lr > 0:
        raise ValueError(f"lr must be above 0, got {lr}")
    if weight_decay < 0:
        raise ValueError(f"weight_decay must be 0 or more, got {weight_decay}")
    groups = param_groups(model, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=True)
    if name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=lr, alpha=0.9, momentum=momentum, eps=1e-3)
    return torch.optim.AdamW(groups, lr=lr)


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


class Ema(Generic[NetworkT]):
    """An exponential moving average of a model's weights and norm statistics, usually better than the last weights.

    The decay of update t is min(decay, (1 + t) / (10 + t)), so that a short run is not held back by its random
    start.

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
        """Move the average towards the model's present weights."""
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
