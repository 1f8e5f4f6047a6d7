"""Packages that only some exports and runtimes require, and a process in which a stranger's file is tried."""

import subprocess
import sys

from backbone.runtimes import import_openvino as import_openvino
from backbone.runtimes import openvino_core as openvino_core
from backbone.runtimes import quietly as quietly

MOST_MEMORY, TRIAL_SECONDS = 4 << 30, 300  # a slow board imports ExecuTorch for a minute
LIMITED = f"""
try:
    import resource
    resource.setrlimit(resource.RLIMIT_DATA, ({MOST_MEMORY}, {MOST_MEMORY}))
except ImportError:
    pass
"""


def try_elsewhere(script: str, *arguments: str) -> bool:
    """Whether a script runs to its end in another process, in `MOST_MEMORY` bytes and `TRIAL_SECONDS`.

    It computes a stranger's file with a runtime that trusts its files: a crash is then only that process's.
    """
    command = [sys.executable, "-c", LIMITED + script, *arguments]
    try:
        return subprocess.run(command, capture_output=True, timeout=TRIAL_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        return False


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
