"""Load an exported file as a model: its metadata, which is checked as untrusted text, and a session that runs it.

Letters in shapes: B batch, H W height and width.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from apps.common.checkpoint import OPTIONAL, SCHEMA, are_names, are_numbers, check_description, is_number
from apps.common.choices import Format, Precision, Runtime
from apps.common.deploy.executorch import try_executorch
from apps.common.deploy.formats import exported_format
from apps.common.deploy.ncnn import try_ncnn
from apps.common.deploy.sessions import FileSession, check_finite, load_session, need_runtime
from apps.common.images import Normalisation

MOST_TEXT = 50_000_000  # letters of the metadata
Known = Mapping[tuple[str, ...], tuple[str, ...]]  # outputs -> names in the metadata
TEXTS = ("app", "backbone", "input", "score_function")  # all else is JSON
ALL_HAVE = ("app", "backbone", "resolution", "class_names", "mean", "std", "input", "outputs")
PLACES = {  # a name in the metadata -> where model.json has it, if elsewhere
    **{name: ("preprocessing", name) for name in ("mean", "std", "crop", "face_margin", "face_drop")},
    **{name: ("calibration", name) for name in ("temperature", "unknown_threshold", "temperatures", "thresholds")},
}
TRIALS: dict[Format, Callable[[Path], None]] = {"ncnn": try_ncnn, "executorch": try_executorch}
"""Formats whose runtime a damaged file can crash: what computes it once in another process."""


def _are_anchors(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= 1_000_000 and all(are_numbers(v, -9, 9, (4,)) for v in value)


MORE = {
    **OPTIONAL,
    "nms_iou": (lambda v: is_number(v, 0, 1), "a number from 0 to 1"),
    "outputs": (lambda v: are_names(v) and len(v) < 16, "a list of names"),
    "anchors_cxcywh": (_are_anchors, "four numbers for each of at most a million anchors"),
}


class NotInFileError(ValueError, AttributeError):
    """An exported file was used in a way that needs the network itself."""

    def __init__(self, file: "ExportedNetwork") -> None:
        super().__init__(
            f"{file.__dict__.get('path')} is an exported file, which gives its outputs for one size: for all else give "
            "the run that it came from"
        )


class ExportedNetwork(nn.Module):
    """Placeholder for a model's network; the file gives outputs only, any other use is an error."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        super().__init__()
        self.path = path
        self.resolution: int = about["resolution"]
        outside = about["input"].startswith("float")
        self.preprocessing = Normalisation.from_dict(about["preprocessing"]) if outside else None
        self.anchors_cxcywh = torch.tensor(about.get("anchors_cxcywh", [])).reshape(-1, 4)
        self.nothing = nn.Parameter(torch.empty(0), requires_grad=False)  # a module without parameters has no device

    def open(
        self, runtime: Runtime = "auto", *, threads: int | None = None, precision: Precision = "float32"
    ) -> FileSession:
        """A session of the file."""
        return open_file(self.path, runtime, threads=threads, precision=precision, preprocessing=self.preprocessing)

    def forward(self, images: Tensor) -> Tensor:
        raise NotInFileError(self)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            raise NotInFileError(self) from None


class Exported(NamedTuple):
    """A file with its metadata, under model.json's names, and a session that runs it."""

    about: dict[str, Any]
    network: ExportedNetwork
    session: FileSession


def load_exported(path: Path, *, app: str, known: Known) -> Exported:
    """Open a file or folder that an export.py wrote.

    Args:
        known: the outputs of this app's files, each with the additional metadata that such files have.

    Raises:
        ValueError: it cannot be opened, belongs to another app, or has no valid metadata.
    """
    session = open_file(path, tried=False)
    about = read_about(path, session.metadata, app=app, known=known)
    network = ExportedNetwork(path, about)
    session.preprocessing = network.preprocessing
    try:
        found = session(torch.zeros(1, 3, network.resolution, network.resolution, dtype=torch.uint8))
    except Exception as error:  # each runtime raises its own kinds
        raise ValueError(f"{path} does not take what it says it takes: {_first_line(error)}") from None
    check_finite(*found.values())
    if set(found) != set(about["outputs"]):
        raise ValueError(f"{path} gives {', '.join(found)}, its metadata says {', '.join(about['outputs'])}")
    last = {"logits": len(about["class_names"]), "class_logits": len(about["class_names"]) + 1, "offsets": 4}
    rows = len(about.get("anchors_cxcywh", []))
    for name, value in found.items():
        if value.shape[-1] != last.get(name, value.shape[-1]) or (name == "offsets" and value.shape[1] != rows):
            raise ValueError(
                f"{path}: output {name} is {tuple(value.shape)}, which its class names or anchors do not fit"
            )
    return Exported(about, network, session)


def open_file(path: Path, runtime: Runtime = "auto", *, tried: bool = True, **settings: Any) -> FileSession:
    """A session of an exported file in its own runtime, or of an ONNX file in OpenVINO.

    Args:
        tried: whether it has been opened before, so that it needs no trial, see `TRIALS`.

    Raises:
        ValueError: the file is missing or damaged, or its runtime is missing.
    """
    format = exported_format(path)
    assert format is not None
    if not (path.is_file() or path.is_dir()):
        raise ValueError(f"checkpoint {path} does not exist, or is a pipe or a device")
    if runtime == "openvino":
        format = "openvino"
    need_runtime(format)
    if not tried and format in TRIALS:
        TRIALS[format](path)
    try:
        return load_session(path, format, **settings)
    except Exception as error:  # each runtime raises its own kinds
        raise ValueError(f"{path} cannot be opened as {format}: {_first_line(error)}") from None


def read_about(path: Path, metadata: Mapping[str, str], *, app: str, known: Known) -> dict[str, Any]:
    """A file's metadata under the names of model.json.

    Raises:
        ValueError: something is missing or invalid; the message names it.
    """
    keys = next((keys for outputs, keys in known.items() if metadata.get("outputs") == json.dumps(outputs)), ())
    if missing := [key for key in (*ALL_HAVE, *keys) if key not in metadata]:
        raise ValueError(
            f"{path} does not say what it is: its metadata lacks {', '.join(missing)}, which export.py writes"
        )
    if metadata["app"] != app:
        raise ValueError(f"{path} is of the app {metadata['app']!r:.40}, this is {app!r}")
    if not keys:
        raise ValueError(
            f"{path} has outputs {metadata['outputs']:.80}, known are {' or '.join(map(json.dumps, known))}"
        )
    if sum(map(len, metadata.values())) > MOST_TEXT:
        raise ValueError(f"{path} has metadata of more than {MOST_TEXT:,} letters: it is no file of export.py")
    about: dict[str, Any] = {"preprocessing": {}, "calibration": {}}
    for key in {*ALL_HAVE, *keys, "threshold", "nms_iou"} & set(metadata):
        try:
            value = metadata[key] if key in TEXTS else json.loads(metadata[key])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} has a damaged {key} in its metadata: {error}") from None
        *place, name = PLACES.get(key, (key,))
        (about[place[0]] if place else about)[name] = value
    check_description(path, about, {key: SCHEMA[key] for key in SCHEMA if not key.startswith("style")}, MORE)
    return about


def _first_line(error: Exception) -> str:
    of_openvino = ("Exception from ", "Check '")  # where in its source; then it says what
    lines = [line for line in str(error).strip().splitlines() if not line.startswith(of_openvino)]
    return (lines or [type(error).__name__])[0]
