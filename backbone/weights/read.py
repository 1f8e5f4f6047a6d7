"""The bytes of a weight file, of any kind, as weights; the content decides which reader is used."""

from pathlib import Path

from backbone.files import open_plain
from backbone.weights.file_kinds import MAX_BYTES, kind_of, one_line, other_kind, unpack
from backbone.weights.loaded_weights import LoadedWeights
from backbone.weights.readers.keras_h5 import read_keras
from backbone.weights.readers.tflite import read_tflite
from backbone.weights.readers.tflite_graph import TFLiteGraph, read_graph
from backbone.weights.readers.torch_files import read_pth, read_safetensors

READERS = {"keras": read_keras, "tflite": read_tflite, "safetensors": read_safetensors, "torch": read_pth}
READABLE = "Keras .h5 or .weights.h5, TFLite, safetensors, a torch state dict, or a zip or tar of one of these"


def read_weights(data: bytes, *, name: str) -> LoadedWeights:
    """Read weights from the bytes of a file; `name` is its name in errors.

    Raises:
        ValueError: not a weight file, damaged, too large or of another network; a missing library. One line.
    """
    try:
        content, name = unpack(data, name=name)
        reader = READERS.get(kind_of(content) or "")
        if reader is None:
            if what := other_kind(content):
                raise ValueError(f"{name}: no weight file, but {what}")
            start = f"it starts with {content[:8]!r}" if content else "it is empty"
            raise ValueError(f"{name}: no weight file that this reads ({start}); weights are {READABLE}")
        return reader(content, name=name)
    except ValueError as error:
        raise ValueError(one_line(str(error))) from error


def read_tflite_graph(data: bytes, *, name: str) -> TFLiteGraph:
    """The tensors and operators of a TFLite file, or of one in an archive.

    Raises:
        ValueError: as `read_weights`.
    """
    try:
        content, name = unpack(data, name=name)
        return read_graph(content, name=name)
    except ValueError as error:
        raise ValueError(one_line(str(error))) from error


def read_bytes(path: Path) -> bytes:
    """The content of a file, of at most `MAX_BYTES`.

    Raises:
        ValueError: it is larger, or cannot be read.
    """
    try:
        with open_plain(path) as file:
            data = file.read(MAX_BYTES + 1) if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if data is None or len(data) > MAX_BYTES:
        raise ValueError(f"{path}: too large: weights have up to {MAX_BYTES / 1e6:,.0f} MB")
    return data
