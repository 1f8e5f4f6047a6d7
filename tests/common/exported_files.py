"""For tests of the apps' export.py: a network is exported once, since that takes seconds, and taken from there."""

import shutil
from pathlib import Path

import pytest

from apps.common import exported
from apps.common import runtime as runtime_module


def need_exporter() -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)


def reuse(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Let exports and predictors take this file in the place of a fresh one."""
    monkeypatch.setattr(exported, "write_onnx", lambda path, *args, **options: shutil.copy(file, path))
    monkeypatch.setattr(runtime_module, "write_onnx", lambda path, *args, **options: shutil.copy(file, path))
