"""Models and training states on disk: plain types, written completely or not at all.

A model folder rebuilds its model alone: `model.safetensors` (weights) and `model.json` (everything else: app,
backbone, resolution, class names, preprocessing, metrics). A training state is one file for `--resume`.
"""

import dataclasses
import io
import json
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from apps.common.cli import is_set
from backbone.files import open_plain, written_whole
from backbone.text import reason_of
from backbone.weights.file_kinds import Budget, one_line, other_kind
from backbone.weights.readers.torch_files import check_torch_file


class Stateful(Protocol):
    """A model, an optimiser, ...: anything whose state can be read and restored as a dict of plain types."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Any, /) -> Any: ...


def check_model_flags(config: Any, *of_weights: str, published: str) -> None:
    """Raise ValueError unless a script's flags name one model, by --checkpoint or by --weights.

    Args:
        of_weights: other flags that need --weights; a checkpoint has its own settings.
        published: an example of a name for --weights.
    """
    both = config.checkpoint is not None and is_set(config, "weights", *of_weights)
    if both or (config.checkpoint is None and config.weights is None):
        flags = " and ".join(f"--{name}" for name in of_weights)
        alone = f"{flags} {'is' if len(of_weights) == 1 else 'are'} for --weights alone"
        raise ValueError(f"give --checkpoint RUN/best, or --weights {published} for a published model; {alone}")


WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
CONFIG = "config.json"  # of a run
LAST, FINISHED = Path("last"), "metrics.json"  # a word for --checkpoint; what a run has when it is finished
ConfigT = TypeVar("ConfigT")


def save_json(path: Path, content: Any) -> None:
    """Write indented JSON, completely or not at all; NaN is refused."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def load_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it is missing or not JSON; the message names the file and the place in it.
    """
    try:
        with open_plain(Path(path)) as file:
            return json.loads(file.read())  # in UTF-8, UTF-16 or UTF-32, with or without a byte order mark
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except (ValueError, RecursionError) as error:  # also of numbers of thousands of digits
        raise ValueError(f"{path} is not valid JSON{_instead(path)}: {error}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def load_object(path: Path, *, most_bytes: int = 20_000_000) -> dict[str, Any]:
    """Read a JSON file that describes a model or a run: an object of limited size.

    Raises:
        ValueError: see `load_json`, or it is another file.
    """
    if path.is_file() and (size := path.stat().st_size) > most_bytes:
        raise ValueError(f"{path} has {size:,} bytes: it is not the file of a model or a run")
    content = load_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold an object, {{...}}, it holds {type(content).__name__}")
    return content


def is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def are_numbers(value: Any, low: float, high: float, lengths: Container[int]) -> bool:
    return isinstance(value, list) and len(value) in lengths and all(is_number(v, low, high) for v in value)


def _is_one_of(*names: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in names


def _differ(value: list[Any]) -> bool:
    return len(set(value)) == len(value)


def _is_finite(value: Any) -> bool:
    try:
        return bool(json.dumps(value, allow_nan=False))  # as `save_json` writes it
    except (ValueError, RecursionError):
        return False


def are_names(value: Any) -> bool:
    many = isinstance(value, list) and 1 <= len(value) <= MOST_CLASSES and all(isinstance(v, str) for v in value)
    text = "".join(value).encode("utf-8", "ignore").decode() if many else ""  # not what JSON, or Latin-1, may have
    return many and text == "".join(value) and _differ(value) and max(map(len, value)) <= MOST_LETTERS


def _are_shapes(value: Any) -> bool:
    levels = isinstance(value, list) and 1 <= len(value) <= 16 and all(isinstance(v, list) for v in value)
    return levels and all(
        1 <= len(level) <= 64 and all(are_numbers(pair, 1e-6, 1e6, (2,)) for pair in level) for level in value
    )


Schema = dict[str, tuple[Callable[[Any], bool], str]]  # key -> whether a value is right, and what is allowed
MOST_CLASSES, MOST_LETTERS, MOST_PIXELS, LARGE = 50_000, 1000, 8192, 1e9
MOST_BYTES = 4_000_000_000  # of model.safetensors: torchvision's largest classifiers have 2.6 GB
STYLE = {"padding", "activation", "norm", "norm_eps"}
COUNTS = range(1, MOST_CLASSES + 1)
SCHEMA: Schema = {
    "backbone": (lambda v: isinstance(v, str) and len(v) <= 60, "a name such as a100"),
    "resolution": (lambda v: isinstance(v, int) and is_number(v, 16, MOST_PIXELS), "a whole number from 16 to 8192"),
    "class_names": (are_names, f"a list of different names in UTF-8, at most {MOST_CLASSES:,}"),
    "style": (lambda v: isinstance(v, dict) and set(v) == STYLE, f"an object with {', '.join(sorted(STYLE))}"),
    "style.padding": (lambda v: isinstance(v, str), "a name"),
    "style.activation": (lambda v: isinstance(v, str), "a name"),
    "style.norm": (lambda v: isinstance(v, str), "a name"),
    "style.norm_eps": (lambda v: is_number(v, 1e-12, 1), "a number above 0, to 1"),
    "preprocessing": (lambda v: isinstance(v, dict), "an object"),
    "preprocessing.mean": (lambda v: are_numbers(v, -LARGE, LARGE, (3,)), "three numbers"),
    "preprocessing.std": (lambda v: are_numbers(v, 1e-9, LARGE, (3,)), "three numbers above 0"),
}
OPTIONAL: Schema = {
    "head": (_is_one_of("ssd", "pyramid"), "ssd or pyramid"),
    "score_function": (_is_one_of("sigmoid", "softmax"), "sigmoid or softmax"),
    "conv": (_is_one_of("separable", "full"), "separable or full"),
    "category_ids": (
        lambda v: isinstance(v, list) and all(type(one) is int and abs(one) < 1 << 63 for one in v) and _differ(v),
        "a list of different whole numbers of 64 bits",
    ),
    "threshold": (lambda v: v is None or is_number(v, 0, 1), "a number from 0 to 1"),
    "anchor_shapes": (_are_shapes, "pairs of numbers above 0 in a list for each level"),
    "metrics": (lambda v: isinstance(v, dict) and _is_finite(v), "an object with finite numbers"),
    "preprocessing.channels": (_is_one_of("RGB"), "RGB"),
    "preprocessing.crop": (lambda v: is_number(v, 0.01, 1), "a number above 0, to 1"),
    "preprocessing.face_margin": (lambda v: is_number(v, -0.49, 100), "a number above -0.5"),
    "preprocessing.face_drop": (lambda v: is_number(v, -100, 100), "a number"),
    "calibration": (lambda v: isinstance(v, dict), "an object"),
    "calibration.temperature": (lambda v: is_number(v, 1e-6, 1e6), "a number above 0"),
    "calibration.unknown_threshold": (lambda v: v is None or is_number(v, -LARGE, LARGE), "a number"),
    "calibration.temperatures": (lambda v: are_numbers(v, 1e-6, 1e6, COUNTS), "numbers above 0"),
    "calibration.thresholds": (lambda v: are_numbers(v, 0, 1, COUNTS), "numbers from 0 to 1"),
}
PER_CLASS = ("category_ids", "calibration.temperatures", "calibration.thresholds")


def check_description(path: Path, about: dict[str, Any], schema: Schema = SCHEMA, optional: Schema = OPTIONAL) -> None:
    """Check a model's description before anything is built from it.

    Raises:
        ValueError: with the key, what it must be, and what it is.
    """
    for key, (is_right, allowed) in {**schema, **optional}.items():
        value: Any = about
        there = True
        for part in key.split("."):
            there = there and isinstance(value, dict) and part in value
            value = value[part] if there else None
        if (not there and key in schema) or (there and not is_right(value)):
            shown = f"{value!r:.80}" if there else "missing"
            raise ValueError(f"{path} is damaged, or not of this project: {key} must be {allowed}, it is {shown}")
        if there and key in PER_CLASS and len(value) != len(about["class_names"]):
            raise ValueError(f"{path}: {key} has {len(value):,} values for {len(about['class_names']):,} class names")


def save_model(folder: Path, model: nn.Module, description: dict[str, Any]) -> None:
    """Write a model folder; `description` must have the key "app"."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with written_whole(folder, folder=True) as temporary:
        (temporary / WEIGHTS).write_bytes(save(state))
        save_json(temporary / DESCRIPTION, description)


