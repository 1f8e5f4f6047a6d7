"""The progress of a run, and its state on disk for `--resume`."""

import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from apps.common.checkpoint import Stateful, restore_state, save_state
from apps.common.cli import plain_message
from apps.common.training.distributed import Processes
from apps.common.training.progress import stop_on_signals
from apps.common.training.run_log import STATE, RunLog
from apps.common.training.state_form import check_form


class RunState:
    """Everything that training changes, saved in `last.pt`.

    Args:
        parts: network, moving average, optimiser and scaler.
        metric: selects the best evaluation; higher is better.
        patience: number of evaluations in a row without a higher metric that ends the run; 0 never ends it.
        resume: the run to continue; None for a new one.

    Attributes:
        done: optimiser steps.
        best: step, metrics and further facts of the best evaluation so far.
        stale: number of evaluations in a row without a higher metric.
        owed: the evaluation at `done` was not finished; the resumed run starts with it.

    Raises:
        ValueError: `patience` is negative, or the state of `resume` is missing or damaged.
    """

    def __init__(
        self, parts: Mapping[str, Stateful], *, metric: str, patience: int = 0, resume: Path | None = None
    ) -> None:
        if patience < 0:
            raise ValueError(f"patience must be 0 (off) or more evaluations, got {patience}")
        self.parts = parts
        self.metric = metric
        self.patience = patience
        self.done = 0
        self.best: dict[str, Any] = {"step": 0, "metrics": {metric: -1.0}}
        self.stale = 0
        self.owed = False
        if resume:
            facts = {"stale": 0, "owed": False, **restore_state(resume / STATE, parts, check=check_form)}
            try:
                json.dumps(facts, allow_nan=False)
                counts = (facts["step"], facts["stale"], facts["best"]["step"])
                whole = all(type(n) is int and 0 <= n < 10**12 for n in counts) and type(facts["owed"]) is bool
                whole = whole and isinstance(facts["best"]["metrics"][metric], int | float)
            except (KeyError, TypeError, ValueError, RecursionError):
                whole = False
            if not whole:
                raise ValueError(f"{resume / STATE} is damaged: it does not say how far the run is")
            self.done, self.best, self.stale = facts["step"], facts["best"], facts["stale"]
            self.owed = facts["owed"]

    def save(self, run: Path) -> None:
        """Write `last.pt`.

        Raises:
            ValueError: it cannot be written; the message says whether an earlier one exists.
        """
        try:
            save_state(run / STATE, self.parts, step=self.done, best=self.best, stale=self.stale, owed=self.owed)
        except OSError as error:
            there = f"an earlier one is there, go on with --resume {run}" if (run / STATE).exists() else "none is there"
            raise ValueError(
                f"the state of step {self.done} cannot be written to {run / STATE} ({error.strerror}): {there}"
            ) from error

    def open_log(self, config: Any, *, app: str, processes: Processes, **facts: Any) -> RunLog:
        """`RunLog.open` at the current step; for a new run this first state is saved, so that it can be resumed.

        Raises:
            ValueError: see `RunLog.open` and `check_norms`; or the processes do not see one folder.
        """
        if (config.batch_size if config.sync_norm else config.batch_size // processes.count) == 1:
            check_norms(self.parts["ema"].model, facts["resolution"])  # type: ignore[attr-defined]
        if len(steps := set(processes.gather([self.done], processes.count))) > 1:
            raise ValueError(
                f"the processes begin at different steps, {sorted(steps)}: the folder of a run must be on a disk that "
                "all machines share"
            )
        log = RunLog.open(config, app=app, step=self.done, processes=processes, **facts)
        if processes.is_first and not config.resume:
            self.save(log.folder)
        return log

    def note_evaluation(self, metrics: Mapping[str, Any], **more: Any) -> bool:
        """Record an evaluation at `done`; returns whether it is the best so far (of equal ones the latest)."""
        self.owed = False
        before, now = self.best["metrics"][self.metric], metrics[self.metric]
        self.stale = 0 if now > before else self.stale + 1
        if now < before:
            return False
        self.best = {"step": self.done, "metrics": dict(metrics), **more}
        return True

    def why_finished(self, num_steps: int) -> str:
        """Why a run of `num_steps` is finished; empty if it is not."""
        if self.owed:
            return ""
        if self.done >= num_steps:
            return f"all {num_steps:,} steps are done"
        if self.patience and self.stale >= self.patience:
            ended = f"it ended at step {self.done:,}"
            return f"{self.metric} has not risen in {self.stale} evaluation{'s' * (self.stale > 1)}; {ended}"
        return ""

    def interrupt(self, run: Path, signals: Sequence[int], processes: Processes) -> NoReturn:
        """Save, print how to continue, and end the process with the exit code of the signal."""
        with stop_on_signals(), processes.first_goes_first():
            if processes.is_first:
                self.save(run)
        print(f"stopped by a signal after step {self.done}; go on with --resume {run}")
        raise SystemExit(128 + (list(signals) or [signal.SIGTERM])[0])

    @contextmanager
    def kept(self, run: Path, *, evaluating: bool = False) -> Iterator[None]:
        """If this block, a step or an evaluation, raises a ValueError, the state before it is saved in `last.pt`.

        The message then says how to continue. BatchNorm's statistics, which a forward pass changes, are restored. If
        the weights are not finite any more, the earlier state is kept.
        """
        modules = [part for part in self.parts.values() if isinstance(part, nn.Module)]
        buffers = [buffer for module in modules for buffer in module.buffers()]
        before = [buffer.clone() for buffer in buffers]
        try:
            yield
        except ValueError as error:
            self.owed = self.owed or evaluating
            with torch.no_grad():
                for buffer, value in zip(buffers, before, strict=True):
                    buffer.copy_(value)
            earlier = ""
            if all(value.isfinite().all() for module in modules for value in module.state_dict().values()):
                try:
                    self.save(run)
                except ValueError as unsaved:
                    raise ValueError(f"{plain_message(error)}; and {unsaved}") from error
            else:
                earlier = " (from an earlier step: the weights are not finite now)"
            raise ValueError(
                f"{plain_message(error)}; stopped at step {self.done}, go on with --resume {run}{earlier}"
            ) from error


@torch.no_grad()
def check_norms(network: nn.Module, resolution: int) -> None:
    """Raise ValueError if a BatchNorm would get one value per channel from a batch of one image: it has no variance.

    Args:
        network: in eval mode.
        resolution: side of the square image in pixels.
    """
    fewest: list[int] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: fewest.append(inputs[0][0, 0].numel()))
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    network(torch.zeros(1, 3, resolution, resolution, device=next(network.parameters()).device))
    for hook in hooks:
        hook.remove()
    if 1 in fewest:
        raise ValueError(
            f"--batch-size gives each process one image, of which {fewest.count(1)} BatchNorms of this network get one "
            f"value a channel at {resolution} pixels, and cannot train: give two images a process, or more pixels"
        )


def bad_loss(names: Sequence[str], values: Tensor, photos: Sequence[Path]) -> str:
    """The message about a batch whose loss is not finite: the parts of the loss by name, and the photos."""
    parts = ", ".join(f"{name} {value:g}" for name, value in zip(names, values.tolist(), strict=True))
    files = ", ".join(f"{photo.parent.name}/{photo.name}" for photo in photos)
    return f"the loss is not finite ({parts}): try a lower --lr, or look at these photos: {files}"
