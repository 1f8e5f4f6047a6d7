"""The weights a run starts from: read once; a resumed run has the facts in its record, the weights in its state."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from apps.common.checkpoint import CONFIG, load_object
from apps.common.training.resume import checked_settings

KEY = "start"  # in config.json
StartT = TypeVar("StartT")  # an app's `Pretrained`


def load_start(
    resume: Path | None, kind: type[StartT], load: Callable[..., StartT], *args: Any, **options: Any
) -> StartT:
    """The start of a new run, loaded, or the start of a resumed one, which needs no file and no network.

    Args:
        kind: a dataclass with the fields `state`, `in_state` and `folded`, see `apps.common.pretrained.Pretrained`.
        args, options: for `load`.

    Raises:
        ValueError: nothing can be loaded, or the record is damaged.
    """
    saved = load_object(resume / CONFIG).get(KEY) if resume else None
    if resume is None or not isinstance(saved, dict):  # a run of a former version has a sentence
        return load(*args, **options)
    known = {field.name for field in dataclasses.fields(kind)} - {"state"}  # type: ignore[arg-type]
    return kind(**checked_settings(kind, {name: saved[name] for name in known & set(saved)}, resume / CONFIG))


def start_record(start: Any) -> dict[str, Any]:
    """Everything but the weights, for config.json."""
    without = dataclasses.replace(start, state={}, folded=False, in_state=start.is_trained)
    return {KEY: {name: value for name, value in dataclasses.asdict(without).items() if name != "state"}}