def model_folder(folder: Path) -> Path:
    """The model folder for `folder`: itself, or a run's `best`.

    Raises:
        ValueError: it is neither.
    """
    folder = Path(folder)
    if not folder.exists():
        raise ValueError(f"checkpoint {folder} does not exist")
    for candidate in (folder, folder / "best"):
        if (candidate / DESCRIPTION).exists():
            return candidate
    raise ValueError(f"checkpoint {folder} is not a model folder: it has no {DESCRIPTION} (give a run or its best/)")


def with_last(config: ConfigT, app: str) -> ConfigT:
    """A script's flags, with `--checkpoint last` replaced by the newest finished run, which is printed."""
    named: Any = config
    return dataclasses.replace(named, checkpoint=last_run(app)) if named.checkpoint == LAST else config


def last_run(app: str) -> Path:
    """The newest finished run of an app in runs/ of the current folder.

    Raises:
        ValueError: there is none.
    """
    runs = sorted((path.parents[1] for path in Path("runs", app).glob(f"*/best/{DESCRIPTION}")), key=str)
    finished = [run for run in runs if (run / FINISHED).is_file()]
    if not finished:
        there = f"; unfinished: {', '.join(run.name for run in runs[:5])}" if runs else ""
        raise ValueError(f"--checkpoint last: {Path('runs', app)} has no finished run{there}; train one, or name a run")
    last = max(finished, key=lambda run: (run / FINISHED).stat().st_mtime_ns)
    print(f"--checkpoint last is {last}")
    return last


