"""Damaged runs: --resume goes on from a sane state, or says in one line why it cannot."""

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from apps.common.data.data_record import Content, record_data
from apps.common.evaluation.plots import plot_curves
from apps.common.training.optim import Ema, make_optimizer, take_step
from apps.common.training.replica import Replica
from apps.common.training.resume import resumed_config
from apps.common.training.run_log import RunLog, read_metrics
from apps.common.training.run_state import RunState
from apps.detection.train import Config
from apps.faceattr.teacher import updated_run
from tests.damage import in_json, in_json_lines
from tests.damage_binary import in_torch
from tests.fuzzing import Format, fuzz

OPTIMIZERS = ("adamw", "sgd", "rmsprop")
METRICS = {"AP": 0.25, "AP50": 0.5}


def make_parts(optimizer: str = "adamw") -> dict[str, Any]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    return {
        "network": network,
        "ema": Ema(network, decay=0.9),
        "optimizer": make_optimizer(optimizer, network, lr=0.1, weight_decay=0.01),
        "scaler": torch.amp.GradScaler("cpu", enabled=False),
    }


def take_steps(parts: dict[str, Any], number: int) -> None:
    for _ in range(number):
        loss = parts["network"](torch.ones(2, 3, 4, 4)).square().sum()
        loss.backward()
        take_step(parts["optimizer"], parts["scaler"], Replica(parts["network"]), clip_norm=10.0)
        parts["ema"].update(parts["network"])


def states() -> list[bytes]:
    found = []
    for optimizer in OPTIMIZERS:
        parts = make_parts(optimizer)
        take_steps(parts, 2)
        facts = {"step": 2, "best": {"step": 1, "metrics": METRICS, "text": "AP 0.25"}, "stale": 1, "owed": False}
        content = io.BytesIO()
        torch.save({"parts": {name: part.state_dict() for name, part in parts.items()}, "facts": facts}, content)
        found.append(content.getvalue())
    return found


def read_state(data: bytes, folder: Path) -> None:
    """It is taken for an optimiser of each kind; what is taken can be trained on."""
    (folder / "last.pt").write_bytes(data)
    refused = []
    for optimizer in OPTIMIZERS:
        parts = make_parts(optimizer)
        try:
            state = RunState(parts, metric="AP", patience=3, resume=folder)
        except ValueError as error:
            refused.append(error)
            continue
        assert isinstance(state.done, int) and 0 <= state.done < 1e12 and state.stale >= 0, vars(state)
        assert math.isfinite(state.best["metrics"]["AP"]) and isinstance(state.best["step"], int), state.best
        assert state.owed in (True, False)
        take_steps(parts, 1)
        state.note_evaluation(METRICS)
        assert isinstance(state.why_finished(100), str)
        state.save(folder)
    if len(refused) == len(OPTIMIZERS):
        raise refused[0]


CONFIG = {"config": {"data": "sample", "weights": "none", "batch_size": 4, "lr": 0.1, "out": None, "augment": "full"}}
CONTENT = Content([Path(__file__)], [np.array([0])], [np.array([[1, 2, 3, 4]])])


def configs() -> list[bytes]:
    record = record_data(None, ["a"], train=CONTENT)
    return [json.dumps({"app": "detection", **CONFIG, "num_photos": 3, "num_steps": 5, **record}).encode()]


def read_config(data: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(data)
    (folder / "metrics.jsonl").touch()
    config = resumed_config(Config(resume=folder), folder)
    assert config.resume == folder and isinstance(config.batch_size, int) and math.isfinite(config.lr or 0)
    updated_run(folder)
    record_data(folder, ["a"], train=CONTENT)
    RunLog._shorten(folder, "detection", 0, {"num_photos": 3, "num_steps": 5})


def read_lines(data: bytes, folder: Path) -> None:
    """The lines of metrics.jsonl, drawn as the end of a run draws them."""
    (folder / "metrics.jsonl").write_bytes(data)
    lines = read_metrics(folder)
    assert all(isinstance(line["step"], int) and isinstance(line["event"], str) for line in lines)
    (folder / "config.json").write_text(json.dumps({"app": "detection"}))
    RunLog._shorten(folder, "detection", 1, {})
    if len(data) % 16 == 0:  # it takes long
        plot_curves(folder / "curves.png", lines, panels={"loss": ["loss"], "val": ["AP"]})


def lines() -> list[bytes]:
    some = [{"event": "train", "step": 1, "loss": 2.5, "lr": 0.1}, {"event": "eval", "step": 1, **METRICS}]
    return ["".join(json.dumps(line) + "\n" for line in some).encode()]


FORMATS = {
    "last.pt": Format(states, read_state, damage=in_torch, runs=30),
    "config.json": Format(
        configs,
        read_config,
        damage=in_json,
    ),
    "metrics.jsonl": Format(lines, read_lines, damage=in_json_lines, runs=60),
}


def test_damaged_runs(request):
    fuzz(__name__, request.config)
