"""A training run of a few steps."""

from pathlib import Path

from apps.detection.train import Config


def tiny_config(data: Path, out: Path, **changes) -> Config:
    settings = {
        "backbone": "a025",
        "resolution": 64,
        "data": str(data),
        "weights": "none",
        "steps": 6,
        "batch_size": 4,
        "warmup_steps": 2,
        "num_workers": 0,
        "device": "cpu",
        "out": out,
    }
    return Config(**{**settings, **changes})
