"""Packages that only some exports and runtimes need: asked for by name, imported quietly."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import torch


def need(*modules: str, extra: str = "fast") -> None:
    """Raise ValueError, with the command that installs the extra that has them, if modules cannot be imported."""
    missing = []
    for name in modules:
        try:
            import_openvino() if name == "openvino" else __import__(name)
        except Exception:  # a broken package raises many kinds
            missing.append(name)
    if missing:
        raise ValueError(
            f"{', '.join(missing)} cannot be imported here: pip install -e '.[{extra}]' -c constraints.txt"
        )


def import_openvino() -> Any:
    """OpenVINO without its package openvino_telemetry, which reports every import to Google Analytics unless opted out.

    Where that package is missing, OpenVINO takes a stub of its own; here it is missing.
    """
    if "openvino" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Silence logs and warnings of the exporters and the quantizer, and leave inference mode, in which none works."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), torch.inference_mode(False):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