def load_model(folder: Path, *, app: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and weights of a model folder; of a run's folder, those of its `best`.

    Raises:
        ValueError: not a model folder, of another app, or damaged.
    """
    folder = model_folder(folder)
    description = load_object(folder / DESCRIPTION)
    if description.get("app") != app:
        raise ValueError(f"checkpoint {folder} is of the app {description.get('app')!r:.40}, this is {app!r}")
    check_description(folder / DESCRIPTION, description)
    try:
        if (size := (folder / WEIGHTS).stat().st_size) > MOST_BYTES:
            raise ValueError(f"{folder / WEIGHTS} has {size:,} bytes, {MOST_BYTES:,} are allowed")
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        problem = f"{folder / WEIGHTS} is missing or damaged{_instead(folder / WEIGHTS)}: {error}"
        raise ValueError(one_line(problem)) from None
    if broken := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise ValueError(f"{folder / WEIGHTS} is damaged: {broken[0][:80]!r} is not finite")
    return description, weights


def _instead(path: Path) -> str:
    """The kind of a file that could not be read, if known, such as a Git LFS pointer."""
    try:
        with open_plain(path) as file:
            what = other_kind(file.read(1000))
    except OSError:
        what = ""
    return f", but {what}" if what not in ("", "JSON text") else ""


def save_state(path: Path, parts: Mapping[str, Stateful], **facts: Any) -> None:
    """Write a training state: the `state_dict()` of each part, and facts of plain types.

    Raises:
        OSError: it cannot be written, such as on a full disk; the previous file is unchanged.
    """
    content = io.BytesIO()  # torch's own writing hides why it failed
    torch.save({"parts": {name: part.state_dict() for name, part in parts.items()}, "facts": facts}, content)
    with written_whole(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def restore_state(
    path: Path, parts: Mapping[str, Stateful], *, check: Callable[[str, Any, Any], None] = lambda *_: None
) -> dict[str, Any]:
    """Restore each part from the state that `save_state` wrote, after `check` of all; returns the facts.

    Raises:
        ValueError: the file is missing, damaged, or of other parts.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist: there is nothing to resume")
    try:
        data = path.read_bytes()
        check_torch_file(data, Budget(2 * len(data)))
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        facts = dict(state["facts"])
        for name, part in parts.items():
            check(name, part, state["parts"][name])
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        return facts
    except Exception as error:  # torch and pickle raise many kinds for a damaged file
        raise ValueError(f"{path} is damaged or not a state of this run: {reason_of(error)}") from None
