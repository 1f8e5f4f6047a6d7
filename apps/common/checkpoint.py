"""Models and training states on disk: plain types, written whole or not at all.

A model folder rebuilds its model alone: `model.safetensors` (weights) and `model.json` (everything else: app,
backbone, resolution, class names, preprocessing, metrics). A training state is one file for `--resume`.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from apps.common.cli import is_set
from backbone.files import written_whole


class Stateful(Protocol):
    """A model, an optimiser, ...: anything that gives and takes its state as a dict of plain types."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Any, /) -> Any: ...


def check_model_flags(config: Any, *of_weights: str, published: str) -> None:
    """Raise ValueError unless a script's flags name one model, by --checkpoint or by --weights.

    Args:
        of_weights: other flags that are for --weights alone: a checkpoint has its own.
        published: a name that --weights takes.
    """
    both = config.checkpoint is not None and is_set(config, "weights", *of_weights)
    if both or (config.checkpoint is None and config.weights is None):
        flags = " and ".join(f"--{name}" for name in of_weights)
        alone = f"{flags} {'is' if len(of_weights) == 1 else 'are'} for --weights alone"
        raise ValueError(f"give --checkpoint RUN/best, or --weights {published} for a published model; {alone}")


WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"


def save_json(path: Path, content: Any) -> None:
    """Write JSON, indented, whole or not at all; NaN is refused."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def load_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it is missing or not JSON; the message names the file and the place in it.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None


def save_model(folder: Path, model: nn.Module, description: dict[str, Any]) -> None:
    """Write a model folder; `description` must have the key "app"."""
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with written_whole(folder, folder=True) as temporary:
        (temporary / WEIGHTS).write_bytes(save(state))
        save_json(temporary / DESCRIPTION, description)


def model_folder(folder: Path) -> Path:
    """The model folder that `folder` is, or that the run `folder` has as its `best`.

    Raises:
        ValueError: neither.
    """
    folder = Path(folder)
    if not folder.exists():
        raise ValueError(f"checkpoint {folder} does not exist")
    for candidate in (folder, folder / "best"):
        if (candidate / DESCRIPTION).exists():
            return candidate
    raise ValueError(f"checkpoint {folder} is not a model folder: it has no {DESCRIPTION} (give a run or its best/)")


def load_model(folder: Path, *, app: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and weights of a model folder; of a run's folder, those of its `best`.

    Raises:
        ValueError: not a model folder, of another app, or damaged.
    """
    folder = model_folder(folder)
    description = load_json(folder / DESCRIPTION)
    if description.get("app") != app:
        raise ValueError(f"checkpoint {folder} is of the app {description.get('app')!r}, this is {app!r}")
    try:
        return description, load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{folder / WEIGHTS} is missing or damaged: {error}") from None


def save_state(path: Path, parts: Mapping[str, Stateful], **facts: Any) -> None:
    """Write a training state: the `state_dict()` of each part, and facts of plain types.

    Raises:
        OSError: there is no room, say; the file is as it was.
    """
    content = io.BytesIO()  # torch's own writing hides why it failed
    torch.save({"parts": {name: part.state_dict() for name, part in parts.items()}, "facts": facts}, content)
    with written_whole(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def restore_state(path: Path, parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """Put each part back into the state that `save_state` wrote; returns the facts.

    Raises:
        ValueError: the file is missing, damaged, or of other parts.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist: there is nothing to resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
        return state["facts"]
    except Exception as error:  # torch and pickle raise many kinds for a damaged file
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is damaged or not a state of this run: {reason}") from None
