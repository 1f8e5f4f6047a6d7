"""Train a teacher on labels: a network as large as you like, which train.py then distils into a small one.

It runs train.py's loop without a teacher, with other defaults.

    python apps/faceattr/teacher.py --backbone a100 --data FACES           from ImageNet weights
    python apps/faceattr/teacher.py --backbone resnet50 --data FACES MORE  any classifier of torchvision
    python apps/faceattr/teacher.py --backbone a100 --conv full            MobileNet's full-convolution twin (Table 4)
    python apps/faceattr/teacher.py --resume runs/faceattr/NAME            go on where that run stopped

A run leaves config.json, metrics.jsonl, metrics.json, curves.png, train_batch.jpg, val_batch.jpg, last.pt (for
--resume), best/, which train.py takes as --teacher, and eval-val/ with report.html.
"""

import dataclasses
from pathlib import Path
from typing import Any

from apps.common.choices import OptimizerName
from apps.common.cli import run_command
from apps.common.options import TrainOptions
from apps.faceattr.choices import Augment, Conv


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(TrainOptions):
    """Train a teacher of face attributes on labels.

    example: python apps/faceattr/teacher.py --data PATH --backbone resnet50
    """

    backbone: str = "a100"
    """width of MobileNet V1 (a100, ...) or classifier of torchvision (resnet50, ...)"""
    conv: Conv = "separable"
    """convolutions of a MobileNet V1: separable, or full (3x3)"""
    resolution: int | None = None
    """side of the square input in pixels, 32 or more; default 128, for the sample set 96"""
    data: tuple[str, ...] = ("sample",)
    """folders or CSV files of labelled faces, one or more, or "sample": the embedded set, drawn on first use"""
    weights: str | None = None
    """initial weights: imagenet, none, or for a width a weight file, a catalog name or a run of this app; default
    imagenet, for the sample set and full convolutions none"""
    epochs: float | None = None
    """passes over the training photos; default 15, for the sample set as many as fit in a minute or two"""
    lr: float | None = None
    """peak learning rate; default 0.02, from random weights 0.2"""
    optimizer: OptimizerName = "sgd"
    """sgd (with Nesterov momentum 0.9), rmsprop or adamw"""
    weight_decay: float = 4e-5
    """weight decay; depthwise filters, norms and biases have none"""
    augment: Augment | None = None
    """augmentation: full (jittered crops, mirroring, colours, blur), light or none; default full, for the sample
    set light"""


if __name__ == "__main__":  # above the slow imports: --help does not wait for torch
    run_command("apps.faceattr.train:train_teacher", Config)

from apps.common.checkpoint import CONFIG, load_object, restore_state, save_json, save_state
from apps.common.training.resume import load_settings, run_of
from apps.common.training.run_log import STATE

SAMPLE_EPOCHS = 26.0
EPOCHS = 15.0


def student_settings(config: Config) -> dict[str, Any]:
    """The same run as settings of train.py: without a teacher, and with the defaults of this script."""
    settings = {name: value for name, value in vars(config).items() if name != "given"}
    if config.epochs is None and config.steps is None and config.minutes is None:
        settings["epochs"] = SAMPLE_EPOCHS if tuple(config.data) == ("sample",) else EPOCHS
    return {**settings, "teacher": "none"}


class Kept:
    """A part of a training state that is carried from one file to another."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        self.state = state or {}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        self.state = state


def updated_run(run: Path | None) -> Path | None:
    """The run itself; one of a former version of this script, which had a loop of its own, becomes one of train.py.

    Raises:
        ValueError: its record or its state is missing or damaged.
    """
    run = run and run_of(run)
    settings = load_settings(run) if run else {}
    if run is None or "conv" not in settings or "teacher" in settings:
        return run
    kept = {name: Kept() for name in ("ema", "optimizer", "scaler")}
    try:
        restore_state(run / STATE, {"learning": Kept()})  # another process, or one that was stopped, was here before
    except ValueError:
        network = Kept()
        facts = restore_state(run / STATE, {"network": network, **kept})
        learning = {f"network.{name}": value for name, value in network.state.items()}
        save_state(run / STATE, {"learning": Kept(learning), **kept}, **facts)
    save_json(run / CONFIG, {**load_object(run / CONFIG), "config": student_settings(Config(**settings))})
    return run
