"""What several test files of the detector need."""

from pathlib import Path

import pytest

from apps.detection.train import train
from tests.detection.tiny_runs import tiny_config


@pytest.fixture
def finished_run(tiny_coco, tmp_path) -> Path:
    train(tiny_config(tiny_coco, tmp_path / "run", eval_every=3))
    return tmp_path / "run"
