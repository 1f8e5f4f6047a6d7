"""What several test files of the detector need."""

import shutil
from pathlib import Path

import pytest

from apps.detection.train import train
from tests.conftest import draw_tiny_coco, leave_out_reports
from tests.detection.tiny_runs import tiny_config


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    train(tiny_config(draw_tiny_coco(folder / "tiny"), folder / "run", eval_every=3))
    return folder / "run"


@pytest.fixture
def no_report(monkeypatch) -> None:
    """For runs that are about weights."""
    leave_out_reports(monkeypatch, "detection")


@pytest.fixture
def finished_run(trained_once, tmp_path) -> Path:
    """A run that a test may change."""
    return Path(shutil.copytree(trained_once, tmp_path / "run"))
