"""For tests of the apps' export.py: a network is exported once, since that takes seconds, and taken from there."""

import importlib.util
import shutil
from pathlib import Path

import pytest

from apps.common.deploy import export as exported
from apps.common.deploy import runtime as runtime_module


def need_modules(*names: str) -> None:
    """Skip if one is missing; nothing is imported, as `export.import_openvino` must be the first to import OpenVINO."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'needs {name}: python -m pip install -e ".[fast]" -c constraints.txt')


def need_exporter() -> None:
    need_modules("onnx", "onnxscript", "onnxruntime")


def reuse(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Let exports and predictors take this file in the place of a fresh one."""
    monkeypatch.setattr(exported, "write_onnx", lambda path, *args, **options: shutil.copy(file, path))
    monkeypatch.setattr(runtime_module, "write_onnx", lambda path, *args, **options: shutil.copy(file, path))
