"""A training run that is stopped between two steps, for tests that resume it."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch


def stop_after(step: int, script: ModuleType, patch: pytest.MonkeyPatch, train: Callable[[], Any]) -> None:
    """Run a training script's `train` until a number of steps are made; a KeyboardInterrupt comes in the next."""
    take_step, made = script.take_step, []

    def take(*args: Any, **options: Any) -> None:
        if len(made) == step:
            raise KeyboardInterrupt
        take_step(*args, **options)
        made.append(step)

    with patch.context() as stopping:
        stopping.setattr(script, "take_step", take)
        with pytest.raises(KeyboardInterrupt):
            train()


def same_weights(run: Path, other: Path) -> bool:
    """Whether two runs end with the same state of network and average, to the bit."""
    parts = [torch.load(folder / "last.pt")["parts"] for folder in (run, other)]
    learning = "learning" if "learning" in parts[0] else "network"
    pairs = [[one[learning] for one in parts], [one["ema"]["model"] for one in parts]]
    return all(torch.equal(first[name], second[name]) for first, second in pairs for name in first)
