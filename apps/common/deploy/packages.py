"""Packages that only some exports and runtimes require."""

from backbone.runtimes import import_openvino as import_openvino
from backbone.runtimes import openvino_core as openvino_core
from backbone.runtimes import quietly as quietly


def need(*modules: str, extra: str = "fast") -> None:
    """Raise ValueError, with the command that installs their extra, if modules cannot be imported."""
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
