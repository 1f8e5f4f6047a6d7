"""Checks that a training state fits a run's parts, before any of them is changed."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def check_form(name: str, part: Any, stored: Any) -> None:
    """Raise ValueError for a state whose names, shapes, types or numbers this part cannot have.

    A part without its own state accepts any.
    """
    own = part.state_dict()
    if isinstance(part, torch.optim.Optimizer):
        own = {**own, "state": _states_after_a_step(part)}
        if not isinstance(stored, dict) or not isinstance(stored.get("state"), dict):
            raise ValueError(f"{name} is no state of an optimiser")
        for index, entry in stored["state"].items():  # of a parameter; none before its first step
            if not isinstance(entry, dict) or entry.keys() != own["state"].get(index, entry).keys():
                raise ValueError(f"{name}.state.{index} is of another optimiser")
    if own:
        _compare(name, own, stored)


def _states_after_a_step(optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Any]]:
    """An optimiser's state for each of its parameters, by the parameter's index."""
    twins = [
        {**group, "params": [torch.zeros_like(p, requires_grad=True) for p in group["params"]], "lr": 0.0}
        for group in optimizer.param_groups
    ]
    twin = copy.copy(optimizer)
    twin.__setstate__({"param_groups": twins, "state": type(optimizer.state)(dict)})
    for p in (p for group in twins for p in group["params"]):
        p.grad = torch.zeros_like(p)
    type(optimizer).step(twin)
    return twin.state_dict()["state"]


def _compare(where: str, own: Any, stored: Any) -> None:
    valid = True
    if isinstance(own, list | tuple):
        own = dict(enumerate(own))
        stored = dict(enumerate(stored)) if isinstance(stored, list | tuple) and len(stored) == len(own) else None
    if isinstance(own, Mapping):
        if not isinstance(stored, Mapping) or (more := [key for key in stored if key not in own]):
            raise ValueError(f"{where} {f'has {more[0]!r:.40}' if isinstance(stored, Mapping) else 'has another form'}")
        for key, value in stored.items():
            _compare(f"{where}.{key}", own[key], value)
    elif isinstance(own, Tensor):
        plain = isinstance(stored, Tensor) and stored.layout == torch.strided and stored.device.type == "cpu"
        if not plain or (stored.shape, stored.dtype) != (own.shape, own.dtype):
            raise ValueError(f"{where} is no tensor of shape {tuple(own.shape)} and {own.dtype}")
        if stored.is_floating_point() and not stored.isfinite().all():
            raise ValueError(f"{where} is not finite")
    elif isinstance(own, int | float) and not isinstance(own, bool):
        valid = type(stored) in (type(own), int) and math.isfinite(stored) and (own < 0 or stored >= 0)
    else:  # a switch
        valid = stored is None or isinstance(stored, bool)
    if not valid:
        raise ValueError(f"{where} cannot be {stored!r:.40}")
