"""A training run of a few steps, and what a script says of a mistake."""

from pathlib import Path

import pytest

from apps.common.cli import run_command
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


def error_of(capsys, main, config_class, *args: str) -> str:
    """The one line that a command ends with; checks that it is one line and the exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run_command(main, config_class, args)
    assert stop.value.code == 2
    (line,) = (text for text in capsys.readouterr().err.splitlines() if "step/s" not in text and text.strip())
    return line
