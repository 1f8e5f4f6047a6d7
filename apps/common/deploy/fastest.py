"""The fastest runtime for a network: measured once and stored beside the exported file.

A choice holds for the circumstances in which it was measured: versions, threads, processor, precision.
"""

import contextlib
import importlib.metadata
import json
import statistics
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from time import perf_counter
from typing import TypeVar

from torch import Tensor

from backbone.files import written_whole
from backbone.runtimes import processor

Name = TypeVar("Name", bound=str)

CHOICES = ".fastest.json"  # suffix of the file's name
TRIAL_SECONDS = 0.25  # for each of the runtimes


def time_in_turn(sessions: Mapping[Name, Callable[[Tensor], object]], image: Tensor) -> dict[Name, float]:
    """Seconds per image (1, 3, H, W) uint8 for each session: the median of alternating calls."""
    times: dict[Name, list[float]] = {name: [] for name in sessions}
    end = perf_counter() + TRIAL_SECONDS * len(sessions)
    while perf_counter() < end:
        for name, session in sessions.items():
            start = perf_counter()
            session(image)
            times[name].append(perf_counter() - start)
    return {name: statistics.median(some) for name, some in times.items()}


def read_choices(exported: Path) -> dict[str, str]:
    """The fastest runtime of an exported file in each environment it was measured in; empty if unreadable."""
    try:
        found = json.loads(exported.with_suffix(CHOICES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def keep_choice(exported: Path, key: str, runtime: str) -> None:
    """Store the fastest runtime; if the file cannot be written, it is measured again next time."""
    choices = {**read_choices(exported), key: runtime}
    with contextlib.suppress(OSError), written_whole(exported.with_suffix(CHOICES)) as temporary:
        temporary.write_text(json.dumps(choices, indent=1), encoding="utf-8")


def circumstances(modules: Iterable[str], threads: int, precision: str) -> str:
    """The environment that determines the fastest runtime, as one line."""
    versions = []
    for module in modules:
        try:
            versions.append(f"{module} {importlib.metadata.version(module)}")
        except importlib.metadata.PackageNotFoundError:  # a build with another package name
            versions.append(module)
    return "; ".join([*versions, f"{threads} threads", processor(), precision])
