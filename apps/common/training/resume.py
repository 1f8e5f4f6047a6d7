"""What --resume means: the run, and the settings that it was started with."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_type_hints

from apps.common.checkpoint import CONFIG, load_object
from apps.common.cli import is_set
from apps.common.training.run_log import STATE, plain

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    class Resumable(DataclassInstance, Protocol):
        """Flags of a script with --resume; see `options.GivenFlags`."""

        @property
        def given(self) -> frozenset[str]: ...

        @property
        def out(self) -> Path | None: ...


AUTO = Path("auto")  # of --resume
# flags that may be changed with --resume; those of paths, because their content is compared with the run's record
PLACES = ("data", "unlabelled", "teacher")
MAY_CHANGE = (*PLACES, "num_workers", "device", "checkpoint_every", "patience", "tensorboard")
ConfigT = TypeVar("ConfigT", bound="Resumable")


def run_of(path: Path) -> Path:
    """The run given by --resume: the folder itself, or the one that contains the given file or folder (last.pt, best).

    Raises:
        ValueError: neither is a run.
    """
    path = Path(path)
    for folder in (path, path.parent, path.parent.parent):
        if (folder / CONFIG).is_file() and (folder == path or (folder / STATE).is_file()):
            return folder
    if not path.exists():
        raise ValueError(f"--resume {path} does not exist: give the folder of a run")
    raise ValueError(f"--resume {path} is not a run, it has no {CONFIG}: give the folder of one")


def run_to_resume(config: Any) -> Path | None:
    """The run that --resume names; with auto the one in --out, None before its first state is there.

    Processes that train together must ask before they join: after that the first of them writes.

    Raises:
        ValueError: auto without --out.
    """
    if config.resume != AUTO:
        return config.resume
    if config.out is None:
        raise ValueError("--resume auto needs --out RUN, the same folder at every start")
    return config.out if (config.out / STATE).is_file() else None


def resumed_config(config: ConfigT, path: Path | None) -> ConfigT:
    """The config of the run to resume, with the current values of the flags in `MAY_CHANGE`; else `config` itself.

    Args:
        path: of the run, or of something in it, see `run_of`.

    Raises:
        ValueError: the run belongs to another script, or another flag was given, which would have no effect.
    """
    if path is None:
        return dataclasses.replace(config, resume=None)
    run = run_of(path)
    saved = load_settings(run)
    given = plain(config)
    fields = {field.name: field.default for field in dataclasses.fields(config) if field.name != "given"}
    if unknown := sorted(set(saved) - set(fields)):
        raise ValueError(f"--resume {run} is a run of another script: it has a setting {unknown[0]!r:.80}")
    for name, default in fields.items():
        changed = is_set(config, name) and not (name == "out" and config.out == run)
        if name in MAY_CHANGE and changed:
            saved[name] = given[name]
        elif changed and name != "resume" and given[name] != saved.get(name, default):
            flag, known = "--" + name.replace("_", "-"), saved.get(name, default)
            has = "began without it" if known is None else f"has {known}"
            raise ValueError(f"{flag} {given[name]} cannot be changed by --resume: the run {has}")
    if fitted := load_object(run / CONFIG).get("fitted"):  # by --minutes
        known = fitted.items() if isinstance(fitted, dict) else [("steps", fitted)]
        saved |= {"minutes": None, **{name: value for name, value in known if name in fields}}
    return type(config)(**{**checked_settings(type(config), saved, run / CONFIG), "resume": run, "out": None})


def load_settings(run: Path) -> dict[str, Any]:
    """The settings of a run, from config.json.

    Raises:
        ValueError: the file is missing or damaged.
    """
    settings = load_object(run / CONFIG).get("config")
    if not isinstance(settings, dict):
        raise ValueError(f"{run / CONFIG} is damaged: it has no settings of a run")
    return settings


def checked_settings(config_class: type, saved: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Convert JSON settings to a configuration's types: tuples, paths; ValueError if one has another type."""
    from pydantic import TypeAdapter, ValidationError

    hints, settings = get_type_hints(config_class), {}
    for name, value in saved.items():
        try:
            settings[name] = TypeAdapter(hints[name]).validate_json(json.dumps(value, allow_nan=False), strict=True)
        except (ValidationError, ValueError):
            raise ValueError(f"{file} is damaged: {name} cannot be {value!r:.80}") from None
    return settings
